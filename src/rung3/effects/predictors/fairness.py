r"""`audit`: why a predictor treats groups differently, and whose decision would have been another.

Of a protected variable X, the groups x1 and x0 differ in Y by `E[Y | x1] - E[Y | x0]`. With W the
variables between X and Y, this disparity is the sum of three (Zhang and Bareinboim 2018, *Fairness
in decision-making: the causal explanation formula*, AAAI, Theorem 1):

    direct    = E[Y - Y(x0, W(x1)) | x1]               = -Ctf-DE_{x1,x0}(y | x1)
    indirect  = E[Y(x0, W(x1)) - Y(x0, W(x0)) | x1]    =  Ctf-IE_{x0,x1}(y | x1)
    spurious  = E[Y(x0) | x1] - E[Y | x0]              =  Ctf-SE_{x0,x1}(y)

The direct part is what being x1 does by itself, the indirect part what it does through W, and the
spurious part what the groups would still differ in, were all x0: what comes before X. Potential
outcomes are computed row by row, from the noise abducted from the rows of x1. A predictor is one
more variable, caused by what it reads. An image is not a mediator of its own: what X does to it by
no other variable is direct.

The share of rows whose decision changes when X is set to the other value, and all else follows, is
the flip rate (Kusner et al. 2017, *Counterfactual fairness*). Data do not identify it where
categories lie in between; the bounds of `rung3.effects.bounds.row_bounds` then come with it.

The interval of a difference of two group means is put together from the intervals of both (Zou and
Donner 2008, *Construction of confidence limits about effect measures*, Statistics in Medicine 27):

    low = a - b - sqrt((a - a_low)^2 + (b_high - b)^2),   high alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rung3.data.printed import Printed
from rung3.data.rows import Rows, Values
from rung3.data.seeding import Seed, base_seed
from rung3.data.variables import Binary, Categorical, Discrete, Image
from rung3.effects.averages import average_of, check_sample
from rung3.effects.bounds.per_row import MAX_WAYS, row_bounds
from rung3.effects.estimate import AVERAGE, BOUNDS, Estimate
from rung3.effects.formulas import ALL, NONE, Formulas, Via
from rung3.effects.learning import refits as refits_of
from rung3.effects.learning import widened
from rung3.effects.mediation import mediate
from rung3.effects.paths import path_specific
from rung3.effects.predictors.predictor import PREDICTION, Predictor
from rung3.graph.m_separation import connected
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["Audit", "Disparity", "audit"]

PARTS = ("disparity", "direct", "indirect", "spurious")
"""What is estimated of a disparity: the whole, and what adds up to it."""

DECISION = "decision"
"""Name of the decision as a variable, whose flips are bounded."""


@dataclass(frozen=True)
class Disparity:
    """How two groups differ in a variable, and why.

    Attributes:
        disparity: `E[Y | x1] - E[Y | x0]`, in the variable's unit.
        direct: Part of it that is the protected variable's own.
        indirect: Part that goes through the variables between.
        spurious: Part that comes before the protected variable. The three add up to the disparity.
        paths: Effect along single paths, in the group x1, by path.
    """

    disparity: Estimate[Tensor]
    direct: Estimate[Tensor]
    indirect: Estimate[Tensor]
    spurious: Estimate[Tensor]
    paths: Mapping[str, Estimate[Tensor]]

    def lines(self) -> list[str]:
        """Return a line for each part."""
        named = {name: getattr(self, name) for name in PARTS} | dict(self.paths)
        width = max(map(len, named))
        return [f"  {name:<{width}}  {estimate}" for name, estimate in named.items()]


@dataclass(frozen=True)
class Audit(Printed):
    """What an audit found.

    Attributes:
        protected: The protected variable.
        groups: Labels of x0 and of x1.
        counts: Rows in each.
        parts: The disparity of `"prediction"`, where there is a predictor, and of the outcome.
        flips: Share of the rows whose decision changes with the protected variable; `None` where
            nothing is decided.
        flip_bounds: What data alone allow for that share, where it is of categories.
        assumptions: What the counterfactuals rest on, by variable.
    """

    protected: str
    groups: tuple[str, str]
    counts: tuple[int, int]
    parts: Mapping[str, Disparity]
    flips: Estimate[Tensor] | None
    flip_bounds: Estimate[float] | None
    assumptions: Mapping[str, str]

    def __str__(self) -> str:
        low, high = self.groups
        low_count, high_count = self.counts
        lines = [f"{self.protected}: {high} ({high_count} rows) against {low} ({low_count} rows)"]
        for name, part in self.parts.items():
            lines += [f"{name}:", *part.lines()]
        if self.flips is not None:
            bounds = "" if self.flip_bounds is None else f"; data alone allow {self.flip_bounds}"
            lines.append(f"decisions that flip with {self.protected}: {self.flips}{bounds}")
        lines += [f"rests on {name}: {what}" for name, what in self.assumptions.items()]
        return "\n".join(lines)

    def figure(self) -> Any:
        """Draw the parts of each disparity with their intervals, as a matplotlib figure."""
        from rung3.effects.predictors.drawing import draw_parts

        return draw_parts(
            {
                name: {part: getattr(one, part) for part in PARTS} | dict(one.paths)
                for name, one in self.parts.items()
            },
            f"{self.groups[1]} against {self.groups[0]}",
        )


@in_own_precision
@torch.no_grad()
def audit(
    model: SCM,
    predictor: Callable[..., Any] | None,
    protected: str,
    outcome: str | None = None,
    *,
    rows: Values | None = None,
    groups: tuple[Any, Any] | None = None,
    paths: Sequence[str] = (),
    inputs: str | Sequence[str] | None = None,
    event: Any = None,
    decide: Callable[[Tensor], Any] | None = None,
    n: int = 10_000,
    particles: int | None = None,
    level: float = 0.95,
    refits: int | None = None,
    peers: Sequence[SCM] = (),
    seed: Seed = None,
) -> Audit:
    """Say why a predictor, and the outcome that it predicts, differ between two groups.

    Args:
        model: The model of the rows.
        predictor: The predictor, as `with_predictor` takes it; `None` to audit the outcome alone.
        protected: Name of the protected variable, which has categories.
        outcome: Name of the variable that is predicted, an effect of the protected one; if not
            given, the predictor alone is audited.
        rows: The rows that are audited, independent of those that the model learned from; if not
            given, `n` rows of the model.
        groups: The values `(x0, x1)` of the protected variable, of more than two.
        paths: Directed paths, such as `"sex -> department -> prediction"`, along which alone the
            protected variable is followed as well (path-specific fairness).
        inputs: The variables that the predictor reads, as of `with_predictor`.
        event: The class that is looked at, of a predictor and an outcome of several.
        decide: A function from the predictor's outputs to decisions, as of `with_predictor`.
        n: Number of rows that are drawn, if none are given.
        particles: Number K of draws of the noise of each row.
        level: Nominal coverage of the intervals.
        refits: Number of fits to resampled rows, by which the intervals hold the learning; if not
            given, 30 where that takes a moment (see `rung3.effects.refits`).
        peers: Models fitted to the same rows with other seeds, two or more, in place of refits:
            of images.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Raises:
        ValueError: If the protected variable has no categories, is not a cause of the outcome, is
            independent of all that the predictor reads, or a group has fewer than two rows; if the
            predictor is refused (see `with_predictor`); or if hidden common causes or a recanting
            witness leave a part unidentified.

    Example:
        >>> from rung3 import Binary
        >>> from rung3.mechanisms import Equation, InverseCDF
        >>> model = SCM(
        ...     "sex -> merit; {sex merit} -> pay", {"sex": Binary()}, {
        ...     "sex": InverseCDF(table=[0.5, 0.5]),
        ...     "merit": Equation("sex + u"), "pay": Equation("2*sex + 3*merit + u")})
        >>> split = audit(model, lambda merit: 5 * merit, "sex", "pay", n=1000, seed=0)
        >>> parts = split.parts["pay"]
        >>> round(float(parts.direct.effect), 4), round(float(parts.indirect.effect), 4)
        (2.0, 3.0)
        >>> round(float(split.parts["prediction"].indirect.effect), 4)
        5.0
    """
    question = _Question(model, predictor, protected, outcome, groups, paths, inputs, event, decide)
    check_sample(n, level)
    base = base_seed(seed, "audit")
    given = None if rows is None else model.read(rows)
    if given is not None:
        model.check_given(given)
    answer = _Answer(question, model, given, n, particles, base)
    fits = list(peers)
    if len(fits) == 1:
        raise ValueError("peers: expected two models or more, got one")
    if not fits:
        fits = refits_of(model, refits, names=question.learned(model, given is None), seed=base)
    others = [_Answer(question, one, given, n, particles, base) for one in fits]
    answers = _Answers(answer, others, None if peers else model)
    return Audit(
        protected=protected,
        groups=question.labels,
        counts=(int(answer.low.sum()), int(answer.high.sum())),
        parts={name: answers.disparity(name, level) for name in question.subjects},
        flips=answers.whole(partial(_Answer.flips, level=level)) if question.decides else None,
        flip_bounds=answer.flip_bounds() if question.decides else None,
        assumptions=question.assumptions(model),
    )


class _Question:
    """What is asked: which groups differ in what, along which ways."""

    def __init__(
        self,
        model: SCM,
        predictor: Callable[..., Any] | None,
        protected: str,
        outcome: str | None,
        groups: tuple[Any, Any] | None,
        paths: Sequence[str],
        inputs: str | Sequence[str] | None,
        event: Any,
        decide: Callable[[Tensor], Any] | None,
    ) -> None:
        if predictor is None and outcome is None:
            raise ValueError("outcome: give a predictor, an outcome, or both; got neither")
        model.graph.names([protected] if outcome is None else [protected, outcome])
        if outcome is not None:
            _check_cause(model, protected, outcome)
        self.protected, self.outcome, self.paths = protected, outcome, tuple(paths)
        self.codes, self.labels = _groups(model, protected, groups)
        self.event = None if outcome is None else _event(model, outcome, event)
        self.predictor: Predictor | None = None
        if predictor is not None:
            self.predictor = Predictor.of(
                model, predictor, inputs=inputs, outcome=outcome, event=event, decide=decide
            )
            _check_path(model, protected, self.predictor.inputs)
        self.indicator: Predictor | None = None
        if self.event is not None and outcome is not None:
            self.indicator = Predictor(
                self._is_event, (outcome,), "tensor", decide=lambda mark: mark
            )
        self.subjects = [PREDICTION] * (predictor is not None)
        self.subjects += [] if outcome is None else [outcome]
        self.decides = self.predictor is not None and not self.predictor.numbers
        for path in self.paths:
            if path.split("->")[-1].strip() not in self.subjects:
                raise ValueError(f"paths: {path!r} must end in {' or '.join(self.subjects)}")
        self._refuse_unidentified(model)

    def _is_event(self, value: Tensor) -> Tensor:
        return torch.eq(value, -1 if self.event is None else self.event).double()

    def extended(self, model: SCM) -> SCM:
        """Give the model with what is audited as variables, of which numbers are compared."""
        judged = model if self.predictor is None else self.predictor.attach(model)
        return judged if self.indicator is None else self.indicator.attach(judged, self._marked)

    @property
    def _marked(self) -> str:
        return f"{self.outcome} is the event"

    def variable(self, subject: str) -> str:
        """Return the variable of the extended model whose numbers stand for a subject."""
        return self._marked if subject == self.outcome and self.indicator else subject

    def complete(self, rows: Rows) -> Rows:
        """Give rows with what is audited."""
        judged = rows if self.predictor is None else self.predictor.complete(rows)
        return judged if self.indicator is None else self.indicator.complete(judged, self._marked)

    def between(self, model: SCM, subject: str) -> list[str]:
        """Return the mediators: what lies between, images aside."""
        graph = model.graph
        names = graph.descendants(self.protected) & graph.ancestors(subject)
        images = {name for name in names if isinstance(model.variables[name], Image)}
        return list(graph.in_order(names - images - {self.protected}))

    def learned(self, model: SCM, sampled: bool) -> list[str]:
        """Return the variables whose mechanisms the answer rests on."""
        graph = model.graph
        ends = set(self.predictor.inputs if self.predictor else ())
        ends |= set() if self.outcome is None else {self.outcome}
        above = ends | graph.ancestors(ends)
        below = above & graph.descendants(self.protected) - {self.protected}
        return list(graph.in_order(above | {self.protected} if sampled else below))

    def assumptions(self, model: SCM) -> dict[str, str]:
        """Return what the counterfactual of each variable that changes rests on."""
        used = (model.mechanisms[name] for name in self.learned(model, False))
        return {one.name: one.assumption for one in used if one.wants_noise}

    def _refuse_unidentified(self, model: SCM) -> None:
        """Refuse parts that need a cause of one district both changed and unchanged."""
        if model.unidentified == "allow":
            return
        extended = self.extended(model)
        for subject in map(self.variable, self.subjects):
            if subject not in extended.graph.descendants(self.protected):
                continue
            formulas = Formulas(extended, {self.protected: self.codes[0]}, None, subject)
            met = frozenset(self.between(extended, subject))
            four = [NONE, Via(met, wanted=False), Via(met, wanted=True), ALL]
            if districts := formulas.recanting([formulas(route) for route in four]):
                raise ValueError(
                    f"{districts[0]}. To answer on the model's word alone, set "
                    'model.unidentified = "allow"'
                )


class _Answer:
    """The numbers that one model gives."""

    def __init__(
        self,
        question: _Question,
        model: SCM,
        rows: Rows | None,
        n: int,
        particles: int | None,
        seed: int,
    ) -> None:
        self.question, self.model, self.seed = question, model, seed
        self.particles = particles
        plain = model.sample(n, seed=seed) if rows is None else rows
        if question.predictor is not None:
            question.predictor.check(plain.batch)
        self.extended = question.extended(model)
        self.plain, self.rows = plain, question.complete(plain)
        x = plain[question.protected]
        self.low, self.high = (x == code for code in question.codes)
        for label, group in zip(question.labels, (self.low, self.high), strict=True):
            if int(group.sum()) < 2:
                raise ValueError(
                    f"{question.protected}: {int(group.sum())} rows are {label}; an audit needs "
                    "at least two of each group"
                )
        self._numbers: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def part(self, subject: str, part: str, level: float) -> Estimate[Tensor]:
        """Estimate one part of a disparity, with its interval for the drawing of rows."""
        y1, y0, direct, total = self._of(subject)
        if part == "direct":
            return average_of(-direct, level, numbers=self._is_exact(subject, part))
        if part == "indirect":
            return average_of(direct - total, level, numbers=self._is_exact(subject, part))
        group = y1 if part == "disparity" else y1 + total
        return difference(_mean(group, level), _mean(y0, level))

    def _of(self, subject: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return y in both groups, and in x1 the direct and total effect of being x0, `(n1,)`."""
        if subject not in self._numbers:
            name = self.question.variable(subject)
            y = self.rows[name].double()
            group = self.rows[self.high]
            if name not in self.extended.graph.descendants(self.question.protected):
                direct = total = torch.zeros_like(y[self.high])
            else:
                effect = mediate(
                    self.extended,
                    group,
                    {self.question.protected: self.question.codes[0]},
                    name,
                    self.question.between(self.extended, name),
                    particles=self.particles,
                    seed=self.seed,
                )
                direct, total = (self._folded(e) for e in (effect.direct, effect.total))
            self._numbers[subject] = y[self.high], y[self.low], direct, total
        return self._numbers[subject]

    def _is_exact(self, subject: str, part: str) -> bool:
        """Tell whether an effect that all rows share is known, rather than one of yes and no."""
        name, protected = self.question.variable(subject), self.question.protected
        y1, y0, *_ = self._of(subject)
        if not ((y1 == 0) | (y1 == 1)).all() or not ((y0 == 0) | (y0 == 1)).all():
            return True
        mediators = self.question.between(self.extended, name)
        if part == "indirect":
            return not mediators
        return name not in self.extended.graph.do(*mediators).descendants(protected)

    def _folded(self, effect: Tensor) -> Tensor:
        return (effect if self.particles is None else effect.mean(0)).double()

    def along(self, subject: str, path: str, level: float) -> Estimate[Tensor]:
        """Estimate the effect of being x1 along one path, in the group x1."""
        name, protected = self.question.variable(subject), self.question.protected
        nodes = [part.strip() for part in path.split("->")]
        effect = path_specific(
            self.extended,
            self.rows[self.high],
            {protected: self.question.codes[0]},
            name,
            [[*nodes[:-1], *([nodes[-1]] if name != nodes[-1] else []), name]],
            particles=self.particles,
            seed=self.seed,
        )
        return average_of(-self._folded(effect), level)

    def flips(self, level: float) -> Estimate[Tensor]:
        """Estimate the share of rows whose decision changes with the protected variable."""
        rows, predictor = self._both(), self.question.predictor
        assert predictor is not None
        particles = self.particles or 1
        answer = self.model.counterfactual(
            rows, {self.question.protected: self._other}, particles=particles, seed=self.seed
        )
        imagined = {name: answer[name].flatten(0, 1) for name in predictor.inputs}
        decided = predictor.decisions(imagined).reshape(particles, rows.n)
        changed = decided != predictor.decisions(rows)
        if self.particles is None:
            return average_of(changed[0], level)
        return average_of(changed.double().mean(0), level, numbers=True)

    def flip_bounds(self) -> Estimate[float] | None:
        """Bound that share by what data alone allow; `None` if not all in between is discrete."""
        predictor, protected = self.question.predictor, self.question.protected
        assert predictor is not None
        graph = self.model.graph
        between = graph.ancestors(predictor.inputs) | set(predictor.inputs)
        between &= graph.descendants(protected)
        kinds = [self.model.variables[name] for name in between]
        ways = math.prod(k.classes if isinstance(k, Discrete) else MAX_WAYS for k in kinds)
        if not kinds or self.model.confounding.members or 2 * ways > MAX_WAYS:
            return None
        rows, other = self._both(), self._other
        values = {name: rows[name] for name in self.model.variables}
        decided = predictor.decisions(rows)
        ends = torch.zeros(2, rows.n).double()
        for code in decided.unique():
            at = decided == code
            judged = predictor.decides(int(code)).attach(self.model, DECISION, Binary())
            some = {name: value[at] for name, value in values.items()}
            some[DECISION] = torch.ones_like(decided[at])
            same = row_bounds(judged, some, {protected: other[at]}, DECISION, torch.tensor(1))
            ends[:, at] = 1 - torch.stack(same).flip(0)
        low, high = ends.mean(1).tolist()
        return Estimate(None, low, high, rows.n, form=BOUNDS)

    @property
    def _other(self) -> Tensor:
        """The value of the other group, for each row of both."""
        low, high = self.question.codes
        return torch.where(self._both()[self.question.protected] == low, high, low)

    def _both(self) -> Rows:
        return self.plain[self.low | self.high]


