"""`evaluate`: the axioms, and the truth where it is known, on every test row, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from rung3.data.abductions import Abductions
from rung3.data.cache import Cache
from rung3.data.files import digest
from rung3.data.progress import tracked
from rung3.data.rows import Rows, Values, as_rows, named
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.stored import Stored
from rung3.data.variables import Image
from rung3.evaluation.baselines.baselines import of_world
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.evidence import between_rows, supports, trainings
from rung3.evaluation.measures.base import (
    Baseline,
    Examination,
    Reader,
    Readings,
    mode_of,
    read_images,
)
from rung3.evaluation.measures.registry import chosen
from rung3.evaluation.plan import planned
from rung3.evaluation.protocol import Protocol
from rung3.evaluation.report.report import Report
from rung3.evaluation.runner import Runner, summarise
from rung3.evaluation.verdict import judge
from rung3.scm.floating import in_own_precision
from rung3.scm.query import Query, outcomes
from rung3.scm.truth import Truths
from rung3.training.oracles.oracles import Oracles, fit_oracles

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["complete", "evaluate", "prepared"]

FRESH = 20_000
"""Rows drawn from a known world to train oracles on, where no training rows are given."""


@in_own_precision
def evaluate(
    model: SCM,
    test: Values,
    truth: SCM | None = None,
    train: Values | None = None,
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
    """Measure how sound a model's counterfactuals are (lecture 1.9), with 95 % intervals over rows.

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
            `truth`, the training rows are the test rows, a target is not a value of its variable,
            or an oracle took part in the training of the model.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> report = evaluate(world, world.sample(8, seed=0), truth=world, progress=False)
        >>> report.metrics["truth"]["do(x1)"]["x2"]["kept"]["skill"]["mean"]
        1.0
    """
    base = base_seed(seed)
    protocol = _settled(protocol, interventions, n, particles, bootstrap)
    rows, left_out, count = prepared(model, test, truth, protocol)
    seeds = range(base, base + protocol.seeds)
    plans = [planned(model, rows, count, train, protocol, k) for k in seeds]
    if oracles is None:
        oracles = _fit_oracles(model, test, truth, train, base, progress, cache)
    _check_oracles(model, oracles)
    if truth is not None:
        measures = truth.measures if measures is None else measures
        baselines = of_world(truth, model.device) if baselines is None else baselines
    setup = _Setup(
        model, truth, rows, left_out, count, protocol, seeds, plans, oracles, measures or {},
        baselines or {}, peers, batch_size,
    )  # fmt: skip
    with _evaluation_mode(model, oracles):
        runners = _run(setup, _reference(setup, train), cache, progress)
        return _report(setup, runners, train, dict(history or {}))


@dataclass(frozen=True)
class _Setup:
    """An evaluation before it is run: what is asked of the model, and what judges its answers.

    Attributes:
        model: The model.
        truth: The world, if known.
        rows: The complete test rows.
        left_out: Number of rows that were left out for missing values.
        n: Number of rows that are asked.
        protocol: What is asked and measured.
        seeds: One for each time that everything is asked.
        plans: The interventions of each seed.
        oracles: Oracles by (image, parent).
        readers: Functions that measure a parent on images.
        baselines: Functions that give an image without a model.
        peers: Models of other seeds that should agree with the model.
        batch_size: Rows at once.
    """

    model: SCM
    truth: SCM | None
    rows: Rows
    left_out: int
    n: int
    protocol: Protocol
    seeds: Sequence[int]
    plans: Sequence[list[Query]]
    oracles: Oracles
    readers: Mapping[str, Reader]
    baselines: Mapping[str, Baseline]
    peers: Sequence[SCM]
    batch_size: int

    @property
    def known(self) -> int:
        """Number of rows that are compared with the truth, if it is known."""
        limit = self.protocol.truth_n
        return self.n if limit is None else min(limit, self.n)

    def examination(self, seed: int, reference: tuple[Rows, Readings] | None) -> Examination:
        """Return an examination of the model with one of the seeds."""
        protocol = self.protocol
        return Examination(
            self.model, self.truth, self.oracles, self.readers, self.baselines,
            measures=chosen(protocol.measures),
            composition=protocol.composition,
            reversibility=protocol.reversibility,
            particles=protocol.particles,
            outcomes=outcomes(self.model),
            modes=_modes(self.model, protocol),
            batch_size=self.batch_size,
            reference=reference,
            peers=self.peers,
            seed=seed,
            first=seed == self.seeds[0],
        )  # fmt: skip


def _run(
    setup: _Setup, reference: tuple[Rows, Readings] | None, cache: Cache | None, progress: bool
) -> list[Runner]:
    """Ask everything, batch by batch, with each seed."""
    model, rows, known, size = setup.model, setup.rows, setup.known, setup.batch_size
    truths = None if setup.truth is None else Truths(cache, setup.truth)
    runners = [Runner(setup.examination(seed, reference), truths) for seed in setup.seeds]
    for at in _batches(setup.n, known, size, progress):
        batch = rows[at].to(model.device)
        batch.abductions = Abductions()
        readings = read_images(setup.oracles, batch, model.device, size)
        for runner, queries in zip(runners, setup.plans, strict=True):
            runner.ask(batch, at, queries, readings, at.start < known)
    runners[0].examples.sweep(model, rows, setup.plans[0])
    return runners


def _report(
    setup: _Setup, runners: list[Runner], train: Values | None, history: dict[str, Any]
) -> Report:
    """Return the report of what was asked."""
    model, first, queries = setup.model, runners[0], setup.plans[0]
    resamples = Bootstrap(setup.n, setup.protocol.bootstrap, setup.seeds[0])
    metrics = summarise(runners, setup.rows, queries, setup.known, resamples)
    rows = setup.rows[: setup.n]
    metrics["training"] = trainings(model, history)
    metrics["set"] = {query.label: list(query.do) for query in queries}
    metrics["between rows"] = between_rows(model, rows, setup.seeds[0])
    seen = {k: v for k, v in named({} if train is None else train).items() if k in model.variables}
    if len(seen) == len(model.variables):
        known = as_rows(seen, model.variables, torch.device("cpu"))
        metrics["positivity"] = supports(model, known, rows, first.targets)
    metrics["targets"] = {query.label: query.out_of_range(model) for query in queries}
    metrics["settings"] = _settings(setup)
    metrics["model"] = str(model).splitlines()
    metrics["verdict"] = judge(metrics).config()
    examples, scores = first.examples, first.exam.scores
    for (label, image), maps in first.exam.outside.items():
        examples.outside.setdefault(label, {})[image] = maps.means()
    return Report(metrics, model.graph, model.variables, examples, history, scores)


def _settings(setup: _Setup) -> dict[str, Any]:
    """Return how the numbers came about, and digests of what was asked."""
    model, truth, protocol, oracles = setup.model, setup.truth, setup.protocol, setup.oracles
    return {
        "rows": setup.n,
        "rows compared with the truth": setup.known if truth is not None else 0,
        "rows left out for missing values": setup.left_out,
        "seed": setup.seeds[0],
        "seeds": protocol.seeds,
        "targets": protocol.targets,
        "other parents": "propagated" if protocol.propagate else "held",
        "measures": sorted(protocol.measures),
        "particles": protocol.particles,
        "resamples": protocol.bootstrap,
        "batch size": setup.batch_size,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "oracles trained on": oracles.origin if len(oracles) else "no oracles",
        "world": truth.world if truth is not None else None,
        "digest of the rows": digest(setup.rows[: setup.n]),
        "digests of the targets": {query.label: query.digest() for query in setup.plans[0]},
        "steps skipped in training": {
            name: record["skipped_steps"]
            for name, record in model.fitted.items()
            if "skipped_steps" in record
        },
        "collapsed latents revived at step": {
            name: record["revived_at_step"]
            for name, record in model.fitted.items()
            if "revived_at_step" in record
        },
    }


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
    """Return the protocol with the fields that were given beside it."""
    if isinstance(protocol, str):
        protocol = Protocol.named(protocol)
    given = {
        "interventions": interventions, "n": n, "particles": particles, "bootstrap": bootstrap,
    }  # fmt: skip
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(protocol or Protocol(), **changes)


def complete(model: SCM, given: Values, what: str = "test") -> tuple[Rows, int]:
    """Return the rows without missing values, and how many were left out.

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
        raise ValueError(f"{what}: each of the {rows.n} rows lacks a value, or there are no rows")
    return (rows[~missing] if missing.any() else rows), int(missing.sum())


