"""`Path`: what mechanisms share whose value is the end of a path that starts at its noise.

    x = G(u, pa) + r,   dz/dt = v(z, t, pa),   z(0) = u ~ N(0, I),   z(1) = G(u, pa),

on standardised values (`rung3.mechanisms.standard_space`). A family says how a state on the way
mixes value and noise, and the velocity v is learned from such mixes:

    z_t = a x + s u,   loss = E |v(z_t, t, pa) - (a' x + s' u)|^2,

with a rising from 0 to 1, s falling from 1 to 0, and a', s' their derivatives. Abduction takes the
equation from 1 to 0 under the parents of the row, and prediction from 0 to 1 under others, on
equal steps. What the steps miss, r, is kept as further noise (`rung3.mechanisms.inversion`), so
that nothing changes where no parent does; `temperature=0` leaves it out. Nothing is clamped on the
way: only the prediction is moved into the support. The way back from an image starts at time
`1 - jitter`, at a draw of `z_t`, so that flat regions have noise too.

In one dimension the map increases in u, so a counterfactual keeps the row's rank. In more
dimensions the law fixes the map only up to turns of the noise that keep its law.

If values were normal, the velocity would be `(a a' + s s') z / k`, with `k = a^2 + s^2` the
variance of z_t. The network F adds what differs, in units of what z_t leaves unknown (after Karras
et al. 2022, arXiv 2206.00364):

    v = (a a' + s s') z / k + c F(z / sqrt(k), t, pa) / sqrt(k),   c = s a' - a s',

where c is the same at all times in every family; the loss is in units of c^2.

With `latent=`, a code z' of a few numbers stands beside the state, and the velocity depends on it
too; see `rung3.mechanisms.semantic`. Answers then rest on both, on the code alone (the state is
redrawn), or on the state alone (the code is left out, as a parent may be).
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping, Set
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.data.shared_batch import even_draws
from rung3.data.spelling import suggest
from rung3.data.variables import Continuous, Image
from rung3.mechanisms.arguments import check_counts, check_shares, is_number, is_whole
from rung3.mechanisms.base import Abduction, Mechanism, Parents, repeat_noise
from rung3.mechanisms.guidance import Guidance, guided
from rung3.mechanisms.inversion import INVERSIONS, Solver, State
from rung3.mechanisms.networks.field import Field
from rung3.mechanisms.networks.unet import UNetOptions, unet_options
from rung3.mechanisms.semantic import Semantic
from rung3.mechanisms.solvers import Velocity, time_grid
from rung3.mechanisms.standard_space import StandardSpace

__all__ = ["Abducted", "Mix", "Path"]

Abducted = Literal["both", "latent", "state"]
"""What an answer rests on, where there is a code beside the state."""


class Mix(NamedTuple):
    """How a state mixes value and noise, `z = a x + s u`, at one time or at the time of each row.

    Attributes:
        a: Share of the value.
        s: Share of the noise.
        da: Derivative of a in time.
        ds: Derivative of s in time.
    """

    a: float | Tensor
    s: float | Tensor
    da: float | Tensor
    ds: float | Tensor


class Path(Mechanism):
    """A path from noise to a number, a vector or an image; a subclass gives its mix and density.

    Args:
        steps: Steps of the solver, two evaluations each by Heun's method; a query may take others,
            `steps=`.
        drop: Probability with which each parent is left out of each row in training; guidance needs
            some, such as 0.1.
        guidance: Weight of the parents that changed, or of both groups,
            `{"changed": 2.5, "rest": 1}`; a query may have others, `guidance=`.
        draws: Draws that estimate a density of more than 16 numbers, or the bound of a diffusion:
            32 of them if not given, each at a noise level.
        hidden: Of numbers and vectors: width and number of hidden layers.
        network: Of images: `"small"`, `"medium"` or `"large"`, or the fields of
            `rung3.mechanisms.networks.unet.UNetOptions`.
        checkpointing: Of images: compute activations again in the backward pass, for less memory.
        solver: `"heun"`, or `"o-belm"`, which can be undone and evaluates once a step (see
            `rung3.mechanisms.inversion`); a query may take another, `solver=`.
        latent: Length of a code beside the state, `z` of the noise; 0 for none.
        beta: Weight of the code's divergence from its prior in the loss.
        abducted: What is abducted where there is a code: `"both"`, the code alone (`"latent"`), or
            the `"state"` alone; a query may say another, `abducted=`.
        jitter: Of images, with Heun's method: time before the value at which abduction starts, at a
            state with so much noise; 0 for the value itself. A query may take another, `jitter=`.

    Raises:
        ValueError: If an argument is out of range.

    Attributes:
        reach: The number c, which the velocity of unknown parts is measured in; its sign is that
            of F, and free.
    """

    abduction: ClassVar[Abduction] = "approximate"
    observation_noise: ClassVar[tuple[str, ...]] = ("residual",)
    query_options: ClassVar[tuple[str, ...]] = (
        "steps",
        "solver",
        "guidance",
        "draws",
        "abducted",
        "jitter",
    )
    learning_rate: ClassVar[float] = 2e-3
    reach: ClassVar[float] = 1.0

    changed: frozenset[str] = frozenset()
    variable: Continuous | Image

    def __init__(
        self,
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
        super().__init__()
        self.steps = steps
        self.drop = drop
        self.guidance = guidance
        self.draws = draws
        self.hidden: Any = tuple(hidden) if isinstance(hidden, list) else hidden  # from YAML
        self.network = network
        self.checkpointing = checkpointing
        self.solver = solver
        self.latent = latent
        self.beta = beta
        self.abducted = abducted
        self.jitter = jitter
        self._check()

    def _check(self) -> None:
        """Refuse arguments that are out of range."""
        if self.solver not in [*INVERSIONS]:
            raise ValueError(
                f"solver={self.solver!r}: {suggest(self.solver, INVERSIONS, 'the solvers')}"
            )
        time_grid(self.steps)
        least = INVERSIONS[self.solver].least
        if self.steps < least:
            raise ValueError(f"steps={self.steps}: solver={self.solver!r} needs at least {least}")
        unet_options(self.network)
        Guidance.of(self.guidance)
        check_shares(drop=self.drop, jitter=self.jitter)
        if self.draws is not None:
            check_counts(1, draws=self.draws)
        is_pair = isinstance(self.hidden, tuple) and len(self.hidden) == 2
        if not is_pair or not all(is_whole(size) and size >= 1 for size in self.hidden):
            raise ValueError(f"hidden={self.hidden!r}: expected a width and a number of layers")
        if not isinstance(self.checkpointing, bool):
            raise ValueError(f"checkpointing={self.checkpointing!r} must be True or False")
        self._check_latent()

    def _check_latent(self) -> None:
        """Refuse a code that is none, and answers that rest on a code where there is none."""
        if not is_whole(self.latent) or self.latent < 0:
            raise ValueError(f"latent={self.latent!r} must be a whole number of at least 0")
        if not is_number(self.beta, least=0):
            raise ValueError(f"beta={self.beta!r} must be at least 0 and finite")
        if self.abducted not in get_args(Abducted):
            raise ValueError(f"abducted={self.abducted!r} must be 'both', 'latent' or 'state'")
        if self.abducted != "both" and not self.latent:
            raise ValueError(
                f"abducted={self.abducted!r} chooses between a code and the state, and there is no "
                f"code; build it with {type(self).__name__}(latent=16), say"
            )

    def build(self) -> None:
        variable, family = self.variable, type(self).__name__
        if not isinstance(variable, Continuous | Image):
            raise ValueError(
                f"{self.name}: {family} models numbers and images, and {self.name} is "
                f"{variable}; use GumbelMax or InverseCDF"
            )
        if isinstance(variable, Continuous) and variable.circular:
            raise ValueError(
                f"{self.name}: {family} has no paths on a circle, and {self.name} is "
                f"{variable}; use Flow"
            )
        self._check_guidance()
        if not variable.shape and not self.latent:
            self.assumption = "monotone in Gaussian noise"
        # Its coordinates would depend on the parents that guidance leaves out.
        self.space = StandardSpace(variable, self.parents, by_parents=not self.drop)
        options = unet_options(self.network)
        self.field = Field(
            variable, self.parents, self.hidden, options, self.checkpointing, self.latent
        )
        self.semantic = Semantic(variable, self.parents, self.latent) if self.latent else None

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Take locations and scales from training data."""
        self.space.calibrate(value, parents)
        self.field.conditioning.calibrate(parents)
        if self.semantic is not None:
            self.semantic.context.calibrate(parents)

    @abstractmethod
    def mix(self, t: float | Tensor) -> Mix:
        """Return how states mix value and noise at time t, from noise at 0 to the value at 1."""

    # Training ------------------------------------------------------------------------------------

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the squared error of the velocity, by number, averaged over rows and times.

        A code adds `beta` times its divergence from its prior, by number.
        """
        x, _ = self.space(self.within_level(value), parents)
        x = x.detach()
        u = self.pair(torch.randn_like(x), x, parents)
        code, kl = self.encode(x, parents)
        penalty: Tensor = self.space.fit_loss(value, parents)
        penalty = penalty + self.beta * kl.mean() / x[0].numel()
        return self.matching_loss(x, u, parents, code) + penalty

    def encode(
        self, x: Tensor, parents: Parents, generator: Generator | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Draw codes `(n, latent)` of standardised values, with their divergence, `(n,)` in nats.

        Where there is no code, it is `None`, and its divergence 0.
        """
        if self.semantic is None:
            return None, x.new_zeros(len(x))
        drawn: tuple[Tensor, Tensor] = self.semantic(x, parents, generator)
        return drawn

    def pair(self, u: Tensor, x: Tensor, parents: Parents) -> Tensor:
        """Return the noise in the order in which it goes with the values; here as it is."""
        return u

    def times(self, n: int, device: torch.device) -> Tensor:
        """Draw times of states, `(n,)`: uniform, in random order."""
        return even_draws(n, device)  # so that times differ less between steps

    def matching_loss(
        self, x: Tensor, u: Tensor, parents: Parents, code: Tensor | None = None
    ) -> Tensor:
        """Return the squared error of the velocity on mixes of values and noise, `()`.

        Args:
            x: Standardised values, `(n, *shape)`.
            u: The noise that goes with each, `(n, *shape)`.
            parents: The parents' values, `(n, ...)`, in their own units.
            code: The code of each, `(n, latent)`; none where there is none.
        """
        n = len(x)
        t = self.times(n, x.device)
        a, s, da, ds = self.mix(t.reshape(n, *[1] * (x.ndim - 1)))
        drop = self.drop if self.training else 0.0
        context = self.field.conditioning.context(
            parents, n, drop=drop, code=code, drop_code=self.training
        )
        v = self.velocity(a * x + s * u, t, context)
        return (v - (da * x + ds * u)).square().mean() / self.reach**2

    def within_level(self, value: Tensor) -> Tensor:
        """Add noise within their level to pixels of whole levels."""
        return self.variable.dequantised(value) if isinstance(self.variable, Image) else value

    def log_levels(self) -> float:
        """Return `log` of the levels of all pixels: a density less this is one of whole levels."""
        levels = getattr(self.variable, "levels", None)
        return math.prod(self.variable.shape) * math.log(levels) if levels else 0.0

    def velocity(self, z: Tensor, t: Tensor | float, context: Tensor) -> Tensor:
        """Return `(a a' + s s') z / k + c F(z / sqrt(k), t) / sqrt(k)`."""
        at = t.reshape(len(z), *[1] * (z.ndim - 1)) if isinstance(t, Tensor) else t
        a, s, da, ds = self.mix(at)
        k = a**2 + s**2
        residual: Tensor = self.field(z / k**0.5, t, context)
        return (a * da + s * ds) / k * z + self.reach * residual / k**0.5

    def config(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults; a network as its options."""
        config = super().config()
        if isinstance(self.network, UNetOptions):
            config["network"] = self.network.config()
        return config

    # Queries -------------------------------------------------------------------------------------

    @property
    def is_guided(self) -> bool:
        return not Guidance.of(self.guidance).plain

    def for_query(self, changed: Set[str] = frozenset(), **options: Any) -> Self:
        """Return this mechanism with other options, its parameters shared.

        Args:
            changed: Names of the parents that changed, for guidance.
            options: Some of `query_options`.

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
        view.assumption = Guidance.of(view.guidance).beside(self.assumption)
        if view.abducted != "both":
            alone = "code" if view.abducted == "latent" else "state"
            view.assumption += f", from the {alone} alone"
        return view

    def _check_guidance(self) -> None:
        """Refuse guidance that needs velocities which were never trained."""
        if self.parents and not self.drop and not Guidance.of(self.guidance).plain:
            raise ValueError(
                f"{self.name}: guidance={self.guidance} compares velocities with and without some "
                "parents, and none was left out in training; train it with "
                f"{type(self).__name__}(drop=0.1), say"
            )

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=self.observed.device)

        u = draw(n, *self.variable.shape)
        noise = {"u": u, "residual": torch.zeros_like(u)}
        return noise | ({"z": draw(n, self.latent)} if self.latent else {})

    def noise_prior(self) -> str:
        return "Normal(0.0, 1.0) and what a solver misses"

    def reverse(self, noise: Tensor) -> Tensor | None:
        return -noise

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        parts = self._parts(noise)
        y = self.solve(parts["u"], parents, parts["residual"], parts.get("z"))
        self._check_finite(y, "from noise to the value")
        return self.space.inverse(y, parents)

    def _check_finite(self, state: Tensor, way: str) -> None:
        """Refuse to answer where a path has no end; in training, such steps are skipped."""
        finite = state.reshape(len(state), -1).isfinite().all(1)
        if not (self.training or finite.all()):
            raise ValueError(
                f"{self.name}: the path {way} overflows in row {int((~finite).nonzero()[0])}: its "
                "velocity is too great to be followed; train it with a lower rate (lr=), or take "
                f"more steps than {self.steps}"
            )

    def solve(
        self,
        u: Tensor,
        parents: Parents,
        residual: Tensor | None = None,
        code: Tensor | None = None,
    ) -> Tensor:
        """Return the end of the path from u, in standardised values, `(n, *shape)`.

        Args:
            u: Noise at its start, `(n, *shape)`.
            parents: The parents' values, `(n, ...)`, in their own units.
            residual: What the steps missed in abduction, `(n, *shape)`; none if not given.
            code: The code beside the state, `(n, latent)`.
        """
        velocity = self._guided(parents, len(u), code)
        residual = torch.zeros_like(u) if residual is None else residual
        return INVERSIONS[self.solver].follow(velocity, u, residual, self.steps)

    def mean(self, noise: Noise, parents: Parents) -> Tensor:
        """Return the prediction without the residual, `(n, *shape)`."""
        parts = self._parts(noise)
        return self.predict({**parts, "residual": torch.zeros_like(parts["residual"])}, parents)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        """Return the noise at the start of the path, and what solving it again misses.

        A code is drawn from its posterior, and the noise is that of the path given the code; where
        only the code is abducted, the noise is drawn from its prior. Of images, draws differ too in
        the little noise with which the way back starts.

        Raises:
            ValueError: If the way back overflows.
        """
        x, _ = self.space(value, parents)
        if not self.latent and not self._jitter:
            return repeat_noise(self._draw(x, parents, generator), particles)
        draws = [self._draw(x, parents, generator) for _ in range(particles or 1)]
        if particles is None:
            return draws[0]
        return {key: torch.stack([draw[key] for draw in draws]) for key in draws[0]}

    def _draw(self, x: Tensor, parents: Parents, generator: Generator | None) -> dict[str, Tensor]:
        """Return the noise of standardised values, a code drawn from its posterior."""
        code, _ = self.encode(x, parents, generator)
        if self.abducted == "latent":
            u = torch.randn(x.shape, generator=generator, device=x.device)
            residual = torch.zeros_like(u)
        else:
            velocity = self.plain_velocity(parents, len(x), code=code)
            start = self._start(x, generator)
            u, residual = INVERSIONS[self.solver].invert(velocity, x, self.steps, start)
            self._check_finite(u + residual, "from the value to noise")
        return {"u": u, "residual": residual} | ({} if code is None else {"z": code})

    @property
    def _jitter(self) -> float:
        """The time before the value at which the way back starts."""
        return self.jitter if isinstance(self.variable, Image) and self.solver == "heun" else 0.0

    def _start(self, x: Tensor, generator: Generator | None) -> State:
        """Return where the way back from standardised values starts."""
        if not self._jitter:
            return State(x, 1.0)
        a, s, _, _ = self.mix(1 - self._jitter)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return State(a * x + s * noise, 1 - self._jitter)

    def plain_velocity(
        self,
        parents: Parents,
        n: int,
        without: frozenset[str] = frozenset(),
        code: Tensor | None = None,
    ) -> Velocity:
        """Return the velocity, given all parents but some, and the code where it counts."""
        code = None if self.abducted == "state" else code
        context = self.field.conditioning.context(parents, n, without, code=code)
        return lambda z, t: self.velocity(z, t, context)

    def _guided(self, parents: Parents, n: int, code: Tensor | None) -> Velocity:
        """Return the velocity with the guidance asked for."""
        guidance = Guidance.of(self.guidance)

        def field(without: frozenset[str]) -> Velocity:
            return self.plain_velocity(parents, n, without, code)

        return guided(field, self.parents, self.changed, guidance)

    def _parts(self, noise: Noise) -> dict[str, Tensor]:
        names = ["u", "residual", *(["z"] if self.latent else [])]
        if isinstance(noise, Tensor) or noise.keys() != {*names}:
            raise ValueError(
                f"{self.name}: expected noise {' and '.join(names)}, as abduct gives it"
            )
        return dict(noise)
