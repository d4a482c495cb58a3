r"""What data there are, and which of them tell a district's factor.

For a set C of variables write Q[C] = P(c | do(v \ c)). A source is a table of one population, as
it is or under do(z); in it the mechanisms of D differ from those of the population that is asked
about, and its rows may be there for one value of a variable S only. It tells Q[C] if

    C holds none of Z and none of D,        for then Q[C] is the same in both,
    and Q[C] is found in the graph without Z, whose joint distribution is P(v | do(z))

(Lee, Correa and Bareinboim, UAI 2019 and AAAI 2020: with every source tried, this is complete). If
rows are selected by S, districts without an ancestor of S are found first,

    Q[C] = prod_{v_i in C} P(v_i | v_1, ..., v_{i-1}, S=1),     ancestors of S being first,

and divided out; what is left is a smaller graph, in which the search goes on (Bareinboim and Tian,
AAAI 2015).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from rung3.graph.identification.estimand import (
    Formula,
    Probability,
    Regime,
    product,
    ratio,
    sum_out,
    told_by,
)
from rung3.graph.identification.id_algorithm import (
    NotIdentified,
    averaged,
    district_factor,
    identify_within,
)
from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.text import Names, quote

__all__ = ["Source", "factor"]


@dataclass(frozen=True, init=False)
class Source:
    """A table of one population, as it is or from an experiment.

    Args:
        population: Its name; empty for the population that is asked about.
        do: The variables that were set in it, each row's at random.
        differs: The variables whose mechanisms differ there, or may (selection nodes point at
            them).
        selected: Variables that decide which rows there are: they have one value in all of them.
        only: The variables that the table has, beside those that were set; all, if empty.

    >>> str(Source("trial", do="x", differs=["age"]))
    'trial under do(x), where age differs'
    """

    population: str
    do: tuple[str, ...]
    differs: tuple[str, ...]
    selected: tuple[str, ...]
    only: tuple[str, ...]

    def __init__(
        self,
        population: str = "",
        do: Names = (),
        differs: Names = (),
        selected: Names = (),
        only: Names = (),
    ) -> None:
        object.__setattr__(self, "population", population)
        names = {"do": do, "differs": differs, "selected": selected, "only": only}
        for key, given in names.items():
            object.__setattr__(self, key, (given,) if isinstance(given, str) else tuple(given))
        if self.differs and not population:
            raise ValueError(
                f"a source in which {', '.join(self.differs)} differs is another population: name "
                "it, as in Source('trial', differs=...)."
            )

    @property
    def regime(self) -> Regime:
        """Where its table is from, as formulas name it."""
        return Regime(self._name, frozenset(self.do))

    def shows(self, do: Set[str], names: Iterable[str], needed: Set[str]) -> bool:
        """Return whether its table has the distribution of some variables under do(...).

        Args:
            do: The variables that are set.
            names: The variables whose distribution it is.
            needed: These, and what causes them there.
        """
        same = set(self.do) == do and not self.selected and needed.isdisjoint(self.differs)
        return same and (not self.only or set(names) <= set(self.only))

    @property
    def _name(self) -> str:
        return self.population or ("selected" if self.selected else "")

    def __str__(self) -> str:
        parts = [self.population or "this population"]
        parts += [f"under do({', '.join(self.do)})"] if self.do else []
        parts += [f"selected by {', '.join(self.selected)}"] if self.selected else []
        parts += [f"of {', '.join(self.only)} alone"] if self.only else []
        differ = "differs" if len(self.differs) == 1 else "differ"
        where = f", where {', '.join(self.differs)} {differ}" if self.differs else ""
        return " ".join(parts) + where


def check_sources(graph: MixedGraph, sources: Iterable[Source]) -> tuple[Source, ...]:
    """Return the sources, if the graph has the names of all of them.

    Raises:
        ValueError: If it lacks one, there is no source, or two could not be told apart.
    """
    checked = tuple(sources)
    if not checked:
        raise ValueError("sources: expected at least one, such as Source().")
    for source in checked:
        graph.disjoint(do=source.do, selected=source.selected, only=source.only)
        graph.names(source.differs)
    regimes = [source.regime for source in checked]
    if twice := [source for source in checked if regimes.count(source.regime) > 1]:
        raise ValueError(f"sources: {twice[0]} is there twice; name populations that are apart.")
    return checked


def factor(graph: MixedGraph, part: Set[str], sources: Sequence[Source]) -> Formula:
    """Find Q[part] in the first source that tells it.

    Args:
        graph: The graph.
        part: C, which bidirected arrows among them connect.
        sources: What data there are.

    Raises:
        NotIdentified: If none does; the message says of each why.
    """
    faults = []
    for source in sources:
        try:
            return _from_source(graph, part, source)
        except NotIdentified as fault:
            faults.append(str(fault) if len(sources) == 1 else f"{source}: {fault}")
    raise NotIdentified("; ".join(dict.fromkeys(faults)))


def _from_source(graph: MixedGraph, part: Set[str], source: Source) -> Formula:
    wanted = ", ".join(quote(name) for name in graph.in_order(part))
    for names, fate in ((source.do, "set"), (source.differs, "otherwise caused")):
        if inside := graph.in_order(part & set(names)):
            raise NotIdentified(
                f"{', '.join(map(quote, inside))} is {fate} there, and {{{wanted}}} is needed as "
                "it comes about here"
            )
    causes = frozenset[str]().union(*(graph.parents(name) for name in part))
    free = graph.subgraph(set(graph.nodes).difference(source.do))
    if source.only:
        there = {*source.only, *source.selected}
        if lacking := free.in_order((part | causes) & set(free.nodes) - there):
            raise NotIdentified(f"its table lacks {', '.join(map(quote, lacking))}")
        free = free.hide(*set(free.nodes) - there)
    if source.selected:
        formula = _recovered(free, part, frozenset(source.selected))
    else:
        formula = district_factor(free.subgraph(part | free.ancestors(part)), part)
    formula = averaged(free, formula, part | causes)
    return told_by(formula, graph.in_order(source.do), source.regime.population)


def _recovered(graph: MixedGraph, part: Set[str], selected: Set[str]) -> Formula:
    """Find Q[part] from rows that are selected."""
    above = selected | graph.ancestors(selected)
    order = [*(n for n in graph.order if n in above), *(n for n in graph.order if n not in above)]
    seen = [name for name in order if name not in selected]
    rows = product(
        Probability((name,), _telling(graph, name, seen[:at], selected))
        for at, name in enumerate(seen)
    )
    if inside := graph.in_order(part & selected):
        raise NotIdentified(f"{', '.join(inside)} has one value in all rows")
    return _divided(graph, part, selected, rows)


def _telling(
    graph: MixedGraph, name: str, before: Sequence[str], selected: Set[str]
) -> tuple[str, ...]:
    """Return the variables before one, without those that tell nothing more of it."""
    rest = list(before)
    for other in before:
        given = [one for one in rest if one != other]
        if graph.d_separated(name, other, [*given, *selected]):
            rest = given
    return graph.in_order(rest)


def _divided(graph: MixedGraph, part: Set[str], selected: Set[str], known: Formula) -> Formula:
    """Find Q[part] from `known`, of the graph's variables in rows that are selected."""
    ends = part | selected
    above = selected | graph.ancestors(selected)
    inner = graph.subgraph(ends | graph.ancestors(ends))
    known = sum_out(known, graph.in_order(set(graph.nodes).difference(inner.nodes)))
    seen = [name for name in inner.order if name not in selected]
    order = sorted(seen, key=lambda name: name not in above)
    until = [sum_out(known, order[at:]) for at in range(len(order) + 1)]
    factors = {name: ratio(until[at + 1], until[at]) for at, name in enumerate(order)}
    clear = [frozenset(one) for one in inner.districts if not above & set(one)]
    for district in clear:
        whole = product(factors[name] for name in order if name in district)
        if part <= district:
            return identify_within(inner, part, district, whole)
    if not clear:
        names, by = (", ".join(map(quote, graph.in_order(one))) for one in (part, selected))
        raise NotIdentified(
            f"what selects rows ({by}) cannot be told from {{{names}}}: each district of hidden "
            "common causes has a cause of it"
        )
    done = frozenset[str]().union(*clear)
    rest = ratio(known, product(factors[name] for name in order if name in done))
    return _divided(inner.subgraph(set(inner.nodes) - done), part, selected, rest)
