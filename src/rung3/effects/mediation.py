"""Direct, indirect and total effects: of each row, and of a population.

With the causes at x or, intervened, at x~, and a mediator M (lecture, Figure 30; Pearl 2001),

    direct   = Y(x~, M(x))  - Y(x, M(x))
    indirect = Y(x,  M(x~)) - Y(x, M(x))
    total    = Y(x~, M(x~)) - Y(x, M(x))
    total    = direct + indirect + interaction.

On a circle every difference is the shorter way round.

Outcomes are decoder means (expected pixels) for images. All potential outcomes are of one noise, so
every effect of a null intervention is exactly zero. Through the latents z of the outcome's own
mechanism, where its parents cause them, they are the lecture's (pa~ after propagation down the
graph)

    DE = g(pa~, z) - g(pa, z),     IE = g(pa, z~) - g(pa, z),     TE = g(pa~, z~) - g(pa, z).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from rung3.data.printed import Printed
from rung3.data.rows import Values
from rung3.data.seeding import Seed, base_seed
from rung3.data.variables import Continuous, Discrete, Variable
from rung3.effects.averages import average_of, check_sample
from rung3.effects.estimate import Estimate
from rung3.effects.formulas import ALL, LATENT, NONE, Formulas, Via
from rung3.effects.learning import refits as refits_of
from rung3.effects.learning import widened
from rung3.effects.potential import Drawn, Imagined
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["Averages", "Mediation", "mediate", "natural"]


@dataclass(frozen=True)
class Averages(Printed):
    """Average effects, each with its interval.

    Attributes:
        direct: Effect of the cause, with the mediators as they would be without it.
        indirect: Effect of the mediators' response, with the cause as it is without it.
        total: Effect of both.
        interaction: Part of the total beyond the sum of the two.
        witnesses: See `Mediation`.
    """

    direct: Estimate[Tensor]
    indirect: Estimate[Tensor]
    total: Estimate[Tensor]
    interaction: Estimate[Tensor]
    witnesses: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = ("direct", "indirect", "total", "interaction")
        return "\n".join(f"{name:<12}{getattr(self, name)}" for name in parts)


@dataclass(frozen=True)
class Refitted:
    """How to ask the same of a model that was fitted again.

    Attributes:
        model: The model.
        question: From a model to the effects.
        seed: Of the rows that are resampled.
    """

    model: SCM
    question: Callable[[SCM], Mediation]
    seed: int

    def ask(self, count: int | None) -> list[Mediation]:
        """Return the effects by so many fits to resampled rows."""
        return [self.question(one) for one in refits_of(self.model, count, seed=self.seed)]


@dataclass(frozen=True)
class Mediation:
    """Direct, indirect and total effect on an outcome, each `(n, *shape)` or `(K, n, *shape)`.

    Attributes:
        direct: Effect of the cause with the mediators held at their factual values.
        indirect: Effect of the mediators' response with the cause held at its factual value.
        total: Effect of both.
        outcome: Name of the outcome, whose unit the effects have.
        factual: The outcome that effects are counted from (a decoder's mean, for images).
        witnesses: Variables that one of these worlds needs both changed and unchanged, on different
            paths; or, joined by hidden causes, needs of a changed cause and of an unchanged one.
            Where there are any, no data, experiments included, can tell the direct and the indirect
            effect: they rest on the model's functions (Avin, Shpitser and Pearl 2005; Shpitser
            2013).
        particles: Number K of draws of the noise; `None` if effects have no such axis.
        batched: Whether effects have an axis of rows.
        variable: The outcome's variable, which says what a difference is.
        learned: Whether the model was fitted.
        refitted: How to get the same effects of fits to resampled rows.
    """

    direct: Tensor
    indirect: Tensor
    total: Tensor
    outcome: str
    factual: Tensor
    witnesses: tuple[str, ...] = ()
    particles: int | None = None
    batched: bool = True
    variable: Variable = field(default_factory=Continuous)
    learned: bool = False
    refitted: Refitted | None = field(default=None, repr=False, compare=False)

    @property
    def interaction(self) -> Tensor:
        """Part of the total effect beyond the sum of the direct and the indirect one."""
        return self.variable.difference(self.total, self.direct + self.indirect)

    def average(self, level: float = 0.95, *, refits: int | None = None) -> Averages:
        """Average the effects over the rows (and, first, over particles); see `Estimate`.

        Args:
            level: Nominal coverage of the intervals.
            refits: Number of fits to resampled rows, by which the intervals of a fitted model hold
                the learning; if not given, 30 where that takes a moment.

        Raises:
            ValueError: If there are fewer than two rows, or the level is not between 0 and 1.

        Example:
            >>> from rung3.mechanisms import Equation
            >>> model = SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("x*m + u"))
            >>> rows = model.sample(1000, seed=0)
            >>> print(mediate(model, rows, {"x": lambda x: x + 1}, "y", "m").average())
            direct      0.0830 [-0.0570, 0.2228]
            indirect    0.0758 [-0.0504, 0.2022]
            total       2.159 [1.900, 2.418]
            interaction 2 [2, 2]
        """
        if not self.batched:
            raise ValueError("average: there is one row; an interval needs at least two")

        others = [] if self.refitted is None else self.refitted.ask(refits)

        def mean(name: str) -> Estimate[Tensor]:
            effect: Tensor = getattr(self, name)
            each = effect if self.particles is None else effect.mean(0)
            exact = not isinstance(self.variable, Discrete)
            estimate = average_of(each, level, numbers=exact, learned=self.learned)
            if self.refitted is None:
                return estimate
            axes = (0,) if self.particles is None else (0, 1)
            answers = [getattr(one, name).double().mean(axes) for one in others]
            return widened(estimate, answers, self.refitted.model)

        return Averages(
            direct=mean("direct"),
            indirect=mean("indirect"),
            total=mean("total"),
            interaction=mean("interaction"),
            witnesses=self.witnesses,
        )


@in_own_precision
def mediate(
    model: SCM,
    values: Values,
    do: Mapping[str, Any],
    outcome: str,
    through: str | Iterable[str],
    *,
    versus: Mapping[str, Any] | None = None,
    particles: int | None = None,
    seed: Seed = None,
) -> Mediation:
    """Split the effect of an intervention on each row into direct and indirect.

    Only the noise of what the intervention changes on its way to the outcome is abducted.

    Args:
        model: The model; its mechanisms answer for every potential outcome.
        values: Rows, a value of every variable.
        do: The intervention, as `SCM.do` takes it.
        outcome: Name of the outcome.
        through: Name of the mediator, or several (then taken together); `"latent"` for the latents
            of the outcome's mechanism, where its parents cause them.
        versus: What the intervention is compared with, as `SCM.do` takes it; the rows as they are,
            if not given.
        particles: Number K of draws of the noise.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Returns:
        The effects, in the outcome's unit.

    Raises:
        ValueError: If a mediator is unknown, is the outcome, or is not downstream of the cause; if
            the outcome has no latents that its parents cause; or if noise that is needed cannot be
            abducted.

    Example:
        >>> from rung3 import worlds
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("3*x + 5*m + u"))
        >>> rows = {"x": 0.0, "m": 0.0, "y": 0.0}
        >>> effect = mediate(model, rows, do={"x": 1.0}, outcome="y", through="m")
        >>> effect.direct, effect.indirect, effect.total
        (tensor(3.), tensor(10.), tensor(13.))
    """
    start = base_seed(seed)

    @in_own_precision
    def by(model: SCM) -> Mediation:
        question = _Question(model, do, versus, outcome, through, observed=True)
        worlds = Imagined(question.formulas, question.four, values, particles, start)
        base, *changed = map(worlds.value, question.four)
        variable = model.variables[outcome]
        direct, indirect, total = (worlds.shaped(variable.difference(y, base)) for y in changed)
        return Mediation(
            direct=direct,
            indirect=indirect,
            total=total,
            outcome=outcome,
            factual=worlds.shaped(base),
            witnesses=question.witnesses,
            particles=particles,
            batched=worlds.rows.batched,
            variable=variable,
            learned=bool(model.fitted),
        )

    return replace(by(model), refitted=Refitted(model, by, start))


@in_own_precision
def natural(
    model: SCM,
    do: Mapping[str, Any],
    outcome: str,
    through: str | Iterable[str],
    *,
    versus: Mapping[str, Any] | None = None,
    n: int = 10_000,
    level: float = 0.95,
    refits: int | None = None,
    seed: Seed = None,
) -> Averages:
    """Estimate natural direct, indirect and total effects in the model's population.

        NDE = E[Y(x~, M(x)) - Y(x, M(x))],     NIE = E[Y(x, M(x~)) - Y(x, M(x))]

    All potential outcomes of a row are of one drawn noise. See `controlled` for the effect with
    mediators set.

    Args:
        model: The model.
        do: The intervention, as `SCM.do` takes it.
        outcome: Name of the outcome.
        through: Name of the mediator, or several (then taken together).
        versus: What to compare with: another intervention; none if not given.
        n: Number of rows that are drawn.
        level: Nominal coverage of the intervals.
        refits: As of `Mediation.average`.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Returns:
        The averages, in the outcome's unit; see `Averages`.

    Raises:
        ValueError: As `mediate`; if n is less than 2, or the level not between 0 and 1; or if there
            is a recanting district, and `model.unidentified` is not `"allow"`.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("3*x + 5*m + u"))
        >>> print(natural(model, {"x": 1.0}, "y", "m", versus={"x": 0.0}, seed=0))
        direct      3 [3, 3]
        indirect    10 [10, 10]
        total       13 [13, 13]
        interaction ...
    """
    check_sample(n, level)
    question, start = (
        _Question(model, do, versus, outcome, through, observed=False),
        base_seed(seed),
    )
    if model.unidentified != "allow" and (district := question.formulas.recanting(question.four)):
        raise ValueError(
            f"{district[0]}. To answer on the model's word alone, set model.unidentified = "
            '"allow"; the total effect is that of effects.average'
        )

    @in_own_precision
    def by(model: SCM) -> Mediation:
        question = _Question(model, do, versus, outcome, through, observed=False)
        worlds = Drawn(question.formulas, question.four, n, start)
        base, *changed = map(worlds.value, question.four)
        variable = model.variables[outcome]
        direct, indirect, total = (variable.difference(y, base) for y in changed)
        return Mediation(
            direct,
            indirect,
            total,
            outcome,
            base,
            question.witnesses,
            variable=variable,
            learned=bool(model.fitted),
        )

    return replace(by(model), refitted=Refitted(model, by, start)).average(level, refits=refits)


class _Question:
    """The four potential outcomes of a question: factual, direct, indirect, total."""

    def __init__(
        self,
        model: SCM,
        do: Mapping[str, Any],
        versus: Mapping[str, Any] | None,
        outcome: str,
        through: str | Iterable[str],
        observed: bool,
    ) -> None:
        mediators = [through] if isinstance(through, str) else list(through)
        latent = outcome if LATENT in mediators and LATENT not in model.graph else None
        self.formulas = Formulas(model, do, versus, outcome, latent=latent, observed=observed)
        self._check(mediators)
        met = frozenset(mediators)
        routes = (NONE, Via(met, wanted=False), Via(met, wanted=True), ALL)
        self.four = [self.formulas(route) for route in routes]
        self.witnesses = self.formulas.witnesses(self.four)

    def _check(self, mediators: list[str]) -> None:
        graph, causes = self.formulas.graph, self.formulas.causes
        graph.names(mediators)
        downstream = graph.descendants(causes)
        for name in mediators:
            if name == self.formulas.outcome or name in causes:
                raise ValueError(f"through: {name!r} is the outcome or the cause, not a mediator")
            if name not in downstream:
                raise ValueError(
                    f"through: {name!r} is not downstream of {sorted(causes)}; "
                    f"its descendants are {sorted(downstream)}"
                )
