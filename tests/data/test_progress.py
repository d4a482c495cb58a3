"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import pytest

from rung3.data.progress import tracked


def test_where_nobody_watches_a_line_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter(range(0, 100, 4))
    monkeypatch.setattr("rung3.data.progress.time.monotonic", lambda: float(next(times)))
    assert list(tracked("abcde", "reading")) == ["a", "b", "c", "d", "e"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "reading: 2 of 5; 0.2 min left", "reading: 4 of 5; 0.1 min left",
    ]  # fmt: skip
    assert list(tracked("ab", "reading", progress=False)) == ["a", "b"]
    assert capsys.readouterr() == ("", "")
