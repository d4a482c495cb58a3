"""Paths against counterfactuals that are known: three densities, and points on ellipses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy import stats

from rung3 import SCM, Continuous, fit, worlds
from rung3.mechanisms import Diffusion, FlowMatching
from rung3.mechanisms.path import Path

Cdf = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Known(NamedTuple):
    """A scalar's distribution function given a parent, and its inverse."""

    cdf: Cdf
    quantile: Cdf
    variable: Continuous


def mixture_cdf(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Two normals of deviation 0.6 at -1.5 and 1.5; the second has the share Phi(a)."""
    share = stats.norm.cdf(a)
    return (1 - share) * stats.norm.cdf(x, -1.5, 0.6) + share * stats.norm.cdf(x, 1.5, 0.6)


def mixture_quantile(q: np.ndarray, a: np.ndarray) -> np.ndarray:
    low, high = np.full(q.shape, -9.0), np.full(q.shape, 9.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = mixture_cdf(middle, a) < q
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


KNOWN = {
    "gamma": Known(
        lambda x, a: stats.gamma.cdf(x, np.exp(a / 2) + 1),
        lambda q, a: stats.gamma.ppf(q, np.exp(a / 2) + 1),
        Continuous(lower=0),
    ),
    "sinh-arcsinh": Known(
        lambda x, a: stats.norm.cdf(np.sinh(np.arcsinh(x) - a / 2)),
        lambda q, a: np.sinh(np.arcsinh(stats.norm.ppf(q)) + a / 2),
        Continuous(),
    ),
    "mixture": Known(mixture_cdf, mixture_quantile, Continuous()),
}


def drawn(known: Known, n: int, seed: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    a = rng.uniform(-1.5, 1.5, n)
    x = known.quantile(rng.uniform(size=n), a)
    return {"a": torch.tensor(a).float(), "x": torch.tensor(x).float()}


FAMILIES: dict[str, Path] = {
    "straight": FlowMatching(hidden=(64, 3)),
    "circle": Diffusion(hidden=(64, 3)),
}

WAYS: dict[str, list[dict[str, Any]]] = {
    "straight": [{}],
    "circle": [{}, {"solver": "o-belm", "steps": 40}],
}
"""Options of the queries that are asked of each family."""


def error(family: str, name: str, n: int, **options: object) -> float:
    """Mean absolute error of counterfactuals, in deviations of x: the greatest of all ways."""
    known = KNOWN[name]
    rows, test = drawn(known, n, 0), drawn(known, 2000, 1)
    other = drawn(known, 2000, 2)["a"]
    model = SCM(
        "a -> x",
        variables={"a": Continuous(), "x": known.variable},
        mechanisms={"x": FAMILIES[family]},
    )
    fit(model, rows, only=["x"], validation_share=0, progress=False, **options)  # type: ignore[arg-type]
    rank = known.cdf(test["x"].double().numpy(), test["a"].double().numpy())
    truth = torch.tensor(known.quantile(rank, other.double().numpy())).float()
    answers = [model.counterfactual(test, do={"a": other}, **way)["x"] for way in WAYS[family]]
    return max(float((x - truth).abs().mean() / rows["x"].std()) for x in answers)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_scalar_keeps_its_rank_to_one_percent_of_a_deviation(family: str, name: str) -> None:
    """The mixture has a gap between its modes, of which 200,000 rows tell too little on the line.

    With them the error is 1.02 %, with twice as many in as many steps 0.91 %.
    """
    passes = 10 if (family, name) == ("straight", "mixture") else 20
    assert error(family, name, 4_000_000 // passes, epochs=passes, batch_size=2048) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_points_stay_on_their_ellipses(family: str) -> None:
    """Published: 1.06 % with two evaluations of transport, 2.30 % with fifty of a plain flow."""
    world = worlds.ellipse()
    rows, test = world.sample(20_000, seed=0), world.sample(2_000, seed=1)
    do = {"angle": world.sample(2_000, seed=2)["angle"]}
    truth = world.counterfactual(test, do)["point"]
    model = SCM(world.graph, variables=world.variables, mechanisms={"point": FAMILIES[family]})
    fit(
        model,
        dict(rows),
        only=["point"],
        epochs=20,
        batch_size=512,
        validation_share=0,
        progress=False,
    )
    for steps, most in ((1, 1.06), (2, 1.06), (25, 1.0)):
        imagined = model.counterfactual(dict(test), do, steps=steps)["point"]
        percent = 100 * ((imagined - truth) / truth).abs().mean()
        assert float(percent) < most, steps
