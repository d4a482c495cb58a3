"""Commutativity: whether the order of two interventions matters, as it must not.

Of the outcome's own mechanism, the other parents held at their values,

    d(x_ab, x_ba),      x_ab = f(f(x; a := a~); b := b~),      x_ba = f(f(x; b := b~); a := a~).

Every answer is abducted from anew, so that what the first intervention spoils, the second starts
from. Through the whole graph the order may well matter (a mediator that is set no longer follows),
so it is asked of the mechanism alone. Doing nothing at all passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.data.seeding import Seed, chain
from rung3.evaluation.measures.axioms import answer

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["commutativity"]


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
    """How far the outcome depends on the order of two interventions on its parents, `(n,)`.

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
