"""The study: one YAML file that says everything about a run, which `rung3.study.run_study` does.

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

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import torch
import yaml
from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from rung3.data import variables
from rung3.data.files import write_text
from rung3.data.memory import Bounded, require, row_bytes
from rung3.data.rows import Rows
from rung3.data.variables import Continuous, Variable
from rung3.graph import CausalGraph
from rung3.scm.scm import SCM
from rung3.study.kinds import BROKEN, MechanismFields, VariableFields, mechanism_of, of_kind
from rung3.study.listings import Say
from rung3.study.options import Evaluation, Training, WholeNumber
from rung3.study.parser import Part, read, unknown, validated
from rung3.study.row_source import Splits
from rung3.study.sources import Data
from rung3.training.counterfactual.preparation import settable
from rung3.training.options import Options

__all__ = ["Study"]

COPIES = 5
"""Copies of the weights while they are trained: gradients, two moments and an average."""


def _folder(name: str) -> str:
    if not name.strip("."):
        raise ValueError(f"{name!r} cannot name a folder; expected a name such as digits")
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
    def load(cls, path: str | Path, settings: Iterable[str] = (), *, sealed: bool = False) -> Self:
        """Read a study file.

        Args:
            path: The YAML file.
            settings: Values to set, such as `training.epochs=2`.
            sealed: Whether it is known to be a study that was checked when it was written: its
                model and its questions are then not tried again.

        Raises:
            ValueError: With the line and key of each fault.
        """
        return validated(cls, read(path, settings), sealed=sealed)

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        if (info.context or {}).get("sealed"):
            return self
        given = self.evaluation.interventions
        places: dict[tuple[str, ...], Iterable[str]] = {
            ("variables",): self.variables,
            ("mechanisms",): self.mechanisms,
            ("training", "mechanisms"): self.training.mechanisms,
            ("training", "mislabelled"): self.training.mislabelled,
            ("evaluation", "interventions"): given if isinstance(given, list) else (),
        }
        nodes = CausalGraph(self.graph).nodes
        for place, names in places.items():
            for name in names:
                if name not in nodes:
                    raise unknown((*place, name), nodes, "variable")
        self._check_data()
        model = self.model()
        self._check_training(model)
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
            given = self.evaluation.interventions_of(model.variables)
            for label, value in given.items() if isinstance(given, dict) else ():
                model.do(value if isinstance(value, dict) else {label: value})
            place = "evaluation"
            self.evaluation.protocol_of(model.variables)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None

    def _check_training(self, model: SCM) -> None:
        if self.training.share_set_aside is not None and "validation" in self.data.model_fields_set:
            raise ValueError(
                "training.validation_share: data.validation gives it as well; leave one out"
            )
        for name, options in self.training.mechanisms.items():
            if options.objective and not isinstance(model.variables[name], variables.Image):
                raise ValueError(
                    f"training.mechanisms.{name}.objective: the counterfactual objective is for "
                    f"images, and {name} is {model.variables[name]}"
                )
        aimed = [group for group in self.groups() if "objective" in group.options]
        if self.training.objective and not aimed:
            raise ValueError("training.objective: needs an image, and there is none")
        for group in self.groups():
            Options(**group.options | {"checkpoints": "checkpoints"})
        for group in aimed:
            settable(group.options["objective"], model, group.mechanisms[0])

    @property
    def training_seed(self) -> int:
        """Seed of the weights and of training: the study's, unless `training.seed` is another."""
        return self.seed if self.training.seed is None else self.training.seed

    def to_yaml(self) -> str:
        """Return the study as text, with its paths absolute and its settings made."""
        values = self.model_dump(mode="json", exclude_unset=True)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    def save(self, path: str | Path) -> None:
        """Write it as a file."""
        write_text(path, self.to_yaml())

    def differences(self, other: Study) -> list[str]:
        """Return names of the parts in which two studies differ."""
        return [n for n in Study.model_fields if getattr(self, n) != getattr(other, n)]

    def declared(self) -> dict[str, Variable]:
        """Return the variables, by name."""
        given = {name: of_kind(variables.KINDS, kind) for name, kind in self.variables.items()}
        return {name: given.get(name, Continuous()) for name in CausalGraph(self.graph).nodes}

    def model(self) -> SCM:
        """Return the model before training; the same seed gives the same weights."""
        given = {name: mechanism_of(kind) for name, kind in self.mechanisms.items()}
        cure = "choose smaller variables or mechanisms"
        with torch.random.fork_rng(devices=[]), Bounded("to train the model", cure, COPIES):
            torch.manual_seed(self.training_seed)
            try:
                return SCM(self.graph, self.declared(), given)
            except BROKEN as error:
                raise ValueError(f"the model cannot be made: {error}") from None

    def splits(self, say: Say = lambda text: None) -> Splits:
        """Read or draw the rows; `say` is told where images are held, of rows read from files."""
        share = self.training.share_set_aside
        return self.data.splits(self.declared(), self.seed, share, say)

    def groups(self) -> list[Group]:
        """Return what is fitted together: what has no options of its own, then each of the others.

        Images with an objective come last, one by one: the others must be fitted by then.
        """
        shared, single = self.training.shared(), self.training.mechanisms
        declared = self.declared()
        rest = [name for name in declared if name not in single]
        alike = [(rest, shared), *(([name], shared | o.given()) for name, o in single.items())]
        groups, last = [], []
        for names, options in alike:
            objective = options.pop("objective", None)
            for name in list(names):
                if objective and isinstance(declared[name], variables.Image):
                    names.remove(name)
                    last += [Group([name], phase) for phase in objective.phases(options)]
            groups += [Group(names, options)] if names else []
        return groups + last

    def halves(self, train: Rows) -> tuple[Rows, Rows]:
        """Return what oracles and what predictors may see: all, or a half each."""
        first, _ = self.halves_of(train.n)
        return train[:first], train[first:]

    def halves_of(self, n: int) -> tuple[int, int]:
        """Return of how many of `n` training rows oracles, and of how many predictors are made."""
        both = any("objective" in group.options for group in self.groups())
        return (n // 2, n - n // 2) if both else (n, 0)
