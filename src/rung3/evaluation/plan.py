"""Which interventions are asked, and to which values.

By default every cause is set, one at a time, to the values that it has in other test rows: a
permutation of its own column. So targets follow the variable's own distribution, and are
independent of everything else. A protocol may draw them otherwise (`rung3.evaluation.targets`), and
may hold the other parents of the images at their factual values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.seeding import stream
from rung3.data.variables import Image
from rung3.scm.query import Query, causes, check_names, outcomes, query

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["plan"]


def plan(
    model: SCM,
    test: Rows,
    n: int,
    interventions: Mapping[str, Any] | Iterable[str] | None,
    seed: int,
    draw: Callable[[str], Tensor] | None = None,
    *,
    propagate: bool = True,
) -> list[Query]:
    """The interventions to ask of the first `n` test rows.

    Args:
        model: The model.
        test: All test rows; permuted targets are drawn from all of them.
        n: Number of rows that are asked.
        interventions: Names, for permuted targets; or by name a number, targets `(n, ...)`, a
            function or a mechanism; or by a label of one's own a mapping of these, set together.
            `None` for every cause.
        seed: Of the permutations.
        draw: Gives the targets of a name, `(rows, ...)`, instead of permuted ones.
        propagate: Whether the images' other parents change with what is set; else they are held.

    Raises:
        ValueError: If a name is unknown, targets do not fit the variable or the rows, or nothing is
            to be propagated where there are no images.
    """
    if interventions is None:
        interventions = causes(model)
    elif isinstance(interventions, str):
        interventions = [interventions]
    if not isinstance(interventions, Mapping):
        names = list(interventions)
        check_names(names, model)
        draw = draw or (lambda name: _permuted(test[name], seed, name))
        interventions = {name: draw(name) for name in names}
    queries = [query(model, test.n, n, label, value) for label, value in interventions.items()]
    return queries if propagate else [replace(q, hold=_held(model, q)) for q in queries]


def _held(model: SCM, query: Query) -> frozenset[str]:
    """The other parents of the images, as far as they descend from what is set."""
    images = [name for name in outcomes(model) if isinstance(model.variables[name], Image)]
    if not images:
        raise ValueError("propagate=False holds the other parents of images, and there are none")
    parents = {parent for image in images for parent in model.graph.parents(image)}
    below = model.graph.descendants(list(query.do))
    return frozenset((parents & below) - query.do.keys() - set(images))


def _permuted(values: Tensor, seed: int, name: str) -> Tensor:
    return values[torch.randperm(len(values), generator=stream(seed, f"targets/{name}"))]
