r"""Rows with gaps, represented by complete rows that are like them.

If whether a row is complete depends on nothing but columns X that all rows have (missing at random
given X), then complete rows, weighted by

    1 / pi(x),        pi(x) = P(complete | x),

stand for all (Robins, Rotnitzky and Zhao, JASA 1994). `pi` is logistic in X, its squares and
products. That it is estimated makes the effect more certain, not less: the influence of the rows
is that of the weighted ones, less its regression on the scores of `pi`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rung3.data.columns import complete_rows, read
from rung3.effects.tables.answer import Answer
from rung3.effects.tables.influence import Influence
from rung3.effects.tables.m_estimation import regress
from rung3.effects.tables.sample import Sample, independent, numbers, products, subjects

__all__ = ["Completeness", "completeness"]


FEW_ROWS = 150
"""Effective number of complete rows below which intervals hold the truth a little too rarely."""


@dataclass(frozen=True)
class Completeness:
    """Which rows are complete, and how likely that was.

    Attributes:
        sample: The complete rows, weighted.
        complete: Mask `(n,)` of them among all rows.
        scores: Scores of the model of completeness, `(n, p)`.
        clusters: Code of each row's subject, `(n,)`, where rows repeat subjects.
        columns: Names of the columns that all rows have.
        least: Smallest probability that a complete row was complete.
    """

    sample: Sample
    complete: Tensor
    scores: Tensor
    clusters: Tensor | None
    columns: tuple[str, ...]
    least: float

    def spread(self, answer: Answer) -> Answer:
        """Return an answer of the complete rows as one of all rows."""
        share = float(self.complete.double().mean())
        note = (
            f"{1 - share:.1%} of the rows have gaps; complete rows with the same "
            f"{', '.join(self.columns)} stand for them (missing at random given these)"
        )
        return replace(
            answer,
            contrast=self._spread(answer.contrast),
            means=None if answer.means is None else self._spread(answer.means),
            curve=None if answer.curve is None else self._spread(answer.curve),
            notes=(*answer.notes, note, *self._effective_count()),
        )

    def _effective_count(self) -> tuple[str, ...]:
        """Say so, if the complete rows count as few, because some stand for many."""
        weights = self.sample.weights
        count = float(weights.sum().square() / weights.square().sum())
        if count >= FEW_ROWS:
            return ()
        return (f"weighted, the complete rows count as {count:.0f}: the interval may be too short",)

    def _spread(self, influence: Influence) -> Influence:
        scores = torch.zeros(len(self.complete), influence.scores.shape[1], dtype=torch.float64)
        scores[self.complete] = influence.scores / self.complete.double().mean()
        explained = torch.linalg.lstsq(self.scores, scores, driver="gelsd").solution
        return replace(influence, scores=scores - self.scores @ explained, clusters=self.clusters)


def completeness(
    table: Mapping[str, Any], sample: Sample, clusters: str | None = None
) -> Completeness | None:
    """Weigh the complete rows of a table to stand for all; `None` if all are complete.

    Args:
        table: The table.
        sample: Its complete rows.
        clusters: Name of the column that says whose row it is.

    Raises:
        ValueError: If no column of those that are used is without gaps, or these tell without
            error which rows are complete.
    """
    complete = sample.complete
    if complete.all():
        return None
    columns = [name for name in sample.rows if complete_rows(table, [name]).all()]
    if not columns:
        raise ValueError(
            f"missing='weight': each of {list(sample.rows)} has gaps; expected a column that all "
            "rows have; fit an SCM to the rows, and impute from it"
        )
    rows, kinds = read(table, sample.kinds, columns)
    plain = [c for name in columns for c in numbers(name, rows[name], kinds[name])]
    features = independent(products(plain, 2), rows.n)
    try:
        model = regress(
            features, complete.double(), torch.ones(rows.n).double(), True, inflate=False
        )
    except ValueError:
        raise ValueError(
            f"missing='weight': {', '.join(columns)} tell without error which rows are complete: "
            "none stand for the others"
        ) from None
    probability = model.mean(model.beta)
    weights = sample.weights / probability[complete]
    return Completeness(
        replace(sample, weights=weights / weights.mean()),
        complete,
        features * (complete.double() - probability)[:, None],
        subjects(table, clusters),
        tuple(columns),
        float(probability[complete].min()),
    )
