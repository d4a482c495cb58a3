"""Loggers by name: losses as a table, for TensorBoard, or for Weights & Biases."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

__all__ = ["LOGGERS", "LoggerName", "check_logger", "logger_of"]

LoggerName = Literal["csv", "tensorboard", "wandb"]

LOGGERS = "'csv', 'tensorboard' or 'wandb', or true for Lightning's default"
"""What a study file may name."""

NEEDED = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}
"""Packages of which one must be installed, by logger."""

LOGS = Path("logs")
"""Folder of logs where there is none of checkpoints."""


def check_logger(logger: Any) -> None:
    """Refuse the name of a logger that is unknown, or whose package is not installed.

    Raises:
        ValueError: If so; the message says what to install.

    Example:
        >>> check_logger("csv")
        >>> check_logger("cvs")
        Traceback (most recent call last):
        ValueError: logger='cvs' must be 'csv', 'tensorboard' or 'wandb', or a Lightning logger
    """
    if not isinstance(logger, str):
        return
    if logger not in ("csv", *NEEDED):
        raise ValueError(
            f"logger={logger!r} must be 'csv', 'tensorboard' or 'wandb', or a Lightning logger"
        )
    packages = NEEDED.get(logger, ())
    if packages and not any(map(find_spec, packages)):
        raise ValueError(
            f"logger={logger!r} needs the package {packages[0]}: pip install {packages[0]}"
        )


def logger_of(logger: Any, folder: Path | None) -> Any:
    """Return a logger as Lightning takes it.

    Args:
        logger: A name of `LoggerName`, a Lightning logger or several, whether to use Lightning's
            default, or `None`.
        folder: Folder of the checkpoints: the logs lie in it, a version for each start.
    """
    if not isinstance(logger, str):
        return logger or False
    place = LOGS if folder is None else folder
    from lightning.pytorch import loggers

    if logger == "csv":
        return loggers.CSVLogger(place, name="csv")
    if logger == "tensorboard":
        return loggers.TensorBoardLogger(place, name="tensorboard")
    run = place.resolve().parts[-3:]  # of a study: its run, "checkpoints", and the part of training
    return loggers.WandbLogger(project="rung3", name="/".join(run), save_dir=place)
