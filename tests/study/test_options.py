"""A study takes whatever can be said in Python, with the same bounds and defaults."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import rung3
from rung3 import SCM
from rung3.data.validation import types
from rung3.evaluation.protocol import Protocol
from rung3.study.folder import RunFolder
from rung3.study.options import Evaluation, FitOptions, Objective, ProtocolOptions, Training
from rung3.study.run import run_study
from rung3.study.study import Study
from rung3.training.counterfactual import CounterfactualObjective
from rung3.training.options import Options

STUDY: dict[str, Any] = {
    "name": "small",
    "data": {"kind": "digits", "train": 40, "test": 4},
    "graph": "thickness -> image",
    "variables": {"image": {"kind": "Image", "channels": 1, "height": 32, "width": 32}},
    "mechanisms": {"image": {"kind": "VAE", "latent": 2, "width": 2, "depth": 1}},
}

FIT: dict[str, Any] = {
    "epochs": 3, "batch_size": 7, "lr": 0.1, "weight_decay": 0.5, "seed": 4,
    "validation_share": 0.25, "patience": 2, "ema": None, "clip": 2, "skip": 9.0,
    "schedule": "constant", "warmup": 5, "precision": "64-true", "devices": "auto",
    "num_nodes": 2, "strategy": "ddp", "accelerator": "cpu", "logger": True,
    "checkpoints": "elsewhere", "checkpoint_every": 5, "resume": False, "progress": False,
    "max_seconds": 60, "objective": "likelihood",
}  # fmt: skip

OBJECTIVE: dict[str, Any] = {
    "intervene": ["thickness"], "at_once": 1, "soft": True, "kept": 0.5, "share": 1, "weight": 2,
    "after": 0, "ramp": 10, "margin": 0.1, "rate": 0.2, "damping": 3,
    "committee": 1, "jitter": 2, "segment": {"thickness": ["mask", 1]},
    "predictors": "predictors.safetensors",
}  # fmt: skip

PROTOCOL: dict[str, Any] = {
    "interventions": ["thickness"], "targets": "grid", "levels": 3, "propagate": False, "n": 3,
    "truth_n": 2, "seeds": 2, "bootstrap": 0, "particles": 2, "temperatures": [1, 0.5],
    "composition": [1], "reversibility": [2], "measures": ["realism"],
}  # fmt: skip


def load(tmp_path: Path, part: str, **values: Any) -> Study:
    path = tmp_path / "study.yaml"
    *folders, last = part.split(".")
    study: dict[str, Any] = {**STUDY}
    at = study
    for folder in folders:
        at = at.setdefault(folder, {})
    at[last] = values
    path.write_text(yaml.safe_dump(study, sort_keys=False), "utf-8")
    return Study.load(path)


def test_the_examples_name_every_field() -> None:
    assert FIT.keys() == {field.name for field in fields(Options)}
    assert OBJECTIVE.keys() == {field.name for field in fields(CounterfactualObjective)}
    assert PROTOCOL.keys() == {field.name for field in fields(Protocol)}


@pytest.mark.parametrize("name", FIT)
def test_a_study_takes_every_option_of_fit(tmp_path: Path, name: str) -> None:
    training = load(tmp_path, "training", **{name: FIT[name]}).training
    expected = {"checkpoints": tmp_path / "elsewhere", "objective": None}.get(name, FIT[name])
    assert getattr(training, name) == expected
    assert training.given() == {name: expected}


@pytest.mark.parametrize("name", OBJECTIVE)
def test_a_study_takes_every_option_of_the_objective(tmp_path: Path, name: str) -> None:
    if name == "segment":  # it is read, and this study has no masks
        with pytest.raises(ValueError, match="segment: thickness: mask is not a mask that image"):
            load(tmp_path, "training.objective", segment=OBJECTIVE[name])
        return
    objective = load(tmp_path, "training.objective", **{name: OBJECTIVE[name]}).training.objective
    assert objective is not None
    expected = OBJECTIVE[name]
    if name == "predictors":
        assert objective.predictors == tmp_path / "predictors.safetensors"
    else:
        assert objective.value() == CounterfactualObjective(**{name: expected})


@pytest.mark.parametrize("name", PROTOCOL)
def test_a_study_takes_every_option_of_a_protocol(tmp_path: Path, name: str) -> None:
    values = {name: PROTOCOL[name]}
    study = load(tmp_path, "evaluation.protocol", **values)
    protocol = study.evaluation.protocol_of(study.declared())
    assert getattr(protocol, name) == getattr(Protocol(**values), name)


def test_keys_bounds_and_defaults_are_those_of_the_library() -> None:
    """But for what a file says otherwise: a path for an object, and what is the study's own."""
    fields = {
        "seed",
        "checkpoints",
        "logger",
        "objective",
        "predictors",
        "interventions",
        "measures",
    }
    for part, options in (
        (Training, Options), (Objective, CounterfactualObjective), (ProtocolOptions, Protocol)
    ):  # fmt: skip
        for name, (_, default) in types(options).items():
            assert name in part.model_fields
            if name not in fields:
                assert part.model_fields[name].default == default
    assert set(Training.model_fields) - set(FIT) == {"mislabelled", "mechanisms"}
    whole = {"seed", "validation_share", "checkpoints"}
    assert set(FitOptions.model_fields) == set(FIT) - whole


