"""Progress as lines, one an epoch, where no terminal shows a bar."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch.callbacks import Callback

__all__ = ["Lines"]

QUIET = 2.0
"""Seconds that must have passed since the last line: small trainings take many epochs a second."""


class Lines(Callback):
    """Writes a line to stderr after an epoch: losses, the time that it took, and the time left.

    Args:
        epochs: Epochs in all.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.began = self.last = time.monotonic()
        self.first: int | None = None

    def on_train_epoch_start(self, trainer: Any, loop: Any) -> None:
        """Note when the first epoch of this call begins, which may not be the first of all."""
        if self.first is None:
            self.first, self.began = trainer.current_epoch, time.monotonic()

    def on_train_epoch_end(self, trainer: Any, loop: Any) -> None:
        """Write the line."""
        epoch, now = trainer.current_epoch + 1, time.monotonic()
        if not trainer.is_global_zero or (now - self.last < QUIET and epoch < self.epochs):
            return
        self.last = now
        history = loop.history
        losses = ", ".join(
            f"{name} {(history.validation.get(name) or curve)[-1]:.4g}"
            for name, curve in history.training.items()
            if curve
        )
        done = epoch - (self.first or 0)
        left = (now - self.began) / done * (self.epochs - epoch)
        sys.stderr.write(f"epoch {epoch} of {self.epochs}: {losses}; {left / 60:.1f} min left\n")
        sys.stderr.flush()
