"""`Model`: a graph, and one mechanism for each variable.

    x_k := f_k(pa_k, u_k)            (lecture 1.6)

It is what helpers of a query take; `rung3.scm.scm.SCM` adds the verbs. An intervention gives a new
model in which other mechanisms stand in the place of some.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from types import MappingProxyType
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from rung3.data.rows import Rows, Values, as_rows, named, spell_unknown
from rung3.data.variables import Continuous, Variable
from rung3.graph.causal_graph import CausalGraph
from rung3.graph.given import as_graph
from rung3.mechanisms import default_mechanism
from rung3.mechanisms.base import Mechanism
from rung3.scm.districts.confounding import Confounding
from rung3.scm.floating import in_own_precision
from rung3.scm.interventions import intervene

__all__ = ["Model", "Relearning", "graph_of"]


class Relearning(Protocol):
    """How a model was learned: it can be done again, with other rows."""

    @property
    def cheap(self) -> bool:
        """Whether it takes a moment, because every mechanism is solved and none is trained."""

    @property
    def scale(self) -> float:
        """What deviations of answers are multiplied by, where not all rows are drawn."""

    def __call__(self, seed: int, names: Iterable[str] | None = None) -> Any:
        """Return a model whose mechanisms, or some of them, were fitted to resampled rows."""


class Model(nn.Module):
    """A graph, its variables and their mechanisms; see `rung3.scm.scm.SCM`, which adds the verbs.

    Attributes:
        graph: The graph, after `do` without the arrows into what was set.
        variables: The variable of each node.
        confounding: The hidden common causes.
        defaults: Names of the variables whose mechanisms were not given.
        stated: The variables and mechanisms that were given, if some may still be read off columns.
        fitted: How mechanisms were fitted, by name.
        world: Name of the world that the model is, if it is one.
        origin: The graph before any `do`.
        replaced: Names that `do` set: a world's known noise does not hold for them.
        unidentified: Whether to refuse or to allow answers that data cannot give.
        readers: By image and cause, what tells the cause from the image where it is missing; see
            `rung3.scm.reading`. Not saved; a run's are its predictors.
        relearn: Fits the same mechanisms again, to resampled rows under a seed; `None` where the
            rows are not at hand, as after `load` or `do`.
    """

    unidentified: Literal["refuse", "allow"] = "refuse"
    stated: tuple[Mapping[str, Variable], Mapping[str, Mechanism]] | None = None
    readers: Mapping[tuple[str, str], Any] = MappingProxyType({})
    relearn: Relearning | None = None
    _anchor: Tensor

    def __init__(
        self,
        graph: Any = None,
        variables: Mapping[str, Variable] | None = None,
        mechanisms: Mapping[str, Mechanism] | None = None,
        *,
        world: str | None = None,
        **equations: Mechanism,
    ) -> None:
        super().__init__()
        given = {**(mechanisms or {}), **equations}
        for name, mechanism in given.items():
            if not isinstance(mechanism, Mechanism):
                raise ValueError(f"{name}: expected a mechanism, such as Flow(), got {mechanism!r}")
        for name, kind in (variables or {}).items():
            if not isinstance(kind, Variable):
                raise ValueError(f"{name}: expected a variable, such as Binary(), got {kind!r}")
        graph = graph_of(given, variables or {}) if graph is None else graph
        self.world = world
        self.declare(as_graph(graph), variables or {}, given)

    def declare(
        self, graph: CausalGraph, declared: Mapping[str, Variable], given: Mapping[str, Mechanism]
    ) -> None:
        """Bind the mechanisms, given or of the kind's default, to their variables."""
        schema = {name: declared.get(name, Continuous()) for name in graph.nodes}
        free = {k: given[k] if k in given else default_mechanism(v) for k, v in schema.items()}
        confounding = Confounding(graph, schema, free, declared)
        for names in (declared, given):
            known = {*graph.nodes, *(confounding.members if names is declared else ())}
            if unknown := [name for name in names if name not in known]:
                raise ValueError(f"the graph lacks it: {spell_unknown(unknown, graph.nodes)}")
        bound = {}
        for name in graph.nodes:
            parents = {parent: schema[parent] for parent in graph.parents(name)}
            bound[name] = confounding.bind(free[name], name, schema[name], parents)
        self.defaults = frozenset(name for name in graph.nodes if name not in given)
        self._set_up(graph, schema, bound, confounding)
        if self.defaults - declared.keys():
            self.stated = dict(declared), dict(given)

    def _set_up(
        self,
        graph: CausalGraph,
        variables: Mapping[str, Variable],
        mechanisms: Mapping[str, Mechanism],
        confounding: Confounding,
    ) -> None:
        self.graph = graph
        self.confounding = confounding
        self.variables = dict(variables)
        self.fitted: dict[str, Any] = {}
        self.replaced: frozenset[str] = frozenset()
        self.origin = graph
        self._mechanisms = {name: mechanisms[name] for name in graph.nodes}
        self._modules_by_order = nn.ModuleList(self._mechanisms.values())  # for torch
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    @property
    def mechanisms(self) -> Mapping[str, Mechanism]:
        """The bound mechanism of each variable."""
        return MappingProxyType(self._mechanisms)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters lie, and its answers."""
        return self._anchor.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the model's parameters, in which it answers."""
        for mechanism in self._mechanisms.values():  # those of all modules take longer to list
            for parameter in mechanism.parameters():
                if parameter.is_floating_point():
                    return parameter.dtype
        return self._anchor.dtype

    # Doing ---------------------------------------------------------------------------------------

    def do(self, values: Values | None = None, /, **more: Any) -> Self:
        """Give a new model in which variables are set; this one stays, and parameters are shared.

        Args:
            values: For each variable a number, a tensor with one value a row, a function (of its
                parents, of the variable itself for the value it would have had, of `u` for a fresh
                uniform number), or another mechanism. In a counterfactual that one keeps the
                noise of the old where both have the same prior; else its noise is redrawn.
            more: The same, by keyword.

        Raises:
            ValueError: On an unknown variable, or a value outside its support.

        Example:
            >>> from rung3 import worlds
            >>> worlds.lecture().do(x1=lambda x1: x1 + 10).sample(2, seed=0)["x1"] > 5
            tensor([True, True])
        """
        return self._replace({**({} if values is None else values), **more}, held=False)

    def hold(self, values: Values) -> Self:
        """Do the same with factual values that are kept: answers call the variables `held`."""
        return self._replace(values, held=True)

    @in_own_precision
    def _replace(self, values: Values, held: bool) -> Self:
        """Give the model with other mechanisms of some variables."""
        if unknown := [name for name in values if name not in self.variables]:
            raise ValueError(f"do: {spell_unknown(unknown, self.variables)}")
        new = {
            name: intervene(self._mechanisms[name], value, self.variables, held)
            for name, value in named(values).items()
        }
        arrows = [(cause, name) for cause, name in self.graph.edges if name not in new]
        hidden = self.confounding.members
        arrows += [(p, name) for name, m in new.items() for p in m.parents if p not in hidden]
        bidirected = [pair for pair in self.graph.bidirected if new.keys().isdisjoint(pair)]
        graph = CausalGraph.of(self.graph.nodes, arrows, bidirected)
        model = self._derived(graph, new)
        model.defaults = self.defaults - new.keys()
        model.replaced = self.replaced | new.keys()
        return model

    def exchange(self, mechanisms: Mapping[str, Mechanism]) -> Self:
        """Give the model with other mechanisms of some variables, bound to the same parents."""
        model = self._derived(self.graph, mechanisms)
        model.defaults, model.replaced = self.defaults, self.replaced
        model.fitted = dict(self.fitted)
        return model

    def take(self, other: Self) -> None:
        """Take over the mechanisms of another model of the same variables, in place."""
        device = self.device
        self._set_up(self.graph, self.variables, other.mechanisms, self.confounding)
        self.fitted, self.defaults = dict(other.fitted), frozenset()
        self.to(device).eval()

    def extend(self, mechanism: Mechanism) -> Self:
        """Give the model with one more variable, caused by others; parameters are shared.

        Args:
            mechanism: Its mechanism, bound to the variable and to parents of the model.

        Raises:
            ValueError: If the model has a variable of that name.
        """
        name = mechanism.name
        if name in self.variables:
            raise ValueError(f"{name}: the model has a variable of this name already")
        arrows = [(parent, name) for parent in mechanism.parents]

        def extended(graph: CausalGraph) -> CausalGraph:
            return CausalGraph.of((*graph.nodes, name), [*graph.edges, *arrows], graph.bidirected)

        variables = {**self.variables, name: mechanism.variable}
        model = self._derived(extended(self.graph), {name: mechanism}, variables)
        model.defaults, model.replaced = self.defaults, self.replaced
        model.fitted, model.origin = dict(self.fitted), extended(self.origin)
        return model

    def _derived(
        self,
        graph: CausalGraph,
        mechanisms: Mapping[str, Mechanism],
        variables: Mapping[str, Variable] | None = None,
    ) -> Self:
        model = type(self).__new__(type(self))
        nn.Module.__init__(model)
        everything = {**self._mechanisms, **mechanisms}
        model._set_up(graph, variables or self.variables, everything, self.confounding)
        model.world, model.training = self.world, self.training
        model.origin, model.unidentified = self.origin, self.unidentified
        model.readers = self.readers
        model._anchor = self._anchor
        return model

    # Values --------------------------------------------------------------------------------------

    def read(self, values: Values) -> Rows:
        """Check values against the variables, and give them as rows.

        Raises:
            ValueError: If a name is unknown, a value is not one of its variable, or there is no
                row.
        """
        wide = [name for name, mechanism in self._mechanisms.items() if mechanism.wide]
        rows = as_rows(values, self.variables, self.device, exact=wide, read=True)
        if rows.n == 0:
            raise ValueError("no rows were given; expected at least one")
        return rows

    def check_given(self, rows: Rows) -> None:
        """Refuse rows that lack a variable.

        Raises:
            ValueError: Naming the first that is lacking.
        """
        if lacking := [name for name in self.variables if name not in rows]:
            raise ValueError(
                f"{lacking[0]}: not given; abduction needs a value of every variable, "
                f"and got {list(rows)}"
            )

    def __str__(self) -> str:
        lines = [f"{type(self).__name__}: {self.graph}"]
        for name, mechanism in self._mechanisms.items():
            chosen = " (default of its kind)" if name in self.defaults else ""
            lines.append(f"  {name}: {self.variables[name]} := {mechanism.describe()}{chosen}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the graph's drawing and the mechanisms for a notebook."""
        lines = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(str(self.variables[name]))}</td>"
            f"<td>{escape(mechanism.describe())}</td></tr>"
            for name, mechanism in self._mechanisms.items()
        )
        head = "<tr><th>variable</th><th>kind</th><th>mechanism</th></tr>"
        return f"{self.graph._repr_html_()}<table>{head}{lines}</table>"


def graph_of(mechanisms: Mapping[str, Mechanism], variables: Mapping[str, Variable]) -> CausalGraph:
    """Read the graph off equations: their arguments are their parents.

    Raises:
        ValueError: If a mechanism does not say its parents.
    """
    silent = [name for name, mechanism in mechanisms.items() if mechanism.arguments is None]
    silent += [name for name in variables if name not in mechanisms]
    if silent or not mechanisms:
        reason = f"{silent} does not say its parents" if silent else "there are no mechanisms"
        raise ValueError(
            f"graph: not given, and {reason}; "
            'give SCM(graph="a -> b; ...") or an Equation for every variable'
        )
    edges = [(parent, name) for name, m in mechanisms.items() for parent in m.arguments or ()]
    unknown = [parent for parent, _ in edges if parent not in mechanisms]
    if unknown:
        raise ValueError(f"an equation's argument: {spell_unknown(unknown, mechanisms)}")
    return CausalGraph(edges, nodes=list(mechanisms))
