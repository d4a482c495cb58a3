"""What every variable is to a treatment and an outcome, read off directed paths.

    mediator               an effect of the treatment that causes the outcome
    confounder             causes both, the outcome not only through the treatment
    instrument             causes the treatment, and only through it depends on the outcome
    collider               an effect of both, of the treatment not only through the outcome
    cause of ..., effect of ...     of the treatment or of the outcome alone
    unrelated              none of these

A hidden common cause, `a <-> b`, confounds where it causes the treatment through one of its ends,
and through the other the outcome, not only through the treatment.
"""

from __future__ import annotations

from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.text import Pair

__all__ = ["Roles", "roles"]


class Roles(dict[str, str]):
    """The role of each variable, by name, in the graph's order.

    Attributes:
        hidden: The pairs `a <-> b` whose hidden common cause is a confounder.
    """

    hidden: tuple[Pair, ...] = ()

    def having(self, role: str) -> tuple[str, ...]:
        """Return the variables that have a role.

        >>> from rung3.graph import CausalGraph
        >>> CausalGraph("age -> drug -> dose -> cured").roles("drug", "cured").having("mediator")
        ('dose',)
        """
        return tuple(name for name, other in self.items() if other == role)

    @property
    def confounders(self) -> tuple[str, ...]:
        """The observed common causes of treatment and outcome."""
        return self.having("confounder")

    @property
    def mediators(self) -> tuple[str, ...]:
        """What passes the treatment's effect on."""
        return self.having("mediator")

    @property
    def colliders(self) -> tuple[str, ...]:
        """The common effects of treatment and outcome."""
        return self.having("collider")

    def __str__(self) -> str:
        lines = [f"{role}: {', '.join(self.having(role))}" for role in dict.fromkeys(self.values())]
        lines += [f"hidden confounder: {left} <-> {right}" for left, right in self.hidden]
        return "\n".join(lines)


def roles(graph: MixedGraph, treatment: str, outcome: str) -> Roles:
    """Return the role of every other variable; see this module.

    Args:
        graph: The graph.
        treatment: One name.
        outcome: Another.

    Raises:
        ValueError: If a name is unknown, or in both.

    >>> from rung3.graph import CausalGraph
    >>> CausalGraph("age -> drug -> dose -> cured; age -> cured").roles("drug", "cured")
    {'age': 'confounder', 'dose': 'mediator'}
    """
    graph.disjoint(treatment=[treatment], outcome=[outcome])
    inert = graph.without_outgoing(treatment)
    causes, causes_outcome = graph.ancestors(treatment), inert.ancestors(outcome)
    effects, effects_outcome = graph.descendants(treatment), graph.descendants(outcome)
    direct = graph.without_outgoing(outcome).descendants(treatment)

    def role(name: str) -> str:
        if name in causes_outcome:
            if name in effects:
                return "mediator"
            return "confounder" if name in causes else "cause of outcome"
        if name in effects_outcome:
            return "collider" if name in direct else "effect of outcome"
        if name in causes:
            return "instrument" if inert.d_separated(name, outcome) else "cause of treatment"
        return "effect of treatment" if name in effects else "unrelated"

    result = Roles((k, role(k)) for k in graph.nodes if k not in (treatment, outcome))
    near, far = causes | {treatment}, causes_outcome | {outcome}
    result.hidden = tuple(
        (a, b) for a, b in graph.bidirected if (a in near and b in far) or (b in near and a in far)
    )
    return result
