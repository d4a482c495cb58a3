r"""Probabilities of causation: would it have happened, had it not been for the cause?

For a cause X with values x and x', and an outcome Y with values y and y',

    PN  = P(Y_{x'} = y' | x, y)          necessity: it happened because of x,
    PS  = P(Y_x = y | x', y')            sufficiency: x would have made it happen,
    PNS = P(Y_x = y, Y_{x'} = y')        both.

(Pearl 1999; Tian and Pearl 2000, Annals of Mathematics and Artificial Intelligence 28:287-313.)
They concern single rows in two worlds at once, and data identify none of them: a row is never seen
under both x and x'. What a table allows is a linear program over the probabilities q of the eight
kinds of rows: X is x or x', and Y never happens, happens under x only (helped), under x' only
(hurt), or always. Observations fix the P(x, y), experiments the P(y | do(x)); if nobody is hurt
(monotone), both together leave one value. With both, the optima are Tian and Pearl's bounds:

    max{0, P(y_x) - P(y_x'), P(y) - P(y_x'), P(y_x) - P(y)} <= PNS
        <= min{P(y_x), P(y'_x'), P(x,y) + P(x',y'), P(y_x) - P(y_x') + P(x,y') + P(x',y)},
    max{0, (P(y) - P(y_x')) / P(x,y)}   <= PN <= min{1, (P(y'_x') - P(x',y')) / P(x,y)},
    max{0, (P(y_x) - P(y)) / P(x',y')}  <= PS <= min{1, (P(y_x) - P(x,y)) / P(x',y')}.

An SCM answers for single rows, so of a model they are plain averages of its counterfactuals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung3.data.columns import gaps, read, say_gaps
from rung3.data.printed import Printed
from rung3.data.rows import Values
from rung3.data.seeding import Seed, base_seed
from rung3.data.values import coded
from rung3.data.variables import Discrete, Variable
from rung3.effects.bounds.linear_program import optimise
from rung3.effects.estimate import Estimate, say_learned
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["Causation", "probabilities_of_causation"]

NEVER, HELPED, HURT, ALWAYS = range(4)
"""The kinds of rows: Y happens in neither world, under x only, under x' only, or in both."""


@dataclass(frozen=True)
class Causation(Printed):
    """The three probabilities of causation: bounds from a table, shares of rows from a model.

    Attributes:
        necessity: PN; `None` where no row has cause and outcome.
        sufficiency: PS; `None` where no row lacks both.
        both: PNS.
        gaps: How many rows of a table were left out, for a gap in either column.
        learned: Whether they are of a model that was fitted, whose own error is not counted.
    """

    necessity: Estimate[float] | None
    sufficiency: Estimate[float] | None
    both: Estimate[float]
    gaps: int = 0
    learned: bool = False

    def __str__(self) -> str:
        names = {"necessity": "PN ", "sufficiency": "PS ", "both": "PNS"}
        lines = [f"{short} {getattr(self, name)}" for name, short in names.items()]
        return "\n".join(lines) + say_gaps(self.gaps) + say_learned(self.learned)


