"""What is said after training that came to nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

from rung3.mechanisms.base import Trainable
from rung3.training.options import History, Options

__all__ = ["remark_after"]

EXPLODED = 1e8
"""Nats a number of a loss that no fit of scaled data comes to, but one that went astray."""


def remark_after(
    history: History, mechanisms: Mapping[str, Trainable], steps: int, options: Options
) -> None:
    """Warn of a mechanism whose loss exploded, and if there was time for no step at all."""
    if not steps:
        warnings.warn(
            f"no step was taken: max_seconds={options.max_seconds} were over at once, and the "
            "weights are as they were; give more time",
            stacklevel=5,
        )
    for name, mechanism in mechanisms.items():
        nats = history.training[name][-1:]
        if nats and nats[0] > EXPLODED * math.prod(mechanism.variable.shape):
            warnings.warn(
                f"{name}: its loss is {nats[0]:.3g} after training, so its answers mean nothing; "
                f"try a lower lr (now {options.lr or mechanism.learning_rate:g})",
                stacklevel=5,
            )
