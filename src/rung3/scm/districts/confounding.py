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
from typing import Any, cast

import networkx as nx
import torch
from torch import Generator, Tensor, nn

from rung3.data.seeding import stream
from rung3.data.variables import Categorical, Continuous, Discrete, Variable
from rung3.graph import CausalGraph
from rung3.mechanisms.base import Mechanism, Parents
from rung3.mechanisms.discrete import GumbelMax
from rung3.mechanisms.equation import Equation
from rung3.scm.districts.loaded import Loaded, can_be_loaded

__all__ = ["CLASSES", "Confounding", "District"]

CLASSES = 8
"""Latent classes of a hidden cause, where not said."""

RATE = 5e-2
"""Of joined Gaussian noises: loadings and slopes trade off, and lower rates stop half-way."""

MOST = 4096
"""Joint classes of the hidden causes of a district, at the most."""


class Confounding(nn.Module):
    """The hidden causes of a model; none where the graph has no bidirected arrow.

    Args:
        graph: The graph.
        variables: The observed variables, by name.
        mechanisms: Their mechanisms, unbound.
        chosen: `Categorical(classes)` for some hidden causes, by names such as `"x <-> y"`.

    Attributes:
        members: By each hidden cause, the names of the variables that listen to it.
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
            if math.prod(sizes.values()) > MOST:
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
        """One more Gaussian cause for all but the first of a clique, and so on to the last two."""
        for name, names in list(self.members.items()):
            if isinstance(self.variables[name], Continuous):
                for tail in (names[at:] for at in range(1, len(names) - 1)):
                    part = " <-> ".join(tail)
                    if isinstance(chosen.get(part), Discrete):
                        raise ValueError(f"{part}: is part of {name}; give that one its classes")
                    self.members[part], self.variables[part] = tail, Continuous()

    def causes(self, name: str) -> dict[str, bool]:
        """The hidden causes of a variable, and whether it is the first of each one's listeners."""
        return {k: names[0] == name for k, names in self.members.items() if name in names}

    def bind(
        self, mechanism: Mechanism, name: str, kind: Variable, parents: Mapping[str, Variable]
    ) -> Mechanism:
        """The mechanism bound to its variable, its parents, and its hidden causes."""
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
        """Values of the hidden causes, `(n,)` each."""
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
        """Draws from the posterior of the hidden causes of `wanted`: `(n,)`, or `(K, n)`."""
        drawn: dict[str, Tensor] = {}
        for district in self.districts(mechanisms):
            if not district.names.isdisjoint(wanted):
                key = " and ".join(district.causes)
                device = next(iter(values.values())).device
                drawn |= district.posterior(values, particles, stream(base, key, device))
        return drawn

    def districts(self, mechanisms: Mapping[str, Mechanism]) -> list[District]:
        """The districts of more than one variable, among those that still listen."""
        if not self.members:
            return []
        links = nx.Graph()
        for name, mechanism in mechanisms.items():
            links.add_edges_from(
                (name, cause) for cause in mechanism.parents if cause in self.members
            )
        roots = self.mechanisms
        found = []
        for part in nx.connected_components(links):
            listeners = {k: mechanisms[k] for k in self.order if k in part}
            found.append(District(listeners, {k: r for k, r in roots.items() if k in part}))
        return found

    def units(
        self, chosen: Mapping[str, Mechanism], mechanisms: Mapping[str, Mechanism]
    ) -> dict[str, Mechanism]:
        """What is trained: chosen mechanisms, and for the members of a district the district."""
        units = dict(chosen)
        for district in self.districts(mechanisms):
            if not district.names.isdisjoint(chosen):
                units = {k: m for k, m in units.items() if k not in district.names}
                units[" and ".join(district.causes)] = cast(Mechanism, district)
        return units

    @property
    def mechanisms(self) -> dict[str, Mechanism]:
        """The mechanism of each hidden cause."""
        roots: Any = self.roots
        return dict(zip(self.members, roots, strict=True))


