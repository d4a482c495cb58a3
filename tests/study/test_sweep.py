"""Sweeps: which studies they are, what is refused before anything is trained, and the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from rung3.cli import app
from rung3.evaluation.measures.stability import disagreement
from rung3.evaluation.plan import plan
from rung3.study.comparison import compare_runs, replicates
from rung3.study.folder import RunFolder
from rung3.study.study import Study
from rung3.study.sweep import studies, sweep

CHAIN: dict[str, Any] = {
    "name": "chain",
    "data": {"kind": "table", "path": "rows.csv", "test": "test.csv"},
    "graph": "x -> y",
    "mechanisms": {"x": "u", "y": "2*x + u"},
    "training": {"epochs": 1, "batch_size": 64},
    "evaluation": {"interventions": {"x": 1}, "particles": 1, "bootstrap": 50},
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for name, rows in (("rows", 60), ("test", 30), ("other", 30)):
        x = torch.randn(rows)
        pairs = zip(x.tolist(), (2 * x + torch.randn(rows)).tolist(), strict=True)
        lines = "\n".join(f"{a:.6f},{b:.6f}" for a, b in pairs)
        (tmp_path / f"{name}.csv").write_text(f"x,y\n{lines}\n")
    path = tmp_path / "chain.yaml"
    path.write_text(yaml.safe_dump(CHAIN), encoding="utf-8")
    return path


def call(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


def test_a_study_for_each_value_named_by_it(study: Path) -> None:
    variants = studies(study, ["training.lr=1e-3, 0.1"], ["training.epochs=3"])
    assert list(variants) == ["lr=1e-3", "lr=0.1"]
    assert [one.training.lr for one in variants.values()] == [1e-3, 0.1]
    assert {one.training.epochs for one in variants.values()} == {3}


def test_several_settings_give_all_combinations(study: Path) -> None:
    variants = studies(study, ["training.lr=0.1,1", "training.epochs=1,2"])
    assert list(variants) == [
        "lr=0.1,epochs=1",
        "lr=0.1,epochs=2",
        "lr=1,epochs=1",
        "lr=1,epochs=2",
    ]
    assert variants["lr=1,epochs=2"].training.epochs == 2


def test_whole_parts_can_be_varied(study: Path) -> None:
    variants = studies(study, ["mechanisms.y={kind: Flow, bins: 4},2*x + u,{kind: Flow}"])
    assert list(variants) == ["y=kind-Flow-bins-4", "y=2-x-+-u", "y=kind-Flow"]
    kinds = [type(one.model().mechanisms["y"]).__name__ for one in variants.values()]
    assert kinds == ["Flow", "Equation", "Flow"]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        (["training.lr=0.1"], "expected two values or more.*got training.lr=0.1"),
        ([], "expected two values or more.*got nothing"),
        (["training.lr"], "--vary training.lr: expected key=value,value"),
        (["training.lr=[0.1,"], "--vary training.lr=.*: not YAML"),
        (["training.lr=0.1,0.1"], "lr=0.1 is given twice"),
        (["training.lrr=0.1,1"], "training.lrr: unknown key 'lrr'; did you mean 'lr'"),
        (["training.lr=0.1,-1"], "training.lr: .*greater than 0"),
        (["seed=0,1"], "seed=1 differs from seed=0 in seed: .*vary mechanisms, training, data"),
        (["evaluation.interventions=[x],[y]"], "differs from .* in evaluation"),
        (["data.test=test.csv,other.csv"], "test=other.csv has other test rows than test=test.csv"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    study: Path, tmp_path: Path, vary: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sweep(study, vary, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_data_may_be_varied_where_the_test_rows_stay(study: Path) -> None:
    assert len(studies(study, ["data.validation=0.05,0.2"])) == 2


def test_finished_runs_are_kept_and_other_things_are_not_touched(
    study: Path, tmp_path: Path
) -> None:
    messages: list[str] = []
    vary = ["mechanisms.y=2*x + u,3*x + u"]
    folders = sweep(study, vary, tmp_path / "runs", say=messages.append)
    assert [RunFolder(path).finished for path in folders.values()] == [True, True]
    first = next(iter(folders.values()))
    written = (first / "metrics.json").stat().st_mtime_ns
    (first.parent / "y=3-x-+-u" / "metrics.json").unlink()
    assert sweep(study, vary, tmp_path / "runs", say=messages.append) == folders
    assert (first / "metrics.json").stat().st_mtime_ns == written
    assert any("1 of 2: y=2-x-+-u is finished" in line for line in messages)
    with pytest.raises(ValueError, match=r"differs in training; .*--out.*--overwrite"):
        sweep(study, vary, tmp_path / "runs", ["training.epochs=2"])
    assert (first / "metrics.json").stat().st_mtime_ns == written


def test_the_commands_compare_what_the_sweep_ran(study: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done = call("sweep", study, "--vary", "mechanisms.y=2*x + u,3*x + u", "--out", runs)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == f"page: {runs / 'comparison.html'}"
    folders = [runs / "y=2-x-+-u", runs / "y=3-x-+-u"]
    repeated = call("compare", *folders, "--out", tmp_path / "page")
    assert "2 models, the same questions" in repeated.stdout
    assert "Log-density of the test rows" in repeated.stdout
    numbers = json.loads((tmp_path / "page" / "comparison.json").read_text())
    assert numbers["log_prob"]["y"]["model"]["best"] == ["y=2-x-+-u"]
    for name, message in (("me", "expected one of melistas2024"), ("melistas2024", "only x, y")):
        words = ("sweep", study, "--vary", "training.seed=0,1", "--published", name)
        early = call(*words, "--out", tmp_path / "never")
        assert early.exit_code == 2
        assert message in " ".join(early.stderr.split())
        assert not (tmp_path / "never").exists()
    refused = call("tradeoff", *folders)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: tradeoff: no intervention has composition")
    for given in ([runs / "nowhere", folders[0]], [folders[0]]):
        result = call("compare", *given)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1


# Stability


def test_another_seed_of_training_learns_the_same_rows_anew(study: Path) -> None:
    one, two, same = studies(
        study, ["training.seed=0,1,null"], ["mechanisms.y={kind: Flow}"]
    ).values()

    def rows(study: Study) -> list[torch.Tensor]:
        splits = study.splits()
        return [part["y"] for part in (splits.train, splits.validation, splits.test)]

    def weights(study: Study) -> torch.Tensor:
        return torch.cat([p.flatten() for p in study.model().parameters()])

    assert all(torch.equal(a, b) for a, b in zip(rows(one), rows(two), strict=True))
    assert not torch.equal(weights(one), weights(two))
    assert torch.equal(weights(one), weights(same))


def test_runs_of_other_training_seeds_are_compared_by_their_disagreement(
    study: Path, tmp_path: Path
) -> None:
    flow = ["mechanisms.y={kind: Flow, bins: 4}", "evaluation.interventions=[x]"]
    folders = sweep(study, ["training.seed=0,1,2", "training.lr=0.1,0.01"], tmp_path / "runs", flow)
    assert len(replicates({name: RunFolder(path) for name, path in folders.items()})) == 2
    chosen = {name: path for name, path in folders.items() if name.endswith("lr=0.1")}
    path = ("stability", "do(x)", "y", "other seeds")
    entry = compare_runs(chosen).entries[path]
    models = [RunFolder(path).model() for path in chosen.values()]
    rows, _ = RunFolder(next(iter(chosen.values()))).test()
    query = plan(models[0], rows, rows.n, ["x"], 0)[0]
    expected = disagreement(models, rows, query.do, ["y"], seed=0)["y"].mean()
    means = [run["mean"] for run in entry["runs"].values()]
    assert len(set(means)) == 3
    assert sum(means) / 3 == pytest.approx(float(expected), rel=1e-4)
    assert float(expected) > 0.01
    others = compare_runs([folders["seed=0,lr=0.1"], folders["seed=0,lr=0.01"]]).entries
    assert path not in others  # another rate is no other seed


def test_stress_runs_a_study_with_each_arrow_and_each_label_wrong(study: Path) -> None:
    variants = studies(study, [], ["mechanisms={}", "evaluation.interventions=[x]"], stress=0.25)
    wrong = ["without x to y", "y to x", "25% of x wrong", "25% of y wrong"]
    assert list(variants) == ["as it is", *wrong]
    assert variants["y to x"].model().graph.parents("x") == ("y",)
    assert variants["as it is"].graph == CHAIN["graph"]
    assert variants["25% of y wrong"].training.mislabelled == {"y": 0.25}
    with pytest.warns(UserWarning, match=r"stress: .* is left out: .*arguments are"):
        left = studies(study, [], ["evaluation.interventions=[x]"], stress=0.25)
    assert list(left) == ["as it is", "25% of x wrong", "25% of y wrong"]
    with pytest.raises(ValueError, match=r"another graph than as it is.*evaluation\.interventions"):
        studies(study, [], ["mechanisms={}", "evaluation.interventions=null"], stress=0.25)


@pytest.mark.slow
def test_under_stress_a_model_loses_what_the_arrow_and_the_labels_told_it(
    study: Path, tmp_path: Path
) -> None:
    """A line fitted to noise has no slope: its counterfactual stays where the row was."""
    learned = ["mechanisms={}", "training.epochs=60", "evaluation.interventions={x: 1}"]
    folders = sweep(study, [], tmp_path / "runs", learned, stress=0.9)
    rows, _ = RunFolder(folders["as it is"]).test()

    def moved(label: str) -> float:
        model = RunFolder(folders[label]).model()
        answer = model.counterfactual(rows, {"x": lambda x: x + 1}, seed=0)
        return float((answer["y"] - rows["y"]).mean())

    assert moved("as it is") == pytest.approx(2, abs=0.5)
    assert moved("without x to y") == moved("y to x") == 0
    assert abs(moved("90% of y wrong")) < 0.7
    assert compare_runs(folders).entries["log_prob", "y", "model"]["best"][0] == "as it is"
