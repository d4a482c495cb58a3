"""Which outcomes attribution draws forward from noise, and which it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rung3 import SCM, Image
from rung3.effects.attribution import (
    attribute_anomaly,
    attribute_change,
    intrinsic_causal_influence,
)
from rung3.effects.attribution.forward import lineage
from rung3.mechanisms import VAE, Equation

Ask = Callable[[SCM, str], Any]
ASKED: list[Ask] = [
    lambda model, outcome: attribute_anomaly(model, {"x": [0.0]}, outcome),
    lambda model, outcome: attribute_change(model, model, outcome),
    intrinsic_causal_influence,
]


def test_an_outcome_and_its_causes_come_in_order() -> None:
    model = SCM(x=Equation("u"), y=Equation("x + u"), z=Equation("x + u"), w=Equation("y + u"))
    assert lineage(model, "w") == ["x", "y", "w"]
    assert lineage(model, "x") == ["x"]


@pytest.mark.parametrize("ask", ASKED)
def test_an_outcome_that_is_not_one_number_is_refused(ask: Ask) -> None:
    variables, image = {"image": Image(1, 8, 8)}, VAE(latent=2, width=4, depth=1)
    model = SCM("x -> image", variables, {"x": Equation("u"), "image": image})
    with pytest.raises(ValueError, match="image: expected one number a row, and it is an array"):
        ask(model, "image")
    with pytest.raises(ValueError, match=r"outcome: .*'imago'"):
        ask(model, "imago")


@pytest.mark.parametrize("ask", ASKED)
def test_hidden_causes_are_refused(ask: Ask) -> None:
    model = SCM("x -> y; x <-> y", mechanisms={"x": Equation("u"), "y": Equation("x + u")})
    with pytest.raises(ValueError, match="attribution: hidden causes join variables"):
        ask(model, "y")
