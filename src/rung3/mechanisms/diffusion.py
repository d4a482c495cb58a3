"""`Diffusion`: a path on the quarter circle from noise to value, and a hierarchical VAE.

    z_t = a x + s u,   a = sin(pi t / 2),   s = cos(pi t / 2),   a^2 + s^2 = 1,

from pure noise at t = 0, where a is 0 and not only small: noise that keeps a little of the value
keeps its parents too, and they would not change. (In the literature time runs the other way.) The
network predicts the velocity on the circle (Salimans and Ho 2022, arXiv 2202.00512),

    v = a u - s x,   x^ = a z - s v^,   u^ = s z + a v^,   dz/dt = -(pi / 2) v^,

and `rung3.mechanisms.path` has what follows: abduction, prediction, guidance, and a code.

As a hierarchical VAE (lecture, *Quick detour*; Kingma et al. 2021, arXiv 2107.00630) it has T
layers of latents z_1, ..., z_T of the value's shape, an encoder that is fixed, and one network for
all layers:

    -log p(x) <= E[-log p(x | z_1)] + KL(q(z_T | x) || p(z_T)) + sum_{t=2}^T E[KL_t],

    KL_t = KL(q(z_{t-1} | z_t, x) || q(z_{t-1} | z_t, x^)) = (SNR_{t-1} - SNR_t) / 2 |x - x^|^2,

with `SNR = a^2 / s^2`, falling with the layer to 0 in z_T, so that the second term is 0. `layers`
gives the terms. The more layers, the tighter the bound; `log_prob` has infinitely many between the
noise levels of z_1 and z_(T-1), `l = log SNR`:

    sum_t E[KL_t]  ->  1/2 int E|u - u^|^2 dl,   u - u^ = a (v - v^).

What the integral would be if v^ were 0, as for normal values, is known, and the rest is estimated
by draws at times of evenly spread l:

    |v - v^|^2 = |v|^2 + (|v^|^2 - 2 v . v^),   E|v|^2 = a^2 d + s^2 |x|^2.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rung3.mechanisms.base import Parents
from rung3.mechanisms.path import Mix, Path

__all__ = ["Diffusion", "Layers"]

QUARTER = math.pi / 2
"""Angle between noise and value on the circle."""

MOST_LOG_SNR = 2 * math.log(1000)
"""Log SNR of the layer next to the value: its noise is a thousandth of a
deviation, less than a level."""

LEAST_LOG_SNR = -10.0
"""Log SNR of the layer before pure noise: the step between them is worth 1 / 40,000
nats a number."""

DRAWS = 32
"""Draws that estimate a bound where nothing is said: one in each 0.74 of log SNR."""


class Layers(NamedTuple):
    """The negative evidence bound of a hierarchical VAE by layer, each term in nats.

    Attributes:
        reconstruction: `-log p(x | z_1)`, `(n,)`, in the variable's own units, and the divergence
            of a code from its prior.
        prior: `KL(q(z_T | x) || p(z_T))`, `(n,)`: 0.
        divergences: `KL_t` of t = 2, ..., T, `(T - 1, n)`.
    """

    reconstruction: Tensor
    prior: Tensor
    divergences: Tensor

    @property
    def bound(self) -> Tensor:
        """The lower bound of `log p(x | pa)`, `(n,)`."""
        return -(self.reconstruction + self.prior + self.divergences.sum(0))


class Diffusion(Path):
    """A diffusion model, for numbers, vectors and images of any size; noise `u` and `residual`.

    The arguments are those of `rung3.mechanisms.path.Path`; the bound takes 32 `draws` by default,
    each at a noise level.

    Raises:
        ValueError: If an argument is out of range; on `build`, if the variable is discrete or lies
            on a circle, or guidance has no parents that were left out.

    Example:
        >>> from rung3 import Continuous
        >>> mechanism = Diffusion(hidden=(16, 2)).bind("point", Continuous(dim=2), {})
        >>> point = torch.tensor([[0.5, 2.0], [-1.0, 0.3]])
        >>> noise = mechanism.abduct(point, {})
        >>> torch.allclose(mechanism.predict(noise, {}), point)
        True
    """

    assumption: str = "the map from noise to value along which a diffusion flows, of all such maps"
    reach: ClassVar[float] = -QUARTER

    def mix(self, t: float | Tensor) -> Mix:
        """Return the point of the quarter circle: `a = sin(pi t / 2)` and `s = cos(pi t / 2)`."""
        angle = QUARTER * torch.as_tensor(t)
        a, s = angle.sin(), angle.cos()
        return Mix(a, s, QUARTER * s, -QUARTER * a)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Estimate a lower bound of `log p(x | pa)`, `(n,)`, in nats, with `draws` noise levels.

        It is a log-probability of levels where pixels are stored as such.
        """
        draws = self.draws or DRAWS
        x, slope, code, kl = self._standard(value, parents)
        context = self.field.conditioning.context(parents, len(x), code=code)
        span, low = MOST_LOG_SNR - LEAST_LOG_SNR, LEAST_LOG_SNR
        rest = torch.zeros_like(slope)
        for k in range(draws):
            log_snr = low + span * (k + torch.rand(len(x), device=x.device)) / draws
            t = (log_snr / 2).exp().atan() / QUARTER
            u = torch.randn_like(x)
            v, predicted = self._circular(x, u, t, context)
            excess = _total(predicted.square() - 2 * v * predicted)
            rest = rest + log_snr.sigmoid() * excess * span / draws
        divergences = self._if_normal(x) + rest / 2 + self._first(x, context)
        return slope - kl - self.log_levels() - self._reconstruction(x) - divergences

    def layers(self, value: Tensor, parents: Parents, noise: Tensor) -> Layers:
        """Return the evidence bound of the hierarchical VAE with T layers, term by term.

        Args:
            value: Values, `(n, *shape)`.
            parents: The parents' values, `(n, ...)`, in their own units.
            noise: The encoder's noise in z_1, ..., z_T, `(T, n, *shape)`, T at least 2, drawn from
                N(0, I): `z_t = a_t x + s_t noise_t`.
        """
        x, slope, code, kl = self._standard(value, parents)
        context = self.field.conditioning.context(parents, len(x), code=code)
        step = (LEAST_LOG_SNR - MOST_LOG_SNR) / max(len(noise) - 2, 1)
        snr = [math.exp(MOST_LOG_SNR + k * step) for k in range(len(noise) - 1)] + [0.0]
        divergences = []
        for before, now, u in zip(snr, snr[1:], noise[1:], strict=False):
            t = x.new_full((len(x),), math.atan(math.sqrt(now)) / QUARTER)
            v, predicted = self._circular(x, u, t, context)
            # x - x^ = -s (v - v^), and s^2 = 1 / (1 + SNR).
            error = _total((v - predicted).square()) / (1 + now)
            divergences.append((before - now) / 2 * error)
        reconstruction = self._reconstruction(x) - slope + self.log_levels() + kl
        return Layers(reconstruction, torch.zeros_like(slope), torch.stack(divergences))

    def _standard(
        self, value: Tensor, parents: Parents
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Return standardised values, `log |dx/dvalue|`, and codes with their divergence."""
        x, slope = self.space(self.within_level(value), parents)
        return x, slope, *self.encode(x, parents)

    def _circular(self, x: Tensor, u: Tensor, t: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return `v = a u - s x` at the time of each row, and what is predicted, `(n, *shape)`."""
        a, s, _, _ = self.mix(t.reshape(len(t), *[1] * (x.ndim - 1)))
        return a * u - s * x, self.velocity(a * x + s * u, t, context) / self.reach

    def _reconstruction(self, x: Tensor) -> Tensor:
        """Return `E[-log N(x; z_1 / a, s^2 / a^2)]`, in standardised units, `(n,)`."""
        each = 0.5 * (math.log(2 * math.pi) + 1 - MOST_LOG_SNR)
        return x.new_full((len(x),), each * x[0].numel())

    def _if_normal(self, x: Tensor) -> Tensor:
        """Return `1/2 int a^2 (a^2 d + s^2 |x|^2) dl` over the layers' noise levels, `(n,)`."""
        ends = torch.tensor([LEAST_LOG_SNR, MOST_LOG_SNR], dtype=x.dtype)
        mixed = ends.sigmoid()  # int a^2 s^2 dl, with a^2 = sigmoid(l)
        value = (F.softplus(ends) - mixed).diff() * x[0].numel()  # int a^4 dl
        total = value.to(x) + mixed.diff().to(x) * _total(x.square())
        return total / 2

    def _first(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the divergence of the step from pure noise, estimated with one draw, `(n,)`."""
        t = x.new_zeros(len(x))
        v, predicted = self._circular(x, torch.randn_like(x), t, context)
        return math.exp(LEAST_LOG_SNR) / 2 * _total((v - predicted).square())


def _total(z: Tensor) -> Tensor:
    """Return sums over all numbers of each row, `(n,)`."""
    return z.reshape(len(z), -1).sum(1)
