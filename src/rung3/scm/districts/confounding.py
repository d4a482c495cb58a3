r"""Hidden common causes: what makes a model semi-Markovian.

A bidirected arrow says that two noises depend on each other. They do through a hidden cause h: a
root that no row shows, one for each maximal clique of nodes that bidirected arrows join. The nodes
that such arrows connect are a district S, and

    P(u) = prod_S P(u_S),    p(x) = prod_S E_h prod_{k in S} p(x_k | pa_k, h).

Two kinds of hidden cause, by district:

| members | h | E_h | posterior of h |
|---|---|---|---|
| all numbers, with Gaussian noise | N(0, 1), see `rung3.scm.districts.loaded` | closed | Gaussian |
| any other | one of `classes` latent classes, another parent of each member | sum | exact |

With enough classes the second can be every distribution of response functions of discrete members;
of numbers it is a mixture. One Gaussian cause of a clique of three or more cannot give its members
every correlation; so k members have k - 1, the second of which spares the first member, and so on:
with a triangle of loadings all correlations are within reach. That it adds to noise, always by as
much, is an assumption: where `y := m + 2 h m + u`, effects that are identified come out wrong, and
`fit` warns (`rung3.training.plug_in`). In both kinds the likelihood is exact; a district is trained
as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn

from rung3.data.seeding import stream
from rung3.data.variables import Categorical, Continuous, Discrete, Variable
from rung3.graph import CausalGraph
from rung3.mechanisms.base import Mechanism, Parents, Trainable
from rung3.mechanisms.discrete import GumbelMax
from rung3.mechanisms.equation import Equation
from rung3.scm.districts.district import District
from rung3.scm.districts.loaded import Loaded, can_be_loaded

__all__ = ["CLASSES", "Confounding"]

CLASSES = 8
"""Latent classes of a hidden cause, if not given."""

MOST_CLASSES = 4096
"""Most joint classes of the hidden causes of a district."""


class Confounding(nn.Module):
    """The hidden causes of a model; none where the graph has no bidirected arrow.

    Args:
        graph: The graph.
        variables: The observed variables, by name.
        mechanisms: Their mechanisms, unbound.
        chosen: `Categorical(classes)` for some hidden causes, by names such as `"x <-> y"`.

    Attributes:
        members: By each hidden cause, the names of its children.
    """

    def __init__(
        self,
        graph: CausalGraph,
        variables: Mapping[str, Variable],
        mechanisms: Mapping[str, Mechanism],
        chosen: Mapping[str, Variable],
    ) -> None:
        super().__init__()
        self.members = _cliques(graph)
        self.order = graph.order
        self.variables: dict[str, Variable] = {}
        for name, listeners in self.members.items():
            district = next(s for s in graph.districts if listeners[0] in s)
            gaussian = all(can_be_loaded(mechanisms[k], variables[k]) for k in district)
            inside = [k for k, m in self.members.items() if set(m) <= set(district)]
            classes = any(isinstance(chosen.get(k), Categorical) for k in inside)
            default = Continuous() if gaussian and not classes else Categorical(CLASSES)
            self.variables[name] = chosen.get(name, default)
            if not isinstance(self.variables[name], type(default)):
                raise ValueError(
                    f"{name}: a hidden cause is Categorical(classes), got {chosen[name]}"
                )
        self._add_tails(chosen)
        for district in graph.districts:
            sizes = {
                k: kind.classes
                for k, kind in self.variables.items()
                if isinstance(kind, Discrete) and self.members[k][0] in district
            }
            if math.prod(sizes.values()) > MOST_CLASSES:
                raise ValueError(
                    f"{' and '.join(sizes)}: {math.prod(sizes.values()):,} joint classes are too "
                    f"many to sum over; give fewer, such as variables={{{next(iter(sizes))!r}: "
                    "Categorical(2)}"
                )
        self.roots = nn.ModuleList(
            (Equation("u") if isinstance(kind, Continuous) else GumbelMax()).bind(name, kind, {})
            for name, kind in self.variables.items()
        )

    def _add_tails(self, chosen: Mapping[str, Variable]) -> None:
        """Add a Gaussian cause for all but the first of a clique, and so on to the last two."""
        for name, names in list(self.members.items()):
            if isinstance(self.variables[name], Continuous):
                for tail in (names[at:] for at in range(1, len(names) - 1)):
                    part = " <-> ".join(tail)
                    if isinstance(chosen.get(part), Discrete):
                        raise ValueError(f"{part}: is part of {name}; give that one its classes")
                    self.members[part], self.variables[part] = tail, Continuous()

    def causes(self, name: str) -> dict[str, bool]:
        """Return a variable's hidden causes, and whether it is the first that each acts on."""
        return {k: names[0] == name for k, names in self.members.items() if name in names}

    def bind(
        self, mechanism: Mechanism, name: str, kind: Variable, parents: Mapping[str, Variable]
    ) -> Mechanism:
        """Bind a mechanism to its variable, its parents, and its hidden causes."""
        causes = {k: self.variables[k] for k in self.causes(name)}
        if causes and all(isinstance(cause, Continuous) for cause in causes.values()):
            inner = mechanism.bind(name, kind, parents)
            return Loaded(inner, self.causes(name)).bind(name, kind, {**parents, **causes})
        if causes and isinstance(mechanism, Equation):
            raise ValueError(
                f"{name}: an equation listens to no hidden cause ({', '.join(causes)}) unless all "
                "that it is joined with are numbers with standard normal noise; use GumbelMax, "
                "InverseCDF or Flow, or draw the cause as a variable"
            )
        return mechanism.bind(name, kind, {**parents, **causes})

    def sample(self, n: int, base: int, device: torch.device) -> dict[str, Tensor]:
        """Draw values of the hidden causes, `(n,)` each."""
        drawn = {}
        for name, root in self.mechanisms.items():
            noise = root.sample_noise(n, {}, stream(base, name, device))
            drawn[name] = root.predict(noise, {})
        return drawn

    def abduct(
        self,
        mechanisms: Mapping[str, Mechanism],
        values: Parents,
        wanted: Iterable[str],
        particles: int | None,
        base: int,
    ) -> dict[str, Tensor]:
        """Draw from the posterior of the hidden causes of `wanted`: `(n,)`, or `(K, n)`."""
        drawn: dict[str, Tensor] = {}
        for district in self.districts(mechanisms):
            if not district.names.isdisjoint(wanted):
                key = " and ".join(district.causes)
                device = next(iter(values.values())).device
                drawn |= district.posterior(values, particles, stream(base, key, device))
        return drawn

    def districts(self, mechanisms: Mapping[str, Mechanism]) -> list[District]:
        """Return the districts of more than one variable, among those that still listen."""
        if not self.members:
            return []
        links = nx.Graph()
        for name, mechanism in mechanisms.items():
            links.add_edges_from(
                (name, cause) for cause in mechanism.parents if cause in self.members
            )
        roots = self.mechanisms
        districts = []
        for part in nx.connected_components(links):
            listeners = {k: mechanisms[k] for k in self.order if k in part}
            districts.append(District(listeners, {k: r for k, r in roots.items() if k in part}))
        return districts

    def units(
        self, chosen: Mapping[str, Mechanism], mechanisms: Mapping[str, Mechanism]
    ) -> dict[str, Trainable]:
        """Return what is trained: chosen mechanisms; for the members of a district the district."""
        units: dict[str, Trainable] = dict(chosen)
        for district in self.districts(mechanisms):
            if not district.names.isdisjoint(chosen):
                units = {k: m for k, m in units.items() if k not in district.names}
                units[" and ".join(district.causes)] = district
        return units

    @property
    def mechanisms(self) -> dict[str, Mechanism]:
        """The mechanism of each hidden cause."""
        roots: Any = self.roots
        return dict(zip(self.members, roots, strict=True))


def _cliques(graph: CausalGraph) -> dict[str, tuple[str, ...]]:
    """Return the maximal cliques of bidirected arrows, by names such as `"x <-> y"`."""
    mixed = nx.Graph(list(graph.bidirected))
    rank = graph.order.index
    cliques = sorted(
        (sorted(part, key=rank) for part in nx.find_cliques(mixed)), key=lambda c: [*map(rank, c)]
    )
    return {" <-> ".join(names): tuple(names) for names in cliques}
