"""`effect`: the effect of one column on another, by the way that a graph allows, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rung3.data.columns import gaps, say_gaps
from rung3.data.number_text import numbers_alike
from rung3.data.rows import Values, named
from rung3.data.seeding import Seed
from rung3.data.streaming import Streamed
from rung3.data.variables import Discrete, Variable
from rung3.effects.estimate import AVERAGE, PROPORTION, Estimate, Form
from rung3.effects.tables.answer import Answer, Curve
from rung3.effects.tables.by_batches import read_by_batches, refuse_for_batches
from rung3.effects.tables.completeness import completeness
from rung3.effects.tables.imputation import imputed, pooled
from rung3.effects.tables.influence import Influence
from rung3.effects.tables.m_estimation import Estimand, Method
from rung3.effects.tables.pooling import partially_pooled
from rung3.effects.tables.question import Question
from rung3.effects.tables.sample import Sample
from rung3.effects.tables.ways import find_way
from rung3.scm.scm import SCM

__all__ = ["Effect", "Missing", "effect"]

Missing = Literal["complete", "weight"]


@dataclass(frozen=True)
class Effect:
    """An effect estimated from a table.

    Attributes:
        effect: `E[Y | do] - E[Y | versus]` in the outcome's unit; of a continuous treatment whose
            doses are not given, the average derivative, a unit of treatment.
        means: `E[Y | do]` and `E[Y | versus]`; `None` where the way tells the effect alone.
        treatment: Name of the treatment.
        outcome: Name of the outcome.
        compared: What the treatment was set to, and what that is compared with, as text; empty
            of an average derivative.
        adjusted: Names of the variables that were adjusted for.
        method: How it was estimated.
        way: How it is identified.
        through: The mediators of a front door, or the instruments.
        estimand: Whose effect: of all (ATE), of the treated (ATT) or of the untreated (ATU).
        ratio: `E[Y | do] / E[Y | versus]`, where both are positive.
        odds_ratio: Ratio of the odds, where the outcome is yes or no.
        groups: The effect in each group; their intervals hold all together at the level, or, if
            they are pooled, each by itself.
        curve: Of a continuous treatment, the mean outcome at its doses.
        least: Smallest estimated probability of an arm in any row; where it is far below 1 / n,
            the estimate rests on few rows.
        strength: First-stage F of instruments.
        level: Nominal coverage of the intervals.
        n: Number of rows.
        gaps: How many more rows were left out, for a gap in a column that is used.
        kinds: Variables that were not declared, and were read off their values.
        notes: What must be said beside the numbers.
        horizon: Of censored times, up to which time their means are.
    """

    effect: Estimate[float]
    means: tuple[Estimate[float], Estimate[float]] | None
    treatment: str
    outcome: str
    compared: tuple[str, str] | tuple[()]
    adjusted: tuple[str, ...]
    method: str
    way: str
    through: tuple[str, ...]
    estimand: Estimand
    ratio: Estimate[float] | None
    odds_ratio: Estimate[float] | None
    groups: Mapping[str, Estimate[float]]
    curve: Curve | None
    least: float
    strength: float | None
    level: float
    n: int
    gaps: int = 0
    kinds: Mapping[str, Variable] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    horizon: float | None = None

    @property
    def do(self) -> Estimate[float]:
        """`E[Y | do]`.

        Raises:
            ValueError: If the way tells the effect alone.
        """
        return self._mean(0)

    @property
    def versus(self) -> Estimate[float]:
        """`E[Y | versus]`.

        Raises:
            ValueError: If the way tells the effect alone.
        """
        return self._mean(1)

    def _mean(self, place: int) -> Estimate[float]:
        if self.means is None:
            raise ValueError(
                f"the mean of {self.outcome} under either value is not known: by {self.how}, only "
                "the effect is"
            )
        return self.means[place]

    @property
    def how(self) -> str:
        """By which way, and what it rests on, as text."""
        names = ", ".join(self.through)
        given = ", ".join(self.adjusted)
        match self.way:
            case "back-door":
                return f"adjusted for {given or 'nothing'}"
            case "front-door":
                return f"by the front door ({names})"
            case "instrument":
                plural = "s" if len(self.through) > 1 else ""
                return f"by the instrument{plural} {names}{' given ' + given if given else ''}"
        return f"by the formula of the ID algorithm (from {names})"

    @property
    def answer(self) -> str:
        """The effect in a sentence."""
        if self.compared:
            what = f"Setting {self.treatment} to {self.compared[0]} instead of {self.compared[1]}"
        else:
            what = f"One more unit of {self.treatment}"
        among = {"ATT": " in those who had it", "ATU": " in those who did not"}.get(
            self.estimand, ""
        )
        until = "" if self.horizon is None else f" up to {self.horizon:g}"
        value = self.effect.effect
        by, *ends = numbers_alike([abs(value), self.effect.low, self.effect.high])
        if value == 0:
            sentence = f"does not change {self.outcome}{until}"
        else:
            direction = "raises" if value > 0 else "lowers"
            sentence = f"{direction} {self.outcome}{until} by {by}"
        return f"{what} {sentence} on average{among}; {self._interval(*ends)}."

    def _interval(self, below: str, above: str) -> str:
        """Return the interval of the effect as a clause; of what is lowered, it is below zero."""
        low, high = self.effect.low, self.effect.high
        if math.isinf(low) and math.isinf(high):
            return f"the rows do not bound it (the {self.level:.0%} interval has no ends)"
        of = " of the change" if self.effect.effect < 0 else ""
        sure = " (the interval holds zero)" if low < high and 0.0 in self.effect else ""
        return f"{self.level:.0%} interval{of} {below} to {above}{sure}"

    def __str__(self) -> str:
        both = "" if self.means is None else f" ({self.means[0]} against {self.means[1]})"
        estimand = "" if self.estimand == "ATE" else f"{self.estimand} "
        unit = "" if self.compared else f" a unit of {self.treatment}"
        head = f"{estimand}{self.effect}{unit}{both}, {self.how}"
        if self.strength is not None:
            head += f", first-stage F = {self.strength:.1f}"
        head += say_gaps(self.gaps)
        read_off = ", ".join(f"{name}: {kind}" for name, kind in self.kinds.items())
        lines = [f"{head}; read off their values: {read_off}" if read_off else head]
        lines += [f"    {name}: {estimate}" for name, estimate in self.groups.items()]
        return "\n".join([*lines, *(f"    {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        """Return the answer and its numbers for a notebook."""
        named = {"effect": self.effect, "ratio": self.ratio, "odds ratio": self.odds_ratio}
        lines = {name: one for name, one in named.items() if one is not None} | dict(self.groups)
        if self.curve is not None:
            doses = (
                f"{self.outcome} at {self.treatment} = {dose:.4g}" for dose in self.curve.doses
            )
            lines |= dict(zip(doses, self.curve.means, strict=True))
        cells = "".join(
            f"<tr><td>{escape(name)}</td><td>{value}</td><td>{low} to {high}</td></tr>"
            for name, one in lines.items()
            for value, low, high in [numbers_alike([one.effect, one.low, one.high])]
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in (self.how, *self.notes))
        return f"<p><b>{escape(self.answer)}</b></p><table>{cells}</table>{notes}"


def effect(
    table: Values | Streamed,
    treatment: str,
    outcome: str,
    *,
    do: Any = None,
    versus: Any = None,
    adjust: Iterable[str] | None = None,
    graph: Any = None,
    instrument: Iterable[str] | None = None,
    estimand: Estimand = "ATE",
    by: str | None = None,
    bins: int = 4,
    pool: bool = False,
    method: Method = "aipw",
    learner: Any = None,
    folds: int = 5,
    event: Any = None,
    degree: int = 1,
    terms: Sequence[str] = (),
    weights: str | None = None,
    clusters: str | None = None,
    observed: str | None = None,
    horizon: float | None = None,
    missing: Missing = "complete",
    impute: SCM | Sequence[SCM] | None = None,
    variables: Mapping[str, Variable] | None = None,
    level: float = 0.95,
    seed: Seed = 0,
) -> Effect:
    """Estimate the average effect of a treatment on an outcome.

    With a graph, the way is found: adjustment where a set closes every back door; else the front
    door; else the formula of the ID algorithm, on categories; else instruments. The answer names
    it.

    Args:
        table: A mapping from name to values, a data frame, or rows; of its rows those that have
            all the columns that are used. Or a table that is read by batches
            (`rung3.data.streamed`), in one pass where the columns have few combinations of values:
            see `rung3.effects.tables.by_batches`.
        treatment: Name of the treatment: a category, or a number.
        outcome: Name of the outcome: numbers, or levels taken as numbers.
        do: The value of the treatment; of a category 1 if not given (of a labelled one, the
            second). Of a number, without both values the effect is the average derivative.
        versus: The value that it is compared with; of a category 0 if not given (the first).
        adjust: Names of what is adjusted for. With a graph they are checked; if not given, it is
            the graph's minimal set that is nearest to the outcome.
        graph: The causal graph, or what makes one, such as text.
        instrument: Names of instruments, to be used whatever other ways there are.
        estimand: Of a discrete treatment, by adjustment: `"ATE"`, of all rows; `"ATT"`, of those
            with `do`; or `"ATU"`, of those with `versus`.
        by: A column whose groups' effects are asked for as well; no effect of the treatment.
        bins: Number of groups of a number.
        pool: Whether the groups' effects are partially pooled: those of small groups lean on all.
        method: `"standardise"`, `"ipw"` or `"aipw"`.
        learner: A scikit-learn regressor instead of linear models, by cross-fitting; or a pair, of
            a regressor of the outcome and a classifier of the treatment.
        folds: Of cross-fitting.
        event: A value of the outcome, whose probability is then the outcome.
        degree: Degree of the polynomial that continuous variables enter the models by.
        terms: Further terms of the models, such as `"age * sex"`.
        weights: Name of a column of survey weights.
        clusters: Name of a column that says whose row it is, where subjects have several.
        observed: Of an outcome that is a time: name of a column that is 1 where its end was seen,
            and 0 where follow-up ended before. Means are then those of `min(time, horizon)`.
        horizon: Time up to which they are restricted.
        missing: What becomes of rows with gaps: `"complete"` leaves them out, which is right if
            gaps come by chance; `"weight"` lets complete rows stand for those that are like them
            in the columns without gaps.
        impute: A fitted SCM that fills the gaps, 20 times; or several, which fill them once each:
            `rung3.effects.refits` gives some, and the interval then holds their learning.
        variables: What the columns are; read off their values where not given.
        level: Nominal coverage of the intervals.
        seed: Of the folds.

    Raises:
        ValueError: If a column is lacking or of the wrong kind, there is no way (it says what
            would help), a stratum lacks an arm (named), or a model cannot be fitted.

    Example:
        >>> from rung3 import data
        >>> from rung3.data.readers.kidney_stones import VARIABLES
        >>> graph = "size -> treatment; {size treatment} -> recovery"
        >>> print(effect(data.kidney_stones(), "treatment", "recovery", do="A", versus="B",
        ...     graph=graph, variables=VARIABLES))
        0.054 [-0.013, 0.120] (0.833 [0.794, 0.871] against 0.779 [0.724, 0.834]),
        adjusted for size
    """
    _check_options(method, estimand, missing, level, degree)
    if pool and by is None:
        raise ValueError("pool: say with by= which groups")
    way = find_way(treatment, outcome, adjust, graph, instrument, by)
    if way.name != "back-door" and (estimand != "ATE" or by is not None or learner is not None):
        raise ValueError(f"estimand, by and learner: only by adjustment, not by the {way.name}")
    options: dict[str, Any] = {
        "event": event,
        "weights": weights,
        "clusters": clusters,
        "by": by,
        "bins": bins,
        "degree": degree,
        "terms": terms,
        "observed": observed,
        "horizon": horizon,
    }
    if observed is not None and (weights is not None or missing == "weight"):
        raise ValueError("observed: not with weights= or missing='weight'; impute, or leave out")
    question = Question(way, do, versus, method, estimand, learner, folds, pool, level, seed)
    if isinstance(table, Streamed):
        refuse_for_batches(options, missing, impute, learner)
        read = read_by_batches(table, variables, treatment, outcome, question, options)
        return _effect(*read, question, variables or {})
    table = named(table)
    if impute is not None:
        return _imputed(table, variables, treatment, outcome, question, impute, options)
    sample = Sample.read(table, variables, treatment, outcome, way.used, **options)
    gapped = completeness(table, sample, clusters) if missing == "weight" else None
    answer, compared = question.of(sample if gapped is None else gapped.sample)
    answer = answer if gapped is None else gapped.spread(answer)
    left_out = 0 if gapped is not None else gaps(table, list(sample.rows))
    return _effect(sample, answer, compared, left_out, question, variables or {})


def _check_options(method: str, estimand: str, missing: str, level: float, degree: int) -> None:
    for name, value, allowed in (
        ("method", method, Method),
        ("estimand", estimand, Estimand),
        ("missing", missing, Missing),
    ):
        if value not in get_args(allowed):
            raise ValueError(f"{name}: expected one of {list(get_args(allowed))}, got {value!r}")
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1, such as 0.95")
    if degree < 1:
        raise ValueError(f"degree={degree} must be at least 1")


def _imputed(
    table: Mapping[str, Any],
    variables: Mapping[str, Variable] | None,
    treatment: str,
    outcome: str,
    question: Question,
    impute: SCM | Sequence[SCM],
    options: Mapping[str, Any],
) -> Effect:
    """Estimate the effect from completed tables."""
    models = [impute] if isinstance(impute, SCM) else list(impute)
    if not models:
        raise ValueError("impute: expected a fitted SCM, or several")
    tables, kinds = imputed(table, models, question.seed)
    stated = {**kinds, **(variables or {})}
    samples = [
        Sample.read(one, stated, treatment, outcome, question.way.used, **options) for one in tables
    ]
    answers = [question.of(sample) for sample in samples]
    answer = pooled([one for one, _ in answers], len(models))
    left_out = gaps(tables[0], list(samples[0].rows))
    return _effect(samples[0], answer, answers[0][1], left_out, question, stated)


def _effect(
    sample: Sample,
    answer: Answer,
    compared: tuple[str, str] | tuple[()],
    left_out: int,
    question: Question,
    stated: Mapping[str, Variable],
) -> Effect:
    form = _form(float(sample.y.abs().max()))
    means = None
    if answer.means is not None:
        means = tuple(answer.means.intervals(question.level, form=form))
    ratio, odds_ratio = _ratios(sample, answer, question.level)
    of_all = _of_all(sample, answer, question.level, form)
    rest = answer.contrast.then(lambda v: v[1:])
    names = [name for name in sample.groups if name]
    groups, notes = _groups(rest, question, of_all.form) if names else ([], ())
    way = question.way
    other = [name for name in way.used if name not in (sample.treatment, sample.outcome)]
    return Effect(
        effect=of_all,
        means=means,  # type: ignore[arg-type]
        treatment=sample.treatment,
        outcome=sample.outcome,
        compared=compared,
        adjusted=way.given,
        method=question.method,
        way=way.name,
        through=way.through or (tuple(other) if way.name == "ID algorithm" else ()),
        estimand=question.estimand,
        ratio=ratio,
        odds_ratio=odds_ratio,
        groups=dict(zip(names, groups, strict=True)),
        curve=_curve(answer, question, form),
        least=answer.least,
        strength=answer.strength,
        level=question.level,
        n=sample.total,
        gaps=left_out,
        kinds={name: kind for name, kind in sample.kinds.items() if name not in stated},
        notes=(*sample.notes, *answer.notes, *notes),
        horizon=sample.horizon,
    )


def _of_all(sample: Sample, answer: Answer, level: float, form: Form) -> Estimate[float]:
    """Return the effect in all rows; between arms, what is as small as rounding errors is zero."""
    estimate = answer.contrast.then(lambda v: v[:1]).intervals(level, form=form)[0]
    if answer.interval is not None:
        estimate = Estimate(estimate.value, *answer.interval, level=level, form=form)
    ends = [estimate.effect, estimate.low, estimate.high]
    if isinstance(sample.kinds[sample.treatment], Discrete):  # a unit of others may be tiny
        size = UNSOLVED if sample.binary else ROUNDING * float(sample.y.abs().max())
        ends = [0.0 if abs(end) < size else end for end in ends]
    value, low, high = ends
    by_size = _form(max(map(abs, ends)))
    return Estimate(value, low, high, level=level, form=form if by_size is PROPORTION else by_size)


def _form(size: float) -> Form:
    """Return how numbers are printed of which the largest has a size."""
    return PROPORTION if size == 0 or SMALLEST_SHARE <= size <= PRINTED_AS_SHARES else AVERAGE


def _curve(answer: Answer, question: Question, form: Form) -> Curve | None:
    if answer.curve is None:
        return None
    band = answer.curve.intervals(question.level, simultaneous=True, form=form)
    return Curve(answer.doses, tuple(band))


def _groups(
    effects: Influence, question: Question, form: Form
) -> tuple[list[Estimate[float]], tuple[str, ...]]:
    """Return the effects in the groups, and what their intervals hold."""
    if not question.pool:
        together = f"the {question.level:.0%} intervals of the groups hold all together"
        return effects.intervals(question.level, simultaneous=True, form=form), (together,)
    pooled, spread = partially_pooled(effects.values, effects.errors, question.level, form)
    note = f"groups are partially pooled: their effects differ by {spread:.3g} (deviation)"
    return pooled, (note,)


ROUNDING = 1e-12
"""Size of an effect, in units of the largest outcome, that is an error of rounding."""

UNSOLVED = 1e-9
"""Difference of two probabilities that is an error of the steps by which they are solved for."""

SMALLEST_SHARE = 0.005
"""Numbers from this size on are printed with three decimals, smaller ones with four digits."""

PRINTED_AS_SHARES = 100.0
"""Numbers up to this size are printed with three decimals, larger ones with four digits."""


def _ratios(
    sample: Sample, answer: Answer, level: float
) -> tuple[Estimate[float] | None, Estimate[float] | None]:
    """Return the ratio of the means, and of the odds, with intervals on the logarithm's scale."""
    means = answer.means
    least = UNSOLVED if sample.binary else 0.0
    # Of amounts below zero, such as a change, a ratio says nothing; pseudo-values of times may be.
    signed = sample.horizon is None and bool((sample.y < 0).any())
    if means is None or signed or not bool((means.values > least).all()):
        return None, None

    def log_ratio(values: Tensor) -> Tensor:
        return (values[0].log() - values[1].log())[None]

    ratio = _exponential(means.then(log_ratio).intervals(level)[0])
    if not sample.binary or not bool((means.values < 1 - least).all()):
        return ratio, None

    def log_odds_ratio(values: Tensor) -> Tensor:
        return (torch.logit(values[0]) - torch.logit(values[1]))[None]

    return ratio, _exponential(means.then(log_odds_ratio).intervals(level)[0])


def _exponential(estimate: Estimate[float]) -> Estimate[float]:
    value, low, high = (
        float(torch.tensor(end, dtype=torch.float64).exp())
        for end in (estimate.effect, estimate.low, estimate.high)
    )
    return Estimate(value, low, high, level=estimate.level)
