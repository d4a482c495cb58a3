"""Columns far from zero for their width: answers do not depend on where zero is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rung3 import SCM, CausalGraph, Continuous, fit, load
from rung3.data.precision import held
from rung3.effects.tables import association, effect, find_reversals
from rung3.evaluation.tasks import changes
from rung3.graph import falsify
from rung3.mechanisms import AdditiveNoise, Equation, Flow
from rung3.mechanisms.base import Mechanism
from rung3.mechanisms.networks.encoding import Standardise

UNIX = 1.7e9


@pytest.mark.parametrize(
    ("values", "double"),
    [
        ([1.0, 2.5, -3.0], False),
        ([50_000.0, 80_000.0], False),
        ([0.1], False),
        ([UNIX, UNIX + 1], True),
        ([1e5, 1e5 + 0.01, float("nan")], True),
        ([UNIX], True),
        ([1e-9, 2e-9], False),
        ([5.0, 5.0], False),
    ],
)
def test_double_is_for_what_single_precision_would_blur(values: list[float], double: bool) -> None:
    stored = held(torch.tensor(values, dtype=torch.float64), 0)
    assert stored.dtype == (torch.float64 if double else torch.float32)
    torch.testing.assert_close(stored.double(), torch.tensor(values).double(), equal_nan=True)


def test_a_variable_keeps_what_it_is_given() -> None:
    seconds = [1_700_000_001, 1_700_000_002]
    assert Continuous().validate("t", seconds).tolist() == seconds
    assert Continuous().validate("t", UNIX + 5).item() == UNIX + 5
    assert Continuous(dim=2).validate("t", [[0.0, UNIX], [1.0, UNIX + 1]])[1, 1] == UNIX + 1


def table(offset: float, n: int = 2_000) -> dict[str, np.ndarray]:
    """A treatment, its confounder and the outcome, both in seconds; the effect is 2."""
    rng = np.random.default_rng(0)
    t = rng.normal(size=n)
    b = (rng.random(n) < 1 / (1 + np.exp(-t))).astype(int)
    return {"b": b, "t": offset + t, "y": offset + 2 * b + 3 * t + rng.normal(size=n)}


def test_statistics_of_a_table_do_not_know_where_zero_is() -> None:
    near, far = table(0), table(UNIX)
    estimates = [effect(t, "b", "y", adjust=["t"]).effect for t in (near, far)]
    assert estimates[1].value == pytest.approx(2, abs=0.15)
    assert (estimates[1].value, estimates[1].low) == pytest.approx(
        (estimates[0].value, estimates[0].low), abs=1e-6
    )
    whole = [association(torch.tensor(t["t"]), torch.tensor(t["y"])) for t in (near, far)]
    assert whole[0] is not None
    assert whole[1] is not None
    assert whole[1].slope == pytest.approx(whole[0].slope, abs=1e-6)
    assert len(find_reversals(far, "t", "y", "b")) == len(find_reversals(near, "t", "y", "b"))


def test_tests_of_a_graph_do_not_know_where_zero_is() -> None:
    graph = CausalGraph("t -> b; t -> y")
    p = [[one.p for one in falsify(graph, table(offset)).findings] for offset in (0, UNIX)]
    assert p[1] == pytest.approx(p[0], rel=1e-3)
    assert max(p[0]) < 1e-6  # b causes y
    arrows = CausalGraph("t -> y; t -> b; b -> y")
    p_values = [
        [one.p for one in changes(table(offset), table(offset + 1), arrows)] for offset in (0, UNIX)
    ]
    assert p_values[1] == pytest.approx(p_values[0], rel=1e-3, abs=1e-9)


@pytest.fixture(scope="module")
def times() -> dict[str, np.ndarray]:
    """`y = 2 x - t + noise`, with t and y unix times, and t in units of 100 s."""
    rng = np.random.default_rng(0)
    n = 800
    t = 100 * rng.normal(size=n)
    x = t / 100 + rng.normal(size=n)
    return {"t": UNIX + t, "x": x, "y": UNIX + 2 * x - t / 100 + 0.3 * rng.normal(size=n)}


@pytest.mark.parametrize(
    "family",
    [
        lambda: Flow(splines=0),
        lambda: AdditiveNoise(degree=1),
        lambda: AdditiveNoise(regressor=Least()),
    ],
    ids=["flow", "polynomial", "regressor"],
)
def test_counterfactuals_of_unix_times(
    times: dict[str, np.ndarray], family: Callable[[], Mechanism], tmp_path: Path
) -> None:
    model = SCM("t -> x; {t x} -> y", mechanisms={"y": family()})
    fit(model, times, epochs=10, batch_size=80, seed=0, progress=False)
    rows = {name: column[:50] for name, column in times.items()}
    y = torch.tensor(rows["y"])

    def moved(model: SCM, **do: np.ndarray) -> Tensor:
        return model.counterfactual(rows, do=do)["y"] - y

    unchanged = model.counterfactual(rows, do={"x": rows["x"]})["y"]
    assert float((unchanged - y).abs().max()) < 1e-4
    assert float((moved(model, x=rows["x"] + 1) - 2).abs().max()) < 0.35
    assert float(moved(model, t=rows["t"] + 100, x=rows["x"]).mean()) == pytest.approx(-1, abs=0.2)
    one = {name: float(column[0]) for name, column in rows.items()}
    single = model.counterfactual(one, do={"x": one["x"] + 1})["y"].item() - one["y"]
    assert single == pytest.approx(float(moved(model, x=rows["x"] + 1)[0]), abs=1e-4)
    assert model.sample(500, seed=0)["y"].std().item() == pytest.approx(times["y"].std(), rel=0.2)
    assert not model.counterfactual(rows, do={"x": 0.0}).explain().outside.get("t")
    if not isinstance(model.mechanisms["y"], AdditiveNoise) or not model.mechanisms["y"].regressor:
        loaded = load(model.save(tmp_path / "model"))
        assert torch.equal(moved(loaded, x=rows["x"] + 1), moved(model, x=rows["x"] + 1))


class Least:
    """Least squares on the columns as they are, centred."""

    def fit(self, features: np.ndarray, target: np.ndarray) -> None:
        self.at = features.mean(0), target.mean()
        away = features - self.at[0]
        self.slopes = np.linalg.lstsq(away, target - self.at[1], rcond=None)[0]

    def predict(self, features: np.ndarray) -> np.ndarray:
        return self.at[1] + (features - self.at[0]) @ self.slopes


def test_statistics_in_double_survive_a_change_of_type() -> None:
    module = Standardise()
    module.calibrate(torch.tensor([UNIX, UNIX + 2, UNIX + 4], dtype=torch.float64))
    for kind in (torch.float64, torch.float32):
        module.to(kind)
        assert module.loc.item() == UNIX + 2
        assert module.scale.dtype == kind
    copy = Standardise()
    copy.load_state_dict(module.state_dict())
    assert copy.loc.item() == UNIX + 2
    plain = Standardise()
    plain.calibrate(torch.tensor([1.0, 2.0]))
    assert plain.double().float().loc.dtype == torch.float32


@pytest.mark.parametrize("text", ["2*x + 1.7e9 + u", lambda x, u: 2 * x + 1.7e9 + u])
def test_equations_with_an_offset(text: str | Callable[..., Tensor]) -> None:
    model = SCM(x=Equation("u"), y=Equation(text))
    rows = model.sample(200, seed=0)
    moved = model.counterfactual(rows, do={"x": lambda x: x + 1})["y"] - rows["y"]
    assert float((moved - 2).abs().max()) < 1e-5


def test_one_time_for_all_rows_is_set_as_exactly_as_one_a_row(times: dict[str, np.ndarray]) -> None:
    model = SCM("t -> x; {t x} -> y", mechanisms={"y": AdditiveNoise(degree=1)})
    fit(model, times, epochs=10, batch_size=80, seed=0, progress=False)
    row = {name: float(column[0]) for name, column in times.items()}
    for do in (row["t"], torch.tensor(row["t"], dtype=torch.float64), np.float64(row["t"])):
        assert model.counterfactual(row, do={"t": do})["y"].item() == pytest.approx(row["y"], 1e-13)
    later = model.counterfactual(row, do={"t": row["t"] + 100, "x": row["x"]})["y"].item()
    assert later - row["y"] == pytest.approx(-1, abs=0.1)
    assert model.do(t=UNIX + 5).sample(3, seed=0)["t"].tolist() == [UNIX + 5] * 3
