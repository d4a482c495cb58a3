"""`CounterfactualObjective`: train an image mechanism for its answers, not its likelihood alone.

An image mechanism may explain its data well and still not listen to its parents: what they say can
be read off the image, and then the latents carry it. Here the images that it imagines are judged in
training (De Sousa Ribeiro et al. 2023, arXiv 2306.15764, section 3.3). At every step variables are
set to other rows' values, `do(a := a')`, what lies below them follows by the model's other
mechanisms, which stay as they are, and with the imagined image x~ of the abducted noise under the
counterfactual parents pa~ and predictors q_k of the parents, frozen too,

    minimise  -sum_k log q_k(pa~_k | x~)   subject to   NELBO(x, pa) <= c,

c being what the mechanism came to before the first step. Or, from the start of training,

    minimise  NELBO(x, pa) - w sum_k log q_k(pa~_k | x~).

With *soft* targets a parent that is neither set nor below one that is should look as it did, and
not as its label says: `log q_k(pa~_k | x~)` is then its expectation under `q_k(. | x)`. That keeps
attributes from being amplified (Xia et al. 2024, arXiv 2403.09422). See
`rung3.training.counterfactual.loss` for the loss itself.

A mechanism may learn to please a predictor instead of showing what was asked for. Several
predictors (a `committee`), and images that are moved a little before they are read (`jitter`), make
that harder than to draw what is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, Strict

from rung3.data.validation import (
    Count,
    NonNegative,
    Positive,
    Share,
    Validated,
    WholeNumber,
    expected,
)
from rung3.training.oracles.oracles import Oracles

__all__ = ["CounterfactualObjective"]

REFINING_RATE = 1e-4
"""Learning rate of a mechanism that was fitted before."""

if TYPE_CHECKING:
    Names = Sequence[str]
    Committee = Oracles | Sequence[Oracles]
    Regions = Mapping[str, Sequence[str]]
else:
    Committee = Annotated[
        Oracles | Annotated[tuple[Oracles, ...], Field(min_length=1), Strict(False)],
        expected("Oracles, as fit_oracles returns them, or a list of them"),
    ]
    Names = Annotated[
        tuple[str, ...], Field(min_length=1), Strict(False), expected("a list of names")
    ]
    Regions = Annotated[
        dict[str, Annotated[tuple[str | int, ...], Field(min_length=2), Strict(False)]],
        expected("a mask and its kinds by parent, such as {'volume': ['mask', 'ventricle']}"),
    ]


@dataclass(frozen=True, kw_only=True)
class CounterfactualObjective(Validated):
    """The counterfactual objective of image mechanisms: `fit(model, rows, objective=...)`.

    Without a `weight` it is for a mechanism that was fitted by its likelihood before: the
    likelihood is held, and the learning rate is 1e-4 if `fit` is not told. With one, it is there
    from the start of training. The mechanisms that carry an intervention on to the image must be
    fitted.

    Args:
        intervene: Variables that are set, causes of the image; by default all of its parents except
            images and those that the predictors cannot read.
        at_once: How many of them are set together, redrawn at every step.
        soft: Whether parents that are not set, and not effects of one that is, should look as they
            did, rather than as their labels say.
        kept: Share of rows whose noise of observation (eps) is kept; the others are predicted from
            the latents alone.
        share: Share of a batch's rows that counterfactuals are made of.
        weight: Weight of the predictors' log-loss, nat for nat against the likelihood; if not
            given, the likelihood is a constraint instead.
        after: With a weight: first steps, by likelihood alone.
        ramp: With a weight: steps over which it then rises from 0.
        margin: Of the constraint: how much the loss may rise, as a share of its first value.
        rate: Of the constraint: rate of the multiplier's ascent, times the damping.
        damping: Of the constraint: what a loss above it costs at once, see
            `rung3.training.counterfactual.loss`.
        committee: Number of predictors of each parent, with different seeds, of which every step
            uses one: details that please only one of them do not pay.
        jitter: Most pixels by which images are moved up or down and left or right before predictors
            see them, anew at every step.
        segment: Parents that are measured by the size of a region, each with the name of a mask
            that the image causes and the labels of the kinds that make up the region, such as
            `{"ventricle": ["mask", "ventricle"]}`: a segmentor that is trained then takes the place
            of the parent's predictor; see `rung3.training.counterfactual.segmentor`.
        predictors: Oracles of the parents (`rung3.evaluation.fit_oracles`), not those that will
            judge the model, or a list of them, one for each member of the committee; if not given,
            the objective trains its own.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> CounterfactualObjective(weight=1.0, soft=True)
        CounterfactualObjective(soft=True, weight=1.0)
    """

    intervene: Names | None = None
    at_once: Count = 1
    soft: bool = False
    kept: Share = 1.0
    share: Annotated[float, Field(gt=0, le=1), expected("a share between 0 and 1, above 0")] = 0.5
    weight: Positive | None = None
    after: WholeNumber = 300
    ramp: WholeNumber = 300
    margin: NonNegative = 0.0
    rate: NonNegative = 1e-2
    damping: NonNegative = 100.0
    committee: Count = 1
    jitter: WholeNumber = 0
    segment: Regions | None = None
    predictors: Committee | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.predictors is not None and self.committee not in (1, len(self.members)):
            raise ValueError(
                f"committee={self.committee}: {len(self.members)} were given as predictors; give "
                "as many, or leave one of the two out"
            )
        if len(set(self.intervene or ())) < len(self.intervene or ()):
            raise ValueError(f"intervene={list(self.intervene or ())} names a variable twice")
        if self.intervene and self.at_once > len(self.intervene):
            raise ValueError(
                f"at_once={self.at_once} must be at least 1, and at most the number of variables "
                "that are set"
            )

    @property
    def members(self) -> list[Oracles]:
        """The predictors given, by member of the committee."""
        given = self.predictors
        return [given] if isinstance(given, Oracles) else list(given or ())

    @property
    def lr(self) -> float | None:
        """The learning rate where none is given; none of its own with a weight."""
        return REFINING_RATE if self.weight is None else None

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"CounterfactualObjective({settings})"

    def config(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, the predictors aside."""
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "predictors"}
        defaults = {f.name: f.default for f in fields(self)}
        return {name: _plain(value) for name, value in options.items() if value != defaults[name]}


def _plain(value: Any) -> Any:
    """Return a value as a file of settings has it: lists, not tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return list(value) if isinstance(value, tuple) else value