@dataclass(frozen=True)
class _Answers:
    """The numbers of the model, and those of models that were learned again.

    Attributes:
        answer: Of the model.
        others: Of the others.
        scale: The model, if the others were fitted to resampled rows; `None` for peers.
    """

    answer: _Answer
    others: Sequence[_Answer]
    scale: SCM | None

    def whole(self, pick: Callable[[_Answer], Estimate[Tensor]]) -> Estimate[Tensor]:
        """Return an estimate whose interval holds the rows and the learning."""
        estimate = replace(pick(self.answer), learned=bool(self.answer.model.fitted))
        return widened(estimate, [pick(one).effect for one in self.others], self.scale)

    def disparity(self, subject: str, level: float) -> Disparity:
        """Return the parts of a disparity."""
        parts = {
            part: self.whole(partial(_Answer.part, subject=subject, part=part, level=level))
            for part in PARTS
        }
        along = {
            path: self.whole(partial(_Answer.along, subject=subject, path=path, level=level))
            for path in self.answer.question.paths
            if path.split("->")[-1].strip() == subject
        }
        return Disparity(**parts, paths=along)


def difference(a: Estimate[Tensor], b: Estimate[Tensor]) -> Estimate[Tensor]:
    """Estimate the difference of two means of independent rows, from the interval of each."""
    value = a.effect - b.effect
    low = value - ((a.effect - a.low).square() + (b.high - b.effect).square()).sqrt()
    high = value + ((a.high - a.effect).square() + (b.effect - b.low).square()).sqrt()
    return Estimate(value, low, high, a.n + b.n, a.level, form=AVERAGE)


