"""The explorer's page, served on a free port for as long as a test needs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rung3.explorer import Session


@contextmanager
def served(session: Session, host: str = "127.0.0.1", token: str = "") -> Iterator[int]:
    """The port of a page that a session is behind."""
    import uvicorn

    from rung3.explorer.server import configured

    server = uvicorn.Server(configured(session, host, token, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(5)
