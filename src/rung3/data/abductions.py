"""Noise that was abducted from rows, kept for the queries that follow on the same rows.

Many queries about a row need the same noise. Where its abduction draws nothing, the noise is a
function of the row, and need not be computed again. Where it draws, every query draws its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Abductions", "Noise"]

Noise: TypeAlias = Tensor | dict[str, Tensor]
"""Exogenous noise of one mechanism: a tensor, or a dict of tensors (VAE: `z` and `eps`)."""


class Abductions:
    """Noise by what abducted it, with the values that it was abducted from.

    It is right as long as no mechanism is trained on; of each, the first values count.

    Example:
        >>> kept = Abductions()
        >>> kept.keep("x", {"x": torch.ones(2)}, torch.zeros(2))
        >>> kept.find("x", {"x": torch.ones(2)}), kept.find("x", {"x": torch.zeros(2)})
        (tensor([0., 0.]), None)
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[Mapping[str, Tensor], Noise]] = {}

    def find(self, key: Hashable, values: Mapping[str, Tensor]) -> Noise | None:
        """Return the noise that was abducted from the very same values, or `None`."""
        if key not in self._known:
            return None
        before, noise = self._known[key]
        same = values.keys() == before.keys() and all(
            value is before[name] or torch.equal(value, before[name])
            for name, value in values.items()
        )
        return noise if same else None

    def keep(self, key: Hashable, values: Mapping[str, Tensor], noise: Noise) -> None:
        """Keep the noise of these values, unless that of others is kept."""
        self._known.setdefault(key, (dict(values), noise))
