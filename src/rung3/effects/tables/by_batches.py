"""`effect` of a table that is read by batches: as of all rows at once, to rounding.

Where the columns that are used, a number as the outcome aside, have few combinations of values,
one pass collapses the table to them (`rung3.effects.tables.cells`), and the answer is theirs. Where
they have many, regressions are fitted in a few passes (`rung3.effects.tables.passes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch

from rung3.data.columns import variable_of
from rung3.data.expressions import Expression
from rung3.data.streaming import Streamed
from rung3.data.variables import Continuous, Discrete, Variable
from rung3.effects.tables.answer import Answer
from rung3.effects.tables.cells import MOST_CELLS, cells_of, complete
from rung3.effects.tables.passes import (
    adjusted_by_passes,
    instrumental_by_passes,
    slopes_by_passes,
)
from rung3.effects.tables.question import Question
from rung3.effects.tables.sample import Sample

__all__ = ["read_by_batches", "refuse_for_batches"]

CURE = "take a sample, such as table.sample(200_000)"


def refuse_for_batches(options: Mapping[str, Any], missing: str, impute: Any, learner: Any) -> None:
    """Refuse options of `effect` that need all rows at hand.

    Raises:
        ValueError: Naming the option.
    """
    refused = {name: options[name] for name in ("weights", "clusters", "observed")}
    refused |= {"impute": impute, "learner": learner}
    refused |= {"missing": None if missing == "complete" else missing}
    if given := [name for name, value in refused.items() if value is not None]:
        raise ValueError(f"{given[0]}: not of a table that is read by batches; {CURE}")


def read_by_batches(
    table: Streamed,
    variables: Mapping[str, Variable] | None,
    treatment: str,
    outcome: str,
    question: Question,
    options: Mapping[str, Any],
) -> tuple[Sample, Answer, tuple[str, str] | tuple[()], int]:
    """Estimate an effect from a table that is read by batches.

    Args:
        table: The table.
        variables: What the columns are; read off their values where not given.
        treatment: Name of the treatment.
        outcome: Name of the outcome.
        question: What is asked.
        options: Of `Sample.read`.

    Returns:
        Rows that stand for all, the answer, what is compared, and how many rows have a gap.

    Raises:
        ValueError: As `effect`; if a number's groups or doses are asked for, which its quantiles
            make, or there are too many combinations of values.
    """
    names = _used(treatment, outcome, question.way.used, options)
    kinds = variables or {}
    known = kinds.get(outcome) or variable_of(outcome, table.sample(names=[outcome])[outcome])
    used = question.way.used
    if (cells := cells_of(table, names, outcome, {outcome: known})) is None:
        frame = table.sample(names=names)
        drawn = {name: frame[name].to_numpy() for name in names}
        sample = Sample.read(drawn, variables, treatment, outcome, used, **options)
        _check(sample, question, options["by"])
        return _by_passes(table, sample, names, question, options)
    columns, counts, gaps = cells
    sample = Sample.read(columns, variables, treatment, outcome, used, **options)
    sample = sample.counted(torch.from_numpy(counts))
    _check(sample, question, options["by"])
    return sample, *question.of(sample), gaps


def _by_passes(
    table: Streamed,
    sample: Sample,
    names: Sequence[str],
    question: Question,
    options: Mapping[str, Any],
) -> tuple[Sample, Answer, tuple[str, str] | tuple[()], int]:
    """Estimate an effect where numbers have many values, by regressions in passes over the rows."""
    way, gaps = question.way, {"all": 0, "complete": 0}
    if options["by"] is not None:
        raise ValueError(f"by: not where {', '.join(way.used)} have so many values; {CURE}")
    compared = question.compared(sample)

    def read() -> Iterator[Sample]:
        gaps.update(all=0, complete=0)
        for batch in table.batches(names):
            whole = pa.Table.from_batches([batch]).filter(complete(pa.Table.from_batches([batch])))
            gaps["all"] += batch.num_rows
            gaps["complete"] += whole.num_rows
            if whole.num_rows:
                columns = {name: whole[name].to_pandas().to_numpy() for name in names}
                yield Sample.read(
                    columns, sample.kinds, sample.treatment, sample.outcome, way.used,
                    whole=False, **options,
                )  # fmt: skip

    match way.name:
        case "back-door" if compared.codes is not None:
            answer = adjusted_by_passes(
                read, sample, way.given, compared.codes, question.method, question.estimand
            )
        case "instrument":
            answer = instrumental_by_passes(
                read, sample, way.through, way.given, compared.units, question.level
            )
        case "front-door" if not isinstance(sample.kinds[sample.treatment], Discrete):
            answer = slopes_by_passes(read, sample, way.through, compared.units)
        case _:
            raise ValueError(
                f"{', '.join(names)}: more than {MOST_CELLS:,} combinations of values, too many "
                f"for this {way.name}; round numbers or cut them into levels; or {CURE}"
            )
    stands = torch.full((sample.n,), gaps["complete"] / sample.n, dtype=torch.float64)
    return sample.counted(stands), answer, compared.labels, gaps["all"] - gaps["complete"]


def _used(
    treatment: str, outcome: str, used: Sequence[str], options: Mapping[str, Any]
) -> list[str]:
    """Return the names of the columns that are used, each once."""
    of_terms = [name for text in options["terms"] for name in Expression(text).arguments]
    by = [options["by"]] if options["by"] else []
    return list(dict.fromkeys([treatment, outcome, *used, *of_terms, *by]))


def _check(sample: Sample, question: Question, by: str | None) -> None:
    """Refuse what quantiles of all rows would be needed for."""
    if by is not None and isinstance(sample.kinds[by], Continuous):
        raise ValueError(f"by: {by} is a number; cut it into levels, or {CURE}")
    treatment = sample.kinds[sample.treatment]
    if question.way.name == "back-door" and not isinstance(treatment, Discrete):
        raise ValueError(
            f"{sample.treatment}: is {treatment}; of a table that is read by batches, expected a "
            f"category; cut it into levels, or {CURE}"
        )