class District(nn.Module):
    """Variables that hidden causes connect, as one: what is trained, and asked for densities.

    It is trained like a mechanism of its first member, with all else that it needs as parents.

    Args:
        mechanisms: The members' mechanisms, causes before effects.
        causes: The hidden causes' mechanisms.

    Attributes:
        name: The first member.
        variable: Its variable.
        parents: The other members, and the observed parents of all.
        learning_rate: The least of the members'; a higher one where all have Gaussian noise.
        betas: The first member's.
    """

    def __init__(
        self, mechanisms: Mapping[str, Mechanism], causes: Mapping[str, Mechanism]
    ) -> None:
        super().__init__()
        self.mechanisms, self.causes = dict(mechanisms), dict(causes)
        self.listed = nn.ModuleList([*mechanisms.values(), *causes.values()])
        self.names = frozenset(mechanisms)
        self.name = next(iter(mechanisms))
        rates = [mechanism.learning_rate for mechanism in mechanisms.values()]
        self.gaussian = all(isinstance(m, Loaded) for m in mechanisms.values())
        self.learning_rate = RATE if self.gaussian else min(rates)
        self.betas = mechanisms[self.name].betas
        self.variable = mechanisms[self.name].variable
        schema = {k: v for m in mechanisms.values() for k, v in m.parents.items()}
        schema |= {name: mechanism.variable for name, mechanism in mechanisms.items()}
        self.parents = {k: v for k, v in schema.items() if k not in self.causes and k != self.name}

    def calibrate(self, value: Tensor, parents: Parents) -> None:
        """Let every member take its scales and range from training data."""
        values = {**parents, self.name: value}
        for name, mechanism in self.mechanisms.items():
            given = {p: self._column(p, values, len(value)) for p in mechanism.parents}
            mechanism.calibrate(values[name], given)

    def _column(self, name: str, values: Parents, n: int) -> Tensor:
        """A parent's values; of a hidden cause, some that show all its classes."""
        if name in values:
            return values[name]
        kind = self.causes[name].variable
        device = values[self.name].device
        if isinstance(kind, Discrete):
            return torch.arange(n, device=device) % kind.classes
        return torch.zeros(n, device=device)

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """`-log p(x_S | pa_S)`, averaged over rows."""
        values = {**parents, self.name: value}
        return -torch.stack(list(self.log_probs(values).values())).sum(0).mean()

    def log_probs(self, values: Parents) -> dict[str, Tensor]:
        """Of each member that is given: `log p(x_k | pa_k, and the members before it)`, `(n,)`."""
        if self.gaussian:
            return self._gaussian(values)
        result: dict[str, Tensor] = {}
        so_far = self._prior()
        total = so_far.flatten().logsumexp(0)
        for name, table in self._tables(values).items():
            so_far = so_far + table
            now = so_far.flatten(1).logsumexp(1)
            result[name], total = now - total, now
        return result

    def conditional_noise(self, values: Parents) -> dict[str, tuple[Tensor, dict[str, Variable]]]:
        """Of Gaussian members, the noise given that of those before, and what it must not know.

        It is normal, `z = L^-1 u`, and knows nothing of these members, their causes and its own.
        """
        _, z, _, _ = self._whitened(values)
        heard: dict[str, Variable] = {}
        found = {}
        for (name, mechanism), noise in zip(self.mechanisms.items(), z, strict=True):
            heard |= {k: v for k, v in mechanism.parents.items() if k not in self.causes}
            found[name] = noise, dict(heard)
            heard[name] = mechanism.variable
        return found

    def posterior(
        self, values: Parents, particles: int | None, generator: Generator
    ) -> dict[str, Tensor]:
        """Draws of the hidden causes given the members' values."""
        if self.gaussian:
            return self._gaussian_posterior(values, particles, generator)
        scores = self._prior()
        for table in self._tables(values).values():
            scores = scores + table
        chosen = torch.multinomial(
            scores.flatten(1).softmax(1).double(), particles or 1, True, generator=generator
        ).T  # (K, n)
        sizes = scores.shape[1:]
        drawn = torch.unravel_index(chosen, sizes)
        return {
            name: code if particles else code[0]
            for name, code in zip(self.causes, drawn, strict=True)
        }

    # Latent classes ------------------------------------------------------------------------------

    def _prior(self) -> Tensor:
        """`log p(h)` of all combinations of classes, `(1, classes, ...)`."""
        total = torch.zeros((), device=next(iter(self.causes.values())).observed.device)
        for axis, root in enumerate(self.causes.values()):
            assert isinstance(root, GumbelMax)
            table = root.log_probs({}, 1)[0]
            total = total + table.reshape(-1, *[1] * (len(self.causes) - axis - 1))
        return total.unsqueeze(0)

    def _tables(self, values: Parents) -> dict[str, Tensor]:
        """`log p(x_k | pa_k, h)` of each member given, `(n, classes, ...)`, 1 where not heard."""
        result = {}
        for name, mechanism in self.mechanisms.items():
            if name not in values:
                continue
            n, heard = len(values[name]), [k for k in self.causes if k in mechanism.parents]
            sizes = [self._classes(k) for k in heard]
            codes = torch.cartesian_prod(*[torch.arange(s) for s in sizes]).reshape(-1, len(heard))
            codes = codes.to(values[name].device)
            count = len(codes)
            given = {
                p: codes[:, heard.index(p)].repeat(n)
                if p in heard
                else values[p].repeat_interleave(count, 0)
                for p in mechanism.parents
            }
            table = mechanism.log_prob(values[name].repeat_interleave(count, 0), given)
            shape = [self._classes(k) if k in heard else 1 for k in self.causes]
            result[name] = table.reshape(n, *shape)
        return result

    def _classes(self, name: str) -> int:
        kind = self.causes[name].variable
        assert isinstance(kind, Discrete)
        return kind.classes

    # Gaussian noise ------------------------------------------------------------------------------

    def _noises(self, values: Parents) -> tuple[list[str], Tensor, Tensor, Tensor]:
        """Members given, their noise u `(n, K)`, `log |du/dx|` `(n, K)`, loadings `(K, causes)`."""
        names, noises, slopes, loadings = [], [], [], []
        for name, mechanism in self.mechanisms.items():
            if name in values:
                assert isinstance(mechanism, Loaded)
                u = mechanism.total(values[name], values)
                names.append(name)
                noises.append(u)
                slopes.append(mechanism.slope(values[name], values, u))
                own = dict(zip(mechanism.causes, mechanism.loadings, strict=True))
                loadings.append(torch.stack([own.get(k, u.new_zeros(())) for k in self.causes]))
        return names, torch.stack(noises, 1), torch.stack(slopes, 1), torch.stack(loadings)

    def _whitened(self, values: Parents) -> tuple[list[str], Tensor, Tensor, Tensor]:
        """Members given, `z = L^-1 u` `(K, n)` with `R = L L'`, slopes `(n, K)`, and L."""
        names, u, slope, loadings = self._noises(values)
        lower = torch.linalg.cholesky(_correlation(loadings))
        return names, torch.linalg.solve_triangular(lower, u.T, upper=False), slope, lower

    def _gaussian(self, values: Parents) -> dict[str, Tensor]:
        """`u_k` given those before it is normal."""
        names, z, slope, lower = self._whitened(values)
        log_prob = -0.5 * (z.T.square() + math.log(2 * math.pi)) - lower.diagonal().log() + slope
        return dict(zip(names, log_prob.unbind(1), strict=True))

    def _gaussian_posterior(
        self, values: Parents, particles: int | None, generator: Generator
    ) -> dict[str, Tensor]:
        """`h | u ~ N(Lambda' R^-1 u, I - Lambda' R^-1 Lambda)`."""
        _, u, _, loadings = self._noises(values)
        gain = torch.linalg.solve(_correlation(loadings), loadings)
        mean = u @ gain
        spread = torch.eye(len(self.causes), device=u.device) - loadings.T @ gain
        scale, vectors = torch.linalg.eigh(spread)
        root = vectors * scale.clamp_min(0).sqrt()
        shape = (particles or 1, *mean.shape)
        drawn = mean + torch.randn(shape, generator=generator, device=u.device) @ root.T
        each = drawn.unbind(-1)
        return {k: h if particles else h[0] for k, h in zip(self.causes, each, strict=True)}

    def describe(self) -> str:
        """The members' mechanisms, and their hidden causes."""
        said = "; ".join(f"{name}: {m}" for name, m in self.mechanisms.items())
        return f"{said}; joined by {', '.join(self.causes)}"

    __repr__ = describe


def _cliques(graph: CausalGraph) -> dict[str, tuple[str, ...]]:
    """The maximal cliques of bidirected arrows, by names such as `"x <-> y"`."""
    mixed = nx.Graph(list(graph.bidirected))
    rank = graph.order.index
    found = sorted(
        (sorted(part, key=rank) for part in nx.find_cliques(mixed)), key=lambda c: [*map(rank, c)]
    )
    return {" <-> ".join(names): tuple(names) for names in found}


def _correlation(loadings: Tensor) -> Tensor:
    """`R = Lambda Lambda'`, with ones on the diagonal."""
    shared = loadings @ loadings.T
    return shared + torch.diag(1 - shared.diagonal())
