"""Atlases that parents deform: tissue moves and turns its contrast, noise stays, null is null."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Continuous, Image, Mask, Rows, fit
from rung3.mechanisms import DeformedAtlas, Equation, InverseCDF, deformed_atlas
from rung3.mechanisms.networks.deformation import flow, moved
from rung3.testing import check_mechanism

LEVELS = torch.tensor([[0.05, 0.5, 0.9], [0.05, 0.8, 0.3]])
"""Levels of ground, ring and core, in the first sequence and in the second."""


def rings(radius: Tensor, sequence: Tensor, noise: Tensor, size: int = 16) -> Tensor:
    """Draw a core in a ring; the radius is that of the ring, and the core has half of it."""
    line = (torch.arange(size) + 0.5) * 2 / size - 1
    far = (line[:, None] ** 2 + line**2).sqrt()[None]
    outer, inner = (torch.sigmoid((k * radius[:, None, None] - far) * 20) for k in (1.0, 0.5))
    shares = torch.stack([1 - outer, outer - inner, inner], 1)
    image = torch.einsum("nk,nkhw->nhw", LEVELS[sequence], shares)[:, None]
    return ((image + 0.02 * noise).clamp(0, 1) * 255).round() / 255


def sampled(n: int, seed: int) -> tuple[Rows, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    radius = 0.4 + 0.4 * torch.rand(n, generator=generator)
    sequence = torch.randint(2, (n,), generator=generator)
    noise = torch.randn(n, 1, 16, 16, generator=generator)
    image = rings(radius, sequence, noise)
    return Rows({"radius": radius, "sequence": sequence, "image": image}), noise


def unfitted() -> SCM:
    return SCM(
        "{radius sequence} -> image",
        {"radius": Continuous(), "sequence": Binary(), "image": Image(1, 16, 16)},
        {
            "radius": Equation("u"),
            "sequence": InverseCDF(table=[0.5, 0.5]),
            "image": DeformedAtlas(appearance=["sequence"], kinds=5, spacing=2),
        },
    )


def fitted() -> SCM:
    model = unfitted()
    rows, _ = sampled(300, seed=0)
    fit(model, rows, only=["image"], epochs=8, batch_size=25, seed=0, progress=False)
    return model


def test_its_weights_are_those_of_the_last_step_because_its_law_of_shapes_is() -> None:
    rows, _ = sampled(50, seed=0)

    def weights(ema: float | None) -> Tensor:
        torch.manual_seed(0)
        model = unfitted()
        options: dict[str, Any] = {"epochs": 1, "batch_size": 10, "ema": ema, "progress": False}
        fit(model, rows, only=["image"], seed=0, **options)
        return torch.nn.utils.parameters_to_vector(model.mechanisms["image"].parameters())

    assert torch.allclose(weights(0.999), weights(None), atol=1e-3)


def test_it_moves_tissue_and_turns_its_contrast_while_noise_stays() -> None:
    model = fitted()
    rows, noise = sampled(100, seed=1)

    def skill(**do: Tensor) -> float:
        radius, sequence = (do.get(name, rows[name]) for name in ("radius", "sequence"))
        true = rings(radius=radius, sequence=sequence, noise=noise)
        answer = model.counterfactual(rows, do=do, seed=0)["image"]
        error, nothing = ((part - true).abs().mean() for part in (answer, rows["image"]))
        return float(1 - error / nothing)

    other, turned = rows["radius"].flip(0), 1 - rows["sequence"]
    assert skill(radius=other) > 0.6
    assert skill(sequence=turned) > 0.6
    null = model.counterfactual(rows, do={"radius": rows["radius"]}, seed=0)["image"]
    assert torch.equal(null, rows["image"])


@pytest.mark.parametrize(
    ("image", "likelihood"),
    [
        (Image(1, 9, 12), "logistic"),
        (Image(3, 8, 8), "discretised"),
        (Image(1, 8, 8, bits=None), "gaussian"),
        (Image(1, 6, 8, 8), "logistic"),
    ],
)
def test_it_keeps_the_contract_of_mechanisms(image: Image, likelihood: str) -> None:
    mechanism = DeformedAtlas(["site"], kinds=3, likelihood=likelihood, waves=2, gains=2)
    check_mechanism(mechanism, image, {"age": Continuous(), "site": Categorical(3)})


def test_it_keeps_the_contract_with_a_lesion() -> None:
    mechanism = DeformedAtlas(kinds=3, shading=["age"], moving=["age"], lesion="sick")
    check_mechanism(mechanism, Image(2, 8, 8), {"age": Continuous(), "sick": Binary()})


def test_it_needs_no_cause_of_either_kind() -> None:
    for parents in ({"age": Continuous()}, {"site": Binary()}):
        appearance = [name for name in parents if name == "site"]
        check_mechanism(DeformedAtlas(appearance, kinds=2), Image(1, 8, 8), parents)


def chests(sick: Tensor, dose: Tensor, radius: Tensor, side: Tensor, noise: Tensor) -> Tensor:
    """Draw a disc of that radius, shaded by the dose, with a bright spot at a side of the sick."""
    line = (torch.arange(16) + 0.5) / 8 - 1
    far = (line[:, None] ** 2 + line**2).sqrt()[None]
    disc = torch.sigmoid((radius[:, None, None] - far) * 20)
    spot = ((line[:, None] - 0.3).square() + (line - 0.4 * side[:, None, None]).square()) < 0.04
    image = 0.1 + 0.3 * disc + sick[:, None, None] * spot * (0.8 - 0.1 - 0.3 * disc)
    image = image * (0.3 * dose[:, None, None] * line[:, None]).exp()
    return ((image[:, None] + 0.02 * noise).clamp(0, 1) * 255).round() / 255


def sick_rows(n: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "sick": torch.randint(2, (n,), generator=generator),
        "dose": torch.rand(n, generator=generator) - 0.5,
        "radius": 0.6 + 0.2 * torch.rand(n, generator=generator),
        "side": torch.where(torch.rand(n, generator=generator) < 0.7, 1.0, -1.0),
        "noise": torch.randn(n, 1, 16, 16, generator=generator),
    }


def test_it_shades_and_takes_a_lesion_away_and_shows_it_where_it_mostly_is() -> None:
    causes = {"sick": Binary(), "dose": Continuous(), "radius": Continuous()}
    laws = {"sick": InverseCDF(table=[0.5, 0.5]), "dose": Equation("u"), "radius": Equation("u")}
    atlas = DeformedAtlas(kinds=4, spacing=4, shading=["dose"], lesion="sick")
    model = SCM(
        "{sick dose radius} -> image", causes | {"image": Image(1, 16, 16)}, laws | {"image": atlas}
    )
    train = sick_rows(300, seed=0)
    rows = Rows({name: train[name] for name in causes} | {"image": chests(**train)})
    fit(model, rows, only=["image"], epochs=7, batch_size=20, seed=0, progress=False)

    test = sick_rows(80, seed=1)
    facts = Rows({name: test[name] for name in causes} | {"image": chests(**test)})

    def skill(among: Tensor, **do: Tensor) -> float:
        true = chests(**(test | do))
        answer = model.counterfactual(facts, do=do, seed=0)["image"]
        error, nothing = ((part - true)[among].abs().mean() for part in (answer, facts["image"]))
        return float(1 - error / nothing)

    everywhere, ill = torch.ones(80, dtype=torch.bool), test["sick"] == 1
    assert skill(everywhere, dose=test["dose"].flip(0)) > 0.7
    assert skill(ill, sick=torch.zeros(80, dtype=torch.long)) > 0.7
    assert skill(~ill & (test["side"] > 0), sick=torch.ones(80, dtype=torch.long)) > 0.7
    # Those who have it keep it where it is, on whichever side.
    assert skill(ill & (test["side"] < 0), dose=test["dose"].flip(0)) > 0.7


def test_a_tint_changes_each_place_of_the_anatomy_by_its_own_amount() -> None:
    parents = {"age": Continuous()}
    atlas: Any = DeformedAtlas(kinds=2, tinting=["age"]).bind("x", Image(1, 8, 8), parents)
    atlas.calibrate_networks(torch.full((2, 1, 8, 8), 0.4), {"age": torch.tensor([40.0, 60.0])})
    atlas.tint.data[0, 0, :, 3] = 2.0  # a line, finer than any shading
    x, age = torch.full((1, 1, 8, 8), 0.4), torch.tensor([50.0])
    changed = atlas.predict(atlas.abduct(x, {"age": age}), {"age": age + 10}) - x
    assert changed[..., 3].mean().item() == pytest.approx(0.2, abs=0.01)
    changed[..., 3] = 0
    assert changed.abs().max() < 0.01


def test_neighbours_tell_a_lesion_from_a_pixel_that_is_as_bright() -> None:
    atlas: Any = DeformedAtlas(kinds=2, spacing=1, moving=[], lesion="sick")
    atlas = atlas.bind("x", Image(1, 12, 12), {"sick": Binary()})
    x = torch.full((1, 1, 12, 12), 0.2)
    x[..., 6:, :] = 0.8
    atlas.calibrate_networks(torch.cat([torch.full_like(x, 0.2), x]), {"sick": torch.arange(2)})
    atlas.cover.data.zero_()  # anywhere
    atlas.log_scale.bias.data.copy_(atlas.pixels.unbounded(torch.full((3,), 0.1).log()))
    x[..., 2, 4], x[..., 9, 4] = 0.8, 0.2
    extent = atlas.abduct(x, {"sick": torch.ones(1).long()})["extent"][0, 0]
    assert extent[:6].max() < 0.5
    assert extent[6:].min() > 0.5


def test_large_images_start_from_one_with_a_lesion_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformed_atlas, "CALIBRATION_PIXELS", 1)  # one row is enough otherwise
    atlas = DeformedAtlas(kinds=2, moving=[], lesion="sick")
    atlas = atlas.bind("x", Image(1, 8, 8), {"sick": Binary()})
    images = torch.full((4, 1, 8, 8), 0.2)
    images[3, :, :2] = 0.8
    atlas.calibrate_networks(images, {"sick": torch.tensor([0, 0, 0, 1])})
    assert atlas.level.bias[-1].item() == pytest.approx(0.8)
    assert (atlas.cover[0, :2] > 0).all()
    assert (atlas.cover[0, 2:] < 0).all()


def growth(size: Tensor) -> Tensor:
    """Return a displacement that widens what lies about the middle, by as much as is said."""
    line = (torch.arange(16) + 0.5) / 8 - 1
    place = torch.stack(torch.meshgrid(line, line, indexing="xy"))
    near = (-place.square().sum(0) / 0.2).exp()
    return -size.view(-1, 1, 1, 1) * near * place


def test_what_parents_move_is_moved_where_the_individual_has_it() -> None:
    line = (torch.arange(32) + 0.5) / 16 - 1

    def inside(side: float, radius: float = 0.4) -> Tensor:
        return 20 * (radius - (line[:, None] ** 2 + (line - side) ** 2).sqrt())

    def disc(side: float) -> Tensor:
        return (0.8 * inside(side).sigmoid()).mul(255).round()[None, None] / 255

    atlas: Any = DeformedAtlas(kinds=2).bind("x", Image(1, 32, 32), {"size": Continuous()})
    atlas.caused.field = growth
    atlas.atlas.odds.data[1] = inside(0.0) / 10
    atlas.level.bias.data.copy_(torch.tensor([0.0, 0.8]))
    atlas.log_scale.bias.data.copy_(atlas.pixels.unbounded(torch.tensor([0.01, 0.01]).log()))
    atlas.shape.covariance *= 4  # individuals lie anywhere
    small, large = ({"size": torch.tensor([size])} for size in (0.0, 0.7))

    @torch.no_grad()
    def grown(image: Tensor) -> Tensor:
        answer: Tensor = atlas.predict(atlas.abduct(image, small), large)
        return answer

    middle, aside = grown(disc(0.0)), grown(disc(0.125))
    gain = (middle - disc(0.0)).abs().mean()
    assert gain > 0.02
    assert (aside.roll(-2, 3) - middle).abs().mean() < 0.25 * gain


@pytest.mark.parametrize("sizes", [(16, 20), (8, 10, 12)])
def test_flows_are_undone_by_those_of_the_opposite_velocity(sizes: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = [3] * len(sizes)
    velocity = 0.1 * torch.randn(2, len(sizes), *coarse, generator=generator)
    mode = "bilinear" if len(sizes) == 2 else "trilinear"
    velocity = torch.nn.functional.interpolate(velocity, sizes, mode=mode)
    there, back = flow(velocity), flow(-velocity)
    inside: Any = (..., *[slice(2, -2)] * len(sizes))
    assert (there + moved(back, there))[inside].abs().max() < 0.1 * there.abs().max()


def test_bad_arguments_are_refused() -> None:
    image, parents = Image(1, 8, 8), {"age": Continuous(), "scan": Image(1, 8, 8)}
    for variable in (Continuous(), Mask(2, 8, 8)):
        with pytest.raises(ValueError, match="x: DeformedAtlas models images"):
            DeformedAtlas().bind("x", variable, parents)
    sick = {"sick": Binary(), "site": Categorical(3)}
    with pytest.raises(ValueError, match=r"lesion='site': expected a binary parent .* \['sick'\]"):
        DeformedAtlas(lesion="site").bind("x", image, sick)
    with pytest.raises(ValueError, match=r"its parents \['site'\] would do nothing: name them in"):
        DeformedAtlas(moving=[], lesion="sick").bind("x", image, sick)
    for name in ("site", "scan"):
        with pytest.raises(ValueError, match=r"expected scalar parents of x, which are \['age'\]"):
            DeformedAtlas(appearance=[name]).bind(
                "x", image, {"age": Continuous()} if name == "site" else parents
            )
    for arguments in ({"kinds": 1}, {"spacing": 0}, {"kinds": 2.5}):
        with pytest.raises(ValueError, match="must be a whole number"):
            DeformedAtlas(**arguments)
    with pytest.raises(ValueError, match="likelihood='mixture'"):
        DeformedAtlas(likelihood="mixture")
