"""The file that a training run resumes from, written so that a kill leaves it whole."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from rung3.data.files import draft, sealed, unsealed

__all__ = ["Checkpoints", "Sealed", "check", "resuming"]


class Checkpoints(Checkpoint):
    """A callback that writes `last.ckpt` after every epoch, and every so many steps between.

    Args:
        path: The file.
        every: Steps, or `None`.
    """

    def __init__(self, path: Path, every: int | None) -> None:
        self.path = path
        self.every = every

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Save in the middle of an epoch; its end comes after validation."""
        due = self.every is not None and trainer.global_step % self.every == 0
        if due and not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what the epoch came to."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        """Write beside the file, then replace it: a kill leaves the one or the other, whole."""
        first = trainer.is_global_zero
        with draft(self.path) if first else nullcontext(self.path) as path:
            trainer.save_checkpoint(path, weights_only=False)


class Sealed(TorchCheckpointIO):
    """Checkpoints that end in their own digest: one that is damaged is refused."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(sealed(content.getvalue()))


def check(path: Path) -> None:
    """Refuse a file that is not a checkpoint of `fit`.

    Raises:
        ValueError: If it is not, or is truncated or damaged.
    """
    try:
        content = unsealed(path.read_bytes())
        known = content is not None and "rung3" in torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
    except Exception:  # torch.load raises whatever the bytes make it stumble on
        known = False
    if not known:
        raise ValueError(
            f"checkpoints: {path} is not a checkpoint of fit, or is truncated or damaged; delete "
            "it, give another folder, or resume=False to start over"
        )


@contextmanager
def resuming(path: Path | None, begun: Callable[[], bool]) -> Iterator[None]:
    """Refuse a checkpoint that fails in the block before training has begun.

    Raises:
        ValueError: If it does, with the cause.
    """
    try:
        yield
    except Exception as error:
        if path is None or begun() or isinstance(error, ValueError):
            raise
        raise ValueError(
            f"checkpoints: {path} cannot be resumed: {error}; delete it, give another "
            "folder, or resume=False to start over"
        ) from error
