"""Studies: what a file may say, and what running one leaves behind."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Pictures
from torture import IMAGES

from rung3 import load
from rung3.evaluation import Oracles
from rung3.mechanisms import Equation, Flow
from rung3.study.check import check
from rung3.study.folder import RunFolder
from rung3.study.run import run_study, saved_oracles
from rung3.study.study import Study
from rung3.training.counterfactual import CounterfactualObjective

STUDIES = Path(__file__).resolve().parents[2] / "studies"

TABLE: dict[str, Any] = {
    "name": "chain",
    "seed": 3,
    "data": {"kind": "table", "path": "rows.csv", "test": 0.2, "validation": 0.1},
    "graph": "x -> y; {x y} -> group",
    "variables": {"group": {"kind": "Binary", "labels": ["no", "yes"]}},
    "mechanisms": {"y": "2*x + u"},
    "training": {"epochs": 1, "batch_size": 64, "mechanisms": {"group": {"epochs": 2}}},
    "evaluation": {
        "interventions": {"x": 1, "both": {"x": "x + 1", "group": "yes"}},
        "particles": 2,
        "bootstrap": 10,
    },
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder with a small table and its study."""
    x = torch.randn(300)
    y = 2 * x + torch.randn(300)
    group = ["yes" if value > 0 else "no" for value in (x + y).tolist()]
    lines = [f"{a:.6f},{b:.6f},{g}" for a, b, g in zip(x.tolist(), y.tolist(), group, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["x,y,group", *lines]))
    return write(tmp_path, TABLE)


