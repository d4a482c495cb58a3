"""Kills, damage and readers at any moment: a few of each here, many in `make torture`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torture


def some(n: int) -> list[int]:
    """A few of so many moments: at a checkpoint, and in the report."""
    return [n // 4, n - 4]


def test_a_run_that_is_killed_while_it_writes_ends_as_one_that_is_not(tmp_path: Path) -> None:
    outcomes = torture.crashes(torture.TABLE, tmp_path, some)
    assert (outcomes.tried, outcomes.wrong) == (2, [])


@pytest.mark.slow
@pytest.mark.parametrize("settings", [torture.TABLE, torture.IMAGES], ids=["table", "images"])
def test_a_run_that_is_killed_at_any_write_ends_as_one_that_is_not(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    outcomes = torture.crashes(settings, tmp_path)
    assert outcomes.tried > 30
    assert outcomes.wrong == []


@pytest.mark.parametrize("n", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_model_that_is_damaged_is_refused_in_one_line(tmp_path: Path, n: int) -> None:
    for outcome in torture.models(tmp_path, n):
        assert (outcome.tried, outcome.wrong) == (n, [])


def test_a_reader_finds_a_model_while_it_is_replaced(tmp_path: Path) -> None:
    outcomes = torture.polled(tmp_path, saves=10)
    assert outcomes.tried > 0
    assert outcomes.wrong == []


@pytest.mark.parametrize("n", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_a_checkpoint_that_is_damaged_is_not_gone_on_from(tmp_path: Path, n: int) -> None:
    for outcome in torture.checkpoints(tmp_path, n):
        assert (outcome.tried, outcome.wrong) == (n, [])


@pytest.mark.slow
def test_what_a_run_keeps_is_not_read_once_it_is_damaged(tmp_path: Path) -> None:
    outcomes = torture.damaged_runs(tmp_path, 200)
    assert outcomes.wrong == []


@pytest.mark.slow
def test_a_command_that_is_killed_at_any_moment_goes_on(tmp_path: Path) -> None:
    outcomes = torture.kills(torture.TABLE, tmp_path, 5)
    assert outcomes.wrong == []
