"""Success of two treatments of kidney stones, by the size of the stone.

| | small | large |
|---|---|---|
| A, open surgery | 81 of 87 | 192 of 263 |
| B, percutaneous nephrolithotomy | 234 of 270 | 55 of 80 |

Source: Charig et al. 1986, British Medical Journal 292:879-882 (lecture, Figure 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from rung3.data.rows import Rows
from rung3.data.variables import Binary, Variable

__all__ = ["COUNTS", "VARIABLES", "kidney_stones"]

VARIABLES: Mapping[str, Variable] = MappingProxyType(
    {
        "size": Binary(labels=("small", "large")),
        "treatment": Binary(labels=("B", "A")),
        "recovery": Binary(labels=("no", "yes")),
    }
)

COUNTS = (((36, 234), (6, 81)), ((25, 55), (71, 192)))
"""Patients, nested by size, treatment and recovery."""


def kidney_stones() -> Rows:
    """Return the 700 patients, one a row: `size` (1 is large), `treatment` (1 is A), `recovery`.

    Example:
        >>> rows = kidney_stones()
        >>> small_on_a = rows.select((rows["size"] == 0) & (rows["treatment"] == 1))
        >>> small_on_a.n, int(small_on_a["recovery"].sum())
        (87, 81)
    """
    counts = torch.tensor(COUNTS)
    cells = (counts >= 0).nonzero().repeat_interleave(counts.flatten(), dim=0)
    return Rows(dict(zip(VARIABLES, cells.unbind(1), strict=True)))
