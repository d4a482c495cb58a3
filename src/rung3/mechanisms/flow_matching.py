"""`FlowMatching`: a variable as the end of a path that starts at its noise.

    x = G(u, pa) + r,   dz/dt = v(z, t, pa),   z(0) = u ~ N(0, I),   z(1) = G(u, pa),

on standardised values (`rung3.mechanisms.standard_space`). The velocity v is learned from straight
lines between noise and values (Lipman et al. 2023, arXiv 2210.02747):

    z_t = (1 - t) u + t x,   loss = E |v(z_t, t, pa) - (x - u)|^2.

Abduction takes the equation from 1 to 0 under the parents of the row, and prediction from 0 to 1
under others, both by Heun's method on equal steps. What the steps miss, `r = x - G(u, pa)`, is kept
as further noise of observation, so that nothing changes where no parent does; `temperature=0`
leaves it out. Nothing is clamped on the way: only the prediction is moved into the support.

The density is that of the equation, and its divergence is computed in few dimensions, and in many
estimated with draws of e = -1 or 1 (Hutchinson), which have a standard error:

    log p(x | pa) = log N(u; 0, I) - int_0^1 div v dt + log |dz/dx|,   div v = E[e . (dv/dz) e].

Pixels stored as whole levels have noise within their level added, in training and for a density,
which then bounds the log-probability of the levels from below.

In one dimension the map increases in u, whatever the coupling, so a counterfactual keeps the row's
rank. In more dimensions the law fixes the map only up to turns of the noise that keep its law; see
`rung3.mechanisms.coupling`.

If values were normal, the velocity would be `(2 t - 1) z / k`, with `k = t^2 + (1 - t)^2` the
variance of z_t. The network F adds what differs, in units of what z_t leaves unknown of `x - u`
(after Karras et al. 2022, arXiv 2206.00364):

    v = (2 t - 1) z / k + F(z / sqrt(k), t, pa) / sqrt(k).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Set
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.data.variables import Continuous, Image
from rung3.mechanisms.base import Abduction, Mechanism, Parents, repeat_noise
from rung3.mechanisms.coupling import Dependence, Transport
from rung3.mechanisms.guidance import Guidance, guided
from rung3.mechanisms.networks.field import Field
from rung3.mechanisms.networks.unet import UNetOptions, unet_options
from rung3.mechanisms.solvers import Velocity, heun, time_grid
from rung3.mechanisms.standard_space import StandardSpace

__all__ = ["Density", "FlowMatching"]

Coupling = Literal["independent", "optimal-transport"]

EXACT_DIMENSIONS = 16
"""Most numbers of a value whose divergence is computed exactly, one derivative each."""


class Density(NamedTuple):
    """Log-densities, exact or estimated.

    Attributes:
        log_prob: Their values, `(n,)`, in nats.
        standard_error: Their standard errors, `(n,)`: 0 where exact, NaN of a single draw.
    """

    log_prob: Tensor
    standard_error: Tensor


class FlowMatching(Mechanism):
    """Flow matching, for numbers, vectors and images of any size; noise `u` and `residual`.

    Args:
        coupling: Which noise goes with which value in training: `"independent"`, or
            `"optimal-transport"`; see `rung3.mechanisms.coupling`.
        parent_weight: With transport: weight of squared distances of parents that are not discrete,
            in their deviations; needed where there are such parents.
        steps: Steps of the solver, two evaluations each; a query may take others, `steps=`.
        drop: Probability with which each parent is left out of each row in training; guidance needs
            some, such as 0.1.
        guidance: Weight of the parents that changed, or of both groups,
            `{"changed": 2.5, "rest": 1}`; a query may have others, `guidance=`.
        draws: Of values with more than 16 numbers: draws that estimate a density.
        hidden: Of numbers and vectors: width and number of hidden layers.
        network: Of images: `"small"`, `"medium"` or `"large"`, or the fields of
            `rung3.mechanisms.networks.unet.UNetOptions`.
        checkpointing: Of images: compute activations again in the backward pass, for less memory.

    Raises:
        ValueError: If an argument is out of range; on `build`, if the variable is discrete or lies
            on a circle, transport has parents that are not discrete and no weight, or guidance has
            no parents that were left out.

    Example:
        >>> mechanism = FlowMatching(hidden=(16, 2)).bind("point", Continuous(dim=2), {})
        >>> point = torch.tensor([[0.5, 2.0], [-1.0, 0.3]])
        >>> noise = mechanism.abduct(point, {})
        >>> torch.allclose(mechanism.predict(noise, {}), point)
        True
    """

    abduction: ClassVar[Abduction] = "approximate"
    observation_noise: ClassVar[tuple[str, ...]] = ("residual",)
    query_options: ClassVar[tuple[str, ...]] = ("steps", "guidance", "draws")
    learning_rate: ClassVar[float] = 2e-3
    assumption: str = "the map from noise to value that its coupling implies, of all with this law"

    changed: frozenset[str] = frozenset()
    variable: Continuous | Image

    def __init__(
        self,
        coupling: Coupling = "independent",
        parent_weight: float | None = None,
        steps: int = 20,
        drop: float = 0.0,
        guidance: float | Mapping[str, float] = 1.0,
        draws: int | None = None,
        hidden: tuple[int, int] = (128, 3),
        network: str | UNetOptions | Mapping[str, Any] = "medium",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.coupling = coupling
        self.parent_weight = parent_weight
        self.steps = steps
        self.drop = drop
        self.guidance = guidance
        self.draws = draws
        self.hidden: tuple[int, int] = tuple(hidden)  # type: ignore[assignment]  # from YAML
        self.network = network
        self.checkpointing = checkpointing
        self._check()
        self.is_guided = not Guidance.of(guidance).plain

    def _check(self) -> None:
        """Refuse arguments that are out of range."""
        time_grid(self.steps)
        unet_options(self.network)
        Guidance.of(self.guidance)
        if self.coupling not in (known := ("independent", "optimal-transport")):
            raise ValueError(f"coupling={self.coupling!r} must be {' or '.join(map(repr, known))}")
        if self.parent_weight is not None and self.coupling == "independent":
            raise ValueError(
                f"parent_weight={self.parent_weight} is for coupling='optimal-transport'"
            )
        if self.parent_weight is not None and not 0 < self.parent_weight < math.inf:
            raise ValueError(f"parent_weight={self.parent_weight} must be above 0 and finite")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop={self.drop} must be at least 0 and less than 1")
        if self.draws is not None and self.draws < 1:
            raise ValueError(f"draws={self.draws} must be at least 1")
        if len(self.hidden) != 2 or min(self.hidden) < 1:
            raise ValueError(f"hidden={self.hidden}: expected a width and a number of layers")

    def build(self) -> None:
        variable = self.variable
        if not isinstance(variable, Continuous | Image):
            raise ValueError(
                f"{self.name}: FlowMatching models numbers and images, and {self.name} is "
                f"{variable}; use GumbelMax or InverseCDF"
            )
        if isinstance(variable, Continuous) and variable.circular:
            raise ValueError(
                f"{self.name}: FlowMatching has no paths on a circle, and {self.name} is "
                f"{variable}; use Flow"
            )
        self._check_guidance()
        if not variable.shape:
            self.assumption = "monotone in Gaussian noise"
        # Its coordinates would depend on the parents that guidance leaves out.
        self.space = StandardSpace(variable, self.parents, by_parents=not self.drop)
        options = unet_options(self.network)
        self.field = Field(variable, self.parents, self.hidden, options, self.checkpointing)
        self.dependence = Dependence(variable.shape, self.parents)
        self.transport = None
        if self.coupling == "optimal-transport":
            self.transport = Transport(self.name, self.parents, self.parent_weight)

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Take locations and scales from training data."""
        self.space.calibrate(value, parents)
        self.field.conditioning.calibrate(parents)
        self.dependence.calibrate(parents)
        if self.transport is not None:
            self.transport.calibrate(parents)

    # Training ------------------------------------------------------------------------------------

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the squared error of the velocity, by number, averaged over rows and times."""
        x, _ = self.space(self._within_level(value), parents)
        u = torch.randn_like(x)
        if self.transport is not None:
            u = self.transport(u, x, parents)
        if self.training:
            self.dependence.add(u, parents)
        return self.matching_loss(x.detach(), u, parents) + self.space.fit_loss(value, parents)

    def matching_loss(self, x: Tensor, u: Tensor, parents: Parents) -> Tensor:
        """Return the squared error of the velocity on lines from noise to values, `()`.

        Args:
            x: Standardised values, `(n, *shape)`.
            u: The noise that goes with each, `(n, *shape)`.
            parents: The parents' values, `(n, ...)`, in their own units.
        """
        n = len(x)
        # Evenly spread over the batch, times differ less between steps.
        t = (torch.rand((), device=x.device) + torch.arange(n, device=x.device) / n) % 1
        t = t[torch.randperm(n, device=x.device)]
        at = t.reshape(n, *[1] * (x.ndim - 1))
        drop = self.drop if self.training else 0.0
        context = self.field.conditioning.context(parents, n, drop=drop)
        v = self._velocity((1 - at) * u + at * x, t, context)
        return (v - (x - u)).square().mean()

    def _within_level(self, value: Tensor) -> Tensor:
        """Add noise within their level to pixels of whole levels."""
        if not isinstance(self.variable, Image) or self.variable.levels is None:
            return value
        return value + (torch.rand_like(value) - 0.5) / self.variable.levels

    def _velocity(self, z: Tensor, t: Tensor | float, context: Tensor) -> Tensor:
        """Return `(2 t - 1) z / k + F(z / sqrt(k), t) / sqrt(k)`."""
        at = t.reshape(len(z), *[1] * (z.ndim - 1)) if isinstance(t, Tensor) else t
        k = at**2 + (1 - at) ** 2
        residual: Tensor = self.field(z / k**0.5, t, context)
        return (2 * at - 1) / k * z + residual / k**0.5

    def training_record(self) -> dict[str, Any]:
        """Return the coupling, and R^2 of the parents regressed on the noise of training."""
        r_squared = self.dependence.r_squared()
        known = {} if math.isnan(r_squared) else {"parents_from_noise_r2": round(r_squared, 4)}
        return {"coupling": self.coupling, **known}

    def config(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults; a network as its options."""
        config = super().config()
        if isinstance(self.network, UNetOptions):
            config["network"] = self.network.config()
        return config

    # Queries -------------------------------------------------------------------------------------

    def for_query(self, changed: Set[str] = frozenset(), **options: Any) -> Self:
        """Return this mechanism with other options, its parameters shared.

        Args:
            changed: Names of the parents that changed, for guidance.
            options: Some of `steps`, `guidance` and `draws`.

        Raises:
            ValueError: If an option is out of range, or guidance is asked for and parents were not
                left out in training.
        """
        view = copy.copy(self)
        for name, value in options.items():
            setattr(view, name, value)
        view.changed = frozenset(changed)
        view._check()
        view._check_guidance()
        guidance = Guidance.of(view.guidance)
        if not guidance.plain:
            view.assumption = (
                f"{self.assumption}, guided: weight {guidance.changed:g} of parents that changed, "
                f"{guidance.rest:g} of the rest"
            )
        return view

    def _check_guidance(self) -> None:
        """Refuse guidance that needs velocities which were never trained."""
        if self.parents and not self.drop and not Guidance.of(self.guidance).plain:
            raise ValueError(
                f"{self.name}: guidance={self.guidance} compares velocities with and without some "
                "parents, and none was left out in training; train it with "
                "FlowMatching(drop=0.1), say"
            )

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        shape, device = (n, *self.variable.shape), self.observed.device
        u = torch.randn(shape, generator=generator, device=device)
        return {"u": u, "residual": torch.zeros_like(u)}

    def noise_prior(self) -> str:
        return "Normal(0.0, 1.0) and what a solver misses"

    def reverse(self, noise: Tensor) -> Tensor | None:
        return -noise

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        u, residual = self._parts(noise)
        return self.space.inverse(self.solve(u, parents) + residual, parents)

    def mean(self, noise: Noise, parents: Parents) -> Tensor:
        """Return the prediction without the residual, `(n, *shape)`."""
        u, residual = self._parts(noise)
        return self.predict({"u": u, "residual": torch.zeros_like(residual)}, parents)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        """Return the noise at the start of the path, and what solving it again misses."""
        x, _ = self.space(value, parents)
        u = heun(self._plain(parents, len(x)), x, time_grid(self.steps, 1, 0))
        residual = x - self.solve(u, parents, plain=True)
        return repeat_noise({"u": u, "residual": residual}, particles)

    def solve(self, u: Tensor, parents: Parents, plain: bool = False) -> Tensor:
        """Return `G(u, pa)`, the end of the path, in standardised values, `(n, *shape)`.

        Args:
            u: Noise at its start, `(n, *shape)`.
            parents: The parents' values, `(n, ...)`, in their own units.
            plain: Whether to leave out guidance.
        """
        velocity = self._plain(parents, len(u)) if plain else self._guided(parents, len(u))
        return heun(velocity, u, time_grid(self.steps))

    def _plain(self, parents: Parents, n: int, without: frozenset[str] = frozenset()) -> Velocity:
        """Return the velocity, given all parents but some."""
        context = self.field.conditioning.context(parents, n, without)
        return lambda z, t: self._velocity(z, t, context)

    def _guided(self, parents: Parents, n: int) -> Velocity:
        """Return the velocity with the guidance asked for."""
        guidance = Guidance.of(self.guidance)

        def field(without: frozenset[str]) -> Velocity:
            return self._plain(parents, n, without)

        return guided(field, self.parents, self.changed, guidance)

    def _parts(self, noise: Noise) -> tuple[Tensor, Tensor]:
        if isinstance(noise, Tensor) or noise.keys() != {"u", "residual"}:
            raise ValueError(f"{self.name}: expected noise u and residual, as abduct gives it")
        return noise["u"], noise["residual"]

    # Densities -----------------------------------------------------------------------------------

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Return `log p(x | pa)`, `(n,)`, in nats: see `density`."""
        return self.density(value, parents).log_prob

    def density(self, value: Tensor, parents: Parents, draws: int | None = None) -> Density:
        """Return log-densities, exact up to the solver in few dimensions, estimated in many.

        Of pixels of whole levels, a lower bound of their log-probability, in the mean over draws.

        Args:
            value: Values, `(n, *shape)`.
            parents: The parents' values, `(n, ...)`, in their own units.
            draws: Draws of an estimate; if not given, the mechanism's own where values have many
                dimensions.

        Raises:
            ValueError: If values have many dimensions, and nothing says how many draws.
        """
        numbers = math.prod(self.variable.shape)
        if draws is None and numbers <= EXACT_DIMENSIONS and isinstance(self.variable, Continuous):
            log_prob = self._log_density(value, parents, _divergence)
            return Density(log_prob, torch.zeros_like(log_prob))
        draws = self.draws if draws is None else draws
        if draws is None:
            raise ValueError(
                f"{self.name}: a density of {numbers} numbers is estimated with draws, and nothing "
                "says how many; give FlowMatching(draws=8), say, or density(..., draws=8)"
            )
        estimates = torch.stack(
            [self._log_density(self._within_level(value), parents, _estimate) for _ in range(draws)]
        )
        spread = estimates.std(0) if draws > 1 else torch.full_like(estimates[0], math.nan)
        return Density(estimates.mean(0), spread / draws**0.5)

    def _log_density(
        self, value: Tensor, parents: Parents, divergence: Callable[..., tuple[Tensor, Tensor]]
    ) -> Tensor:
        x, slope = self.space(value, parents)
        size = x[0].numel()
        velocity = self._plain(parents, len(x))
        signs = 2.0 * torch.randint_like(x, 2) - 1

        def augmented(state: Tensor, t: float) -> Tensor:
            z = state[:, :size].reshape(x.shape)
            v, change = divergence(lambda at: velocity(at, t), z, signs)
            return torch.cat([v.reshape(len(z), -1), change[:, None]], dim=1)

        start = torch.cat([x.reshape(len(x), -1), x.new_zeros(len(x), 1)], dim=1)
        end = heun(augmented, start, time_grid(self.steps, 1, 0))
        u, change = end[:, :size], end[:, size]
        log_prior = -0.5 * (u.square() + math.log(2 * math.pi)).sum(1)
        levels = getattr(self.variable, "levels", None)
        log_prob: Tensor = log_prior + change + slope
        return log_prob - size * math.log(levels) if levels else log_prob


def _divergence(
    velocity: Callable[[Tensor], Tensor], z: Tensor, signs: Tensor
) -> tuple[Tensor, Tensor]:
    """Return velocities, and their divergence, exactly, `(n,)`: one derivative a coordinate."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        z = z if z.requires_grad else z.requires_grad_()
        v = velocity(z)
        columns = v.reshape(len(z), -1).unbind(1)
        total = z.new_zeros(len(z))
        for k, column in enumerate(columns):
            (slope,) = torch.autograd.grad(column.sum(), z, retain_graph=True, create_graph=graph)
            total = total + slope.reshape(len(z), -1)[:, k]
    return (v, total) if graph else (v.detach(), total.detach())


def _estimate(
    velocity: Callable[[Tensor], Tensor], z: Tensor, signs: Tensor
) -> tuple[Tensor, Tensor]:
    """Return velocities, and an estimate of their divergence, `(n,)`: `e . (dv/dz) e`."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        z = z if z.requires_grad else z.requires_grad_()
        v = velocity(z)
        (pulled,) = torch.autograd.grad(v, z, signs, create_graph=graph)
    estimate = (pulled * signs).reshape(len(z), -1).sum(1)
    return (v, estimate) if graph else (v.detach(), estimate.detach())
