"""Checks of one answer that need no knowledge of the truth.

    null intervention   d(x, f(pa, u))                   setting the old values changes nothing
    there and back      d(x, f(pa, u')),  u' ~ p(u | x~)  setting them afterwards restores the row
    support             whether the new parents are like those of other rows
    predictors          whether an oracle reads the new parents off the new image
    noise               by backtracking: how far the noise of each variable moved
    abduction           whether the noise is exact, from the posterior or approximate

With all of the noise kept, the first error is zero by construction. It is therefore also computed
without the noise of observation, where the mechanism has any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from rung3.data.display import spell_draws
from rung3.data.distances import distance, unit
from rung3.data.number_text import ERROR_DIGITS, number_text
from rung3.data.rows import Rows
from rung3.data.seeding import base_seed
from rung3.data.variables import Discrete
from rung3.evaluation.positivity import positivity
from rung3.explorer.query import PageState
from rung3.explorer.runs import Opened
from rung3.explorer.session import Answer, Reference, Session

__all__ = ["Check", "Density", "densities", "quick_checks", "run_checks"]

BINS = 24
"""Bins of a histogram."""

FAR_NOISE = 3.0
"""Standard deviations beyond which a move of noise warns: 3 % of pairs of rows are so far apart."""


@dataclass(frozen=True)
class Check:
    """The result of a check on one variable.

    Attributes:
        name: Which check.
        variable: The variable.
        text: The result as a sentence.
        value: The number behind it, where there is one.
        good: Whether it supports the answer; `None` where the reader has to judge.
    """

    name: str
    variable: str
    text: str
    value: float | None = None
    good: bool | None = None


@dataclass(frozen=True)
class Density:
    """A histogram of a variable in the training rows, and where the answer lies in it.

    Attributes:
        name: The variable.
        edges: Ends of the bins, one more than counts; or the codes of categories.
        counts: Number of rows in each bin or category.
        old: The factual value.
        new: The new value, the mean over draws.
        outside: Whether the new value is outside the range of the training data.
        trained: Whether the model was trained on the rows; if not, they were held out.
    """

    name: str
    edges: list[float]
    counts: list[float]
    old: float
    new: float
    outside: bool
    trained: bool


def run_checks(session: Session, query: PageState, k: int = 0) -> list[Check]:
    """Check model k's answer to a query of the third rung.

    Raises:
        ValueError: If the query is of another rung, or wrong.
    """
    if not query.about_row:
        raise ValueError("the checks need one row: choose 'imagine' or 'backtrack'")
    answer = session.answer_of(query, k)
    if not query.do:
        return []
    if query.rung == "backtracking":
        return quick_checks(session, query, k)
    row = session.factual(query)
    with session.lock, torch.no_grad():
        errors = [*_null(session, query, k, row, answer), *_back(session, query, k, answer)]
    return errors + quick_checks(session, query, k)


def quick_checks(session: Session, query: PageState, k: int = 0) -> list[Check]:
    """Return the checks of model k's answer about a row that take no further pass through it."""
    if not query.about_row or not query.do:
        return []
    answer, opened = session.answer_of(query, k), session.models[k]
    reference = session.reference(k)
    with session.lock, torch.no_grad():
        return [
            *_support(session, query, opened, answer, reference),
            *_predictors(opened, answer),
            *_noise(answer),
            *_provenance(answer),
        ]


def densities(session: Session, query: PageState, k: int = 0) -> list[Density]:
    """Return a histogram of other rows for each variable that changed."""
    answer, reference = session.answer_of(query, k), session.reference(k)
    histograms = []
    for name, status in answer.provenance.status.items():
        variable = session.variables[name]
        if status not in ("intervened", "propagated") or variable.shape:
            continue
        others = reference.rows[name]
        others = others[~variable.is_missing(others)].double()
        old, new = (float(part.double().mean()) for part in (answer.old(name), answer.draws(name)))
        if isinstance(variable, Discrete):
            counts = torch.bincount(others.long(), minlength=variable.classes).double()
            edges = [float(code) for code in range(variable.classes)]
        else:
            low, high = min(float(others.min()), old, new), max(float(others.max()), old, new)
            high = high if high > low else low + 1
            counts, ends = torch.histogram(others, BINS, range=(low, high))
            edges = ends.tolist()
        outside = name in answer.provenance.outside
        histograms.append(
            Density(name, edges, counts.tolist(), old, new, outside, reference.trained)
        )
    return histograms


