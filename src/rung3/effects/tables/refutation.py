"""Attempts to refute an effect: what must not move it, and what must make it vanish.

    placebo treatment     rows exchange their treatments: the effect must be zero
    placebo outcome       rows exchange their outcomes: the effect must be zero
    random common cause   a column of noise is adjusted for as well: the effect must stay
    subset                four fifths of the rows, at random: the effect must stay
    negative control      an outcome that the treatment cannot change, or a treatment that cannot
                          change the outcome, with the same adjustment: the effect must be zero

What passes is not proved; what fails is refuted, the graph or the model of it. Nothing here can see
a cause that nobody measured: how strong it would have to be is told by E-value and robustness value
(`rung3.effects.tables.unobserved`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung3.data.printed import Printed
from rung3.data.rows import Values, named
from rung3.data.seeding import Seed, base_seed
from rung3.data.values import coded
from rung3.data.variables import Continuous
from rung3.effects.tables.estimation import Effect, effect
from rung3.effects.tables.sample import Sample
from rung3.effects.tables.unobserved import EValue, Robustness, e_value, robustness

__all__ = ["Check", "Refutation", "refute"]

SUBSET = 0.8
"""Share of the rows in a subset."""

ALARM = 0.01
"""Chance that a check fails although nothing is wrong."""

NOISE = "random common cause"
"""Name of the column of noise."""


OF_OUTCOME = ("event", "observed", "horizon")
"""Options of `effect` that are about the outcome alone."""


@dataclass(frozen=True)
class Check:
    """One attempt.

    Attributes:
        name: What was tried.
        value: The effect that it gave, on average.
        expected: What it should have given.
        p: P-value of the difference; NaN where it could not be tried.
        reason: Why it could not.
    """

    name: str
    value: float
    expected: float
    p: float
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the effect."""
        return not self.p < ALARM

    def __str__(self) -> str:
        if self.reason:
            return f"{self.name}: not tried ({self.reason})"
        verdict = "as it should" if self.passed else "REFUTED"
        return (
            f"{self.name}: {self.value:.4g}, expected {self.expected:.4g} (p = {self.p:.2g}): "
            f"{verdict}"
        )


@dataclass(frozen=True)
class Refutation(Printed):
    """An effect, and how it withstood.

    Attributes:
        effect: The effect.
        checks: What was tried.
        e_value: How strong a hidden cause would have to be, in risk ratios.
        robustness: The same in explained variance; `None` where the effect is not by adjustment.
        sample: The rows that the effect is of.
    """

    effect: Effect
    checks: tuple[Check, ...]
    e_value: EValue
    robustness: Robustness | None
    sample: Sample = field(repr=False, compare=False)

    @property
    def refuted(self) -> bool:
        """Whether any check failed."""
        return not all(check.passed for check in self.checks)

    def __str__(self) -> str:
        lines = [str(self.effect), *(f"  {check}" for check in self.checks), f"  {self.e_value}"]
        if self.robustness is not None:
            lines.append("  " + str(self.robustness).replace("\n", "\n  "))
        return "\n".join(lines)


def refute(
    table: Values,
    treatment: str,
    outcome: str,
    *,
    repeats: int = 10,
    negative_outcomes: Iterable[str] = (),
    negative_treatments: Iterable[str] = (),
    seed: Seed = 0,
    **options: Any,
) -> Refutation:
    """Estimate an effect, and try to refute it.

    Args:
        table: The table, as `effect` takes it.
        treatment: Name of the treatment.
        outcome: Name of the outcome.
        repeats: How often rows exchange their values, or are drawn.
        negative_outcomes: Columns that the treatment cannot change, but hidden causes might.
        negative_treatments: Columns that cannot change the outcome.
        seed: Of what is drawn.
        options: Those of `effect`.

    Raises:
        ValueError: As `effect`; or if there are fewer than two repeats.

    Example:
        >>> from rung3 import worlds
        >>> rows = worlds.kidney_stones().sample(700, seed=0)
        >>> refutation = refute(rows, "treatment", "recovery", adjust=["size"], repeats=5)
        >>> refutation.refuted
        False
    """
    if repeats < 2:
        raise ValueError(f"repeats: expected at least 2, got {repeats}")
    trial = _Trial(dict(named(table)), treatment, outcome, dict(options), base_seed(seed, "refute"))
    estimate = effect(trial.table, treatment, outcome, **options)
    checks = [trial.placebo(outcome, "placebo outcome", repeats)]
    if estimate.way == "back-door":
        checks.append(trial.placebo(treatment, "placebo treatment", repeats))
        checks.append(trial.noise(estimate, repeats))
    checks.append(trial.subset(estimate, repeats))
    controls = [(f"negative outcome {name}", treatment, name) for name in negative_outcomes]
    controls += [(f"negative treatment {name}", name, outcome) for name in negative_treatments]
    checks += [trial.negative(estimate, *control) for control in controls]
    sample = trial.sample(estimate)
    strength = None
    if estimate.way == "back-door":
        compared = (coded(options.get("do"), 1), coded(options.get("versus"), 0))
        strength = robustness(sample, estimate.adjusted, compared, estimate.level)
    hidden = e_value(estimate, float(sample.y.std()))
    return Refutation(estimate, tuple(checks), hidden, strength, sample)


