"""`fit`: choose what nobody named, or train as told.

Where a table's model has mechanisms that nobody named, and nobody said how to train, the default of
their kind (a flow that may be of any shape) errs more, and takes longer, than what `choose` finds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from rung3.data.rows import Values, as_rows, named
from rung3.data.seeding import base_seed
from rung3.data.streaming import Streamed
from rung3.data.validation import takes
from rung3.data.variables import Image
from rung3.scm.floating import in_own_precision
from rung3.scm.interventions import Intervention
from rung3.scm.scm import SCM
from rung3.scm.undeclared import infer
from rung3.training.batches import Table
from rung3.training.by_batches import fit_by_batches, sample_of
from rung3.training.choice import choose, constants
from rung3.training.fitting import fit_mechanisms
from rung3.training.options import History, Options
from rung3.training.relearning import Relearn

__all__ = ["fit", "is_chosen"]

LEAST_ROWS = 400
"""Complete rows of each mechanism from which on a fifth of them can judge."""

SILENT = {"seed", "progress"}
"""Options that do not say how to train."""


@in_own_precision
@takes(Options)
def fit(
    model: SCM,
    train: Values | Streamed,
    validation: Values | None = None,
    *,
    only: Iterable[str] | None = None,
    **options: Any,
) -> History:
    """Fit the mechanisms of a model, in place.

    Of a table of which nothing is said but a graph (mechanisms that were not named, and no option
    but `seed` and `progress`), mechanisms are chosen and fitted by `choose`, and the history says
    which: so for at least 400 rows, no hidden common causes and no images. With any other option,
    such as `epochs`, or validation rows, the mechanisms are those that the model has.

    These are trained with AdamW on a Lightning trainer. Every mechanism first takes its scales and
    its range from the training rows, unless it was fitted before; those without parameters
    (equations) need no more. The model is left on its device, in eval mode, and the parameters of
    what was fitted are frozen: queries then keep a graph of gradients only where values or
    interventions ask for one (`requires_grad_()` thaws them, and so does another `fit`).

    With `checkpoints`, a run that was killed and is started again resumes from its last checkpoint,
    and ends with the weights that it would have had (on the CPU bit for bit, with the same number
    of threads). One that was finished is loaded, with a warning that nothing was trained.

    Args:
        model: The model; training goes on from the weights that it has.
        train: Training rows. Those that lack a value (NaN) train the mechanisms that they can; a
            warning says how many do, and what that assumes (see `rung3.training.remarks`). Or a
            table that is read by batches (`rung3.data.streamed`): see `rung3.training.by_batches`.
        validation: Validation rows; never the test set.
        only: Names of the variables whose mechanisms are trained; all if not given.
        options: See `rung3.training.Options`, whose fields they are.

    Warns:
        UserWarning: Of gaps; of a column with one value, with a value so far out that the others
            look alike, or too close together for its precision.

    Returns:
        Losses by mechanism and epoch, and how long each epoch took.

    Raises:
        ValueError: If the rows do not fit the model, before anything starts; if a loss or a weight
            is NaN or infinite, naming the mechanism and the step; if the checkpoint is of another
            run.
        Stopped: If a signal ends it (Ctrl-C, SIGTERM, SIGHUP), with the step that it was at.
        ChildProcessError: If another of several processes ended before this one.

    Example:
        >>> from rung3 import SCM, worlds
        >>> rows = worlds.lecture().sample(500, seed=0)
        >>> fit(SCM("x1 -> x2"), rows).chosen["x2"]
        'AdditiveNoise(degree=1)'
        >>> history = fit(SCM("x1 -> x2"), rows, epochs=2, progress=False)
        >>> {name: len(losses) for name, losses in history.validation.items()}
        {'x1': 2, 'x2': 2}
    """
    if isinstance(train, Streamed):
        return _fit_by_batches(model, train, validation, only=only, **options)
    if validation is None and only is None and options.keys() <= SILENT and is_chosen(model, train):
        return _choose(model, train, options)
    return fit_mechanisms(model, train, validation, only=only, **options)


def is_chosen(model: SCM, rows: Values) -> bool:
    """Return whether `fit` chooses a model's mechanisms, if it is not told how to train.

    Args:
        model: The model.
        rows: Training rows.
    """
    images = any(isinstance(kind, Image) for kind in model.variables.values())
    free = [name for name in model.graph.nodes if name in model.defaults]
    unnamed = any(model.graph.parents(name) for name in free)
    lacking = set(model.variables) - set(named(rows))
    intervened = any(isinstance(m, Intervention) for m in model.mechanisms.values())
    if images or lacking or intervened or not unnamed or model.fitted or model.confounding.members:
        return False
    with warnings.catch_warnings(action="ignore"):  # what it says, it says again where it is used
        infer(model, rows)
    table = as_rows(rows, model.variables, torch.device("cpu"))
    if not table.batched or table.n < LEAST_ROWS or constants(table):
        return False
    counts = Table(table, [model.mechanisms[name] for name in free]).complete.values()
    return all(int(complete.sum()) >= LEAST_ROWS for complete in counts)


def _fit_by_batches(
    model: SCM,
    table: Streamed,
    validation: Values | None,
    only: Iterable[str] | None,
    **options: Any,
) -> History:
    """Fit a model to a table that is read by batches; mechanisms are chosen on a sample of it."""
    chosen: Mapping[str, str] = {}
    if validation is None and only is None and options.keys() <= SILENT:
        sample = sample_of(model, table, base_seed(options.get("seed", 0)))
        if is_chosen(model, sample):
            chosen = _choose(model, sample, options).chosen
    history = fit_by_batches(model, table, validation, only=only, **options)
    return replace(history, chosen=dict(chosen))


def _choose(model: SCM, rows: Values, options: dict[str, Any]) -> History:
    """Give a model the mechanisms that are chosen for it."""
    choice = choose(model, rows, **options)
    model.take(choice.model)
    if isinstance(choice.model.relearn, Relearn):
        model.relearn = replace(choice.model.relearn, model=model)
    return replace(choice.history, chosen=dict(choice.chosen))
