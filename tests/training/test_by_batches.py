"""Fits to tables that are read by batches: as those to all rows in memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from rung3 import SCM, Binary, Categorical, Continuous, choose, diagnose, effects, fit
from rung3.data import streamed, streaming
from rung3.data.rows import as_rows
from rung3.mechanisms import AdditiveNoise, Flow, GumbelMax, InverseCDF
from rung3.training import windows
from rung3.training.batches import Batch, Shuffled
from rung3.training.fitting import calibrate

N = 6_000


def frame(n: int = N, seed: int = 0, bend: float = 0.5) -> pd.DataFrame:
    """`x -> ward`, `{x ward} -> cured`, `{x cured} -> y`, sorted by x; y bends in it."""
    chance = np.random.default_rng(seed)
    x = np.sort(chance.normal(1, 2, n))
    ward = np.array(["a", "b", "c"])[(chance.random(n) * 3 * expit(x)).astype(int)]
    cured = (chance.random(n) < expit(0.5 * x - (ward == "b"))).astype(int)
    y = 1 + 3 * x + bend * x**2 - 2 * cured + chance.normal(size=n)
    return pd.DataFrame({"x": x, "ward": ward, "cured": cured, "y": y})


KINDS = {
    "x": Continuous(),
    "ward": Categorical(labels=("a", "b", "c")),
    "cured": Binary(),
    "y": Continuous(),
}


def model(**mechanisms: Any) -> SCM:
    graph = "x -> ward; {x ward} -> cured; {x cured} -> y"
    return SCM(graph, KINDS, mechanisms)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many batches of few rows, and a sample of a quarter of them."""
    monkeypatch.setattr(streaming, "ROWS", 700)
    monkeypatch.setattr(streaming, "PIECE", 1_000)
    monkeypatch.setattr(streaming, "SAMPLE", N // 4)
    monkeypatch.setattr(windows, "WINDOW", 2_000)


def shift(fitted: SCM, do: dict[str, Any], versus: dict[str, Any]) -> float:
    return effects.average(fitted, do, "y", versus=versus, n=10, refits=0, seed=0).effect.item()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("degree", [1, 2])
def test_a_polynomial_is_that_of_all_rows(tmp_path: Path, degree: int) -> None:
    rows = frame(bend=0.5 * (degree - 1))
    rows.to_parquet(tmp_path / "rows.parquet", row_group_size=900)
    mechanisms = {"y": AdditiveNoise(degree=degree)}
    by_batches, in_memory = model(**mechanisms), model(**mechanisms)
    fit(by_batches, streamed(tmp_path / "rows.parquet"), only=["y"], progress=False)
    checked = as_rows(rows, KINDS, torch.device("cpu"))
    calibrate(in_memory, {"y": in_memory.mechanisms["y"]}, checked, seed=0)
    for do, versus in (({"x": 3.0}, {"x": -1.0}), ({"cured": 1}, {"cured": 0})):
        shifts = []
        for one in (by_batches, in_memory):
            given = {"x": 1.0, "cured": 0, "ward": "a"}
            world = one.counterfactual({**given, "y": 2.0}, {**given, **do})["y"]
            shifts.append(world - one.counterfactual({**given, "y": 2.0}, {**given, **versus})["y"])
        assert shifts[0].item() == pytest.approx(shifts[1].item(), rel=1e-4)
    assert by_batches.fitted["y"]["rows"] == N
    assert by_batches.mechanisms["y"].observed == pytest.approx(in_memory.mechanisms["y"].observed)


@pytest.mark.usefixtures("small")
def test_counts_are_of_all_rows() -> None:
    rows = frame()
    kinds = {"ward": KINDS["ward"], "cured": KINDS["cured"]}
    mechanisms = {"ward": GumbelMax(prior=0.5), "cured": InverseCDF(prior=0.5)}
    by_batches, in_memory = (SCM("ward -> cured", kinds, mechanisms) for _ in range(2))
    fit(by_batches, streamed(pa.Table.from_pandas(rows)), progress=False)
    checked = as_rows(rows[["ward", "cured"]], kinds, torch.device("cpu"))
    calibrate(in_memory, in_memory.mechanisms, checked, seed=0)
    for name in kinds:
        one: Any = by_batches.mechanisms[name]
        other: Any = in_memory.mechanisms[name]
        assert torch.allclose(one.logits, other.logits, atol=1e-6)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["ward", "cured"])
def test_a_logistic_line_is_the_optimum_of_all_rows(name: str) -> None:
    rows = frame()
    lines = {"ward": GumbelMax(hidden=()), "cured": InverseCDF(hidden=())}
    fitted = model(**lines)
    fit(fitted, streamed(pa.Table.from_pandas(rows)), only=[name], progress=False)
    features = rows[["x"]].assign(b=rows.ward == "b", c=rows.ward == "c")
    x = features if name == "cured" else features[["x"]]
    expected = LogisticRegression(C=1e10, tol=1e-9, max_iter=2_000).fit(x, rows[name])
    kinds = fitted.mechanisms[name].parents
    values = {k: kind.validate(k, rows[k].to_numpy()) for k, kind in kinds.items()}
    mechanism: Any = fitted.mechanisms[name]
    assert mechanism.log_probs(values, N).exp().numpy() == pytest.approx(
        expected.predict_proba(x), abs=1e-4
    )


