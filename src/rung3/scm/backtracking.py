"""Backtracking counterfactuals: the laws stay, and the past moves.

An intervention breaks a mechanism and keeps the noise. Backtracking keeps every mechanism and asks
which noise, nearest to the factual one, makes the antecedent true (von Kuegelgen, Mohamed and
Beckers 2023, arXiv 2211.00472; Kladny et al. 2024, arXiv 2310.07665):

    u* = argmin sum_i |z(u*_i) - z(u_i)|^2   such that   x_A(u*) = to,

over the noise of the antecedents and of their ancestors, z its standard normal scores
(`rung3.scm.normal_scores`). Other noise is kept, and all variables follow from u*.

With `moves` only so many variables' noise may differ (`rung3.scm.nearest.sparsest`). Instead of
the nearest noise, several noises may be drawn around the factual one, by Langevin steps at a
temperature (`rung3.scm.langevin`).

A variable whose noise is known only up to its posterior (a category, a count) has no slope to go
along. Among the ancestors it keeps its value, and where its parents move, its noise is drawn from
the exact posterior under the new ones. As an antecedent it takes its new value by its own noise,
drawn from the exact posterior of that value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.provenance import Status
from rung3.data.rows import (
    Exogenous,
    Noise,
    Rows,
    Values,
    map_noise,
    named,
    noise_parts,
    spell_unknown,
)
from rung3.data.seeding import base_seed, stream
from rung3.data.variables import Continuous, Image
from rung3.mechanisms.autoencoder import Autoencoder
from rung3.mechanisms.base import NORMAL, ImpossibleError, Mechanism
from rung3.mechanisms.inversion import INVERSIONS
from rung3.mechanisms.path import Path
from rung3.scm import propagation, provenance
from rung3.scm.langevin import langevin
from rung3.scm.model import Model
from rung3.scm.nearest import Nearest, nearest, sparsest
from rung3.scm.parts import in_parts
from rung3.scm.propagation import Changes
from rung3.scm.query_options import as_queried

if TYPE_CHECKING:
    from rung3.scm.normal_scores import NormalScore

__all__ = ["Backtracking", "folded", "frugal", "plan", "repeated"]

TOLERANCE = 1e-4
"""How near the antecedent is met, in standard deviations of the noise that moves it; a probability
that a predictor gives is met to `Mechanism.tolerance` of its own."""

PATH_STEPS = 5
"""Steps of the solver of an image's path, if not told others: the search solves it, and goes along
its slope, up to a few hundred times."""

ROUNDINGS = 8
"""Roundings of its own value by which an antecedent may be missed, whatever the noise."""


@dataclass(frozen=True)
class Backtracking:
    """What a backtracking counterfactual may move, and what it recomputes.

    Attributes:
        model: The model.
        to: The antecedents' values, `(n, *shape)` or one for all rows, `(1, *shape)`: those that
            noise is moved for along slopes.
        drawn: Those of categories and counts, whose own noise is drawn.
        moves: Number of variables whose noise may move; `None` for all.
        temperature: Variance of the noise around the factual one, of draws; `None` for the nearest.
        tolerance: How far an antecedent may be missed, in its unit; `None` for its own.
        above: The antecedents and their ancestors, in the graph's order.
        moving: Those of them whose noise moves.
        held: Those of them that keep their values, for their noise has no slope.
        recomputed: What may change: the moving ones, and all that descends from them.
    """

    model: Model
    to: Mapping[str, Tensor]
    drawn: Mapping[str, Tensor]
    moves: int | None
    temperature: float | None
    tolerance: float | None
    above: tuple[str, ...]
    moving: tuple[str, ...]
    held: frozenset[str]
    recomputed: frozenset[str]

    def answer(self, rows: Rows, noise: Exogenous, options: Mapping[str, Any]) -> Rows:
        """Move the noise of rows until the antecedents hold, and predict.

        Args:
            rows: The factual rows, as `Model.read` gives them.
            noise: The noise behind them of all that is recomputed.
            options: Options of mechanisms.

        Returns:
            Rows as they were given, with their new noise and their provenance.

        Raises:
            ValueError: If no noise was found with which the antecedents hold, naming row and gap.
        """
        model, factual = self.model, rows.batch
        search = _Search(self, factual, noise, options)
        moved = self._missed(factual, search)
        nearby = self._nearby(search, noise.seed)
        self._check_met(nearby, moved, rows)
        new = search.noise(nearby.point)
        values = search.values(nearby.point)
        new |= self._redrawn(values, rows, noise, options)
        parts = {name: _where(moved, new.get(name, part), part) for name, part in noise.items()}
        exogenous = Exogenous(
            parts,
            n=rows.n,
            factual=rows,
            mechanisms=noise.mechanisms,
            kinds=noise.kinds,
            seed=noise.seed,
            options=options,
        )
        exogenous.read = noise.read
        changes = Changes(self.recomputed, frozenset(), frozenset())
        predicted = propagation.predict(model, exogenous, changes, options=options)
        answer = {k: _rows_where(moved, predicted[k], factual[k]) for k in model.graph.nodes}
        before = provenance.of_prediction(model, answer, exogenous, changes, options)
        status: dict[str, Status] = {
            k: "held" if k in self.held & self.recomputed else s for k, s in before.status.items()
        }
        distances = self._distances(search, nearby, moved)
        missed = zip(self.to, search.gaps(answer), strict=True)
        gaps = {name: gap.detach().abs().max() for name, gap in missed}
        batch = Rows(
            answer,
            noise=parts,
            provenance=replace(
                before, status=status, backtracked=self._accounts(distances, gaps), moved=distances
            ),
        )
        return batch if rows.batched else batch[0]

    def _missed(self, rows: Rows, search: _Search) -> Tensor:
        """Return in which rows an antecedent does not hold yet, `(n,)`."""
        gaps = [(gap != 0).any(1) for gap in search.gaps(rows)]
        gaps += [rows[name] != value for name, value in self.drawn.items()]
        return torch.stack(gaps).any(0)

    def _nearby(self, search: _Search, seed: int) -> Nearest:
        """Return noise under which the antecedents hold."""
        start = search.start
        if not self.to:
            return Nearest(start, start[:, :0], start[:, :0], start[:, None, :][:, :0])
        if self.temperature is not None:
            generator = stream(base_seed(seed, "langevin"), "z", start.device)
            return langevin(search.function, start, self.temperature, generator)
        if self.moves is None:
            return nearest(search.function, start)
        groups = [
            [
                k
                for part in search.parts
                if part.name == name
                for k in range(part.at.start, part.at.stop)
            ]
            for name in self.moving
        ]
        return sparsest(
            search.function,
            start,
            groups,
            self.moves,
            lambda one: self._near(one.gap, one.distance).all(1),
        )

    def _near(self, gap: Tensor, distance: Tensor) -> Tensor:
        """Return where the antecedents are met as nearly as asked, `(n, m)`."""
        near = []
        widths = [target[0].numel() for target in self.to.values()]
        parts = zip(self.to, gap.split(widths, 1), distance.split(widths, 1), strict=True)
        for name, missed, away in parts:
            default = self.model.mechanisms[name].tolerance
            tolerance = default if self.tolerance is None else self.tolerance
            near.append(away <= TOLERANCE if tolerance is None else missed.abs() <= tolerance)
        return torch.cat(near, 1)

    def _check_met(self, nearby: Nearest, moved: Tensor, rows: Rows) -> None:
        if not self.to:
            return
        widths = [target[0].numel() for target in self.to.values()]
        gaps = nearby.gap.split(widths, 1)
        nears = self._near(nearby.gap, nearby.distance).split(widths, 1)
        for (name, target), gap, near in zip(self.to.items(), gaps, nears, strict=True):
            rounding = ROUNDINGS * torch.finfo(rows.batch[name].dtype).eps * target.abs()
            missed = ~(near | (gap.abs() <= rounding.reshape(len(target), -1)))
            missed &= moved[:, None]
            if missed.any():
                row, entry = (int(k) for k in missed.nonzero()[0])
                wanted = target.expand(rows.n, *target.shape[1:]).reshape(rows.n, -1)[row, entry]
                raise ValueError(
                    f"{name}: no noise was found with which it is {float(wanted):g}"
                    + (f" in row {row}" if rows.batched else "")
                    + f"; the nearest gives {float(wanted + gap[row, entry]):g}, a gap of "
                    f"{float(gap[row, entry].abs()):.3g}; ask for a value that its mechanisms can "
                    "give while its discrete ancestors stay as they are, or allow the gap with "
                    "tolerance="
                )

    def _redrawn(
        self,
        values: Mapping[str, Tensor],
        rows: Rows,
        noise: Exogenous,
        options: Mapping[str, Any],
    ) -> dict[str, Noise]:
        """Draw the noise of what keeps its value although its parents move, or takes a new one."""
        new: dict[str, Noise] = {}
        for name in sorted((self.held | self.drawn.keys()) & self.recomputed):
            mechanism = as_queried(self.model.mechanisms[name], options)
            known = {**rows.batch, **values}
            parents = {parent: known[parent].detach() for parent in mechanism.parents}
            generator = stream(base_seed(noise.seed, "backtrack"), name, self.model.device)
            try:
                if name in self.drawn:
                    _check_possible(mechanism, values[name], parents)
                new[name] = mechanism.abduct(values[name], parents, None, generator)
            except ImpossibleError as fault:
                raise (fault.at(fault.row) if rows.batched else fault) from None
        return new

    def _distances(self, search: _Search, nearby: Nearest, moved: Tensor) -> dict[str, Tensor]:
        """Return how far each variable's noise moved, in standard deviations, `(n,)`."""
        squares = {name: torch.zeros(len(moved)).double() for name in self.moving}
        for part in search.parts:
            step = (nearby.point - search.start)[:, part.at].square().sum(1).cpu()
            squares[part.name] += torch.where(moved.cpu(), step, 0.0)
        return {name: square.sqrt() for name, square in squares.items()}

    def _accounts(
        self, distances: Mapping[str, Tensor], gaps: Mapping[str, Tensor]
    ) -> dict[str, str]:
        """Say of each variable above the antecedents what became of its noise, and what is met."""
        accounts = {
            name: f"noise moved by {float(distance.mean()):.3g} standard deviations"
            + (", in the mean over rows" if len(distance) > 1 else "")
            for name, distance in distances.items()
        }
        for name in self.held:
            accounts[name] = "its value kept, as noise of categories and counts has no slope"
            if name in self.recomputed:
                accounts[name] += "; its noise drawn from the exact posterior under the new parents"
        for name, gap in gaps.items():
            account = accounts.get(name, "it has no noise of its own")
            accounts[name] = f"antecedent; {account}; met to {float(gap):.1g}"
        for name in self.drawn:
            accounts[name] = "antecedent; its noise drawn from the exact posterior of its new value"
        return {name: accounts[name] for name in self.above if name in accounts}


