"""Images that images cause: every pixel keeps its place and its own noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Continuous, Image, Mask, Rows, fit
from rung3.mechanisms import ImageToImage
from rung3.testing import check_mechanism


def blurred(images: Tensor) -> Tensor:
    """Return images inverted and blurred, with noise of a few grey levels."""
    generator = torch.Generator().manual_seed(7)
    smooth = torch.nn.functional.avg_pool2d(1 - images, 3, 1, 1)
    noise = 0.02 * torch.randn(images.shape, generator=generator)
    return ((smooth + noise).clamp(0, 1) * 255).round() / 255


def test_a_child_follows_its_image_in_every_pixel() -> None:
    pattern = torch.rand(300, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images = (255 * pattern.repeat_interleave(3, 2).repeat_interleave(3, 3)).round() / 255
    variables = {"image": Image(1, 12, 12), "child": Image(1, 12, 12)}
    rows = Rows({"image": images, "child": blurred(images)})
    model = SCM("image -> child", variables, {"child": ImageToImage(width=8)})
    fit(model, rows[:250], epochs=12, batch_size=25, seed=0, progress=False, only=["child"])
    test, other = rows[250:], images[:50]
    answer = model.counterfactual(test, do={"image": other}, seed=0)["child"]
    # The noise stays the row's own, so the truth is known: the other image's child, plus it.
    clean = torch.nn.functional.avg_pool2d(
        1 - torch.stack([other, test["image"]]).flatten(0, 1), 3, 1, 1
    )
    true = clean[:50] + test["child"] - clean[50:]
    error = (answer - true).abs().mean()
    nothing = (test["child"] - true).abs().mean()
    assert 1 - error / nothing > 0.8
    null = model.counterfactual(test, do={"image": test["image"]}, seed=0)["child"]
    assert torch.equal(null, test["child"])


@pytest.mark.parametrize(
    ("child", "likelihood"),
    [
        (Image(1, 5, 6), "logistic"),
        (Image(3, 5, 6), "discretised"),
        (Image(2, 5, 6, bits=None), "gaussian"),
        (Image(1, 3, 5, 6), "logistic"),
    ],
)
def test_it_keeps_the_contract_of_mechanisms(child: Image, likelihood: str) -> None:
    parents = {"scan": Image(1, *child.sizes), "age": Continuous()}
    check_mechanism(ImageToImage(width=4, likelihood=likelihood), child, parents)


def test_what_is_no_image_of_an_image_is_refused() -> None:
    scan = {"scan": Image(1, 8, 8)}
    for variable in (Continuous(), Mask(2, 8, 8)):
        with pytest.raises(ValueError, match="child: ImageToImage models images"):
            ImageToImage().bind("child", variable, scan)
    with pytest.raises(ValueError, match=r"child: expected a parent that is an image of \(9, 8\)"):
        ImageToImage().bind("child", Image(1, 9, 8), scan)
    with pytest.raises(ValueError, match="width=0"):
        ImageToImage(width=0)
    with pytest.raises(ValueError, match="likelihood='normal'"):
        ImageToImage(likelihood="normal")