def prepared(
    model: SCM, test: Values, truth: SCM | None, protocol: Protocol
) -> tuple[Rows, int, int]:
    """Return the complete test rows, how many lacked a value, and how many are asked.

    Raises:
        ValueError: If they are fewer than the protocol asks for, or of another world.
    """
    rows, left_out = complete(model, test)
    n = _asked_rows(protocol, rows, left_out)
    _check_truth(model, truth, rows)
    return rows, left_out, n


def _asked_rows(protocol: Protocol, rows: Rows, left_out: int) -> int:
    """Return how many rows are asked: as many as the protocol wants, but for missing values."""
    available = rows.n + left_out
    for name, wanted in (("n", protocol.n), ("truth_n", protocol.truth_n)):
        if wanted is not None and wanted > available:
            raise ValueError(f"{name}={wanted}: there are only {available} test rows")
    return rows.n if protocol.n is None else min(protocol.n, rows.n)


def _reference(setup: _Setup, train: Values | None) -> tuple[Rows, Readings] | None:
    """Return real rows that are not asked, of training or fresh ones, and their readings."""
    model, truth, oracles = setup.model, setup.truth, setup.oracles
    limits = [measure.references for measure in chosen(setup.protocol.measures)]
    count = max(setup.n if limit is None else min(setup.n, limit) for limit in limits)
    if not count or not len(oracles) or (train is None and truth is None):
        return None
    if train is not None:
        some = as_rows(train, model.variables, torch.device("cpu"))[:count]
        rows, _ = complete(model, some, "training")
    elif truth is not None:
        rows = truth.sample(min(count, FRESH), seed=stream(setup.seeds[0], "reference"))
    moved = {k: v if isinstance(v, Stored) else v.to(model.device) for k, v in rows.items()}
    rows = Rows(moved, noise=rows.noise, world=rows.world)
    return rows, read_images(oracles, rows, model.device, setup.batch_size)


