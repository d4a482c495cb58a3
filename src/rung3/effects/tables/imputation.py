r"""Effects from rows with gaps that a fitted SCM fills, several times: multiple imputation.

With M completed tables, the estimates q_m and their covariances U_m,

    q = mean(q_m),        T = mean(U_m) + (1 + 1/M) Cov(q_m)

(Rubin 1987), and Student's intervals with `(M - 1) (1 + r)^2` degrees of freedom, r the first part
of T over the second. One model fills all tables as if it were known; of several, fitted to rows
redrawn (`rung3.effects.refits`), each fills one, and the interval holds their learning as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from rung3.data.rows import named
from rung3.data.seeding import Seed, base_seed
from rung3.data.variables import Variable
from rung3.effects.tables.answer import Answer
from rung3.effects.tables.influence import Influence
from rung3.scm.imputation import complete
from rung3.scm.scm import SCM

__all__ = ["IMPUTATIONS", "imputed", "pooled"]

IMPUTATIONS = 20
"""Completed tables of one model: with them, an interval is at most a few percent wider than with
more (White, Royston and Wood, Stat. Med. 2011)."""


def imputed(
    table: Mapping[str, Any], models: Sequence[SCM], seed: Seed
) -> tuple[list[dict[str, Any]], dict[str, Variable]]:
    """Return completed tables, and what the columns are that the models know.

    Args:
        table: The table.
        models: One fitted model, which fills 20 tables; or several, which fill one each.
        seed: Of what is drawn.

    Raises:
        ValueError: If the table lacks a column of the models, or rows cannot be completed.
    """
    columns, first = named(table), models[0]
    if lacking := [name for name in first.variables if name not in columns]:
        raise ValueError(f"impute: the table has no column {lacking[0]!r}, which the model has")
    known = {name: columns[name] for name in first.variables}
    base = base_seed(seed, "impute")
    if len(models) == 1:
        filled = [complete(first, known, IMPUTATIONS, seed=base)]
    else:
        filled = [
            complete(model, known, 1, seed=base_seed(base, str(k)))
            for k, model in enumerate(models)
        ]
    tables = []
    for one in filled:
        for part in range(one.particles):
            n = one.rows.n // one.particles
            values = {k: v[part * n : (part + 1) * n] for k, v in one.rows.items()}
            tables.append({**columns, **values})
    kinds = {name: replace(kind, missing=False) for name, kind in first.variables.items()}
    return [_whole(one, kinds) for one in tables], kinds


def _whole(table: dict[str, Any], kinds: Mapping[str, Variable]) -> dict[str, Any]:
    """Return a table whose completed columns have their own type again: codes are whole."""
    return {k: v.to(kinds[k].dtype) if k in kinds else v for k, v in table.items()}


def pooled(answers: Sequence[Answer], models: int) -> Answer:
    """Return the answer of several completed tables.

    Args:
        answers: Of each table.
        models: How many models filled them.
    """
    first = answers[0]
    means = [one.means for one in answers if one.means is not None]
    curves = [one.curve for one in answers if one.curve is not None]
    held = "" if models > 1 else "; that the model was learned is not in the interval"
    note = f"{len(answers)} tables, filled by a fitted SCM (missing at random given the rest){held}"
    return replace(
        first,
        contrast=_pooled([one.contrast for one in answers]),
        means=_pooled(means) if means else None,
        curve=_pooled(curves) if curves else None,
        least=min(one.least for one in answers),
        interval=None,
        notes=(*first.notes, note),
    )


def _pooled(parts: Sequence[Influence]) -> Influence:
    values = torch.stack([one.values for one in parts])
    count, away = len(parts), values - values.mean(0)
    between = (1 + 1 / count) * away.T @ away / (count - 1)
    within = torch.stack([one.covariance for one in parts]).mean(0)
    first = parts[0]
    share = within.diagonal()[0] / between.diagonal()[0].clamp_min(1e-300)
    freedom = min(first.t_freedom, float((count - 1) * (1 + share) ** 2))
    more = within - first.covariance + between
    return replace(first, values=values.mean(0), freedom=freedom, more=more)
