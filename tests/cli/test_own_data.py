"""From a folder of pictures to answers, as a new user goes; a training of a step or two."""

from __future__ import annotations

import json

import pytest
import torch
from command import call
from flowers import GRAPH, write_flowers

from rung3.evaluation import Report
from rung3.explorer import Opened, PageState, Session
from rung3.study.folder import RunFolder

FEW = (
    "training.epochs=1", "training.mechanisms.file={epochs: 1, batch_size: 8}",
    "mechanisms.file={kind: VAE, latent: 2, width: 4, depth: 1}", "evaluation.bootstrap=0",
    "evaluation.particles=2", "evaluation.oracles.epochs=2",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit. rows with gaps")
def test_three_commands_lead_to_a_verdict_and_gaps_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flowers = write_flowers(tmp_path / "flowers")
    words = ("init", flowers / "pictures", flowers / "labels.csv", "--graph", GRAPH, "--name", "f")
    assert call(*words, "--minutes", 0.5).exit_code == 0
    ran = call("run", "f.yaml", *(word for one in FEW for word in ("--set", one)))
    assert ran.exit_code == 0, ran.output
    assert "warning: file: 3 steps, too few to learn from" in ran.output
    assert "Verdict: has not learned" in ran.output
    assert "rung3 run runs/f/study.yaml --out runs/f-next --set" in ran.output

    metrics = json.loads((tmp_path / "runs/f/metrics.json").read_text())
    assert metrics["run"]["name"] == "f"
    assert metrics["training"]["file"]["steps"] == 3
    assert {f["question"] for f in metrics["verdict"]} == {
        "learned", "obeys", "individual", "support",
    }  # fmt: skip
    report = Report.load(tmp_path / "runs/f")
    assert report.run == str(tmp_path / "runs/f")
    page = (tmp_path / "runs/f/report.html").read_text()
    assert page.index("Has not learned") < page.index("do(colour)")

    run = RunFolder(tmp_path / "runs/f")
    rows, _ = run.test()
    gap = int(rows["radius_px"].isnan().nonzero()[0]) if rows["radius_px"].isnan().any() else None
    if gap is None:  # the gaps fell among the training rows
        (tmp_path / "gap.csv").write_text("file,colour\nflowers/pictures/f05.png,red\n")
        answered = call("counterfactual", run.path, "--rows", "gap.csv", "--do", "colour=blue")
        assert "radius_px: missing in 1 of 1 rows, read off the image" in answered.output
        return
    answered = call("counterfactual", run.path, "--row", gap, "--do", "colour=blue")
    assert answered.exit_code == 0, answered.output
    assert "read off the image" in answered.output
    session = Session([Opened.of_run(run.path)])
    query = PageState(row=gap, do={"colour": 1.0})
    assert session.inferred(query) == ("radius_px",)
    (answer,) = session.answer(query)
    assert torch.isfinite(answer.after["file"]).all()
    assert answer.before["radius_px"].isfinite()
