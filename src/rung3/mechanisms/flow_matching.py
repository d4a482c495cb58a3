"""`FlowMatching`: a path on the straight line from noise to value.

    z_t = (1 - t) u + t x,   loss = E |v(z_t, t, pa) - (x - u)|^2

(Lipman et al. 2023, arXiv 2210.02747). `rung3.mechanisms.path` has what follows from it: abduction,
prediction, guidance, and a code beside the state.

Which noise goes with which value in training is a choice, and implies the map that is learned; see
`rung3.mechanisms.coupling`.

The density is that of the equation (`rung3.mechanisms.path_density`): its divergence is computed in
few dimensions, and in many estimated with draws, which have a standard error. Pixels stored as
whole levels have noise within their level added, in training and for a density, which then bounds
the log-probability of the levels from below. So does a density given a code, less the code's
divergence from its prior.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from rung3.data.variables import Continuous, Image
from rung3.mechanisms.arguments import check_counts, is_number
from rung3.mechanisms.base import Parents
from rung3.mechanisms.coupling import Dependence, Transport
from rung3.mechanisms.inversion import Solver
from rung3.mechanisms.networks.unet import UNetOptions
from rung3.mechanisms.path import Abducted, Mix, Path
from rung3.mechanisms.path_density import (
    Divergence,
    estimated_divergence,
    exact_divergence,
    path_log_density,
)

__all__ = ["Density", "FlowMatching"]

Coupling = Literal["independent", "optimal-transport"]

BETWEEN = 0.8
"""Share of images whose time is more often between noise and value: at the ends there is little to
learn (a logit-normal law; Esser et al. 2024, arXiv 2403.03206). The other times are uniform, since
abduction starts at an end."""

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


class FlowMatching(Path):
    """Flow matching, for numbers, vectors and images of any size; noise `u` and `residual`.

    Args:
        coupling: Which noise goes with which value in training: `"independent"`, or
            `"optimal-transport"`; see `rung3.mechanisms.coupling`.
        parent_weight: With transport: weight of squared distances of parents that are not discrete,
            in their deviations; needed where there are such parents.

    The other arguments are those of `rung3.mechanisms.path.Path`; values of 16 numbers or fewer
    have their density exactly, without `draws`.

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

    assumption: str = "the map from noise to value that its coupling implies, of all with this law"
    reach: ClassVar[float] = 1.0

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
        solver: Solver = "heun",
        latent: int = 0,
        beta: float = 0.1,
        abducted: Abducted = "both",
        jitter: float = 0.0,
    ) -> None:
        super().__init__(
            steps,
            drop,
            guidance,
            draws,
            hidden,
            network,
            checkpointing,
            solver,
            latent,
            beta,
            abducted,
            jitter,
        )
        self.coupling = coupling
        self.parent_weight = parent_weight
        self._check_coupling()

    def _check_coupling(self) -> None:
        """Refuse a coupling that is none, and a weight that is none of its own."""
        if self.coupling not in (known := ("independent", "optimal-transport")):
            raise ValueError(f"coupling={self.coupling!r} must be {' or '.join(map(repr, known))}")
        if self.parent_weight is not None and self.coupling == "independent":
            raise ValueError(
                f"parent_weight={self.parent_weight} is for coupling='optimal-transport'"
            )
        weight = self.parent_weight
        if weight is not None and (not is_number(weight) or weight <= 0):
            raise ValueError(f"parent_weight={weight!r} must be above 0 and finite")

    def build(self) -> None:
        super().build()
        self.dependence = Dependence(self.variable.shape, self.parents)
        self.transport = None
        if self.coupling == "optimal-transport":
            self.transport = Transport(self.name, self.parents, self.parent_weight)

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Take locations and scales from training data."""
        super().calibrate_networks(value, parents)
        self.dependence.calibrate(parents)
        if self.transport is not None:
            self.transport.calibrate(parents)

    def mix(self, t: float | Tensor) -> Mix:
        """Return the straight line: `a = t` and `s = 1 - t`."""
        return Mix(t, 1 - t, 1.0, -1.0)

    def pair(self, u: Tensor, x: Tensor, parents: Parents) -> Tensor:
        """Return the noise in the order in which it goes with the values, `(n, ...)`."""
        if self.transport is not None:
            u = self.transport(u, x, parents)
        if self.training:
            self.dependence.add(u, parents)
        return u

    def times(self, n: int, device: torch.device) -> Tensor:
        """Draw times of states, `(n,)`; in training, those of images lie between more often."""
        t = super().times(n, device)
        if not (self.training and isinstance(self.variable, Image)):
            return t
        eps = torch.finfo(t.dtype).eps
        between = torch.special.ndtri(t.clamp(eps, 1 - eps)).sigmoid()
        return torch.where(torch.rand_like(t) < BETWEEN, between, t)

    def training_record(self) -> dict[str, Any]:
        """Return the coupling, and R^2 of the parents regressed on the noise of training."""
        r_squared = self.dependence.r_squared()
        known = {} if math.isnan(r_squared) else {"parents_from_noise_r2": round(r_squared, 4)}
        return {"coupling": self.coupling, **known}

    # Densities -----------------------------------------------------------------------------------

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Return `log p(x | pa)`, `(n,)`, in nats: see `density`."""
        return self.density(value, parents).log_prob

    def density(self, value: Tensor, parents: Parents, draws: int | None = None) -> Density:
        """Return log-densities, exact up to the solver in few dimensions, estimated in many.

        Of pixels of whole levels, and where there is a code, a lower bound, in the mean over draws.

        Args:
            value: Values, `(n, *shape)`.
            parents: The parents' values, `(n, ...)`, in their own units.
            draws: Draws of an estimate; if not given, the mechanism's own where values have many
                dimensions.

        Raises:
            ValueError: If values have many dimensions, and nothing says how many draws.
        """
        numbers = math.prod(self.variable.shape)
        is_small = numbers <= EXACT_DIMENSIONS and isinstance(self.variable, Continuous)
        if draws is None and is_small and not self.latent:
            log_prob = self._log_density(value, parents, exact_divergence)
            return Density(log_prob, torch.zeros_like(log_prob))
        draws = (self.draws or (1 if is_small else None)) if draws is None else draws
        if draws is None:
            raise ValueError(
                f"{self.name}: a density of {numbers} numbers is estimated with draws, and nothing "
                "says how many; give FlowMatching(draws=8), say, or density(..., draws=8)"
            )
        check_counts(1, draws=draws)
        estimates = torch.stack(
            [
                self._log_density(self.within_level(value), parents, estimated_divergence)
                for _ in range(draws)
            ]
        )
        spread = estimates.std(0) if draws > 1 else torch.full_like(estimates[0], math.nan)
        return Density(estimates.mean(0), spread / draws**0.5)

    def _log_density(self, value: Tensor, parents: Parents, divergence: Divergence) -> Tensor:
        x, slope = self.space(value, parents)
        code, kl = self.encode(x, parents)
        velocity = self.plain_velocity(parents, len(x), code=code)
        log_prob = path_log_density(velocity, x, self.steps, divergence) - kl - self.log_levels()
        units: Tensor = slope
        return log_prob + units
