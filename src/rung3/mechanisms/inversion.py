"""How the value at the end of a path becomes noise at its start, and noise a value again.

The noise is a pair: the state u at the start of the path, and a residual r that makes the way back
exact, whatever the steps of the solver miss. With G(u) the end of the path from u,

    heun      u = the path from x back, in two evaluations a step    r = x - G(u)
    o-belm    the last two states (w, u) of a scheme with one        r = w - w(u)
              evaluation a step, which can be undone

where w(u) is where one step of Heun's method leads from u. So r = 0 is the plain path from u, and
where the parents change, the second state follows them: the two states as they are would carry the
old parents' velocity into the new path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from torch import Tensor

from rung3.mechanisms.solvers import Velocity, belm_decode, belm_encode, belm_start, heun, time_grid

__all__ = ["INVERSIONS", "Inversion", "Solver"]

Solver = Literal["heun", "o-belm"]


class Inversion(NamedTuple):
    """A solver's two ways along a path from noise at time 0 to a value at time 1.

    Attributes:
        invert: Returns u and r, `(n, ...)` each, of values `(n, ...)`; takes velocity, values, and
            the number of steps.
        follow: Returns values of u and r; takes velocity, u, r, and the number of steps.
        least: Fewest steps.
    """

    invert: Callable[[Velocity, Tensor, int], tuple[Tensor, Tensor]]
    follow: Callable[[Velocity, Tensor, Tensor, int], Tensor]
    least: int


def _heun_invert(velocity: Velocity, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    u = heun(velocity, x, time_grid(steps, 1, 0))
    return u, x - heun(velocity, u, time_grid(steps))


def _heun_follow(velocity: Velocity, u: Tensor, residual: Tensor, steps: int) -> Tensor:
    return heun(velocity, u, time_grid(steps)) + residual


def _belm_invert(velocity: Velocity, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    grid = time_grid(steps, 1, 0)
    before, u = belm_encode(velocity, x, grid)
    return u, before - belm_start(velocity, u, grid)[0]


def _belm_follow(velocity: Velocity, u: Tensor, residual: Tensor, steps: int) -> Tensor:
    grid = time_grid(steps, 1, 0)
    before, _ = belm_start(velocity, u, grid)
    return belm_decode(velocity, (before + residual, u), grid)


INVERSIONS: Mapping[str, Inversion] = MappingProxyType(
    {
        "heun": Inversion(_heun_invert, _heun_follow, 1),
        "o-belm": Inversion(_belm_invert, _belm_follow, 2),
    }
)
"""Every solver by its name."""
