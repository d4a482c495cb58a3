"""`SCM`: a graph, and one mechanism a variable; every query is composed of its verbs.

    x_k := f_k(pa_k, u_k),   p(x) = prod_k p(x_k | pa_k)            (lecture 1.6 and 1.7)

A counterfactual is abduction, action, prediction (lecture, Figure 14):

    u ~ P(U | x),   M' = M with do(x_j := c),   x~ = M'(u).

At prediction a variable keeps its factual value, bit for bit, unless its own mechanism or that of
an ancestor differs from the one its noise was abducted with. Every other variable is recomputed
from its noise and its parents, also when nothing really changed: a null intervention has no short
cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

import networkx as nx
import torch
from torch import Tensor, nn

from rung3.data import memory
from rung3.data.rows import Exogenous, Noise, Rows, as_rows, spell_unknown
from rung3.data.seeding import Seed, base_seed
from rung3.data.variables import Continuous, Variable
from rung3.graph import CausalGraph
from rung3.graph.given import as_graph
from rung3.mechanisms import default_mechanism, graph_of
from rung3.mechanisms.base import Mechanism
from rung3.scm import (
    conditioning,
    propagation,
    provenance,
)
from rung3.scm import (
    identifiability as identification,
)
from rung3.scm import (
    imputation as missing,
)
from rung3.scm.districts.confounding import Confounding
from rung3.scm.floating import in_own_precision
from rung3.scm.interventions import Apply, intervene

__all__ = ["SCM"]

Values = Mapping[str, Any]


class SCM(nn.Module):
    """A structural causal model (lecture 1.6), learned, written down, or partly each.

    Args:
        graph: A `CausalGraph`, or what makes one; if not given, read off the equations' arguments.
        variables: The variable of each node; where neither it nor its mechanism is given, `fit`
            reads it off the column (`rung3.scm.undeclared`); until then it is `Continuous()`. A
            hidden common cause may be given too, by its arrow: `{"x <-> y": Categorical(4)}` (see
            `rung3.scm.districts.confounding`).
        mechanisms: The mechanism of each node; where not given, the default of its kind.
        world: Name of the world that this model is, if it is one: rows that it samples then carry
            their exogenous noise, and it abducts from that, exactly.
        equations: More mechanisms, by keyword.

    Attributes:
        measures: A world may have functions that measure a variable on images `(n, C, H, W)`, by
            its name; and
        baselines: by their names, functions of an image, its parents and their counterfactual
            values that give an image; `evaluate` prints their scores beside the model's.
        unidentified: Whether to `"refuse"` or `"allow"` answers that data cannot tell for hidden
            causes `a <-> b` (see `rung3.scm.identifiability`). Not saved.

    Raises:
        ValueError: If names do not agree, or a mechanism cannot model its variable.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x1=Equation("u + 1"), x2=Equation("3*x1 + u"))
        >>> noise = model.abduct({"x1": 2.0, "x2": 4.0})
        >>> model.do(x1=5.0).predict(noise)["x2"]
        tensor(13.)
    """

    measures: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({})
    baselines: Mapping[str, Callable[..., Tensor]] = MappingProxyType({})
    unidentified: Literal["refuse", "allow"] = "refuse"
    stated: tuple[Mapping[str, Variable], Mapping[str, Mechanism]] | None = None

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
        self.replaced: frozenset[str] = frozenset()  # by `do`: the world knows no noise of theirs
        self.origin = graph  # before any `do`
        self._modules_by_order = nn.ModuleList(mechanisms[name] for name in graph.nodes)
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    @property
    def mechanisms(self) -> dict[str, Mechanism]:
        """The bound mechanism of each variable."""
        modules: Iterable[Any] = self._modules_by_order
        return dict(zip(self.graph.nodes, modules, strict=True))

    @property
    def device(self) -> torch.device:
        """Where the model's parameters lie, and its answers."""
        anchor: Any = self._anchor
        device: torch.device = anchor.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the model's parameters, in which it answers."""
        anchor: Any = self._anchor
        found = (p.dtype for p in self.parameters() if p.is_floating_point())
        dtype: torch.dtype = next(found, anchor.dtype)
        return dtype

    # Rung 1: seeing ------------------------------------------------------------------------------

    @in_own_precision
    def sample(self, n: int = 1, given: Values | None = None, seed: Seed = None) -> Rows:
        """Draw rows from `p(x)`, or from `p(x | given)`.

        Conditioning is exact where everything upstream of the evidence is given too; otherwise by
        likelihood weighting and, where evidence is rare, by summing over categories or by tempering
        (`rung3.scm.conditioning`), with the effective sample size in `explain()`; it warns below
        30.

        Args:
            n: Number of rows.
            given: Evidence: one value a variable, the same for all rows.
            seed: An int, a `torch.Generator`, or `None` to follow torch's own.

        Returns:
            `n` rows; in a world they carry their noise.

        Raises:
            ValueError: If the evidence is not a value of its variable, or has probability zero; or
                if it is an image and something that causes it is not given.

        Example:
            >>> from rung3 import worlds
            >>> worlds.lecture().sample(3, given={"x1": 2.0}, seed=0)["x1"]
            tensor([2., 2., 2.])
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n: expected a whole number of rows, at least 1, got {n!r}")
        identification.require_identified(self)
        memory.require_rows(self.variables, n, None, self.device)
        evidence = self._rows(given) if given else None
        if evidence is not None and evidence.batched:
            raise ValueError("given: expected one value a variable, got batches")
        base = base_seed(seed, "condition" if evidence else "")
        fixed, size = conditioning.condition(self, dict(evidence or {}), n, base)
        values, noise = propagation.generate(self, n, base, fixed)
        known = self.world is not None and not fixed
        own = {name: part for name, part in noise.items() if name not in self.replaced}
        return Rows(
            {name: values[name] for name in self.graph.nodes},
            noise=own if known else None,
            world=self.world if known else None,
            provenance=provenance.of_sample(self, values, evidence or {}, size),
        )

    def log_prob(self, values: Values, seed: Seed = None) -> Tensor:
        """`log p(x)` in nats, in the variables' own units, `(n,)`: the sum of `log_probs`.

        Example:
            >>> from rung3 import worlds
            >>> worlds.lecture().log_prob({"x1": [1.0], "x2": [3.0]})
            tensor([-1.8379])
        """
        return torch.stack(list(self.log_probs(values, seed).values())).sum(0)

    @in_own_precision
    def log_probs(self, values: Values, seed: Seed = None) -> dict[str, Tensor]:
        """`log p(x_k | pa_k)` of every variable given, `(n,)`; or a lower bound (VAEs).

        Of variables that hidden causes join, given the earlier ones of them too: they sum to
        `log p(x)`.

        Args:
            values: Values of some variables and of all their parents.
            seed: Of bounds that are random: an int, a `torch.Generator`, or `None` for torch's own.

        Raises:
            ValueError: If a variable given lacks a parent, or is missing in a row.
        """
        rows = self._rows(values)
        missing.check_present(self, rows, "a density")
        identification.require_identified(self, rows)
        return propagation.log_probs(self, rows, base_seed(seed, "log_prob"))

    # Rung 2: doing -------------------------------------------------------------------------------

    def do(self, values: Values | None = None, /, **more: Any) -> Self:
        """A new model in which variables are set; this one is untouched, parameters are shared.

        Args:
            values: For each variable a number, a tensor with one value a row, a function (of its
                parents, of the variable itself for the value it would have had, of `u` for a fresh
                uniform number), or another mechanism. In a counterfactual that one keeps the
                noise of the old where both have the same prior; else its noise is drawn anew.
            more: The same, by keyword.

        Raises:
            ValueError: On an unknown variable, or a value outside its support.

        Example:
            >>> from rung3 import worlds
            >>> worlds.lecture().do(x1=lambda x1: x1 + 10).sample(2, seed=0)["x1"] > 5
            tensor([True, True])
        """
        return self._do({**({} if values is None else values), **more}, held=frozenset())

    def hold(self, values: Values) -> Self:
        """The same as `do`, of factual values that are kept: answers call the variables `held`."""
        return self._do(values, held=frozenset(values))

    @in_own_precision
    def _do(self, values: Values, held: frozenset[str]) -> Self:
        if unknown := [name for name in values if name not in self.variables]:
            raise ValueError(f"do: {spell_unknown(unknown, self.variables)}")
        mechanisms = self.mechanisms
        for name, value in values.items():
            mechanisms[name] = intervene(mechanisms[name], value, self.variables, name in held)
        arrows = nx.DiGraph()
        arrows.add_nodes_from(self.graph.nodes)  # first, so that answers keep their order
        hidden = self.confounding.members
        arrows.add_edges_from(
            (p, name) for name, m in mechanisms.items() for p in m.parents if p not in hidden
        )
        graph = CausalGraph(arrows, bidirected=self.graph.do(*values).bidirected)
        model = type(self).__new__(type(self))
        nn.Module.__init__(model)
        model.defaults = self.defaults - values.keys()
        model.world, model.training = self.world, self.training
        model._set_up(graph, self.variables, mechanisms, self.confounding)
        model.replaced = self.replaced | values.keys()
        model.origin, model.unidentified = self.origin, self.unidentified
        model._anchor = self._anchor
        return model

    # Rung 3: imagining ---------------------------------------------------------------------------

    @in_own_precision
    def abduct(self, values: Values, particles: int | None = None, seed: Seed = None) -> Exogenous:
        """The exogenous noise behind rows, `P(U | x)` (lecture, Figure 14, step 1).

        Args:
            values: A value of every variable.
            particles: Number K of draws where noise is random given the rows; `None` for one.
            seed: An int, a `torch.Generator`, or `None` to follow torch's own.

        Returns:
            Noise by variable, `(n, ...)`, or `(K, n, ...)` with particles.

        Raises:
            ValueError: If a value is missing or impossible, or a mechanism cannot be inverted.
        """
        return self._abduct(self._rows(values), particles, seed, set(self.graph.nodes))

    @in_own_precision
    def _abduct(self, rows: Rows, particles: int | None, seed: Seed, wanted: set[str]) -> Exogenous:
        whole = isinstance(particles, int) and not isinstance(particles, bool)
        if particles is not None and not (whole and particles > 0):
            raise ValueError(f"particles: expected a whole number of at least 1, got {particles!r}")
        self._check_complete(rows)
        memory.require_rows(self.variables, rows.n, particles, self.device)
        base = base_seed(seed, "abduct" if particles is None else "particles")
        if rows.provenance is not None and rows.provenance.seed is not None:
            base = base_seed(base, f"after {rows.provenance.seed}")  # not what made these rows
        return propagation.abduct(self, rows, wanted, particles, base)

    @in_own_precision
    def predict(
        self,
        noise: Exogenous | Mapping[str, Noise],
        temperature: float = 1.0,
        mean: Iterable[str] = (),
    ) -> Rows:
        """The rows that this model makes of the noise (lecture, Figure 14, step 3).

        Args:
            noise: What `abduct` gave, by this model or by one that it was made from with `do`.
            temperature: Factor on the noise of observation (a VAE's eps); 0 predicts from z alone.
            mean: Variables of which to give the expected value over noise of observation.

        Returns:
            Rows shaped as the evidence was, with a leading axis K if there are particles.

        Raises:
            ValueError: If noise of a variable that must be recomputed is not there, or `mean`
                names no variable.
        """
        if not isinstance(noise, Exogenous):
            noise = Exogenous(noise, n=propagation.length(noise))
        affected = propagation.affected(self, noise)
        identification.require_imaginable(self, noise, affected)
        values = propagation.predict(self, noise, affected, temperature, self.graph.names(mean))
        batched = noise.factual is None or noise.factual.batched
        axis = 0 if noise.particles is None else 1
        return Rows(
            {k: values[k] if batched else values[k].squeeze(axis) for k in self.graph.nodes},
            batched=batched,
            particles=noise.particles,
            provenance=provenance.of_prediction(self, values, noise, affected),
        )

    @in_own_precision
    def counterfactual(
        self,
        values: Values,
        do: Values,
        *,
        hold: Iterable[str] = (),
        particles: int | None = None,
        seed: Seed = None,
        temperature: float = 1.0,
    ) -> Rows:
        """What these rows would have been, had variables been set: abduct, act, predict.

        Args:
            values: A value of every variable.
            do: The interventions, as `SCM.do` takes them.
            hold: Variables kept at their factual values although something upstream is set.
            particles: Number K of draws of the noise; answers then have a leading axis K. Needed
                where values are missing: they are drawn given the rest (see
                `rung3.scm.imputation`).
            seed: An int, a `torch.Generator`, or `None` to follow torch's own.
            temperature: Factor on the noise of observation (a VAE's eps); 0 predicts from z alone.

        Returns:
            Rows shaped as the evidence was; `explain()` says what they rest on.

        Example:
            >>> from rung3 import worlds
            >>> answer = worlds.lecture().counterfactual({"x1": 2.0, "x2": 4.0}, do={"x1": 5.0})
            >>> answer["x2"], answer.explain().status["x2"]
            (tensor(13.), 'propagated')
        """
        rows = self._rows(values)
        self._check_given(rows)
        memory.require_rows(self.variables, rows.n, particles, self.device)
        if particles is not None and missing.gaps(self, rows):
            return missing.counterfactual(self, rows, do, hold, particles, seed, temperature)
        self._check_complete(rows)
        kept = self.graph.names(hold)
        if both := [name for name in do if name in kept]:
            raise ValueError(f"{both[0]}: cannot both be set and held")
        model = self.do(do)
        if below := kept & model.graph.descendants(list(do)):
            model = model.hold({name: rows[name] for name in below})
        propagation.check_lengths(model, rows.n)
        nothing = Exogenous({}, n=rows.n, factual=rows, mechanisms=self.mechanisms)
        affected = propagation.affected(model, nothing)
        identification.require_imaginable(model, nothing, affected)
        anew = propagation.drawn_anew(model, nothing, affected)
        wanted = {name for name in affected if self._is_asked(model, name, name in anew)}
        return model.predict(self._abduct(rows, particles, seed, wanted), temperature)

    def _is_asked(self, model: SCM, name: str, anew: bool) -> bool:
        """Whether a counterfactual asks for a variable's noise, or whether its value can be."""
        new = model.mechanisms[name]
        if anew:
            return isinstance(new, Apply) and new.natural
        return new.wants_noise or new is self.mechanisms[name]

    # What the verbs share ------------------------------------------------------------------------

    def _rows(self, values: Values) -> Rows:
        wide = [name for name, mechanism in self.mechanisms.items() if mechanism.wide]
        rows = as_rows(values, self.variables, self.device, exact=wide)
        if rows.n == 0:
            raise ValueError("no rows were given; expected at least one")
        return rows

    def _check_given(self, rows: Rows) -> None:
        if lacking := [name for name in self.variables if name not in rows]:
            raise ValueError(
                f"{lacking[0]}: not given; abduction needs a value of every variable, "
                f"and got {list(rows)}"
            )

    def _check_complete(self, rows: Rows) -> None:
        self._check_given(rows)
        missing.check_present(self, rows, "abduction")

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder; see `rung3.scm.store.save`."""
        from rung3.scm.store import save

        return save(self, folder)

    def __str__(self) -> str:
        lines = [f"SCM: {self.graph}"]
        for name, mechanism in self.mechanisms.items():
            chosen = " (default of its kind)" if name in self.defaults else ""
            lines.append(f"  {name}: {self.variables[name]} := {mechanism.describe()}{chosen}")
        return "\n".join(lines)

    __repr__ = __str__
