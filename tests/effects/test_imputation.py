"""Multiple imputation from a fitted SCM: Rubin's rules, and the truth."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from rung3 import SCM, Binary, Continuous, effect, fit
from rung3.effects import refits
from rung3.effects.tables.answer import Answer
from rung3.effects.tables.imputation import pooled
from rung3.effects.tables.influence import Influence
from rung3.mechanisms import Equation, InverseCDF

KINDS = {"z": Binary(missing=True), "t": Binary(), "y": Continuous()}
WORLD = SCM(
    "z -> t; {z t} -> y",
    KINDS,
    {
        "z": InverseCDF(table=[0.5, 0.5]),
        "t": InverseCDF(table=[[0.7, 0.3], [0.3, 0.7]]),
        "y": Equation("t + 2*z + u"),
    },
)
"""What a model learns that learns everything."""


def gapped(n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    rows = dict(WORLD.sample(n, seed=seed))
    chance = torch.rand(n, generator=torch.Generator().manual_seed(seed))
    sign = 2 * rows["t"] - 1
    gone = chance < torch.sigmoid(sign * rows["y"] - 1)
    rows["z"] = torch.where(gone, torch.nan, rows["z"].double())
    return rows


def test_rubins_rules() -> None:
    rng = np.random.default_rng(0)
    parts = []
    for value in (1.0, 2.0, 4.0):
        scores = torch.from_numpy(rng.normal(size=(50, 1)))
        parts.append(Influence(torch.tensor([value]).double(), scores, 48))
    contrast = pooled([Answer(part) for part in parts], 1).contrast
    within = np.mean([float((part.scores**2).sum()) / 50**2 for part in parts])
    between = 4 / 3 * np.var([1, 2, 4], ddof=1)
    assert float(contrast.values[0]) == pytest.approx(7 / 3)
    assert float(contrast.covariance[0, 0]) == pytest.approx(within + between)
    assert contrast.t_freedom == pytest.approx(2 * (1 + within / between) ** 2)
    doubled = contrast.then(lambda values: 2 * values)
    assert float(doubled.errors[0]) == pytest.approx(2 * float(contrast.errors[0]))


def test_a_missing_confounder_is_filled() -> None:
    rows = gapped(1_500)
    left_out = effect(rows, "t", "y", adjust=["z"]).effect
    estimate = effect(rows, "t", "y", graph=WORLD.graph, impute=WORLD)
    assert not left_out.low < 1 < left_out.high
    assert estimate.effect.low < 1 < estimate.effect.high
    assert estimate.n == 1_500
    assert "20 tables, filled by a fitted SCM" in str(estimate)
    assert "that the model was learned is not in the interval" in str(estimate)
    repeated = effect(rows, "t", "y", graph=WORLD.graph, impute=WORLD)
    assert repeated.effect == estimate.effect


def test_several_models_fill_a_table_each() -> None:
    rows = gapped(300)
    estimate = effect(rows, "t", "y", adjust=["z"], impute=[WORLD, WORLD, WORLD])
    assert estimate.notes[-1] == (
        "3 tables, filled by a fitted SCM (missing at random given the rest)"
    )


YES_NO = {"z": Binary(), "t": Binary(), "y": Binary(missing=True)}
TOLD = SCM(
    WORLD.graph,
    YES_NO,
    {
        "z": InverseCDF(table=[0.5, 0.5]),
        "t": InverseCDF(table=[[0.7, 0.3], [0.3, 0.7]]),
        "y": InverseCDF(table=[[[0.8, 0.2], [0.6, 0.4]], [[0.5, 0.5], [0.3, 0.7]]]),
    },
)
"""Where t raises the chance of y by a fifth."""


def holding(n: int, studies: int) -> int:
    """Count the studies of n rows, filled by models learned from them, that hold the truth."""
    held = 0
    for seed in range(studies):
        rows = dict(TOLD.sample(n, seed=seed))
        chance = torch.rand(n, generator=torch.Generator().manual_seed(seed))
        gone = chance < 0.1 + 0.3 * rows["z"] + 0.2 * rows["t"]
        rows["y"] = torch.where(gone, torch.nan, rows["y"].double())
        model = SCM(TOLD.graph, YES_NO, {name: InverseCDF(prior=0.01) for name in YES_NO})
        with warnings.catch_warnings(action="ignore"):
            fit(model, rows, progress=False)
        models = refits(model, 20, seed=seed)
        estimate = effect(rows, "t", "y", adjust=["z"], impute=models, seed=seed).effect
        held += estimate.low <= 0.2 <= estimate.high
    return held


@pytest.mark.slow  # 10 minutes
@pytest.mark.parametrize(("n", "least"), [(200, 920), (1_000, 930)])
def test_ninety_five_percent_of_intervals_hold_the_truth(n: int, least: int) -> None:
    assert least <= holding(n, 1_000) <= 975


def test_codes_stay_codes() -> None:
    kinds = {"t": Binary(missing=True), "y": Continuous()}
    model = SCM("t -> y", kinds, {"t": InverseCDF(table=[0.5, 0.5]), "y": Equation("3*t + u")})
    rows = dict(model.sample(400, seed=0))
    rows["t"] = torch.where(torch.arange(400) % 3 == 0, torch.nan, rows["t"].double())
    estimate = effect(rows, "t", "y", adjust=[], impute=model)
    assert estimate.effect.low < 3 < estimate.effect.high


def test_what_cannot_be_filled_is_refused() -> None:
    rows = gapped(60)
    with pytest.raises(ValueError, match="impute: the table has no column 'y', which the model"):
        effect({"z": rows["z"], "t": rows["t"]}, "t", "z", adjust=[], impute=WORLD)
    with pytest.raises(ValueError, match="impute: expected a fitted SCM, or several"):
        effect(rows, "t", "y", adjust=["z"], impute=[])
