"""`Regression`: a small network fitted by second-order steps, its size set by the evidence.

    f(z) = c'q + v' tanh(W q),      E(w) = sum_i l(f_i),

a line and a perceptron side by side, both of q = (1, z) and, if there are few features, their
squares and products: causes that act together then take one unit, not many. With g_i = dl/df and
c_i the curvature (expected d2l/df2), J the Jacobian of f and B = J' diag(c) J, a step is that of
Levenberg and Marquardt on `b E + sum a_j w_j^2 / 2`, damped by m:

    (b (B + n m) + diag(a)) dw = -(b J'g + a w).

The decays a, one for all the weights that leave an input or a unit, and the precision b are those
that make the data most likely, as far as the quadratic near w tells (MacKay 1992, *Bayesian
interpolation*; Neal 1996, *Bayesian learning for neural networks*, on relevance determination).
With S the inverse of `b B + diag(a)`, k_j = 1 - a_j S_jj, and the sums of the first formula over
the weights that share a decay,

    a = sum k_j / sum w_j^2,     b = (n - sum k) / sum(g^2 / c),

sum k being the number of parameters that the data determine: what they do not ask for is pruned.
So a network needs no rows held out to stop by, and one that is too wide does no harm.

Networks of one unit, of two, of four... start from few rows. Their units are the best of many that
are drawn at random, chosen one after the other by what those before leave unexplained (orthogonal
matching pursuit): from random units alone, steps hardly find a narrow ridge. The best of each size
go on with more rows, and end with all; f is their mean, weighted by their evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rung3.mechanisms.additive.losses import Loss

__all__ = ["Point", "Regression", "look"]

FIRST, STAGES = (2_000, 60), ((20_000, 40), (None, 3))
"""Rows that networks start from, and steps on them at the most; and of those that go on."""
STARTS, MEMBERS, NEAR = 4, 3, 5
"""Networks of one size that start; those that go on; how often the decays of an old one are found
before its first step."""
DRAWN, STEEP = 1_000, 10.0
"""Units, and rows, that the first are chosen from; how much steeper than the data are wide, at the
most."""
PRODUCTS, WEIGHTS = 14, 400
"""Most features with products; most weights with units: a step takes the cube of their number."""
CHUNK, ENOUGH, ALIKE, BEHIND = 4_096, 0.1, 0.1, 5.0
"""Rows whose Jacobian is held at once; and, in nats: a gain that is too little; between networks
that are the same, but for what is pruned; and behind the best, what hardly counts."""
START, STUCK, LEAST = 1e-4, 1e3, 1e-12
"""Damping: the first and the most; what no divisor falls below."""


@dataclass(eq=False)
class _Network:
    """Weights in a row (c, v and W), and what they were found with.

    Attributes:
        weights: Those.
        decay: Of each.
        precision: Of the loss.
        evidence: Its logarithm.
        determined: How many parameters the data determine.
    """

    weights: Tensor
    decay: Tensor
    precision: float = 1.0
    evidence: float = -math.inf
    determined: float = 0.0


@dataclass
class Point:
    """What the loss of n rows looks like around some weights.

    Attributes:
        n: Number of rows.
        value: The loss.
        chi2: `sum(g^2 / c)`.
        slope: Its derivative `J'g`.
        curvature: `J' diag(c) J`.
    """

    n: int
    value: float
    chi2: float
    slope: Tensor
    curvature: Tensor


def look(
    weights: Tensor,
    run: Callable[[Tensor], tuple[Tensor, Tensor]],
    data: list[Tensor],
    loss: Loss,
    chunk: int,
) -> Point:
    """What the loss looks like around weights, whose f and J `run` tells of some features."""
    n, size = len(data[0]), len(weights)
    slope, curvature = weights.new_zeros(size), weights.new_zeros(size, size)
    value = chi2 = 0.0
    for q, *own in zip(*(column.split(chunk) for column in data), strict=True):
        f, jacobian = run(q)
        height, g, c = loss(f, *own)
        value += float(height.double().sum())
        chi2 += float((g.square() / c).double().sum())
        slope += jacobian.T @ g
        curvature += jacobian.T @ (c[:, None] * jacobian)
    return Point(n, value, max(chi2, LEAST * n), slope, curvature)


class Regression(nn.Module):
    """Lines and perceptrons, `(n, inputs) -> (n, outputs)`, some for each output; no gradients.

    Args:
        inputs: Number of features, at least 1; they should be standardised.
        hidden: Most units of a perceptron; fewer where there are many features, and from 200 on
            none, which leaves the line.
        outputs: Number of outputs.
        products: Whether squares and products of the features are features too, if they are few.
            Beyond the data it may then grow as a square does.

    Attributes:
        determined: How many parameters the data determined, `(outputs,)`.

    Example:
        >>> from rung3.mechanisms.additive.losses import squares
        >>> _ = torch.manual_seed(0)
        >>> z = torch.linspace(-2, 2, 400)[:, None]
        >>> regression = Regression(1, 8)
        >>> regression.solve(z, squares, (3 * z).sin(), torch.ones(400, 1))
        >>> bool((regression(z) - (3 * z).sin()).abs().max() < 0.01)
        True
    """

    weights: Tensor
    shares: Tensor
    determined: Tensor

    def __init__(self, inputs: int, hidden: int, outputs: int = 1, products: bool = True) -> None:
        super().__init__()
        pairs = inputs * (inputs + 1) // 2
        self.products = products and inputs + pairs <= PRODUCTS
        self.features = 1 + inputs + pairs * self.products
        self.hidden = hidden = min(hidden, max(0, (WEIGHTS - self.features) // (1 + self.features)))
        size = self.features + hidden + self.features * hidden
        self.register_buffer("weights", torch.zeros(outputs, MEMBERS, size))
        self.register_buffer("shares", torch.zeros(outputs, MEMBERS))
        self.register_buffer("determined", torch.zeros(outputs))

    def forward(self, z: Tensor) -> Tensor:
        q = self._features(z)
        told = []
        for own, shares in zip(self.weights, self.shares, strict=True):
            counted = [k for k, share in enumerate(shares.tolist()) if share]
            told.append(
                sum((shares[k] * self._run(own[k], q)[0] for k in counted), q.new_zeros(len(q)))
            )
        return torch.stack(told, 1)

    def solve(self, z: Tensor, loss: Loss, *columns: Tensor, rough: bool = False) -> None:
        """Fit it, going on from the weights that it has, if any.

        Args:
            z: Features `(n, inputs)`.
            loss: Of `f` and of columns like it, `(n,)`: its value, derivative and curvature.
            columns: Those columns, each `(n, outputs)`.
            rough: Whether few rows are enough.
        """
        made = [self._features(z), *(column.to(z) for column in columns)]
        order = torch.randperm(len(z)).to(z.device)
        for k, (own, shares) in enumerate(zip(self.weights, self.shares, strict=True)):
            given = [made[0], *(column[:, k] for column in made[1:])]
            old = [_started(self._narrow(weights)) for weights in own.double() if weights.any()]
            found = old or self._grow([column[order[: FIRST[0]]] for column in given], loss)
            for rows, steps in () if rough else STAGES:
                if rows is None and len(z) <= STAGES[0][0]:
                    break
                some = [column[order[:rows]] for column in given]
                ends = [self._descend(network, some, loss, steps, bool(old)) for network in found]
                found = _distinct(ends)
            own.zero_()
            shares.zero_()
            for place, network in zip(own, found, strict=False):
                place.copy_(self._wide(network.weights))
            likely = torch.tensor([network.evidence for network in found])
            shares[: len(found)] = likely.softmax(0)
            self.determined[k] = found[0].determined

    def _features(self, z: Tensor) -> Tensor:
        """q, `(n, features)`."""
        parts = [z.new_ones(len(z), 1), z]
        if self.products:
            first, second = torch.triu_indices(z.shape[1], z.shape[1]).to(z.device)
            parts.append(z[:, first] * z[:, second])
        return torch.cat(parts, 1)

    def _grow(self, data: list[Tensor], loss: Loss) -> list[_Network]:
        """The most likely network, and those of more units, which more rows may make likelier."""
        none = data[0].new_zeros(self.features).double()
        grown = [self._descend(_started(none), data, loss, FIRST[1])]
        some = [self._run(grown[0].weights, data[0])[0], *data]
        some = [column[:DRAWN] for column in some]
        pursued = [
            self._pursue(some, loss, self.hidden >> k) for k in range(STARTS) if self.hidden >> k
        ]
        for units in (self.hidden >> k for k in reversed(range(self.hidden.bit_length()))):
            for matrix in (drawn for drawn in pursued if drawn.shape[1] >= units):
                top = matrix.new_zeros(units)
                start = torch.cat([none, top, matrix[:, :units].flatten()])
                grown.append(self._descend(_started(start), data, loss, FIRST[1]))
            grown.sort(key=lambda one: -one.evidence)
            if self._units(grown[0].weights) < units // 2:
                break
        best: dict[int, _Network] = {}
        for network in grown:
            best.setdefault(self._units(network.weights), network)
        least = self._units(grown[0].weights)
        return [network for units, network in best.items() if units >= least][:MEMBERS]

    def _pursue(self, data: list[Tensor], loss: Loss, units: int) -> Tensor:
        """W of units that explain what the line leaves, the best first, `(features, units)`."""
        line, q, *columns = data
        _, g, c = loss(line, *columns)
        size = q.square().mean(0).sqrt().clamp_min(LEAST)[:, None]
        kept = torch.rand(self.features, DRAWN) < torch.rand(DRAWN)
        steep = STEEP ** (2 * torch.rand(DRAWN) - 1)
        matrix = (torch.randn(self.features, DRAWN) * kept * steep).to(q) / size
        through = q[torch.randint(len(q), (DRAWN,)).to(q.device)]  # where a unit is nought
        matrix[0] = -(through[:, 1:] * matrix[1:].T).sum(1)
        root = c.sqrt()[:, None]
        rest, said = -g[:, None] / root, root * (q @ matrix).tanh()
        whole = said.square().sum(0)
        basis = torch.linalg.qr(root * q)[0]
        chosen = []
        for _ in range(units):
            rest = rest - basis @ (basis.T @ rest)
            said = said - basis @ (basis.T @ said)
            left = said.square().sum(0)
            told = (rest.T @ said)[0].square() / left.clamp_min(LEAST)
            best = int(told.where(left > 1e-4 * whole, 0).argmax())
            chosen.append(best)
            basis = said[:, [best]] / left[best].sqrt().clamp_min(LEAST)
        return matrix[:, chosen].double()

    def _units(self, weights: Tensor) -> int:
        return (len(weights) - self.features) // (1 + self.features)

    def _split(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take them apart: c and v, one column each, and W."""
        width, units = self.features, self._units(weights)
        line, top, matrix = weights.split([width, units, width * units])
        return line.view(width, 1), top.view(units, 1), matrix.view(width, units)

    def _wide(self, weights: Tensor) -> Tensor:
        """The same network with as many units as there is room for."""
        line, top, matrix = self._split(weights)
        room = (0, self.hidden - len(top))
        wide = [nn.functional.pad(part, room).flatten() for part in (top.T, matrix)]
        return torch.cat([line[:, 0], *wide])

    def _narrow(self, weights: Tensor) -> Tensor:
        """The same network without the units that it does not use."""
        line, top, matrix = self._split(weights)
        used = top[:, 0] != 0
        return torch.cat([line[:, 0], top[used, 0], matrix[:, used].flatten()])

    def _run(self, weights: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """The output `(n,)`, and what the units say, `(n, units)`."""
        line, top, matrix = self._split(weights.to(q))
        said = (q @ matrix).tanh()
        return (q @ line + said @ top)[:, 0], said

    def _jacobian(self, weights: Tensor, q: Tensor, said: Tensor) -> Tensor:
        """`df / dw`, `(n, size)`."""
        back = self._split(weights.to(q))[1][:, 0] * (1 - said.square())
        return torch.cat([q, said, (q[:, :, None] * back[:, None, :]).flatten(1)], 1)

    def _value(self, weights: Tensor, data: list[Tensor], loss: Loss) -> float:
        parts = zip(*(column.split(CHUNK) for column in data), strict=True)
        return sum(
            float(loss(self._run(weights, q)[0], *own)[0].double().sum()) for q, *own in parts
        )

    def _look(self, weights: Tensor, data: list[Tensor], loss: Loss) -> Point:
        def run(q: Tensor) -> tuple[Tensor, Tensor]:
            f, said = self._run(weights, q)
            return f, self._jacobian(weights, q, said)

        return look(weights, run, data, loss, CHUNK)

    def _descend(
        self, start: _Network, data: list[Tensor], loss: Loss, steps: int, near: bool = False
    ) -> _Network:
        """Where it ends."""
        weights, decay, precision = start.weights, start.decay, start.precision
        here, damping = self._look(weights, data, loss), START
        for _ in range(NEAR if near else 0):
            decay, precision = self._balance(weights, here, decay, precision)
        one = torch.eye(len(weights)).to(weights)
        for _ in range(steps):
            slope = precision * here.slope + decay * weights
            before = precision * here.value + float((decay * weights.square()).sum()) / 2
            while damping < STUCK:
                matrix = precision * (here.curvature + damping * here.n * one) + decay.diag()
                factor, failed = torch.linalg.cholesky_ex(matrix)
                new = weights - torch.cholesky_solve(slope[:, None], factor)[:, 0]
                after = precision * self._value(new, data, loss)
                gain = before - after - float((decay * new.square()).sum()) / 2
                if not failed and gain > 0:
                    break
                damping *= 10
            else:
                break
            weights, here, damping = new, self._look(new, data, loss), damping / 10
            decay, precision = self._balance(weights, here, decay, precision)
            if gain < ENOUGH:
                break
        matrix = precision * here.curvature + decay.diag()
        evidence = (
            float(decay.log().sum() - torch.linalg.slogdet(matrix)[1])
            + here.n * math.log(precision)
            - 2 * precision * here.value
            - float((decay * weights.square()).sum())
        ) / 2
        determined = float(_determined(matrix, decay).sum())
        return _Network(weights, decay, precision, evidence, determined)

    def _balance(
        self, weights: Tensor, here: Point, decay: Tensor, precision: float
    ) -> tuple[Tensor, float]:
        """The decays, and the precision, that make the data most likely."""
        kept = _determined(precision * here.curvature + decay.diag(), decay)
        made = []
        for some, own in zip(self._split(kept), self._split(weights), strict=True):
            most = some.sum(1, True).clamp_min(1e-6) / own.square().sum(1, True).clamp_min(LEAST)
            made.append(most.clamp(1e-6, 1e6).expand_as(own).flatten())
        return torch.cat(made), max(here.n - float(kept.sum()), 1.0) / here.chi2


def _started(weights: Tensor) -> _Network:
    return _Network(weights, torch.full_like(weights, 1e-2))


def _determined(matrix: Tensor, decay: Tensor) -> Tensor:
    """How far the data, rather than the decay, determine each weight: from 0 to 1."""
    kept: Tensor = 1 - decay * torch.linalg.inv(matrix).diagonal()
    return kept


def _distinct(networks: list[_Network]) -> list[_Network]:
    """The most likely first, without those that hardly count, or are one like another, pruned."""
    kept: list[_Network] = []
    for one in sorted(networks, key=lambda one: -one.evidence):
        behind = [best.evidence - one.evidence for best in kept]
        if not kept or (min(behind) > ALIKE and max(behind) < BEHIND):
            kept.append(one)
    return kept
