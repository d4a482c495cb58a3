"""What can be seen without training: the demonstration, and the models that rung3 holds."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command import call
from matplotlib.figure import Figure
from PIL import Image as Pictures

from rung3 import load
from rung3.explorer import PageState, Session, open_runs
from rung3.explorer.answers import schema
from rung3.explorer.export import command
from rung3.scm import zoo
from rung3.study.folder import RunFolder


def test_the_models_are_whole_small_and_described():
    (model,) = zoo.models().values()
    assert model.name == "rung3/digits"
    assert zoo.digest_of(model.path) == model.digest
    assert model.bytes < 6_000_000
    card = (model.path / "card.md").read_text()
    assert "Against the true counterfactual" in card
    files = [file for file in model.path.rglob("*") if file.suffix in (".json", ".md", ".yaml")]
    assert not [file for file in files if "/tmp" in file.read_text()]
    listed = call("models").output
    assert "rung3/digits" in listed
    assert model.digest[:12] in listed


def test_a_model_that_is_held_imagines_what_the_world_would_have_drawn():
    model = load("rung3/digits")
    rows, world = RunFolder("rung3/digits").test()
    assert world is not None
    rows = rows[:20]
    asked = {"thickness": torch.roll(rows["thickness"], 1)}
    with torch.no_grad():
        answer = model.counterfactual(rows, asked, seed=0)["image"]
        truth = world.counterfactual(rows, asked)["image"]
    error, nothing = ((x - truth).abs().mean() for x in (answer, rows["image"]))
    assert 1 - error / nothing > 0.8


def test_the_demonstration_draws_a_picture_and_says_what_comes_next(tmp_path):
    shown = call("demo", "--out", tmp_path)
    assert shown.exit_code == 0, shown.output
    assert "propagated" in shown.output
    assert "rung3 explore --demo" in shown.output
    (picture,) = tmp_path.glob("*.png")
    with Pictures.open(picture) as drawn:
        assert drawn.width > 1000


@pytest.mark.parametrize(
    ("kind", "drawn_by"), [("interventions", "interventions_of_run"), ("outside", "outside_of_run")]
)
def test_a_figure_of_a_held_model_lies_beside_you_and_leaves_the_model_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, drawn_by: str
) -> None:
    (model,) = zoo.models().values()
    empty = Figure() if kind == "outside" else SimpleNamespace(figure=Figure)
    monkeypatch.setattr(sys.modules["rung3.cli.figure"], drawn_by, lambda *_, **__: empty)
    monkeypatch.chdir(tmp_path)
    drawn = call("figure", kind, "rung3/digits")
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / f"{kind}.png").is_file()
    assert zoo.digest_of(model.path) == model.digest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("interventions", "rung3/digits", "rung3/digits"), "give one RUN"),
        (("outside", "rung3/digits", "--change", "intensity"), "one RUN, no --change"),
        (("augmentation", "rung3/digits", "--change", "intensity"), "--label and --change"),
        (("composition", "rung3/digits", "--change", "intensity"), "changes nothing"),
        (("interventions", "rung3/digits", "--rows", "5000"), "the test rows are 0 to"),
        (("cubism", "rung3/digits"), "expected one of composition"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_refused(words: tuple[str, ...], message: str) -> None:
    refused = call("figure", *words)
    assert refused.exit_code == 2
    assert message in " ".join(refused.output.split())


def test_the_page_opens_a_held_model_by_name():
    session = Session(*open_runs(["rung3/digits"]))
    query = PageState(row=4, do={"thickness": 4.0})
    (answer,) = session.answer(query)
    assert answer.after["thickness"] == 4
    described = schema(session)
    assert (described["models"], described["world"]) == (["digits"], True)
    verdict = described["verdicts"][0]
    assert verdict["headline"].startswith("learned")
    assert not any("rung3 run" in finding["next"] for finding in verdict["findings"])
    assert command(session, query).startswith("rung3 counterfactual rung3/digits --row 4")
    with pytest.raises(ValueError, match="did you mean 'rung3/digits'"):
        open_runs(["rung3/digit"])


def test_the_page_needs_a_run_or_the_demonstration():
    pytest.importorskip("uvicorn", reason="needs rung3[web]")
    refused = call("explore")
    assert refused.exit_code == 2
    assert "--demo" in refused.output


@pytest.mark.slow
def test_a_fresh_process_shows_a_picture_in_seconds(tmp_path: Path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = [sys.executable, "-c", "from rung3.cli import app; app()", "demo"]
    subprocess.run(program, check=True, timeout=300, cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 10  # seconds of CPU: others may be busy on the machine
    assert list(tmp_path.glob("*.png"))
