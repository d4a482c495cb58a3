from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch

from rung3 import Image
from rung3.mechanisms import Stage
from rung3.mechanisms.networks.stages import Grid, preset


@pytest.mark.parametrize("field", ["resolution", "width", "blocks", "layers", "latents"])
@pytest.mark.parametrize("wrong", [-1, 2.0, True, "8", None])
def test_a_stage_of_anything_but_whole_numbers_is_refused(field: str, wrong: object) -> None:
    least = 0 if field == "latents" else 1
    fields: dict[str, Any] = {"resolution": 8, "width": 4, field: wrong}
    message = f"Stage: {field}={wrong!r} must be a whole number of at least {least}"
    with pytest.raises(ValueError, match=re.escape(message)):
        Stage(**fields)
    if field != "latents":
        with pytest.raises(ValueError, match=f"{field}=0 must be"):
            Stage(**{"resolution": 8, "width": 4, field: 0})


@pytest.mark.parametrize(
    ("shape", "resolutions", "sizes", "padding"),
    [
        ((32, 32), [16, 8, 1], [(16, 16), (8, 8), (1, 1)], (0, 0)),
        ((28, 40), [14, 7], [(14, 20), (7, 10)], (0, 0)),
        ((40, 28), [14, 7], [(20, 14), (10, 7)], (0, 0)),
        ((20, 31), [10, 5], [(10, 16), (5, 8)], (1, 0)),
        ((50, 27), [7, 1], [(13, 7), (1, 1)], (1, 2)),
        ((4, 9), [1], [(1, 3)], (3, 0)),
        ((24, 24), [6, 3, 1], [(6, 6), (3, 3), (1, 1)], (0, 0)),
        ((30, 30), [32, 2], [(32, 32), (2, 2)], (2, 2)),
    ],
)
def test_the_sizes_of_stages_and_the_padding_that_they_need(
    shape: tuple[int, int],
    resolutions: list[int],
    sizes: list[tuple[int, int]],
    padding: tuple[int, int],
) -> None:
    grid = Grid("scan", Image(2, *shape), [Stage(r, 4) for r in resolutions])
    assert (grid.sizes, grid.padding) == (sizes, padding)
    image = torch.rand(3, 2, *shape)
    squares = grid.enter(image)
    assert squares.shape == (3, 2 * grid.square**2, *sizes[0])
    assert torch.equal(grid.leave(squares), image)


def test_the_preset_of_any_size_reaches_it() -> None:
    for short in range(1, 300):
        for long in (short, short + 1, 2 * short + 3):
            for shape in ((short, long), (long, short)):
                stages = preset(Image(1, *shape))
                grid = Grid("scan", Image(1, *shape), stages)
                fine = grid.sizes[0]
                for size in grid.sizes:
                    assert (fine[0] % size[0], fine[1] % size[1]) == (0, 0)
                padded = fine[0] * grid.square, fine[1] * grid.square
                assert (padded[1] - shape[1], padded[0] - shape[0]) == grid.padding
                assert min(grid.padding) >= 0
                assert min(padded) <= 4 / 3 * short


def test_a_first_stage_that_cannot_reach_the_image_is_refused_with_one_that_can() -> None:
    refused = 0
    for short, finest in itertools.product(range(1, 40), range(1, 60)):
        image, refusal = Image(1, short, short + 5), ""
        try:
            Grid("scan", image, [Stage(finest, 8)])
        except ValueError as error:
            refusal, refused = str(error), refused + 1
        if refusal:
            expected = rf"scan: the first stage has resolution {finest},.* {short} px; use (\d+)"
            use = re.match(expected, refusal)
            assert use is not None, refusal
            assert Grid("scan", image, [Stage(int(use[1]), 8)]).square >= 1
    assert refused > 500


@pytest.mark.parametrize(
    ("resolutions", "at", "use"),
    [([16, 5], 1, 8), ([16, 16], 1, 8), ([4, 8], 1, 2), ([32, 16, 7], 2, 8), ([15, 4], 1, 5),
     ([7, 3], 1, 1)],
)  # fmt: skip
def test_a_stage_that_does_not_divide_the_one_before_is_refused_with_one_that_does(
    resolutions: list[int], at: int, use: int
) -> None:
    image = Image(1, resolutions[0], resolutions[0])
    fine, coarse = resolutions[at - 1 : at + 1]
    message = rf"scan: a stage of resolution {coarse} cannot follow one of {fine}.*; use {use},"
    with pytest.raises(ValueError, match=message):
        Grid("scan", image, [Stage(r, 4) for r in resolutions])
    resolutions[at] = use
    Grid("scan", image, [Stage(r, 4) for r in resolutions])


def test_nothing_can_follow_a_vector() -> None:
    with pytest.raises(ValueError, match=r"resolution 1 cannot follow one of 1.*; leave it out"):
        Grid("scan", Image(1, 8, 8), [Stage(8, 4), Stage(1, 4), Stage(1, 4)])
    Grid("scan", Image(1, 8, 8), [Stage(8, 4), Stage(1, 4)])
