"""Which interventions are asked, and to which values.

By default every cause is set, one at a time, to the values that it has in other test rows: a
permutation of its own column. So targets follow the variable's own distribution, and are
independent of everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.digests import digest
from rung3.mechanisms.base import Mechanism
from rung3.rows import Rows, spell_unknown
from rung3.seeding import stream
from rung3.variables import Image

if TYPE_CHECKING:
    from rung3.scm import SCM

__all__ = ["Query", "causes", "outcomes", "plan"]


@dataclass(frozen=True)
class Query:
    """One intervention, asked of every test row.

    Attributes:
        label: Its name in the report, such as `do(thickness)`.
        do: What `SCM.do` takes; tensors of targets lie on the CPU.
        per_row: Names whose targets are one a row, `(n, ...)`.
    """

    label: str
    do: Mapping[str, Any]
    per_row: frozenset[str]

    def at(self, rows: slice, device: torch.device) -> dict[str, Any]:
        """What `do` is for some of the rows."""
        chosen = {k: v[rows] if k in self.per_row else v for k, v in self.do.items()}
        return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in chosen.items()}

    def digest(self) -> str:
        """A few letters that stand for the targets; functions and mechanisms are not in it."""
        return digest({k: v for k, v in self.do.items() if isinstance(v, Tensor)})

    def affected(self, model: SCM) -> list[str]:
        """Variables that may change: descendants that are not themselves set."""
        below = model.graph.descendants(list(self.do))
        return [name for name in model.graph.order if name in below and name not in self.do]


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

    Raises:
        ValueError: If a name is unknown, or targets do not fit the variable or the rows.
    """
    if interventions is None:
        interventions = causes(model)
    elif isinstance(interventions, str):
        interventions = [interventions]
    if not isinstance(interventions, Mapping):
        names = list(interventions)
        _check_names(names, model)
        interventions = {name: _permuted(test[name], seed, name) for name in names}
    return [_query(model, test, n, label, value) for label, value in interventions.items()]


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
