"""`Query`: one intervention, asked of every row, and the variables that it concerns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from rung3.data.files import digest
from rung3.data.rows import spell_unknown
from rung3.data.variables import Image
from rung3.graph.causal_graph import CausalGraph
from rung3.mechanisms.base import Mechanism
from rung3.scm.model import Model

__all__ = ["Query", "causes", "check_names", "outcomes", "query"]


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
        """Give what `do` is for some of the rows."""
        chosen = {k: v[rows] if k in self.per_row else v for k, v in self.do.items()}
        return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in chosen.items()}

    def digest(self) -> str:
        """Give a few letters that stand for the targets; functions and mechanisms are left out."""
        return digest({k: v for k, v in self.do.items() if isinstance(v, Tensor)})

    def affected(self, model: Model) -> list[str]:
        """Return what may change: descendants that are not themselves set or held."""
        below = _below(model.graph, frozenset(self.do), self.hold)
        return [name for name in model.graph.order if name in below]

    def out_of_range(self, model: Model) -> dict[str, float]:
        """Share of the targets that lie outside the training data's range, by name."""
        shares = {}
        for name, target in self.do.items():
            if isinstance(target, Tensor):
                values = target if name in self.per_row else target[None]
                mask = model.mechanisms[name].out_of_range(values.to(model.device))
                shares[name] = float(mask.double().mean())
        return shares


@lru_cache(maxsize=256)  # every measure asks it of every batch of rows
def _below(graph: CausalGraph, do: frozenset[str], hold: frozenset[str]) -> frozenset[str]:
    """Return the descendants of what is set, without what is set or held."""
    return graph.do(*hold).descendants(do) - do - hold


def outcomes(model: Model) -> list[str]:
    """Return the images that have parents; without any, every variable that has parents."""
    caused = [name for name in model.graph.order if model.graph.parents(name)]
    images = [name for name in caused if isinstance(model.variables[name], Image)]
    return images or caused


def causes(model: Model) -> list[str]:
    """Return every variable that some outcome descends from."""
    above = {cause for name in outcomes(model) for cause in model.graph.ancestors(name)}
    return [name for name in model.graph.order if name in above]


def query(model: Model, there: int, n: int, label: str, value: Any) -> Query:
    """Check one intervention, and give it its label.

    Args:
        model: The model.
        there: Number of rows for which targets may be given.
        n: Number of rows that are asked, the first of these.
        label: A variable's name; or, of several that are set together, a label.
        value: A number, targets `(n, ...)`, a function or a mechanism; or a mapping of these.

    Raises:
        ValueError: If a name is unknown, or targets do not fit the variable or the rows.
    """
    together = isinstance(value, Mapping)
    do = dict(value) if together else {label: value}
    check_names(list(do), model)
    per_row = set()
    for name, target in do.items():
        if isinstance(target, Mechanism) or (callable(target) and not isinstance(target, Tensor)):
            continue
        variable = model.variables[name]
        do[name] = variable.validate(name, target).cpu()
        if do[name].ndim > len(variable.shape):
            if len(do[name]) not in (n, there):
                expected = f"{n}" if n == there else f"{n} or {there}"
                raise ValueError(f"{name}: {len(do[name])} targets, expected {expected}")
            per_row.add(name)
    return Query(label if together else f"do({label})", do, frozenset(per_row))


def check_names(names: list[str], model: Model) -> None:
    """Refuse names that the model does not have.

    Raises:
        ValueError: Naming the first of them.
    """
    unknown = [name for name in names if name not in model.variables]
    if unknown:
        raise ValueError(f"interventions: {spell_unknown(unknown, model.variables)}")
