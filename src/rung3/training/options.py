"""The options of `fit`, each said once, and the history that it returns.

The signature of `fit` and the keys of a study's `training` are read off `Options`.

The learning rate at step t of T is `lr * min(1, (t + 1) / warmup)`, with the cosine schedule times
`(1 + cos(pi t / T)) / 2`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field

from rung3.data.files import write_json
from rung3.data.seeding import base_seed
from rung3.data.validation import Count, NonNegative, Positive, Validated, WholeNumber, expected
from rung3.training.counterfactual.objective import CounterfactualObjective
from rung3.training.loggers import check_logger

__all__ = ["History", "Options", "Schedule", "Strategy"]

Schedule = Literal["constant", "cosine"]

Strategy = Literal["auto", "ddp", "fsdp2"]
"""Each process has all weights, or a part of them: see `rung3.training.sharding`."""

SCALED = ("16", "16-mixed")
"""Precisions in which losses are scaled, so that small gradients are not lost."""

WARMUP = 200
"""Steps in which the learning rate rises where none are given, or a tenth of all if that is less:
the moments of AdamW have settled by then."""


def _some(devices: Any) -> Any:
    if devices in (0, "0", "", []):
        raise ValueError("no device")
    return devices


Devices = Annotated[
    Annotated[int, Field(ge=-1)] | str | list[int],
    AfterValidator(_some),
    expected("a number of at least 1, a list of device numbers, or 'auto' or -1 for all"),
]


@dataclass
class History:
    """The record of training, epoch by epoch.

    Attributes:
        training: Mean loss in each epoch, by mechanism.
        validation: Loss on the validation rows after each epoch, by mechanism.
        seconds: Seconds that each epoch took, validation aside.
        rows_per_second: Rows seen a second in each epoch.
        skipped: How many steps of a mechanism were skipped because it diverged, if any were.
        counterfactual: Means of the counterfactual objective's parts in each epoch, by mechanism
            and part.
        revived: The step at which a mechanism's latents had collapsed and were revived, if they
            were: see `rung3.mechanisms.autoencoder`.
        restarted: What happened then, in a sentence.
        chosen: The mechanism of each variable, as it would be written, if they were chosen.
    """

    training: dict[str, list[float]] = field(default_factory=dict)
    validation: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    rows_per_second: list[float] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    counterfactual: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    revived: dict[str, int] = field(default_factory=dict)
    restarted: dict[str, str] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Return, by mechanism, its losses in training and in validation: the report draws them."""
        losses = {
            name: {"training": losses} | ({"validation": held} if held else {})
            for name, losses in self.training.items()
            for held in [self.validation.get(name)]
        }
        more = {f"{k}, counterfactual": curves for k, curves in self.counterfactual.items()}
        return losses | more

    def beside(self, other: Self) -> Self:
        """Return the record of this training, and of another one of other mechanisms before it."""
        parts = ((getattr(other, one.name), getattr(self, one.name)) for one in fields(self))
        whole = [a | b if isinstance(a, dict) else a + b for a, b in parts]
        return type(self)(*whole)

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        return cls(**json.loads(Path(path).read_text("utf-8")))