def _mean(y: Tensor, level: float) -> Estimate[Tensor]:
    """Estimate the mean of one group; of yes and no, as a share."""
    marks = bool(((y == 0) | (y == 1)).all())
    return average_of(y.bool() if marks else y, level, numbers=True)


def _check_cause(model: SCM, protected: str, outcome: str) -> None:
    """Refuse a protected variable that does not cause the outcome."""
    if protected == outcome or outcome not in model.graph.descendants(protected):
        raise ValueError(
            f"protected: {protected!r} has no path to {outcome!r}, of which it is not a cause; "
            f"the causes are {list(model.graph.in_order(model.graph.ancestors(outcome)))}"
        )


def _check_path(model: SCM, protected: str, inputs: Sequence[str]) -> None:
    """Refuse a protected variable that nothing joins with what a predictor reads."""
    if connected(model.graph, protected).isdisjoint(inputs):
        raise ValueError(
            f"protected: {protected!r} has no path to the prediction: it is independent of "
            f"{list(inputs)}, which the predictor reads"
        )


def _groups(
    model: SCM, protected: str, groups: tuple[Any, Any] | None
) -> tuple[tuple[Tensor, Tensor], tuple[str, str]]:
    """Return the codes of x0 and x1, and their labels."""
    kind = model.variables[protected]
    if not isinstance(kind, Discrete):
        raise ValueError(
            f"protected: {protected} is {kind}, and an audit compares groups; make categories of "
            "it, such as Binary() or Ordinal(3)"
        )
    if groups is None:
        if kind.classes > 2:
            raise ValueError(
                f"protected: {protected} has {kind.classes} values; name the two to compare, as in "
                f"groups=({kind.label(0)!r}, {kind.label(1)!r})"
            )
        groups = (torch.tensor(0), torch.tensor(1))
    if len(groups) != 2:
        raise ValueError(f"groups: expected the two values (x0, x1), got {groups!r}")
    low, high = (kind.validate(protected, value).to(model.device) for value in groups)
    if low == high:
        raise ValueError(f"groups: both are {kind.label(int(low))}; name two values")
    return (low, high), (kind.label(int(low)), kind.label(int(high)))


def _event(model: SCM, outcome: str, event: Any) -> int | None:
    """Return the code of the category that is looked at; `None` where the outcome is a number."""
    kind = model.variables[outcome]
    if isinstance(kind, Image):
        raise ValueError(f"outcome: {outcome} is {kind}; name a number or a category")
    if isinstance(kind, Discrete) and (event is not None or isinstance(kind, Categorical)):
        if event is None:
            raise ValueError(
                f"outcome: {outcome} is {kind}; name the category that is looked at, as in "
                f"event={kind.label(1)!r}"
            )
        return int(kind.validate(outcome, event))
    if event is not None:
        raise ValueError(f"event: {outcome} is {kind}, and has no categories; leave it out")
    return None
