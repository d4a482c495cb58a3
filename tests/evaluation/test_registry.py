"""A new measure is one object and one entry in the list: all that reads measures finds it there."""

from __future__ import annotations

from pathlib import Path

import blobs
import pytest

from rung3.evaluation import Oracles, Protocol, Report, compare, evaluate
from rung3.evaluation.measures import Measure, Section, registry
from rung3.evaluation.measures.base import KEPT, Answers, Examination

LABEL = "do(brightness)"


def glow(exam: Examination, answers: Answers) -> None:
    """Score the mean of each answer's pixels."""
    for image in exam.images(answers.query):
        path = ("glow", answers.query.label, image)
        exam.scores.add(path, answers.by_mode[KEPT][image].mean((1, 2, 3)), "of the range")


GLOW = Measure(
    name="glow",
    about="mean of the pixels of the answers",
    sections=(
        Section(
            "glow",
            "Glow: how bright are the answers?",
            "Mean over pixels.",
            better={"": "higher"},
        ),
    ),
    on_answers=glow,
)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> dict[str, Report]:
    monkeypatch.setattr(registry, "MEASURES", (*registry.MEASURES, GLOW))
    world = blobs.scm(blobs.right)
    rows = world.sample(12, seed=0)
    protocol = Protocol(
        interventions={"brightness": 0.4}, measures=frozenset({"glow"}), bootstrap=20
    )
    return {
        name: evaluate(blobs.scm(image), rows, protocol=protocol, oracles=Oracles({}),
                       progress=False)
        for name, image in {"right": blobs.right, "wrong": blobs.wrong_sign}.items()
    }  # fmt: skip


def test_a_new_measure_is_one_object_and_one_entry(
    reports: dict[str, Report], tmp_path: Path
) -> None:
    right = reports["right"]
    scores = right.scores["glow", LABEL, "image"]
    mean = right.metrics["glow"][LABEL]["image"]
    assert mean["mean"] == pytest.approx(float(scores.mean()))
    assert mean["low"] < mean["mean"] < mean["high"]
    assert right.metrics["settings"]["measures"] == ["glow"]
    assert "On the page besides: Glow" in str(right)
    assert "Mean over pixels." in right.save(tmp_path).read_text("utf-8")
    compared = compare(reports)
    entry = compared.metrics["glow"][LABEL]["image"]
    others = reports["wrong"].scores["glow", LABEL, "image"]
    assert entry["better"] == "higher"
    assert entry["best"] == ["right"]  # it is told to be brighter
    difference = entry["differences"]["wrong"]
    assert difference["mean"] == pytest.approx(float((others - scores).mean()), abs=1e-6)
    assert "Glow" in str(compared)


def test_a_measure_that_is_not_in_the_list_is_unknown() -> None:
    with pytest.raises(ValueError, match="unknown measure 'glow'; expected some of composition"):
        Protocol(measures=frozenset({"glow"}))
