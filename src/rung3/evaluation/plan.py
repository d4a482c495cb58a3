"""Which interventions are asked, and to which values.

By default every cause is set, one at a time, to the values that it has in other test rows: a
permutation of its own column. So targets follow the variable's own distribution, and are
independent of everything else. A protocol may draw them otherwise (`rung3.evaluation.targets`), and
may hold the other parents of the images at their factual values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.files import digest
from rung3.data.rows import Rows, spell_unknown
from rung3.data.seeding import stream
from rung3.data.variables import Image
from rung3.mechanisms.base import Mechanism

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["Query", "causes", "outcomes", "plan"]


@dataclass(frozen=True)
class Query:
    """One intervention, asked of every test row.

    Attributes:
        label: Its name in the report, such as `do(thickness)`.
        do: What `SCM.do` takes; tensors of targets lie on the CPU.
        per_row: Names whose targets are one a row, `(n, ...)`.
        hold: Names that are kept at their factual values.
    """

    label: str
    do: Mapping[str, Any]
    per_row: frozenset[str]
    hold: frozenset[str] = frozenset()

    def at(self, rows: slice, device: torch.device) -> dict[str, Any]:
        """What `do` is for some of the rows."""
        chosen = {k: v[rows] if k in self.per_row else v for k, v in self.do.items()}
        return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in chosen.items()}

    def digest(self) -> str:
        """A few letters that stand for the targets; functions and mechanisms are not in it."""
        return digest({k: v for k, v in self.do.items() if isinstance(v, Tensor)})

    def affected(self, model: SCM) -> list[str]:
        """Variables that may change: descendants that are not themselves set or held."""
        graph = model.graph.do(*self.hold) if self.hold else model.graph
        below = graph.descendants(list(self.do)) - self.do.keys() - self.hold
        return [name for name in model.graph.order if name in below]

    def outside(self, model: SCM) -> dict[str, float]:
        """Share of the targets that lie outside the training data's range, by name."""
        found = {}
        for name in self.do:
            target = self.do[name]
            if isinstance(target, Tensor):
                values = target if name in self.per_row else target[None]
                mask = model.mechanisms[name].outside(values.to(model.device))
                found[name] = float(mask.double().mean())
        return found


def outcomes(model: SCM) -> list[str]:
    """The images that have parents; in a model without any, every variable that has parents."""
    caused = [name for name in model.graph.order if model.graph.parents(name)]
    images = [name for name in caused if isinstance(model.variables[name], Image)]
    return images or caused


def causes(model: SCM) -> list[str]:
    """Every variable that some outcome descends from."""
    above = {cause for name in outcomes(model) for cause in model.graph.ancestors(name)}
    return [name for name in model.graph.order if name in above]


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
        _check_names(names, model)
        draw = draw or (lambda name: _permuted(test[name], seed, name))
        interventions = {name: draw(name) for name in names}
    queries = [_query(model, test, n, label, value) for label, value in interventions.items()]
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


def _query(model: SCM, test: Rows, n: int, label: str, value: Any) -> Query:
    together = isinstance(value, Mapping)
    do = dict(value) if together else {label: value}
    _check_names(list(do), model)
    per_row = set()
    for name, target in do.items():
        if isinstance(target, Mechanism) or (callable(target) and not isinstance(target, Tensor)):
            continue
        variable = model.variables[name]
        do[name] = variable.validate(name, target).cpu()
        if do[name].ndim > len(variable.shape):
            if len(do[name]) not in (n, test.n):
                expected = f"{n}" if n == test.n else f"{n} or {test.n}"
                raise ValueError(f"{name}: {len(do[name])} targets, expected {expected}")
            per_row.add(name)
    return Query(label if together else f"do({label})", do, frozenset(per_row))


def _check_names(names: list[str], model: SCM) -> None:
    unknown = [name for name in names if name not in model.variables]
    if unknown:
        raise ValueError(f"interventions: {spell_unknown(unknown, model.variables)}")
