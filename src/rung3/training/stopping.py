"""Signals that end the work: Ctrl-C, SIGTERM and SIGHUP, told as one exception.

    SIGHUP 1, SIGINT 2, SIGTERM 15;   status of the process = 128 + number

What was written by then stays whole, so that the same call, or command, resumes from there.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Stopped", "stoppable"]

SIGNALS = [
    getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") if hasattr(signal, name)
]
"""The signals that are told; not all systems have all."""

DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
"""Handlers that are replaced: a caller's own stay, and so does an ignored signal (`nohup`)."""


class Stopped(KeyboardInterrupt):
    """Work was ended by a signal.

    Args:
        number: Of the signal.
        where: Where it was, such as `at step 120`; empty if nothing can be told.
        cure: What resumes from there.

    Example:
        >>> stopped = Stopped(signal.SIGTERM, "at step 120", "the same call resumes")
        >>> print(stopped, stopped.status, sep="; ")
        stopped by SIGTERM at step 120; the same call resumes; 143
    """

    def __init__(self, number: int, where: str = "", cure: str = "") -> None:
        self.signal = signal.Signals(number)
        self.where = where
        self.cure = cure
        self.status = 128 + number
        text = f"stopped by {self.signal.name} {where}".rstrip()
        super().__init__(f"{text}; {cure}" if cure else text)


class _Signal(BaseException):
    """A signal on its way out; no `except` of a library mistakes it for what it knows."""

    number = 0


def _raise_signal(number: int, frame: Any) -> None:
    _Signal.number = number
    raise _Signal


@contextmanager
def stoppable(where: str | Callable[[], str] = "", cure: str = "") -> Iterator[None]:
    """Tell a signal as `Stopped`, with where the work in the block was.

    Args:
        where: Where it is, as words, or as a function that is called when it is stopped.
        cure: What resumes from there.

    Raises:
        Stopped: If a signal comes; from the innermost of such blocks.
    """
    main = threading.current_thread() is threading.main_thread()  # the one that signals come to
    replaced = {}
    if main:
        for number in SIGNALS:
            if signal.getsignal(number) in DEFAULTS:
                replaced[number] = signal.signal(number, _raise_signal)
    stopped = 0
    try:
        yield
    except Stopped:
        _Signal.number = 0
        raise
    except BaseException as error:
        stopped = signal.SIGINT if isinstance(error, KeyboardInterrupt) else 0
        if not stopped and not (main and _Signal.number):
            raise
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
    # A signal that was raised where Python drops errors, as in a finaliser, is told here.
    if stopped := (main and _Signal.number) or stopped:
        _Signal.number = 0
        raise Stopped(stopped, where if isinstance(where, str) else where(), cure)
