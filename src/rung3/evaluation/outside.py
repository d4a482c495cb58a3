"""Where an image changes that should have stayed: maps over the pixels, as means over rows.

With R the pixels of a row that truly change (by more than `CHANGED`, in a neighbourhood of `REACH`
pixels), and x~ the answer to the factual image x,

    share that may change    mean over rows of 1[p in R]
    change outside           mean of |x~_p - x_p| over the rows in which p is not in R

beside that of the null intervention on the same pixels, which is what a model changes for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["MAY_CHANGE", "NULL", "OutsideMaps", "may_change"]

CHANGED = 4 / 255
"""Change of a pixel from which on it counts as changed: above what rounding does."""

REACH = 2
"""Pixels around a changed one that may change, too."""

NULL = "null intervention"
"""Stands for a mode, where the change is that of an intervention which sets nothing new."""

MAY_CHANGE = "may change"
"""Stands for a mode, where the map is the share of rows in which a pixel may change."""


def may_change(factual: Tensor, true: Tensor) -> Tensor:
    """Mask the pixels that truly change, and those around them, `(n, 1, ...)`.

    Example:
        >>> x = torch.zeros(1, 1, 7, 7)
        >>> true = x.clone()
        >>> true[..., 3, 3] = 1.0
        >>> int(may_change(x, true).sum())
        25
    """
    changed = ((true - factual).abs().amax(1, keepdim=True) > CHANGED).float()
    pool = F.max_pool3d if changed.ndim == 5 else F.max_pool2d
    return pool(changed, 2 * REACH + 1, 1, REACH) > 0


@dataclass
class OutsideMaps:
    """Sums over rows, from which the maps follow.

    Attributes:
        rows: Number of rows.
        stays: By pixel, in how many rows it truly stays, `(1, ...)`.
        changes: By who answers, the sum of its change in these rows, `(1, ...)`.

    Example:
        >>> maps = OutsideMaps()
        >>> stays = torch.tensor([[[[True, False]]], [[[True, True]]]])
        >>> maps.add(stays, {"kept": torch.tensor([[[[0.1, 0.5]]], [[[0.3, 0.2]]]])})
        >>> {who: part.flatten().tolist() for who, part in maps.means().items()}
        {'may change': [0.0, 0.5], 'kept': [0.20000000298023224, 0.20000000298023224]}
    """

    rows: int = 0
    stays: Tensor = field(default_factory=lambda: torch.zeros(()))
    changes: dict[str, Tensor] = field(default_factory=dict)

    def add(self, stays: Tensor, changes: Mapping[str, Tensor]) -> None:
        """Add rows.

        Args:
            stays: Which pixels truly stay, `(n, 1, ...)`.
            changes: By who answers, how much each pixel changes, `(n, C, ...)`, at least 0.
        """
        stays_put = stays.float().cpu()
        self.rows += len(stays_put)
        self.stays = self.stays + stays_put.sum(0)
        for answerer, change in changes.items():
            total = (change.float().cpu().mean(1, keepdim=True) * stays_put).sum(0)
            self.changes[answerer] = self.changes.get(answerer, torch.zeros(())) + total

    def means(self) -> dict[str, Tensor]:
        """Return the maps `(1, ...)`, in [0, 1]; NaN where a pixel never stays."""
        shares = {MAY_CHANGE: 1 - self.stays / self.rows}
        return shares | {answerer: total / self.stays for answerer, total in self.changes.items()}
