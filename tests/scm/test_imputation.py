"""Rows with gaps, against posteriors in closed form and by enumeration."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rung3 import SCM, Binary, Categorical, Continuous, Image
from rung3.mechanisms import VAE, Equation, InverseCDF
from rung3.scm.imputation import complete

NAN = float("nan")
GAPPY = Continuous(missing=True)


def chain() -> SCM:
    """`x := u`, `y := 2x + u`, `z := y + u`."""
    kinds = {"x": GAPPY, "y": GAPPY, "z": GAPPY}
    equations = {"x": Equation("u"), "y": Equation("2*x + u"), "z": Equation("y + u")}
    return SCM(None, kinds, equations)


def test_a_missing_cause_follows_its_posterior_not_its_prior() -> None:
    """Given z alone, x is normal with mean `2 z / 6` and variance `1 - 4 / 6`."""
    rows = {"x": [NAN], "y": [NAN], "z": [3.0]}
    completed = complete(chain(), rows, 4_000, proposals=40_000, seed=0)
    x = completed.rows["x"]
    assert x.mean().item() == pytest.approx(1.0, abs=0.05)
    assert x.var().item() == pytest.approx(1 / 3, abs=0.04)
    assert completed.shares == {"x": 1.0, "y": 1.0}


def test_a_missing_effect_follows_its_mechanism() -> None:
    completed = complete(
        chain(), {"x": [1.0], "y": [2.0], "z": [NAN]}, 4_000, proposals=4_000, seed=0
    )
    assert completed.rows["z"].mean().item() == pytest.approx(2.0, abs=0.08)
    assert completed.sizes.item() == pytest.approx(
        4_000
    )  # nothing is known below it: equal weights


def test_the_counterfactual_of_a_row_with_a_gap() -> None:
    """Given x = 1 and z = 5, y has mean 3.5 and variance 1/2; do(y = 0) then gives z = 5 - y."""
    rows = {"x": [1.0, 1.0], "y": [NAN, 2.0], "z": [5.0, 5.0]}
    answer = chain().counterfactual(rows, do={"y": 0.0}, particles=3_000, seed=0)
    assert answer["z"].shape == (3_000, 2)
    assert answer["z"][:, 0].mean().item() == pytest.approx(1.5, abs=0.06)
    assert answer["z"][:, 0].std().item() == pytest.approx(math.sqrt(0.5), abs=0.05)
    assert torch.equal(answer["z"][:, 1], torch.full((3_000,), 3.0))  # the whole row is exact
    provenance = answer.explain()
    assert provenance.inferred == {"y": 0.5}
    assert provenance.effective_sample_sizes is not None
    assert provenance.effective_sample_sizes[1] == math.inf
    assert "y: missing in 50% of rows, drawn given the rest" in str(provenance)


def test_what_was_observed_stays_bit_for_bit_and_seeds_repeat() -> None:
    rows = {"x": [0.5, NAN], "y": [NAN, 1.0], "z": [0.1, 0.2]}
    one, repeated, other = (
        chain().counterfactual(rows, do={"z": [1.0, 2.0]}, particles=5, seed=s) for s in (0, 0, 1)
    )
    assert torch.equal(one["x"][:, 0], torch.full((5,), 0.5))
    assert torch.equal(one["z"], torch.tensor([1.0, 2.0]).expand(5, 2))  # one value a row
    assert torch.equal(one["y"], repeated["y"])
    assert not torch.equal(one["y"], other["y"])


def test_a_single_row_is_answered_without_a_batch() -> None:
    answer = chain().counterfactual({"x": NAN, "y": 1.0, "z": 0.0}, do={"y": 0.0}, particles=4)
    assert answer["x"].shape == (4,)
    assert torch.equal(answer["z"], torch.full((4,), -1.0))


def test_categories_against_bayes() -> None:
    """`P(a = 1 | b = 1) = 0.3 * 0.9 / (0.3 * 0.9 + 0.7 * 0.2)`."""
    kinds = {"a": Binary(missing=True), "b": Binary()}
    tables = {"a": InverseCDF(table=[0.7, 0.3]), "b": InverseCDF(table=[[0.8, 0.2], [0.1, 0.9]])}
    model = SCM("a -> b", kinds, tables)
    completed = complete(model, {"a": [NAN], "b": [1]}, 4_000, proposals=20_000, seed=0)
    assert completed.rows["a"].mean().item() == pytest.approx(0.27 / 0.41, abs=0.03)


def test_too_few_effective_draws_are_flagged() -> None:
    model = SCM(None, {"x": GAPPY, "y": Continuous()}, x=Equation("u"), y=Equation("x + u/1000"))
    answer = model.counterfactual({"x": [NAN], "y": [0.3]}, do={"y": 0.0}, particles=8, seed=0)
    assert "below 30 in 1 rows: DO NOT TRUST THEM" in str(answer.explain())
    completed = complete(model, {"x": [NAN], "y": [0.3]}, 8, seed=0)
    assert not completed.trusted.any()


def test_evidence_of_probability_zero_is_an_error_that_names_the_row() -> None:
    kinds = {"a": Binary(missing=True), "b": Binary()}
    tables = {"a": InverseCDF(table=[0.5, 0.5]), "b": InverseCDF(table=[[1.0, 0.0], [1.0, 0.0]])}
    model = SCM("a -> b", kinds, tables)
    with pytest.raises(ValueError, match="row 1: its values have probability zero whatever a may"):
        complete(model, {"a": [NAN, NAN], "b": [0, 1]}, 4, seed=0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1: all its values are missing; leave it out"):
        complete(chain(), {"x": [1.0, NAN], "y": [1.0, NAN], "z": [1.0, NAN]})
    with pytest.raises(ValueError, match="z: not given"):
        complete(chain(), {"x": [1.0], "y": [NAN]})
    with pytest.raises(ValueError, match=r"y: missing in 1 rows.*particles="):
        chain().counterfactual({"x": [1.0], "y": [NAN], "z": [1.0]}, do={"x": 0.0})
    with pytest.raises(ValueError, match="proposals=3"):
        complete(chain(), {"x": [1.0], "y": [NAN], "z": [1.0]}, 4, proposals=3)


@pytest.mark.parametrize("particles", [0, -1, True, 2.5])
@pytest.mark.parametrize("y", [1.0, NAN])
def test_a_number_of_particles_that_is_none_is_refused_with_and_without_gaps(
    particles: Any, y: float
) -> None:
    with pytest.raises(ValueError, match="particles: expected a whole number of at least 1, got"):
        chain().counterfactual({"x": 0.0, "y": y, "z": 0.0}, {"x": 1.0}, particles=particles)


def test_a_bound_is_not_used_as_a_weight() -> None:
    model = SCM("x -> y", {"x": GAPPY, "y": Image(1, 8, 8)}, {"y": VAE(latent=2)})
    rows = {"x": [NAN], "y": torch.randint(256, (1, 1, 8, 8)) / 255}
    with pytest.raises(ValueError, match=r"y: it would weigh what is missing .* only a bound"):
        complete(model, rows)
    for particles in (None, 4):  # the way out is not one that is refused in turn
        with pytest.raises(ValueError, match=r"give \['x'\], or leave such rows out") as refused:
            model.counterfactual(rows, {"x": 1.0}, particles=particles)
        assert "missing.complete" not in str(refused.value)


@pytest.mark.parametrize(
    "make",
    [list, np.array, lambda v: pd.Series(v, index=range(5, 5 + len(v)))],
    ids=["list", "array", "series"],
)
def test_interventions_on_rows_with_gaps_come_in_any_form(make: Callable[[Any], Any]) -> None:
    kinds = {"x": GAPPY, "arm": Categorical(labels=("low", "high")), "y": Continuous()}
    model = SCM("x -> y; arm", kinds, {"x": Equation("u"), "y": Equation("x + u")})
    rows = {"x": [NAN, 1.0], "arm": ["low", "low"], "y": [1.0, 2.0]}
    do = {"arm": make(["high", "low"]), "x": make([1.0, 2.0])}
    answer = model.counterfactual(rows, do=do, particles=3, seed=0)
    assert torch.equal(answer["arm"], torch.tensor([1, 0]).expand(3, 2))
    assert torch.equal(answer["x"], torch.tensor([1.0, 2.0]).expand(3, 2))


def test_interventions_that_do_not_fit_the_rows_are_refused_with_the_numbers_given() -> None:
    rows = {"x": [NAN, 0.0, 1.0], "y": [2.0, 1.0, 0.0], "z": [3.0, 2.0, 1.0]}
    with pytest.raises(ValueError, match=r"do\(x=\.\.\.\): 2 values for 3 rows"):
        chain().counterfactual(rows, {"x": [5.0, 6.0]}, particles=4, seed=0)
