"""How the value at the end of a path becomes noise at its start, and noise a value again.

The noise is a pair: the state u at the start of the path, and a residual r that makes the way back
exact, whatever the steps of the solver miss. With G(u) the end of the path from u,

    heun      u = the path from x back, in two evaluations a step    r = x - G(u)
    o-belm    the last two states (w, u) of a scheme with one        r = w - w(u)
              evaluation a step, which can be undone

where w(u) is where one step of Heun's method leads from u. So r = 0 is the plain path from u, and
where the parents change, the second state follows them: the two states as they are would carry the
old parents' velocity into the new path.

A path that starts at the value itself ends at noise that is too small where the value is certain,
such as a black background: there, nothing tells which noise it had. Such noise shows where the
strokes were, and a counterfactual of it keeps them. So Heun's method may start a little before the
value, at a state in which some noise was mixed; what that leaves of the value is in r.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from torch import Tensor

from rung3.mechanisms.solvers import Velocity, belm_decode, belm_encode, belm_start, heun, time_grid

__all__ = ["INVERSIONS", "Inversion", "Solver", "State"]

Solver = Literal["heun", "o-belm"]


class State(NamedTuple):
    """A state on a path, and its time.

    Attributes:
        z: The state, `(n, ...)`.
        time: Its time, from 0 for noise to 1 for a value.
    """

    z: Tensor
    time: float


class Inversion(NamedTuple):
    """A solver's two ways along a path from noise at time 0 to a value at time 1.

    Attributes:
        invert: Returns u and r, `(n, ...)` each, of values `(n, ...)`; takes velocity, values, the
            number of steps, and the state to start from, which O-BELM takes to be the value.
        follow: Returns values of u and r; takes velocity, u, r, and the number of steps.
        least: Fewest steps.
    """

    invert: Callable[[Velocity, Tensor, int, State], tuple[Tensor, Tensor]]
    follow: Callable[[Velocity, Tensor, Tensor, int], Tensor]
    least: int


def _heun_invert(velocity: Velocity, x: Tensor, steps: int, start: State) -> tuple[Tensor, Tensor]:
    earlier = [t for t in time_grid(steps, 1, 0) if t < start.time]
    u = heun(velocity, start.z, [start.time, *earlier])
    return u, x - heun(velocity, u, time_grid(steps))


def _heun_follow(velocity: Velocity, u: Tensor, residual: Tensor, steps: int) -> Tensor:
    return heun(velocity, u, time_grid(steps)) + residual


def _belm_invert(velocity: Velocity, x: Tensor, steps: int, start: State) -> tuple[Tensor, Tensor]:
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
