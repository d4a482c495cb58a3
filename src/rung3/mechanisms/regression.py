"""`Regression`: a small network fitted by second-order steps, its weight decay by the evidence.

    f(z) = c'z + b + v' tanh(W z + ...),      E(w) = sum_i l(f_i),

a line and a perceptron side by side, so that it is linear beyond the data. With g_i = dl/df and c_i
the curvature (expected d2l/df2), J the Jacobian of f and B = J' diag(c) J, a step is that of
Levenberg and Marquardt on `b E + (a / 2) |w|^2`, damped by m:

    (b B + a + m) dw = -(b J'g + a w).

The decay a and the precision b are those that make the data most likely, as far as the quadratic
near w tells (MacKay 1992, *Bayesian interpolation*; Foresee and Hagan 1997, *Gauss-Newton
approximation to Bayesian learning*): with the eigenvalues e of B

    k = sum b e / (b e + a),     a = k / |w|^2,     b = (n - k) / sum(g^2 / c),

k the number of parameters that the data determine: of those that there are, no more. So a network
needs no rows held out to stop by, and one that is too wide does no harm. Some start from few rows;
the most likely go on with more of them, and end with all. f is their mean, as each errs in its own
way where there are no data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Regression", "spread", "squares"]

STAGES = ((2_000, 60), (20_000, 20), (None, 3))
"""Rows, and steps on them at the most."""
STARTS, MEMBERS, NEAR = 3, 2, 5
"""Perceptrons that start; those that go on; how often their decay is found first, then."""
CHUNK, ENOUGH, START, STUCK = 4_096, 1e-5, 1e-4, 1e3
"""Rows whose Jacobian is held at once; gain a row that is too little; damping: first and last."""

Loss = Callable[..., tuple[Tensor, Tensor, Tensor]]


def squares(f: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`weight (y - f)^2 / 2`, its derivative and its curvature, each `(n,)`."""
    rest = f - y
    return weight * rest.square() / 2, weight * rest, weight