def _check_truth(model: SCM, truth: SCM | None, rows: Rows) -> None:
    """Refuse a world that the rows are not from."""
    if truth is None:
        return
    if set(truth.variables) != set(model.variables):
        raise ValueError(
            f"truth: its variables are {list(truth.variables)}, the model's {list(model.variables)}"
        )
    for name, variable in model.variables.items():
        true = truth.variables[name]
        if type(true) is not type(variable) or true.shape != variable.shape:
            raise ValueError(f"truth: {name} is {true} there, and {variable} in the model")
    if rows.world is not None and truth.world is not None and rows.world != truth.world:
        raise ValueError(
            f"truth: it is the world {truth.world!r}, but the test rows are from {rows.world!r}; "
            "its noise is not theirs"
        )


def _check_oracles(model: SCM, oracles: Oracles) -> None:
    """Refuse oracles that the model was trained to please."""
    for (image, name), oracle in oracles.items():
        if oracle.digest() in model.fitted.get(image, {}).get("predictors", ()):
            raise ValueError(
                f"oracles: the one that reads {name} off {image} was a predictor of the "
                f"counterfactual objective that {image} was trained by; fit others, with "
                "another seed, other rows, or another width: fit_oracles(model, rows, seed=...)"
            )


def _fit_oracles(
    model: SCM,
    test: Values,
    truth: SCM | None,
    train: Values | None,
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
    """Hold model and oracles in evaluation mode, without gradients; restore the model's."""
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
    """Yield batches of the rows; those whose truth is asked come first, in batches of their own."""
    parts = [slice(k, min(k + size, known)) for k in range(0, known, size)]
    parts += [slice(k, min(k + size, n)) for k in range(known, n, size)]
    yield from tracked(parts, "evaluating", progress)
