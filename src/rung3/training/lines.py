"""Progress as lines, one an epoch, where no terminal shows a bar."""

from __future__ import annotations

import sys
import time

from rung3.training.options import History

__all__ = ["Lines"]

QUIET = 2.0
"""Seconds that must have passed since the last line: small trainings take many epochs a second."""


class Lines:
    """Writes a line to stderr after an epoch: its losses, and the time left.

    Args:
        epochs: Epochs in all.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.first = 0
        self.began = self.last = time.monotonic()

    def begin(self, epoch: int, epochs: int) -> None:
        """Note the first epoch of this call, and how many there are in all: a run may resume."""
        self.first, self.epochs, self.began = epoch, epochs, time.monotonic()

    def write(self, epoch: int, history: History) -> None:
        """Write the line of an epoch that has ended; its losses are of held-out rows, if any."""
        done, now = epoch + 1, time.monotonic()
        if now - self.last < QUIET and done < self.epochs:
            return
        self.last = now
        losses = ", ".join(
            f"{name} {(history.validation.get(name) or curve)[-1]:.4g}"
            for name, curve in history.training.items()
            if curve
        )
        left = (now - self.began) / (done - self.first) * (self.epochs - done)
        sys.stderr.write(f"epoch {done} of {self.epochs}: {losses}; {left / 60:.1f} min left\n")
        sys.stderr.flush()