@pytest.mark.usefixtures("small")
def test_a_flow_learns_from_minibatches_of_sorted_rows() -> None:
    chance = np.random.default_rng(0)
    x = np.sort(chance.normal(size=10_000))
    table = streamed(pa.table({"x": x, "y": 2 * x + chance.normal(size=10_000)}))
    fitted = SCM("x -> y", mechanisms={"y": Flow(splines=0)})
    history = fit(fitted, table, epochs=4, batch_size=250, progress=False)
    assert list(history.training) == ["y"]
    assert history.training["y"][-1] == pytest.approx(1.42, abs=0.03)  # of a normal: 1.419
    assert shift(fitted, {"x": 1.0}, {"x": 0.0}) == pytest.approx(2.0, abs=0.1)


@pytest.mark.usefixtures("small")
def test_windows_hold_every_row_once_and_go_on_where_they_were_left() -> None:
    table = streamed(pa.table({"x": np.arange(5_300.0)}))
    flow = Flow().bind("x", Continuous(), {})
    whole = windows.WindowedTable(table, {"x": Continuous()}, (), [flow])
    epoch = Shuffled(whole, 100, seed=1)
    batches = [next(epoch).of(flow)[0] for _ in range(2 * len(epoch))]
    first, second = (torch.cat(half) for half in (batches[:53], batches[53:]))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(5_300))
    assert not torch.equal(first, second)
    assert torch.corrcoef(torch.stack([first, torch.arange(5_300.0)]))[0, 1] < 0.9
    later = Shuffled(whole, 100, seed=1)
    later.step = 75
    assert torch.equal(next(later).of(flow)[0], batches[75])


@pytest.mark.usefixtures("small")
def test_a_killed_fit_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    table = streamed(pa.table({k: chance.normal(size=3_000) for k in "xy"}))

    def run(**options: Any) -> list[torch.Tensor]:
        torch.manual_seed(0)
        fitted = SCM("x -> y", mechanisms={"y": Flow(splines=0)})
        fit(fitted, table, epochs=2, batch_size=500, progress=False, **options)
        return list(fitted.mechanisms["y"].parameters())

    expected, following = run(), Shuffled.__next__

    def killed(reader: Shuffled) -> Batch:
        if reader.step == 8:
            raise RuntimeError("killed")
        return following(reader)

    monkeypatch.setattr(Shuffled, "__next__", killed)
    with pytest.raises(RuntimeError, match="killed"):
        run(checkpoints=tmp_path, checkpoint_every=2)
    monkeypatch.setattr(Shuffled, "__next__", following)
    resumed = run(checkpoints=tmp_path, checkpoint_every=2)
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))


@pytest.mark.usefixtures("small")
def test_rows_with_gaps_train_what_they_can() -> None:
    rows = frame(3_000)
    rows.loc[::3, "x"] = np.nan
    kinds = {"x": Continuous(missing=True), "y": Continuous()}
    fitted = SCM("x -> y", kinds, {"y": AdditiveNoise(degree=1)})
    with pytest.warns(UserWarning, match="rows with gaps"):
        fit(fitted, streamed(pa.Table.from_pandas(rows)), progress=False)
    assert (fitted.fitted["x"]["rows"], fitted.fitted["y"]["rows"]) == (2_000, 2_000)


@pytest.mark.usefixtures("small")
def test_mechanisms_are_chosen_and_diagnosed_on_a_stated_sample() -> None:
    chance = np.random.default_rng(1)
    x = chance.normal(size=N)
    table = streamed(pa.table({"x": x, "y": 3 * x + chance.normal(size=N)}))
    choice = choose(SCM("x -> y"), table)
    assert choice.chosen["y"] == "AdditiveNoise(degree=1)"
    assert str(choice).startswith(f"judged on a sample of {N // 4:,} of {N:,} rows")
    fitted = SCM("x -> y")
    assert fit(fitted, table, seed=0, progress=False).chosen["y"] == "AdditiveNoise(degree=1)"
    assert fitted.fitted["y"]["rows"] == N
    assert all(one.rows == N // 4 and one.independent for one in diagnose(fitted, table))


def test_bad_input_is_named_before_a_pass() -> None:
    rows = pa.table({"x": [0.0, 1.0, 2.0], "y": [1.0, 2.0, 4.0]})
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (SCM("x <-> y"), {}, "hidden causes join"),
        (SCM("x -> y -> z"), {"epochs": 1}, "z: not in the training rows"),
        (SCM("x -> y"), {"patience": 2}, "give validation rows"),
        (SCM("x -> y"), {"objective": "counterfactual"}, "rows in memory"),
        (SCM("x -> y", {"x": Continuous(dim=2)}), {}, "numbers and categories"),
        (SCM("x -> y", {"y": Categorical(3)}), {"epochs": 1}, "4 is not a category"),
    ]
    for one, options, message in cases:
        with pytest.raises(ValueError, match=message), warnings.catch_warnings(action="ignore"):
            fit(one, streamed(rows), **{"progress": False, **options})
    with pytest.raises(ValueError, match="can be read once"):
        fit(SCM("x -> y"), streamed(rows.to_reader()), epochs=1, progress=False)
    with pytest.raises(ValueError, match="hands out no Arrow batches"):
        streamed({"x": [1.0]})
