"""Masks that images cause: exact posterior noise, edges where the image has them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Binary, Continuous, Image, Rows, fit
from rung3.mechanisms import Segmentation
from rung3.testing import check_mechanism


def blobs(n: int, seed: int, size: int = 32) -> Tensor:
    """Draw images of four random blobs, `(n, 1, size, size)`."""
    generator = torch.Generator().manual_seed(seed)
    centres, widths = (torch.rand(n, 4, k, generator=generator) for k in (2, 1))
    line = (torch.arange(size) + 0.5) / size
    x, y = line - centres[..., :1], line - centres[..., 1:]
    far = x.square()[:, :, None] + y.square()[..., None]
    width = (0.05 + 0.1 * widths[..., None]).square()
    image = torch.exp(-far / (2 * width)).sum(1, keepdim=True).clamp(0, 1)
    return (255 * image).round() / 255


def dice(one: Tensor, other: Tensor) -> Tensor:
    """Return the overlap of masks, `(n,)`."""
    both = (one * other).flatten(1).sum(1)
    return 2 * both / (one + other).flatten(1).sum(1)


def segmented(images: Tensor) -> SCM:
    """Fit a model of images and their masks."""
    size = images.shape[-1]
    variables = {"image": Image(1, size, size), "mask": Image(1, size, size, bits=1)}
    rows = Rows({"image": images, "mask": (images > 0.5).float()})
    # What causes the image does not matter here, and is not learned.
    model = SCM("image -> mask", variables, {"mask": Segmentation(width=8)})
    fit(model, rows, epochs=6, batch_size=32, seed=0, progress=False, only=["mask"])
    return model


def test_a_mask_follows_its_image() -> None:
    images = blobs(600, seed=0, size=16)
    model = segmented(images)
    test, other = blobs(50, seed=1, size=16), blobs(50, seed=2, size=16)
    rows = Rows({"image": test, "mask": (test > 0.5).float()})
    answer = model.counterfactual(rows, do={"image": other}, seed=0)
    assert dice(answer["mask"], (other > 0.5).float()).mean() > 0.9
    null = model.counterfactual(rows, do={"image": test}, seed=0)
    assert torch.equal(null["mask"], rows["mask"])


@pytest.mark.slow
def test_masks_of_blobs_overlap_the_truth_by_95_percent() -> None:
    model = segmented(blobs(3000, seed=0))
    test, other = blobs(200, seed=1), blobs(200, seed=2)
    rows = Rows({"image": test, "mask": (test > 0.5).float()})
    answer = model.counterfactual(rows, do={"image": other}, seed=0)
    assert dice(answer["mask"], (other > 0.5).float()).mean() > 0.95


def bound(bits: int = 1) -> Segmentation:
    parents = {"scan": Image(1, 5, 6), "age": Continuous(), "sick": Binary()}
    torch.manual_seed(0)
    return Segmentation(width=4).bind("mask", Image(1, 5, 6, bits=bits), parents)


def values(n: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scan = torch.randint(256, (n, 1, 5, 6), generator=generator) / 255
    age = torch.randn(n, generator=generator)
    return {"scan": scan, "age": age, "sick": torch.arange(n) % 2}


@pytest.mark.parametrize("bits", [1, 2])
def test_abducted_noise_gives_the_mask_back_and_follows_its_prior(bits: int) -> None:
    mechanism, parents = bound(bits), values(400)
    generator = torch.Generator().manual_seed(1)
    noise = mechanism.sample_noise(400, parents, generator)
    mask = mechanism.predict(noise, parents)
    repeated = mechanism.abduct(mask, parents, generator=generator)
    assert torch.equal(mechanism.predict(repeated, parents), mask)
    # Abducted from values drawn from the prior, the noise has the prior's moments.
    assert isinstance(repeated, Tensor)
    assert repeated.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert repeated.var().item() == pytest.approx(math.pi**2 / 6, abs=0.06)
    several = mechanism.abduct(mask[:2], {k: v[:2] for k, v in parents.items()}, particles=3)
    assert isinstance(several, Tensor)
    assert several.shape == (3, 2, 2**bits, 5, 6)


def test_densities_of_a_single_pixel_sum_to_one() -> None:
    torch.manual_seed(0)
    parents = {"scan": Image(1, 1, 1)}
    mechanism = Segmentation(width=4).bind("mask", Image(1, 1, 1, bits=2), parents)
    scan = {"scan": torch.full((4, 1, 1, 1), 0.4)}
    total = mechanism.log_prob(torch.arange(4.0).view(4, 1, 1, 1) / 3, scan).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)


def test_it_keeps_the_contract_of_mechanisms() -> None:
    mechanism = bound()
    check_mechanism(mechanism, mechanism.variable, mechanism.parents, values=values(40))


def test_variables_that_are_no_masks_are_refused() -> None:
    scan = {"scan": Image(1, 8, 8)}
    for variable in (Image(1, 8, 8), Image(3, 8, 8, bits=1), Binary()):
        with pytest.raises(ValueError, match="mask: Segmentation models masks"):
            Segmentation().bind("mask", variable, scan)
    with pytest.raises(ValueError, match=r"mask: expected a parent that is an image of \(9, 8\)"):
        Segmentation().bind("mask", Image(1, 9, 8, bits=1), scan)
    with pytest.raises(ValueError, match="width=0"):
        Segmentation(width=0)
