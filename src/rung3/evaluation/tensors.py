"""Tensors under paths, such as `("composition", "image", "kept", "10")`, as one safetensors file.

A key of the file is the path as JSON, so that names of any letters are told apart; what else there
is to say is JSON in the file's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

__all__ = ["read", "write"]


def write(path: Path, tensors: Mapping[tuple[str, ...], Tensor], said: Any) -> None:
    """Write tensors, and anything that JSON can hold."""
    flat = {
        json.dumps(key): value.detach().cpu().contiguous().clone() for key, value in tensors.items()
    }
    path.write_bytes(save(flat, {"said": json.dumps(said)}))


def read(path: Path) -> tuple[dict[tuple[str, ...], Tensor], Any]:
    """What `write` wrote.

    Raises:
        ValueError: If the file is truncated, or another's.
    """
    try:
        with safe_open(path, "pt") as file:
            said = json.loads(file.metadata()["said"])
            return {tuple(json.loads(key)): file.get_tensor(key) for key in file.keys()}, said  # noqa: SIM118
    except (SafetensorError, TypeError, KeyError, ValueError):
        raise ValueError(f"{path} is truncated, or was not written by a report") from None
