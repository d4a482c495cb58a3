"""Attributions by captum: they add up, and say nothing of what causes what is read."""

from __future__ import annotations

import pytest
import torch

from rung3 import SCM, Binary, Image, explain
from rung3.effects.predictors.attributions import attributions
from rung3.mechanisms import Equation

pytest.importorskip("captum", reason="needs rung3[attributions]")

MODEL = SCM("x -> m; sick", {"sick": Binary()}, {"x": Equation("u"), "m": Equation("2*x + u")})
ROWS = {"x": torch.tensor([1.0, -2.0]), "m": torch.tensor([3.0, 0.5]), "sick": torch.tensor([1, 0])}


def test_a_sum_is_attributed_to_its_terms() -> None:
    found = attributions(MODEL, lambda m, sick: 3 * m + sick, ROWS, outcome="x")
    assert list(found) == ["m"]  # x, which causes m, is not read; a category has no slope
    torch.testing.assert_close(found["m"], 3 * ROWS["m"], atol=1e-4, rtol=1e-4)
    away = attributions(MODEL, lambda m: 3 * m, ROWS, outcome="x", baseline={"m": 1.0})
    torch.testing.assert_close(away["m"], 3 * (ROWS["m"] - 1), atol=1e-4, rtol=1e-4)


def test_pixels_add_up_to_the_difference() -> None:
    model = SCM("t -> scan", {"scan": Image(1, 4, 4, bits=None)}, {"t": Equation("u")})
    scans = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def judge(scan: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(scan.flatten(1).sum(1) - 8)

    found = attributions(model, judge, {"t": torch.zeros(2), "scan": scans})["scan"]
    assert found.shape == scans.shape
    difference = judge(scans) - judge(torch.zeros_like(scans))
    torch.testing.assert_close(found.sum((1, 2, 3)), difference, atol=2e-3, rtol=0)


def test_attributions_are_drawn_beside_the_explanation() -> None:
    one = {name: value[0] for name, value in ROWS.items()}
    do = {"less": {"x": 0.0}}
    why = explain(MODEL, lambda m: 3 * m, one, outcome="x", do=do, particles=2, seed=0)
    shares = {"m": torch.tensor([9.0]), "scan": torch.tensor([[[[0.0, -4.0], [1.0, 2.0]]]])}
    image, effect, numbers = why.figure(beside=shares).axes
    drawn = image.images[0].get_array()
    assert drawn.reshape(-1).tolist() == [0.0, 1.0, 0.25, 0.5]
    assert effect.get_title(loc="left") == "less"
    assert numbers.get_title(loc="left") == "attributions"
    assert [bar.get_width() for bar in numbers.patches] == [9.0]