def spread(f: Tensor, rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`-log N(rest; 0, exp(f))` up to a constant, its derivative and its expected curvature."""
    ratio = rest.square() * (-2 * f).exp()
    return f + ratio / 2, 1 - ratio, torch.full_like(f, 2.0)


@dataclass
class _Point:
    """Weights, and what the loss looks like around them."""

    weights: Tensor
    n: int
    value: float
    chi2: float
    slope: Tensor
    curvature: Tensor


class Regression(nn.Module):
    """Lines and perceptrons, `(n, inputs) -> (n, outputs)`, some for each output; no gradients.

    Args:
        inputs: Number of features, at least 1; they should be standardised.
        hidden: Widths of the perceptron.
        outputs: Number of outputs.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> z = torch.linspace(-2, 2, 400)[:, None]
        >>> regression = Regression(1, (8,))
        >>> regression.solve(z, squares, (3 * z).sin(), torch.ones(400, 1))
        >>> bool((regression(z) - (3 * z).sin()).abs().max() < 0.01)
        True
    """

    weights: Tensor

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int = 1) -> None:
        super().__init__()
        layers = list(itertools.pairwise((inputs, *hidden, 1)))
        self.shapes = [(inputs, 1), *(s for a, b in layers for s in ((a, b), (b,)))]
        size = sum(math.prod(shape) for shape in self.shapes)
        self.register_buffer("weights", torch.zeros(outputs, MEMBERS, size))

    def forward(self, z: Tensor) -> Tensor:
        told = [[self._run(weights, z)[0] for weights in own] for own in self.weights]
        return torch.stack([torch.stack(members).mean(0) for members in told], 1)

    def solve(self, z: Tensor, loss: Loss, *columns: Tensor) -> None:
        """Fit it, going on from the weights that it has, if any.

        Args:
            z: Features `(n, inputs)`.
            loss: Of `f` and of columns like it, `(n,)`: its value, derivative and curvature.
            columns: Those columns, each `(n, outputs)`.
        """
        made = [column.to(z) for column in columns]
        order = torch.randperm(len(z)).to(z.device)
        for k, own in enumerate(self.weights):
            given = [column[:, k] for column in made]
            fresh = not own.any()
            first = [self._draw(z) for _ in range(STARTS)] if fresh else own.double()
            found = [(weights, torch.full_like(weights, 1e-2), 1.0) for weights in first]
            for rows, steps in STAGES if fresh else STAGES[1:]:
                if rows is None and len(z) <= STAGES[1][0]:
                    break
                part = order[:rows]
                some = [z[part], *(column[part] for column in given)]
                ends = [self._descend(start, some, loss, steps, not fresh) for start in found]
                ends = sorted(ends, key=lambda end: -end[0])[:MEMBERS]
                found = [end[1] for end in ends]
            own.copy_(torch.stack([weights for weights, *_ in found]))

    def _draw(self, z: Tensor) -> Tensor:
        """Weights to start from: the line nought, the perceptron's random."""
        parts = [torch.zeros(self.shapes[0])]
        parts += [torch.randn(s) / math.sqrt(s[0] if len(s) > 1 else 1) for s in self.shapes[1:]]
        return torch.cat([part.flatten() for part in parts]).to(z).double()

    def _run(self, weights: Tensor, z: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The output `(n,)`, what each layer is given, and the layers' matrices."""
        sizes = [math.prod(shape) for shape in self.shapes]
        pairs = zip(weights.to(z).split(sizes), self.shapes, strict=True)
        line, *rest = (part.view(shape) for part, shape in pairs)
        matrices, biases = rest[::2], rest[1::2]
        given = [z]
        for matrix, bias in zip(matrices[:-1], biases[:-1], strict=True):
            given.append(torch.addmm(bias, given[-1], matrix).tanh())
        f = torch.addmm(biases[-1], given[-1], matrices[-1]) + z @ line
        return f[:, 0], given, matrices

    def _jacobian(self, given: list[Tensor], matrices: list[Tensor]) -> Tensor:
        """`df / dw`, `(n, size)`."""
        n = len(given[0])
        back, columns = given[0].new_ones(n, 1), []
        for k in reversed(range(len(matrices))):
            columns += [back, (given[k][:, :, None] * back[:, None, :]).flatten(1)]
            if k:
                back = (back @ matrices[k].T) * (1 - given[k].square())
        return torch.cat([given[0], *reversed(columns)], 1)

    def _value(self, weights: Tensor, data: list[Tensor], loss: Loss) -> float:
        parts = zip(*(column.split(CHUNK) for column in data), strict=True)
        return sum(
            float(loss(self._run(weights, z)[0], *own)[0].double().sum()) for z, *own in parts
        )

    def _look(self, weights: Tensor, data: list[Tensor], loss: Loss) -> _Point:
        n, size = len(data[0]), len(weights)
        slope, curvature = weights.new_zeros(size), weights.new_zeros(size, size)
        value = chi2 = 0.0
        for z, *own in zip(*(column.split(CHUNK) for column in data), strict=True):
            f, given, matrices = self._run(weights, z)
            jacobian = self._jacobian(given, matrices)
            height, g, c = loss(f, *own)
            value += float(height.double().sum())
            chi2 += float((g.square() / c).double().sum())
            slope += jacobian.T @ g
            curvature += jacobian.T @ (c[:, None] * jacobian)
        return _Point(weights, n, value, max(chi2, 1e-12 * n), slope, curvature)

    def _descend(
        self,
        start: tuple[Tensor, Tensor, float],
        data: list[Tensor],
        loss: Loss,
        steps: int,
        near: bool,
    ) -> tuple[float, tuple[Tensor, Tensor, float]]:
        """The log evidence where it ends, and weights, their decay and the precision there."""
        weights, decay, precision = start
        here, damping = self._look(weights, data, loss), START
        for _ in range(NEAR if near else 0):
            decay, precision = self._balance(here, decay, precision)
        one = torch.eye(len(weights)).to(weights)
        for _ in range(steps):
            slope = precision * here.slope + decay * here.weights
            before = precision * here.value + float((decay * here.weights.square()).sum()) / 2
            while damping < STUCK:
                matrix = precision * (here.curvature + damping * here.n * one) + decay.diag()
                factor, failed = torch.linalg.cholesky_ex(matrix)
                new = here.weights - torch.cholesky_solve(slope[:, None], factor)[:, 0]
                after = precision * self._value(new, data, loss)
                gain = before - after - float((decay * new.square()).sum()) / 2
                if not failed and gain > 0:
                    break
                damping *= 10
            else:
                break
            here, damping = self._look(new, data, loss), damping / 10
            decay, precision = self._balance(here, decay, precision)
            if gain < ENOUGH * here.n:
                break
        matrix = precision * here.curvature + decay.diag()
        evidence = (
            float(decay.log().sum() - torch.linalg.slogdet(matrix)[1])
            + here.n * math.log(precision)
            - 2 * precision * here.value
            - float((decay * here.weights.square()).sum())
        ) / 2
        return evidence, (here.weights, decay, precision)

    def _balance(self, here: _Point, decay: Tensor, precision: float) -> tuple[Tensor, float]:
        """The decay of each layer, and the precision, that make the data most likely."""
        matrix = precision * here.curvature + decay.diag()
        free = 1 - decay * torch.linalg.inv(matrix).diagonal()
        sizes = [math.prod(shape) for shape in self.shapes]
        layers = zip(free.split(sizes), here.weights.split(sizes), strict=True)
        made = []
        for kept, weights in layers:
            most = kept.sum().clamp_min(1e-6) / weights.square().sum().clamp_min(1e-12)
            made.append(most.clamp(1e-6, 1e6).expand(len(weights)))
        return torch.cat(made), max(here.n - float(free.sum()), 1.0) / here.chi2
