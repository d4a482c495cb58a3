"""Should I believe it? What can be checked of one answer without knowing the truth.

    null intervention   d(x, f(pa,  u))                  nothing was changed: nothing may change
    there and back      d(x, f(pa,  u')),  u' ~ p(u | x~)  the way back leads to where it began
    support             are the new parents like those of other rows?
    predictors          does a network that reads the parents off images read the new ones?
    provenance          which abductions were exact, posterior or approximate

With all of the noise kept, the first is nought by construction; so it is also asked of a prediction
without the noise of observation, where the mechanism has any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rung3.data.distances import distance, unit
from rung3.data.rows import Rows
from rung3.data.seeding import base_seed
from rung3.data.variables import Discrete
from rung3.evaluation.positivity import positivity
from rung3.explorer.query import PageState
from rung3.explorer.runs import Opened
from rung3.explorer.session import Answer, Seen, Session

__all__ = ["Belief", "Density", "believe", "densities"]

BINS = 24


@dataclass(frozen=True)
class Belief:
    """One check.

    Attributes:
        check: Its name.
        of: The variable that it looks at.
        said: What it found, in words.
        value: The number behind it, where there is one.
        good: Whether it speaks for the answer; `None` where that is the reader's to judge.
    """

    check: str
    of: str
    said: str
    value: float | None = None
    good: bool | None = None


@dataclass(frozen=True)
class Density:
    """How a variable lies in the rows of training, and where the answer lies in it.

    Attributes:
        name: The variable.
        edges: Ends of the bins, one more than counts; or the codes of categories.
        counts: Rows in each bin, or of each category.
        old: The factual value.
        new: The new one, the mean over draws.
        outside: Whether the new one is outside the range of the training data.
        trained: Whether the rows are those of training; if not, they were held out.
    """

    name: str
    edges: list[float]
    counts: list[float]
    old: float
    new: float
    outside: bool
    trained: bool


def believe(session: Session, query: PageState, k: int = 0) -> list[Belief]:
    """Check what model k answers to a query of the third rung.

    Raises:
        ValueError: If the query is of another rung, or wrong.
    """
    if query.rung != "imagining":
        raise ValueError("these checks are of one row that is imagined anew: choose 'imagine'")
    answer = session.answer_of(query, k)
    opened, row = session.models[k], session.factual(query)
    if not query.do:
        return []
    seen = session.seen(k)
    with session.lock, torch.no_grad():
        return [
            *_null(session, query, k, row, answer),
            *_back(session, query, k, answer),
            *_support(session, query, opened, answer, seen),
            *_predictors(opened, answer),
            *_provenance(answer),
        ]


def densities(session: Session, query: PageState, k: int = 0) -> list[Density]:
    """Where the new value of each variable that changed lies among other rows."""
    answer, seen = session.answer_of(query, k), session.seen(k)
    found = []
    for name, status in answer.provenance.status.items():
        variable = session.variables[name]
        if status not in ("intervened", "propagated") or variable.shape:
            continue
        others = seen.rows[name]
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
        found.append(Density(name, edges, counts.tolist(), old, new, outside, seen.trained))
    return found


def _null(
    session: Session, query: PageState, k: int, row: Rows, answer: Answer
) -> Iterator[Belief]:
    """Every variable that is set, set to what it was."""
    model, noise = session.models[k].model, session.noise(query, k)
    same = model.do({name: row[name] for name in query.do})
    for name in _recomputed(answer):
        for temperature in (1.0, 0.0):
            if temperature == 0 and not model.mechanisms[name].observation_noise:
                continue
            again = same.predict(noise, temperature)
            yield _distance(
                session, "null intervention", name, row, again,
                "" if temperature else " without the noise of observation",
            )  # fmt: skip


def _back(session: Session, query: PageState, k: int, answer: Answer) -> Iterator[Belief]:
    """From each draw of the answer, the values that were set put back."""
    model, row = session.models[k].model, session.factual(query)
    draws = Rows({name: answer.draws(name) for name in session.variables})
    try:
        noise = model.abduct(draws, seed=base_seed(query.seed, "there and back"))
    except ValueError as error:  # a world knows the noise of its own rows alone
        yield Belief("there and back", ", ".join(query.do), f"cannot be asked: {error}")
        return
    back = session.acted(query, model, {name: row[name] for name in query.do})
    for name in _recomputed(answer):
        yield _distance(session, "there and back", name, row, back.predict(noise), "")


def _distance(session: Session, check: str, name: str, row: Rows, other: Rows, how: str) -> Belief:
    variable = session.variables[name]
    new = other[name] if other.batched or other.particles else other[name][None]
    error = float(distance(variable, row[name].expand_as(new), new).mean())
    said = f"{name} is off by {error:.3g} {unit(variable)}".rstrip()
    if isinstance(variable, Discrete):
        said = f"{name} is the same in {1 - error:.0%} of draws"
    said += how
    return Belief(check, name, said, error)


def _recomputed(answer: Answer) -> list[str]:
    status = answer.provenance.status
    return [name for name, value in status.items() if value == "propagated"]


def _support(
    session: Session, query: PageState, opened: Opened, answer: Answer, seen: Seen
) -> Iterator[Belief]:
    """Range of the training data, and distance to the nearest of its rows."""
    for name, share in answer.provenance.outside.items():
        said = f"{name} lies outside the range of the training data in {share:.0%} of draws"
        yield Belief("support", name, said, share, good=False)
    draws = Rows({name: answer.draws(name) for name in session.variables})
    rows = "of the training data" if seen.trained else "that were held out of the training data"
    for name in query.do:
        for found in positivity(opened.model, seen.rows, draws, name, draws[name]):
            together = ", ".join(found.jointly)
            reach = "far from all rows" if found.far else "near rows"
            said = f"{together}{' together' if len(found.jointly) > 1 else ''}: {reach} {rows}"
            yield Belief("support", name, said, found.far, good=not found.far)


def _predictors(opened: Opened, answer: Answer) -> Iterator[Belief]:
    for (image, name), oracle in (opened.oracles or {}).items():
        if answer.provenance.status[image] == "observed":
            continue
        target = opened.model.variables[name]
        read = oracle.read(answer.draws(image))
        before = float(oracle.error(answer.old(image), answer.old(name)).mean())
        error = float(oracle.error(answer.draws(image), answer.draws(name)).mean())
        wanted = _spell(opened, name, answer.draws(name))
        said = f"reads {name} {_spell(opened, name, read)} where it should be {wanted}"
        if isinstance(target, Discrete):
            yield Belief("predictors", name, said, error, good=error == 0)
        else:
            said += f" (off by {error:.3g}; on the image as it was by {before:.3g})"
            yield Belief("predictors", name, said, error)


def _provenance(answer: Answer) -> Iterator[Belief]:
    words = {
        "known": "its noise is known",
        "exact": "its noise was found exactly",
        "posterior": "its noise is a draw from the exact posterior",
        "approximate": "its noise is approximate",
    }
    for name, kind in answer.provenance.abductions.items():
        rests = answer.provenance.assumptions.get(name, "")
        yield Belief("abduction", name, f"{name}: {words[kind]}; {rests}".rstrip("; "))


def _spell(opened: Opened, name: str, value: Tensor) -> str:
    variable = opened.model.variables[name]
    if isinstance(variable, Discrete):
        code = int(value.long().flatten().mode().values)
        return variable.label(code)
    return f"{float(value.double().mean()):.4g} {variable.unit}".rstrip()
