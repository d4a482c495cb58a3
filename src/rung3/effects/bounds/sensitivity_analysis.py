"""Sensitivity: what the data leave open in a counterfactual, whatever was fitted to them.

The same rows are asked of mechanisms that agree with the model on rungs one and two (see
`rung3.effects.bounds.alternatives`). The range of their answers is *at least* what data leave open.
For discrete variables there are exact bounds (`rung3.effects.bounds.row_bounds`); for a number,
data alone allow any value in its support. Models trained with other seeds may be asked too: they
differ by the fit as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rung3.data.distances import distance, scale, unit
from rung3.data.printed import Printed
from rung3.data.rows import Rows, Values, as_rows
from rung3.data.seeding import Seed, base_seed
from rung3.data.values import coded
from rung3.data.variables import Binary, Discrete, Image, Variable
from rung3.effects.bounds.alternatives import alternatives
from rung3.effects.bounds.per_row import row_bounds
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["MODELLED", "Sensitivity", "sensitivity"]

MODELLED = "as modelled"
"""Label of the model's own answer."""


@dataclass(frozen=True)
class Sensitivity(Printed):
    """The same rows, answered by mechanisms that data cannot tell apart.

    Attributes:
        question: What was asked, as text.
        variable: The outcome; a probability is of one of its events.
        answers: By mechanism, the answer of each row, averaged over the draws of the noise:
            `(n, *shape)`, or the probability of the event, `(n,)`. The model's own comes first.
        assumptions: What each of them assumes, in a clause.
        bounds: Least and greatest answer `(n,)` that data and graph allow in each row by itself;
            `None` where there are none, or none are known.
        unbounded: Why there are no bounds.
    """

    question: str
    variable: Variable
    answers: Mapping[str, Tensor]
    assumptions: Mapping[str, str] = field(default_factory=dict)
    bounds: tuple[Tensor, Tensor] | None = None
    unbounded: str = ""

    @property
    def low(self) -> Tensor:
        """Smallest of the answers, `(n, *shape)`."""
        return torch.stack(list(self.answers.values())).amin(0)

    @property
    def high(self) -> Tensor:
        """Greatest of the answers, `(n, *shape)`."""
        return torch.stack(list(self.answers.values())).amax(0)

    @property
    def width(self) -> Tensor:
        """How far apart the answers to a row are, `(n,)`; of images, in grey levels."""
        return self._apart(self.low, self.high)

    def _apart(self, one: Tensor, other: Tensor) -> Tensor:
        if isinstance(self.variable, Discrete):
            return (one - other).abs()
        return distance(self.variable, one, other)

    def __str__(self) -> str:
        of = "" if isinstance(self.variable, Discrete) else f" {unit(self.variable)}".rstrip()
        factor, first = scale(self.variable), self.answers[MODELLED]
        lines = [self.question]
        for name, answer in self.answers.items():
            clause = f"; {self.assumptions[name]}" if self.assumptions.get(name) else ""
            apart = f", {self._apart(answer, first).mean():.3g}{of} apart" if clause else ""
            lines.append(f"  {name}: {factor * answer.mean():.3g}{of}{apart}{clause}")
        lines.append(
            f"these leave open, in a row: {self.width.mean():.3g}{of} on average, "
            f"{self.width.max():.3g}{of} at most"
        )
        if self.bounds is None:
            return "\n".join([*lines, f"data and graph leave open, in a row: {self.unbounded}"])
        low, high = self.bounds
        lines.append(
            f"data and graph leave open, in a row: {low.mean():.3g} to {high.mean():.3g} on "
            f"average, {(high - low).max():.3g} apart at most"
        )
        return "\n".join(lines)


