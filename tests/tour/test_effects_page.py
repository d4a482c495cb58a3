"""The page on effects: its snippets run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "effects.md").read_text("utf-8")


def test_the_snippets_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    here = [snippet for snippet in snippets if '"latent"' not in snippet]
    assert (len(snippets), len(here)) == (7, 6)
    for snippet in here:
        exec(snippet, names)
    printed = capsys.readouterr().out
    assert re.search(r"direct +\S+ \[.*\]\nindirect", printed)
    assert "90% intervals hold the truth in" in printed
    assert round(float(names["back"]["salt"]), 3) == 4  # the backtracking answer of the page
    assert (tmp_path / "effects.png").is_file()
