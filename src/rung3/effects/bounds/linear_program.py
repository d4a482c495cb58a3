r"""Bounds on what discrete data do not identify, by linear programming over response functions.

A discrete `v_k := f_k(pa_k, u_k)` is one of finitely many functions of its parents; which of them
is all that its noise can say. So a model is a distribution q(r) over the response functions r_k of
each district S (the nodes that hidden causes connect), independent between districts, and

    P(v) = prod_S Q[S](v),    Q[S](v) = sum_r q_S(r) prod_{k in S} 1{r_k(pa_k) = v_k},
    P(v | do(x)) = prod_S Q[S \ X](v),

where Q[S \ X] lacks the factors of X. Each Q[S] is known from data (Tian and Pearl, AAAI 2002):

    Q[S](v) = prod_{k in S} P(v_k | T_k),    T_k = C_k + Pa(C_k) - k,

with C_k the district of k among the nodes up to k. If X lies in one district (beside districts of
which nothing else is left), a query is linear in its q, so the least and the greatest value that
the data allow are linear programs (Balke and Pearl, JASA 1997; Sachs et al., JCGS 2023). They are
sharp if hidden causes connect every two nodes of that district, and valid always. Where the query
is identified they agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from string import ascii_letters
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from rung3.data.columns import gaps, read
from rung3.data.rows import Values
from rung3.data.variables import Discrete, Variable
from rung3.effects.estimate import BOUNDS, Estimate
from rung3.graph import CausalGraph
from rung3.graph.given import as_graph
from rung3.scm.enumeration import joint, shape_of
from rung3.scm.scm import SCM

__all__ = ["bounds", "optimise"]

Array: TypeAlias = NDArray[np.float64]
Event: TypeAlias = Mapping[str, Any]

MAX_ENTRIES = 20_000_000
"""Entries of the matrix of a linear program, at most: 160 MB in double."""


def bounds(
    source: Values | SCM,
    graph: Any,
    event: Event,
    do: Event,
    *,
    versus: Event | None = None,
    known: Iterable[tuple[Event, Event, float]] = (),
    monotone: Mapping[str, str | Iterable[str]] | None = None,
    variables: Mapping[str, Variable] | None = None,
    slack: float = 0.0,
) -> Estimate[float]:
    """Bound `P(event | do)`, or its difference from `P(event | versus)`.

    Args:
        source: Rows, or a model whose distribution (of the graph's nodes) is taken as the data's.
        graph: The causal graph, with a bidirected arrow for each hidden common cause.
        event: A value, or a list of values, for each of some variables.
        do: A value for each variable that is set.
        versus: Another intervention, whose probability is subtracted.
        known: Results of experiments, `(event, do, probability)`, that must hold too.
        monotone: For each of some variables, the parents that never lower it as they rise.
        variables: What the columns of rows are; read off their values where not given.
        slack: By how much probabilities may differ from the data's; for samples that contradict the
            graph by chance.

    Returns:
        The least and the greatest value that data and graph allow, as an estimate without a value;
        both agree where the query is `identified`.

    Raises:
        ValueError: If a variable is unknown or not discrete, an event is also set, treatments lie
            in several confounded districts, a stratum that is needed has no rows, data and
            assumptions contradict each other, or the program is too large.

    Example:
        >>> from rung3 import worlds
        >>> bow = CausalGraph("treatment -> recovery; treatment <-> recovery")
        >>> print(bounds(worlds.kidney_stones(), bow, {"recovery": "yes"}, do={"treatment": "A"}))
        [0.390, 0.890]
        >>> seen = CausalGraph("size -> treatment; {size treatment} -> recovery")
        >>> print(bounds(worlds.kidney_stones(), seen, {"recovery": "yes"}, do={"treatment": "A"}))
        0.833
    """
    queries = [(event, do), *([] if versus is None else [(event, versus)])]
    results = list(known)
    graph = as_graph(graph)
    everything = [*queries, *((e, d) for e, d, _ in results)]
    for one, action in everything:
        graph.disjoint(event=list(one), do=list(action))
    goals = frozenset(name for one, _ in everything for name in one)
    relevant = graph.subgraph(goals | graph.ancestors(goals))
    model = _Program(source, relevant, variables or {}, [d for _, d in everything], monotone or {})
    sought = model.functional(*queries[0])
    if versus is not None:
        sought = sought - model.functional(*queries[1])
    rows = [model.matrix, *(model.functional(e, d)[None] for e, d, _ in results)]
    values = np.concatenate([model.values, np.array([p for _, _, p in results], dtype=float)])
    return replace(optimise(sought, np.concatenate(rows), values, slack), gaps=model.gaps)


def optimise(sought: Array, matrix: Array, values: Array, slack: float = 0.0) -> Estimate[float]:
    """Find the range of `sought q` over distributions q with `matrix q = values`, up to slack.

    Args:
        sought: Coefficients `(columns,)`.
        matrix: Constraints `(rows, columns)`.
        values: Their values `(rows,)`.
        slack: By how much they may be missed.

    Raises:
        ValueError: If no distribution meets the constraints; the message says by how much.
    """
    from scipy.optimize import linprog

    total = np.ones((1, len(sought)))
    if slack:
        pairs: dict[str, Any] = {
            "A_ub": np.concatenate([matrix, -matrix]),
            "b_ub": np.concatenate([values + slack, slack - values]),
            "A_eq": total,
            "b_eq": [1.0],
        }
    else:
        pairs = {
            "A_eq": np.concatenate([total, matrix]),
            "b_eq": np.concatenate([[1.0], values]),
        }
    ends = []
    for sign in (1, -1):
        optimum = linprog(sign * sought, **pairs, bounds=(0, None), method="highs")
        if optimum.status == 2:
            raise ValueError(
                "data and assumptions contradict each other: no model of the graph comes closer to "
                f"the given probabilities than {_miss(matrix, values):.3g}; look at the graph and "
                "at what is said to be monotone, or give slack= if this is chance"
            )
        if not optimum.success:
            raise ValueError(f"the linear program was not solved: {optimum.message}")
        ends.append(sign * float(optimum.fun))
    return Estimate(None, ends[0], ends[1], form=BOUNDS)


def _miss(matrix: Array, values: Array) -> float:
    """Return the least slack with which there is a distribution."""
    from scipy.optimize import linprog

    rows, columns = matrix.shape
    missed = -np.ones((rows, 1))
    optimum = linprog(
        np.r_[np.zeros(columns), 1.0],
        A_ub=np.block([[matrix, missed], [-matrix, missed]]),
        b_ub=np.r_[values, -values],
        A_eq=np.r_[np.ones(columns), 0.0][None],
        b_eq=[1.0],
        bounds=(0, None),
        method="highs",
    )
    return float(optimum.fun)


class _Program:
    """The constraints of the district that is intervened in, and queries as functionals of its q.

    Arrays are written with one letter a node and one a response function, for `einsum`.

    Attributes:
        matrix: `(rows, columns)`, one row for each value of Q[S] that is known.
        values: `(rows,)`.
    """

    def __init__(
        self,
        source: Values | SCM,
        graph: CausalGraph,
        variables: Mapping[str, Variable],
        actions: Sequence[Event],
        monotone: Mapping[str, str | Iterable[str]],
    ) -> None:
        self.graph = graph
        self.names = list(graph.order)
        self.observed, self.kinds, self.gaps = _distribution(source, self.names, variables)
        self.sizes = dict(zip(self.names, self.observed.shape, strict=True))
        letters = iter(ascii_letters)
        self.letter = {name: next(letters) for name in self.names}
        sets = [action.keys() & set(self.names) for action in actions]
        touched = [s for s in graph.districts if any(0 < len(x & set(s)) < len(s) for x in sets)]
        if len(touched) > 1:
            raise ValueError(
                f"do: sets {sorted(set().union(*sets))}, which lie in the confounded districts "
                f"{[list(s) for s in touched]}; only one of them can be bounded at a time"
            )
        self.district = touched[0] if touched else ()
        self.factors = {s: self._factor(s) for s in graph.districts}
        self.response = {name: next(letters) for name in self.district}
        self.indicators = self._responses(monotone)
        self.columns = [self.indicators[name].shape[0] for name in self.district]
        self.matrix, self.values = self._constraints()

    def functional(self, event: Event, do: Event) -> Array:
        """Return `P(event | do)` as coefficients of q, `(columns,)`."""
        fixed = {name: self._codes(name, value) for name, value in do.items() if name in self.names}
        for name, codes in fixed.items():
            if len(codes) != 1:
                raise ValueError(f"do: {name} must be set to one value, got {do[name]!r}")
        held = fixed | {name: self._codes(name, value) for name, value in event.items()}
        operands: list[Any] = []
        for name in self.names:
            mask = np.zeros(self.sizes[name])
            mask[held.get(name, slice(None))] = 1
            operands += [mask, self.letter[name]]
        free = [name for name in self.district if name not in fixed]
        for name in free:
            operands += [self.indicators[name], self.response[name] + self._axes(name)]
        gaps = {}
        for members, factor in self.factors.items():
            if members != self.district and not fixed.keys() & set(members):
                if np.isnan(factor).any():
                    gaps[len(operands)] = members
                operands += [np.nan_to_num(factor), self._spell(self.names)]
        for index, members in gaps.items():
            self._check_seen(operands, index, members)
        part = _einsum(operands, "".join(self.response[name] for name in free))
        shape = [self.columns[i] if k in free else 1 for i, k in enumerate(self.district)]
        return np.broadcast_to(part.reshape(shape), self.columns).reshape(-1)

    def _constraints(self) -> tuple[Array, Array]:
        """Return Q[S](v) for every v that it depends on and that occurs in the data."""
        if not self.district:
            return np.zeros((0, 1)), np.zeros(0)
        parents = {p for name in self.district for p in self.graph.parents(name)}
        scope = [name for name in self.names if name in parents or name in self.district]
        rows = prod(self.sizes[name] for name in scope)
        if rows * prod(self.columns) > MAX_ENTRIES:
            raise ValueError(
                f"bounds: {' and '.join(self.district)} have {prod(self.columns):,} joint response "
                f"functions and {rows:,} observable values: too many; leave out variables or levels"
            )
        operands: list[Any] = []
        for name in self.district:
            operands += [self.indicators[name], self.response[name] + self._axes(name)]
        responses = "".join(self.response.values())
        matrix = _einsum(operands, self._spell(scope) + responses).reshape(rows, -1)
        factor = self.factors[self.district]
        outside = tuple(i for i, name in enumerate(self.names) if name not in scope)
        values = factor.mean(axis=outside).reshape(-1)
        seen = ~np.isnan(values)
        return matrix[seen], values[seen]

    def _factor(self, members: Sequence[str]) -> Array:
        """Return Q[S] as an array over all nodes; NaN where a stratum has no rows."""
        result = np.ones(self.observed.shape)
        for name in members:
            axis = self.names.index(name)
            both = self.observed.sum(self._others(name, given_only=False), keepdims=True)
            with np.errstate(invalid="ignore"):
                result = result * (both / both.sum(axis, keepdims=True))
        return result

    def _others(self, name: str, *, given_only: bool) -> tuple[int, ...]:
        """Return the axes of the nodes that are not in `{k} + T_k` (or not in `T_k`)."""
        so_far = self.graph.subgraph(self.names[: self.names.index(name) + 1])
        near = next(s for s in so_far.districts if name in s)
        near_names = {*near, *(p for k in near for p in so_far.parents(k))}
        if given_only:
            near_names.discard(name)
        return tuple(i for i, other in enumerate(self.names) if other not in near_names)

    def _check_seen(self, operands: Sequence[Any], index: int, members: Sequence[str]) -> None:
        """Refuse a query that needs a stratum of which there are no rows."""
        swapped = list(operands)
        swapped[index] = np.isnan(self.factors[tuple(members)]).astype(float)
        for place in np.argwhere(_einsum(swapped, self._spell(self.names)) > 0)[:1]:
            for name in members:
                outside = self._others(name, given_only=True)
                count = self.observed.sum(outside, keepdims=True)
                if np.broadcast_to(count, self.observed.shape)[tuple(place)] == 0:
                    stratum = ", ".join(
                        f"{k} = {self.kinds[k].label(place[i])}"
                        for i, k in enumerate(self.names)
                        if i not in outside
                    )
                    raise ValueError(f"{name}: the query needs the stratum {stratum}: no rows")

    def _responses(self, monotone: Mapping[str, str | Iterable[str]]) -> dict[str, Array]:
        """Tabulate response functions: 1 where one gives a value, `(R, *parents, K)`, by node."""
        self.graph.names(list(monotone))
        tables = {}
        for name in self.district:
            parents = self.graph.parents(name)
            shape = [self.sizes[p] for p in parents]
            size, configurations = self.sizes[name], prod(shape)
            if size**configurations > MAX_ENTRIES:
                raise ValueError(
                    f"bounds: {name} has {size}^{configurations} response functions of "
                    f"{list(parents)}: too many; leave out parents or levels"
                )
            table = np.array(list(product(range(size), repeat=configurations)))
            table = table.reshape(-1, *shape)
            rising = monotone.get(name, ())
            for parent in [rising] if isinstance(rising, str) else rising:
                if parent not in parents:
                    raise ValueError(f"monotone: {parent!r} is not a parent of {name!r}")
                steps = np.diff(table, axis=1 + parents.index(parent))
                table = table[(steps >= 0).reshape(len(table), -1).all(1)]
            tables[name] = (table[..., None] == np.arange(size)).astype(float)
        return tables

    def _axes(self, name: str) -> str:
        return self._spell([*self.graph.parents(name), name])

    def _spell(self, names: Iterable[str]) -> str:
        return "".join(self.letter[name] for name in names)

    def _codes(self, name: str, value: Any) -> list[int]:
        codes = self.kinds[name].validate(name, value)
        return [int(code) for code in codes.reshape(-1)]


def _einsum(operands: Sequence[Any], output: str) -> Array:
    arrays, letters = operands[::2], operands[1::2]
    result: Array = np.einsum(f"{','.join(letters)}->{output}", *arrays, optimize="greedy")
    return np.asarray(result)


def _distribution(
    source: Values | SCM, names: Sequence[str], variables: Mapping[str, Variable]
) -> tuple[Array, dict[str, Discrete], int]:
    """Return P(v) of the named variables, their kinds, and the number of rows with gaps."""
    left_out = 0
    if isinstance(source, SCM):
        source.graph.names(names)
        whole = joint(source)
        axes = [source.graph.nodes.index(name) for name in names]
        others = tuple(i for i in range(whole.ndim) if i not in axes)
        table = whole.sum(others) if others else whole
        order = [name for name in source.graph.nodes if name in names]
        table = table.permute([order.index(name) for name in names])
        kinds: Mapping[str, Variable] = source.variables
    else:
        rows, kinds = read(source, variables, names)
        left_out = gaps(source, names)
        shape = shape_of({name: kinds[name] for name in names})
        codes = np.stack([rows[name].long().numpy(force=True) for name in names])
        counts = np.bincount(np.ravel_multi_index(tuple(codes), shape), minlength=prod(shape))
        table = torch.from_numpy(counts / rows.n).reshape(shape)
    discrete = {k: v for k, v in kinds.items() if k in names and isinstance(v, Discrete)}
    return table.double().numpy(force=True), discrete, left_out
