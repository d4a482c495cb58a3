"""Do what a study says: data -> fit -> save -> evaluate -> report."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rung3.data.files import write_json
from rung3.evaluation import Report, evaluate, user_cache
from rung3.evaluation.misspecification import mislabelled
from rung3.scm.scm import SCM
from rung3.study.card import CARD, model_card
from rung3.study.choosing import chooses
from rung3.study.folder import RunFolder
from rung3.study.lengths import short_trainings
from rung3.study.preflight import batch_size_of, preflight
from rung3.study.row_source import Splits
from rung3.study.study import Group, Study
from rung3.training.automatic import fit
from rung3.training.counterfactual.preparation import fit_committee
from rung3.training.options import History
from rung3.training.oracles.oracles import Oracles, fit_oracles, oracle_pairs
from rung3.training.processes import is_first, meet
from rung3.training.stopping import stoppable

__all__ = ["run_study", "saved_oracles"]

CURE = "running the study again resumes from there"


def _silent(text: str) -> None:
    pass


def run_study(
    study: Study,
    folder: str | Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = _silent,
    progress: bool = False,
) -> Report:
    """Read the data, fit, save, evaluate, and write the report.

    A run that was killed is continued from its last checkpoint when it is run again. Of several
    processes that train together, the first alone evaluates and writes; the others end when
    training has.

    Args:
        study: The study.
        folder: Where everything is written; see `rung3.study.folder`.
        overwrite: Remove an earlier run that is there.
        say: Called with a line on each step.
        progress: Show the progress of training and evaluation.

    Returns:
        The report, which is saved too.

    Raises:
        ValueError: If the folder may not be used, or the data do not fit the variables.
        Stopped: If a signal ends it, with the step that it was at; run again, it resumes.
        SystemExit: In all processes but the first, once the model is fitted.
    """
    place, first = RunFolder(folder), is_first()
    if first:
        place.check_claim(study, overwrite)
        place.check_model_path()
    with place.lock():
        with stoppable("while reading the data", CURE):
            splits, untrained = study.splits(say if first else _silent), study.model()
            preflight(study, untrained, splits)
        if first and place.claim(
            study, overwrite
        ):  # not before: a study that is refused leaves nothing
            fitted = "the model is fitted; " if place.fitted else ""
            say(f"{place.path}: {fitted}resuming from there")
        if first and study.data.is_read:
            place.remember(splits)
        run = _Run(study, place, splits, say if first else _silent, progress and first)
        ready = place.fitted or chooses(study, untrained, splits.train)
        for short in () if ready else short_trainings(study, untrained, splits.train.n):
            run.say(f"warning: {short.text()}")
        if not place.fitted:
            with stoppable("while fitting", CURE):
                run.fit(untrained)
        if not first:
            raise SystemExit(0)
        with stoppable("while training the oracles", CURE):
            model = place.model()
            oracles = run.oracles(model)
        with stoppable("while evaluating", CURE):
            report = run.evaluate(model, oracles)
        with stoppable("while writing the report", CURE):
            report.run = str(place.path)
            report.metrics["run"] = _origin(study, place, model) | _left_out(model, splits)
            card = model_card(study, model, report)
            report.save(place.path, {CARD: card.encode()})
        return report


@dataclass(frozen=True)
class _Run:
    """The steps of a run."""

    study: Study
    place: RunFolder
    splits: Splits
    say: Callable[[str], None]
    progress: bool

    def fit(self, model: SCM) -> None:
        """Fit a model group by group, and write the losses and the model."""
        study, train = self.study, self.splits.train
        for name, share in study.training.mislabelled.items():
            train = mislabelled(train, name, share, study.training_seed)
        curves: dict[str, Any] = {}
        self.say(str(model))
        for history in self._histories(model, replace(self.splits, train=train)):
            for name, losses in history.curves().items():
                before = curves.setdefault(name, {})
                curves[name] = before | {k: before.get(k, []) + v for k, v in losses.items()}
            if history.seconds:
                speed = median(history.rows_per_second)
                self.say(f"  {sum(history.seconds):.0f} s of training, {speed:,.0f} rows a second")
        if is_first():
            write_json(self.place.history_path, curves)
            model.save(self.place.model_path)

    def _histories(self, model: SCM, splits: Splits) -> Iterator[History]:
        """Fit a model, part by part."""
        if chooses(self.study, model, splits.train):
            self.say(f"choosing mechanisms by {splits.train.n} rows")
            yield fit(model, splits.train, seed=self.study.training_seed)
            self.say(str(model))
            return
        for k, group in enumerate(self.study.groups()):
            yield self._fit_group(k, group, model, splits)

    def _fit_group(self, k: int, group: Group, model: SCM, splits: Splits) -> History:
        study, by, held = self.study, "", splits.validation
        folder = study.training.checkpoints or self.place.checkpoints
        options = {"progress": self.progress, "validation_share": 0.0, **group.options}
        options |= {"seed": study.training_seed, "checkpoints": folder / str(k)}
        if objective := options.get("objective"):
            by = ", counterfactually"
            predictors = self._predictors(model, splits, group)
            options["objective"] = replace(objective, predictors=predictors)
        self.say(f"fitting {', '.join(group.mechanisms)} on {splits.train.n} rows{by}")
        with warnings.catch_warnings():  # a part that was finished before a kill is as it was
            warnings.filterwarnings("ignore", "checkpoints: .* nothing was trained")
            validation = held if held.n else None
            return fit(model, splits.train, validation, only=group.mechanisms, **options)

    def _predictors(self, model: SCM, splits: Splits, group: Group) -> list[Oracles]:
        """Return a committee for an objective: that given, or of rows that no oracle sees."""
        study = self.study
        options = study.training.mechanisms.get(group.mechanisms[0])
        given = options.objective if options and options.objective else study.training.objective
        if given and given.predictors:
            return [Oracles.load(given.predictors)]
        if not is_first():
            meet()  # the first process has saved them by then
        members = group.options["objective"].committee
        paths = [self.place.predictors_of(k) for k in range(members)]
        saved = [saved_oracles(path) for path in paths]
        committee = [member for member in saved if member is not None]
        if len(committee) < members:
            committee = self._new_predictors(model, splits, paths)
        if is_first():
            meet()
        return committee

    def _new_predictors(self, model: SCM, splits: Splits, paths: list[Path]) -> list[Oracles]:
        study = self.study
        rows, held = study.halves(splits.train)[1], splits.validation
        self.say(f"training the predictors on {rows.n} of the training rows")
        committee = fit_committee(
            len(paths), model, rows, held if held.n else None, study.training_seed, self.progress
        )
        if is_first():
            for member, path in zip(committee, paths, strict=True):
                member.save(path)
        return committee

    def oracles(self, model: SCM) -> Oracles:
        """Return the oracles that judge effectiveness: those of an earlier start, or new ones."""
        if saved := saved_oracles(self.place.oracles_path):
            return saved
        options = self.study.evaluation.oracles
        rows = self.study.halves(self.splits.train)[0][: options.rows]
        epochs: dict[str, Any] = {} if options.epochs is None else {"epochs": options.epochs}
        origin = f"{rows.n} of the training rows"
        if oracle_pairs(model):
            self.say(f"training the oracles on {origin}")
        oracles = fit_oracles(
            model,
            rows,
            seed=self.study.seed,
            progress=self.progress,
            origin=origin,
            cache=user_cache(),
            **epochs,
        )
        oracles.save(self.place.oracles_path)
        return oracles

    def evaluate(self, model: SCM, oracles: Oracles) -> Report:
        """Ask the fitted model what the study asks."""
        study, splits = self.study, self.splits
        protocol = study.evaluation.protocol_of(model.variables)
        self.say(f"evaluating on {protocol.n or splits.test.n} test rows")
        return evaluate(
            model,
            splits.test,
            splits.truth,
            splits.train,
            protocol=protocol,
            oracles=oracles,
            history=self.place.history(),
            peers=[RunFolder(peer).model() for peer in study.evaluation.peers],
            seed=study.seed,
            batch_size=batch_size_of(study),
            cache=user_cache(),
            progress=self.progress,
        )


def _origin(study: Study, place: RunFolder, model: SCM) -> dict[str, Any]:
    """Return what a report says of how it was made."""
    return {
        "name": study.name,
        "models": [f"{name} by {type(m).__name__}" for name, m in model.mechanisms.items()],
        "when": datetime.now(UTC).isoformat(" ", timespec="minutes").removesuffix("+00:00"),
        "version": version("rung3"),
        "command": f"rung3 run {place.path}/study.yaml --out {place.path}-again",
    }


def _left_out(model: SCM, splits: Splits) -> dict[str, dict[str, int]]:
    """Return how many rows of the data were left out, by reason, and training rows with gaps."""
    gaps = {
        name: int(variable.is_missing(splits.train[name]).sum())
        for name, variable in model.variables.items()
        if name in splits.train
    }
    counts = {
        "rows left out": dict(splits.left_out),
        "training rows with a gap": {name: count for name, count in gaps.items() if count},
    }
    return {what: by_name for what, by_name in counts.items() if by_name}


def saved_oracles(path: Path) -> Oracles | None:
    """Return what an earlier start of the run trained; with a warning none, if it is damaged."""
    try:
        return Oracles.load(path) if path.is_file() else None
    except ValueError as error:
        warnings.warn(f"they are trained again: {error}", stacklevel=2)
        return None
