"""`Regression`: a small network fitted by second-order steps, its size set by the evidence.

    f(z) = c'q + v' tanh(W q),      E(w) = sum_i l(f_i),

a line and a perceptron side by side, both of q = (1, z) and, if there are few features, their
squares and products: causes that act together then take one unit, not many. With the derivative g,
the expected curvature c and the Jacobian J of f in the weights w, and B = J' diag(c) J (see
`rung3.mechanisms.additive.quadratic`), a step is that of Levenberg and Marquardt on
`b E + sum a_j w_j^2 / 2`, damped by m:

    (b (B + n m) + diag(a)) dw = -(b J'g + a w).

The decays a, one for all the weights that leave an input or a unit, and the precision b are those
that make the data most likely, as far as the quadratic near w tells (MacKay 1992, *Bayesian
interpolation*; Neal 1996, *Bayesian learning for neural networks*, on relevance determination).
With S the inverse of `b B + diag(a)`, k_j = 1 - a_j S_jj, and the sums of the first formula over
the weights that share a decay,

    a = sum k_j / sum w_j^2,     b = (n - sum k) / sum(g^2 / c),

with sum k the number of parameters that the data determine: weights that the data do not ask for
are pruned. So a network needs no rows held out to stop by, and one that is too wide does no harm.

Networks of one unit, of two, of four... start from few rows. Their units are the best of many that
are drawn at random, chosen one after the other by what those before leave unexplained (orthogonal
matching pursuit): from random units alone, steps hardly find a narrow ridge. The best of each size
continue with more rows, and end with all; f is their mean, weighted by their evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rung3.mechanisms.additive.losses import Loss
from rung3.mechanisms.additive.quadratic import LEAST_DIVISOR, Quadratic, expand, split

__all__ = ["SCHEDULE", "Regression", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """The settings of the search for networks; features and values are standardised."""

    first_rows: int = 2_000
    """Rows that new networks are fitted to: enough to tell which sizes are worth more."""
    first_steps: int = 60
    """Most steps on these rows."""
    middle_rows: int = 20_000
    """Rows that the best networks continue with."""
    middle_steps: int = 40
    """Most steps on these rows."""
    final_steps: int = 3
    """Most steps on all rows, where there are more: the networks are nearly there."""

    starts: int = 4
    """Times that units are drawn: each gives a network of every size up to its number of units."""
    members: int = 3
    """Most networks that continue, and that f is the mean of."""
    rebalancings: int = 5
    """Times that the decays of a network of before are found again before its first step."""

    drawn_units: int = 1_000
    """Random units that the first are chosen from, on as many rows."""
    max_steepness: float = 10.0
    """Greatest factor of a random unit's steepness, relative to the data's width; its inverse is
    the least."""
    least_novelty: float = 1e-4
    """Share of a unit's squares that must be new to those chosen: less is rounding."""

    max_product_features: int = 14
    """Most features, products included, where squares and products are features."""
    max_weights: int = 400
    """Most weights of a network with units: a step takes the cube of their number."""
    chunk_rows: int = 4_096
    """Rows whose Jacobian is held at a time: it bounds the memory."""

    least_gain: float = 0.1
    """Gain of a step, in nats, below which the steps end."""
    same_evidence: float = 0.1
    """Nats of evidence within which two networks are one and the same, but for pruned units."""
    max_behind: float = 5.0
    """Nats of evidence behind the best network from where on one hardly counts."""

    first_damping: float = 1e-4
    """Damping of the first step, relative to the curvature a row."""
    max_damping: float = 1e3
    """Damping from where on a step is too small to matter."""
    first_decay: float = 1e-2
    """Decay of all weights at the start: weak, as nothing is known of their size."""
    least_decay: float = 1e-6
    """Least decay that the evidence may choose: below, a weight is as good as free."""
    least_determined: float = 1e-6
    """Least number of parameters that one decay is found from: rounding may make it negative."""
    max_decay: float = 1e6
    """Greatest decay that the evidence may choose: above, a weight is as good as zero."""


SCHEDULE = Schedule()


