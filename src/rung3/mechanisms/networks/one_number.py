"""The likelihood of one number's flow without parents, with its gradient: quick to climb.

With `a = (y - m) / s`, and splines g one after the other (`rung3.mechanisms.flow`), the loss is

    E = sum_i w_i (u_i^2 / 2 - log |du_i / dy_i|),    u_i = g(a_i).

For so few points autograd takes ten times as long, most of it for its books. Here every stage gives
its value, its log-slope, and a function that takes derivatives back through both. Parameters are
those of zuko (`MonotonicAffineTransform`, `MonotonicRQSTransform`): `p / (1 + |p| / L)` keeps each
within a limit L.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Likelihood"]

Array = NDArray[np.float64]
Back = Callable[[Array, Array], tuple[Array, Array]]
"""Takes derivatives in a stage's value and log-slope to those in its input and parameters."""

MAX_LOG_SCALE = math.log(1_000)
"""Limit of the affine map's log-scale: zuko's."""


@dataclass(frozen=True)
class Likelihood:
    """The loss E of some points, as a function of the parameters.

    Parameters are one vector: m and log s, then of each spline the widths and heights of its bins
    and the slopes at its inner knots.

    Attributes:
        y: The points, `(n,)`.
        weight: What each counts, `(n,)`; 1 in all.
        bins: Number of bins of a spline.
        box: Half the width of its box, beyond which it is the identity.
        max_slope: Its greatest slope, and inverse of the least.
    """

    y: Array
    weight: Array
    bins: int
    box: float
    max_slope: float

    def climb(self, start: Array, steps: int, least_gain: float) -> Array:
        """Return the parameters after some steps of L-BFGS.

        Args:
            start: Parameters to start from.
            steps: Most steps.
            least_gain: Gain of a step, in nats, below which they end.
        """
        from scipy.optimize import minimize

        options = {"maxiter": steps, "ftol": least_gain, "gtol": 0.0}
        return np.asarray(minimize(self, start, method="L-BFGS-B", jac=True, options=options).x)

    def __call__(self, parameters: Array) -> tuple[float, Array]:
        """Return E and its derivatives."""
        u, log_slope, back = _affine(self.y, parameters[:2])
        backs = [back]
        for spline in parameters[2:].reshape(-1, 3 * self.bins - 1):
            u, more, back = self._spline(u, spline)
            log_slope = log_slope + more
            backs.append(back)
        toward, derivatives = self.weight * u, []
        for back in reversed(backs):
            toward, derivative = back(toward, -self.weight)
            derivatives.append(derivative)
        loss = float(self.weight @ (u * u / 2 - log_slope))
        return loss, np.concatenate(derivatives[::-1])

    def _spline(self, x: Array, parameters: Array) -> tuple[Array, Array, Back]:
        """Return g(x)."""
        size, limit = self.bins, math.log(self.max_slope)
        left, width, back_width = self._knots(parameters[:size], limit / 2)
        low, height, back_height = self._knots(parameters[size : 2 * size], limit / 2)
        log_slopes, bend = _within(parameters[2 * size :], limit)
        slopes = np.exp(np.pad(log_slopes, 1))
        k = np.searchsorted(left, x) - 1  # zuko takes a knot to the bin on its left
        inside = (k >= 0) & (x <= self.box)
        k = np.where(inside, k, 0)
        z = np.where(inside, (x - left[k]) / width[k], 0.0)
        piece = _Piece(z, height[k] / width[k], slopes[k], slopes[k + 1])
        y = np.where(inside, low[k] + height[k] * piece.share, x)

        def back(gy: Array, gl: Array) -> tuple[Array, Array]:
            gz, gl = np.where(inside, gy, 0.0), np.where(inside, gl, 0.0)
            in_z, in_s, in_d0, in_d1 = piece.back(gz * height[k], gl)
            in_x, in_height = in_z / width[k], gz * piece.share + in_s / width[k]
            in_width = -in_x * z - in_s * piece.s / width[k]
            parts = (-in_x, in_width, gz, in_height, in_d0, in_d1)
            bins: list[Any] = [np.bincount(k, part, size) for part in parts]
            in_slopes = (bins[4][1:] + bins[5][:-1]) * slopes[1:-1] * bend
            derivatives = [back_width(*bins[:2]), back_height(*bins[2:4]), in_slopes]
            return np.where(inside, in_x, gy), np.concatenate(derivatives)

        return y, np.where(inside, piece.log_slope, 0.0), back

    def _knots(
        self, parameters: Array, limit: float
    ) -> tuple[Array, Array, Callable[[Array, Array], Array]]:
        """Return the left ends of bins, their sizes, and what takes derivatives in both back."""
        logits, bend = _within(parameters, limit)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        sizes = 2 * self.box * shares
        ends = np.cumsum(sizes)

        def back(in_left: Array, in_size: Array) -> Array:
            after = in_left[::-1].cumsum()[::-1] - in_left  # a size moves the bins after it
            towards = 2 * self.box * (in_size + after)
            derivatives: Array = shares * (towards - shares @ towards) * bend
            return derivatives

        return ends - sizes - self.box, sizes, back


