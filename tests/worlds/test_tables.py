"""The suite's equations by hand, and that values alone tell the noise."""

from __future__ import annotations

import math

import pytest
import torch

from rung3 import worlds
from rung3.worlds.tables import SUITE


@pytest.mark.parametrize("name", list(SUITE))
def test_values_tell_their_noise(name: str) -> None:
    world = worlds.suite(name)
    rows = world.sample(500, seed=0)
    abducted = world.abduct(dict(rows))
    assert rows.noise is not None
    for variable, noise in rows.noise.items():
        assert torch.allclose(
            torch.as_tensor(abducted[variable]), torch.as_tensor(noise), atol=1e-3
        )


def test_counterfactuals_by_hand() -> None:
    triangle = worlds.suite("triangle")
    answer = triangle.counterfactual({"x1": 1.0, "x2": 3.0, "x3": 20.0}, do={"x1": 2.0})
    u3 = 20 - 20 / (1 + math.exp(-(3**2) + 1))
    assert answer["x2"].item() == 9.0  # 2 * 2^2 + (3 - 2)
    assert answer["x3"].item() == pytest.approx(20 / (1 + math.exp(-(9**2) + 2)) + u3, abs=1e-4)
    scaled = worlds.suite("scaled")
    answer = scaled.counterfactual({"x1": 1.0, "x2": 2.0, "x3": 2.0}, do={"x1": 3.0})
    assert answer["x2"].item() == 6.0


def test_the_laplace_of_the_backdoor() -> None:
    """x9 less its location is Laplace of scale 0.6: its deviation is 0.6 sqrt(2)."""
    rows = worlds.suite("backdoor").sample(20_000, seed=0)
    softplus = torch.nn.functional.softplus
    rest = rows["x9"] - 2 + softplus((1.3 * rows["x7"] + rows["x8"]) / 3 + 1)
    assert rest.abs().mean().item() == pytest.approx(0.6, abs=0.015)
    assert rest.std().item() == pytest.approx(0.6 * math.sqrt(2), abs=0.03)


def test_an_unknown_world_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'triangle'"):
        worlds.suite("triangel")
