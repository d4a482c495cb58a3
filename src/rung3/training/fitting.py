"""`fit`: train the mechanisms of a model, each by its own loss.

The objective factorises (lecture 1.8):

    log p(x) = sum_k log p(x_k | pa_k),   so   loss = sum_k loss_k(x_k, pa_k).

No two mechanisms share a parameter, so training them together is training each on its own: a row
trains every mechanism whose value and parents it has, gradients are clipped mechanism by mechanism,
and the random numbers of a step are a function of the seed, the step and the mechanism alone.

The learning rate at step t of T is `lr * min(1, (t + 1) / warmup)`, with the cosine schedule times
`(1 + cos(pi t / T)) / 2`. The moving average after n steps has the decay `min(ema, (1 + n) /
(10 + n))`, so that it forgets the first steps quickly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import torch

from rung3.data.files import write_json
from rung3.data.rows import Rows, as_rows, spell_unknown
from rung3.data.seeding import Seed, base_seed, seeded
from rung3.mechanisms.base import Trainable
from rung3.scm.districts.district import District
from rung3.scm.floating import in_own_precision
from rung3.scm.interventions import Intervention
from rung3.scm.scm import SCM
from rung3.scm.undeclared import infer
from rung3.training.batches import Table
from rung3.training.plug_in import warn_of_formulas
from rung3.training.remarks import remark

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from rung3.training.counterfactual import CounterfactualObjective

__all__ = ["History", "Options", "calibrate", "fit"]

Schedule = Literal["constant", "cosine"]


@dataclass
class History:
    """What training did, epoch by epoch.

    Attributes:
        training: Mean loss in each epoch, by mechanism.
        validation: Loss on the validation rows after each epoch, by mechanism.
        seconds: Seconds that each epoch took, validation aside.
        rows_per_second: Rows seen a second in each epoch.
        skipped: How many steps of a mechanism were skipped because it diverged, if any were.
        counterfactual: What the counterfactual objective came to in each epoch, by mechanism and by
            what is meant.
    """

    training: dict[str, list[float]] = field(default_factory=dict)
    validation: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    rows_per_second: list[float] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    counterfactual: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """By mechanism, its losses in training and in validation: what the report draws."""
        losses = {
            name: {"training": losses} | ({"validation": held} if held else {})
            for name, losses in self.training.items()
            for held in [self.validation.get(name)]
        }
        more = {f"{k}, counterfactual": curves for k, curves in self.counterfactual.items()}
        return losses | more

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        return cls(**json.loads(Path(path).read_text("utf-8")))


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `fit`, checked."""

    epochs: int
    batch_size: int
    lr: float | None
    weight_decay: float
    seed: int
    patience: int | None
    ema: float | None
    clip: float | None
    skip: float | None
    schedule: Schedule
    warmup: int | None
    precision: Any
    devices: int | str | list[int]
    num_nodes: int
    accelerator: str
    logger: Logger | Iterable[Logger] | bool | None
    checkpoints: Path | None
    checkpoint_every: int | None
    resume: bool
    progress: bool
    max_seconds: float | None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "checkpoint_every"):
            count, optional = getattr(self, name), name in ("patience", "checkpoint_every")
            whole = isinstance(count, int) and not isinstance(count, bool)
            if not (whole and count >= 1) and not (count is None and optional):
                raise ValueError(f"{name}={count!r} must be a whole number of at least 1")
        for name in ("lr", "clip", "skip", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value!r} must be greater than 0")
        for name in ("weight_decay", "warmup"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name}={value!r} must be at least 0")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema={self.ema!r} must lie between 0 and 1, such as 0.999")
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"schedule={self.schedule!r} must be one of {get_args(Schedule)}")
        if self.checkpoint_every is not None and self.checkpoints is None:
            raise ValueError("checkpoint_every: say the folder too, with checkpoints=")

    def share(self, step: int, steps: int) -> float:
        """The share of the highest learning rate at a step, of so many."""
        warmup = min(200, steps // 10) if self.warmup is None else self.warmup
        warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
        done = min(1.0, step / steps)
        cosine = (1 + math.cos(math.pi * done)) / 2 if self.schedule == "cosine" else 1.0
        return warm * cosine

    def identity(self) -> dict[str, Any]:
        """What must be as it was for a run to go on to the same result."""
        names = ["batch_size", "lr", "weight_decay", "seed", "patience", "ema", "clip", "skip"]
        names += ["schedule", "warmup", "precision"]
        names += ["epochs"] if self.schedule == "cosine" or self.warmup is None else []
        return {name: getattr(self, name) for name in names}


@in_own_precision
def fit(
    model: SCM,
    train: Mapping[str, Any],
    validation: Mapping[str, Any] | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float | None = None,
    weight_decay: float = 0.0,
    seed: Seed = 0,
    only: Iterable[str] | None = None,
    validation_share: float = 0.1,
    patience: int | None = None,
    ema: float | None = 0.999,
    clip: float | None = 1.0,
    skip: float | None = None,
    schedule: Schedule = "cosine",
    warmup: int | None = None,
    precision: Any = "32-true",
    devices: int | str | list[int] = 1,
    num_nodes: int = 1,
    accelerator: str = "auto",
    logger: Logger | Iterable[Logger] | bool | None = None,
    checkpoints: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool = True,
    progress: bool = True,
    max_seconds: float | None = None,
    objective: CounterfactualObjective | Literal["likelihood", "counterfactual"] = "likelihood",
) -> History:
    """Train the mechanisms of a model, in place, with AdamW on a Lightning trainer.

    Every mechanism first takes its scales and its range from the training rows, unless it was
    fitted before; those without parameters (equations) need no more. The model is left on its
    device, in eval mode, and the parameters of what was fitted are frozen: queries then keep a
    graph of gradients only where values or interventions ask for one (`requires_grad_()` thaws
    them, and so does another `fit`).

    With `checkpoints`, a run that was killed and is started again goes on from its last checkpoint,
    and ends with the weights that it would have had (on the CPU bit for bit, with the same number
    of threads). One that was finished is loaded, with a warning that nothing was trained.

    Args:
        model: The model; training goes on from the weights that it has.
        train: Training rows. Those that lack a value (NaN) train the mechanisms that they can; a
            warning says how many do, and what that assumes (see `rung3.training.remarks`).
        validation: Validation rows; never the test set.
        epochs: Passes over the training rows.
        batch_size: Rows a step, over all devices.
        lr: Learning rate, the highest of the schedule; each mechanism's own `learning_rate` if not
            given.
        weight_decay: Of AdamW.
        seed: Of the order of rows and of all random numbers; torch's own are left as they are.
        only: Names of the variables whose mechanisms are trained; all if not given.
        validation_share: Share of the training rows set aside if no validation rows are given; 0
            for none.
        patience: Train a mechanism no further once its validation loss has not fallen for so many
            epochs; every mechanism then ends with the weights of its best epoch.
        ema: Decay of a moving average of the weights; it is what is validated and kept. `None` for
            the weights themselves.
        clip: Greatest norm of each mechanism's gradient; `None` for any.
        skip: A mechanism's step is skipped, and counted, if its gradient's norm is above this; one
            that is not finite always is.
        schedule: `"constant"` or `"cosine"`, to zero at the last step.
        warmup: Steps in which the learning rate rises; if not given 200, or a tenth of all.
        precision: As Lightning names it, such as `"bf16-mixed"`.
        devices: How many devices, which, or `"auto"`.
        num_nodes: How many machines.
        accelerator: As Lightning names it, such as `"cpu"`.
        logger: A Lightning logger, or several.
        checkpoints: Folder for `last.ckpt`, written after every epoch.
        checkpoint_every: Steps between further checkpoints.
        resume: Whether to go on from the checkpoint, if there is one.
        progress: Whether to show a progress bar.
        max_seconds: Stop after so many seconds of training.
        objective: `"likelihood"`; or `"counterfactual"`, for images, to be fitted after the others:
            see `rung3.training.counterfactual.CounterfactualObjective`, which has options.

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

    Example:
        >>> from rung3 import SCM, worlds
        >>> model = SCM("x1 -> x2")
        >>> history = fit(model, worlds.lecture().sample(500, seed=0), epochs=2, progress=False)
        >>> {name: len(losses) for name, losses in history.validation.items()}
        {'x1': 2, 'x2': 2}
    """
    from rung3.training.counterfactual import as_objective, remembered

    aim = as_objective(objective, patience)
    options = Options(
        epochs=epochs,
        batch_size=batch_size,
        lr=aim.lr if aim and lr is None else lr,
        weight_decay=weight_decay,
        seed=base_seed(seed),
        patience=patience,
        ema=ema,
        clip=clip,
        skip=skip,
        schedule=schedule,
        warmup=warmup,
        precision=precision,
        devices=devices,
        num_nodes=num_nodes,
        accelerator=accelerator,
        logger=logger,
        checkpoints=None if checkpoints is None else Path(checkpoints),
        checkpoint_every=checkpoint_every,
        resume=resume,
        progress=progress,
        max_seconds=max_seconds,
    )
    infer(model, train)
    chosen = _chosen(model, aim.images(model) if aim and only is None else only)
    also = aim.columns(model, chosen) if aim else []
    rows, held = _rows(model, train, validation, chosen, also, validation_share, options)
    remark(chosen, rows)
    calibrate(model, chosen, rows, options.seed)
    for name, mechanism in chosen.items():
        if name in model.fitted:
            mechanism.requires_grad_(True)
    learned = {
        name: mechanism
        for name, mechanism in chosen.items()
        if any(parameter.requires_grad for parameter in mechanism.parameters())
    }
    history, losses = History(), {}
    if learned:
        from rung3.training.loop import run

        if aim:
            images = {name: model.mechanisms[name] for name in learned}
            losses = aim.prepare(model, images, rows, held, options.seed, progress)
        table = Table(rows, learned.values(), also)
        validated = None if held is None else Table(held, learned.values())
        dtype = next(p.dtype for m in learned.values() for p in m.parameters())
        try:
            history = run(learned, table, validated, options, losses)
        finally:
            model.to(model.device, dtype).eval()
    model.eval()
    for mechanism in learned.values():
        mechanism.requires_grad_(False)
    said = _provenance(chosen, rows, history, options)
    model.fitted = {**model.fitted, **remembered(model.fitted, said, losses)}
    if any(isinstance(mechanism, District) for mechanism in learned.values()):
        warn_of_formulas(model, rows)
    return history


def _chosen(model: SCM, only: Iterable[str] | None) -> dict[str, Trainable]:
    """The mechanisms to train, by name; those that hidden causes join, as one."""
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
    train: Mapping[str, Any],
    validation: Mapping[str, Any] | None,
    chosen: Mapping[str, Trainable],
    also: Collection[str],
    share: float,
    options: Options,
) -> tuple[Rows, Rows | None]:
    """Checked training rows, and validation rows if there are to be any."""
    rows = _checked(model, train, chosen, also, "training")
    if validation is not None:
        return rows, _checked(model, validation, chosen, (), "validation")
    if share == 0:
        if options.patience is not None:
            raise ValueError("patience: needs validation rows; give some, or a validation_share")
        return rows, None
    from rung3.data.splits import split

    try:
        return split(rows, share, options.seed)
    except ValueError:
        raise ValueError(
            f"validation_share={share} of {rows.n} training rows leaves a part empty; give "
            "validation_share=0 for none, another share, or validation rows"
        ) from None


