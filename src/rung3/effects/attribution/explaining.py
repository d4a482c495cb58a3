r"""`explain`: what a predictor's output on a row is due to, cause by cause and path by path.

A predictor is one more variable of the model, caused by what it reads. With f its output and
u ~ P(U | row) the noise of the row,

    effect of do(C := c)  =  f(c, u) - f(row),

under which all that lies downstream of C follows. An effect is shared among the ways that it takes:
directly, through each variable between C and the predictor, and through the latents of an image
that C causes. A set S of ways is open if all mediators outside of S keep their factual values:

    v(S) = f with the change carried on by paths all of whose mediators are in S,

and the shares are Shapley values of v (`rung3.effects.attribution.shapley`). They add up to the
effect. Without interaction the share of a mediator is what goes through it.

A cause is necessary for a decision as far as the row would have been decided otherwise under
another value of it, and sufficient as far as its value would have brought others the decision:

    PN = P(D_{c'} != d | row),     PS = P(D_c = d | c', d'),     c' != c and d' != d of usual rows

(Pearl 1999; Galhotra, Pradhan and Salimi 2021, *Explaining black-box algorithms using probabilistic
contrastive counterfactuals*, SIGMOD).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rung3.data.rows import Rows, Values
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.variables import Image
from rung3.effects.attribution.explanation import CauseEffect, Causes, Explanation
from rung3.effects.attribution.shapley import shapley
from rung3.effects.averages import average_of
from rung3.effects.estimate import AVERAGE, PROPORTION, Estimate
from rung3.effects.formulas import ALL, NONE, Formulas, Route
from rung3.effects.image_grid import usual_settings
from rung3.effects.learning import refits as refits_of
from rung3.effects.learning import widened
from rung3.effects.potential import Imagined
from rung3.effects.predictors.cheapest import Action, cheapest
from rung3.effects.predictors.predictor import PREDICTION, Predictor
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["explain"]

DIRECT = "direct"
"""Name of the way that meets no mediator."""

USUAL = 1000
"""Rows that show which values are usual: of the model, or the first of those given."""

PAIRS = 200
"""Pairs of a row and one that is decided otherwise, of numbers; of images a quarter."""

DRAWN_AT_ONCE = 512
"""Particles of rows with images that are decoded at once."""


@in_own_precision
@torch.no_grad()
def explain(
    model: SCM,
    predictor: Callable[..., Any],
    rows: Values,
    *,
    do: Mapping[str, Mapping[str, Any]] | None = None,
    inputs: str | Sequence[str] | None = None,
    outcome: str | None = None,
    event: Any = None,
    decide: Callable[[Tensor], Any] | None = None,
    actionable: Sequence[str] | None = None,
    at_most: int | None = None,
    typical: Values | None = None,
    particles: int = 16,
    level: float = 0.95,
    refits: int | None = 0,
    peers: Sequence[SCM] = (),
    seed: Seed = None,
) -> Explanation:
    """Explain what a predictor says of one row, or of several on average.

    Args:
        model: The model of the rows.
        predictor: The predictor, as `with_predictor` takes it.
        rows: One row, or several for a summary of a population.
        do: By label, the interventions whose effects are asked; if not given, every scalar cause is
            set to two usual values.
        inputs: The variables that the predictor reads, as of `with_predictor`.
        outcome: The variable that it predicts.
        event: The class whose probability is explained, of several; by default the one that the
            rows are decided for most often.
        decide: A function from its outputs to decisions, as of `with_predictor`.
        actionable: Variables that may be set to flip the decision; all scalar causes if not given.
        at_most: How many of them at once; two of numbers, one if an image must be decoded.
        typical: Rows that show which values are usual, of which the first 1,000 are taken; rows of
            the model if not given.
        particles: Number K of draws of the noise of each row.
        level: Nominal coverage of the intervals.
        refits: Number of fits to resampled rows, by which the intervals hold the learning.
        peers: Models fitted to the same rows with other seeds, two or more, in place of refits.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Raises:
        ValueError: If the predictor is refused (see `with_predictor`), a row lacks a value, nothing
            causes what it reads, or hidden common causes leave an effect unidentified.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(age=Equation("40 + 10*u"), dose=Equation("age/10 + u"))
        >>> row = {"age": 40.0, "dose": 4.0}
        >>> why = explain(model, lambda age, dose: age / 100 + dose, row,
        ...     do={"do(age=50)": {"age": 50.0}}, outcome="dose", seed=0)
        >>> print(why)
        prediction 4.4
          do(age=50): 1.1 [1.1, 1.1] (direct +0.1, dose +1)
    """
    base = base_seed(seed, "explain")
    wrapped = Predictor.of(
        model, predictor, inputs=inputs, outcome=outcome, event=event, decide=decide
    )
    given = model.read(rows).batch
    model.check_given(given)
    wrapped.check(given)
    if event is None:
        wrapped = wrapped.about(given)
    usual = model.sample(USUAL, seed=base) if typical is None else model.read(typical).batch[:USUAL]
    settings = _settings(wrapped.attach(model), usual, do)
    fits = list(peers) or refits_of(model, refits, seed=base)
    if len(fits) == 1:
        raise ValueError("peers: expected two models or more, got one")
    scale = None if peers else model
    effects = [
        _effect(wrapped, label, [model, *fits], given, do, particles, level, scale, base)
        for label, do in settings.items()
    ]
    effects.sort(key=lambda one: -abs(float(one.total.effect)))
    decides, names = not wrapped.numbers, _scalars(model, wrapped)
    causes = _causes(model, wrapped, given, usual, names, level, base) if decides else {}
    allowed = names if actionable is None else list(actionable)
    flip = None
    if decides and given.n == 1 and allowed:
        flip = _flip(model, wrapped, given, usual, allowed, at_most, particles, base)
    return Explanation(
        outputs=wrapped.score(given),
        decisions=wrapped.decisions(given) if decides else None,
        effects=tuple(effects),
        causes=causes,
        flip=flip,
        rows=given,
        images=_images(model, wrapped, given, effects, flip, base),
    )


@dataclass(frozen=True)
class Within(Route):
    """The paths all of whose mediators are open.

    Attributes:
        mediators: Names of the mediators.
        open: Those that are open; `"direct"` for paths that meet none.
        met: Whether the path has met one so far.
        shut: Whether it has met one that is not open.
    """

    mediators: frozenset[str]
    open: frozenset[str]
    met: bool = False
    shut: bool = False

    @property
    def active(self) -> bool:
        return not self.shut and (self.met or DIRECT in self.open)

    def back(self, parent: str) -> Within:
        if parent not in self.mediators:
            return self
        return replace(self, met=True, shut=self.shut or parent not in self.open)


def _effect(
    predictor: Predictor,
    label: str,
    models: Sequence[SCM],
    rows: Rows,
    do: Mapping[str, Any],
    particles: int,
    level: float,
    scale: SCM | None,
    seed: int,
) -> CauseEffect:
    """Estimate the effect of one intervention and its parts by a model, and by those beside it."""
    ways = [_ways(predictor, one, rows, do, particles, seed) for one in models]
    spread = {
        name: widened(
            replace(_spread(way, level), learned=bool(models[0].fitted)),
            [other[name].mean() for other in ways[1:]],
            scale,
        )
        for name, way in ways[0].items()
    }
    total = spread.pop("")
    return CauseEffect(label, dict(do), total, spread)


def _ways(
    predictor: Predictor,
    model: SCM,
    rows: Rows,
    do: Mapping[str, Any],
    particles: int,
    seed: int,
) -> dict[str, Tensor]:
    """Return the effect on each particle of each row, `(K, n)`, under `""`, and its parts."""
    images = any(isinstance(kind, Image) for kind in model.variables.values())
    size = max(1, DRAWN_AT_ONCE // particles) if images else rows.n
    parts = []
    for start in range(0, rows.n, size):
        some, setting = rows[start : start + size], _at(do, slice(start, start + size), rows.n)
        parts.append(_ways_at_once(predictor, model, some, setting, particles, seed + start))
    return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}


def _at(do: Mapping[str, Any], at: slice, n: int) -> dict[str, Any]:
    """Return an intervention on some of the rows: values of one a row are cut."""
    return {
        name: value[at] if isinstance(value, Tensor) and value.ndim and len(value) == n else value
        for name, value in do.items()
    }


def _ways_at_once(
    predictor: Predictor,
    model: SCM,
    rows: Rows,
    do: Mapping[str, Any],
    particles: int,
    seed: int,
) -> dict[str, Tensor]:
    extended, given = predictor.attach(model), predictor.complete(rows)
    latent = _image_with_latents(extended, do)
    formulas = Formulas(extended, do, None, PREDICTION, latent=latent)
    mediators = _mediators(formulas)
    reached = formulas.graph.do(*mediators).descendants(formulas.causes)
    players = [*([DIRECT] if PREDICTION in reached else []), *mediators]
    worlds = Imagined(formulas, [formulas(ALL), formulas(NONE)], given, particles, seed)

    def value(team: frozenset[str]) -> Tensor:
        route = Within(frozenset(mediators), team)
        output: Tensor = worlds.value(formulas(route))
        shaped: Tensor = output.double().unflatten(0, (particles, rows.n))
        return shaped

    total = value(frozenset(players)) - value(frozenset())
    shares = shapley(players, value, seed)[0] if len(players) > 1 else dict.fromkeys(players, total)
    return {"": total, **shares}


def _image_with_latents(model: SCM, do: Mapping[str, Any]) -> str | None:
    """Return the first image on the way to the predictor whose parents cause its latents."""
    graph = model.graph
    between = graph.descendants(list(do)) & graph.ancestors(PREDICTION)
    names = graph.in_order(between - set(do))
    return next((name for name in names if model.mechanisms[name].has_latent_mediator), None)


def _mediators(formulas: Formulas) -> list[str]:
    """Return what lies between the causes and the predictor, images aside."""
    graph, variables = formulas.graph, formulas.model.variables
    between = graph.descendants(formulas.causes) & graph.ancestors(PREDICTION) - formulas.causes
    images = {name for name in between if isinstance(variables.get(name), Image)}
    return list(graph.in_order(between - images))


def _spread(effect: Tensor, level: float) -> Estimate[Tensor]:
    """Estimate an effect `(K, n)`: of one row over the particles, of several over the rows."""
    if effect.shape[1] > 1:
        return average_of(effect.mean(0), level)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], device=effect.device).double()
    low, high = effect[:, 0].quantile(tails)
    return Estimate(effect.mean(), low, high, len(effect), level, over="noise", form=AVERAGE)


def _scalars(model: SCM, predictor: Predictor) -> list[str]:
    """Return the numbers and categories that the predictor reads, or that cause what it reads."""
    graph = model.graph
    names = set(predictor.inputs) | graph.ancestors(predictor.inputs)
    return [name for name in graph.in_order(names) if not model.variables[name].shape]


def _settings(
    model: SCM, usual: Rows, do: Mapping[str, Mapping[str, Any]] | None
) -> Mapping[str, Mapping[str, Any]]:
    """Return the interventions, checked."""
    settings = usual_settings(model, PREDICTION, usual) if do is None else do
    if not settings:
        raise ValueError(
            "do: nothing to set, as no number or category causes what the predictor reads; name "
            "interventions, as in do={'no effusion': {'effusion': 0}}"
        )
    for label, setting in settings.items():
        if not isinstance(setting, Mapping):
            raise ValueError(
                f"do: {label!r} must be a mapping, such as {{'age': 60}}, got {setting!r}"
            )
        if not model.graph.descendants(list(setting)) >= {PREDICTION}:
            raise ValueError(f"do: {label} has no effect on what the predictor reads")
    return settings


def _causes(
    model: SCM,
    predictor: Predictor,
    rows: Rows,
    usual: Rows,
    names: Sequence[str],
    level: float,
    seed: int,
) -> dict[str, Causes]:
    """Estimate necessity and sufficiency of each cause for the decisions on the rows."""
    images = any(isinstance(kind, Image) for kind in model.variables.values())
    repeats = max(1, PAIRS // (4 if images else 1) // rows.n)
    decided, other = predictor.decisions(rows), predictor.decisions(usual)
    causes = {}
    for name in names:
        differs = (rows[name][:, None] != usual[name]) & (decided[:, None] != other)
        at = differs.any(1).nonzero()[:, 0]
        if not len(at):
            continue
        generator = stream(seed, f"pairs/{name}", differs.device)
        partner = torch.multinomial(differs[at].double(), repeats, True, generator=generator)
        at, partner = at.repeat_interleave(repeats), partner.flatten()
        factual, usual_rows = rows[at], usual[partner]
        without = model.counterfactual(factual, {name: usual_rows[name]}, seed=seed)
        given = model.counterfactual(usual_rows, {name: factual[name]}, seed=seed)
        fell = predictor.decisions(without) != decided[at]
        rose = predictor.decisions(given) == decided[at]
        causes[name] = Causes(*(_share(hit, repeats, level) for hit in (fell, rose)))
    return causes


def _share(hit: Tensor, repeats: int, level: float) -> Estimate[Tensor]:
    """Estimate a share: of one row over the pairs, of several over the rows."""
    if len(hit) == repeats or repeats == 1:
        shares = hit if len(hit) > 1 else hit.repeat(2)
    else:
        shares = hit.double().reshape(-1, repeats).mean(1)
    return replace(average_of(shares, level), form=PROPORTION)


def _flip(
    model: SCM,
    predictor: Predictor,
    row: Rows,
    usual: Rows,
    actionable: Sequence[str],
    at_most: int | None,
    particles: int,
    seed: int,
) -> Action | None:
    """Return the smallest intervention after which the row is more likely decided otherwise."""
    images = any(isinstance(model.variables[name], Image) for name in predictor.inputs)
    decision = predictor.decisions(row)[0]
    action, _ = cheapest(
        model,
        row,
        lambda values: predictor.decisions(values) != decision,
        predictor.inputs,
        actionable,
        usual,
        probability=0.5,
        cost={},
        monotone={},
        at_most=at_most or (1 if images else 2),
        particles=particles,
        seed=seed,
    )
    return action


def _images(
    model: SCM,
    predictor: Predictor,
    row: Rows,
    effects: Sequence[CauseEffect],
    flip: Action | None,
    seed: int,
) -> dict[str, Tensor]:
    """Return the image that the predictor reads, as it is and after the largest effects."""
    names = [name for name in predictor.inputs if isinstance(model.variables[name], Image)]
    if row.n > 1 or not names:
        return {}
    image = names[0]
    shown = {f"the row: {float(predictor.score(row)[0]):.2f}": row[image][0]}
    settings = {one.label: one.do for one in effects[:3]}
    if flip is not None:
        settings[f"{flip.text}"] = flip.do
    for label, do in settings.items():
        answer = model.counterfactual(row, do, seed=seed)
        shown[f"{label}: {float(predictor.score(answer)[0]):.2f}"] = answer[image][0]
    return shown
