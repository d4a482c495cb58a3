"""Dataset shift, named by its cause: where an environment variable points.

A change of environment E changes the mechanisms of E's children, and no others. In a task of
predicting Y from X:

| E points at | changes | shift |
|---|---|---|
| the label, of a causal task | P(y given x) | annotation |
| the label, otherwise | P(y) or P(y given its causes) | prevalence |
| an input with causes | P(x given z) | acquisition |
| what Y causes and X shows (anatomy) | P(z given y) | manifestation |
| what X causes and Y shows, or what acts on Y and on no X (an annotator) | P(z) | annotation |
| what acts on inputs alone, beside what they show (a scanner) | P(z) | acquisition |
| what else comes before (inputs without causes too) | P(z) | population |

(Castro, Walker and Glocker 2020, Nature Communications 11:3673, Figure 4 and Table 1). The best
predictor is the same in all environments if `Y` is d-separated from `E` given `X`.

What an input shows is the label, or what is joined with it other than through the inputs. To
predict a label that the inputs cause, this tells nothing: there it is what has causes of its own,
and a scanner has none. Where no cause of an input has, a graph does not tell a scanner from what is
scanned, and they are called population.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.variables import Continuous, Discrete, Image, Variable
from rung3.evaluation.tasks.direction import Task, task
from rung3.graph import CausalGraph
from rung3.scm.scm import SCM

__all__ = ["Kind", "Shift", "shifted", "shifts"]

Kind = Literal["population", "prevalence", "annotation", "acquisition", "manifestation"]

ENVIRONMENT = "environment"
ROWS = 2_000
"""Rows that a variable's spread is taken from."""


@dataclass(frozen=True)
class Shift:
    """A change of one mechanism, as a task meets it.

    Attributes:
        variable: Name of the variable whose mechanism changes.
        kind: Its name in this task; `None` if it touches neither label nor inputs.
        mechanism: What changes, such as `P(scan | anatomy)`.
        invariant: Whether `P(label | inputs)` stays as it was.
        reason: Why it is called so.
    """

    variable: str
    kind: Kind | None
    mechanism: str
    invariant: bool
    reason: str

    def __str__(self) -> str:
        change = "stays" if self.invariant else "changes"
        name = f"{self.kind} shift" if self.kind else "no shift of this task"
        return f"{name}: {self.mechanism}; {self.reason}; the best predictor {change}"


def shifts(
    graph: CausalGraph, label: str, inputs: str | Iterable[str], environment: str | None = None
) -> dict[str, Shift]:
    """Return the shifts of a task: of those variables that an environment points at, or of all.

    Args:
        graph: The causal graph.
        label: Name of what is predicted.
        inputs: Names of what it is predicted from.
        environment: Name of the variable that tells environments apart; if not given, every
            variable is looked at as if one pointed at it.

    Returns:
        The shift of each variable, in the graph's order.

    Raises:
        ValueError: If the graph lacks a name, or the environment has causes, is hidden in part, or
            is part of the task.

    Example:
        >>> graph = CausalGraph("disease -> anatomy -> scan; scanner -> scan; age -> anatomy")
        >>> for shift in shifts(graph, "disease", "scan", environment="scanner").values():
        ...     print(shift)
        acquisition shift: P(scan | anatomy); scan is measured otherwise; the best predictor changes
        >>> {name: shift.kind for name, shift in shifts(graph, "disease", "scan").items()}
        {'disease': 'prevalence', 'anatomy': 'manifestation', 'scan': 'acquisition',
         'scanner': 'acquisition', 'age': 'population'}
    """
    about = task(graph, label, inputs)
    if environment is None:
        return {name: _shift(about, name) for name in graph.nodes}
    graph.names(environment)
    causes = [*graph.parents(environment), *graph.spouses(environment)]
    if causes:
        raise ValueError(f"environment: {environment!r} has causes {causes}; expected it to be one")
    if environment in (label, *about.inputs):
        raise ValueError(f"environment: {environment!r} is part of the task")
    rest = task(graph.subgraph(set(graph.nodes) - {environment}), label, about.inputs)
    return {name: _shift(rest, name) for name in graph.children(environment)}


def _shift(about: Task, name: str) -> Shift:
    graph, label, inputs = about.graph, about.label, about.inputs
    parents = graph.parents(name)
    mechanism = f"P({name} | {', '.join(parents)})" if parents else f"P({name})"
    arrow = (ENVIRONMENT + name, name)
    pointed = CausalGraph([*graph.edges, arrow], nodes=graph.nodes, bidirected=graph.bidirected)
    invariant = pointed.d_separated(arrow[0], label, given=inputs)
    kind, reason = _name(about, name)
    return Shift(name, kind, mechanism, invariant, reason)


