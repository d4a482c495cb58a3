"""Potential outcomes as formulas: which mechanism gets which of two values of the causes.

With the causes at c or, intervened, at c~, a potential outcome such as `Y(c~, M(c))` is a nested
formula: each variable's own mechanism, of its own noise, over formulas of its parents,

    V[s] = f_V({P[P s] : P in pa(V)}, u_V),        C[s] = c~ if the path C s is active, else c,

where s is the path by which the value is carried on from there to the outcome. Which paths are
active tells one effect from another (Avin, Shpitser and Pearl 2005; Shpitser 2013): all of them
for the total effect, those that meet a mediator for the indirect one, those that avoid every
mediator for the direct one. Formulas that are equal are one object, so that what worlds share is
computed once.

The latents z of an outcome's mechanism, where its parents cause them (lecture, Figure 29), are one
more variable between the two: `pa -> latent -> outcome`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

from rung3.data.variables import Categorical
from rung3.graph import CausalGraph
from rung3.mechanisms.autoencoder import NO_MEDIATOR
from rung3.mechanisms.base import Mechanism
from rung3.scm.scm import SCM

__all__ = ["ALL", "LATENT", "NONE", "Along", "Formula", "Formulas", "Route", "Via", "check_outcome"]

LATENT = "latent"
"""Name of the latents, as a mediator of the outcome."""


class Route(ABC):
    """The paths that are active, as seen from a variable on the way back to the causes."""

    @property
    @abstractmethod
    def active(self) -> bool:
        """Whether the path walked back is active, if it starts here."""

    @abstractmethod
    def back(self, parent: str) -> Route:
        """Return the route one step further back."""


@dataclass(frozen=True)
class Via(Route):
    """The paths that meet a mediator, or those that meet none.

    Args:
        mediators: Names of the mediators.
        wanted: Whether the active paths are those that meet one.
        met: Whether the path has met one so far.
    """

    mediators: frozenset[str]
    wanted: bool
    met: bool = False

    @property
    def active(self) -> bool:
        return self.met == self.wanted

    def back(self, parent: str) -> Via:
        return Via(self.mediators, self.wanted, self.met or parent in self.mediators)


@dataclass(frozen=True)
class Along(Route):
    """The paths of a list, as what is left of each, from a cause to here."""

    paths: frozenset[tuple[str, ...]]

    @property
    def active(self) -> bool:
        return any(len(path) == 1 for path in self.paths)

    def back(self, parent: str) -> Along:
        ahead = (path[:-1] for path in self.paths if path[:-1] and path[-2] == parent)
        return Along(frozenset(ahead))


ALL, NONE = Via(frozenset(), wanted=False), Via(frozenset(), wanted=True)


@dataclass(frozen=True, eq=False)
class Formula:
    """One variable in one world.

    Attributes:
        name: The variable, or `LATENT`.
        mechanism: What makes it of its noise and its parents; `None` if it is as it was observed.
        parents: Formulas of its parents.
    """

    name: str
    mechanism: Mechanism | None
    parents: tuple[Formula, ...] = ()

    def parts(self) -> set[Formula]:
        """Return all formulas that this one is made of, itself among them."""
        parts, left = {self}, [self]
        while left:
            fresh = set(left.pop().parents) - parts
            parts |= fresh
            left.extend(fresh)
        return parts


@dataclass(frozen=True)
class District:
    """A recanting district.

    Attributes:
        cause: A cause that one world needs both changed and unchanged, for
        children: these effects of it.
        names: The district, all of which hidden causes join.
    """

    cause: str
    children: tuple[str, ...]
    names: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{' and '.join(self.children)}: of a recanting district, as hidden causes join "
            f"{', '.join(self.names)}; {self.cause} would have to have changed for one and not "
            "to have changed for the other, and no data, experiments included, can tell such an "
            "effect (Shpitser 2013)"
        )


class Formulas:
    """The potential outcomes of one variable under two settings of the causes.

    Args:
        model: The model.
        do: The intervention, as `SCM.do` takes it.
        versus: What it is compared with; if not given, the causes as they are.
        outcome: Name of the outcome.
        latent: Whether the latents of the outcome's mechanism are a variable of their own.
        observed: Whether rows are given: what is upstream of every cause is then as observed.

    Raises:
        ValueError: If a name is unknown, the outcome is itself set or is a category without order,
            or its mechanism has no latents that its parents cause.
    """

    def __init__(
        self,
        model: SCM,
        do: Mapping[str, Any],
        versus: Mapping[str, Any] | None,
        outcome: str,
        *,
        latent: bool = False,
        observed: bool = True,
    ) -> None:
        check_outcome(model, outcome)
        self.sides = model.do(versus), model.do(do)  # refuse what does not fit
        self.causes = frozenset([*do, *(versus or {})])
        if not do:
            raise ValueError("do: it is empty; set at least one variable")
        if outcome in self.causes:
            raise ValueError(f"outcome: {outcome!r} is itself set; ask for a descendant of it")
        self.model, self.outcome, self.observed = model, outcome, observed
        self.latent = latent
        self.graph = _with_latent(model, outcome) if latent else model.graph
        self._affected = self.graph.descendants(self.causes)
        self._natural = model.mechanisms
        self._settings = [side.mechanisms for side in self.sides]
        self._formulas: dict[tuple[str, Route], Formula] = {}
        self._distinct: dict[tuple[str, int, tuple[Formula, ...]], Formula] = {}

    def of(self, name: str, route: Route) -> Formula:
        """Return the formula of a variable whose value a route carries on."""
        if (name, route) not in self._formulas:
            mechanism, parents = self._parts_of(name, route)
            key = name, id(mechanism), parents
            self._formulas[name, route] = self._distinct.setdefault(
                key, Formula(name, mechanism, parents)
            )
        return self._formulas[name, route]

    def __call__(self, route: Route) -> Formula:
        """Return the outcome in which the paths of a route are active."""
        return self.of(self.outcome, route)

    def _parts_of(self, name: str, route: Route) -> tuple[Mechanism | None, tuple[Formula, ...]]:
        if name in self.model.confounding.members:
            return None, ()
        if name in self.causes:
            return self._cause(name, route.active)
        if self.observed and name not in self._affected:
            return None, ()
        mechanism = self._natural[self.owner(name)]
        hidden = (p for p in mechanism.parents if p in self.model.confounding.members)
        parents = (*self.graph.parents(name), *hidden)
        return mechanism, tuple(self.of(p, route.back(p)) for p in parents)

    def owner(self, name: str) -> str:
        """Return the variable whose mechanism and noise make a value: the outcome, for latents."""
        return self.outcome if self.latent and name == LATENT else name

    def _cause(self, name: str, active: bool) -> tuple[Mechanism | None, tuple[Formula, ...]]:
        """Return a cause as one of the settings has it; as observed, if that one leaves it alone.

        Where the other setting asks for its natural value, that is made of its noise on both sides:
        they then agree to the last digit if nothing is really changed.
        """
        mechanism, other = self._settings[active][name], self._settings[not active][name]
        if self.observed and mechanism is self._natural[name] and not other.wants_noise:
            return None, ()
        world = ALL if active else NONE
        return mechanism, tuple(self.of(parent, world) for parent in mechanism.parents)

    def noises(self, formulas: Iterable[Formula]) -> set[str]:
        """Return the variables whose noise these formulas need, or whose equation is certain."""
        parts = reduce(set.union, (formula.parts() for formula in formulas), set[Formula]())
        return {
            self.owner(part.name)
            for part in parts
            if part.mechanism is not None
            and (part.mechanism.wants_noise or part.mechanism in self._natural.values())
        }

    def witnesses(self, formulas: Iterable[Formula]) -> tuple[str, ...]:
        """Return the variables that one of the formulas needs in two worlds at once, causes aside.

        A variable counts by itself, or as one of two in a recanting district.
        """
        outcomes = list(formulas)
        twice = {name for formula in outcomes for name in _repeated(formula)} - self.causes
        twice |= {name for one in self.recanting(outcomes) for name in one.children}
        return tuple(name for name in self.graph.nodes if name in twice)

    def recanting(self, formulas: Iterable[Formula]) -> list[District]:
        """Return the recanting districts of the formulas: in each, a cause has both its values.

        With X set and nothing but causes of the outcome left, a district is what hidden causes
        join. What its members do in one world is one distribution, of all that acts on them; two
        members that one world asks with two values of a cause are seen together in no experiment,
        and the formula is not identified (Shpitser 2013, Theorem 3).
        """
        graph = self.model.graph
        above = {self.outcome, *graph.do(*self.causes).ancestors(self.outcome)} - self.causes
        districts = [part for part in graph.subgraph(above).districts if len(part) > 1]
        recanting: dict[District, None] = {}
        for formula, names in product(formulas, districts):
            given: dict[str, dict[Formula, str]] = {}  # by cause, each value, and a child it is for
            members = [part for part in formula.parts() if self.owner(part.name) in names]
            for member in sorted(members, key=lambda part: names.index(self.owner(part.name))):
                for value in (one for one in member.parents if one.name in self.causes):
                    by_value = given.setdefault(value.name, {})
                    by_value.setdefault(value, self.owner(member.name))
            for cause, children in given.items():
                if len(children) > 1:
                    recanting[District(cause, graph.in_order(children.values()), names)] = None
        return list(recanting)


def check_outcome(model: SCM, outcome: str) -> None:
    """Refuse an outcome that is unknown, or whose differences mean nothing.

    Raises:
        ValueError: If the outcome is unknown, or a category without order.
    """
    model.graph.names([outcome])
    if isinstance(model.variables[outcome], Categorical):
        raise ValueError(
            f"outcome: {outcome!r} is {model.variables[outcome]}: its categories have no order, so "
            "differences of their codes mean nothing; compare shares of samples under do()"
        )


def _with_latent(model: SCM, outcome: str) -> CausalGraph:
    """Return the graph with the outcome's latents between its parents and itself."""
    if not model.mechanisms[outcome].has_latent_mediator:
        raise ValueError(f"{outcome}: {NO_MEDIATOR}")
    parents = model.graph.parents(outcome)
    edges = [*model.graph.edges, *((parent, LATENT) for parent in parents), (LATENT, outcome)]
    return CausalGraph(edges, nodes=model.graph.nodes)


def _repeated(formula: Formula) -> Iterator[str]:
    """Give the variables that a formula holds more than once."""
    seen: set[str] = set()
    for part in formula.parts():
        if part.name in seen:
            yield part.name
        seen.add(part.name)
