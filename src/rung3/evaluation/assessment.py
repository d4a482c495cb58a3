"""`evaluate`: every axiom, and the truth where it is known, of every test row, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from rung3.data.cache import Cache, Truths
from rung3.data.files import digest
from rung3.data.rows import Rows, as_rows
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.variables import Image
from rung3.evaluation.baselines.baselines import of_world
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.base import (
    Baseline,
    Examination,
    Reader,
    Sight,
    look,
    mode_of,
)
from rung3.evaluation.measures.minimality import REFERENCES
from rung3.evaluation.plan import planned
from rung3.evaluation.protocol import Protocol
from rung3.evaluation.report.report import Report
from rung3.evaluation.runner import Runner, summarise
from rung3.scm.floating import in_own_precision
from rung3.scm.query import outcomes
from rung3.training.oracles.oracles import Oracles, fit_oracles

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["complete", "evaluate", "prepared"]

FRESH = 20_000
"""Rows drawn from a known world to train oracles on, where no training rows are given."""


@in_own_precision
def evaluate(
    model: SCM,
    test: Mapping[str, Any],
    truth: SCM | None = None,
    train: Mapping[str, Any] | None = None,
    *,
    protocol: Protocol | str | None = None,
    interventions: Mapping[str, Any] | Iterable[str] | None = None,
    oracles: Oracles | None = None,
    measures: Mapping[str, Reader] | None = None,
    baselines: Mapping[str, Baseline] | None = None,
    history: Mapping[str, Any] | None = None,
    peers: Sequence[SCM] = (),
    seed: Seed = 0,
    n: int | None = None,
    batch_size: int = 256,
    particles: int | None = None,
    bootstrap: int | None = None,
    cache: Cache | None = None,
    progress: bool = True,
) -> Report:
    """How sound a model's counterfactuals are (lecture 1.9), with 95 % intervals over rows.

    By default it measures effectiveness, error and skill against the truth where that is known,
    composition, reversibility, spread and log-densities. A protocol may ask for more, which
    takes longer: see `Protocol`.

    Args:
        model: The model: of images and their causes, or of a table.
        test: Test rows, a value of every variable; rows with missing values are left out.
        truth: The world that the rows are from, if it is known; rows that carry its noise have
            true counterfactuals.
        train: Training rows, for the oracles, and for targets that are drawn from them; if not
            given, fresh rows of the world, and the test rows.
        protocol: What is asked and measured, or the name of a preset; arguments below that are
            given go before it.
        interventions: What to ask: names of variables, set to their values in other test rows; or
            by name a number, one target a row, or a function; or by a label several of these. By
            default every cause of an image, or of anything where there are no images.
        oracles: Trained oracles (`fit_oracles`), instead of new ones.
        measures: By parent of the image, a function that measures it on images `(n, C, H, W)`; if
            not given, the world's own.
        baselines: By name, a function of the factual image, its parents and their counterfactual
            values that gives an image; if not given, the world's own.
        history: Losses by name, for the report.
        peers: The same model of other seeds of training, whose disagreement is its stability.
        seed: Of targets, abduction, oracles and resamples.
        n: Number of rows that are asked, the first of `test`; all if not given. Log-densities are
            of all.
        batch_size: Rows at once.
        particles: Draws of the noise, for the spread; 8 if not given.
        bootstrap: Resamples; 0 for no intervals; 1000 if not given.
        cache: Where rendered truths and oracles are kept, such as `user_cache()`.
        progress: Whether to show a progress bar.

    Returns:
        The report: `print` it, `save` it, read its `metrics`.

    Raises:
        ValueError: If rows do not fit the variables, are fewer than `n`, are of another world than
            `truth`, the training rows are the test rows, a target is no value of its variable, or
            an oracle had its say in the training of the model.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> report = evaluate(world, world.sample(8, seed=0), truth=world, progress=False)
        >>> report.metrics["truth"]["do(x1)"]["x2"]["kept"]["skill"]["mean"]
        1.0
    """
    base = base_seed(seed)
    protocol = _settled(protocol, interventions, n, particles, bootstrap)
    rows, left_out, asked = prepared(model, test, truth, protocol)
    seeds = [base + k for k in range(protocol.seeds)]
    plans = [planned(model, rows, asked, train, protocol, k) for k in seeds]
    if oracles is None:
        oracles = _own_oracles(model, test, truth, train, base, progress, cache)
    _check_oracles(model, oracles)
    if truth is not None:
        measures = truth.measures if measures is None else measures
        baselines = of_world(truth, model.device) if baselines is None else baselines
    known = asked if protocol.truth_n is None else min(protocol.truth_n, asked)
    with _evaluation_mode(model, oracles):
        reference = _reference(model, truth, train, oracles, protocol, asked, batch_size, base)
        truths = None if truth is None else Truths(cache, truth)
        runners = [
            Runner(
                Examination(
                    model, truth, oracles, measures or {}, baselines or {},
                    wanted=protocol.measures,
                    composition=protocol.composition,
                    reversibility=protocol.reversibility,
                    particles=protocol.particles,
                    outcomes=outcomes(model),
                    modes=_modes(model, protocol),
                    seed=k,
                    generator=stream(k, "abduction"),
                    ties=stream(k, "ties", model.device),
                    batch_size=batch_size,
                    first=k == base,
                    reference=reference,
                    peers=peers,
                ),
                truths,
            )
            for k in seeds
        ]  # fmt: skip
        for at in _batches(asked, known, batch_size, progress):
            batch = rows[at].to(model.device)
            sight = look(oracles, batch, model.device, batch_size)
            for runner, queries in zip(runners, plans, strict=True):
                runner.ask(batch, at, queries, sight, at.start < known)
        first = runners[0]
        first.examples.sweep(model, rows, plans[0])
        resamples = Bootstrap(asked, protocol.bootstrap, base)
        metrics = summarise(runners, rows, plans[0], known, resamples)
    metrics.setdefault("log_prob", {})
    metrics.setdefault("divergence", {})
    metrics["targets"] = {query.label: query.out_of_range(model) for query in plans[0]}
    metrics["settings"] = {
        "rows": asked,
        "rows compared with the truth": known if truth is not None else 0,
        "rows left out for missing values": left_out,
        "seed": base,
        "seeds": protocol.seeds,
        "targets": protocol.targets,
        "other parents": "propagated" if protocol.propagate else "held",
        "measures": sorted(protocol.measures),
        "particles": protocol.particles,
        "resamples": protocol.bootstrap,
        "batch size": batch_size,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "oracles trained on": oracles.origin if len(oracles) else "no oracles",
        "world": truth.world if truth is not None else None,
        "digest of the rows": digest(rows[:asked]),
        "digests of the targets": {query.label: query.digest() for query in plans[0]},
        "steps skipped in training": {
            name: said["skipped_steps"]
            for name, said in model.fitted.items()
            if "skipped_steps" in said
        },
    }
    metrics["model"] = str(model).splitlines()
    curves, shown = dict(history or {}), first.examples
    return Report(metrics, model.graph, model.variables, shown, curves, first.seen.scores)


def _modes(model: SCM, protocol: Protocol) -> dict[str, float]:
    """Return factors on the noise of observation by name; 1 alone, where there is no such noise."""
    noisy = any(model.mechanisms[name].observation_noise for name in outcomes(model))
    return {mode_of(factor): factor for factor in (protocol.temperatures if noisy else (1.0,))}


def _settled(
    protocol: Protocol | str | None,
    interventions: Mapping[str, Any] | Iterable[str] | None,
    n: int | None,
    particles: int | None,
    bootstrap: int | None,
) -> Protocol:
    """The protocol, with what was given beside it."""
    if isinstance(protocol, str):
        protocol = Protocol.named(protocol)
    given = {
        "interventions": interventions, "n": n, "particles": particles, "bootstrap": bootstrap,
    }  # fmt: skip
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(protocol or Protocol(), **changes)


def complete(model: SCM, given: Mapping[str, Any], what: str = "test") -> tuple[Rows, int]:
    """Rows without missing values, and how many were left out.

    Raises:
        ValueError: If a variable is not there, or no row is complete.
    """
    rows = as_rows(given, model.variables, torch.device("cpu"))
    lacking = [name for name in model.variables if name not in rows]
    if lacking:
        raise ValueError(f"{lacking[0]}: not in the {what} rows, which have {list(rows)}")
    if not rows.batched:
        raise ValueError(f"{what}: expected a batch of rows, got a single one")
    missing = torch.zeros(rows.n, dtype=torch.bool)
    for name, variable in model.variables.items():
        missing |= variable.is_missing(rows[name])
    if missing.all():
        raise ValueError(f"{what}: each of the {rows.n} rows lacks a value, or there are none")
    return (rows[~missing] if missing.any() else rows), int(missing.sum())


def prepared(
    model: SCM, test: Mapping[str, Any], truth: SCM | None, protocol: Protocol
) -> tuple[Rows, int, int]:
    """Complete test rows, how many were left out for missing values, and how many are asked.

    Raises:
        ValueError: If they are fewer than the protocol asks for, or of another world.
    """
    rows, left_out = complete(model, test)
    asked = _asked_rows(protocol, rows, left_out)
    _check_truth(model, truth, rows)
    return rows, left_out, asked


def _asked_rows(protocol: Protocol, rows: Rows, left_out: int) -> int:
    """How many rows are asked: never fewer than were asked for, but for missing values."""
    there = rows.n + left_out
    for name, wanted in (("n", protocol.n), ("truth_n", protocol.truth_n)):
        if wanted is not None and wanted > there:
            raise ValueError(f"{name}={wanted}: there are but {there} test rows")
    return rows.n if protocol.n is None else min(protocol.n, rows.n)


def _reference(
    model: SCM,
    truth: SCM | None,
    train: Mapping[str, Any] | None,
    oracles: Oracles,
    protocol: Protocol,
    n: int,
    batch_size: int,
    seed: int,
) -> tuple[Rows, Sight] | None:
    """Real rows that are not asked, training rows or fresh ones of the world, and their sight."""
    sizes = {"realism": n, "minimality": min(n, REFERENCES)}
    wanted = max((size for name, size in sizes.items() if name in protocol.measures), default=0)
    if not wanted or not len(oracles) or (train is None and truth is None):
        return None
    if train is not None:
        some = as_rows(train, model.variables, torch.device("cpu"))[:wanted]
        rows, _ = complete(model, some, "training")
    elif truth is not None:
        rows = truth.sample(min(wanted, FRESH), seed=stream(seed, "reference"))
    rows = rows.to(model.device)
    return rows, look(oracles, rows, model.device, batch_size)


def _check_truth(model: SCM, truth: SCM | None, rows: Rows) -> None:
    """Refuse a world that the rows are not from."""
    if truth is None:
        return
    if set(truth.variables) != set(model.variables):
        raise ValueError(
            f"truth: its variables are {list(truth.variables)}, the model's {list(model.variables)}"
        )
    for name, variable in model.variables.items():
        there = truth.variables[name]
        if type(there) is not type(variable) or there.shape != variable.shape:
            raise ValueError(f"truth: {name} is {there} there, and {variable} in the model")
    if rows.world is not None and truth.world is not None and rows.world != truth.world:
        raise ValueError(
            f"truth: it is the world {truth.world!r}, but the test rows are from {rows.world!r}; "
            "their noise means nothing to it"
        )


def _check_oracles(model: SCM, oracles: Oracles) -> None:
    """Refuse to let a model be judged by what it was trained to please."""
    for (image, name), oracle in oracles.items():
        if oracle.digest() in model.fitted.get(image, {}).get("predictors", ()):
            raise ValueError(
                f"oracles: the one that reads {name} off {image} was a predictor of the "
                f"counterfactual objective that {image} was trained by; let others judge it, of "
                "another seed, other rows, or another width: fit_oracles(model, rows, seed=...)"
            )


def _own_oracles(
    model: SCM,
    test: Mapping[str, Any],
    truth: SCM | None,
    train: Mapping[str, Any] | None,
    seed: int,
    progress: bool,
    cache: Cache | None,
) -> Oracles:
    if train is test:
        raise ValueError("train: these are the test rows; oracles must not be trained on them")
    if not any(isinstance(variable, Image) for variable in model.variables.values()):
        return Oracles({})
    if train is not None:
        return fit_oracles(model, train, seed=seed, progress=progress, cache=cache)
    if truth is None:
        return Oracles({})
    fresh = truth.sample(FRESH, seed=stream(seed, "oracle rows"))
    origin = f"{FRESH} fresh rows of the world {truth.world!r}"
    return fit_oracles(model, fresh, seed=seed, progress=progress, origin=origin, cache=cache)


@contextmanager
def _evaluation_mode(model: SCM, oracles: Oracles) -> Iterator[None]:
    """Model and oracles in evaluation mode, without gradients; the model's mode is restored."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    oracles.to(model.device).freeze()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode


def _batches(n: int, known: int, size: int, progress: bool) -> Iterator[slice]:
    """Batches of the rows; those whose truth is asked come first, and in batches of their own."""
    from rich.progress import track

    parts = [slice(k, min(k + size, known)) for k in range(0, known, size)]
    parts += [slice(k, min(k + size, n)) for k in range(known, n, size)]
    yield from track(parts, "evaluating", disable=not progress, transient=True)
