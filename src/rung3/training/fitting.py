"""Training: the mechanisms of a model, each by its own loss.

The objective factorises (lecture 1.8):

    log p(x) = sum_k log p(x_k | pa_k),   so   loss = sum_k loss_k(x_k, pa_k).

No two mechanisms share a parameter, so training them together is training each on its own: a row
trains every mechanism whose value and parents it has, gradients are clipped mechanism by mechanism,
and the random numbers of a step are a function of the seed, the step and the mechanism alone.

The learning rate follows the schedule in `rung3.training.options`. The moving average after n steps
has the decay `min(ema, (1 + n) / (10 + n))`, so that it forgets the first steps quickly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch

from rung3.data.rows import Rows, Values, as_rows, spell_unknown
from rung3.data.seeding import base_seed, seeded
from rung3.data.splits import split
from rung3.data.stored import Stored
from rung3.mechanisms.base import Trainable
from rung3.scm.districts.district import District
from rung3.scm.floating import in_own_precision
from rung3.scm.interventions import Intervention
from rung3.scm.scm import SCM
from rung3.scm.undeclared import infer
from rung3.training.batches import Table
from rung3.training.counterfactual.loss import CounterfactualLoss
from rung3.training.counterfactual.preparation import (
    columns,
    images_of,
    prepare,
    with_predictors,
)
from rung3.training.options import History, Options
from rung3.training.plug_in import warn_of_formulas
from rung3.training.relearning import is_solved, relearning
from rung3.training.remarks import quiet, remark
from rung3.training.windows import WindowedTable

__all__ = [
    "calibrate",
    "checked",
    "fit_mechanisms",
    "learn",
    "mechanisms_of",
    "notes_of",
    "train_on",
]


@in_own_precision
def fit_mechanisms(
    model: SCM,
    train: Values,
    validation: Values | None = None,
    *,
    only: Iterable[str] | None = None,
    **options: Any,
) -> History:
    """Train the mechanisms that a model has; the arguments are those of `rung3.fit`."""
    settings = Options(**options)
    objective = settings.counterfactual
    first = not model.fitted and only is None and objective is None
    infer(model, train)
    chosen = mechanisms_of(model, images_of(model) if objective and only is None else only)
    further = columns(objective, model, chosen) if objective else []
    rows, held = _rows(model, train, validation, chosen, further, settings)
    remark(chosen, rows)
    calibrate(model, chosen, rows, settings.seed)
    learned = _trainable(chosen, model.fitted)
    history, losses = History(), {}
    if learned:
        if objective:
            images = {name: model.mechanisms[name] for name in learned}
            seed, progress = settings.seed, settings.progress
            losses = prepare(objective, model, images, rows, held, seed, progress)
        table = Table(rows, learned.values(), further)
        validating = None if held is None else Table(held, learned.values())
        history = train_on(model, learned, table, validating, settings, losses)
    model.eval()
    for mechanism in learned.values():
        mechanism.requires_grad_(False)
    fitted = notes_of(chosen, _counts(chosen, rows), history, settings)
    model.fitted = {**model.fitted, **with_predictors(model.fitted, fitted, losses)}
    model.relearn = None
    if first:
        everything = as_rows(train, model.variables, torch.device("cpu"))
        options_after = {**options, "checkpoints": None, "logger": None}
        model.relearn = relearning(model, everything, partial(learn, options=options_after))
    if any(isinstance(mechanism, District) for mechanism in learned.values()):
        warn_of_formulas(model, rows)
    return history


def _trainable(chosen: Mapping[str, Trainable], fitted: Mapping[str, Any]) -> dict[str, Trainable]:
    """Return what has parameters to learn; what was fitted before learns on."""
    for name in chosen.keys() & fitted.keys():
        chosen[name].requires_grad_(True)
    return {name: mechanism for name, mechanism in chosen.items() if mechanism.learns}


def train_on(
    model: SCM,
    learned: Mapping[str, Trainable],
    table: Table | WindowedTable,
    validation: Table | None,
    options: Options,
    losses: Mapping[str, CounterfactualLoss],
) -> History:
    """Train mechanisms, and leave the model on its device and in its precision."""
    from rung3.training.loop import run  # Lightning takes seconds to import

    dtype = next(p.dtype for m in learned.values() for p in m.parameters())
    try:
        return run(learned, table, validation, options, losses)
    finally:
        model.to(model.device, dtype).eval()


def learn(
    model: SCM, names: list[str], rows: Rows, seed: int, *, options: Mapping[str, Any]
) -> None:
    """Fit mechanisms of a model: solve those that can be, and train the rest.

    Args:
        model: The model, not fitted before.
        names: Their names.
        rows: The rows.
        seed: Seed of everything.
        options: Those of `fit`, for what is trained.
    """
    solved = {name: model.mechanisms[name] for name in names if is_solved(model.mechanisms[name])}
    calibrate(model, solved, rows, seed)
    model.requires_grad_(False)
    if trained := [name for name in names if name not in solved]:
        for name in trained:
            model.mechanisms[name].requires_grad_(True)
        with quiet():
            fit_mechanisms(
                model, rows, only=trained, **{**options, "seed": seed, "progress": False}
            )
    model.eval()


def mechanisms_of(model: SCM, only: Iterable[str] | None) -> dict[str, Trainable]:
    """Return the mechanisms to train, by name; those that hidden causes join, as one."""
    if isinstance(only, str):
        raise ValueError(f"only={only!r} must be a list of names, such as {[only]}")
    names = list(model.variables if only is None else only)
    unknown = [name for name in names if name not in model.variables]
    if unknown:
        raise ValueError(f"only: {spell_unknown(unknown, model.variables)}")
    mechanisms = {name: model.mechanisms[name] for name in model.variables if name in names}
    for name, mechanism in mechanisms.items():
        if isinstance(mechanism, Intervention):
            raise ValueError(f"{name}: {mechanism.describe()}; fit the model before do({name}=...)")
    return model.confounding.units(mechanisms, model.mechanisms)


def _rows(
    model: SCM,
    train: Values,
    validation: Values | None,
    chosen: Mapping[str, Trainable],
    further: Collection[str],
    options: Options,
) -> tuple[Rows, Rows | None]:
    """Check the training rows, and the validation rows if there are to be any."""
    rows = checked(model, train, chosen, further, "training")
    if validation is not None:
        return rows, checked(model, validation, chosen, (), "validation")
    share = options.validation_share
    if share == 0:
        if options.patience is not None:
            raise ValueError("patience: needs validation rows; give some, or a validation_share")
        return rows, None
    try:
        return split(rows, share, options.seed)
    except ValueError:
        raise ValueError(
            f"validation_share={share} of {rows.n} training rows leaves a part empty; give "
            "validation_share=0 for none, another share, or validation rows"
        ) from None


def checked(
    model: SCM,
    values: Values,
    chosen: Mapping[str, Trainable],
    further: Collection[str],
    which: str,
) -> Rows:
    """Check that rows have what mechanisms need, and give them as `Rows`, named in errors."""
    rows = as_rows(values, model.variables, torch.device("cpu"))
    needed = dict.fromkeys([*(n for m in chosen.values() for n in (m.name, *m.parents)), *further])
    lacking = [name for name in needed if name not in rows]
    if lacking:
        raise ValueError(
            f"{lacking[0]}: not in the {which} rows, which have {list(rows)}; "
            f"give it, or say with only= which mechanisms to train"
        )
    if not rows.batched or rows.n == 0:
        raise ValueError(f"the {which} rows: expected a batch of rows, got {rows}")
    # Rows that a model drew remember how: here they are data.
    return Rows({name: value.detach() for name, value in rows.items()})


def calibrate(model: SCM, chosen: Mapping[str, Trainable], rows: Rows, seed: int) -> None:
    """Give mechanisms that were not fitted before their scales, and what else needs no steps."""
    for name, mechanism in chosen.items():
        if name in model.fitted:
            continue  # its weights belong to the scales that it has
        complete = Table(rows, [mechanism]).complete.get(mechanism.name)
        whole = rows if complete is None else rows[complete]
        value = whole[
            mechanism.name
        ]  # images that are stored are not read: nothing is taken of them
        value = value if isinstance(value, Stored) else value.to(model.device)
        parents = {parent: whole[parent].to(model.device) for parent in mechanism.parents}
        with seeded(base_seed(seed, "calibrate"), name, model.device), torch.no_grad():
            mechanism.calibrate(value, parents)


def _counts(chosen: Mapping[str, Trainable], rows: Rows) -> dict[str, int]:
    """Return how many rows each mechanism has."""
    counts = dict.fromkeys(chosen, rows.n)
    for name, mechanism in chosen.items():
        if complete := Table(rows, [mechanism]).complete:
            counts[name] = int(complete[mechanism.name].sum())
    return counts


def notes_of(
    chosen: Mapping[str, Trainable],
    counts: Mapping[str, int],
    history: History,
    options: Options,
) -> dict[str, dict[str, Any]]:
    """Note when, how and on how many rows each mechanism was fitted: what a model file keeps."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    notes = {}
    for name, mechanism in chosen.items():
        notes[name] = {"when": when, "rows": counts[name], **chosen[name].training_record()}
        if name in history.training:
            notes[name] |= {"epochs": len(history.training[name]), **options.identity()}
            notes[name]["lr"] = options.lr or chosen[name].learning_rate
            if name in history.skipped:
                notes[name]["skipped_steps"] = history.skipped[name]
            if name in history.revived:
                notes[name]["revived_at_step"] = history.revived[name]
                notes[name]["restarted"] = history.restarted[name]
            for key, curves in (
                ("training_loss", history.training),
                ("validation_loss", history.validation),
            ):
                if curves.get(name):
                    notes[name][key] = curves[name][-1]
        if isinstance(mechanism, District):
            notes |= dict.fromkeys(mechanism.names, notes[name])
    return notes