def test_the_signature_of_fit_shows_every_option() -> None:
    shown = inspect.signature(rung3.fit).parameters
    assert list(shown)[:4] == ["model", "train", "validation", "only"]
    for name, (_, default) in types(Options).items():
        assert shown[name].default == default
        assert shown[name].kind == inspect.Parameter.KEYWORD_ONLY
    with pytest.raises(TypeError, match=r"fit\(\) has no argument 'epoch'; did you mean 'epochs'"):
        rung3.fit(SCM("x"), {"x": [1.0] * 9}, epoch=3)


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("training", {"max_secnds": 1}, r"yaml:\d+: training.max_secnds: unknown key .*'max_sec"),
        ("training", {"num_nodes": 0}, r"yaml:\d+: training.num_nodes: must be a whole number of"),
        (
            "training",
            {"resume": "maybe"},
            r"yaml:\d+: training.resume: must be true or false, got .maybe",
        ),
        ("training", {"epochs": None}, r"yaml:\d+: training.epochs: must be a whole number"),
        ("training", {"devices": 0}, r"yaml:\d+: training.devices: must be a number of at least 1"),
        ("training", {"validation_share": 1}, r"training.validation_share: must be at least 0 and"),
        ("training.mechanisms.image", {"seed": 1}, r"mechanisms.image.seed: unknown key 'seed'"),
        ("evaluation.protocol", {"n": 10**30}, r"yaml:\d+: evaluation.protocol.n: whole numbers"),
        ("evaluation.protocol", {"levels": 1}, r"yaml:\d+: evaluation.protocol: levels: expected"),
    ],
)
def test_a_fault_is_told_with_its_line(
    tmp_path: Path, part: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path, part, **values)


def test_the_share_set_aside_is_said_once(tmp_path: Path) -> None:
    parts = load(tmp_path, "training", validation_share=0.25).splits()
    assert (parts.train.n, parts.validation.n) == (30, 10)
    assert load(tmp_path, "training", validation_share=0).splits().validation.n == 0
    study = STUDY | {"data": STUDY["data"] | {"validation": 0.1}}
    study["training"] = {"validation_share": 0.2}
    (tmp_path / "twice.yaml").write_text(yaml.safe_dump(study))
    with pytest.raises(ValueError, match=r"validation_share: data.validation gives it as well"):
        Study.load(tmp_path / "twice.yaml")


def test_peers_are_runs_and_checkpoints_may_lie_elsewhere(tmp_path: Path) -> None:
    def study(**parts: Any) -> Study:
        rows = "\n".join(f"{k % 7},{k % 5}" for k in range(60))
        (tmp_path / "rows.csv").write_text(f"x,y\n{rows}")
        written = {
            "name": "s", "data": {"kind": "table", "path": "rows.csv"}, "graph": "x -> y",
            "mechanisms": {"x": "u", "y": "x + u"}, **parts,
        }  # fmt: skip
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(written))
        return Study.load(tmp_path / "study.yaml")

    quick = {"bootstrap": 0, "interventions": {"x": 1}}
    run_study(study(evaluation=quick), tmp_path / "first")
    settings = {**quick, "peers": ["first"], "protocol": {"measures": ["stability"]}}
    training = {"validation_share": 0, "checkpoints": "kept"}
    report = run_study(study(evaluation=settings, training=training), tmp_path / "second")
    assert report.metrics["stability"]["do(x)"]["y"]
    assert RunFolder(tmp_path / "second").study().evaluation.peers == [tmp_path / "first"]
    settings["peers"] = ["nowhere"]
    with pytest.raises(ValueError, match=r"evaluation\.peers: .*nowhere is not the folder of a r"):
        run_study(study(evaluation=settings), tmp_path / "third")
    assert isinstance(study(evaluation=quick).evaluation, Evaluation)
