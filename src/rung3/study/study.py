"""The study: one YAML file that says everything about a run, and `Study.run`, which does it.

    data -> fit -> save -> evaluate -> report

```yaml
name: digits
data: {kind: digits, train: 20000}
graph: thickness -> intensity; {digit thickness intensity} -> image
variables:
  thickness: {kind: Continuous, unit: px, lower: 0}
  image: {kind: Image, channels: 1, height: 32, width: 32}
mechanisms:
  image: {kind: VAE, latent: 16}
training: {epochs: 10}
```
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import torch
import yaml
from pydantic import AfterValidator, Field, model_validator

from rung3.data import variables
from rung3.data.files import write_json, write_text
from rung3.data.memory import Bounded, require, row_bytes
from rung3.data.rows import Rows
from rung3.data.variables import Continuous, Variable
from rung3.graph import CausalGraph
from rung3.scm.scm import SCM
from rung3.study.folder import RunFolder
from rung3.study.kinds import BROKEN, MechanismFields, VariableFields, mechanism_of, of_kind
from rung3.study.options import Evaluation, Training, WholeNumber
from rung3.study.parser import Part, read, unknown, validated
from rung3.study.preflight import preflight
from rung3.study.sources import Data, Splits
from rung3.training.counterfactual import as_objective
from rung3.training.stopping import stoppable

if TYPE_CHECKING:
    from rung3.evaluation import Oracles, Report

__all__ = ["Study"]

COPIES = 5
"""Of the weights while they are trained: gradients, two moments and an average are as large."""

AGAIN = "to run the study again goes on from there"


def _folder(name: str) -> str:
    if not name.strip("."):
        raise ValueError(f"{name!r} names no folder of its own; expected a name such as digits")
    return name


class Group(NamedTuple):
    """Mechanisms that are fitted together, and the options of `fit` for them."""

    mechanisms: list[str]
    options: dict[str, Any]


class Study(Part):
    """A study: data, graph, variables, mechanisms, training and evaluation.

    Args:
        name: Its name; `rung3 run` writes to `runs/<name>`.
        seed: Seed of everything random.
        data: Where rows come from; see `rung3.study.sources`.
        graph: The causal graph, as text.
        variables: Kind and fields of each variable; `Continuous()` where not given.
        mechanisms: Kind and fields of each mechanism, or an equation; else the default.
        training: Options of `fit`.
        evaluation: Options of `evaluate`.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=100), AfterValidator(_folder)]
    seed: WholeNumber = 0
    data: Data
    graph: str
    variables: dict[str, VariableFields] = Field(default_factory=dict)
    mechanisms: dict[str, MechanismFields] = Field(default_factory=dict)
    training: Training = Training()
    evaluation: Evaluation = Evaluation()

    @classmethod
    def load(cls, path: str | Path, settings: Iterable[str] = ()) -> Self:
        """Read a study file.

        Args:
            path: The YAML file.
            settings: Values to set, such as `training.epochs=2`.

        Raises:
            ValueError: With the line and key of each fault.
        """
        return validated(cls, read(path, settings))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        asked = self.evaluation.interventions
        places: dict[tuple[str, ...], Iterable[str]] = {
            ("variables",): self.variables,
            ("mechanisms",): self.mechanisms,
            ("training", "mechanisms"): self.training.mechanisms,
            ("training", "mislabelled"): self.training.mislabelled,
            ("evaluation", "interventions"): asked if isinstance(asked, list) else (),
        }
        nodes = CausalGraph(self.graph).nodes
        for place, names in places.items():
            for name in names:
                if name not in nodes:
                    raise unknown((*place, name), nodes, "variable")
        self._check_data()
        model = self.model()
        self._check_objectives(model)
        self._check_questions(model)
        return self

    def _check_data(self) -> None:
        declared = self.declared()
        size = row_bytes(declared)
        require("variables: one row of them", size, "declare smaller images or vectors")
        for part, count in self.data.drawn().items():
            require(f"data.{part}: {count:,} rows", count * size, "ask for fewer")
        columns = self.data.read_from()
        for name, column in columns.items():
            if name not in declared:
                raise unknown(("data", "columns", name), declared, "variable")
            if twice := [k for k in declared if k != name and columns.get(k, k) == column]:
                raise ValueError(
                    f"data.columns: {name} and {twice[0]} are both read from {column!r}"
                )

    def _check_questions(self, model: SCM) -> None:
        place = "evaluation.interventions"
        try:
            asked = self.evaluation.asked(model.variables)
            for label, value in asked.items() if isinstance(asked, dict) else ():
                model.do(value if isinstance(value, dict) else {label: value})
            place = "evaluation"
            self.evaluation.asking_of(model.variables)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None

    def _check_objectives(self, model: SCM) -> None:
        aimed = {name: o for name, o in self.training.mechanisms.items() if o.objective}
        for name in aimed:
            if not isinstance(model.variables[name], variables.Image):
                raise ValueError(
                    f"training.mechanisms.{name}.objective: the counterfactual objective is for "
                    f"images, and {name} is {model.variables[name]}"
                )
        found = [group for group in self.groups() if "objective" in group.options]
        if self.training.objective and not found:
            raise ValueError("training.objective: needs an image, and there is none")
        for group in found:
            as_objective(group.options["objective"], group.options.get("patience"))
            group.options["objective"].settable(model, group.mechanisms[0])

    @property
    def training_seed(self) -> int:
        """Seed of the weights and of training: the study's, unless `training.seed` is another."""
        return self.seed if self.training.seed is None else self.training.seed

    def to_yaml(self) -> str:
        """The study as text, with its paths absolute and its settings made."""
        said = self.model_dump(mode="json", exclude_unset=True)
        return yaml.safe_dump(said, sort_keys=False, allow_unicode=True)

    def save(self, path: str | Path) -> None:
        """Write it as a file."""
        write_text(path, self.to_yaml())

    def differences(self, other: Study) -> list[str]:
        """Names of the parts in which two studies differ."""
        return [n for n in Study.model_fields if getattr(self, n) != getattr(other, n)]

    def declared(self) -> dict[str, Variable]:
        """The variables, by name."""
        made = {name: of_kind(variables.KINDS, said) for name, said in self.variables.items()}
        return {name: made.get(name, Continuous()) for name in CausalGraph(self.graph).nodes}

    def model(self) -> SCM:
        """The model before training; the same seed gives the same weights."""
        given = {name: mechanism_of(said) for name, said in self.mechanisms.items()}
        cure = "choose smaller variables or mechanisms"
        with torch.random.fork_rng(devices=[]), Bounded("to train the model", cure, COPIES):
            torch.manual_seed(self.training_seed)
            try:
                return SCM(self.graph, self.declared(), given)
            except BROKEN as error:
                raise ValueError(f"the model cannot be made: {error}") from None

    def splits(self) -> Splits:
        """The rows."""
        return self.data.splits(self.declared(), self.seed)

    def groups(self) -> list[Group]:
        """What is fitted together: the mechanisms without options of their own, then each other.

        Images with an objective come last, one by one: the others must be fitted by then.
        """
        shared, own = self.training.given(), self.training.mechanisms
        rest = [name for name in self.declared() if name not in own]
        alike = [(rest, shared), *(([name], shared | o.given()) for name, o in own.items())]
        groups, last = [], []
        for names, options in alike:
            objective = options.pop("objective", None)
            for name in list(names):
                if objective and isinstance(self.declared()[name], variables.Image):
                    names.remove(name)
                    last += [Group([name], phase) for phase in objective.phases(options)]
            groups += [Group(names, options)] if names else []
        return groups + last

    def run(
        self,
        folder: str | Path,
        *,
        overwrite: bool = False,
        say: Callable[[str], None] = lambda text: None,
        progress: bool = False,
    ) -> Report:
        """Read the data, fit, save, evaluate, and write the report.

        A run that was killed is continued from its last checkpoint when it is run again.

        Args:
            folder: Where everything is written; see `rung3.study.folder`.
            overwrite: Remove an earlier run that is there.
            say: Called with a line on each step.
            progress: Show the progress of training and evaluation.

        Returns:
            The report, which is saved too.

        Raises:
            ValueError: If the folder may not be used, or the data do not fit the variables.
            Stopped: If a signal ends it, with the step that it was at; run again, it goes on.
        """
        place = RunFolder(folder)
        place.check_claim(self, overwrite)
        with place.lock():
            with stoppable("while reading the data", AGAIN):
                splits = self.splits()
                preflight(self, self.model(), splits)
            if place.claim(self, overwrite):  # not before: a study that is refused leaves nothing
                fitted = "the model is fitted; " if place.fitted else ""
                say(f"{place.path}: {fitted}going on from there")
            if self.data.is_read:
                place.remember(splits)
            if not place.fitted:
                with stoppable("while fitting", AGAIN):
                    self._fit(place, splits, say, progress)
            with stoppable("while training the oracles", AGAIN):
                model = place.model()
                oracles = self._oracles(place, model, splits, say, progress)
            with stoppable("while evaluating", AGAIN):
                report = self._evaluate(place, model, oracles, splits, say, progress)
            with stoppable("while writing the report", AGAIN):
                report.save(place.path)
            return report

    def _fit(
        self, place: RunFolder, splits: Splits, say: Callable[[str], None], progress: bool
    ) -> None:
        from rung3.evaluation.misspecification import mislabelled
        from rung3.training.fitting import fit

        model = self.model()
        for name, share in self.training.mislabelled.items():
            splits = splits._replace(
                train=mislabelled(splits.train, name, share, self.training_seed)
            )
        curves: dict[str, Any] = {}
        say(str(model))
        for k, group in enumerate(self.groups()):
            by = ""
            if aim := group.options.get("objective"):
                by = ", counterfactually"
                predictors = self._predictors(place, model, splits, say, progress)
                group.options["objective"] = replace(aim, predictors=predictors)
            say(f"fitting {', '.join(group.mechanisms)} on {splits.train.n} rows{by}")
            with warnings.catch_warnings():  # a part that was finished before a kill is as it was
                warnings.filterwarnings("ignore", "checkpoints: .* nothing was trained")
                history = fit(
                    model,
                    splits.train,
                    splits.validation,
                    only=group.mechanisms,
                    seed=self.training_seed,
                    checkpoints=place.checkpoints / str(k),
                    progress=progress,
                    **group.options,
                    **self.training.shared(),
                )
            for name, losses in history.curves().items():
                before = curves.setdefault(name, {})
                curves[name] = before | {k: before.get(k, []) + v for k, v in losses.items()}
            if history.seconds:
                speed = median(history.rows_per_second)
                say(f"  {sum(history.seconds):.0f} s of training, {speed:,.0f} rows a second")
        write_json(place.history_path, curves)
        model.save(place.model_path)

    def _evaluate(
        self,
        place: RunFolder,
        model: SCM,
        oracles: Oracles,
        splits: Splits,
        say: Callable[[str], None],
        progress: bool,
    ) -> Report:
        from rung3.evaluation import evaluate, user_cache

        asked = self.evaluation.n or self.evaluation.asking().n or splits.test.n
        say(f"evaluating on {asked} test rows")
        return evaluate(
            model,
            splits.test,
            splits.truth,
            splits.train,
            interventions=self.evaluation.asked(model.variables),
            oracles=oracles,
            history=place.history(),
            seed=self.seed,
            cache=user_cache(),
            progress=progress,
            **self.evaluation.given(),
        )

    def _oracles(
        self,
        place: RunFolder,
        model: SCM,
        splits: Splits,
        say: Callable[[str], None],
        progress: bool,
    ) -> Oracles:
        from rung3.evaluation import fit_oracles, user_cache

        if known := kept(place.oracles_path):
            return known
        options = self.evaluation.oracles
        rows = self.halves(splits.train)[0][: options.rows]
        epochs: dict[str, Any] = {} if options.epochs is None else {"epochs": options.epochs}
        origin = f"{rows.n} of the training rows"
        say(f"training the oracles on {origin}")
        found = fit_oracles(
            model,
            rows,
            seed=self.seed,
            progress=progress,
            origin=origin,
            cache=user_cache(),
            **epochs,
        )
        found.save(place.oracles_path)
        return found

    def _predictors(
        self,
        place: RunFolder,
        model: SCM,
        splits: Splits,
        say: Callable[[str], None],
        progress: bool,
    ) -> Oracles:
        """Predictors for objectives, of rows that the oracles never see."""
        from rung3.training.counterfactual import fit_predictors

        if known := kept(place.predictors_path):
            return known
        rows = self.halves(splits.train)[1]
        say(f"training the predictors on {rows.n} of the training rows")
        found = fit_predictors(model, rows, splits.validation, self.training_seed, progress)
        found.save(place.predictors_path)
        return found

    def halves(self, train: Rows) -> tuple[Rows, Rows]:
        """What oracles and what predictors may see: all, or a half each if there are both."""
        half = train.n // 2 if any("objective" in g.options for g in self.groups()) else train.n
        return train[:half], train[half:]


def kept(path: Path) -> Oracles | None:
    """What an earlier start of the run trained; none, with a warning, if the file is damaged."""
    from rung3.evaluation import Oracles

    try:
        return Oracles.load(path) if path.is_file() else None
    except ValueError as error:
        warnings.warn(f"they are trained anew: {error}", stacklevel=2)
        return None
