from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from rung3 import Binary, Image
from rung3.mechanisms import VAE
from rung3.mechanisms.networks.pose import Pose
from rung3.testing.contract import check_mechanism

SIDE = 16


def shift(pose: Pose, pixels: tuple[int, int], sizes: tuple[int, int]) -> Tensor:
    """The noise of a shift by so many pixels, down and to the right, of an image of these sizes."""
    down, right = (-2 * k / size for k, size in zip(pixels, sizes, strict=True))
    return torch.tensor([[0, 0, right, 0, 0, down]]) / pose.log_reach.exp().detach()


def posed(image: Image) -> VAE:
    torch.manual_seed(0)
    mechanism = VAE(latent=2, width=4, depth=1, pose=True)
    mechanism = mechanism.bind("x", image, {"shape": Binary()})
    for parameter in mechanism.parameters():  # away from the start, where parents do nothing
        parameter.data += 0.05 * torch.randn_like(parameter)
    return mechanism


@pytest.mark.parametrize("sizes", [(9, 12), (5, 6, 7), (1, 1)])
def test_a_pose_of_zero_leaves_everything_where_it_is(sizes: tuple[int, ...]) -> None:
    pose, planes = Pose(len(sizes), 2), torch.rand(3, 4, *sizes)
    assert pose.size == len(sizes) * (len(sizes) + 1)
    torch.testing.assert_close(pose.moved(planes, torch.zeros(3, pose.size)), planes)
    other = pose.moved(planes, torch.ones(3, pose.size))
    assert math.prod(sizes) == 1 or not torch.allclose(other, planes, atol=0.01)


def test_a_pose_and_its_negative_undo_each_other() -> None:
    pose = Pose(2, 1)
    line = torch.linspace(-1, 1, 64)
    smooth = (-8 * (line[:, None] - 0.1).square() - 4 * line.square()).exp().expand(5, 1, 64, 64)
    u = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    moved = pose.moved(smooth, u)
    back = pose.moved(moved, -u)
    inner = (..., slice(20, 44), slice(20, 44))
    assert (moved - smooth)[inner].abs().max() > 0.1
    assert (back - smooth)[inner].abs().max() < 0.01


def test_the_same_pose_moves_what_any_parents_and_latents_draw() -> None:
    mechanism = posed(Image(1, 12, 16)).eval()
    assert mechanism.posed is not None
    noise = {"z": torch.randn(4, 2), "pose": torch.zeros(4, 6), "eps": torch.zeros(4, 1, 12, 16)}
    moved = noise | {"pose": shift(mechanism.posed, (2, -3), (12, 16)).expand(4, 6)}
    with torch.no_grad():
        for shape in (torch.tensor([0, 1, 0, 1]), torch.tensor([1, 0, 1, 0])):
            still, there = (mechanism.mean(part, {"shape": shape}) for part in (noise, moved))
            torch.testing.assert_close(there[..., 3:-1, 1:-4], still[..., 1:-3, 4:-1])
            assert (there - still).abs().max() > 0.01


@pytest.mark.parametrize("sizes", [(9, 10), (4, 5, 6)])
def test_a_round_trip_returns_the_image_and_the_noise_has_a_pose(sizes: tuple[int, ...]) -> None:
    mechanism = posed(Image(2, *sizes))
    x = torch.randint(256, (3, 2, *sizes)) / 255
    parents = {"shape": torch.tensor([0, 1, 1])}
    noise = mechanism.abduct(x, parents)
    assert isinstance(noise, dict)
    axes = len(sizes)
    assert {k: v.shape[1:] for k, v in noise.items()} == {
        "z": (2,), "pose": (axes * (axes + 1),), "eps": (2, *sizes),
    }  # fmt: skip
    assert torch.equal(mechanism.predict(noise, parents), x)
    assert mechanism.infer(x, parents).kl.keys() == {"z", "pose"}
    drawn = mechanism.predict(mechanism.sample_noise(3, parents), parents)
    assert drawn.shape == x.shape


def test_a_pose_is_kept_and_what_is_no_truth_value_is_refused() -> None:
    mechanism = posed(Image(1, 8, 8))
    assert mechanism.config()["pose"] is True
    assert "pose" not in VAE().config()
    twin = posed(Image(1, 8, 8))
    twin.load_state_dict(copy.deepcopy(mechanism.state_dict()))
    parents = {"shape": torch.tensor([0, 1])}
    noise = mechanism.sample_noise(2, parents)
    assert torch.equal(mechanism.predict(noise, parents), twin.predict(noise, parents))
    with pytest.raises(ValueError, match="pose=1 must be True or False"):
        VAE(pose=1)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_mechanism_with_a_pose_keeps_the_contract() -> None:
    mechanism = VAE(latent=2, width=4, depth=1, pose=True)
    report = check_mechanism(mechanism, Image(1, 8, 9), {"shape": Binary()})
    assert "round trip" in report.passed


def spots(shape: Tensor, at: Tensor) -> Tensor:
    """Spots, long or round, that lie so many pixels down and to the right of the middle."""
    line = torch.arange(SIDE) - (SIDE - 1) / 2
    down, right = (line - place[:, None] for place in at.float().unbind(1))
    widths = torch.tensor([[1.4, 3.5], [2.0, 2.0]])[shape]
    square = (down / widths[:, :1]).square()[:, :, None] + (right / widths[:, 1:]).square()[:, None]
    return (0.8 * (-square / 2).exp()).mul(255).round().div(255)[:, None]


def skill(pose: bool) -> float:
    """Skill under do(shape), from the latents alone, of a `VAE` of spots at any place."""
    torch.manual_seed(0)
    mechanism = VAE(latent=4, width=8, depth=1, cooling=100, pose=pose)
    bound = mechanism.bind("x", Image(1, SIDE, SIDE), {"shape": Binary()})
    shape, at = torch.randint(2, (1000,)), torch.randint(-3, 4, (1000, 2))
    x = spots(shape, at)
    bound.calibrate(x, {"shape": shape})
    optimiser = torch.optim.AdamW(bound.parameters(), 1e-2, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, 800)
    for _ in range(800):
        rows = torch.randint(1000, (32,))
        optimiser.zero_grad()
        bound.loss(x[rows], {"shape": shape[rows]}).backward()
        torch.nn.utils.clip_grad_norm_(bound.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        noise = bound.eval().abduct(x[:200], {"shape": shape[:200]})
        answer = bound.mean(noise, {"shape": 1 - shape[:200]})
    truth = spots(1 - shape[:200], at[:200])
    return 1 - float((answer - truth).abs().mean() / (x[:200] - truth).abs().mean())


@pytest.mark.slow
def test_what_lies_elsewhere_lies_there_in_the_counterfactual_too() -> None:
    with_pose, without = skill(True), skill(False)
    assert with_pose > 0.75
    assert with_pose > without + 0.15
