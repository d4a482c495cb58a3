"""A few letters that stand for tensors: rows, weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor

__all__ = ["digest"]


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Twelve letters that change if any name, value or order does.

    Example:
        >>> import torch
        >>> digest({"x": torch.zeros(2)}) == digest({"x": torch.zeros(2)})
        True
    """
    found = hashlib.sha256()
    for name, value in tensors.items():
        found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        found.update(value.detach().contiguous().cpu().numpy().data)
    return found.hexdigest()[:12]
