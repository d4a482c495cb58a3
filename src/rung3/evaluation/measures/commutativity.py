"""Commutativity: whether the order of two interventions matters, as it must not.

Of the outcome's own mechanism, the other parents held at their values,

    d(x_ab, x_ba),      x_ab = f(f(x; a := a~); b := b~),      x_ba = f(f(x; b := b~); a := a~).

Every answer is abducted again, so that what the first intervention spoils, the second starts
from. Through the whole graph the order may well matter (a mediator that is set no longer follows),
so it is asked of the mechanism alone. Doing nothing at all passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.data.seeding import Seed, chain
from rung3.evaluation.measures.axioms import answer
from rung3.evaluation.measures.base import Examination, Measure, Section
from rung3.scm.query import Query

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["COMMUTATIVITY", "commutativity"]


def commutativity(
    model: SCM,
    rows: Rows,
    first: tuple[str, Any],
    second: tuple[str, Any],
    outcome: str,
    *,
    temperature: float = 1.0,
    seed: Seed = None,
) -> Tensor:
    """Measure how far the outcome depends on the order of two interventions on its parents, `(n,)`.

    Args:
        model: The model.
        rows: A batch of rows.
        first: Name and value of one parent: a number, or a tensor of one value a row.
        second: Name and value of another.
        outcome: Their child.
        temperature: Factor on the noise of observation; 0 predicts from z alone.
        seed: An int, a `torch.Generator`, or `None`.

    Returns:
        Distance of the two answers, in the outcome's unit; of images, in grey levels.

    Raises:
        ValueError: If the two are not two parents of the outcome.

    Example:
        >>> from rung3 import SCM
        >>> from rung3.mechanisms import Equation
        >>> world = SCM(a=Equation("u"), b=Equation("u"), x=Equation("a * b + u"))
        >>> rows = world.sample(2, seed=0)
        >>> commutativity(world, rows, ("a", 1.0), ("b", 2.0), "x") < 1e-6
        tensor([True, True])
    """
    parents = model.graph.parents(outcome)
    if first[0] == second[0] or not {first[0], second[0]} <= set(parents):
        raise ValueError(
            f"commutativity: expected two parents of {outcome}, of {list(parents)}, "
            f"got {first[0]!r} and {second[0]!r}"
        )
    held = {name: rows[name] for name in parents}
    ends, links = [], chain(seed, "commutativity")
    for one, other in ((first, second), (second, first)):
        now, do = rows, held
        for name, value in (one, other):
            do = {**do, name: value}
            now = answer(model, now, do, temperature, links)
        ends.append(now[outcome])
    return distance(model.variables[outcome], *ends)


def _on_pairs(exam: Examination, queries: Sequence[Query], at: slice, rows: Rows) -> None:
    """Score every pair of interventions on two parents of an image."""
    single = [query for query in queries if len(query.do) == 1]
    for a, b in combinations(single, 2):
        first, second = (next(iter(q.at(at, exam.model.device).items())) for q in (a, b))
        names = {first[0], second[0]}
        if _callable(value for _, value in (first, second)) or len(names) < 2:
            continue
        for image in exam.outcomes:
            if names <= set(exam.model.graph.parents(image)):
                _commute(exam, first, second, image, rows)


def _commute(
    exam: Examination, first: tuple[str, Any], second: tuple[str, Any], image: str, rows: Rows
) -> None:
    for mode, temperature in exam.modes.items():
        path = ("commutativity", f"{first[0]}, {second[0]}", image, mode)
        with exam.flagged([path]):
            score = commutativity(
                exam.model, rows, first, second, image,
                temperature=temperature, seed=exam.generator,
            )  # fmt: skip
            exam.add(path, image, score)


def _callable(values: Iterable[Any]) -> bool:
    """Return whether some value is a function or a mechanism."""
    return any(callable(value) and not isinstance(value, Tensor) for value in values)


COMMUTATIVITY = Measure(
    name="commutativity",
    about="do(a) then do(b) against do(b) then do(a), by the image mechanism alone",
    sections=(
        Section(
            "commutativity",
            "Commutativity: does the order matter?",
            "Distance between the answers to two interventions in either order, by the image's "
            "mechanism alone, with other parents held. Doing nothing scores 0.",
            better={"": "lower"},
        ),
    ),
    on_pairs=_on_pairs,
)
