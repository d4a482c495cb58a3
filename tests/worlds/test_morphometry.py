"""The operators on strokes: against the published procedure, by hand, and on real digits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import morphology, transform
from torch import Tensor

from rung3 import data, worlds
from rung3.worlds.strokes.morphometry import (
    dilated,
    kernel_widths,
    mean_depth,
    measure_intensity,
    measure_thickness,
    set_intensity,
    set_thickness,
    stroke_masks,
)


def bars() -> Tensor:
    """Bars of widths 2, 4 and 6, at grey levels 255, 128 and 51."""
    images = torch.zeros(3, 1, 28, 28)
    for k, (width, level) in enumerate([(2, 255), (4, 128), (6, 51)]):
        images[k, 0, 4:24, 14 - width // 2 : 14 + width // 2] = level / 255
    return images


def test_thickness_of_bars_is_near_their_width() -> None:
    torch.testing.assert_close(
        measure_thickness(bars()), torch.tensor([2.0, 4.0, 6.0]), atol=0.5, rtol=0
    )


def test_thickness_does_not_depend_on_the_grey_level() -> None:
    bar = bars()[:1]
    assert measure_thickness(bar * 128 / 255).item() == pytest.approx(
        measure_thickness(bar).item(), abs=0.05
    )


def test_thickness_does_not_depend_on_the_rest_of_the_batch() -> None:
    together = measure_thickness(bars())
    alone = torch.cat([measure_thickness(bar[None]) for bar in bars()])
    assert torch.equal(together, alone)


def test_intensity_of_bars_is_their_grey_level() -> None:
    assert torch.equal(measure_intensity(bars()), torch.tensor([255.0, 128.0, 51.0]))


@pytest.mark.parametrize("level", [51.0, 100.0, 255.0])
def test_set_intensity_is_measured_again(level: float) -> None:
    drawn = set_intensity(bars(), level)
    torch.testing.assert_close(measure_intensity(drawn), torch.full((3,), level), atol=1, rtol=0)


def test_set_intensity_saturates_at_white() -> None:
    image = torch.zeros(1, 1, 28, 28)
    image[..., 4:24, 10:18] = 200 / 255
    image[..., 4:24, 10] = 250 / 255
    drawn = set_intensity(image, 255.0)
    assert drawn.max() == 1
    assert measure_intensity(drawn).item() == 255


def test_set_thickness_takes_one_target_a_row() -> None:
    bar = bars()[:1].expand(4, -1, -1, -1)
    target = torch.tensor([1.5, 2.5, 4.0, 6.0])
    measured = measure_thickness(set_thickness(bar, target))
    torch.testing.assert_close(measured, target, atol=0.6, rtol=0)
    assert (measured.diff() > 0).all()


def test_set_thickness_twice_gives_the_same() -> None:
    target = torch.tensor([3.0, 3.0, 3.0])
    assert torch.equal(set_thickness(bars(), target), set_thickness(bars(), target))


def test_drawn_images_are_eight_bit() -> None:
    levels = 255 * set_intensity(set_thickness(bars(), 3.3), 141.7)
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)


def test_blank_images_stay_blank() -> None:
    blank = torch.zeros(2, 1, 28, 28)
    assert measure_thickness(blank).tolist() == [0, 0]
    assert measure_intensity(blank).tolist() == [0, 0]
    assert torch.equal(set_thickness(blank, 3.0), blank)
    assert torch.equal(set_intensity(blank, 200.0), blank)


def test_a_stroke_eroded_away_leaves_a_blank_that_can_be_scaled() -> None:
    gone = set_thickness(bars()[:1], 0.0)
    assert gone.max() < 0.2
    assert set_intensity(torch.zeros_like(gone), 200.0).max() == 0


def test_no_images_give_no_answers() -> None:
    none = torch.zeros(0, 1, 28, 28)
    assert measure_thickness(none).shape == (0,)
    assert set_thickness(none, 2.0).shape == none.shape
    assert set_intensity(none, 2.0).shape == none.shape


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 11, 24])
def test_kernel_is_what_the_published_reduction_leaves_of_a_disk(radius: int) -> None:
    disk = morphology.disk(16 * radius, dtype=np.float64)
    published = transform.pyramid_reduce(disk, downscale=16, order=1, channel_axis=None) != 0
    half = kernel_widths(radius)
    offset = np.abs(np.arange(-radius, radius + 1))
    assert np.array_equal(offset[None] <= half[:, None], published)


@pytest.mark.parametrize("radius", [0, 1, 3, 9])
def test_dilation_equals_placing_the_kernel_at_every_pixel(radius: int) -> None:
    stroke = np.random.default_rng(0).random((40, 50)) > 0.99
    footprint = np.abs(np.arange(-radius, radius + 1))[None] <= kernel_widths(radius)[:, None]
    expected = morphology.dilation(stroke, footprint)
    assert np.array_equal(dilated(stroke, radius), expected)


@pytest.mark.parametrize("smooth", [1, 2, 4])
@pytest.mark.parametrize("loop", [True, False])
def test_the_axis_is_scikit_images_medial_axis(
    smooth: int, loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not loop:
        monkeypatch.setitem(sys.modules, "skimage.morphology._skeletonize_various_cy", None)
    draw = np.random.default_rng(smooth)
    for _ in range(4):
        field = ndimage.gaussian_filter(draw.normal(size=(50, 60)), smooth)
        stroke = np.pad(field > 0, 1)
        axis, distance = morphology.medial_axis(stroke, return_distance=True, rng=42)
        assert mean_depth(stroke) == pytest.approx(distance[axis].mean(), abs=1e-12)


@pytest.mark.parametrize("loop", [True, False])
@pytest.mark.parametrize("borders", ["left", "left right", "top bottom", "top left", "all", "wide"])
def test_strokes_at_the_border_measure_as_published(
    borders: str, loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not loop:
        monkeypatch.setitem(sys.modules, "skimage.morphology._skeletonize_various_cy", None)
    image = torch.zeros(1, 1, 28, 28)
    image[..., 12:15, 5:20] = 1
    ends: dict[str, tuple[slice, slice]]
    ends = {"left": np.s_[10:14, :9], "right": np.s_[10:14, 15:], "top": np.s_[:12, 3:6]}
    ends |= {"bottom": np.s_[9:, 20:23], "wide": np.s_[3:25, :]}
    for border in ends if borders == "all" else borders.split():
        image[(..., *ends[border])] = 1
    stroke = stroke_masks(255 * image[:, 0].double().numpy(), 4)[0]
    axis, distance = morphology.medial_axis(stroke, return_distance=True, rng=42)
    expected = 2 / 4 * distance[axis].mean()
    assert measure_thickness(image).item() == pytest.approx(expected, abs=1e-6)
    if loop:
        drawn = measure_thickness(set_thickness(image, 14.0)).item()
        assert abs(drawn - 14) < abs(expected - 14)


def test_digits_as_thick_as_their_picture_can_be_measured() -> None:
    rows = worlds.digits().sample(40, seed=0)
    thick = set_thickness(rows["image"], 14.0)
    assert bool((measure_thickness(thick) > measure_thickness(rows["image"])).all())


def test_enlargement_is_the_published_one() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (2, 12, 12)).astype(np.uint8)
    ours = stroke_masks(levels.astype(float), 16)
    for image, stroke in zip(levels, ours, strict=True):
        large = transform.pyramid_expand(image, upscale=16, order=3, channel_axis=None)
        low, high = np.floor(255 * large.min()), np.floor(255 * large.max())
        published = np.floor(255 * large) >= low + (high - low) / 2
        assert (published != stroke).mean() < 1e-3


def test_real_digits_measure_as_published(morphomnist_root: Path) -> None:
    test = data.morphomnist(morphomnist_root, "test")[:300]
    off = measure_thickness(test["image"]) - test["thickness"]
    assert off.abs().mean().item() == pytest.approx(0.1225, abs=0.01)
    assert off.mean().item() == pytest.approx(0.09, abs=0.02)
    off = measure_intensity(test["image"]) - test["intensity"]
    assert off.abs().mean().item() == pytest.approx(0.51, abs=0.03)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(28, 28), r"expected shape \(n, 1, H, W\), got \(28, 28\)"),
        (torch.zeros(2, 3, 28, 28), r"got \(2, 3, 28, 28\)"),
        (torch.full((1, 1, 28, 28), 255.0), "divide 8-bit images by 255"),
        (torch.full((1, 1, 28, 28), torch.nan), r"expected values in \[0, 1\]"),
    ],
)
def test_wrong_images_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_thickness(images)
    with pytest.raises(ValueError, match=message):
        set_intensity(images, 100.0)


@pytest.mark.parametrize("target", [torch.tensor([1.0, 2.0]), torch.tensor(-1.0), torch.nan])
def test_wrong_targets_are_refused(target: Tensor) -> None:
    with pytest.raises(ValueError, match="thickness: expected"):
        set_thickness(bars(), target)
    with pytest.raises(ValueError, match="intensity: expected"):
        set_intensity(bars(), target)