@dataclass(frozen=True, kw_only=True)
class Options(Validated):
    """The options of `fit`.

    Args:
        epochs: Passes over the training rows.
        batch_size: Rows a step, over all devices.
        lr: Learning rate, the highest of the schedule; if not given, the objective's, or each
            mechanism's own `learning_rate`.
        weight_decay: Weight decay of AdamW.
        seed: Seed of the order of rows and of all random numbers: an int; or a generator, or `None`
            for torch's own, from which one is drawn. Torch's own numbers are left as they are.
        validation_share: Share of the training rows set aside if no validation rows are given; 0
            for none.
        patience: Train a mechanism no further once its validation loss has not fallen for so many
            epochs; every mechanism then ends with the weights of its best epoch.
        ema: Decay of a moving average of the weights, which is what is validated and kept; `None`
            for the weights themselves.
        clip: Greatest norm of each mechanism's gradient; `None` for any.
        skip: A mechanism's step is skipped, and counted, if its gradient's norm is above this; one
            that is not finite always is.
        schedule: `"constant"`, or `"cosine"`, to zero at the last step.
        warmup: Steps in which the learning rate rises; if not given 200, or a tenth of all.
        precision: As Lightning names it, such as `"bf16-mixed"`.
        devices: How many devices, which, or `"auto"`.
        num_nodes: How many machines; the same command is started on each.
        strategy: `"ddp"`, for which a batch is dealt out to processes that have all weights each;
            `"fsdp2"`, for which each keeps a part of them, for models that do not fit on a device;
            `"auto"` for `"ddp"` on several devices, and for no other process on one.
        accelerator: As Lightning names it, such as `"cpu"`.
        logger: `"csv"`, `"tensorboard"` or `"wandb"`; or a Lightning logger, or several; `True` for
            Lightning's default. What is named writes into the folder of checkpoints.
        checkpoints: Folder for `last.ckpt`, written after every epoch.
        checkpoint_every: Steps between further checkpoints.
        resume: Whether to resume from the checkpoint, if there is one.
        progress: Whether to show a progress bar.
        max_seconds: Stop after so many seconds of training.
        objective: `"likelihood"`; or `"counterfactual"`, for images, to be fitted after the others:
            see `rung3.training.counterfactual.CounterfactualObjective`, which has options.

    Raises:
        ValueError: If an option is out of range, or two do not go together.
    """

    epochs: Count = 10
    batch_size: Count = 128
    lr: Positive | None = None
    weight_decay: NonNegative = 0.0
    seed: Annotated[
        int, BeforeValidator(base_seed), expected("an int, a torch.Generator or None")
    ] = 0
    validation_share: Annotated[
        float, Field(ge=0, lt=1), expected("at least 0 and less than 1")
    ] = 0.1
    patience: Count | None = None
    ema: Annotated[float, Field(gt=0, lt=1), expected("between 0 and 1, such as 0.999")] | None = (
        0.999
    )
    clip: Positive | None = 1.0
    skip: Positive | None = None
    schedule: Annotated[Schedule, expected("one of ('constant', 'cosine')")] = "cosine"
    warmup: WholeNumber | None = None
    precision: str | int = "32-true"
    devices: Devices = 1
    num_nodes: Count = 1
    strategy: Annotated[Strategy, expected("one of ('auto', 'ddp', 'fsdp2')")] = "auto"
    accelerator: str = "auto"
    logger: Any = None
    checkpoints: str | Path | None = None
    checkpoint_every: Count | None = None
    resume: bool = True
    progress: bool = True
    max_seconds: Positive | None = None
    objective: Annotated[
        Literal["likelihood", "counterfactual"] | CounterfactualObjective,
        expected("'likelihood', 'counterfactual' or a CounterfactualObjective(...)"),
    ] = "likelihood"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_logger(self.logger)
        if self.checkpoint_every is not None and self.checkpoints is None:
            raise ValueError("checkpoint_every: give the folder as well, with checkpoints=")
        if self.counterfactual and self.patience is not None:
            raise ValueError(
                "patience: goes by the likelihood alone; leave it out with this objective"
            )
        if self.sharded and self.counterfactual:
            raise ValueError(
                "strategy='fsdp2': only losses are computed by weights in parts, and a "
                "counterfactual objective asks more; use 'ddp', or objective='likelihood'"
            )
        if self.sharded and str(self.precision) in SCALED:
            raise ValueError(
                f"strategy='fsdp2': precision={self.precision!r} scales losses, by weights that "
                "no process has whole; use 'bf16-mixed' or '32-true'"
            )
        if self.lr is None and self.counterfactual:
            object.__setattr__(self, "lr", self.counterfactual.lr)

    @property
    def counterfactual(self) -> CounterfactualObjective | None:
        """The objective, where it is not the likelihood."""
        if isinstance(self.objective, CounterfactualObjective):
            return self.objective
        return CounterfactualObjective() if self.objective == "counterfactual" else None

    @property
    def sharded(self) -> bool:
        """Whether each process keeps a part of the weights."""
        return self.strategy == "fsdp2"

    @property
    def folder(self) -> Path | None:
        """The folder of checkpoints."""
        return None if self.checkpoints is None else Path(self.checkpoints)

    def share(self, step: int, steps: int) -> float:
        """Return the share of the highest learning rate at a step, of so many."""
        warmup = min(WARMUP, steps // 10) if self.warmup is None else self.warmup
        warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
        done = min(1.0, step / steps)
        cosine = (1 + math.cos(math.pi * done)) / 2 if self.schedule == "cosine" else 1.0
        return warm * cosine

    def identity(self) -> dict[str, Any]:
        """Return what must be unchanged for a run to resume to the same result."""
        names = ["batch_size", "lr", "weight_decay", "seed", "patience", "ema", "clip", "skip"]
        names += ["schedule", "warmup", "precision"]
        names += ["epochs"] if self.schedule == "cosine" or self.warmup is None else []
        return {name: getattr(self, name) for name in names}
