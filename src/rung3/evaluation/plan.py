"""Which interventions are asked, and to which values.

By default every cause is set, one at a time, to the values that it has in other test rows: a
permutation of its own column. So targets follow the variable's own distribution, and are
independent of everything else. A protocol may draw them otherwise, and may hold the other parents
of the images at their factual values.

    permuted    x~_i = x_pi(i),  pi a permutation of the test rows
    marginal    x~_i ~ the values of the training rows, with replacement
    forced      x~_i ~ uniform over the distinct training values in another bin than x_i's
    grid        x~_i = v_((i + s) mod K),  v_1 < ... < v_K over the range, s random

All are independent of everything else about the row, but `forced`, which is independent given that
it changes. Bins are K of equal width over the training range; each category is one. The range of a
grid is that of the middle 96 % of the training values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from rung3.data.rows import Rows, Values
from rung3.data.seeding import stream
from rung3.data.variables import Discrete, Image, Variable
from rung3.evaluation.protocol import Protocol, Targets
from rung3.scm.query import Query, causes, check_names, outcomes, query

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["draw_targets", "plan", "planned"]

EDGES = (0.02, 0.98)
"""Quantiles between which a grid lies."""


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
    """Plan the interventions to ask of the first `n` test rows.

    Args:
        model: The model.
        test: All test rows; permuted targets are drawn from all of them.
        n: Number of rows that are asked.
        interventions: Names, for permuted targets; or by name a number, targets `(n, ...)`, a
            function or a mechanism; or by a label a mapping of these, set together.
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


def planned(
    model: SCM,
    rows: Rows,
    n: int,
    train: Values | None,
    protocol: Protocol,
    seed: int,
) -> list[Query]:
    """Plan the interventions that a protocol asks of the first `n` rows.

    Raises:
        ValueError: If a name is unknown, or a target is not a value of its variable.
    """
    draw: Callable[[str], Tensor] | None = None
    if protocol.targets != "permuted":
        draw = partial(_draw, model, rows, train, protocol, seed)
    interventions = protocol.interventions
    return plan(model, rows, n, interventions, seed, draw, propagate=protocol.propagate)


def _draw(
    model: SCM,
    rows: Rows,
    train: Values | None,
    protocol: Protocol,
    seed: int,
    name: str,
) -> Tensor:
    variable = model.variables[name]
    values = rows[name]
    if train is not None:
        if name not in train:
            raise ValueError(f"{name}: not in the training rows, which its targets are drawn from")
        values = variable.validate(name, train[name]).cpu()
        values = values[~variable.is_missing(values)]
    generator = stream(seed, f"targets/{name}")
    return draw_targets(
        protocol.targets, name, variable, rows[name], values, protocol.levels, generator
    )


def _held(model: SCM, query: Query) -> frozenset[str]:
    """Return the other parents of the images, as far as they descend from what is set."""
    images = [name for name in outcomes(model) if isinstance(model.variables[name], Image)]
    if not images:
        raise ValueError("propagate=False holds the other parents of images, and there are none")
    parents = {parent for image in images for parent in model.graph.parents(image)}
    below = model.graph.descendants(list(query.do))
    return frozenset((parents & below) - query.do.keys() - set(images))


def _permuted(values: Tensor, seed: int, name: str) -> Tensor:
    return values[torch.randperm(len(values), generator=stream(seed, f"targets/{name}"))]


def draw_targets(
    kind: Targets,
    name: str,
    variable: Variable,
    test: Tensor,
    train: Tensor,
    levels: int,
    generator: Generator,
) -> Tensor:
    """Draw targets for every test row, `(n, *shape)`.

    Args:
        kind: How.
        name: The variable's name.
        variable: The variable.
        test: Its factual values, `(n, *shape)`.
        train: Its training values, `(m, *shape)`, none of them missing.
        levels: Number of bins, or of values of a grid.
        generator: Of the draws.

    Raises:
        ValueError: If bins or a grid are asked of vectors or images, or there is but one bin.

    Example:
        >>> from rung3 import Categorical
        >>> codes, seed = torch.tensor([0, 1, 2, 2]), torch.Generator().manual_seed(0)
        >>> (draw_targets("forced", "digit", Categorical(3), codes, codes, 9, seed) != codes).all()
        tensor(True)
    """
    n = len(test)
    if kind == "permuted":
        return test[torch.randperm(n, generator=generator)]
    if kind == "marginal":
        return train[torch.randint(len(train), (n,), generator=generator)]
    if variable.shape:
        raise ValueError(f"{name}: {kind} targets are of single numbers, and it is {variable}")
    if kind == "grid":
        values = _grid(variable, train, levels)
        start = int(torch.randint(len(values), (), generator=generator))
        return values[(torch.arange(n) + start) % len(values)]
    return _forced(name, variable, test, train, levels, generator)


def _grid(variable: Variable, train: Tensor, levels: int) -> Tensor:
    if isinstance(variable, Discrete):
        classes: Tensor = train.unique()
        return classes
    low, high = torch.quantile(train[:100_000].double(), torch.tensor(EDGES).double()).tolist()
    return torch.linspace(low, high, levels, dtype=train.dtype)


def _forced(
    name: str, variable: Variable, test: Tensor, train: Tensor, levels: int, generator: Generator
) -> Tensor:
    """Draw uniformly among the distinct values outside the row's bin."""
    values = train.unique()
    if isinstance(variable, Discrete):
        edges = (values[1:] + values[:-1]) / 2
    else:
        edges = torch.linspace(float(values[0]), float(values[-1]), levels + 1)[1:-1]
    edges = edges.double()
    bins, row_bins = (torch.bucketize(v.double(), edges) for v in (values, test))
    # A place past those of the row's own bin is moved on by their number.
    first, last = torch.searchsorted(bins, row_bins), torch.searchsorted(bins, row_bins, right=True)
    others = len(values) - (last - first)
    if (others == 0).any():
        raise ValueError(f"{name}: all training values lie in one bin, so none can be forced")
    share = torch.rand(len(test), generator=generator, dtype=torch.float64)
    at = (share * others).long()
    forced: Tensor = values[torch.where(at < first, at, at + (last - first))]
    return forced
