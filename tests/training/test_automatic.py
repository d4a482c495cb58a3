"""`fit` of a table of which nothing is said but its graph: mechanisms are chosen."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from rung3 import SCM, Binary, Continuous, Image, fit
from rung3.mechanisms import Equation, Flow
from rung3.study.check import check
from rung3.study.folder import RunFolder
from rung3.study.run import run_study
from rung3.study.study import Study
from rung3.training.automatic import is_chosen
from rung3.training.choice import Fitting

LINE = SCM(x=Equation("u"), y=Equation("1.5*x + u"))


def test_lines_are_found_and_err_as_little_as_least_squares_would() -> None:
    rows = dict(LINE.sample(600, seed=0))
    model = SCM(LINE.graph)
    history = fit(model, rows, seed=0)
    assert history.chosen["y"] == "AdditiveNoise(degree=1)" == model.mechanisms["y"].describe()
    assert not model.training
    assert "(default of its kind)" not in str(model)
    told = model.counterfactual({"x": 0.0, "y": 0.0}, do={"x": 1.0})
    assert told["y"].item() == pytest.approx(1.5, abs=0.1)
    assert model.relearn is not None
    assert float(model.relearn(3, ["y"]).sample(10, seed=0)["y"].std()) > 0
    assert not is_chosen(model, rows)  # another fit trains on


@pytest.mark.parametrize(
    "case", ["few rows", "options", "named", "image", "hidden", "constant", "roots", "gaps", "none"]
)
def test_where_there_is_nothing_to_choose_by_it_trains_what_it_has(case: str) -> None:
    rows: dict[str, Any] = {"x": torch.randn(500), "y": torch.randn(500)}
    model = SCM("x -> y")
    match case:
        case "few rows":
            rows = {name: column[:399] for name, column in rows.items()}
        case "named":
            model = SCM("x -> y", mechanisms={"x": Flow(), "y": Flow()})
        case "image":
            model = SCM("x -> y", {"y": Image(1, 4, 4)})
        case "hidden":
            model = SCM("x -> y; x <-> y")
        case "constant":
            rows["x"] = torch.ones(500)
        case "roots":
            model = SCM("x; y")
        case "gaps":
            model = SCM("x -> y", {"x": Continuous(missing=True)})
            rows["x"][:200] = torch.nan
    assert is_chosen(model, rows) == (case in ("options", "none"))
    if case == "options":
        history = fit(model, rows, epochs=1, progress=False)
        assert history.chosen == {}
        assert model.mechanisms["y"].describe() == "Flow()"


def test_what_was_set_is_refused_before_anything_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("rung3.training.automatic.choose")
    rows = {name: torch.randn(500) for name in "xy"}
    with pytest.raises(ValueError, match=r"fit the model before do\(x=\.\.\.\)"):
        fit(SCM("x -> y").do(x=1.0), rows)


def test_a_model_in_double_stays_so() -> None:
    model = SCM(LINE.graph).double()
    fit(model, {name: column.double() for name, column in LINE.sample(400, seed=0).items()})
    assert model.dtype == torch.float64


def test_text_is_read_once_with_one_warning() -> None:
    rows = {"drug": ["no", "yes"] * 250, "cured": [0, 0, 1, 1] * 125}
    model = SCM("drug -> cured")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, rows)
    assert sum("not declared" in str(one.message) for one in caught) == 1
    assert model.variables["cured"] == Binary()


def test_batches_grow_with_rows() -> None:
    from rung3 import Rows

    fitting = Fitting(400, None, {})
    sizes = {
        n: fitting.training(Rows({"x": torch.empty(n)}), 0.5) for n in (800, 20_000, 1_000_000)
    }
    assert [one["batch_size"] for one in sizes.values()] == [100, 1_024, 5_000]
    assert sizes[1_000_000]["epochs"] == 1
    assert Fitting(400, 256, {}).training(Rows({"x": torch.empty(10**6)}))["batch_size"] == 256


def test_a_study_of_a_table_that_does_not_say_how_to_train_chooses(tmp_path: Path) -> None:
    rows = LINE.sample(700, seed=0).to_frame()
    rows.to_csv(tmp_path / "rows.csv", index=False)
    text = (
        "name: line\ndata: {kind: table, path: rows.csv, test: 0.2}\ngraph: x -> y\n"
        "evaluation: {interventions: {x: 1}, bootstrap: 0}\n"
    )
    (tmp_path / "study.yaml").write_text(text)
    study = Study.load(tmp_path / "study.yaml")
    found = check(study)
    assert found.chosen
    assert found.warnings() == []
    said: list[str] = []
    report = run_study(study, tmp_path / "run", say=said.append)
    assert "choosing mechanisms by 532 rows" in said
    model = RunFolder(tmp_path / "run").model()
    assert model.mechanisms["y"].describe() == "AdditiveNoise(degree=1)"
    assert model.defaults == frozenset()
    assert report.verdict.mark("learned") == "yes"
    trained = Study.load(tmp_path / "study.yaml", settings=["training.epochs=1"])
    assert not check(trained).chosen