def _name(about: Task, name: str) -> tuple[Kind | None, str]:
    graph, label, inputs = about.graph, about.label, about.inputs
    before_label, before_inputs = graph.ancestors(label), graph.ancestors(inputs)
    if name == label:
        if about.direction in ("causal", "mixed"):
            return "annotation", f"{label} is decided otherwise on the same inputs"
        return "prevalence", f"{label} is more or less frequent"
    if name in inputs:
        if graph.parents(name):
            return "acquisition", f"{name} is measured otherwise"
        return "population", f"other subjects, among whom {name} differs"
    if name in before_inputs and name in graph.descendants(label):
        return "manifestation", f"{label} shows otherwise in {name}"
    if name in before_label and (name not in before_inputs or name in graph.descendants(inputs)):
        return "annotation", f"{label} is decided by way of another {name}"
    if name in before_inputs and _measures(about, name):
        return "acquisition", f"the inputs are measured by way of another {name}"
    if name in before_label or name in before_inputs:
        return "population", f"other subjects, among whom {name} differs"
    return None, f"{name} causes neither {label} nor its inputs"


def _measures(about: Task, name: str) -> bool:
    """Return whether a cause of inputs acts on how they are measured, not on what they show."""
    graph, inputs = about.graph, set(about.inputs)
    rest = graph.subgraph(set(graph.nodes) - inputs)
    shown = {k for k in rest.nodes if k == about.label or not rest.d_separated(k, about.label)}
    if about.direction in ("causal", "mixed"):
        shown |= {k for k in rest.nodes if rest.parents(k) or rest.spouses(k) or rest.children(k)}
    reached = {name, *rest.descendants(name)}
    changed = [k for k in about.inputs if reached.intersection(graph.parents(k))]
    return reached.isdisjoint(shown) and all(shown & graph.ancestors(k) for k in changed)


def shifted(
    model: SCM,
    kind: Kind,
    label: str,
    inputs: str | Iterable[str],
    *,
    size: float = 1.0,
    variable: str | None = None,
    change: Any = None,
) -> SCM:
    """Return the model in a shifted environment: a new model, made with `do`.

    What is done to a variable by default, under the same noise:

    | variable | change |
    |---|---|
    | continuous | moved by `size` of its standard deviations, within its support |
    | discrete | in a share `1 - 2**-size` of rows, the last level (annotation: another level) |
    | image | `x ** 2**size`: darker |

    Args:
        model: The model.
        kind: `"population"`, `"prevalence"`, `"annotation"`, `"acquisition"` or `"manifestation"`.
        label: Name of what is predicted.
        inputs: Names of what it is predicted from.
        size: How far, in the units above.
        variable: Name of the variable to change; all that make such a shift if not given.
        change: What to do to it instead, as `SCM.do` takes it.

    Raises:
        ValueError: If the task has no such shift, or the variable makes another one.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.scans()
        >>> far = shifted(world, "acquisition", "disease", "scan", size=2.0)
        >>> far.sample(500, seed=0)["scan"].mean() > world.sample(500, seed=0)["scan"].mean() + 1
        tensor(True)
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind: expected one of {list(get_args(Kind))}, got {kind!r}")
    if not math.isfinite(size):
        raise ValueError(f"size: expected a finite number, got {size}")
    known = shifts(model.graph, label, inputs)
    names = [name for name, shift in known.items() if shift.kind == kind]
    if not names:
        kinds = sorted({shift.kind for shift in known.values() if shift.kind})
        direction = task(model.graph, label, inputs)
        raise ValueError(f"{direction}: such a task has no {kind} shift; it has {kinds}")
    if variable is not None:
        model.graph.names(variable)
        if variable not in names:
            raise ValueError(f"{variable}: makes {known[variable].kind or 'no'} shift, not {kind}")
        names = [variable]
    if change is not None:
        return model.do(dict.fromkeys(names, change))
    rows = model.sample(ROWS, seed=0)
    return model.do({k: _default(k, model.variables[k], rows, size, kind) for k in names})


def _default(name: str, variable: Variable, rows: Rows, size: float, kind: Kind) -> Any:
    """Return a function of the variable itself, as `do` takes it."""
    match variable:
        case Image():
            return _named(lambda x: variable.nearest(x ** (2.0**size)), name)
        case Continuous(lower=lower, upper=upper):
            step = size * rows[name].std(0)
            if variable.circular:  # `do` wraps it
                return _named(lambda x: x + step, name)
            return _named(lambda x: (x + step).clamp(lower, upper), name)
        case Discrete(classes=classes) if size > 0 and "u" not in rows:
            rate = 1 - 2.0**-size

            def moved(x: Tensor, u: Tensor) -> Tensor:
                steps = 1 + (u / rate * (classes - 1)).long().clamp_max(classes - 2)
                other = (x + steps) % classes
                last = torch.full_like(x, classes - 1)
                return torch.where(u < rate, other if kind == "annotation" else last, x)

            return _named(moved, name, "u")
        case _:
            raise ValueError(
                f"{name}: no shift by default for {variable}, size={size}; give change="
            )


def _named(change: Callable[..., Tensor], *names: str) -> Callable[..., Tensor]:
    """Return the function with arguments of these names: `do` matches arguments by name."""

    def applied(**values: Tensor) -> Tensor:
        return change(*(values[name] for name in names))

    kinds = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    applied.__signature__ = inspect.Signature(kinds)  # type: ignore[attr-defined]
    return applied
