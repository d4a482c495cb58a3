"""A finished run of the tiny study, which the tests of the commands share."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import call, write


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder that the tiny study was run in, and what was printed."""
    folder = tmp_path_factory.mktemp("cli")
    result = call("run", write(folder), "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run", result.output