def write(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def changed(**parts: Any) -> dict[str, Any]:
    return {k: v for k, v in (TABLE | parts).items() if v is not None}


@pytest.mark.parametrize("name", ["digits", "morphomnist"])
def test_the_studies_that_come_with_rung3_are_valid(name: str) -> None:
    study = Study.load(STUDIES / f"{name}.yaml")
    assert study.name == name
    assert set(study.declared()) == {"digit", "thickness", "intensity", "image"}


def test_a_study_makes_its_model(table: Path) -> None:
    model = Study.load(table).model()
    kinds = {name: type(mechanism) for name, mechanism in model.mechanisms.items()}
    assert kinds["x"] is Flow
    assert kinds["y"] is Equation
    assert model.defaults == {"x", "group"}


def test_the_seed_gives_the_weights_and_leaves_torchs_own_state(table: Path) -> None:
    study, state = Study.load(table), torch.get_rng_state()
    first, second = study.model().state_dict(), study.model().state_dict()
    assert all(first[k].nan_to_num().equal(second[k].nan_to_num()) for k in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_splits_are_disjoint_and_the_seeds_own(table: Path) -> None:
    study = Study.load(table)
    train, validation, test, truth = study.splits()
    assert validation is not None
    assert truth is None
    assert (train.n, validation.n, test.n) == (216, 24, 60)
    everything = torch.cat([train["x"], validation["x"], test["x"]])
    assert len(everything.unique()) == 300
    torch.testing.assert_close(test["x"], study.data.test_rows(study.declared(), 3)["x"])
    other = Study.load(table, ["seed=4"]).splits().test
    assert not torch.equal(other["x"], test["x"])


def test_columns_of_other_names_and_a_test_table_of_its_own(table: Path) -> None:
    (table.parent / "later.csv").write_text("ex,why,group\n1,2,no\n3,4,yes\n")
    (table.parent / "rows.csv").write_text("ex,why,group\n" + "1,2,no\n0,1,yes\n" * 10)
    columns = {"x": "ex", "y": "why"}
    data = {"kind": "table", "path": "rows.csv", "test": "later.csv", "columns": columns}
    splits = Study.load(write(table.parent, changed(data=data))).splits()
    assert splits.test["x"].tolist() == [1, 3]
    assert splits.test["group"].tolist() == [0, 1]
    assert splits.train.n == 19


def test_groups_hold_every_mechanism_once_with_its_options(table: Path) -> None:
    groups = Study.load(table).groups()
    assert [g.mechanisms for g in groups] == [["x", "y"], ["group"]]
    assert [g.options["epochs"] for g in groups] == [1, 2]
    assert all(g.options["batch_size"] == 64 for g in groups)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"grpah": "x -> y"}, r"grpah: unknown key 'grpah'; did you mean 'graph'\? allowed: name"),
        ({"name": None}, "name: missing"),
        ({"name": "../escape"}, "name: .*may hold letters"),
        ({"name": ".."}, r"name: '\.\.' cannot name a folder"),
        ({"name": "x" * 300}, "name: .*at most 100"),
        ({"data": {"kind": "tabel"}}, "data.kind: unknown kind 'tabel'; did you mean 'table'"),
        ({"data": {"path": "rows.csv"}}, "data: missing its kind"),
        ({"data": {"kind": "table"}}, "data.path: missing"),
        ({"graph": "x -> y -> x"}, "x -> y -> x"),
        ({"variables": {"z": {"kind": "Binary"}}}, "variables.z: unknown variable 'z'"),
        ({"variables": {"x": {"unit": "px"}}}, "variables.x: its kind is missing; one of Contin"),
        ({"variables": {"x": {"kind": "Continuous", "lower": 2, "upper": 1}}}, "lower=2 must be"),
        ({"variables": {"group": {"kind": "Categorical"}}}, "group: Categorical: .*classes"),
        ({"mechanisms": {"x": {"kind": "Flow", "bin": 3}}}, "mechanisms.x.bin: .*mean 'bins'"),
        ({"mechanisms": {"y": "2*x + "}}, "mechanisms.y: .*not an arithmetic expression"),
        ({"mechanisms": {"y": "2*w + u"}}, "arguments are .'w'., but the graph's parents"),
        ({"mechanisms": {"group": {"kind": "Flow"}}}, "group: Flow models numbers"),
        ({"training": {"epochs": 0}}, "training.epochs: must be a whole number .* 1, got 0"),
        ({"training": {"epochs": None}}, "training.epochs: must be a whole number .* got None"),
        ({"training": {"batch_size": None}}, "batch_size: must be a whole number .* got None"),
        ({"training": {"weight_decay": None}}, "weight_decay: must be at least 0, got None"),
        ({"training": {"mechanisms": {"x": {"schedule": None}}}}, "x.schedule: must be .* None"),
        ({"training": {"mechanisms": {"z": {}}}}, "training.mechanisms.z: unknown variable"),
        ({"evaluation": {"interventions": {"z": 1}}}, "interventions.*unknown variable 'z'"),
        ({"evaluation": {"interventions": ["z"]}}, "interventions.*unknown variable 'z'"),
    ],
)
def test_faults_are_told_before_anything_is_read(
    tmp_path: Path, parts: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Study.load(write(tmp_path, changed(**parts)))


def test_what_was_run_is_what_is_saved(table: Path, tmp_path: Path) -> None:
    study = Study.load(table, ["training.epochs=7"])
    (tmp_path / "elsewhere").mkdir()
    study.save(tmp_path / "elsewhere" / "study.yaml")
    loaded = Study.load(tmp_path / "elsewhere" / "study.yaml")
    assert loaded == study
    assert study.differences(Study.load(table)) == ["training"]


def test_running_leaves_everything_behind(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    messages: list[str] = []
    report = run_study(Study.load(table), folder, say=messages.append)
    place = RunFolder(folder)
    assert place.finished
    assert json.loads(place.metrics_path.read_text()) == report.metrics
    assert set(json.loads(place.history_path.read_text())) == {"x", "group"}
    assert set(place.model().variables) == {"x", "y", "group"}
    assert place.test()[0].n == 60
    assert str(load(folder)) == str(load(place.model_path))  # the folder of a run will do
    assert any("default of its kind" in line for line in messages)


def test_a_finished_run_is_refused_and_overwritten_only_when_told(
    table: Path, tmp_path: Path
) -> None:
    folder, study = tmp_path / "run", Study.load(table)
    run_study(study, folder)
    with pytest.raises(ValueError, match=r"holds this run, finished: .*report.html; .*--overwrite"):
        run_study(study, folder)
    with pytest.raises(ValueError, match=r"differs in training; .*--out"):
        run_study(Study.load(table, ["training.lr=0.1"]), folder)
    (folder / "notes.txt").write_text("mine")
    run_study(Study.load(table, ["training.lr=0.1"]), folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    assert RunFolder(folder).study().training.lr == 0.1


def test_a_folder_that_is_not_of_a_run_is_never_touched(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.tex").write_text("words")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="is not the folder of a run"):
            run_study(Study.load(table), folder, overwrite=overwrite)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_a_run_that_was_stopped_goes_on_where_it_was(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study.load(table)
    whole = run_study(study, tmp_path / "whole")

    def stop(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rung3.study.run.evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            run_study(study, tmp_path / "stopped")
    trained = (tmp_path / "stopped" / "model" / "weights.safetensors").stat().st_mtime_ns
    messages: list[str] = []
    resumed = run_study(study, tmp_path / "stopped", say=messages.append)
    assert (tmp_path / "stopped" / "model" / "weights.safetensors").stat().st_mtime_ns == trained
    assert "the model is fitted; resuming from there" in messages[0]
    assert without_speed(resumed.metrics) == without_speed(whole.metrics)


def without_speed(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in metrics.items() if name not in ("speed", "run")}


DIGITS: dict[str, Any] = IMAGES | {"name": "tiny", "training": {"epochs": 1, "batch_size": 32}}


def aimed(**objective: Any) -> dict[str, Any]:
    objective_settings = {"kind": "counterfactual", **objective}
    return DIGITS | {"training": DIGITS["training"] | {"objective": objective_settings}}


def test_an_objective_trains_images_last_beside_their_likelihood_or_after_it(
    tmp_path: Path,
) -> None:
    causes = ["thickness", "intensity", "digit"]
    groups = Study.load(write(tmp_path, aimed(weight=2, soft=True))).groups()
    assert [g.mechanisms for g in groups] == [causes, ["image"]]
    assert "objective" not in groups[0].options
    assert groups[1].options["objective"] == CounterfactualObjective(weight=2.0, soft=True)
    assert groups[1].options["epochs"] == 1

    settings = aimed(epochs=3, margin=0.1)
    options = {"image": {"epochs": 7, "lr": 0.01, "warmup": 9, "patience": 2, "clip": 5}}
    settings["training"] |= {"mechanisms": options}
    first, second = Study.load(write(tmp_path, settings)).groups()[1:]
    assert first.options == {"batch_size": 32, **options["image"]}
    assert second.options == {
        "batch_size": 32, "clip": 5, "epochs": 3, "objective": CounterfactualObjective(margin=0.1)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"softt": True}, "training.objective.softt: unknown key 'softt'; did you mean 'soft'"),
        ({"kind": "contrafactual"}, "training.objective.kind: .*'counterfactual'"),
        ({"share": 2}, "training.objective.share: must be a share between 0 and 1, .*got 2"),
        ({"weight": 1, "lr": 1e-4}, "training.objective: epochs and lr are of a second training"),
        ({"intervene": ["thicknes"]}, "intervene: unknown variable 'thicknes'"),
        ({"at_once": 4}, "at_once=4: image has only"),
    ],
)
def test_faults_of_an_objective_are_told_before_anything_is_read(
    tmp_path: Path, objective: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Study.load(write(tmp_path, aimed(**objective)))


def test_an_objective_where_it_can_do_nothing_is_refused(tmp_path: Path) -> None:
    settings = {"kind": "counterfactual"}
    for training, message in (
        ({"objective": settings}, "training.objective: needs an image, and there is none"),
        (
            {"mechanisms": {"x": {"objective": settings}}},
            "mechanisms.x.objective: .* is for images",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            Study.load(write(tmp_path, changed(training=training)))
    patient = aimed(weight=1)
    patient["training"] |= {"patience": 2}
    with pytest.raises(ValueError, match="patience: goes by the likelihood alone"):
        Study.load(write(tmp_path, patient))


def test_the_dry_run_knows_objectives_and_their_cost(tmp_path: Path) -> None:
    plain = check(Study.load(write(tmp_path, DIGITS)))
    assert plain.objectives == {}
    report = check(Study.load(write(tmp_path, aimed(epochs=50))))
    assert report.seconds["image"] > 5 * plain.seconds["image"]
    title, _, (line,) = next(t for t in report.tables() if t[0] == "objectives")
    assert title == "objectives"
    assert line[0] == "image"
    assert line[2:] == ("held, in a second training", *["thickness, intensity, digit"] * 2)


@pytest.mark.slow
def test_a_run_trains_predictors_that_do_not_judge_it(tmp_path: Path) -> None:
    study = Study.load(write(tmp_path, DIGITS | {"data": DIGITS["data"] | {"train": 2000}} | {
        "training": aimed(epochs=1)["training"]}))  # fmt: skip
    run_study(study, tmp_path / "run")
    place = RunFolder(tmp_path / "run")
    used = place.model().fitted["image"]["predictors"]
    predictors = Oracles.load(place.predictors_path)
    assert set(used) <= {oracle.digest() for oracle in predictors.values()}
    assert not set(used) & {o.digest() for o in Oracles.load(place.oracles_path).values()}
    curves = json.loads(place.history_path.read_text())
    assert len(curves["image"]["training"]) == 2
    assert "image, counterfactual" in curves


# What is in the folder ---------------------------------------------------------------------------


def test_overwriting_removes_what_the_run_wrote_and_nothing_else(
    table: Path, tmp_path: Path
) -> None:
    folder, study = tmp_path / "run", Study.load(table)
    run_study(study, folder)
    wrote = {path for path in folder.rglob("*") if path.is_file()}
    mine = [
        "graph-thesis.png",
        "strip-mine.png",
        "model/weights-mine.safetensors",
        "checkpoints/me",
    ]
    for name in mine:
        (folder / name).write_text("mine")
    place = RunFolder(folder)
    place.claim(study, overwrite=True)
    left = {path for path in wrote if path.is_file()}
    assert left == {place.study_path}
    assert all((folder / name).read_text() == "mine" for name in mine)


def test_what_is_in_the_way_of_the_model_is_said_before_training(
    table: Path, tmp_path: Path
) -> None:
    place = RunFolder(tmp_path / "run")
    place.model_path.mkdir(parents=True)
    (place.model_path / "note.txt").write_text("mine")
    place.study_path.write_text("name: before")
    message = r"model is there and is not a model's folder: it holds note\.txt; move"
    with pytest.raises(ValueError, match=message):
        run_study(Study.load(table), place.path, overwrite=True)
    assert place.study_path.read_text() == "name: before"


def test_a_run_that_another_process_works_on_is_left_alone(table: Path, tmp_path: Path) -> None:
    folder, study = tmp_path / "run", Study.load(table)
    message = f"run is in use by process {os.getpid()} on "
    for overwrite in (False, True):
        with RunFolder(folder).lock(), pytest.raises(ValueError, match=message):
            run_study(study, folder, overwrite=overwrite)
        assert list(folder.iterdir()) == []


def test_a_run_that_was_killed_as_it_began_is_still_a_run(table: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("lock", ".rung3-0123456789abcdef.part"):
        (tmp_path / "run" / name).write_text("{")
    place, study = RunFolder(tmp_path / "run"), Study.load(table)
    place.check(study)
    with place.lock():
        assert not place.claim(study)
    assert [path.name for path in place.path.iterdir()] == ["study.yaml"]


def test_a_study_that_is_damaged_in_its_run_is_refused(table: Path, tmp_path: Path) -> None:
    place, study = RunFolder(tmp_path / "run"), Study.load(table)
    place.claim(study)
    whole = place.study_path.read_bytes()
    for content in (whole.replace(b"seed: 3", b"seed: 4"), whole[:-20], b"#" + whole[1:][::-1]):
        place.study_path.write_bytes(content)
        with pytest.raises(ValueError, match=r"study\.yaml is damaged, or was changed"):
            place.study()
    place.study_path.write_bytes(whole.split(b"\n", 1)[1].replace(b"seed: 3", b"seed: 4"))
    assert place.study().seed == 4  # changed by hand, and its seal removed


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"test": {"x": "a", "group": "b"}}'])
def test_damaged_notes_of_the_data_are_named(table: Path, tmp_path: Path, content: bytes) -> None:
    place = RunFolder(tmp_path / "run")
    rows = Study.load(table).splits().test
    place.check_rows("test", rows)  # a run of version 0.1.0 has none
    place.path.mkdir()
    place.data_path.write_bytes(content)
    with (
        pytest.warns(UserWarning, match=r"data\.json is damaged: .* the test rows are those of"),
        suppress(ValueError),  # of the columns that are still noted
    ):
        place.check_rows("test", rows)


@pytest.mark.parametrize("begun", [False, True])
def test_a_column_that_is_replaced_under_a_run_is_named(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    study, place = Study.load(table), RunFolder(tmp_path / "run")
    if begun:
        with monkeypatch.context() as patch:
            patch.setattr("rung3.study.run.fit", stop)
            with pytest.raises(KeyboardInterrupt):
                run_study(study, place.path)
    else:
        run_study(study, place.path)
    rows = table.parent / "rows.csv"
    lines = [line.split(",") for line in rows.read_text().splitlines()]
    changed = [[x, str(float(y) + 1), g] for x, y, g in lines[1:]]
    rows.write_text("\n".join(",".join(line) for line in [lines[0], *changed]))
    message = "y: the data of .*run have changed since it was begun: this column of the t"
    for ask in (place.test, lambda: run_study(study, place.path)):
        if begun or ask == place.test:
            with pytest.raises(ValueError, match=message):
                ask()


def stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_report_that_is_damaged_is_made_anew(table: Path, tmp_path: Path) -> None:
    study, place = Study.load(table), RunFolder(tmp_path / "run")
    run_study(study, place.path)
    whole = place.report_path.read_text()
    weights = (place.model_path / "weights.safetensors").stat().st_mtime_ns
    place.report_path.write_text(whole[:143])
    place.history_path.write_text("{")
    assert not place.finished
    with pytest.warns(UserWarning, match="history.json: no losses are shown"):
        run_study(study, place.path)
    assert place.finished
    assert (place.model_path / "weights.safetensors").stat().st_mtime_ns == weights


def test_predictors_that_are_damaged_are_trained_anew(tmp_path: Path) -> None:
    (tmp_path / "oracles.safetensors").write_bytes(b"half a fi")
    with pytest.warns(UserWarning, match="trained again: .*oracles.safetensors"):
        assert saved_oracles(tmp_path / "oracles.safetensors") is None
    assert saved_oracles(tmp_path / "none") is None


@pytest.mark.parametrize("named", ["ribeiro2023", {"preset": "ribeiro2023"}])
def test_a_study_names_its_protocol(table: Path, named: Any) -> None:
    study = Study.load(write(table.parent, changed(evaluation={"protocol": named, "n": 20})))
    protocol = study.evaluation.protocol_of(study.declared())
    assert (protocol.reversibility, protocol.n) == ((1,), 20)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("melistas", "expected one of monteiro2023, melistas2024"),
        ({"targets": "random"}, "protocol.targets: .*'permuted', 'marginal', .* got 'random'"),
        ({"measure": ["realism"]}, "did you mean 'measures'"),
    ],
)
def test_a_protocol_that_is_none_is_refused(table: Path, protocol: Any, message: str) -> None:
    path = write(table.parent, changed(evaluation={"protocol": protocol}))
    with pytest.raises(ValueError, match=message):
        Study.load(path)


def test_a_study_reads_several_image_columns_each_as_its_variable_says(tmp_path: Path) -> None:
    draw, lines = np.random.default_rng(0), ["age,scan_file,mask"]
    for k in range(12):
        scan = draw.integers(0, 4096, (20, 16)).astype("u2")
        Pictures.fromarray(scan).save(tmp_path / f"scan{k}.png")
        Pictures.fromarray((scan > 2000).astype("u1")).save(tmp_path / f"mask{k}.png")
        lines.append(f"{20 + k},scan{k}.png,mask{k}.png")
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    size = {"kind": "Image", "channels": 1, "height": 8, "width": 8}
    settings: dict[str, Any] = {
        "name": "scans",
        "data": {"kind": "table", "path": "rows.csv", "columns": {"scan": "scan_file"}},
        "graph": "age -> {scan mask}",
        "variables": {
            "scan": size | {"bits": 12, "fit": "crop"},
            "mask": size | {"bits": 1, "fit": "pad"},
        },
        "mechanisms": {k: {"kind": "VAE", "latent": 1, "width": 4} for k in ("scan", "mask")},
        "training": {"epochs": 1},
    }
    settings["data"] |= {"test": 0.25, "validation": 0.2}
    with pytest.warns(UserWarning, match="12 of 12 image files are not 8x8") as caught:
        report = check(Study.load(write(tmp_path, settings)))
    assert {str(w.message).split(":")[0] for w in caught} == {"scan_file", "mask"}
    assert (
        report.splits.train["scan"].shape[1:] == report.splits.test["mask"].shape[1:] == (1, 8, 8)
    )
    assert set(report.splits.train["mask"].unique().tolist()) == {0, 1}
    assert report.splits.train["mask"][..., 0].max() == 0  # padded: 20 x 16 in 8 x 8


def test_check_looks_at_rows_with_gaps(tmp_path: Path) -> None:
    x = torch.randn(100)
    lines = [f"{'' if k % 5 == 0 else f'{a:.4f}'},{2 * a:.4f}" for k, a in enumerate(x.tolist())]
    (tmp_path / "rows.csv").write_text("\n".join(["x,y", *lines]))
    settings = {
        "name": "gaps",
        "data": {"kind": "table", "path": "rows.csv", "test": 0.5},
        "graph": "x -> y",
        "variables": {"x": {"kind": "Continuous", "missing": True}},
        "evaluation": {"interventions": {"x": "x + 100"}},
    }
    (line,) = check(Study.load(write(tmp_path, settings))).positivity
    assert (line[0], line[1].outside, line[1].far) == ("do(x)", 1.0, 1.0)


def test_numbers_of_a_table_are_labels_or_codes_as_is_said(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("level,sick\n" + "1,0\n2,1\n3,1\n2,0\n" * 10)
    level: dict[str, Any] = {"kind": "Ordinal", "labels": ["1", "2", "3"]}
    sick: dict[str, Any] = {"kind": "Binary", "labels": ["no", "yes"], "coded": True}
    settings = {
        "name": "labels",
        "data": {"kind": "table", "path": "rows.csv"},
        "graph": "level -> sick",
        "variables": {"level": level, "sick": sick},
        "evaluation": {"interventions": {"level": 3}},
    }
    study = Study.load(write(tmp_path, settings))
    rows = study.splits().train
    assert set(rows["level"].tolist()) == {0, 1, 2}
    assert set(rows["sick"].tolist()) == {0, 1}
    interventions = study.evaluation.interventions_of(study.model().variables)
    assert study.model().do(interventions).sample(1)["level"].item() == 2  # type: ignore[arg-type]
    del sick["coded"]
    with pytest.raises(ValueError, match=r"sick: unknown category .* declare it with coded=True"):
        Study.load(write(tmp_path, settings)).splits()
