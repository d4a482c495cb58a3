"""Rung one, seeing: how probable the test rows are, variable by variable.

`log p(x_k | pa_k)` in nats and in the variables' own units, averaged over rows: the higher the
better, and in expectation never higher than the world's own. It ranks fits, not counterfactuals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.seeding import base_seed, seeded
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.scores import Scores
from rung3.mechanisms.base import Mechanism

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["batches", "densities"]


def densities(
    model: SCM,
    truth: SCM | None,
    rows: Rows,
    batch_size: int,
    bootstrap: Bootstrap,
    seed: int,
    keep: Scores | None = None,
) -> dict[str, Any]:
    """Return the mean log-density of rows under the model and, where it has one, the world.

    Args:
        model: The model.
        truth: The world, if known.
        rows: Test rows, complete.
        batch_size: Rows at once.
        bootstrap: Of that many rows.
        seed: Of bounds that are estimated with random draws.
        keep: Where every row's log-density goes too.

    Returns:
        By variable, by `model` and `world`: `mean`, `low`, `high`, `unit`, `bound` (whether it is a
        lower bound), and `impossible`, the number of rows of density zero (then there is no mean).
    """
    by_variable: dict[str, Any] = {}
    for name in model.mechanisms:
        by_variable[name] = {}
        for answerer, mechanism in (("model", model.mechanisms[name]), ("world", _of(truth, name))):
            if mechanism is None:
                continue
            with seeded(base_seed(seed, "densities"), name, model.device):
                scores = _log_prob(mechanism, rows, batch_size, model.device)
            if scores is None:
                continue
            if keep is not None:
                keep.add(("log_prob", name, answerer), scores, "nats")
            zero = int((~scores.isfinite()).sum())
            mean = {"mean": None, "low": None, "high": None} if zero else bootstrap.mean(scores)
            bound = mechanism.abduction == "approximate"
            by_variable[name][answerer] = {
                **mean,
                "unit": "nats",
                "bound": bound,
                "impossible": zero,
            }
    return by_variable


def _of(truth: SCM | None, name: str) -> Mechanism | None:
    return None if truth is None else truth.mechanisms[name]


def _log_prob(
    mechanism: Mechanism, rows: Mapping[str, Tensor], size: int, device: torch.device
) -> Tensor | None:
    """Return log-densities `(n,)`; `None` if the mechanism says that it has none."""
    if any(name not in rows for name in mechanism.parents):
        return None  # a hidden cause: it has one together with others alone
    parts = []
    for value, parents in batches(mechanism, rows, size, device):
        try:
            parts.append(mechanism.log_prob(value, parents).cpu())
        except ValueError:
            return None
    return torch.cat(parts)


def batches(
    mechanism: Mechanism, rows: Mapping[str, Tensor], size: int, device: torch.device
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield a mechanism's values `(n, *shape)` and those of its parents, so many rows at once."""
    values = rows[mechanism.name]
    for start in range(0, len(values), size):
        at = slice(start, start + size)
        parents = {name: rows[name][at].to(device) for name in mechanism.parents}
        yield values[at].to(device), parents
