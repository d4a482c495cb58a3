r"""Learning from rows with gaps, where gaps depend on what the rows have: Monte Carlo EM.

A mechanism that trains on the rows that have its value and its parents learns what holds *among
them*. Where gaps depend on other values that the rows have (missing at random), it learns better
from all rows, completed. From the fit to the available rows on, in turn,

    1. what each row lacks is drawn K times given what it has, `m ~ p(m | o)`,
    2. the mechanisms that had gaps in their value or parents are fitted to the completed rows,

which climbs the likelihood of what the rows have, up to the noise of the draws (Wei and Tanner,
JASA 1990). The parameters settle at a rate of the share of information that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from rung3.data.rows import Rows, as_rows
from rung3.data.seeding import Seed, base_seed
from rung3.scm.imputation import complete, gaps
from rung3.scm.scm import SCM
from rung3.training.fitting import fit_mechanisms, learn
from rung3.training.relearning import relearning
from rung3.training.remarks import quiet

__all__ = ["fit_incomplete"]


def fit_incomplete(
    model: SCM,
    rows: Mapping[str, Any],
    *,
    rounds: int = 20,
    particles: int = 5,
    proposals: int | None = None,
    seed: Seed = 0,
    **options: Any,
) -> SCM:
    """Fit a model to rows with gaps, by what their other values tell of what they lack.

    Args:
        model: The model, fitted to the rows or not. Its mechanisms go on from what they learned.
        rows: Training rows, NaN where a value is missing (of variables with `missing=True`).
        rounds: How often gaps are filled, and the mechanisms fitted.
        particles: Draws of what a row lacks, in each round.
        proposals: As of `rung3.scm.imputation.complete`.
        seed: Of everything.
        options: More options of `fit`.

    Returns:
        The model.

    Raises:
        ValueError: As `fit`, and as `rung3.scm.imputation.complete`: if a row has no value at all,
            hidden causes join variables, or a likelihood that is needed is only a bound.

    Example:
        >>> from rung3 import SCM, Continuous
        >>> from rung3.mechanisms import AdditiveNoise, Equation
        >>> kinds = {"x": Continuous(missing=True), "y": Continuous()}
        >>> rows = dict(SCM(x=Equation("u"), y=Equation("x + u")).sample(400, seed=0))
        >>> rows["x"] = torch.where(rows["y"] > 1, torch.nan, rows["x"])  # not where y is low
        >>> lines = {"x": AdditiveNoise(degree=1), "y": AdditiveNoise(degree=1)}
        >>> model = fit_incomplete(SCM("x -> y", kinds, lines), rows, rounds=8)
        >>> bool(abs(model.sample(2_000, seed=0)["x"].mean()) < 0.2)  # of those with x it is -.4
        True
    """
    base = base_seed(seed, "incomplete")
    if not model.fitted:
        with quiet():
            fit_mechanisms(model, rows, seed=base, **{"progress": False, **options})
    table = Rows(dict(as_rows(rows, model.variables, torch.device("cpu"))))
    masks = gaps(model, table)
    if not masks:
        return model
    names = [
        name
        for name, mechanism in model.mechanisms.items()
        if masks.keys() & {name, *mechanism.parents} and any(True for _ in mechanism.parameters())
    ]
    for turn in range(rounds):
        turn_seed = base_seed(base, f"round {turn}")
        filled = complete(model, table, particles, proposals=proposals, seed=turn_seed).rows
        _fit_again(model, names, Rows(dict(filled)), turn_seed, options)
    settings = {"rounds": rounds, "particles": particles, "proposals": proposals, **options}
    model.relearn = relearning(model, table, partial(_learn, options=settings), quick=False)
    return model


def _learn(
    model: SCM, names: list[str], rows: Rows, seed: int, *, options: Mapping[str, Any]
) -> None:
    """Learn all mechanisms again: what one learns of gaps hangs on the others."""
    everything = list(model.variables)
    with quiet():
        learn(model, everything, rows, seed, options={})
    model.fitted = {name: {} for name in everything}
    fit_incomplete(model, rows, seed=seed, **options)


def _fit_again(
    model: SCM, names: list[str], rows: Rows, seed: int, options: Mapping[str, Any]
) -> None:
    """Fit some mechanisms to completed rows, in place."""
    blank = {name: one.clone() for name, one in model.mechanisms.items()}
    fresh = SCM(model.graph, model.variables, blank)
    learn(fresh, names, rows, seed, options=options)
    for name in names:
        model.mechanisms[name].load_state_dict(fresh.mechanisms[name].state_dict())