def _null(session: Session, query: PageState, k: int, row: Rows, answer: Answer) -> Iterator[Check]:
    """Set every variable that the query sets to its old value."""
    model, noise = session.models[k].model, session.noise(query, k)
    same = model.do({name: row[name] for name in query.do})
    for name in _recomputed(answer):
        for temperature in (1.0, 0.0):
            if temperature == 0 and not model.mechanisms[name].observation_noise:
                continue
            unchanged = same.predict(noise, temperature)
            yield _distance(
                session, "null intervention", name, row, unchanged,
                "" if temperature else " without the noise of observation",
            )  # fmt: skip


def _back(session: Session, query: PageState, k: int, answer: Answer) -> Iterator[Check]:
    """Set the old values again, starting from each draw of the answer."""
    model, row = session.models[k].model, session.factual(query)
    draws = Rows({name: answer.draws(name) for name in session.variables})
    try:
        noise = model.abduct(draws, seed=base_seed(query.seed, "there and back"))
    except ValueError as error:  # a world knows the noise of its own rows only
        yield Check("there and back", ", ".join(query.do), f"not available: {error}")
        return
    back = session.intervened(query, model, {name: row[name] for name in query.do})
    for name in _recomputed(answer):
        yield _distance(session, "there and back", name, row, back.predict(noise), "")


def _distance(
    session: Session, check: str, name: str, row: Rows, other: Rows, condition: str
) -> Check:
    variable = session.variables[name]
    new = other[name] if other.batched or other.particles else other[name][None]
    error = float(distance(variable, row[name].expand_as(new), new).mean())
    text = f"{name} is off by {number_text(error, ERROR_DIGITS)} {unit(variable)}".rstrip()
    if isinstance(variable, Discrete):
        text = f"{name} is the same in {1 - error:.0%} of draws"
    return Check(check, name, text + condition, error)


def _recomputed(answer: Answer) -> list[str]:
    status = answer.provenance.status
    return [name for name, value in status.items() if value == "propagated"]


def _support(
    session: Session, query: PageState, opened: Opened, answer: Answer, reference: Reference
) -> Iterator[Check]:
    """Compare with the range of the training data and with the nearest rows."""
    for name, share in answer.provenance.outside.items():
        text = f"{name} lies outside the range of the training data in {share:.0%} of draws"
        yield Check("support", name, text, share, good=False)
    draws = Rows({name: answer.draws(name) for name in session.variables})
    rows = "of the training data" if reference.trained else "held out of the training data"
    for name in query.do:
        for result in positivity(opened.model, reference.rows, draws, name, draws[name]):
            names = ", ".join(result.jointly)
            together = " together" if len(result.jointly) > 1 else ""
            where = "far from all rows" if result.far else "near rows"
            text = f"{names}{together}: {where} {rows}"
            yield Check("support", name, text, result.far, good=not result.far)


def _predictors(opened: Opened, answer: Answer) -> Iterator[Check]:
    for (image, name), oracle in (opened.oracles or {}).items():
        if answer.provenance.status[image] == "observed":
            continue
        target = opened.model.variables[name]
        predicted = oracle.read(answer.draws(image))
        before = float(oracle.error(answer.old(image), answer.old(name)).mean())
        error = float(oracle.error(answer.draws(image), answer.draws(name)).mean())
        target_text = spell_draws(target, answer.draws(name))
        text = f"reads {name} as {spell_draws(target, predicted)}; it should be {target_text}"
        if isinstance(target, Discrete):
            yield Check("predictors", name, text, error, good=error == 0)
        else:
            now, then = (number_text(one, ERROR_DIGITS) for one in (error, before))
            text += f" (off by {now}; on the original image by {then})"
            yield Check("predictors", name, text, error)


def _noise(answer: Answer) -> Iterator[Check]:
    """Say how far the noise moved that backtracking moved."""
    for name, distances in answer.provenance.moved.items():
        distance = float(distances.mean())
        text = f"the noise of {name} moves by {number_text(distance, ERROR_DIGITS)} standard "
        text += "deviations" + (": few rows are so far apart" if distance > FAR_NOISE else "")
        yield Check("noise", name, text, distance, good=distance <= FAR_NOISE)


def _provenance(answer: Answer) -> Iterator[Check]:
    meanings = {
        "known": "its noise is known",
        "exact": "its noise is exact",
        "posterior": "its noise is a draw from the exact posterior",
        "approximate": "its noise is approximate",
    }
    for name, kind in answer.provenance.abductions.items():
        assumption = answer.provenance.assumptions.get(name, "")
        yield Check("abduction", name, f"{name}: {meanings[kind]}; {assumption}".rstrip("; "))
