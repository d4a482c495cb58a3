"""Whether counterfactual augmentation makes a classifier robust: six ways to train, side by side.

    plain               the rows as they are
    reweighted          with weights q / p, which make the spurious variable independent
    ordinary            shifts, noise and jitter of colour or brightness
    counterfactuals     rows that `augment` makes with the model
    combined            these, with ordinary augmentation
    true counterfactuals   rows that it makes with the world: the ceiling

Each is tested in the source world, under each shift of its task (lecture 1.4), and in the world in
which the spurious variable is independent of all else. A group has one label and one level of that
variable. Of the m seeds the interval is `mean -+ t s / sqrt(m)`, Student's t of m - 1 degrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn

from rung3.data.pictures import ACCENT, CURVES, INK, pixels
from rung3.data.rows import Rows
from rung3.data.seeding import base_seed, stream
from rung3.data.variables import Discrete, Image
from rung3.evaluation.tasks.classifier import fit_classifier, jittered
from rung3.evaluation.tasks.distribution_shifts import Kind, shifted, shifts
from rung3.scm.scm import SCM
from rung3.training.augmentation.augmented import Augmented
from rung3.training.augmentation.augmenting import augment, prepared
from rung3.training.augmentation.cells import Levels
from rung3.training.augmentation.confirmation import Confirmation, fit_confirmation
from rung3.training.augmentation.plan import Plan
from rung3.training.oracles.oracles import Oracles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ARMS", "MEASURES", "Robustness", "compare_training", "scores_of"]

ARMS = (
    "plain", "reweighted", "ordinary", "counterfactuals", "combined", "true counterfactuals",
)  # fmt: skip
"""Ways to train, the ceiling last."""

JITTERED = ("ordinary", "combined")
"""Those with ordinary augmentation."""

MEASURES = ("accuracy", "calibration error", "worst group", "gap")
"""What is measured: shares all four; the gap is between the best and the worst group."""

UNCONFOUNDED = "unconfounded"
"""The world in which the changed variable is independent of its causes."""

GROUP_ROWS = 30
"""Rows of a group, at least: of fewer a share says little."""

GROUP_LEVELS = 5
"""Intervals of a number that groups are made of, at most."""

CALIBRATION_BINS = 15
"""Intervals of confidence."""

AT_ONCE = 1_000
"""Test images at once."""

SHOWN = 6
"""Rows in the picture."""

Interval = tuple[float, float, float]
"""Mean, low and high."""

Scores = dict[str, dict[str, dict[str, Tensor]]]
"""Numbers by arm, environment and measure, one a seed."""


@dataclass(frozen=True)
class Robustness:
    """How classifiers fare, by way of training, environment and measure.

    Attributes:
        label: Name of what is predicted.
        change: Name of the spurious variable.
        scores: By arm, environment and measure, one number a seed, `(m,)`.
        augmented: What the model made, with the first seed.
        images: A few rows before, as the model has them under another value, and in truth:
            `(3, k, C, H, W)`.
    """

    label: str
    change: str
    scores: Mapping[str, Mapping[str, Mapping[str, Tensor]]]
    augmented: Augmented
    images: Tensor

    @property
    def environments(self) -> list[str]:
        """The names of the environments, the source first."""
        return list(self.scores[ARMS[0]])

    def interval(self, arm: str, environment: str, measure: str) -> Interval:
        """Return mean, low and high over the seeds."""
        return _interval(self.scores[arm][environment][measure])

    def difference(self, arm: str, other: str, environment: str, measure: str) -> Interval:
        """Return mean, low and high of the difference of two arms, paired by seed."""
        return _interval(
            self.scores[arm][environment][measure] - self.scores[other][environment][measure]
        )

    def closed(self, arm: str = "counterfactuals") -> float:
        """Return how much of the way from plain training to the ceiling an arm goes.

        It is that of the worst group in the unconfounded world: 0 is plain, 1 the ceiling.
        """
        plain, arm_mean, ceiling = (
            float(self.scores[name][UNCONFOUNDED]["worst group"].mean())
            for name in ("plain", arm, ARMS[-1])
        )
        return (arm_mean - plain) / (ceiling - plain) if ceiling != plain else float("nan")

    def records(self) -> list[dict[str, Any]]:
        """Return a record for each arm, environment and measure, for a table or JSON."""
        return [
            {"arm": arm, "environment": environment, "measure": measure}
            | dict(zip(("mean", "low", "high"), _interval(values), strict=True))
            for arm, by_environment in self.scores.items()
            for environment, by_measure in by_environment.items()
            for measure, values in by_measure.items()
        ]

    def __str__(self) -> str:
        seeds = len(self.scores[ARMS[0]][UNCONFOUNDED]["accuracy"])
        lines = [f"{self.label} from images, {self.change} spurious; {seeds} seeds, 95 % intervals"]
        for environment in self.environments:
            lines += [f"  {environment}", " " * 26 + "".join(f"{m:>26}" for m in MEASURES)]
            for arm in self.scores:
                cells = (_spell(self.interval(arm, environment, m)) for m in MEASURES)
                lines.append(f"    {arm:<22}" + "".join(f"{cell:>26}" for cell in cells))
        lines.append(f"  from plain to the ceiling, worst group, {UNCONFOUNDED}:")
        lines += [f"    {arm:<22}{self.closed(arm):26.2f}" for arm in ARMS[1:-1]]
        return "\n".join(lines)

    def figure(self) -> Figure:
        """Draw worst groups and accuracies by environment, and some of the images.

        Returns:
            A matplotlib figure; `figure.savefig(path)` writes it.
        """
        return _drawn(self)


def compare_training(
    world: SCM,
    model: SCM,
    rows: Rows,
    label: str,
    plan: Plan,
    *,
    image: str = "image",
    seeds: int = 5,
    steps: int = 500,
    n: int = 4_000,
    seed: int = 0,
    progress: bool = False,
) -> Robustness:
    """Train small classifiers in six ways, and test them where the spurious variable misleads.

    Args:
        world: The source world, in which the label tells the changed variable.
        model: A model fitted to its rows.
        rows: Training rows of the world, with their noise.
        label: What is predicted, a category.
        plan: How rows are augmented; the variable that it changes is the one that misleads.
        image: What the label is predicted from.
        seeds: Number of trainings of each way.
        steps: Steps of a training, the same for all.
        n: Rows of each test.
        seed: Of all that is drawn.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If names or kinds do not fit, the plan cannot be met, or there are fewer than
            two seeds.
    """
    _check(world, label, image, seeds)
    confirmation = fit_confirmation(model, prepared(model, rows, plan), seed, progress)
    levels = Levels.of_rows(world.variables[plan.change], rows[plan.change], GROUP_LEVELS)
    tests = {
        name: _Test(environment, label, image, levels.of(environment[plan.change]))
        for name, environment in _environments(world, label, image, plan.change, n, seed)
    }
    trainings = _Trainings(world, model, rows, plan, label, image, confirmation, steps, seed)
    scores = _scored(trainings, tests, seeds)
    augmented = trainings.first
    examples = _examples(world, rows, augmented, image, seed)
    return Robustness(label, plan.change, scores, augmented, examples)


def _check(world: SCM, label: str, image: str, seeds: int) -> None:
    if seeds < 2:
        raise ValueError(f"seeds={seeds}: an interval over seeds needs two at least")
    kind = world.variables.get(label)
    if not isinstance(kind, Discrete) or not isinstance(world.variables.get(image), Image):
        raise ValueError(f"label={label!r}, image={image!r}: expected a category and an image")


def _scored(trainings: _Trainings, tests: Mapping[str, _Test], seeds: int) -> Scores:
    """Return the scores of all arms in all environments, one number a seed."""
    scores: Scores = {}
    for arm in ARMS:
        networks = [trainings.fit(arm, number) for number in range(seeds)]
        scores[arm] = {}
        for name, test in tests.items():
            by_seed = [test.scores(network) for network in networks]
            scores[arm][name] = {m: torch.tensor([one[m] for one in by_seed]) for m in MEASURES}
    return scores


class _Trainings:
    """Classifiers of each way and seed; counterfactuals are made again for each seed.

    Attributes:
        first: What the model made with the first seed.
    """

    first: Augmented

    def __init__(
        self,
        world: SCM,
        model: SCM,
        rows: Rows,
        plan: Plan,
        label: str,
        image: str,
        confirmation: Confirmation,
        steps: int,
        seed: int,
    ) -> None:
        self.rows, self.plan, self.label, self.image = rows, plan, label, image
        self.steps, self.seed = steps, seed
        self.kinds = world.variables
        nothing = Confirmation(Oracles({}), {})
        self.makers = {
            "counterfactuals": (model, confirmation),
            "combined": (model, confirmation),
            ARMS[-1]: (world, nothing),
        }
        target = prepared(model, rows, plan)
        self.weights = target.weights(target.cell(torch.arange(rows.n), rows[plan.change]))

    def augmented(self, arm: str, number: int) -> Augmented:
        """Make the rows of an arm, under one seed."""
        model, confirmation = self.makers[arm]
        seed = base_seed(self.seed, f"{number}")
        augmented = augment(model, self.rows, self.plan, confirmation=confirmation, seed=seed)
        if arm == "counterfactuals" and number == 0:
            self.first = augmented
        return augmented

    def fit(self, arm: str, number: int) -> nn.Module:
        """Train one classifier."""
        rows, weights = self.rows, None
        if arm in self.makers:
            augmented = self.augmented(arm, number)
            rows, weights = augmented.rows, augmented.weight
        elif arm == "reweighted":
            weights = self.weights
        kind, view = self.kinds[self.label], self.kinds[self.image]
        assert isinstance(kind, Discrete)
        assert isinstance(view, Image)
        return fit_classifier(
            view,
            kind.classes,
            rows[self.image].float(),
            rows[self.label],
            weights=weights,
            transform=jittered if arm in JITTERED else None,
            steps=self.steps,
            seed=base_seed(self.seed, f"classifier {number}"),
        )


class _Test:
    """Rows of one environment, and the group of each."""

    def __init__(self, rows: Rows, label: str, image: str, level: Tensor) -> None:
        self.images, self.labels = rows[image].float(), rows[label].long()
        self.groups = self.labels * (int(level.max()) + 1) + level

    def scores(self, network: nn.Module) -> dict[str, float]:
        """Score a classifier."""
        with torch.no_grad():
            logits = torch.cat([network(part) for part in self.images.split(AT_ONCE)])
        return scores_of(logits.softmax(1), self.labels, self.groups)


def scores_of(probabilities: Tensor, labels: Tensor, groups: Tensor) -> dict[str, float]:
    """Return accuracy, calibration error, worst group and gap.

    Args:
        probabilities: Of each class, `(n, K)`.
        labels: True classes, `(n,)`.
        groups: Number of each row's group, `(n,)`; groups of fewer than 30 rows are left out.

    Example:
        >>> sure = torch.tensor([[1.0, 0.0]]).repeat(80, 1)
        >>> half = torch.arange(80) // 40
        >>> scores_of(sure, half, half)
        {'accuracy': 0.5, 'calibration error': 0.5, 'worst group': 0.0, 'gap': 1.0}
    """
    confidence, guess = probabilities.max(1)
    right = (guess == labels).double()
    bins = (confidence * CALIBRATION_BINS).long().clamp_max(CALIBRATION_BINS - 1)
    error = sum(abs(float((right[bins == b] - confidence[bins == b]).sum())) for b in bins.unique())
    names, counts = groups.unique(return_counts=True)
    by_group = [float(right[groups == g].mean()) for g in names[counts >= GROUP_ROWS]]
    by_group = by_group or [float(right.mean())]
    return {
        "accuracy": float(right.mean()),
        "calibration error": error / len(labels),
        "worst group": min(by_group),
        "gap": max(by_group) - min(by_group),
    }


def _environments(
    world: SCM, label: str, image: str, change: str, n: int, seed: int
) -> Iterator[tuple[str, Rows]]:
    """Yield test rows of the source, of each kind of shift, and of the unconfounded world."""
    base = base_seed(seed, "test")
    source = world.sample(n, seed=base)
    yield "source", source
    known = {shift.kind for shift in shifts(world.graph, label, image).values()}
    for kind in get_args(Kind):
        if kind in known:
            yield kind, shifted(world, kind, label, image).sample(n, seed=base)
    order = torch.randperm(n, generator=stream(base, "unconfounded"))
    yield UNCONFOUNDED, world.do({change: source[change][order]}).sample(n, seed=base)


def _examples(world: SCM, rows: Rows, augmented: Augmented, image: str, seed: int) -> Tensor:
    """Return a few rows as they were, as the model has them under another value, and in truth."""
    change = augmented.change
    at = (~augmented.factual).nonzero()[:SHOWN, 0]
    factual = rows[augmented.source[at]]
    truth = world.counterfactual(factual, {change: augmented.rows[change][at]}, seed=seed)
    return torch.stack([factual[image], augmented.rows[image][at], truth[image]]).float()


def _interval(values: Tensor) -> Interval:
    from scipy.stats import t

    m = len(values)
    mean = float(values.mean())
    half = float(t.ppf(0.975, m - 1) * values.double().std() / m**0.5)
    return mean, mean - half, mean + half


def _spell(value: Interval) -> str:
    mean, low, high = value
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _drawn(result: Robustness) -> Figure:
    from matplotlib.figure import Figure

    shown = result.images.shape[1]
    names = result.environments
    figure = Figure(figsize=(max(2.0 * len(names), 1.1 * shown), 5.2), layout="constrained")
    parts = figure.add_gridspec(2, 1, height_ratios=(2.2, 3))
    above, below = figure.add_subfigure(parts[0]), figure.add_subfigure(parts[1])
    axes = above.subplots(3, shown, squeeze=False)
    for line, name in zip(range(3), ("as it was", "counterfactual", "truth"), strict=True):
        for column in range(shown):
            axes[line, column].imshow(
                pixels(result.images[line, column]).numpy(), cmap="gray", vmin=0, vmax=1
            )
            axes[line, column].set_xticks([])
            axes[line, column].set_yticks([])
        axes[line, 0].set_ylabel(name, fontsize=7, color=INK, rotation=0, ha="right", va="center")
    panels = below.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        _panel(panel, result, name)
    panels[0].set_yticks(range(len(ARMS)), ARMS, fontsize=7, color=INK)
    panels[0].invert_yaxis()
    below.supxlabel(
        "accuracy in the worst group (dot) and in all rows (line)", fontsize=7, color=INK
    )
    return figure


def _panel(axes: Any, result: Robustness, environment: str) -> None:
    """Draw one environment: an arm a line, with the interval of its worst group."""
    for place, arm in enumerate(ARMS):
        mean, low, high = result.interval(arm, environment, "worst group")
        colour = ACCENT if arm == "counterfactuals" else CURVES[2] if arm == ARMS[-1] else INK
        axes.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt="o", ms=4, color=colour)
        overall = result.interval(arm, environment, "accuracy")[0]
        axes.plot([overall] * 2, [place - 0.25, place + 0.25], color=colour, lw=1)
    axes.set_title(environment, fontsize=8, color=INK)
    axes.tick_params(colors=INK, labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(-0.03, 1.03)