@dataclass(eq=False)
class _Network:
    """Weights in a row (c, v and W), and what they were found with.

    Attributes:
        weights: The weights, `(size,)`.
        decay: The decay of each.
        precision: Precision b of the loss.
        evidence: Logarithm of the evidence, in nats.
        determined: How many parameters the data determine.
    """

    weights: Tensor
    decay: Tensor
    precision: float = 1.0
    evidence: float = -math.inf
    determined: float = 0.0


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
        >>> from rung3.mechanisms.additive.losses import squared_error
        >>> _ = torch.manual_seed(0)
        >>> z = torch.linspace(-2, 2, 400)[:, None]
        >>> regression = Regression(1, 8)
        >>> regression.solve(z, squared_error, (3 * z).sin(), torch.ones(400, 1))
        >>> bool((regression(z) - (3 * z).sin()).abs().max() < 0.01)
        True
    """

    weights: Tensor
    shares: Tensor
    determined: Tensor

    def __init__(self, inputs: int, hidden: int, outputs: int = 1, products: bool = True) -> None:
        super().__init__()
        pairs = inputs * (inputs + 1) // 2
        self.products = products and inputs + pairs <= SCHEDULE.max_product_features
        self.features = 1 + inputs + pairs * self.products
        room = max(0, (SCHEDULE.max_weights - self.features) // (1 + self.features))
        self.hidden = hidden = min(hidden, room)
        size = self.features + hidden + self.features * hidden
        self.register_buffer("weights", torch.zeros(outputs, SCHEDULE.members, size))
        self.register_buffer("shares", torch.zeros(outputs, SCHEDULE.members))
        self.register_buffer("determined", torch.zeros(outputs))

    def forward(self, z: Tensor) -> Tensor:
        q = self.design(z)
        outputs = []
        for weights, shares in zip(self.weights, self.shares, strict=True):
            members = [k for k, share in enumerate(shares.tolist()) if share]
            parts = (shares[k] * self.run(weights[k], q)[0] for k in members)
            outputs.append(sum(parts, q.new_zeros(len(q))))
        return torch.stack(outputs, 1)

    def solve(self, z: Tensor, loss: Loss, *columns: Tensor, rough: bool = False) -> None:
        """Fit it, going on from the weights that it has, if any.

        Args:
            z: Features `(n, inputs)`.
            loss: Of `f` and of columns like it, `(n,)`: its value, derivative and curvature.
            columns: Those columns, each `(n, outputs)`.
            rough: Whether few rows are enough.
        """
        features, columns = self.design(z), tuple(column.to(z) for column in columns)
        order = torch.randperm(len(z)).to(z.device)
        for k in range(len(self.weights)):
            data = [features, *(column[:, k] for column in columns)]
            networks = self._fit([column[order] for column in data], loss, k, rough)
            self.weights[k].zero_()
            self.shares[k].zero_()
            for place, network in zip(self.weights[k], networks, strict=False):
                place.copy_(self._wide(network.weights))
            evidence = torch.tensor([network.evidence for network in networks])
            self.shares[k, : len(networks)] = evidence.softmax(0)
            self.determined[k] = networks[0].determined

    def _fit(self, data: list[Tensor], loss: Loss, output: int, rough: bool) -> list[_Network]:
        """Fit the networks of one output to rows in random order, to few of them first."""
        n, before = len(data[0]), self.weights[output].double()
        old = [_started(self._narrow(weights)) for weights in before if weights.any()]
        networks = old or self._grow([column[: SCHEDULE.first_rows] for column in data], loss)
        stages = [] if rough else [(SCHEDULE.middle_rows, SCHEDULE.middle_steps)]
        if not rough and n > SCHEDULE.middle_rows:
            stages.append((n, SCHEDULE.final_steps))
        for rows, steps in stages:
            first = [column[:rows] for column in data]
            networks = _distinct(
                [self._descend(network, first, loss, steps, bool(old)) for network in networks]
            )
        return networks

    def design(self, z: Tensor) -> Tensor:
        """Return q of features z, `(n, features)`."""
        parts = [z.new_ones(len(z), 1), z]
        if self.products:
            first, second = torch.triu_indices(z.shape[1], z.shape[1]).to(z.device)
            parts.append(z[:, first] * z[:, second])
        return torch.cat(parts, 1)

    def _grow(self, data: list[Tensor], loss: Loss) -> list[_Network]:
        """Return the most likely new network, and larger ones that more rows may make likelier."""
        steps = SCHEDULE.first_steps
        line = data[0].new_zeros(self.features).double()
        grown = [self._descend(_started(line), data, loss, steps)]
        sample = [self.run(grown[0].weights, data[0])[0], *data]
        sample = [column[: SCHEDULE.drawn_units] for column in sample]
        sizes = [self.hidden >> k for k in range(self.hidden.bit_length())]
        pursued = [self._pursue(sample, loss, units) for units in sizes[: SCHEDULE.starts]]
        for units in reversed(sizes):
            for matrix in (chosen for chosen in pursued if chosen.shape[1] >= units):
                start = torch.cat([line, matrix.new_zeros(units), matrix[:, :units].flatten()])
                grown.append(self._descend(_started(start), data, loss, steps))
            grown.sort(key=lambda network: -network.evidence)
            # A size whose best network is hardly larger than one of half of it has had enough.
            if self._units(grown[0].weights) < units // 2:
                break
        best: dict[int, _Network] = {}
        for network in grown:
            best.setdefault(self._units(network.weights), network)
        least = self._units(grown[0].weights)
        return [network for units, network in best.items() if units >= least][: SCHEDULE.members]

    def _pursue(self, data: list[Tensor], loss: Loss, units: int) -> Tensor:
        """Choose W of units that explain what the line leaves, best first, `(features, units)`."""
        line, q, *columns = data
        _, g, c = loss(line, *columns)
        drawn, root = self._draw_units(q), c.sqrt()[:, None]
        residual, candidates = -g[:, None] / root, root * (q @ drawn).tanh()
        total = candidates.square().sum(0)
        basis = torch.linalg.qr(root * q)[0]
        chosen = []
        for _ in range(units):
            residual = residual - basis @ (basis.T @ residual)
            candidates = candidates - basis @ (basis.T @ candidates)
            new = candidates.square().sum(0)
            explained = (residual.T @ candidates)[0].square() / new.clamp_min(LEAST_DIVISOR)
            best = int(explained.where(new > SCHEDULE.least_novelty * total, 0).argmax())
            chosen.append(best)
            basis = candidates[:, [best]] / new[best].sqrt().clamp_min(LEAST_DIVISOR)
        return drawn[:, chosen].double()

    def _draw_units(self, q: Tensor) -> Tensor:
        """Draw W of random units, of few features or many, flat or steep, `(features, units)`."""
        count, steepest = SCHEDULE.drawn_units, SCHEDULE.max_steepness
        size = q.square().mean(0).sqrt().clamp_min(LEAST_DIVISOR)[:, None]
        used = torch.rand(self.features, count) < torch.rand(count)
        steepness = steepest ** (2 * torch.rand(count) - 1)
        drawn = (torch.randn(self.features, count) * used * steepness).to(q) / size
        centre = q[torch.randint(len(q), (count,)).to(q.device)]  # the row where a unit is zero
        drawn[0] = -(centre[:, 1:] * drawn[1:].T).sum(1)
        return drawn

    def _units(self, weights: Tensor) -> int:
        """Return the number of units that so many weights are of."""
        return (len(weights) - self.features) // (1 + self.features)

    def _split(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take weights apart: c and v, one column each, and W."""
        width, units = self.features, self._units(weights)
        line, top, matrix = weights.split([width, units, width * units])
        return line.view(width, 1), top.view(units, 1), matrix.view(width, units)

    def _wide(self, weights: Tensor) -> Tensor:
        """Return the same network with as many units as there is room for."""
        line, top, matrix = self._split(weights)
        room = (0, self.hidden - len(top))
        wide = [nn.functional.pad(part, room).flatten() for part in (top.T, matrix)]
        return torch.cat([line[:, 0], *wide])

    def _narrow(self, weights: Tensor) -> Tensor:
        """Return the same network without the units that it does not use."""
        line, top, matrix = self._split(weights)
        used = top[:, 0] != 0
        return torch.cat([line[:, 0], top[used, 0], matrix[:, used].flatten()])

    def run(self, weights: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output `(n,)`, and the activations of the units, `(n, units)`."""
        line, top, matrix = self._split(weights.to(q))
        activations = (q @ matrix).tanh()
        return (q @ line + activations @ top)[:, 0], activations

    def jacobian(self, weights: Tensor, q: Tensor, activations: Tensor) -> Tensor:
        """Return `df / dw`, `(n, size)`."""
        back = self._split(weights.to(q))[1][:, 0] * (1 - activations.square())
        return torch.cat([q, activations, (q[:, :, None] * back[:, None, :]).flatten(1)], 1)

    def _value(self, weights: Tensor, data: list[Tensor], loss: Loss) -> float:
        """Return the loss of all rows."""
        return sum(
            float(loss(self.run(weights, q)[0], *columns)[0].double().sum())
            for q, *columns in split(data, SCHEDULE.chunk_rows)
        )

    def _expand(self, weights: Tensor, data: list[Tensor], loss: Loss) -> Quadratic:
        def run(q: Tensor) -> tuple[Tensor, Tensor]:
            f, activations = self.run(weights, q)
            return f, self.jacobian(weights, q, activations)

        return expand(weights, run, split(data, SCHEDULE.chunk_rows), loss)

    def _descend(
        self, start: _Network, data: list[Tensor], loss: Loss, steps: int, fitted: bool = False
    ) -> _Network:
        """Take steps from a network, and return where they end, with its evidence."""
        weights, decay, precision = start.weights, start.decay, start.precision
        here, damping = self._expand(weights, data, loss), SCHEDULE.first_damping
        for _ in range(SCHEDULE.rebalancings if fitted else 0):
            decay, precision = self._balance(weights, here, decay, precision)
        identity = torch.eye(len(weights)).to(weights)
        for _ in range(steps):
            slope = precision * here.slope + decay * weights
            before = precision * here.value + float((decay * weights.square()).sum()) / 2
            # More damping makes a step shorter, and steeper, until the loss falls.
            while damping < SCHEDULE.max_damping:
                matrix = precision * (here.curvature + damping * here.n * identity) + decay.diag()
                factor, failed = torch.linalg.cholesky_ex(matrix)
                new = weights - torch.cholesky_solve(slope[:, None], factor)[:, 0]
                after = precision * self._value(new, data, loss)
                gain = before - after - float((decay * new.square()).sum()) / 2
                if not failed and gain > 0:
                    break
                damping *= 10
            else:
                break
            weights, here, damping = new, self._expand(new, data, loss), damping / 10
            decay, precision = self._balance(weights, here, decay, precision)
            if gain < SCHEDULE.least_gain:
                break
        return _judged(weights, here, decay, precision)

    def _balance(
        self, weights: Tensor, here: Quadratic, decay: Tensor, precision: float
    ) -> tuple[Tensor, float]:
        """Return the decays, and the precision, that make the data most likely."""
        determined = _determined(precision * here.curvature + decay.diag(), decay)
        decays = []
        for shares, part in zip(self._split(determined), self._split(weights), strict=True):
            squares = part.square().sum(1, True).clamp_min(LEAST_DIVISOR)
            best = shares.sum(1, True).clamp_min(SCHEDULE.least_determined) / squares
            best = best.clamp(SCHEDULE.least_decay, SCHEDULE.max_decay)
            decays.append(best.expand_as(part).flatten())
        return torch.cat(decays), max(here.n - float(determined.sum()), 1.0) / here.chi2


def _started(weights: Tensor) -> _Network:
    """Return a network at its start: its decays are not found yet."""
    return _Network(weights, torch.full_like(weights, SCHEDULE.first_decay))


def _judged(weights: Tensor, here: Quadratic, decay: Tensor, precision: float) -> _Network:
    """Return a network with its evidence, by Laplace's method."""
    matrix = precision * here.curvature + decay.diag()
    evidence = (
        float(decay.log().sum() - torch.linalg.slogdet(matrix)[1])
        + here.n * math.log(precision)
        - 2 * precision * here.value
        - float((decay * weights.square()).sum())
    ) / 2
    return _Network(weights, decay, precision, evidence, float(_determined(matrix, decay).sum()))


def _determined(matrix: Tensor, decay: Tensor) -> Tensor:
    """Return how far the data, rather than the decay, determine each weight: from 0 to 1."""
    shares: Tensor = 1 - decay * torch.linalg.inv(matrix).diagonal()
    return shares


def _distinct(networks: list[_Network]) -> list[_Network]:
    """Return the most likely first, without those far behind, or equal to a better one."""
    distinct: list[_Network] = []
    for network in sorted(networks, key=lambda network: -network.evidence):
        behind = [better.evidence - network.evidence for better in distinct]
        new = not distinct or min(behind) > SCHEDULE.same_evidence
        if new and max(behind, default=0.0) < SCHEDULE.max_behind:
            distinct.append(network)
    return distinct