@in_own_precision
def sensitivity(
    model: SCM,
    rows: Values,
    do: Mapping[str, Any],
    outcome: str,
    *,
    event: Any = None,
    others: Mapping[str, SCM] | None = None,
    particles: int = 100,
    seed: Seed = 0,
) -> Sensitivity:
    """Ask the same rows of all mechanisms that data cannot tell from the model's.

    One mechanism is exchanged at a time, of each variable between what is set and the outcome.

    Args:
        model: The model.
        rows: A value of every variable.
        do: The intervention, as `SCM.do` takes it.
        outcome: The variable that is looked at.
        event: For a discrete outcome, the value, or the list of values, whose probability is
            asked; 1 for a binary one.
        others: More models of the same variables, by name: of other training seeds, say.
        particles: Draws of the noise in each row; a probability is off by up to
            `1 / (2 sqrt(particles))` (one standard deviation).
        seed: Of the draws.

    Returns:
        The answers, their range, and exact bounds where the variables are discrete: `print` it.

    Raises:
        ValueError: If the outcome is unknown, nothing that is set causes it, it is discrete and no
            event is given, other models have other variables, or hidden common causes are at work.

    Example:
        >>> from rung3 import worlds
        >>> failed = {"interested": [0], "studied": [0], "passed": [0]}
        >>> answers = sensitivity(worlds.exam(), failed, {"studied": 1}, "passed", particles=2000)
        >>> print(answers)  # 70 % fail without studying, 40 % with it: 3 or up to 6 of the 7 pass
        passed = 1 had studied been set to 1, in 1 row
          as modelled: 0.438
          passed, GumbelMax: 0.45, 0.0125 apart; Gumbel-max noise (counterfactual stability), ...
          passed, noise reversed: 0.854, 0.416 apart; ranks reversed under other parents, ...
        these leave open, in a row: 0.416 on average, 0.416 at most
        data and graph leave open, in a row: 0.429 to 0.857 on average, 0.429 apart at most
    """
    affected = _affected(model, do, outcome)
    codes = _codes(model.variables[outcome], outcome, event)
    models, assumptions = _models(model, affected, others or {})
    batch = _without_noise(model, rows, affected)
    base, answers = base_seed(seed, "sensitivity"), {}
    actions: Mapping[str, str] = {}
    with torch.no_grad():
        for name, one in models.items():
            imagined = one.counterfactual(batch, do, particles=particles, seed=base)
            answers[name] = _summary(imagined[outcome], codes)
            if one is model:
                actions = imagined.explain().interventions
    sets = " and ".join(f"{name} been {text}" for name, text in actions.items())
    what = f"{outcome} = {event if event is not None else 1}" if codes is not None else outcome
    question = f"{what} had {sets}, in {batch.n} row" + "s" * (batch.n > 1)
    bounds, reason = _bounds(model, batch, do, outcome, codes)
    variable = model.variables[outcome]
    return Sensitivity(question, variable, answers, assumptions, bounds, reason)


def _models(
    model: SCM, affected: list[str], others: Mapping[str, SCM]
) -> tuple[dict[str, SCM], dict[str, str]]:
    """Return the models to ask, the model itself first, and what each of the others assumes."""
    models, assumptions = {MODELLED: model}, {}
    for name in affected:
        for label, mechanism in alternatives(model.mechanisms[name]).items():
            models[f"{name}, {label}"] = model.do({name: mechanism})
            assumptions[f"{name}, {label}"] = mechanism.assumption
    for name, other in others.items():
        _check_other(model, name, other)
        models[name], assumptions[name] = other, "another model: it differs by its fit too"
    return models, assumptions


def _affected(model: SCM, do: Mapping[str, Any], outcome: str) -> list[str]:
    """Return the variables through which the outcome may change, itself included."""
    if model.confounding.members:
        raise ValueError(
            f"hidden common causes {list(model.confounding.members)}: what they leave open is told "
            "by rung3.effects.bounds.bounds"
        )
    model.graph.names([outcome])
    graph = model.do(do).graph
    below = graph.descendants(list(do))
    if outcome not in below:
        raise ValueError(f"outcome: nothing that is set, {list(do)}, causes {outcome!r}")
    above = graph.ancestors(outcome) | {outcome}
    return [name for name in graph.order if name in below & above]


def _codes(variable: Variable, outcome: str, event: Any) -> Tensor | None:
    """Return the codes of the event; `None` for an outcome that is not discrete."""
    if not isinstance(variable, Discrete):
        if event is not None:
            raise ValueError(f"event: {outcome} is {variable}; only discrete outcomes have events")
        return None
    if event is None and not isinstance(variable, Binary):
        raise ValueError(f"event: expected a value of {outcome}, which is {variable}")
    return variable.validate(outcome, coded(event, 1)).reshape(-1)


def _check_other(model: SCM, name: str, other: SCM) -> None:
    if other.variables != model.variables:
        raise ValueError(
            f"others: the variables of {name!r} are {list(other.variables)}, or of another kind "
            f"than the model's, {list(model.variables)}"
        )


def _without_noise(model: SCM, values: Values, affected: list[str]) -> Rows:
    """Return the rows as a batch, without the noise that alternatives abduct for themselves."""
    rows = as_rows(values, model.variables, model.device)
    if not rows.batched:
        return Rows({name: value.unsqueeze(0) for name, value in rows.items()})
    swapped = {name for name in affected if alternatives(model.mechanisms[name])}
    noise = {k: part for k, part in (rows.noise or {}).items() if k not in swapped}
    return Rows(dict(rows), noise=noise, world=rows.world)


def _summary(outcomes: Tensor, codes: Tensor | None) -> Tensor:
    """Return the mean over particles, or the share in which the event happens."""
    if codes is None:
        return outcomes.mean(0)
    hit = (outcomes[..., None] == codes.to(outcomes)).any(-1)
    return hit.to(torch.get_default_dtype()).mean(0)


def _bounds(
    model: SCM, rows: Rows, do: Mapping[str, Any], outcome: str, codes: Tensor | None
) -> tuple[tuple[Tensor, Tensor] | None, str]:
    if codes is None:
        kind = "image" if isinstance(model.variables[outcome], Image) else "value in its support"
        return None, f"any {kind}, as far as rungs one and two can tell"
    try:
        return row_bounds(model, rows, do, outcome, codes), ""
    except ValueError as refused:
        return None, f"not known ({refused})"
