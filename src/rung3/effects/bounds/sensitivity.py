r"""Sensitivity: what the data leave open in a counterfactual, whatever was fitted to them.

Two mechanisms `x := f(pa, u)` with one conditional distribution `p(x | pa)` agree on all that can
be seen or done, and may differ in what would have been: that hangs on how the noise behind the
values under pa is tied to that under pa~. So the same rows are asked of others that agree with the
model on rungs one and two:

| mechanism | asked as well |
|---|---|
| `GumbelMax` | `InverseCDF` with the same probabilities, as it is and with its noise reversed |
| `InverseCDF` | `GumbelMax` with the same probabilities; its own noise reversed |
| `Flow`, `VAE`, `HVAE`, `Equation` | its own noise reversed |

*Reversed* noise is turned round, `u~ = F^-1(1 - F(u))`, wherever the parents are not the factual
ones: a number at rank q among the likes of before is at rank 1 - q among those of after. Turning it
round everywhere would change nothing, as `f(pa, -u)` is abducted by `-u`.

The range of these answers is *at least* what data leave open. For discrete variables there are
exact bounds (`rung3.effects.bounds.per_row`); of a number, data alone allow any value in its
support. Models trained with other seeds may be asked too: they differ by the fit as well.

Sources: Oberst and Sontag 2019 (arXiv 1905.05824); Pawlowski et al. 2020 (arXiv 2006.06485).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rung3.data.distances import distance, scale, unit
from rung3.data.rows import Noise, Rows, as_rows
from rung3.data.seeding import Seed, base_seed
from rung3.data.values import coded
from rung3.data.variables import Binary, Discrete, Image, Variable
from rung3.effects.bounds.per_row import row_bounds
from rung3.mechanisms.base import Abduction, Mechanism, Parents, repeat_noise
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["MODELLED", "Reversed", "Sensitivity", "alternatives", "sensitivity"]

MODELLED = "as modelled"


@dataclass(frozen=True)
class Sensitivity:
    """The same rows, answered by mechanisms that data cannot tell apart.

    Attributes:
        question: What was asked, in words.
        variable: The outcome; a probability is of one of its events.
        answers: By mechanism, the answer of each row, averaged over the draws of the noise:
            `(n, *shape)`, or the probability of the event, `(n,)`. The model's own comes first.
        assumptions: What each of them assumes, in a clause.
        bounds: Least and greatest answer `(n,)` that data and graph allow in each row by itself;
            `None` where there are none, or nobody knows them.
        unbounded: Why there are none.
    """

    question: str
    variable: Variable
    answers: Mapping[str, Tensor]
    assumptions: Mapping[str, str] = field(default_factory=dict)
    bounds: tuple[Tensor, Tensor] | None = None
    unbounded: str = ""

    @property
    def low(self) -> Tensor:
        """The least of the answers, `(n, *shape)`."""
        return torch.stack(list(self.answers.values())).amin(0)

    @property
    def high(self) -> Tensor:
        """The greatest of the answers, `(n, *shape)`."""
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
            said = f"; {self.assumptions[name]}" if self.assumptions.get(name) else ""
            apart = f", {self._apart(answer, first).mean():.3g}{of} apart" if said else ""
            lines.append(f"  {name}: {factor * answer.mean():.3g}{of}{apart}{said}")
        lines.append(
            f"these leave open, in a row: {self.width.mean():.3g}{of} on average, "
            f"{self.width.max():.3g}{of} at the most"
        )
        if self.bounds is None:
            return "\n".join([*lines, f"data and graph leave open, in a row: {self.unbounded}"])
        low, high = self.bounds
        lines.append(
            f"data and graph leave open, in a row: {low.mean():.3g} to {high.mean():.3g} on "
            f"average, {(high - low).max():.3g} apart at the most"
        )
        return "\n".join(lines)


@in_own_precision
def sensitivity(
    model: SCM,
    rows: Mapping[str, Any],
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
        >>> found = sensitivity(worlds.exam(), failed, {"studied": 1}, "passed", particles=2000)
        >>> print(found)  # 70 % fail without studying and 40 % with it: 3 or up to 6 of the 7 pass
        passed = 1 had studied been set to 1, in 1 row
          as modelled: 0.438
          passed, GumbelMax: 0.45, 0.0125 apart; Gumbel-max noise (counterfactual stability), ...
          passed, noise reversed: 0.854, 0.416 apart; ranks reversed under other parents, ...
        these leave open, in a row: 0.416 on average, 0.416 at the most
        data and graph leave open, in a row: 0.429 to 0.857 on average, 0.429 apart at the most
    """
    affected = _affected(model, do, outcome)
    codes = _codes(model.variables[outcome], outcome, event)
    models, assumptions = {MODELLED: model}, {}
    for name in affected:
        for label, other in alternatives(model.mechanisms[name]).items():
            models[f"{name}, {label}"] = model.do({name: other})
            assumptions[f"{name}, {label}"] = other.assumption
    asked = _without_noise(model, rows, affected)
    for name, other_model in (others or {}).items():
        _check_other(model, name, other_model)
        models[name], assumptions[name] = other_model, "another model: it differs by its fit too"
    base, answers = base_seed(seed, "sensitivity"), {}
    with torch.no_grad():
        for name, one in models.items():
            found = one.counterfactual(asked, do, particles=particles, seed=base)
            answers[name] = _summary(found[outcome], codes)
            if one is model:
                said = found.explain().interventions
    sets = " and ".join(f"{name} been {text}" for name, text in said.items())
    what = f"{outcome} = {event if event is not None else 1}" if codes is not None else outcome
    count = f"{asked.n} row" + "s" * (asked.n > 1)
    bounds, why = _bounds(model, asked, do, outcome, codes)
    return Sensitivity(
        f"{what} had {sets}, in {count}",
        model.variables[outcome],
        answers,
        assumptions,
        bounds,
        why,
    )