def plan(
    model: Model,
    to: Values,
    n: int,
    moves: int | None = None,
    temperature: float | None = None,
    tolerance: float | None = None,
) -> Backtracking:
    """Check what is to hold, and say whose noise may move for it.

    Args:
        model: The model.
        to: Values of the antecedents: one each, or one a row.
        n: Number of rows.
        moves: Number of variables whose noise may move; `None` for all.
        temperature: Variance of draws around the factual noise; `None` for the nearest noise.
        tolerance: How far an antecedent may be missed, in its unit; `None` for its own.

    Raises:
        ValueError: If a name is unknown, a value is outside its variable's support, or no noise
            moves the variable.
    """
    values = {name: _target(model, name, value, n) for name, value in named(to).items()}
    if not values:
        raise ValueError("to: expected a value of at least one variable, got none")
    _check_options(moves, temperature, tolerance)
    drawn = {k: v for k, v in values.items() if model.mechanisms[k].abduction == "posterior"}
    targets = {k: v for k, v in values.items() if k not in drawn}
    names = set(values) | model.graph.ancestors(targets)
    above = tuple(name for name in model.graph.order if name in names)
    mechanisms = model.mechanisms
    for name in above:
        if not model.confounding.members.keys().isdisjoint(mechanisms[name].parents):
            raise ValueError(
                f"{name}: backtracking does not move noise that hidden common causes share; ask "
                "for a variable without them above it, or use counterfactual(..., do=)"
            )
    posterior = frozenset(name for name in above if mechanisms[name].abduction == "posterior")
    held = posterior - drawn.keys()
    moving = tuple(name for name in above if mechanisms[name].wants_noise and name not in posterior)
    sources = {*moving, *drawn}
    recomputed = frozenset(sources) | model.graph.descendants(sources)
    for name in targets:
        if name not in recomputed:
            raise ValueError(
                f"{name}: no noise moves it: it is {mechanisms[name].describe()}, without noise in "
                "itself or above it; use counterfactual(..., do=)"
            )
    return Backtracking(
        model, targets, drawn, moves, temperature, tolerance, above, moving, held, recomputed
    )


