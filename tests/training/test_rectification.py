"""Few steps: what one step gives comes near to what many gave."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rung3 import SCM, Continuous, Image, fit
from rung3.mechanisms import FlowMatching
from rung3.training import rectify

QUICK: dict[str, Any] = {"batch_size": 128, "lr": 5e-3, "ema": 0.99, "progress": False}


def test_one_step_comes_nearer_to_many_and_answers_stay() -> None:
    """Of two rings of points, whose plain paths bend."""
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(2000, generator=generator)
    side = (torch.rand(2000, 1, generator=generator) < 0.5).float() * 4 - 2
    point = side + 0.4 * torch.randn(2000, 2, generator=generator)
    rows = {"a": a, "point": point}
    model = SCM(
        "a -> point",
        variables={"point": Continuous(dim=2)},
        mechanisms={"point": FlowMatching(hidden=(32, 2), steps=16)},
    )
    fit(model, rows, only=["point"], epochs=6, **QUICK)

    def imagined(steps: int) -> torch.Tensor:
        some = {name: value[:300] for name, value in rows.items()}
        answer = model.counterfactual(some, do={"a": 0.5}, steps=steps, temperature=0)
        return answer["point"].detach()

    before, many = imagined(16), imagined(1)
    history = rectify(model, rows, "point", epochs=6, **QUICK)
    assert history.training["point"][-1] < history.training["point"][0]
    assert model.fitted["point"]["rectified"] == {"rows": 1800, "epochs": 6, "steps": 16}
    assert (imagined(1) - before).abs().mean() < 0.5 * (many - before).abs().mean()
    assert all(not parameter.requires_grad for parameter in model.mechanisms["point"].parameters())


def test_what_has_no_pairs_is_refused() -> None:
    model = SCM("a -> b -> c", mechanisms={"b": FlowMatching(hidden=(8, 1))})
    rows = {name: torch.randn(8) for name in "abc"}
    with pytest.raises(ValueError, match=r"c: expected a FlowMatching mechanism, got Flow\(\)"):
        rectify(model, rows, "c")
    with pytest.raises(ValueError, match=r"d: expected a FlowMatching .*no variable of the model"):
        rectify(model, rows, "d")
    with pytest.raises(ValueError, match="b: is not fitted"):
        rectify(model, rows, "b")


def test_images_are_rectified_too() -> None:
    image = Image(1, 8, 8)
    network = {"width": 16, "head": 8}
    mechanism = FlowMatching(network=network, steps=2)
    model = SCM("a -> x", {"a": Continuous(), "x": image}, {"x": mechanism})
    pixels = torch.randint(256, (16, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 255
    rows = {"a": torch.randn(16), "x": pixels}
    fit(model, rows, only=["x"], epochs=1, batch_size=8, progress=False)
    history = rectify(model, rows, "x", steps=3, epochs=1, batch_size=8, progress=False)
    assert model.fitted["x"]["rectified"]["steps"] == 3
    assert len(history.validation["x"]) == 1