def alternatives(mechanism: Mechanism) -> dict[str, Mechanism]:
    """Bound mechanisms with the same `p(x | pa)` and other counterfactuals, by what they do.

    There is none for a mechanism whose noise rung3 cannot turn round.

    Example:
        >>> from rung3 import Categorical
        >>> from rung3.mechanisms import GumbelMax
        >>> list(alternatives(GumbelMax().bind("ward", Categorical(3), {})))
        ['InverseCDF', 'InverseCDF, noise reversed']
    """
    others: dict[str, Mechanism] = {}
    for other in mechanism.alternatives():
        kind = type(other).__name__
        others[kind] = other
        if _reversible(other):
            others[f"{kind}, noise reversed"] = Reversed(other)
    return others | ({"noise reversed": Reversed(mechanism)} if _reversible(mechanism) else {})


class Reversed(Mechanism):
    """A mechanism with its noise turned round wherever the parents are not the factual ones.

    A null intervention changes nothing, and samples, under `do` too, are the mechanism's own. For
    every row there is one such function of parents and noise.

    Args:
        mechanism: The bound mechanism.

    Raises:
        ValueError: If its noise cannot be turned round.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> other = world.do(x2=Reversed(world.mechanisms["x2"]))
        >>> other.counterfactual({"x1": 2.0, "x2": 4.0}, do={"x1": 5.0})["x2"]  # u = -2, so 15 + 2
        tensor(17.)
    """

    abduction: ClassVar[Abduction] = "posterior"
    assumption: str = "ranks reversed under other parents, not told by data"

    def __init__(self, mechanism: Mechanism) -> None:
        super().__init__()
        if not _reversible(mechanism):
            raise ValueError(f"{mechanism.name}: the noise of {mechanism} cannot be turned round")
        self.mechanism = mechanism
        self.name, self.variable, self.parents = (
            mechanism.name,
            mechanism.variable,
            mechanism.parents,
        )
        self.register_buffer("observed", mechanism.observed, persistent=False)

    def build(self) -> None:
        """Nothing: the mechanism within is bound already."""

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        own = self.mechanism.sample_noise(n, parents, generator)
        return self._join(own, {name: parents[name] for name in self.parents})

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        if isinstance(noise, Tensor):
            raise ValueError(f"{self.name}: expected the noise that abduct gives")
        own = {k: part for k, part in noise.items() if not k.startswith("before ")}
        n = len(next(iter(own.values())))
        moved = torch.zeros(n, dtype=torch.bool, device=self.observed.device)
        for name in self.parents:
            moved |= (noise[f"before {name}"] != parents[name]).reshape(n, -1).any(1)
        turned = {
            k: torch.where(moved.reshape(n, *[1] * (part.ndim - 1)), self._turn(k, part), part)
            for k, part in own.items()
        }
        return self.mechanism.predict(turned.get("u alone", turned), parents)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        own = self.mechanism.abduct(value, parents, particles, generator)
        before = repeat_noise({name: parents[name] for name in self.parents}, particles)
        assert isinstance(before, dict)
        return self._join(own, before)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return self.mechanism.log_prob(value, parents)

    def _join(self, own: Noise, before: Mapping[str, Tensor]) -> Noise:
        parts = {"u alone": own} if isinstance(own, Tensor) else own
        return {**parts, **{f"before {name}": part for name, part in before.items()}}

    def _turn(self, key: str, part: Tensor) -> Tensor:
        """Return `F^-1(1 - F(u))`; noise of observation stays."""
        if key in self.mechanism.observation_noise:
            return part
        turned = self.mechanism.reverse(part)
        assert turned is not None
        return turned


def _reversible(mechanism: Mechanism) -> bool:
    """Tell whether a mechanism knows the noise at the opposite rank."""
    return mechanism.wants_noise and mechanism.reverse(torch.zeros(1)) is not None


def _affected(model: SCM, do: Mapping[str, Any], outcome: str) -> list[str]:
    """Variables through which the outcome may change, itself included."""
    if model.confounding.members:
        raise ValueError(
            f"hidden common causes {list(model.confounding.members)}: what they leave open is told "
            "by rung3.effects.bounds"
        )
    model.graph.names([outcome])
    graph = model.do(do).graph
    below = graph.descendants(list(do))
    if outcome not in below:
        raise ValueError(f"outcome: nothing that is set, {list(do)}, causes {outcome!r}")
    above = graph.ancestors(outcome) | {outcome}
    return [name for name in graph.order if name in below & above]


def _codes(variable: Variable, outcome: str, event: Any) -> Tensor | None:
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


def _without_noise(model: SCM, values: Mapping[str, Any], affected: list[str]) -> Rows:
    """The rows as a batch; what they know of noise that alternatives abduct is left out."""
    rows = as_rows(values, model.variables, model.device)
    if not rows.batched:
        return Rows({name: value.unsqueeze(0) for name, value in rows.items()})
    swapped = {name for name in affected if alternatives(model.mechanisms[name])}
    noise = {k: part for k, part in (rows.noise or {}).items() if k not in swapped}
    return Rows(dict(rows), noise=noise, world=rows.world)


def _summary(found: Tensor, codes: Tensor | None) -> Tensor:
    if codes is None:
        return found.mean(0)
    hit = (found[..., None] == codes.to(found)).any(-1)
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
