"""The commands on studies and their runs: a tiny study from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import call, write
from typer.testing import CliRunner

from rung3.cli import app


def test_run_ends_with_its_tables_and_the_path_of_the_report(run: tuple[Path, str]) -> None:
    folder, printed = run
    assert printed.splitlines()[-1] == f"report: {folder / 'report.html'}"
    for word in ("VAE(latent=4)", "default of its kind", "composition", "effectiveness", "skill"):
        assert word in printed.lower() or word in printed
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["settings"]["rows"] == 24
    assert (folder / "model").is_dir()
    assert "data:image/png;base64" in (folder / "report.html").read_text()


def test_run_refuses_a_finished_run(run: tuple[Path, str]) -> None:
    folder, _ = run
    result = call("run", folder.parent / "tiny.yaml", "--out", folder)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr


def test_evaluate_asks_a_fitted_model_otherwise(run: tuple[Path, str]) -> None:
    folder, _ = run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = call("evaluate", folder, "--protocol", "ribeiro2023", "--set", "evaluation.n=10")
    assert result.exit_code == 0, result.output
    other = folder.with_name("run-ribeiro2023")
    assert result.output.splitlines()[-1] == f"report: {other / 'report.html'}"
    assert "fitting" not in result.output
    assert "training the oracles" not in result.output
    metrics = json.loads((other / "metrics.json").read_text())
    assert metrics["settings"]["rows"] == 10
    assert metrics["settings"]["targets"] == "marginal"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "--overwrite" in call("evaluate", folder, "--protocol", "ribeiro2023").stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs=2", "training: a fitted model can be asked otherwise (evaluation...)"),
        ("evaluation.protocol=lovelace1843", "expected one of monteiro2023, melistas2024"),
    ],
)
def test_evaluate_refuses_what_would_need_another_model(
    run: tuple[Path, str], tmp_path: Path, setting: str, message: str
) -> None:
    result = call("evaluate", run[0], "--set", setting, "--out", tmp_path / "again")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "again").exists()


def test_check_says_what_would_be_done_and_trains_nothing(tmp_path: Path) -> None:
    result = call("check", write(tmp_path), "--set", "data.train=500")
    assert result.exit_code == 0, result.output
    for word in ("grey level", "VAE(latent=4)", "default of its kind", "450", "positivity"):
        assert word in result.stdout
    assert result.stdout.endswith(f"next: rung3 run {tmp_path}/tiny.yaml --set data.train=500\n")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_a_run_has_a_card_and_stands_in_the_list(run: tuple[Path, str]) -> None:
    card = (run[0] / "card.md").read_text()
    assert "**Has not learned" in card
    assert "| image | Image(channels=1, height=32, width=32) | VAE(latent=4)" in card
    assert "What it is not for" in card
    listed = call("runs", run[0].parent)
    assert "finished" in listed.output
    assert "has not learned" in listed.output


def test_a_traceback_may_be_asked_for_anywhere() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        CliRunner().invoke(app, ["check", "nowhere.yaml", "--traceback"], catch_exceptions=False)