@dataclass(frozen=True)
class _Trial:
    """The question, and its variations."""

    table: dict[str, Any]
    treatment: str
    outcome: str
    options: dict[str, Any]
    seed: int

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.table[self.treatment])

    def sample(self, estimate: Effect) -> Sample:
        """Return the rows that the effect is of."""
        chosen = {
            name: self.options[name]
            for name in ("event", "weights", "clusters", "degree", "terms", "observed", "horizon")
            if name in self.options
        }
        used = [*estimate.adjusted, *estimate.through]
        variables = self.options.get("variables")
        return Sample.read(self.table, variables, self.treatment, self.outcome, used, **chosen)

    def ask(self, changed: Mapping[str, Any], **options: Any) -> Effect:
        """Ask the same of a changed table."""
        table = {**self.table, **changed}
        return effect(table, self.treatment, self.outcome, **{**self.options, **options})

    def placebo(self, name: str, what: str, repeats: int) -> Check:
        """Let rows exchange their values of a column."""
        rng = np.random.default_rng(self.seed % 2**63)
        seen = self.options.get("observed") if name == self.outcome else None
        together, results = [name, *([seen] if seen else [])], []
        for _ in range(repeats):
            order = rng.permutation(self.n)
            results.append(self._try({k: _taken(self.table[k], order) for k in together}))
        return _judged(what, [one for one in results if one is not None], 0.0)

    def noise(self, estimate: Effect, repeats: int) -> Check:
        """Adjust for noise as well."""
        rng = np.random.default_rng(self.seed % 2**63)
        variables = {**(self.options.get("variables") or {}), NOISE: Continuous()}
        adjust = [*estimate.adjusted, NOISE]
        results = []
        for _ in range(repeats):
            column = {NOISE: rng.normal(size=self.n)}
            more = {"adjust": adjust, "graph": None, "variables": variables, "by": None}
            results.append(self._try(column, **more))
        trials = [one for one in results if one is not None]
        if not trials:
            return Check(NOISE, np.nan, np.nan, np.nan, "no table with noise could be adjusted")
        value = float(np.mean([one.effect.effect for one in trials]))
        moved = (value - estimate.effect.effect) / _error(estimate)
        return Check(NOISE, value, estimate.effect.effect, _p(moved))

    def subset(self, estimate: Effect, repeats: int) -> Check:
        """Ask the same of part of the rows."""
        rng = np.random.default_rng(self.seed % 2**63)
        count, results = int(SUBSET * self.n), []
        for _ in range(repeats):
            rows = rng.permutation(self.n)[:count]
            results.append(self._try({k: _taken(v, rows) for k, v in self.table.items()}))
        estimates = [one.effect.effect for one in results if one is not None]
        if not estimates:
            return Check("subset", np.nan, np.nan, np.nan, "no subset has rows of each kind")
        # Each differs from the whole by what the fifth that it lacks would add.
        apart = _error(estimate) * (1 / SUBSET - 1) ** 0.5
        away = max(abs(value - estimate.effect.effect) for value in estimates) / apart
        p = min(1.0, len(estimates) * _p(away))
        return Check("subset", float(np.mean(estimates)), estimate.effect.effect, p)

    def negative(self, estimate: Effect, what: str, treatment: str, outcome: str) -> Check:
        """Ask of a treatment or an outcome for which there is no effect."""
        options = {k: v for k, v in self.options.items() if k not in ("graph", "adjust", "by")}
        if outcome != self.outcome:
            options = {k: v for k, v in options.items() if k not in OF_OUTCOME}
        if treatment != self.treatment:
            options.pop("do", None)
            options.pop("versus", None)
        given = [name for name in estimate.adjusted if name not in (treatment, outcome)]
        one = effect(self.table, treatment, outcome, adjust=given, **options)
        return Check(what, one.effect.effect, 0.0, _p(one.effect.effect / _error(one)))

    def _try(self, changed: Mapping[str, Any], **options: Any) -> Effect | None:
        try:
            return self.ask(changed, **options)
        except ValueError:  # an exchange may leave a stratum without an arm
            return None


def _taken(values: Any, rows: Any) -> Any:
    if isinstance(values, Tensor):
        return values[torch.as_tensor(rows)]
    return values.iloc[rows] if hasattr(values, "iloc") else np.asarray(values)[rows]


def _error(estimate: Effect) -> float:
    """Return the standard error behind an interval, about."""
    from scipy.stats import norm

    half = (estimate.effect.high - estimate.effect.low) / 2
    return max(half / float(norm.ppf((1 + estimate.level) / 2)), 1e-300)


def _p(z: float) -> float:
    from scipy.stats import norm

    return float(2 * norm.sf(abs(z)))


def _judged(what: str, results: list[Effect], expected: float) -> Check:
    """Judge the effects of exchanged rows by how they differ among each other."""
    from scipy.stats import ttest_1samp

    if len(results) < 2:
        return Check(what, np.nan, np.nan, np.nan, "no exchange leaves rows of each kind")
    values = [one.effect.effect for one in results]
    return Check(
        what, float(np.mean(values)), expected, float(ttest_1samp(values, expected).pvalue)
    )
