"""`District`: variables that hidden causes connect, trained and asked for densities as one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from rung3.data.variables import Discrete, Variable
from rung3.mechanisms.base import Mechanism, Parents, Trainable
from rung3.mechanisms.discrete import GumbelMax
from rung3.scm.districts.loaded import Loaded

__all__ = ["District"]

LEARNING_RATE = 5e-2
"""Learning rate of joined Gaussian noises: loadings and slopes trade off, and lower rates stop
half-way."""


class District(Trainable):
    """Variables that hidden causes connect, as one.

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

    learning_rate: float = LEARNING_RATE
    betas: tuple[float, float] = (0.9, 0.99)

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
        if not self.gaussian:
            self.learning_rate = min(rates)
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
        """Return a parent's values; of a hidden cause, some that show all its classes."""
        if name in values:
            return values[name]
        kind = self.causes[name].variable
        device = values[self.name].device
        if isinstance(kind, Discrete):
            return torch.arange(n, device=device) % kind.classes
        return torch.zeros(n, device=device)

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return `-log p(x_S | pa_S)`, averaged over rows."""
        values = {**parents, self.name: value}
        return -torch.stack(list(self.log_probs(values).values())).sum(0).mean()

    def log_probs(self, values: Parents) -> dict[str, Tensor]:
        """Compute `log p(x_k | pa_k, members before it)` of each member given, `(n,)`."""
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
        """Give Gaussian members' noise given that of those before, and what it is independent of.

        It is normal, `z = L^-1 u`, and independent of those members, their parents and its own.
        """
        _, z, _, _ = self._whitened(values)
        known: dict[str, Variable] = {}
        conditional = {}
        for (name, mechanism), noise in zip(self.mechanisms.items(), z, strict=True):
            known |= {k: v for k, v in mechanism.parents.items() if k not in self.causes}
            conditional[name] = noise, dict(known)
            known[name] = mechanism.variable
        return conditional

    def posterior(
        self, values: Parents, particles: int | None, generator: Generator
    ) -> dict[str, Tensor]:
        """Draw the hidden causes given the members' values."""
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
        """Return `log p(h)` of all combinations of classes, `(1, classes, ...)`."""
        total = torch.zeros((), device=next(iter(self.causes.values())).observed.device)
        for axis, root in enumerate(self.causes.values()):
            assert isinstance(root, GumbelMax)
            table = root.log_probs({}, 1)[0]
            total = total + table.reshape(-1, *[1] * (len(self.causes) - axis - 1))
        return total.unsqueeze(0)

    def _tables(self, values: Parents) -> dict[str, Tensor]:
        """Tabulate `log p(x_k | pa_k, h)` of each member given, `(n, classes, ...)`.

        The axis of a cause that is not a parent of the member has length 1.
        """
        result = {}
        for name, mechanism in self.mechanisms.items():
            if name not in values:
                continue
            n, causes = len(values[name]), [k for k in self.causes if k in mechanism.parents]
            sizes = [self._classes(k) for k in causes]
            codes = torch.cartesian_prod(*[torch.arange(s) for s in sizes]).reshape(-1, len(causes))
            codes = codes.to(values[name].device)
            count = len(codes)
            given = {
                p: codes[:, causes.index(p)].repeat(n)
                if p in causes
                else values[p].repeat_interleave(count, 0)
                for p in mechanism.parents
            }
            table = mechanism.log_prob(values[name].repeat_interleave(count, 0), given)
            shape = [self._classes(k) if k in causes else 1 for k in self.causes]
            result[name] = table.reshape(n, *shape)
        return result

    def _classes(self, name: str) -> int:
        kind = self.causes[name].variable
        assert isinstance(kind, Discrete)
        return kind.classes

    # Gaussian noise ------------------------------------------------------------------------------

    def _noises(self, values: Parents) -> tuple[list[str], Tensor, Tensor, Tensor]:
        """Return members given, their u and `log |du/dx|` `(n, K)`, loadings `(K, causes)`."""
        names, noises, slopes, loadings = [], [], [], []
        for name, mechanism in self.mechanisms.items():
            if name in values:
                assert isinstance(mechanism, Loaded)
                u = mechanism.total(values[name], values)
                names.append(name)
                noises.append(u)
                slopes.append(mechanism.slope(values[name], values, u))
                by_cause = dict(zip(mechanism.causes, mechanism.loadings, strict=True))
                loadings.append(
                    torch.stack([by_cause.get(k, u.new_zeros(())) for k in self.causes])
                )
        return names, torch.stack(noises, 1), torch.stack(slopes, 1), torch.stack(loadings)

    def _whitened(self, values: Parents) -> tuple[list[str], Tensor, Tensor, Tensor]:
        """Return members given, `z = L^-1 u` `(K, n)` with `R = L L'`, slopes `(n, K)`, and L."""
        names, u, slope, loadings = self._noises(values)
        lower = torch.linalg.cholesky(_correlation(loadings))
        return names, torch.linalg.solve_triangular(lower, u.T, upper=False), slope, lower

    def _gaussian(self, values: Parents) -> dict[str, Tensor]:
        """Compute the densities: `u_k` given those before it is normal."""
        names, z, slope, lower = self._whitened(values)
        log_prob = -0.5 * (z.T.square() + math.log(2 * math.pi)) - lower.diagonal().log() + slope
        return dict(zip(names, log_prob.unbind(1), strict=True))

    def _gaussian_posterior(
        self, values: Parents, particles: int | None, generator: Generator
    ) -> dict[str, Tensor]:
        """Draw `h | u ~ N(Lambda' R^-1 u, I - Lambda' R^-1 Lambda)`."""
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
        """Describe the members' mechanisms, and their hidden causes."""
        members = "; ".join(f"{name}: {m}" for name, m in self.mechanisms.items())
        return f"{members}; joined by {', '.join(self.causes)}"

    __repr__ = describe


def _correlation(loadings: Tensor) -> Tensor:
    """Compute `R = Lambda Lambda'`, with ones on the diagonal."""
    shared = loadings @ loadings.T
    return shared + torch.diag(1 - shared.diagonal())
