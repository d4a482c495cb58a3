"""Identification before estimation: can the data answer, by which formula, and if not, why not.

A query of the second rung, `P(y | do(x), z)`, is identified if every model of the graph with the
same observational distribution gives the same answer. The ways are tried from plain to general:

    no effect      X causes neither Y nor Z             P(y | z)
    back-door      W and Z block what is not causal     sum_w P(y | x, z, w) P(w | z)
    front-door     M carries the effect                 sum_m P(m | x) sum_x' P(y | x', m) P(x')
    ID algorithm   complete: a formula, or a hedge that rules one out
    (`rung3.graph.identification.id_algorithm`)

A query of the third rung, `P(y_{x} | e)`, is in general not identified, however many the data are:
models that agree on all of rungs one and two may differ on it. It is where e holds no effect of X
(it is then of the second rung), where e is X and adjustment is possible (the effect on the
treated), and wherever the ID* algorithm finds a formula (`rung3.graph.identification.twin`); this
is not claimed to be complete. Otherwise an assumption on the mechanisms carries it, for each
variable v between X and Y: a known equation, monotony in the noise, Gumbel-max. A mechanism can be
had from data at all only if P(v | do(pa(v))) is identified.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from rung3.data.printed import Printed
from rung3.graph.adjustment import check_adjustment, minimal_adjustments
from rung3.graph.causal_graph import CausalGraph
from rung3.graph.front_door import minimal_front_doors
from rung3.graph.given import as_graph
from rung3.graph.identification.estimand import Formula, Probability, product, sum_out
from rung3.graph.identification.id_algorithm import NotIdentified, identified
from rung3.graph.identification.query import CausalQuery, read_query
from rung3.graph.identification.twin import imagined
from rung3.graph.text import Names
from rung3.scm.interventions import Apply
from rung3.scm.model import Model

__all__ = ["Identification", "identify"]

FORM = "a known equation, or a form that is assumed (monotone in its noise, Gumbel-max, ...)"


@dataclass(frozen=True)
class Identification(Printed):
    """The answer whether observational data identify a query, and how.

    Attributes:
        query: The query.
        identified: The answer; the object itself is true or false like it.
        method: `observation`, `no effect`, `back-door`, `front-door`, `ID algorithm`, or `ID*
            algorithm`; of a counterfactual that data do not identify, `assumption`; empty if none.
        formula: The answer over the observational distribution, if it is identified.
        through: The set that is adjusted for, or of the front door.
        reason: Why it is not identified; or what it was reduced to.
        assumptions: For a counterfactual that data do not identify, what carries it, by variable.
        obstacles: What no assumption on the mechanisms' form removes.
    """

    query: CausalQuery
    identified: bool
    method: str
    formula: Formula | None = None
    through: tuple[str, ...] = ()
    reason: str = ""
    assumptions: Mapping[str, str] = field(default_factory=dict)
    obstacles: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.identified

    def __str__(self) -> str:
        lines = [self.reason] if self.reason else []
        if self.identified:
            through = f" ({', '.join(self.through)})" if self.through else ""
            head = f"{self.query} is identified: {self.method}{through}"
            lines = [f"= {self.formula}", *lines] if self.formula else lines
        elif self.assumptions and not self.obstacles:
            head = f"{self.query} is not identified by data alone; what carries it:"
            lines += [f"{name}: {form}" for name, form in self.assumptions.items()]
        else:
            head = f"{self.query} is not identified"
            lines += self.obstacles
        return "\n  ".join([head, *lines])


def identify(
    source: CausalGraph | Model | Any, query: str | CausalQuery, *, adjust: Names | None = None
) -> Identification:
    """Say whether a query can be answered from observational data, by which formula, or why not.

    Args:
        source: A graph, or what makes one; or a model, whose mechanisms then say what carries a
            counterfactual.
        query: Such as `"P(y | do(x), z)"` or `"P(y_{x} | x, y)"` (see
        `rung3.graph.identification.query`).
        adjust: A set to adjust for, instead of one that is found.

    Raises:
        ValueError: If the query cannot be read, the graph lacks a name, or adjusting for the set
            does not give the answer; the message names the path.

    >>> graph = CausalGraph("size -> {treatment recovery}; treatment -> recovery")
    >>> print(identify(graph, "P(recovery | do(treatment))"))
    P(recovery | do(treatment)) is identified: back-door (size)
      = Σ_size P(recovery | size, treatment) P(size)
    >>> print(identify(CausalGraph("x -> y; x <-> y"), "P(y | do(x))"))
    P(y | do(x)) is not identified
      hidden common causes (x <-> y) join {x, y}, all of which act on {y}: what x does to it cannot
      be told from what they share (a hedge)
    """
    model = source if isinstance(source, Model) else None
    graph = as_graph(source) if model is None else model.origin
    query = read_query(query) if isinstance(query, str) else query
    if adjust is not None and query.rung != "doing":
        raise ValueError(f"adjust: expected a query such as P(y | do(x)), got {query}.")
    if query.rung == "imagining":
        graph.disjoint(outcome=query.outcome, do=query.do)
        graph.names(query.given)
        return _imagining(graph, query, model)
    y, x, z = graph.disjoint(outcome=query.outcome, do=query.do, given=query.given)
    if adjust is not None:
        return _adjusting(graph, query, graph.names(adjust))
    if not x:
        return Identification(query, True, "observation", _conditional(graph, y, z))
    return _doing(graph, query, y, x, z)


def _doing(
    graph: CausalGraph, query: CausalQuery, y: Set[str], x: Set[str], z: Set[str]
) -> Identification:
    """Answer on the second rung: `P(y | do(x), z)`."""
    if not x & graph.ancestors(y | z):
        return Identification(query, True, "no effect", _conditional(graph, y, z))
    if not z & graph.descendants(x):
        block = next(minimal_adjustments(graph, x, y, z), None)
        if block is not None and not (z and block & graph.descendants(x)):
            return _adjusted(graph, query, block)
    front = None if z else next(minimal_front_doors(graph, x, y), None)
    if front is not None:
        inner = product([_conditional(graph, y, x | front), _conditional(graph, x)])
        outer = [_conditional(graph, front, x), sum_out(inner, graph.in_order(x))]
        formula = sum_out(product(outer), graph.in_order(front))
        return Identification(query, True, "front-door", formula, graph.in_order(front))
    try:
        return Identification(query, True, "ID algorithm", identified(graph, y, x, z))
    except NotIdentified as fault:
        return Identification(query, False, "", reason=str(fault))


def _imagining(graph: CausalGraph, query: CausalQuery, model: Model | None) -> Identification:
    """Answer on the third rung: `P(y_{x} | e)`."""
    y, x, seen = (frozenset(names) for names in (query.outcome, query.do, query.given))
    cut = graph.do(*x)
    below = cut.descendants(x)
    if not y & (below | x):
        reason = f"{', '.join(query.do)} has no effect on it, so that it is what it was"
        factual = (*(f"{name}'" for name in graph.in_order(seen & x)), *graph.in_order(seen - x))
        formula = None if y & seen else Probability(graph.in_order(y), factual)
        return Identification(query, True, "no effect", formula, reason=reason)
    if fixed := graph.in_order(y & seen - below):
        raise ValueError(f"{query}: {fixed[0]} is seen and not affected; leave it out on the left.")
    if not seen & (y | below):
        if not seen & x:
            simpler = CausalQuery(query.outcome, query.do, query.given)
            answer = _doing(graph, simpler, y, x, seen)
            reason = f"nothing that is seen is affected, so that it is {simpler}"
            return replace(answer, query=query, reason=f"{reason}; {answer.reason}".rstrip("; "))
        block = next(minimal_adjustments(graph, x, y, seen - x), None) if x <= seen else None
        if block is not None and not block & below:
            return _adjusted(graph, query, block)
    try:
        return Identification(query, True, "ID* algorithm", imagined(graph, y, x, seen))
    except NotIdentified as fault:
        reason = str(fault)
    return _assumed(graph, query, model, graph.in_order(below & (y | cut.ancestors(y))), reason)


def _assumed(
    graph: CausalGraph,
    query: CausalQuery,
    model: Model | None,
    between: tuple[str, ...],
    reason: str,
) -> Identification:
    """Say which mechanisms between cause and outcome carry what data do not identify."""
    if model is None:
        assumptions = dict.fromkeys(between, FORM)
        obstacles = tuple(filter(None, (_obstacle(graph, name) for name in between)))
    else:
        m = model.mechanisms
        assumptions = {k: f"{m[k].assumption}; abduction {m[k].abduction}" for k in between}
        obstacles = _obstacles(model, between)
    return Identification(
        query, False, "assumption", reason=reason, assumptions=assumptions, obstacles=obstacles
    )


def _adjusting(graph: CausalGraph, query: CausalQuery, block: Set[str]) -> Identification:
    """Answer by a set that is given, or refuse it."""
    check_adjustment(graph, query.do, query.outcome, block | set(query.given)).require()
    after = graph.in_order((block | set(query.given)) & graph.descendants(query.do))
    if query.given and after:
        raise ValueError(f"{query}: {after[0]} is an effect of {', '.join(query.do)}.")
    return _adjusted(graph, query, block - set(query.given))


def _adjusted(graph: CausalGraph, query: CausalQuery, block: Set[str]) -> Identification:
    """Adjust: `sum_w P(y | x, z, w) P(w | z)`; on the treated `P(w | x', z)`, x' what x was."""
    y, x, z = (frozenset(names) for names in (query.outcome, query.do, query.given))
    factual = tuple(f"{name}'" for name in graph.in_order(x & z))
    seen = Probability(graph.in_order(block), (*factual, *graph.in_order(z - x)))
    parts = [_conditional(graph, y, x | z | block), *([seen] if block else [])]
    formula = sum_out(product(parts), graph.in_order(block))
    return Identification(query, True, "back-door", formula, graph.in_order(block))


