"""`CounterfactualDataset`: counterfactuals drawn on the fly, for a loader of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rung3.data.rows import Rows
from rung3.data.seeding import Seed, base_seed, stream
from rung3.scm.scm import SCM
from rung3.training.augmentation.augmenting import answered, prepared
from rung3.training.augmentation.confirmation import Confirmation, fit_confirmation
from rung3.training.augmentation.plan import Plan

if TYPE_CHECKING:
    from rung3.data.rows import Values

__all__ = ["CounterfactualDataset"]


class CounterfactualDataset(Dataset[dict[str, Tensor]]):
    """Rows under new values in each epoch, answered when they are asked for.

    Item i of an epoch is a function of the seed, the epoch and i alone. Values are assigned for a
    whole epoch, so each has the joint that the plan asks for. Where no attempt confirms a
    counterfactual, another row of the same cell is tried in its place; where none confirms that
    either, the item is the factual row with weight 0, since it is not in the cell that it stands
    for.

    Args:
        model: A fitted model, or a world.
        rows: Complete rows, those of training.
        plan: Which variable is set, and the joint asked for.
        confirmation: What accepts images; if not given, predictors are trained on the rows.
        seed: Of all that is drawn.

    Raises:
        ValueError: If the plan cannot be met.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.scans()
        >>> rows = world.sample(8, seed=0)
        >>> plan = Plan(change="lesion", every=True, values=[0, 2])
        >>> data = CounterfactualDataset(world, rows, plan)
        >>> data.set_epoch(1)
        >>> len(data), sorted(data[3])[:3]
        (16, ['age', 'disease', 'factual'])
    """

    def __init__(
        self,
        model: SCM,
        rows: Values,
        plan: Plan,
        *,
        confirmation: Confirmation | None = None,
        seed: Seed = 0,
    ) -> None:
        self.model = model
        self.target = prepared(model, rows, plan)
        self.base = base_seed(seed, "augment")
        self.confirmation = confirmation or fit_confirmation(model, self.target, self.base)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Assign the values of another epoch; call it before the loader's workers start."""
        self.epoch = epoch
        seed = base_seed(self.base, f"epoch {epoch}")
        self.assignment = self.target.assign(seed)
        cells = self.target.cell(self.assignment.source, self.assignment.value)
        self.weight = self.target.weights(cells)

    def __len__(self) -> int:
        return len(self.assignment.source)

    @torch.no_grad()
    def __getitem__(self, index: int) -> dict[str, Tensor]:
        at = range(len(self))[index]
        source, value = self.assignment.source[at], self.assignment.value[at]
        factual = bool(self.assignment.factual[at])
        row = self.target.rows[source[None]]
        weight = self.weight[at]
        if not factual:
            answer = self._answer(source, value, at)
            if answer is None:
                factual, weight = True, torch.zeros_like(weight)
            else:
                source, row = answer
        values = {name: column[0] for name, column in row.items()}
        return values | {"source": source, "factual": torch.tensor(factual), "weight": weight}

    def _answer(self, source: Tensor, value: Tensor, at: int) -> tuple[Tensor, Rows] | None:
        """Return the first answer that is confirmed, of the row or of one in its place."""
        base = base_seed(self.base, f"epoch {self.epoch} item {at}")
        for row in (source, *self._substitute(source, base)):
            for attempt in range(self.target.plan.attempts):
                seed = base_seed(base, f"row {int(row)} attempt {attempt}")
                answer = answered(
                    self.model, self.target.plan, self.target.rows[row[None]], value[None], seed
                )
                if all(bool(verdict) for verdict in self.confirmation.accepts(answer).values()):
                    return row, answer
        return None

    def _substitute(self, source: Tensor, seed: int) -> list[Tensor]:
        """Draw another row that can take its place, if there is one."""
        rows = self.target.alike(source)
        if not len(rows):
            return []
        return [rows[torch.randint(len(rows), (), generator=stream(seed, "substitute"))]]
