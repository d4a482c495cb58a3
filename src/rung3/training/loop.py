"""The Lightning module and trainer behind `rung3.fit`.

Which rows make up a step, and every random number drawn in it, are functions of the seed, the step
and the mechanism. A checkpoint therefore holds no random state, and a run that resumes from one
does what it would have done.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any, cast

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed import DistStoreError
from torch.distributed.tensor.experimental import implicit_replication

from rung3.data.seeding import seeded
from rung3.mechanisms.base import Trainable
from rung3.training.aftermath import remark_after
from rung3.training.averaging import Average
from rung3.training.batches import Batch, Shuffled, Sweep, Table
from rung3.training.checkpoints import Checkpoints, Sealed, check, resuming
from rung3.training.counterfactual.loss import CounterfactualLoss
from rung3.training.lines import Lines
from rung3.training.loggers import logger_of
from rung3.training.options import History, Options
from rung3.training.processes import is_lost, summed
from rung3.training.restarts import Restarts
from rung3.training.sharding import Sharded, average_gradients, is_of_parts, whole
from rung3.training.stopping import Stopped, stoppable
from rung3.training.windows import WindowedTable

__all__ = ["Loop", "check_devices", "quiet", "run", "trainer_on"]

DOUBLE = (64, "64", "64-true")
"""Precisions in which weights are doubles."""

WAIT = timedelta(minutes=10)
"""How long a process waits for the others, which may be saving or compiling, before it gives up."""

PLACES = ("accelerator", "devices", "num_nodes", "precision", "strategy")
"""Options that a machine may not be able to fulfil."""

RENDEZVOUS = frozenset({"MASTER_ADDR", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"})
"""Variables of which one is set where processes on several machines find each other."""

LAST = "last.ckpt"
"""Name of the checkpoint."""

REMARKS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"You're resuming from a checkpoint that ended before",  # rows are a function of the step
    r"Be aware that when using `ckpt_path`, callbacks",  # max_seconds may be given up
    r"Found \d+ module\(s\) in eval mode",  # predictors are frozen
)


def run(
    mechanisms: Mapping[str, Trainable],
    train: Table | WindowedTable,
    validation: Table | None,
    options: Options,
    objectives: Mapping[str, CounterfactualLoss] | None = None,
) -> History:
    """Train mechanisms in place, from the last checkpoint if there is one."""
    loop = Loop(mechanisms, train, validation, options, objectives or {})
    loop.train()
    if options.precision in DOUBLE:  # before a checkpoint fills it, whose weights are in double
        loop.double()
    last = _checkpoint(options)
    saved = options.folder is not None
    cure = "the same call resumes" if saved else "with checkpoints= it could resume from there"
    with stoppable(loop.where, cure), quiet():
        trainer = _trainer(loop, options)
        try:
            with resuming(last, lambda: loop.began is not None), _explaining(loop, trainer, cure):
                trainer.fit(loop, ckpt_path=last, weights_only=True if last else None)
        except SystemExit:  # what Lightning makes of a signal that a handler of the caller's takes
            terminated = trainer.received_sigterm
            raise Stopped(SIGTERM if terminated else SIGINT, loop.where(), cure) from None
    if last is not None and loop.began in (None, loop.global_step):
        warnings.warn(
            f"checkpoints: {last} holds this training, finished: nothing was trained, only loaded; "
            "to train, resume=False or another folder",
            stacklevel=4,
        )
    loop.finish()
    remark_after(loop.history, mechanisms, trainer.global_step, options)
    return loop.history


@contextmanager
def _explaining(loop: Loop, trainer: Trainer, cure: str) -> Iterator[None]:
    """Say in plain words what keeps several processes from training together."""
    options = loop.options
    try:
        yield
    except DistStoreError:
        raise ValueError(
            f"num_nodes={options.num_nodes}, devices={options.devices!r}: not all processes "
            f"came within {WAIT}; start the same command on every machine"
        ) from None
    except RuntimeError as error:
        if is_of_parts(error):
            raise ValueError(
                f"strategy='fsdp2': the loss of one of {', '.join(loop.names)} uses weights "
                "other than by calling layers, which weights in parts do not allow; set "
                "differentiates = True in its class, or use strategy='ddp'"
            ) from error
        if trainer.world_size == 1 or not is_lost(error):
            raise
        raise ChildProcessError(
            f"another process has ended, or cannot be reached, {loop.where()}; its own message "
            f"says why, if it had one; {cure}, with as many processes or others"
        ) from None


def _checkpoint(options: Options) -> Path | None:
    """Return the checkpoint to resume from, if there is one; a damaged one is refused."""
    if options.folder is None or not options.resume:
        return None
    path = options.folder / LAST
    if not path.is_file():
        return None
    check(path)
    return path


def _trainer(loop: Loop, options: Options) -> Trainer:
    """Return the trainer of a loop, which writes checkpoints if they have a folder.

    Where nobody watches a bar move, each epoch is a line.
    """
    seconds, folder = options.max_seconds, options.folder
    plain = options.progress and not sys.stderr.isatty()
    loop.lines = Lines(options.epochs) if plain else None
    callbacks: list[Callback] = []
    if folder is not None:
        callbacks.append(Checkpoints(folder / LAST, options.checkpoint_every))
    return trainer_on(
        options,
        max_epochs=options.epochs,
        max_time=None if seconds is None else timedelta(seconds=seconds),
        logger=logger_of(options.logger, folder),
        default_root_dir=folder,
        log_every_n_steps=max(1, min(50, loop.steps)),
        callbacks=callbacks,
        plugins=[Sealed()],
        enable_checkpointing=folder is not None,
        enable_progress_bar=options.progress and not plain,
        num_sanity_val_steps=0,
        limit_val_batches=0 if loop.tables["validation"] is None else 1.0,
        use_distributed_sampler=False,
    )


def trainer_on(options: Options, **more: Any) -> Trainer:
    """Return a Lightning trainer on the devices that the options name.

    Raises:
        ValueError: If they are not available here.
    """
    devices, cores = options.devices, os.cpu_count() or 1
    if isinstance(devices, int) and devices > max(cores, torch.cuda.device_count()):
        raise ValueError(f"devices: {devices}; this machine has {cores} cores")
    if options.num_nodes > 1 and RENDEZVOUS.isdisjoint(os.environ):
        raise ValueError(
            f"num_nodes={options.num_nodes}: the address of the others is unknown; start the same "
            "command on every machine with torchrun or srun, or with MASTER_ADDR, MASTER_PORT and "
            "NODE_RANK set"
        )
    alone = options.strategy == "auto" and devices == options.num_nodes == 1
    places = {name: getattr(options, name) for name in PLACES}
    try:
        return Trainer(
            **{**places, "strategy": "auto" if alone else _together(options)},
            enable_model_summary=False,
            **more,
        )
    except (MisconfigurationException, ValueError, RuntimeError, TypeError) as error:
        given = [f"{k}={v!r}" for k, v in places.items() if v != getattr(Options, k)]
        text = " ".join(str(error).split())
        raise ValueError(f"{', '.join(given)} cannot be used here: {text}") from None


def _together(options: Options) -> DDPStrategy:
    """Return how several processes train together."""
    if options.sharded:
        return Sharded(timeout=WAIT)
    return DDPStrategy(timeout=WAIT, find_unused_parameters=True, broadcast_buffers=False)


def check_devices(options: Options) -> None:
    """Refuse devices and a precision that are not available here.

    Raises:
        ValueError: If so.
    """
    with quiet():
        trainer_on(options, logger=False, enable_checkpointing=False)


class Loop(LightningModule):
    """Mechanisms trained side by side.

    Args:
        mechanisms: The bound mechanisms, by name.
        train: Rows to train on.
        validation: Rows to validate on, or `None`.
        options: The options of `fit`.
        objectives: By name, what is minimised instead of the mechanism's own loss.

    Attributes:
        history: Losses so far.
        steps: Steps of one epoch.
    """

    def __init__(
        self,
        mechanisms: Mapping[str, Trainable],
        train: Table | WindowedTable,
        validation: Table | None,
        options: Options,
        objectives: Mapping[str, CounterfactualLoss],
    ) -> None:
        super().__init__()
        self.names = list(mechanisms)
        self.options = options
        self.tables: dict[str, Table | WindowedTable | None] = {
            "training": train,
            "validation": validation,
        }
        self.results = list(mechanisms.values())
        # Parts of weights cannot be joined again in their modules: what is in parts is a copy.
        self.trained = nn.ModuleList(
            copy.deepcopy(self.results) if options.sharded else self.results
        )
        self.objectives = dict(objectives)
        self.aims = nn.ModuleList(objectives.values())  # their state is saved, and moved
        self.average = None if options.ema is None else Average(self.trained, options.ema)
        self.steps = len(Shuffled(train, options.batch_size, options.seed))
        self.history = History({name: [] for name in self.names})
        if validation is not None:
            self.history.validation |= {name: [] for name in self.names}
        self.best: dict[str, tuple[float, int, dict[str, Tensor]]] = {}
        # Of losses and of rows of this process: (training or validation, mechanisms, 2).
        self.sums = torch.zeros(2, len(self.names), 2, dtype=torch.float64)
        self.idle: set[str] = set()  # mechanisms that no row of the step trains
        self.elapsed = 0.0
        self.started = 0.0
        self.began: int | None = None  # the first step of this call; none if nothing was left to do
        self.lines: Lines | None = None  # told of every epoch, where no bar is shown
        self.digests: dict[str, str] = {}
        self.restarts = Restarts(options, self.steps)

    @property
    def validated(self) -> nn.ModuleList:
        """The mechanisms that are validated and kept: with averaged weights, if there are any."""
        return self.trained if self.average is None else self.average.module

    def units(self) -> list[nn.Module]:
        """Return the mechanisms that are trained, and those with averaged weights."""
        return [*self.trained, *([] if self.average is None else self.average.module)]

    def where(self) -> str:
        """Say where training is, for one who stops it."""
        return f"at step {self.global_step} of fitting {', '.join(self.names)}"

    # The rows ------------------------------------------------------------------------------------

    def train_dataloader(self) -> Shuffled:
        """Return the training rows in random order."""
        size, seed = self.options.batch_size, self.options.seed
        self.order = Shuffled(self._table("training"), size, seed, *self._place())
        return self.order

    def val_dataloader(self) -> Sweep:
        """Return the validation rows in their order."""
        held = self._table("validation")
        assert isinstance(held, Table)
        return Sweep(held, self.options.batch_size, *self._place())

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Let columns come in the trainer's precision, to the device, as they are asked for."""
        convert = self.trainer.precision_plugin.convert_input
        return batch.sent(lambda column: convert(column).to(device))

    def _table(self, split: str) -> Table | WindowedTable:
        table = self.tables[split]
        assert table is not None
        return table.to(self.trainer.strategy.root_device)

    def _place(self) -> tuple[int, int]:
        return self.trainer.global_rank, self.trainer.world_size

    # One step ------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the sum of the losses of the mechanisms that are still trained."""
        step = self.trainer.global_step
        stopped = self._stopped()
        self.idle = set()
        losses = [
            self._loss(0, k, name, mechanism, batch, step)
            for k, (name, mechanism) in enumerate(zip(self.names, self.trained, strict=True))
            if name not in stopped
        ]
        return torch.stack(losses).sum()

    def validation_step(self, batch: Batch, index: int) -> None:
        """Add up losses on rows held out; random numbers are the same after every epoch."""
        for k, (name, mechanism) in enumerate(zip(self.names, self.validated, strict=True)):
            self._loss(1, k, name, mechanism, batch, index)

    def _loss(
        self, split: int, k: int, name: str, mechanism: Any, batch: Batch, step: int
    ) -> Tensor:
        """Return a loss whose mean over all processes is that over all their rows."""
        if not batch.total(mechanism):
            if split == 1:
                return torch.zeros((), device=self.device)
            self.idle.add(name)
            trained = next(p for p in mechanism.parameters() if p.requires_grad)
            none: Tensor = 0 * whole(trained.sum())  # every loss must hang on a parameter
            return none
        # The last part was the process's number once; it keeps the streams of one process.
        key = f"{name}/{('training', 'validation')[split]}/{step}/0"
        with seeded(self.options.seed, key, self.device):
            loss: Tensor
            if split == 0 and name in self.objectives:
                loss, mean = self.objectives[name](mechanism, batch, step)
            else:
                value, parents = batch.of(mechanism)
                with batch.as_one(mechanism):
                    mean = mechanism.loss(value, parents)
                loss = mean * batch.weight(mechanism)
        if not loss.isfinite():
            self._broken(mechanism, f"its loss is {loss.item()} at")
        count = batch.count(mechanism)
        self.sums[split, k] += torch.tensor(
            [float(mean.detach()) * count, count], dtype=torch.float64
        )
        return loss

    def _broken(self, mechanism: Any, what: str) -> None:
        options = self.options
        rate = options.lr or mechanism.learning_rate
        raise ValueError(
            f"{mechanism.name}: {what} step {self.trainer.global_step}; try a lower lr (now "
            f"{rate:g}), a lower clip (now {options.clip}), precision='32-true' (now "
            f"{options.precision!r}), or look for extreme values in "
            f"{' and '.join([mechanism.name, *mechanism.parents])}"
        )

    def configure_optimizers(self) -> Any:
        """Return AdamW with each mechanism's learning rate, set at every step, and betas."""
        options = self.options
        modules: Any = self.trained
        groups = [
            {
                "params": [p for p in mechanism.parameters() if p.requires_grad],
                "lr": options.lr or mechanism.learning_rate,
                "betas": mechanism.betas,
            }
            for mechanism in modules
        ]
        # Fused, it takes a fifth of the time; Lightning's loss scaling must unscale by itself.
        fused = options.precision not in (16, "16", "16-mixed")
        optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay, fused=fused)
        rates: list[Callable[[int], float]] = [
            partial(self.restarts.rate, name) for name in self.names
        ]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip each mechanism by itself, and skip the step of one that diverges.

        They have nothing to do with each other; without gradients, AdamW leaves a mechanism alone.
        """
        greatest = math.inf if self.options.clip is None else self.options.clip
        for name, mechanism in zip(self.names, self.trained, strict=True):
            if name in self.idle:
                mechanism.zero_grad()
                continue
            if self.options.sharded:
                average_gradients(mechanism)
            norm = whole(nn.utils.clip_grad_norm_(mechanism.parameters(), greatest))
            if not norm.isfinite() or (self.options.skip and norm > self.options.skip):
                mechanism.zero_grad()
                self.history.skipped[name] = self.history.skipped.get(name, 0) + 1

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        """Step, and move the average of the weights along."""
        super().optimizer_step(*args, **options)
        step, modules = self.trainer.global_step, cast(Any, self.trained)  # counted later, from 0
        ended = self.restarts.ended(self.names, step)
        for k, (name, mechanism) in enumerate(zip(self.names, modules, strict=True)):
            if name in ended:
                continue
            done = self.restarts.done(name, step + 1)
            with implicit_replication() if self.options.sharded else nullcontext():
                why = mechanism.after_step(self.options.seed, done)
            if why:
                self._start_over(name, mechanism, why)
            if self.average is not None:
                self.average.update(k, max(0, self.restarts.since(name, step)))

    def _start_over(self, name: str, mechanism: nn.Module, why: str) -> None:
        """Let a mechanism, whose networks are fresh now, train as from the first step."""
        restarts = self.restarts
        restarts.began[name] = self.history.revived[name] = self.trainer.global_step + 1
        self.trainer.fit_loop.max_epochs = restarts.epochs
        for parameter in mechanism.parameters():
            self.trainer.optimizers[0].state.pop(parameter, None)
        self.best.pop(name, None)
        added = restarts.added(name)
        longer = f", with {added} epoch{'s' * (added > 1)} more" * (added > 0)
        self.history.restarted[name] = f"{why}{longer}"
        if self.lines is not None:
            self.lines.epochs = restarts.epochs
        if self.trainer.is_global_zero:
            warnings.warn(f"{name}: {self.history.restarted[name]}", stacklevel=2)

    # One epoch -----------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Take up the rows at the step that a checkpoint left off, if anything is left to do."""
        self.order.step = self.began = self.trainer.global_step
        if self.lines is not None:
            self.lines.begin(self.trainer.current_epoch, self.restarts.epochs)
        self.started = time.perf_counter()
        if len(self._stopped()) == len(self.names):
            self.trainer.should_stop = True

    def on_train_epoch_start(self) -> None:
        """Restart the clock."""
        self.elapsed, self.started = 0.0, time.perf_counter()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.elapsed, self.started = self.elapsed + now - self.started, now

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the steps of the epoch: `max_seconds` may end it early."""
        self.done = batch_idx + 1

    def on_validation_epoch_start(self) -> None:
        """Stop the clock of training, and reset the validation losses."""
        self._tick()
        self.sums[1] = 0

    def on_validation_epoch_end(self) -> None:
        """Note the validation losses, and keep the weights that are a mechanism's best."""
        means = self._note(1, self.history.validation)
        self.log("validation", sum(means.values()), prog_bar=True, rank_zero_only=True)
        self.started = time.perf_counter()
        if self.options.patience is None:
            return
        stopped = self._overdue()
        for name, mechanism in zip(self.names, self.validated, strict=True):
            epoch = len(self.history.validation[name])
            if name not in stopped and means[name] < self.best.get(name, (torch.inf,))[0]:
                state = {k: v.detach().clone() for k, v in mechanism.state_dict().items()}
                self.best[name] = (means[name], epoch, state)
        if len(self._stopped()) == len(self.names):
            self.trainer.should_stop = True

    def on_train_epoch_end(self) -> None:
        """Note the training losses."""
        self._tick()
        self._note(0, self.history.training)
        for name, objective in self.objectives.items():
            objective.sums = self._summed(objective.sums)
            curves = self.history.counterfactual.setdefault(name, {})
            for part, mean in objective.means().items():
                curves.setdefault(part, []).append(mean)
        self.history.seconds.append(self.elapsed)
        if self.options.progress:
            left = self.restarts.epochs - len(self.history.seconds)
            self.log("minutes_left", left * self.elapsed / 60, prog_bar=True, rank_zero_only=True)
        seen = self.done * min(self.options.batch_size, self._table("training").n)
        self.history.rows_per_second.append(seen / self.elapsed)
        if self.lines is not None and self.trainer.is_global_zero:
            self.lines.write(self.trainer.current_epoch, self.history)

    def _note(self, split: int, curves: dict[str, list[float]]) -> dict[str, float]:
        total = self._summed(self.sums[split])
        means = dict(zip(self.names, (total[:, 0] / total[:, 1]).tolist(), strict=True))
        for name, mean in means.items():
            if mean == mean:  # NaN where nothing was trained any more
                curves[name].append(mean)
        label = ("training", "validation")[split]
        self.log_dict({f"{label}/{k}": v for k, v in means.items()}, rank_zero_only=True)
        self.sums[split] = 0
        return means

    def _summed(self, counts: Tensor) -> Tensor:
        """Return counts summed over all processes."""
        if self.trainer.world_size == 1:
            return counts.clone()
        return summed(counts.to(self.device)).cpu()

    def _stopped(self) -> set[str]:
        """Return the mechanisms that train no further, while others may."""
        return self._overdue() | self.restarts.ended(self.names, self.trainer.global_step)

    def _overdue(self) -> set[str]:
        """Return the mechanisms whose validation loss has not fallen for the patience given."""
        patience, epochs = self.options.patience, self.history.validation
        if patience is None:
            return set()
        return {n for n, (_, epoch, _) in self.best.items() if len(epochs[n]) - epoch >= patience}

    def finish(self) -> None:
        """Leave the weights that were validated in the mechanisms: averaged, each one's best."""
        for name, mechanism, last in zip(self.names, self.results, self.validated, strict=True):
            state = self.best[name][2] if name in self.best else last.state_dict()
            mechanism.load_state_dict({key: whole(value) for key, value in state.items()})
            if not all(parameter.isfinite().all() for parameter in mechanism.parameters()):
                self._broken(mechanism, "its weights are NaN or infinite after")
            if self.history.skipped.get(name) == self.trainer.global_step:
                self._broken(mechanism, "its gradient diverged at every step, up to")

    # Checkpoints ---------------------------------------------------------------------------------

    def identity(self) -> dict[str, str]:
        """Return what must be unchanged for a run to resume."""
        identity = {key: repr(value) for key, value in self.options.identity().items()}
        for mechanism in self.results:
            schema = {mechanism.name: mechanism.variable, **mechanism.parents}
            given = ", ".join(f"{name}: {variable}" for name, variable in schema.items())
            identity[f"the mechanism of {mechanism.name}"] = f"{mechanism} of ({given})"
        if not self.digests:
            self.digests = {k: table.digest() for k, table in self.tables.items() if table}
        for objective in self.objectives.values():
            identity |= objective.identity()
        return identity | {f"the {split} rows": digest for split, digest in self.digests.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the history, the best weights, and what run it is."""
        self._tick()
        checkpoint["rung3"] = {
            "identity": self.identity(),
            "history": asdict(self.history),
            "began": self.restarts.began,
            "best": {
                name: (loss, epoch, {key: whole(value) for key, value in state.items()})
                for name, (loss, epoch, state) in self.best.items()
            },
            "sums": self._summed(self.sums),
            "objectives": {k: self._summed(o.sums) for k, o in self.objectives.items()},
            "elapsed": self.elapsed,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with what was added, if it is the same run."""
        saved, now = checkpoint["rung3"], self.identity()
        then = saved["identity"]
        other = [
            f"{key} was {then.get(key)} and is {now.get(key)}"
            for key in dict.fromkeys([*then, *now])
            if then.get(key) != now.get(key)
        ]
        if other:
            raise ValueError(
                f"checkpoints: {self.options.checkpoints} holds another run ({'; '.join(other)}); "
                "give another folder, or resume=False to start over"
            )
        self.history, self.best = History(**saved["history"]), saved["best"]
        self.elapsed = saved["elapsed"]
        self.restarts.began = dict(saved.get("began", {}))
        self.trainer.fit_loop.max_epochs = self.restarts.epochs
        sums = dict(saved.get("objectives", {}))
        for k, name in enumerate(self.objectives):  # checkpoints of before have them as buffers
            sums.setdefault(name, checkpoint["state_dict"].pop(f"aims.{k}.sums", torch.zeros(3)))
        if self.trainer.is_global_zero:  # they are of all processes: any number resumes from them
            self.sums = saved["sums"].cpu().double()
            for name, objective in self.objectives.items():
                objective.sums = sums[name].cpu().double()


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out Lightning's remarks on the machine and on its own use of torch."""
    names = ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for remark in REMARKS:
                warnings.filterwarnings("ignore", remark)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