def _conditional(graph: CausalGraph, of: Set[str], given: Set[str] = frozenset()) -> Formula:
    return Probability(graph.in_order(of), graph.in_order(given))


def _obstacle(graph: CausalGraph, name: str, exact: bool = True) -> str:
    """Say why data cannot identify a variable's mechanism, whatever its form; empty if they can."""
    causes = graph.parents(name)
    if causes:
        answer = _doing(graph, CausalQuery((name,), causes), {name}, set(causes), set())
        if not answer:
            reason = f"{answer.query} is not: {answer.reason}"
            return f"{name}: its mechanism is not identified, for {reason}"
    if not exact and graph.spouses(name):
        other = graph.spouses(name)[0]
        return f"{name}: {other} tells of its noise too ({name} <-> {other}), and is not asked"
    return ""


def _obstacles(model: Model, names: Iterable[str], abducted: bool = True) -> tuple[str, ...]:
    """Return the obstacles of those variables whose mechanism is learned."""
    bound = model.mechanisms
    obstacles = (
        _obstacle(model.origin, name, bound[name].abduction == "exact" or not abducted)
        for name in names
        if not _known(model, name)
    )
    return tuple(filter(None, obstacles))


def _known(model: Model, name: str) -> bool:
    """Say whether a variable's mechanism is known, not learned from data."""
    if model.world is not None and name not in model.replaced:
        return True
    return not any(True for _ in model.mechanisms[name].parameters())


