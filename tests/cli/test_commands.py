"""Starting the command."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_starting_does_not_load_torch(word: str) -> None:
    code = (
        "import sys\nfrom rung3.cli import app\n"
        f"try:\n    app([{word!r}])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_it_is_a_module_too() -> None:
    words = [sys.executable, "-m", "rung3"]
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("rung3 ")
    wrong = subprocess.run([*words, "runn"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "python -m rung3" in wrong.stderr
