"""A lock keeps others out while its holder lives, and no longer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rung3.study.locks import lock

HOLD = """
import sys, time
from pathlib import Path
from rung3.study.locks import lock
with lock(Path(sys.argv[1]), "the run"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    host = socket.gethostname()
    with lock(path, "the run"):
        message = rf"the run is in use by process {os.getpid()} on {host}, since 20"
        with pytest.raises(ValueError, match=message), lock(path, "the run"):
            pass
    assert not path.exists()
    with lock(path, "the run"):
        assert path.exists()


def test_a_kill_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=f"process {process.pid} "), lock(path, "the run"):
            pass
        process.kill()
    assert path.exists()
    with lock(path, "the run"):
        pass
    assert not path.exists()


def test_an_exception_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), lock(tmp_path / "lock", "the run"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