def probabilities_of_causation(
    source: SCM | Mapping[str, Any],
    cause: str,
    outcome: str,
    *,
    experiment: tuple[float, float] | None = None,
    exogenous: bool = False,
    monotone: bool = False,
    variables: Mapping[str, Variable] | None = None,
    x: Any = None,
    versus: Any = None,
    event: Any = None,
    n: int | None = None,
    level: float | None = None,
    seed: Seed = None,
) -> Causation:
    """Bound the probabilities of causation from a table, or compute them from a model.

    A table of two binary columns leaves bounds, each of which is one number where it is identified.
    A model answers by its counterfactuals: noise is abducted from `n` of its rows, and each row is
    predicted under x and under x'. Like every counterfactual, that answer rests on the mechanisms,
    not on data alone.

    Args:
        source: Observations (a mapping from name to values, a data frame, or rows), or a model.
        cause: Name of the cause; in a table its value 1 is x, and 0 is x'.
        outcome: Name of the outcome; in a table its value 1 is y.
        experiment: Of a table: `P(y | do(x))` and `P(y | do(x'))`, where they are known, from an
            experiment or by adjustment (`rung3.effects.tables.effect`).
        exogenous: Of a table: whether nothing confounds the two, so that seeing is doing.
        monotone: Of a table: whether the cause never prevents the outcome.
        variables: Of a table: what the columns are; read off their values where not given.
        x: Of a model: the value of the cause; 1 if not given (of a labelled one, the second).
        versus: Of a model: the value x' that it is compared with; 0 if not given (the first).
        event: Of a model: the value y of the outcome; 1 if not given (the second). Or a function of
            its values `(n, ...)` that gives a mask `(n,)`, such as `lambda grade: grade >= 4`.
        n: Of a model: number of rows; 10,000 if not given.
        level: Of a model: nominal coverage of the intervals (Wilson's), for the Monte Carlo error
            alone; 0.95 if not given.
        seed: Of a model: an int, a `torch.Generator`, or `None` to follow torch's own.

    Raises:
        ValueError: If an argument does not belong to the source. Of a table: if a column is not
            binary, probabilities are none, or assumptions contradict each other or the data. Of a
            model: if a name is unknown, the outcome is not an effect of the cause, or a value does
            not fit its variable.

    Example:
        >>> table = {"studied": [1] * 50 + [0] * 50, "passed": [1] * 40 + [0] * 35 + [1] * 25}
        >>> print(probabilities_of_causation(table, "studied", "passed", exogenous=True))
        PN  [0.375, 0.625]
        PS  [0.600, 1.000]
        PNS [0.300, 0.500]
        >>> print(probabilities_of_causation(table, "studied", "passed", exogenous=True,
        ...     monotone=True))
        PN  0.375
        PS  0.600
        PNS 0.300
        >>> from rung3 import worlds
        >>> print(probabilities_of_causation(worlds.exam(), "studied", "passed", seed=0).necessity)
        0.459 [0.444, 0.474]
    """
    of_table = {
        "experiment": experiment,
        "exogenous": exogenous or None,
        "monotone": monotone or None,
        "variables": variables,
    }
    of_model = {"x": x, "versus": versus, "event": event, "n": n, "level": level, "seed": seed}
    if isinstance(source, SCM):
        _refuse(of_table, "a table", "a model")
        rows, coverage = 10_000 if n is None else n, 0.95 if level is None else level
        return _of_model(source, cause, outcome, x, versus, event, rows, coverage, seed)
    _refuse(of_model, "a model", "a table")
    return _of_table(source, cause, outcome, experiment, exogenous, monotone, variables)


def _refuse(arguments: Mapping[str, Any], other: str, source: str) -> None:
    """Refuse arguments that only the other kind of source has a use for."""
    if unfit := [name for name, value in arguments.items() if value is not None]:
        raise ValueError(
            f"{', '.join(unfit)}: for {other} as source, and this one is {source}; leave out "
            f"{'it' if len(unfit) == 1 else 'them'}"
        )


def _of_table(
    table: Values,
    cause: str,
    outcome: str,
    experiment: tuple[float, float] | None,
    exogenous: bool,
    monotone: bool,
    variables: Mapping[str, Variable] | None,
) -> Causation:
    """Bound the probabilities by what a table and assumptions allow."""
    rows, kinds = read(table, variables, [cause, outcome])
    for name in (cause, outcome):
        kind = kinds[name]
        if not isinstance(kind, Discrete) or kind.classes != 2:
            raise ValueError(f"{name}: is {kind}; expected a binary column")
    if experiment is not None and exogenous:
        raise ValueError("give experiment= or exogenous=True, not both")
    x, y = rows[cause].long(), rows[outcome].long()
    seen = torch.bincount(2 * x + y, minlength=4).double().reshape(2, 2).numpy(force=True) / rows.n
    if exogenous:
        empty = [code for code in (0, 1) if seen[code].sum() == 0]
        if empty:
            raise ValueError(f"{cause}: no rows in the stratum {cause} = {empty[0]}")
        experiment = seen[1, 1] / seen[1].sum(), seen[0, 1] / seen[0].sum()
    return replace(_bounded(seen, experiment, monotone), gaps=gaps(table, [cause, outcome]))


