"""Average effects over the rows of a table that is read by batches: one pass, sums that add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from rung3.data.seeding import Seed, base_seed
from rung3.data.streaming import streamed
from rung3.data.variables import Discrete
from rung3.effects.averages import average_of_sums
from rung3.effects.mediation import Averages, mediate
from rung3.effects.sums import Sums
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["mediate_over"]

PARTS = ("direct", "indirect", "total", "interaction")


@in_own_precision
def mediate_over(
    model: SCM,
    table: Any,
    do: Mapping[str, Any],
    outcome: str,
    through: str | Iterable[str],
    *,
    versus: Mapping[str, Any] | None = None,
    level: float = 0.95,
    seed: Seed = None,
) -> Averages:
    """Average direct, indirect and total effects over the rows of a table, in one pass.

    It is `mediate(model, rows, ...).average()` without the rows in memory; `total` is the average
    effect of the intervention on these rows. The intervals are those of drawing the rows.

    Args:
        model: The model.
        table: A table that is read by batches, or what `rung3.data.streamed` makes one of; with a
            column for every variable. Rows with a gap are left out.
        do: The intervention, as `SCM.do` takes it.
        outcome: Name of the outcome.
        through: Name of the mediator, or several (then taken together).
        versus: What the intervention is compared with; the rows as they are, if not given.
        level: Nominal coverage of the intervals.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Raises:
        ValueError: As `mediate`; if fewer than two rows have a value of every variable.

    Example:
        >>> import pyarrow as pa
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("x*m + u"))
        >>> rows = model.sample(1000, seed=0)
        >>> table = pa.table({name: value.numpy() for name, value in rows.items()})
        >>> averages = mediate_over(model, table, {"x": lambda x: x + 1}, "y", "m")
        >>> round(averages.interaction.effect.item(), 4)
        2.0
    """
    start, source, kinds = base_seed(seed), streamed(table), model.variables
    sums: list[Sums] | None = None
    witnesses: tuple[str, ...] = ()
    gaps = 0
    for k, rows in enumerate(source.rows(kinds, exact=())):
        missing = torch.stack([kinds[name].is_missing(value) for name, value in rows.items()])
        complete = ~missing.any(0)
        gaps += int((~complete).sum())
        if not complete.any():
            continue
        part = mediate(
            model, rows[complete], do, outcome, through, versus=versus,
            seed=base_seed(start, f"batch {k}"),
        )  # fmt: skip
        witnesses = part.witnesses
        more = [Sums.of(getattr(part, name)) for name in PARTS]
        sums = more if sums is None else [a + b for a, b in zip(sums, more, strict=True)]
    if sums is None:
        raise ValueError(f"no row has a value of each of {list(kinds)}")
    exact, learned = not isinstance(kinds[outcome], Discrete), bool(model.fitted)
    averages = [average_of_sums(one, level, exact, learned) for one in sums]
    direct, indirect, total, interaction = (replace(one, gaps=gaps) for one in averages)
    return Averages(direct, indirect, total, interaction, witnesses)
