"""One process at a time: a lock that names its holder, and that a kill releases."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none, and goes without
    fcntl = None  # type: ignore[assignment]

__all__ = ["lock"]


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file, which says the process, its host and since when.

    The system holds it for the process and lets go when that ends, however it ends: a file that
    is left behind locks nothing.

    Args:
        path: The file, in a folder that is there.
        what: What it locks, for the message.

    Raises:
        ValueError: If another process holds it.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _hold(file, path, what)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    break
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its holder removed it just now: there may be another by now
    try:
        owner = {"process": os.getpid(), "host": socket.gethostname(), "since": _now()}
        os.truncate(file, 0)
        os.write(file, json.dumps(owner).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _hold(file: int, path: Path, what: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = {}
        with suppress(ValueError, OSError):
            holder = json.loads(path.read_bytes())
        raise ValueError(
            f"{what} is in use by process {holder.get('process', 'unknown')} on "
            f"{holder.get('host', 'an unknown host')}, since {holder.get('since', 'just now')}; "
            "wait until it ends, or stop it"
        ) from None
    except OSError:
        pass  # a file system without locks


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