def _checked(
    model: SCM,
    values: Mapping[str, Any],
    chosen: Mapping[str, Trainable],
    also: Collection[str],
    which: str,
) -> Rows:
    rows = as_rows(values, model.variables, torch.device("cpu"))
    needed = dict.fromkeys([*(n for m in chosen.values() for n in (m.name, *m.parents)), *also])
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
        value, parents = Table(rows, [mechanism]).all().of(mechanism)
        parents = {parent: column.to(model.device) for parent, column in parents.items()}
        with seeded(base_seed(seed, "calibrate"), name, model.device), torch.no_grad():
            mechanism.calibrate(value.to(model.device), parents)


def _provenance(
    chosen: Mapping[str, Trainable], rows: Rows, history: History, options: Options
) -> dict[str, dict[str, Any]]:
    """When and how each mechanism was fitted: what a model file keeps."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    found = {}
    for name, mechanism in chosen.items():
        complete = Table(rows, [mechanism]).complete
        n = int(complete[mechanism.name].sum()) if complete else rows.n
        found[name] = {"when": when, "rows": n}
        if name in history.training:
            found[name] |= {"epochs": len(history.training[name]), **options.identity()}
            found[name]["lr"] = options.lr or chosen[name].learning_rate
            if name in history.skipped:
                found[name]["skipped_steps"] = history.skipped[name]
            for key, curves in (
                ("training_loss", history.training),
                ("validation_loss", history.validation),
            ):
                if curves.get(name):
                    found[name][key] = curves[name][-1]
        if isinstance(mechanism, District):
            found |= dict.fromkeys(mechanism.names, found[name])
    return found
