"""Effects of tables that are read by batches: as those of all rows in memory, with their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from effect_studies import STUDIES
from scipy.special import expit

from rung3 import SCM, Binary, Continuous, effect, effects
from rung3.data import streamed, streaming
from rung3.data.rows import Rows
from rung3.effects.tables import by_batches, cells
from rung3.effects.tables.sample import Sample
from rung3.mechanisms import Equation

NEEDING_ROWS = {"clusters", "survey weights", "aipw, cross-fitted", "dose, contrast"}
NEEDING_ROWS |= {"dose, derivative", "censored times", "missing outcome", "missing confounder"}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many batches of few rows."""
    monkeypatch.setattr(streaming, "ROWS", 170)
    monkeypatch.setattr(cells, "AT_ONCE", 2)


def coarse(name: str, n: int = 1_500, keep: str = "y") -> tuple[dict[str, Any], dict[str, Any]]:
    """A study's rows, numbers but one rounded to halves, and its options."""
    study = STUDIES[name]
    table = study.draw(np.random.default_rng(1), n)
    rounded = {
        k: np.round(2 * v) / 2 if v.dtype.kind == "f" and k != keep else v for k, v in table.items()
    }
    return rounded, {"treatment": study.names[0], "outcome": study.names[1], **study.options}


def flat(answer: Any) -> list[float]:
    parts = [answer.effect, *(answer.means or ()), answer.ratio, answer.odds_ratio]
    parts += answer.groups.values()
    return [float(x) for one in parts if one for x in (one.value, one.low, one.high)]


@pytest.mark.parametrize(
    "name",
    [
        *sorted(set(STUDIES) - NEEDING_ROWS - {"ID formula (napkin)"}),
        pytest.param("ID formula (napkin)", marks=pytest.mark.slow),
    ],
)
def test_an_effect_is_that_of_all_rows(name: str) -> None:
    table, options = coarse(name)
    by_batches = effect(streamed(pa.table(table)), **options)
    in_memory = effect(table, **options)
    assert flat(by_batches) == pytest.approx(flat(in_memory), rel=1e-6)
    assert (by_batches.n, by_batches.way) == (in_memory.n, in_memory.way)
    if in_memory.strength is not None:
        assert by_batches.strength == pytest.approx(in_memory.strength, rel=1e-6)
    assert by_batches.least == pytest.approx(in_memory.least, nan_ok=True)


@pytest.mark.parametrize("method", ["standardise", "ipw", "aipw"])
@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_an_effect_by_passes_follows_the_unit(
    method: str, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "MOST_CELLS", 20)  # more than so many, and rows are read in passes
    table = STUDIES["aipw"].draw(np.random.default_rng(0), 1_000)
    options: dict[str, Any] = {**STUDIES["aipw"].options, "method": method}
    here = effect(streamed(pa.table(table)), "t", "y", **options)
    moved = effect(streamed(pa.table(table | {"y": table["y"] * size})), "t", "y", **options)
    assert [x / size for x in flat(moved)[:3]] == pytest.approx(flat(here)[:3], rel=1e-6)


def test_labels_groups_terms_and_gaps_are_those_of_all_rows() -> None:
    chance = np.random.default_rng(0)
    age, drug = chance.integers(20, 60, 3_000).astype(float), chance.choice(["new", "old"], 3_000)
    sex = chance.choice(["f", "m", "x"], 3_000)
    y = 1e6 + 0.1 * age + (drug == "new") * (sex == "f") + chance.normal(size=3_000)
    age[::7] = np.nan
    table = pd.DataFrame({"age": age, "drug": drug, "sex": sex, "y": y})
    options: dict[str, Any] = {"do": "new", "versus": "old", "adjust": ["age"], "by": "sex"}
    options |= {"degree": 2, "terms": ["age * age"]}
    answers = [effect(one, "drug", "y", **options) for one in (table, streamed(pa.table(table)))]
    assert flat(answers[1]) == pytest.approx(flat(answers[0]), rel=1e-6)
    assert answers[1].gaps == answers[0].gaps == 429
    assert answers[1].kinds == answers[0].kinds


def test_two_rows_stand_for_all_outcomes_of_a_cell() -> None:
    table = pa.table({"t": [0, 0, 0, 1], "y": [1.0, 2.0, 6.0, 4.0]})
    found = cells.cells_of(streamed(table), ["t", "y"], "y", {"y": Continuous()})
    assert found is not None
    columns, counts, gaps = found
    assert (columns["t"].tolist(), counts.tolist(), gaps) == ([0, 1, 0], [1.5, 1.0, 1.5], 0)
    spread = np.sqrt(14 / 3)
    assert columns["y"] == pytest.approx([3 - spread, 4, 3 + spread])


