"""Guidance by the graph: parents that changed weigh more in a counterfactual, or less.

Parents fall into two groups g, those that changed (set, or descending from what was set) and the
rest, each with a weight. The field of a path (a velocity, or a predicted noise) becomes

    v + sum_g (w_g - 1) (v - v without g).

A group's term is the field's part that points to where x tells the group's parents better, given
the other group: the score of `p(g | x, others)`. Where the groups add up, this is the published
factored form `v_0 + sum_g w_g (v of g alone - v_0)` (arXiv 2506.14399; of one group for all
parents: Ho and Salimans 2022, arXiv 2207.12598), and a group with weight 1 is left as it is, at no
cost. With both weights 1 it is the plain field, bit for bit.

The field without a group is one that the network learned with these parents left out. Autoencoders
use the same weights in another way (`rung3.mechanisms.networks.context`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from rung3.mechanisms.arguments import is_number
from rung3.mechanisms.solvers import Velocity

__all__ = ["Guidance", "guided"]


class Guidance(NamedTuple):
    """Weights of the two groups of parents.

    Attributes:
        changed: Weight of the parents that were set, or descend from what was set.
        rest: Weight of the others.
    """

    changed: float = 1.0
    rest: float = 1.0

    @classmethod
    def of(cls, given: float | Mapping[str, float] | Sequence[float]) -> Guidance:
        """Read one weight (of the parents that changed), both, or a mapping of them.

        Raises:
            ValueError: If it is none of these, or a weight is negative or infinite.

        Example:
            >>> Guidance.of(2.5)
            Guidance(changed=2.5, rest=1.0)
            >>> Guidance.of({"rest": 1.5})
            Guidance(changed=1.0, rest=1.5)
        """
        listed: list[Any]
        weights: Mapping[str, Any]
        if isinstance(given, Mapping):
            listed, weights = [*given], given
        else:
            is_one = isinstance(given, str) or not isinstance(given, Sequence)
            listed = [given] if is_one else [*given]  # type: ignore[misc]
            weights = dict(zip(cls._fields, listed, strict=False))
        is_known = len(listed) <= len(cls._fields) and weights.keys() <= {*cls._fields}
        if not is_known or not all(is_number(weight, least=0) for weight in weights.values()):
            raise ValueError(
                f"guidance={given!r}: expected a weight of at least 0 of the parents that changed, "
                "such as 2.5, or of both groups, such as {'changed': 2.5, 'rest': 1}"
            )
        return cls(**{name: float(weight) for name, weight in weights.items()})

    @property
    def plain(self) -> bool:
        """Whether it changes nothing."""
        return self == Guidance()

    def beside(self, assumption: str) -> str:
        """Return what a mechanism assumes when it guides by these weights."""
        if self.plain:
            return assumption
        return (
            f"{assumption}, guided: weight {self.changed:g} of parents that changed, "
            f"{self.rest:g} of the rest"
        )


def guided(
    field: Callable[[frozenset[str]], Velocity],
    parents: Collection[str],
    changed: Collection[str],
    guidance: Guidance,
) -> Velocity:
    """Return the guided field.

    Args:
        field: Gives the field with some parents left out.
        parents: Names of the parents.
        changed: Names of those that changed.
        guidance: The weights.
    """
    plain = field(frozenset())
    groups = (
        (guidance.changed, frozenset(parents) & frozenset(changed)),
        (guidance.rest, frozenset(parents) - frozenset(changed)),
    )
    terms = [(weight - 1, field(group)) for weight, group in groups if group and weight != 1]
    if not terms:
        return plain

    def velocity(x: Tensor, t: float) -> Tensor:
        v = result = plain(x, t)
        for weight, without in terms:
            result = result + weight * (v - without(x, t))
        return result

    return velocity
