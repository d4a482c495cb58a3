"""How a predictor fares under each shift of its task.

Every environment is drawn with the same exogenous noise, so row i of one is row i of the other in
another environment, and the difference of their scores has the interval of a mean of differences.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.seeding import Seed, base_seed
from rung3.data.variables import Discrete
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.tasks.distribution_shifts import Kind, shifted, shifts
from rung3.scm.scm import SCM

__all__ = ["Fared", "Stress", "stress"]

Score = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Fared:
    """A predictor's score in one environment, each with its interval `(mean, low, high)`.

    Attributes:
        score: Mean score there.
        change: Its mean difference from the source; zero for the source itself.
    """

    score: tuple[float, float, float]
    change: tuple[float, float, float]


@dataclass(frozen=True)
class Stress:
    """A predictor under each shift.

    Attributes:
        label: Name of what is predicted.
        measure: What the scores are: `accuracy`, `negative absolute error`, or `score`.
        environments: How it fared in each, the source first.
        level: Nominal coverage of the intervals.
        n: Rows drawn from each environment.
    """

    label: str
    measure: str
    environments: Mapping[str, Fared]
    level: float
    n: int

    def __getitem__(self, environment: str) -> Fared:
        return self.environments[environment]

    def __str__(self) -> str:
        width = max(map(len, self.environments))
        lines = [f"{self.measure} of {self.label}, {self.n} rows, {self.level:.0%} intervals"]
        for name, fared in self.environments.items():
            line = f"  {name:<{width}}  {_spell(fared.score, '.3f')}"
            change = f"  change {_spell(fared.change, '+.3f')}"
            lines.append(line if name == "source" else line + change)
        return "\n".join(lines)


def stress(
    model: SCM,
    predictor: Callable[[Rows], Any],
    label: str,
    inputs: str | Iterable[str],
    *,
    environments: Mapping[str, SCM] | None = None,
    sizes: Iterable[float] = (1.0,),
    score: Score | None = None,
    n: int = 2_000,
    level: float = 0.95,
    seed: Seed = None,
) -> Stress:
    """Score a predictor in the source environment and under every shift that its task has.

    Args:
        model: The source environment; true labels are its own, in each environment.
        predictor: Any callable that takes rows of the inputs alone and gives one prediction a row:
            labels `(n,)`, scores of the classes `(n, K)`, or numbers.
        label: Name of what is predicted.
        inputs: Names of what it is predicted from.
        environments: The shifted models, by name; `shifted` of every kind and size if not given.
        sizes: Sizes of those shifts.
        score: `score(prediction, truth) -> (n,)`, higher is better; accuracy for discrete labels
            and minus the absolute error for numbers if not given.
        n: Rows drawn from each environment.
        level: Nominal coverage of the intervals.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Raises:
        ValueError: If a name is unknown, or the predictor does not give one prediction a row.

    Example:
        >>> from rung3 import worlds
        >>> threshold = lambda rows: rows["scan"] > 1.8
        >>> found = stress(worlds.scans(), threshold, "disease", "scan", seed=0)
        >>> found["acquisition"].change[2] < 0
        True
    """
    if n < 2:
        raise ValueError(f"n: expected at least 2 rows, for an interval, got {n}")
    names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    known = shifts(model.graph, label, names)
    if environments is None:
        kinds = {shift.kind for shift in known.values()}
        environments = _shifted(model, kinds, label, names, list(sizes))
    base = base_seed(seed, "stress")
    discrete = isinstance(model.variables[label], Discrete)
    measure = score or (_accuracy if discrete else _error)
    scores = {}
    for name, world in {"source": model, **environments}.items():
        rows = world.sample(n, seed=base)
        with torch.no_grad():
            predicted = predictor(Rows({k: rows[k] for k in names}))
        scores[name] = _checked(name, measure(predicted, rows[label]), n)
    bootstrap = Bootstrap(n, seed=base, level=level)
    source = scores["source"].float()
    results = {
        name: Fared(_interval(bootstrap, values), _interval(bootstrap, values.float() - source))
        for name, values in scores.items()
    }
    measured = "score" if score else "accuracy" if discrete else "negative absolute error"
    return Stress(label, measured, results, level, n)


def _checked(name: str, scores: Any, n: int) -> Tensor:
    """Refuse scores that are not one a row."""
    tensor = torch.as_tensor(scores)
    if tensor.shape != (n,):
        raise ValueError(
            f"{name}: expected one score a row, ({n},), got {tuple(tensor.shape)}; "
            "a predictor gives labels (n,) or scores of the classes (n, K)"
        )
    return tensor


def _shifted(
    model: SCM,
    kinds: Collection[Kind | None],
    label: str,
    inputs: tuple[str, ...],
    sizes: Sequence[float],
) -> dict[str, SCM]:
    """Return the model under each kind of shift, of each size, by name."""
    return {
        kind if len(sizes) == 1 else f"{kind} x{size:g}": shifted(
            model, kind, label, inputs, size=size
        )
        for kind in get_args(Kind)
        if kind in kinds
        for size in sizes
    }


def _accuracy(predicted: Any, truth: Tensor) -> Tensor:
    guess = torch.as_tensor(predicted)
    if guess.ndim == 2 and guess.shape[1] > 1:
        guess = guess.argmax(1)
    if guess.shape != truth.shape:
        return guess.float()  # of the wrong shape: refused by the caller
    return (guess.to(truth.dtype) == truth).float()


def _error(predicted: Any, truth: Tensor) -> Tensor:
    guess = torch.as_tensor(predicted)
    return -(guess - truth).abs() if guess.shape == truth.shape else guess


def _interval(bootstrap: Bootstrap, scores: Tensor) -> tuple[float, float, float]:
    mean = bootstrap.mean(scores)
    return mean["mean"], mean["low"], mean["high"]


def _spell(value: tuple[float, float, float], form: str) -> str:
    mean, low, high = (format(number, form) for number in value)
    return f"{mean} [{low}, {high}]"