class _Piece:
    """Rational quadratics, each in its bin (Durkan et al. 2019, equations 4 and 5).

    Args:
        z: Where values lie in their bins, from 0 to 1, `(n,)`.
        s: Mean slopes of the bins.
        d0: Slopes at their left ends.
        d1: Slopes at their right ends.

    Attributes:
        share: Share of the bin's height that lies below the value.
        log_slope: Logarithm of the slope there.
    """

    def __init__(self, z: Array, s: Array, d0: Array, d1: Array) -> None:
        self.z, self.s, self.d0, self.d1 = z, s, d0, d1
        self.t = z * (1 - z)
        self.top = s * z * z + d0 * self.t
        self.under = s + (d0 + d1 - 2 * s) * self.t
        self.steep = d1 * z * z + 2 * s * self.t + d0 * (1 - z) ** 2
        self.share = self.top / self.under
        self.log_slope = np.log(s * s * self.steep / self.under**2)

    def back(self, in_share: Array, in_log_slope: Array) -> tuple[Array, Array, Array, Array]:
        """Return the derivatives in z, s, d0 and d1."""
        z, s, d0, d1, t, rest = self.z, self.s, self.d0, self.d1, self.t, 1 - self.z
        a, c = in_share / self.under, in_log_slope / self.steep
        b = -(a * self.top + 2 * in_log_slope) / self.under
        turn = 1 - 2 * z
        in_z = a * (2 * s * z + d0 * turn) + b * (d0 + d1 - 2 * s) * turn
        in_z += 2 * c * (d1 * z + s * turn - d0 * rest)
        in_s = a * z * z + b * (1 - 2 * t) + 2 * t * c + 2 * in_log_slope / s
        return in_z, in_s, (a + b) * t + c * rest * rest, b * t + c * z * z


def _affine(y: Array, parameters: Array) -> tuple[Array, Array, Back]:
    """Return `(y - m) / s`."""
    log_scale, bend = _within(parameters[1:], MAX_LOG_SCALE)
    scale = np.exp(log_scale)
    value = (y - parameters[0]) / scale

    def back(gy: Array, gl: Array) -> tuple[Array, Array]:
        in_y = gy / scale
        in_log_scale = -(gy @ value + gl.sum()) * bend
        return in_y, np.concatenate([-in_y.sum(keepdims=True), in_log_scale])

    return value, np.broadcast_to(-log_scale, y.shape), back


def _within(parameters: Array, limit: float) -> tuple[Array, Array]:
    """Return parameters kept within a limit, and the derivatives of that."""
    part = 1 + np.abs(parameters) / limit
    return parameters / part, part**-2