def frugal(model: Model, above: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a query with few steps for paths of images, if it does not say how many."""
    paths = [model.mechanisms[name] for name in above]
    steps = [
        max(INVERSIONS[one.solver].least, min(one.steps, PATH_STEPS))
        for one in paths
        if isinstance(one, Path) and isinstance(one.variable, Image)
    ]
    return {"steps": max(steps), **options} if steps else dict(options)


def repeated(model: Model, to: Values, n: int, times: int) -> dict[str, Any]:
    """Repeat antecedents that have one value a row as their rows are repeated."""
    targets = {name: _target(model, name, value, n) for name, value in named(to).items()}
    return {
        k: v[0] if len(v) == 1 else v.repeat(times, *[1] * (v.ndim - 1)) for k, v in targets.items()
    }


def folded(answer: Rows, solutions: int, batched: bool) -> Rows:
    """Give several answers to each row a leading axis of their own."""

    def fold(tensor: Tensor) -> Tensor:
        parts: Tensor = tensor.unflatten(0, (solutions, -1))
        return parts if batched else parts[:, 0]

    return Rows(
        {name: fold(value) for name, value in answer.items()},
        noise={name: map_noise(fold, part) for name, part in (answer.noise or {}).items()},
        batched=batched,
        particles=solutions,
        provenance=answer.provenance,
    )


def _check_options(moves: int | None, temperature: float | None, tolerance: float | None) -> None:
    """Refuse a number of variables, a temperature or a tolerance that means nothing."""
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance: expected a number, at least 0, got {tolerance!r}")
    if moves is not None and (isinstance(moves, bool) or not isinstance(moves, int) or moves < 1):
        raise ValueError(f"moves: expected a whole number of variables, at least 1, got {moves!r}")
    if temperature is not None and not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a number above 0, got {temperature!r}")
    if moves is not None and temperature is not None:
        raise ValueError("moves: give it without temperature=; draws move all noise")


def _target(model: Model, name: str, value: Any, n: int) -> Tensor:
    """Return an antecedent's values, `(n, *shape)` or `(1, *shape)`."""
    if name not in model.variables:
        raise ValueError(f"to: {spell_unknown([name], model.variables)}")
    variable, mechanism = model.variables[name], model.mechanisms[name]
    number = isinstance(variable, Continuous) and not isinstance(variable, Image)
    if not number and mechanism.abduction != "posterior":
        raise ValueError(
            f"{name}: backtracking moves noise along slopes to a number, or draws that of a "
            f"category from its exact posterior, and {name} is {variable} := "
            f"{mechanism.describe()}; use counterfactual(..., do=)"
        )
    target = variable.validate(name, value, mechanism.wide).to(model.device)
    if target.is_floating_point() and not target.isfinite().all():
        raise ValueError(f"to: {name} must be a finite number, got {value!r}")
    target = target if target.ndim > len(variable.shape) else target[None]
    if len(target) not in (1, n):
        raise ValueError(f"to: {len(target)} values of {name} for {n} rows")
    return target


@dataclass(frozen=True)
class _Part:
    """A tensor of one variable's noise, and where its scores lie among the coordinates."""

    name: str
    key: str
    at: slice
    like: Tensor
    score: NormalScore | None  # None: it is standard normal

    def noise(self, z: Tensor) -> Tensor:
        """Return the noise of the scores, in its own type."""
        scores = z[:, self.at].reshape(self.like.shape)
        return (scores if self.score is None else self.score.noise(scores)).to(self.like.dtype)


class _Search:
    """The antecedents' gaps as a function of the scores of the noise."""

    def __init__(
        self, task: Backtracking, rows: Rows, noise: Exogenous, options: Mapping[str, Any]
    ) -> None:
        self.task, self.rows, self.factual = task, rows, noise
        bound = task.model.mechanisms
        self.mechanisms = {name: as_queried(bound[name], options) for name in task.above}
        self.parts, starts, width = list[_Part](), list[Tensor](), 0
        for name in task.moving:
            for key, score in _scores(bound[name], noise[name]).items():
                like = noise_parts(noise[name])[key].detach()
                z = like.double() if score is None else score.score(like)
                starts.append(z.reshape(rows.n, -1))
                end = width + starts[-1].shape[1]
                self.parts.append(_Part(name, key, slice(width, end), like, score))
                width = end
        nothing = torch.zeros(rows.n, 0, dtype=torch.float64, device=task.model.device)
        self.start = torch.cat([nothing, *starts], 1)

    def noise(self, z: Tensor) -> dict[str, Noise]:
        """Return the noise of what moves; parts of it that do not move stay."""
        new: dict[str, Noise] = {name: self.factual[name] for name in self.task.moving}
        for part in self.parts:
            tensor, before = part.noise(z), new[part.name]
            new[part.name] = tensor if isinstance(before, Tensor) else {**before, part.key: tensor}
        return new

    def values(self, z: Tensor) -> dict[str, Tensor]:
        """Return the antecedents and all above them, under the noise of these scores."""
        noise, values = self.noise(z), dict[str, Tensor]()
        for name, mechanism in self.mechanisms.items():
            if name in self.task.drawn:
                value = self.task.drawn[name]
                values[name] = value.expand(self.rows.n, *value.shape[1:])
                continue
            if name not in self.task.recomputed or name in self.task.held:
                values[name] = self.rows[name]
                continue
            parents = {parent: values[parent] for parent in mechanism.parents}
            value = in_parts(mechanism, mechanism.predict, noise.get(name, {}), parents)
            values[name] = value.expand(self.rows.n, *value.shape[1:])
        return values

    def gaps(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """Return value less target of each antecedent, `(n, numbers)`, in double."""
        variables: Mapping[str, Any] = self.task.model.variables
        return [
            variables[name]
            .difference(values[name].double(), target.double())
            .reshape(self.rows.n, -1)
            for name, target in self.task.to.items()
        ]

    def function(self, z: Tensor) -> Tensor:
        """Return all gaps in a line, `(n, m)`."""
        return torch.cat(self.gaps(self.values(z)), 1)


def _scores(mechanism: Mechanism, noise: Noise) -> dict[str, NormalScore | None]:
    """Return how each part of a mechanism's noise that moves is scored; `None` if normal.

    Raises:
        ValueError: If the prior of the noise is not known.
    """
    from rung3.scm.normal_scores import NormalScore  # SciPy's distributions take time to import

    name = mechanism.name
    if isinstance(noise, Tensor):
        prior = mechanism.noise_prior()
        score = None if prior == NORMAL else NormalScore.of(prior)
        if prior == NORMAL or score is not None:
            return {"": score}
    elif isinstance(mechanism, Path) or (
        isinstance(mechanism, Autoencoder) and getattr(mechanism, "mediator", "") != "mixture"
    ):
        return {key: None for key in noise if key not in mechanism.observation_noise}
    raise ValueError(
        f"{name}: backtracking measures noise in standard deviations, and does not know the prior "
        f"of that of {mechanism.describe()}; give it noise that text can name, such as "
        '"Gamma(10, 5)", or one number of it a value'
    )


def _check_possible(mechanism: Mechanism, value: Tensor, parents: Mapping[str, Tensor]) -> None:
    """Refuse a category that its mechanism never gives under these parents."""
    impossible = mechanism.log_prob(value, parents) == -torch.inf
    if impossible.any():
        label = f"{float(value[impossible][0]):g}"
        raise ImpossibleError(mechanism.name, impossible, f"{label} never occurs under its parents")


def _where(mask: Tensor, new: Noise, old: Noise) -> Noise:
    """Take new noise where the mask says so."""
    if isinstance(new, Tensor) and isinstance(old, Tensor):
        return _rows_where(mask, new, old)
    return {
        key: _rows_where(mask, noise_parts(new)[key], part)
        for key, part in noise_parts(old).items()
    }


def _rows_where(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Take new rows where the mask says so, detached."""
    shaped = mask.reshape(-1, *[1] * (new.ndim - 1))
    return torch.where(shaped, new.detach(), old.detach()).to(new.dtype)