def test_averages_over_rows_are_those_of_mediation() -> None:
    model = SCM(x=Equation("u"), m=Equation("x + u"), y=Equation("x*m + exp(u)"))
    rows = model.sample(1_000, seed=0)
    table = pa.table({name: value.numpy() for name, value in rows.items()})
    averages = effects.mediate_over(model, table, {"x": 1.0}, "y", "m", versus={"x": 0.0})
    expected = effects.mediate(model, rows, {"x": 1.0}, "y", "m", versus={"x": 0.0}).average()
    for name in ("direct", "indirect", "total", "interaction"):
        one, other = getattr(averages, name), getattr(expected, name)
        values = [(float(e.value), float(e.low), float(e.high)) for e in (one, other)]
        assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert averages.total.n == 1_000


def test_averages_of_yes_and_no_over_rows_with_gaps() -> None:
    model = SCM(
        "x -> m -> y",
        {"x": Continuous(missing=True), "y": Binary()},
        {"x": Equation("u"), "m": Equation("2*x + u")},
    )
    rows = model.sample(1_000, seed=0)
    table = pa.table({name: value.numpy() for name, value in rows.items()})
    gap = table.set_column(0, "x", pa.array([None, *rows["x"].tolist()[1:]]))
    averages = effects.mediate_over(model, gap, {"x": 1.0}, "y", "m", versus={"x": 0.0}, seed=1)
    assert (averages.total.n, averages.total.gaps) == (999, 1)
    by_hand = effects.mediate(model, Rows(dict(rows)), {"x": 1.0}, "y", "m", versus={"x": 0.0})
    assert averages.total.effect.item() == pytest.approx(
        by_hand.total.double().mean().item(), abs=0.08
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "z"}, "weights: not of a table"),
        ({"missing": "weight"}, "missing: not of a table"),
        ({"adjust": ["q"]}, "unknown column 'q'"),
        ({"by": "w"}, "by: w is a number"),
        ({"treatment": "z", "adjust": []}, "expected a category; cut it into levels"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], message: str) -> None:
    table, given = coarse("aipw")
    with pytest.raises(ValueError, match=message):
        effect(streamed(pa.table(table)), **{**given, **options})


def test_a_sample_stands_for_its_counts() -> None:
    sample = Sample.read({"t": [0, 1, 1], "y": [0.5, 1.5, 2.5]}, None, "t", "y", [])
    counted = sample.counted(torch.tensor([4.0, 1.0, 1.0]).double())
    assert (counted.n, counted.total, counted.weights.tolist()) == (3, 6, [2.0, 0.5, 0.5])


BY_PASSES = [
    name for name in STUDIES if name.split(",")[0] in ("standardise", "ipw", "aipw", "instrument")
    or name in ("front door, slopes", "instruments, three")
]  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(BY_PASSES) - NEEDING_ROWS))
def test_of_numbers_of_many_values_it_is_that_of_all_rows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regressions in passes: their units and first values are a sample's of a third of the rows."""
    monkeypatch.setattr(by_batches, "cells_of", lambda *_: None)
    monkeypatch.setattr(streaming, "SAMPLE", 500)
    study = STUDIES[name]
    table = study.draw(np.random.default_rng(1), 1_500)
    in_memory = effect(table, *study.names, **study.options)
    passed = effect(streamed(pa.table(table)), *study.names, **study.options)
    assert flat(passed) == pytest.approx(flat(in_memory), rel=1e-5)
    assert passed.n == in_memory.n == 1_500


def test_batches_without_the_event_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "MOST_CELLS", 50)
    chance = np.random.default_rng(0)
    z, t = chance.normal(size=1_000), chance.integers(0, 2, 1_000)
    y = chance.choice([0.0, 1.5, 3.0], 1_000)
    y[:300] = chance.choice([3.0, 7.5], 300)
    table = pd.DataFrame({"z": z, "t": t, "y": y})
    kinds = {"y": Continuous()}
    answers = [
        effect(one, "t", "y", adjust=["z"], event=7.5, variables=kinds)
        for one in (table, streamed(pa.table(table)))
    ]
    assert flat(answers[1]) == pytest.approx(flat(answers[0]), rel=1e-5)
    with pytest.raises(ValueError, match="y is 9 in no row"):
        effect(streamed(pa.table(table)), "t", "y", adjust=["z"], event=9, variables=kinds)


def test_a_binary_outcome_with_gaps_by_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "MOST_CELLS", 50)
    monkeypatch.setattr(streaming, "SAMPLE", 500)
    chance = np.random.default_rng(0)
    z = chance.normal(size=2_000)
    t = (chance.random(2_000) < expit(z)).astype(int)
    y = np.where(chance.random(2_000) < expit(t - z), "ill", "well")
    z[::9] = np.nan
    table = pd.DataFrame({"z": z, "t": t, "y": y})
    options: dict[str, Any] = {"adjust": ["z"], "event": "ill", "degree": 2, "estimand": "ATT"}
    answers = [effect(one, "t", "y", **options) for one in (table, streamed(pa.table(table)))]
    assert flat(answers[1]) == pytest.approx(flat(answers[0]), rel=1e-5)
    assert answers[1].gaps == answers[0].gaps == 223
    with pytest.raises(ValueError, match="by: not where z, y have so many"):
        effect(streamed(pa.table(table)), "t", "y", **{**options, "by": "y"})