def _bounded(
    seen: np.ndarray[Any, Any], experiment: tuple[float, float] | None, monotone: bool
) -> Causation:
    """Solve the linear programs over q(x, kind), given `P(x, y)` as `(2, 2)`."""
    kinds = [NEVER, HELPED, ALWAYS] if monotone else [NEVER, HELPED, HURT, ALWAYS]
    happens = {0: (HURT, ALWAYS), 1: (HELPED, ALWAYS)}  # under x' and under x

    def row(*cells: tuple[int, int]) -> np.ndarray[Any, Any]:
        return np.array([float((x, kind) in cells) for x in (0, 1) for kind in kinds])

    def under(x: int, y: int, seen_at: tuple[int, ...]) -> list[tuple[int, int]]:
        same = [kind for kind in kinds if (kind in happens[x]) == bool(y)]
        return [(at, kind) for at in seen_at for kind in same]

    matrix = [row(*under(x, y, (x,))) for x in (0, 1) for y in (0, 1)]
    values = [seen[x, y] for x in (0, 1) for y in (0, 1)]
    for x, known in zip((1, 0), experiment or (), strict=False):
        if not 0 <= known <= 1:
            raise ValueError(f"experiment: expected two probabilities, got {experiment}")
        matrix.append(row(*under(x, 1, (0, 1))))
        values.append(known)

    def ask(cells: list[tuple[int, int]], given: float) -> Estimate[float] | None:
        if given == 0:
            return None
        return optimise(row(*cells) / given, np.stack(matrix), np.array(values))

    both = ask([(0, HELPED), (1, HELPED)], 1.0)
    assert both is not None
    return Causation(ask([(1, HELPED)], seen[1, 1]), ask([(0, HELPED)], seen[0, 0]), both)


@in_own_precision
def _of_model(
    model: SCM,
    cause: str,
    outcome: str,
    x: Any,
    versus: Any,
    event: Any,
    n: int,
    level: float,
    seed: Seed,
) -> Causation:
    """Count the rows of a model whose counterfactuals meet each definition."""
    x, versus, event = coded(x, 1), coded(versus, 0), coded(event, 1)
    model.graph.names([cause, outcome])
    if outcome not in model.graph.descendants(cause):
        raise ValueError(f"outcome: {outcome!r} is not an effect of {cause!r}")
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
    base = base_seed(seed, "causation")
    acted = [model.do({cause: value}) for value in (x, versus)]
    rows = model.sample(n, seed=base)
    noise = model.abduct(rows, seed=base)
    happened = _mask(model, outcome, event, rows[outcome])
    treated, control = (_mask(model, outcome, event, w.predict(noise)[outcome]) for w in acted)
    values = [model.variables[cause].validate(cause, value) for value in (x, versus)]
    exposed, unexposed = (rows[cause] == value for value in values)

    def share(hit: Tensor, among: Tensor) -> Estimate[float] | None:
        return _share(hit[among], level) if among.any() else None

    both = _share(treated & ~control, level)
    necessity = share(~control, exposed & happened)
    sufficiency = share(treated, unexposed & ~happened)
    return Causation(necessity, sufficiency, both, learned=bool(model.fitted))


def _mask(model: SCM, name: str, event: Any, values: Tensor) -> Tensor:
    """Return in which rows an event happened, `(n,)`."""
    if callable(event) and not isinstance(event, Tensor):
        mask = torch.as_tensor(event(values))
    else:
        mask = values == model.variables[name].validate(name, event).to(values)
    if mask.shape != values.shape[:1]:
        raise ValueError(f"event: expected one truth value a row of {name}, got {mask.shape}")
    return mask.bool()


def _share(hit: Tensor, level: float) -> Estimate[float]:
    """Return the share of hits, with Wilson's interval."""
    from scipy.stats import binomtest

    count, n = int(hit.sum()), len(hit)
    interval = binomtest(count, n).proportion_ci(level, "wilson")
    return Estimate(count / n, float(interval.low), float(interval.high), n, level)
