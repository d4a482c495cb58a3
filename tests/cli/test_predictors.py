"""The commands that bring the user's own predictor to a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import call

from rung3.study.folder import RunFolder

PREDICTOR = """
import torch

def bright(image):
    return torch.sigmoid(20 * (image.flatten(1).mean(1) - 0.15))

number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "judges_of_test.py").write_text(PREDICTOR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_row_is_explained(run: tuple[Path, str], here: Path) -> None:
    out = here / "why.png"
    words = ["explain", run[0], "--predictor", "judges_of_test:bright", "--row", 1, "--out", out]
    result = call(*words, "--do", "thickness=5", "--particles", 2)
    assert result.exit_code == 0, result.output
    assert "do(thickness=5): " in result.stdout
    assert "direct" in result.stdout
    assert "decides for" in result.stdout
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_predictor_is_audited(run: tuple[Path, str], here: Path) -> None:
    words = ["audit", run[0], "--predictor", "judges_of_test:bright", "--protected", "digit"]
    table = tuple(str(k) for k in _two_digits(run[0]))
    result = call(*words, "--groups", ",".join(table), "--out", here / "a.png")
    assert result.exit_code == 0, result.output
    for part in ("disparity", "direct", "indirect", "spurious", "decisions that flip with digit"):
        assert part in result.stdout
    assert (here / "a.png").read_bytes().startswith(b"\x89PNG")
    refused = call(*words, "--groups", "3")
    assert "--groups: expected two values" in refused.output


def _two_digits(run: Path) -> list[int]:
    """Return two digits of which there are test rows enough."""
    digits = RunFolder(run).test()[0]["digit"].bincount()
    return sorted(digits.argsort(descending=True)[:2].tolist())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("judges_of_test", "expected module:name"),
        ("judges_of_nobody:bright", "no module 'judges_of_nobody'"),
        ("judges_of_test:dark", "has no 'dark'"),
        ("judges_of_test:number", "cannot be called"),
    ],
)
def test_what_is_no_predictor_is_refused(
    run: tuple[Path, str], here: Path, text: str, message: str
) -> None:
    result = call("explain", run[0], "--predictor", text)
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
