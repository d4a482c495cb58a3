"""What a fit says of its rows: gaps, constants, and scales that nothing fits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from rung3 import SCM, Continuous, choose, fit
from rung3.mechanisms import AdditiveNoise, Equation, Flow
from rung3.mechanisms.base import Mechanism

QUICK: dict[str, Any] = {"epochs": 2, "seed": 0, "progress": False}


def normal(n: int = 400) -> np.ndarray:
    return np.random.default_rng(0).normal(size=n)


def warnings_of(model: SCM, rows: dict[str, np.ndarray]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, rows, **QUICK)
    return [str(one.message) for one in caught]


def test_gaps_are_said_with_how_many_rows_train_what_and_what_that_assumes() -> None:
    x = normal()
    rows = {"x": np.where(np.arange(400) % 4 == 0, np.nan, x), "y": x + normal()}
    kinds = {"x": Continuous(missing=True)}
    (messages,) = warnings_of(SCM("x -> y", kinds), rows)
    assert "of 360 rows: x 270, y 270)" in messages
    assert "right if gaps come by chance" in messages
    assert warnings_of(SCM("x", mechanisms={"x": Equation("u")}), {"x": x}) == []
    line = AdditiveNoise(degree=1)
    with pytest.warns(UserWarning, match="rows with gaps train only") as warned:
        choose(SCM("x -> y", kinds), rows, steps=4, among={"x": [Flow(splines=0)], "y": [line]})
    assert len(warned) == 1


@pytest.mark.parametrize("value", [5.0, -2e-3, 1.7e9])
@pytest.mark.parametrize("mechanism", [Flow(), AdditiveNoise(degree=1)], ids=lambda m: str(m))
def test_a_constant_is_fitted_as_that_number(value: float, mechanism: Mechanism) -> None:
    """It sampled 4.96 +- .95 for 5."""
    model = SCM("x -> c -> y", mechanisms={"c": mechanism})
    x = normal()
    rows = {"x": x, "c": np.full(400, value), "y": x}
    (messages,) = warnings_of(model, rows)
    assert (
        messages
        == f"fit: c: all its values are {value:g}: it is fitted as that number, and no other"
    )
    drawn = model.sample(300, seed=0)["c"].double()
    assert float((drawn - value).abs().max()) <= 1e-7 * abs(value)
    some = {name: column[:9] for name, column in rows.items()}
    moved = model.counterfactual(some, do={"x": some["x"] + 3})
    assert float((moved["c"].double() - value).abs().max()) <= 1e-7 * abs(value)
    assert model.log_prob(some).isfinite().all()


def test_a_column_that_hardly_varies_is_fitted_as_it_is() -> None:
    model = SCM("c")
    assert warnings_of(model, {"c": 5 + 1e-9 * normal()}) == []
    drawn = model.sample(2_000, seed=0)["c"]
    assert drawn.std().item() == pytest.approx(1e-9, rel=0.1)
    single = (1e5 + 1e-2 * normal()).astype(np.float32)
    (messages,) = warnings_of(SCM("c"), {"c": single})
    assert "too close together for single precision" in messages


def test_a_value_beyond_all_others_is_said() -> None:
    column = normal()
    column[7] = 1e19
    (messages,) = warnings_of(SCM("c"), {"c": column})
    assert "the value 1e+19 lies so far from the others" in messages
    heavy = torch.distributions.StudentT(2.0).sample((400,)).numpy()
    assert warnings_of(SCM("c"), {"c": heavy}) == []
