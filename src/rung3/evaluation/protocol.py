"""`evaluate`: every axiom, and the truth where it is known, of every test row, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from rung3.digests import digest
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.collapse import divergences
from rung3.evaluation.densities import densities
from rung3.evaluation.examination import Examination, Measure
from rung3.evaluation.oracles import Oracles, fit_oracles
from rung3.evaluation.queries import plan
from rung3.evaluation.report import Report
from rung3.evaluation.truth import Baseline
from rung3.rows import Rows, as_rows
from rung3.seeding import Seed, base_seed, stream
from rung3.variables import Image

if TYPE_CHECKING:
    from rung3.scm import SCM

__all__ = ["evaluate"]

FRESH = 20_000
"""Rows drawn from a known world to train oracles on, where no training rows are given."""


def evaluate(
    model: SCM,
    test: Mapping[str, Any],
    truth: SCM | None = None,
    train: Mapping[str, Any] | None = None,
    *,
    interventions: Mapping[str, Any] | Iterable[str] | None = None,
    oracles: Oracles | None = None,
    measures: Mapping[str, Measure] | None = None,
    baselines: Mapping[str, Baseline] | None = None,
    history: Mapping[str, Any] | None = None,
    seed: Seed = 0,
    n: int | None = None,
    batch_size: int = 256,
    particles: int = 8,
    bootstrap: int = 1000,
    progress: bool = True,
) -> Report:
    """How sound a model's counterfactuals are (lecture 1.9), with 95 % intervals over rows.

    Args:
        model: The model: of images and their causes, or of a table.
        test: Test rows, a value of every variable; rows with missing values are left out.
        truth: The world that the rows are from, if it is known; rows that carry its noise have
            true counterfactuals.
        train: Training rows, for the oracles; if not given, fresh rows of the world.
        interventions: What to ask: names of variables, set to their values in other test rows; or
            by name a number, one target a row, or a function; or by a label several of these. By
            default every cause of an image, or of anything where there are no images.
        oracles: Trained oracles (`fit_oracles`), instead of new ones.
        measures: By parent of the image, a function that measures it on images `(n, C, H, W)`; if
            not given, the world's own.
        baselines: By name, a function of the factual image, its parents and their counterfactual
            values that gives an image; if not given, the world's own.
        history: Losses by name, for the report.
        seed: Of targets, abduction, oracles and resamples.
        n: Number of rows that are asked, the first of `test`; all if not given. Log-densities are
            of all.
        batch_size: Rows at once.
        particles: Draws of the noise, for the spread.
        bootstrap: Resamples; 0 for no intervals.
        progress: Whether to show a progress bar.

    Returns:
        The report: `print` it, `save` it, read its `metrics`.

    Raises:
        ValueError: If rows do not fit the variables, the training rows are the test rows, or an
            oracle had its say in the training of the model.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> report = evaluate(world, world.sample(8, seed=0), truth=world, progress=False)
        >>> report.metrics["truth"]["do(x1)"]["x2"]["kept"]["skill"]["mean"]
        1.0
    """
    base = base_seed(seed)
    rows, left_out = _complete(model, test)
    n = rows.n if n is None else min(n, rows.n)
    queries = plan(model, rows, n, interventions, base)
    _check_truth(model, truth)
    if oracles is None:
        oracles = _own_oracles(model, test, truth, train, base, progress)
    _check_oracles(model, oracles)
    if truth is not None:
        measures = truth.measures if measures is None else measures
        baselines = truth.baselines if baselines is None else baselines
    examination = Examination(model, truth, oracles, measures or {}, baselines or {}, base)
    with _evaluation_mode(model, oracles):
        for at in _batches(n, batch_size, progress):
            batch = rows[at].to(model.device)
            examination.factual(batch)
            examination.null(batch)
            for query in queries:
                examination.ask(query, query.at(at, model.device), batch, particles)
        examination.examples.sweep(model, rows, queries)
        metrics = examination.summary(Bootstrap(n, bootstrap, base))
        resamples = Bootstrap(rows.n, bootstrap, base)
        seen = densities(model, truth, rows, batch_size, resamples, base, examination.scores)
        held = divergences(model, rows, batch_size, resamples, base)
    metrics["log_prob"], metrics["divergence"] = seen, held
    metrics["settings"] = {
        "rows": n,
        "rows left out for missing values": left_out,
        "seed": base,
        "particles": particles,
        "resamples": bootstrap,
        "batch size": batch_size,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "oracles trained on": oracles.origin if len(oracles) else "no oracles",
        "world": truth.world if truth is not None else None,
        "digest of the rows": digest(rows[:n]),
        "digests of the targets": {query.label: query.digest() for query in queries},
        "steps skipped in training": {
            name: said["skipped_steps"]
            for name, said in model.fitted.items()
            if "skipped_steps" in said
        },
    }
    metrics["model"] = str(model).splitlines()
    found, shown = dict(history or {}), examination.examples
    return Report(metrics, model.graph, model.variables, shown, found, examination.scores)


def _complete(model: SCM, test: Mapping[str, Any]) -> tuple[Rows, int]:
    """Test rows without missing values, and how many were left out."""
    rows = as_rows(test, model.variables, torch.device("cpu"))
    lacking = [name for name in model.variables if name not in rows]
    if lacking:
        raise ValueError(f"{lacking[0]}: not in the test rows, which have {list(rows)}")
    if not rows.batched:
        raise ValueError("test: expected a batch of rows, got a single one")
    missing = torch.zeros(rows.n, dtype=torch.bool)
    for name, variable in model.variables.items():
        missing |= variable.is_missing(rows[name])
    if missing.all():
        raise ValueError(f"test: each of the {rows.n} rows lacks a value, or there are none")
    return (rows[~missing] if missing.any() else rows), int(missing.sum())


def _check_truth(model: SCM, truth: SCM | None) -> None:
    if truth is not None and set(truth.variables) != set(model.variables):
        raise ValueError(
            f"truth: its variables are {list(truth.variables)}, the model's {list(model.variables)}"
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
) -> Oracles:
    if train is test:
        raise ValueError("train: these are the test rows; oracles must not be trained on them")
    if not any(isinstance(variable, Image) for variable in model.variables.values()):
        return Oracles({})
    if train is not None:
        return fit_oracles(model, train, seed=seed, progress=progress)
    if truth is None:
        return Oracles({})
    fresh = truth.sample(FRESH, seed=stream(seed, "oracle rows"))
    origin = f"{FRESH} fresh rows of the world {truth.world!r}"
    return fit_oracles(model, fresh, seed=seed, progress=progress, origin=origin)


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


def _batches(n: int, size: int, progress: bool) -> Iterator[slice]:
    from rich.progress import track

    starts = range(0, n, size)
    for start in track(starts, "evaluating", disable=not progress, transient=True):
        yield slice(start, min(start + size, n))