def require_identified(model: Model, names: Iterable[str] | None = None) -> None:
    """Refuse an answer of a model after `do` if it is not identified from data.

    Args:
        model: The model after `do`. Where every mechanism is known, nothing is refused.
        names: The variables whose joint distribution the answer needs; all if not given.

    Raises:
        ValueError: If it is not; the message has the reason, and what would be.
    """
    graph, x = model.origin, model.replaced
    learned = [name for name in graph.nodes if name not in x and not _known(model, name)]
    if model.unidentified == "allow" or not (graph.bidirected and x and learned):
        return
    bound = model.mechanisms
    for name in graph.in_order(x):
        mechanism = bound[name]
        if isinstance(mechanism, Apply) and mechanism.natural and graph.spouses(name):
            _refuse(
                f"do({name}=function of itself) is not identified: {name} <-> "
                f"{graph.spouses(name)[0]}, so that what {name} would have been tells of it"
            )
    causes = {cause for name in x for cause in model.graph.parents(name)}
    rest = graph.in_order((set(graph.nodes if names is None else names) | causes) - x)
    answer = identify(graph, CausalQuery(rest, graph.in_order(x))) if rest else None
    if answer is not None and not answer:
        alone = [k for k in rest if identify(graph, CausalQuery((k,), graph.in_order(x)))]
        hint = f"identified by themselves are: {', '.join(alone) or 'none'}"
        _refuse(f"{answer}; {hint}" if len(rest) > 1 else str(answer))


def require_imaginable(model: Model, recomputed: Iterable[str]) -> None:
    """Refuse a counterfactual that rests on a mechanism that data cannot identify.

    Args:
        model: The model after `do`.
        recomputed: The variables that are recomputed.

    Raises:
        ValueError: If one of them has such a mechanism.
    """
    bound = model.mechanisms
    require_mechanisms(model, [name for name in recomputed if bound[name].wants_noise])


def require_mechanisms(model: Model, used: Iterable[str], abducted: bool = True) -> None:
    """Refuse an answer that rests on a mechanism that data cannot identify.

    Args:
        model: The model.
        used: The variables whose mechanisms and noise the answer rests on.
        abducted: Whether their noise is told from rows, rather than drawn.

    Raises:
        ValueError: If one of them has such a mechanism.
    """
    if model.unidentified == "allow" or not model.origin.bidirected:
        return
    if obstacles := _obstacles(model, model.origin.in_order(used), abducted):
        _refuse(f"the counterfactual is not identified: {'; '.join(obstacles)}")


def _refuse(reason: str) -> None:
    raise ValueError(
        f'{reason}. To answer nonetheless, set model.unidentified = "allow" (before do).'
    )
