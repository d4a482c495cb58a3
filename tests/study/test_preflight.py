"""Mistakes in a study that are found before anything is trained, by `run` and by `check`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rung3.study.check import check
from rung3.study.folder import RunFolder
from rung3.study.run import run_study
from rung3.study.study import Study

STUDY: dict[str, Any] = {
    "name": "chain",
    "data": {"kind": "table", "path": "rows.csv", "test": 0.2, "validation": 0.1},
    "graph": "x -> y; {x y} -> group",
    "variables": {"group": {"kind": "Binary", "labels": ["no", "yes"]}},
    "mechanisms": {"y": "2*x + u"},
    "training": {"epochs": 1},
    "evaluation": {"interventions": {"x": 1}, "particles": 2, "bootstrap": 0},
}

DIGITS: dict[str, Any] = {
    "name": "tiny",
    "data": {"kind": "digits", "train": 40, "test": 4, "validation": 0.2},
    "graph": "thickness -> image",
    "variables": {"image": {"kind": "Image", "channels": 1, "height": 32, "width": 32}},
    "mechanisms": {"image": {"kind": "VAE", "latent": 2, "width": 2, "depth": 1}},
}


class TrainedError(Exception):
    """Training has begun."""


def put(settings: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    settings = copy.deepcopy(settings)
    *folders, last = key.split(".")
    at = settings
    for folder in folders:
        at = at.setdefault(folder, {})
    at[last] = value
    return settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    generator = torch.Generator().manual_seed(0)
    x, u = torch.randn(2, 60, generator=generator)
    lines = [
        f"{a:.5f},{2 * a + b:.5f},{'yes' if a > b else 'no'},"
        for a, b in zip(x.tolist(), u.tolist(), strict=True)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["x,y,group,empty", *lines]))
    (tmp_path / "two.csv").write_text("\n".join(["x,y,group,empty", *lines[:2]]))

    def fit(*args: Any, **options: Any) -> None:
        raise TrainedError

    monkeypatch.setattr("rung3.study.run.fit", fit)
    return tmp_path


def refused(folder: Path, settings: dict[str, Any], message: str) -> None:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    for look in (
        lambda: run_study(Study.load(path), folder / "run"),
        lambda: check(Study.load(path)),
    ):
        with pytest.raises(ValueError, match=message):
            look()


GAPS = {"kind": "Continuous", "missing": True}

MISTAKES: dict[str, tuple[str, Any, str]] = {
    "label": ("evaluation.interventions", {"group": "nope"}, r"evaluation.*group.*nope"),
    "label, jointly": ("evaluation.interventions", {"a": {"x": 1, "group": "nope"}}, "group.*nope"),
    "unknown argument": ("evaluation.interventions", {"x": "z + 1"}, "unknown variable 'z'"),
    "child as argument": ("evaluation.interventions", {"x": "y + 1"}, "unknown variable 'y'"),
    "code out of range": ("evaluation.interventions", {"group": 7}, "group: unknown category"),
    "infinite": ("evaluation.interventions", {"x": "1/0"}, "x: 1 values are infinite"),
    "outside at some rows": ("evaluation.interventions", {"x": "log(x)"}, r"do\(x\): x: .*NaN"),
    "no category": ("evaluation.interventions", {"group": "group/2"}, "0.5 is not a category"),
    "no names": ("evaluation.interventions", 3, "expected names, or by name a number"),
    "more rows than there are": ("evaluation.n", 1000, "n=1000: there are only 12 test rows"),
    "truth of more rows": ("evaluation.protocol", {"n": 9, "truth_n": 10}, "truth_n=10: more"),
    "propagate": ("evaluation.protocol", {"propagate": False}, "there are none"),
    "measure": ("evaluation.protocol", {"measures": ["skil"]}, "unknown measure 'skil'"),
    "temperature": ("evaluation.protocol", {"temperatures": [1, float("inf")]}, "temperatures"),
    "column of nothing": ("data.columns", {"z": "x"}, r"data.columns.z: unknown variable 'z'"),
    "column that is not there": ("data.columns", {"x": "ex"}, "no column 'ex'"),
    "column twice": ("data.columns", {"x": "y"}, "x and y are both read from 'y'"),
    "column without values": ("", {"data": STUDY["data"] | {"columns": {"x": "empty"}},
        "variables": STUDY["variables"] | {"x": GAPS}}, "x: needs at least 1 training row"),
    "rows to test": ("data.test", 20, r"study.yaml:5: data.test: expected the share.*got 20$"),
    "the training rows": ("data.test", "rows.csv", "data: test: these are the training rows"),
    "no test table": ("data.test", "nowhere.csv", "nowhere.csv is missing"),
    "empty test": ("data.test", 0.001, "data.test: 0.001 of 60 rows leaves a part empty"),
    "empty validation": ("data.path", "two.csv", "data.(test|validation): .* rows leaves a part"),
    "labels": ("variables.group.labels", ["no", "maybe"], "group: unknown category"),
    "labels as a word": ("variables.group.labels", "ny", "labels: .*array, got 'ny'"),
    "type of a field": ("variables.x", {"kind": "Continuous", "dim": 2.5}, "dim: .*integer"),
    "type of a unit": ("variables.x", {"kind": "Continuous", "unit": ["a"]}, "unit: .*string"),
    "hidden layers": ("mechanisms.group", {"kind": "GumbelMax", "hidden": 5}, "hidden: .*array"),
    "negative layers": ("mechanisms.group", {"kind": "GumbelMax", "hidden": [-5]}, "negative"),
    "kind": ("mechanisms.x", {"kind": ["Flow"]}, "unknown kind .'Flow'."),
    "mechanism": ("mechanisms.x", [1], r"^[^\n]*mechanisms.x: expected an equation[^\n]*$"),
    "rate": ("training.lr", float("inf"), "training.lr: must be greater than 0"),
    "devices": ("training.devices", 4096, "training.devices: 4096; this machine has"),
    "precision": ("training.precision", "33-true", "precision='33-true' cannot be used here"),
    "seed": ("seed", 2**70, "seed: .*less than"),
    # sizes that cannot fit
    "classes": ("variables.x", {"kind": "Categorical", "classes": 10**12}, "GiB of memory"),
    "layer": ("mechanisms.group", {"kind": "GumbelMax", "hidden": [10**10]}, "GiB of memory"),
    "particles": ("evaluation.particles", 10**12, "particles .* GiB of memory"),
    "resamples": ("evaluation.bootstrap", 10**13, "resamples .* GiB of memory"),
    "levels": ("evaluation", {"protocol": {"targets": "grid", "levels": 10**12}}, "GiB of memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_before_training(folder: Path, name: str) -> None:
    key, value, message = MISTAKES[name]
    refused(folder, put(STUDY, key, value) if key else STUDY | value, message)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("evaluation.oracles", {"rows": 1}, "evaluation.oracles: needs at least 2 training rows"),
        ("evaluation.interventions", {"image": 1}, "image: expected shape"),
        ("data.train", 10**12, r"data.train: 1,000,000,000,000 rows would take .* GiB"),
        ("data.test", 10**12, "data.test: .* GiB"),
        ("variables.image.height", 10**7, "GiB of memory"),
        ("mechanisms.image.latent", 10**11, "GiB of memory"),
    ],
)
def test_a_mistake_about_images_is_found_before_training(
    folder: Path, key: str, value: Any, message: str
) -> None:
    refused(folder, put(DIGITS, key, value), message)


def test_what_follows_from_another_intervention_is_not_guessed_at(folder: Path) -> None:
    interventions = {"both": {"x": 1.0, "y": "log(y)"}}  # of a y that x changes: not known yet
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(put(STUDY, "evaluation.interventions", interventions)), "utf-8")
    with pytest.raises(TrainedError):
        run_study(Study.load(path), folder / "run")


def test_a_study_that_can_be_run_is_run(folder: Path) -> None:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY), "utf-8")
    with pytest.raises(TrainedError):
        run_study(Study.load(path), folder / "run")


def test_evaluation_is_redone_on_a_fitted_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    path, place = folder / "study.yaml", RunFolder(folder / "run")
    path.write_text(yaml.safe_dump(STUDY), "utf-8")

    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr("rung3.study.run.evaluate", fail)
        with pytest.raises(RuntimeError):
            run_study(Study.load(path), place.path)
    weights = place.model_path / "weights.safetensors"
    trained = weights.stat().st_mtime_ns
    other = Study.load(path, ["evaluation.interventions={group: yes}"])
    report = run_study(other, place.path)
    assert weights.stat().st_mtime_ns == trained
    assert list(report.metrics["targets"]) == ["do(group)"]
    assert place.study() == other
    with pytest.raises(ValueError, match=r"finished, and differs in evaluation; .*rung3 evaluate"):
        run_study(Study.load(path), place.path)
    with pytest.raises(ValueError, match="differs in training"):
        run_study(Study.load(path, ["training.epochs=2"]), place.path)
