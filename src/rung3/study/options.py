"""The options of a study: how to fit, and what to ask.

They are those of the library: keys, bounds and defaults are read off its own dataclasses
(`rung3.training.Options`, `CounterfactualObjective`, `rung3.evaluation.Protocol`). What stands here
is what a file says otherwise: a path instead of an object, a name instead of a list.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rung3.data.expressions import interventions
from rung3.data.validation import Count, Positive, Share, expected, types
from rung3.data.variables import Variable
from rung3.evaluation.protocol import Protocol
from rung3.study.parser import FilePath, Part, nearest
from rung3.training.counterfactual.objective import CounterfactualObjective
from rung3.training.loggers import LOGGERS, LoggerName
from rung3.training.options import Options

__all__ = ["Derived", "Evaluation", "FitOptions", "ProtocolOptions", "Training", "WholeNumber"]

WholeNumber = Annotated[int, Field(gt=-(2**62), lt=2**62)]

SECOND_EPOCHS = 2
"""Epochs of a second training, by an objective without a weight."""

FIRST_TRAINING = ("epochs", "lr", "schedule", "warmup", "patience")
"""Options of an image that are of its first training alone."""

WHOLE_RUN = ("seed", "validation_share", "checkpoints")
"""Options of `fit` that hold for the whole run, and not for single mechanisms."""


class Derived(Part):
    """A part whose keys are the fields of a dataclass, but for those that it declares itself."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:  # the dataclass's fields
            ...

    def __init_subclass__(
        cls, of: type | None = None, without: Container[str] = (), **settings: Any
    ) -> None:
        super().__init_subclass__(**settings)
        declared = {name for base in cls.__mro__ for name in vars(base).get("__annotations__", ())}
        for name, (kind, default) in types(of).items() if of else ():
            if name not in declared and name not in without:
                cls.__annotations__[name] = kind
                setattr(cls, name, default)

    def given(self, without: Container[str] = ()) -> dict[str, Any]:
        """Return the options that the file sets."""
        names = [name for name in type(self).model_fields if name in self.model_fields_set]
        return {name: getattr(self, name) for name in names if name not in without}


class Objective(Derived, of=CounterfactualObjective):
    """The counterfactual objective of images.

    Without a weight it is a second training, after that by likelihood, with rates and epochs of its
    own; with one, it is there from the start.

    Args:
        predictors: File of oracles to train against, as `Oracles.save` writes it.
        epochs: Epochs of the second training, 2 if not given.
        lr: Learning rate of the second training.
    """

    kind: Literal["counterfactual"] = "counterfactual"
    predictors: FilePath | None = None
    epochs: Count | None = None
    lr: Positive | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.value().weight is not None and (self.epochs or self.lr):
            raise ValueError(
                "epochs and lr are of a second training, and with a weight there is none; leave "
                "them out"
            )
        if self.predictors and self.value().committee > 1:
            raise ValueError(
                f"predictors: {self.predictors} is one member of a committee of "
                f"{self.value().committee}; leave one of the two out"
            )
        return self

    def value(self) -> CounterfactualObjective:
        """Return the objective, without its predictors.

        Raises:
            ValueError: If an option is out of range.
        """
        return CounterfactualObjective(**self.given(("kind", "predictors", "epochs", "lr")))

    def phases(self, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the options of the calls of `fit` for an image, one after the other."""
        objective = self.value()
        if objective.weight is not None:
            return [{**options, "objective": objective}]
        second = {name: v for name, v in options.items() if name not in FIRST_TRAINING}
        changes = {k: v for k, v in (("epochs", self.epochs), ("lr", self.lr)) if v is not None}
        second = {"epochs": SECOND_EPOCHS, **second, "objective": objective, **changes}
        return [dict(options), second]


def _by_name(value: Any) -> Any:
    """Read an objective that is named, as `fit` takes it, as a part of the file."""
    named = {"likelihood": None, "counterfactual": {"kind": "counterfactual"}}
    if isinstance(value, str) and value not in named:
        raise ValueError(nearest(value, named, "objective"))
    return named[value] if isinstance(value, str) else value


class FitOptions(Derived, of=Options, without=WHOLE_RUN):
    """Options of `rung3.fit`, which hold where a file does not say otherwise.

    Args:
        logger: `csv`, `tensorboard` or `wandb`, which write the losses into the folder of
            checkpoints; or whether Lightning's default does.
        objective: What images are trained by, if not by their likelihood.
    """

    logger: Annotated[bool | LoggerName | None, expected(LOGGERS)] = None
    objective: Annotated[Objective | None, BeforeValidator(_by_name)] = None


class Training(FitOptions, of=Options):
    """The options of training, for all mechanisms, and others for some.

    Args:
        seed: Seed of weights, the order of rows and training's own draws; the study's if not given.
            The data, the oracles and the questions always have the study's.
        validation_share: Share of the training rows set aside, instead of `data.validation`; 0 for
            none.
        checkpoints: Folder of the checkpoints; in the run's folder if not given.
        mislabelled: By variable, the share of training rows that get another row's value, to see
            the effect of wrong labels; the oracles see the right ones.
        mechanisms: Options of single mechanisms, instead of those for all.
    """

    seed: WholeNumber | None = None
    checkpoints: FilePath | None = None
    mislabelled: dict[str, Share] = Field(default_factory=dict)
    mechanisms: dict[str, FitOptions] = Field(default_factory=dict)

    def shared(self) -> dict[str, Any]:
        """Return the options of every call of `fit` that the file sets."""
        return self.given((*WHOLE_RUN, "mislabelled", "mechanisms"))

    @property
    def silent(self) -> bool:
        """Whether the file does not say how to train."""
        return not self.shared() and not self.mechanisms

    @property
    def share_set_aside(self) -> float | None:
        """The share of the training rows set aside, where it is said here."""
        share: float | None = self.given().get("validation_share")
        return share


class OracleOptions(Part):
    """The training of the oracles that judge effectiveness; see `rung3.evaluation.fit_oracles`.

    Args:
        epochs: Passes over their rows.
        rows: Training rows that they see, at most; all if not given.
    """

    epochs: Count | None = None
    rows: Count | None = None


Target = float | str
"""A number, a label or an expression."""


def _shaped(value: Any) -> Any:
    """Refuse what is neither names nor targets by name."""
    parts = value.values() if isinstance(value, dict) else []
    alone = [v for part in parts for v in (part.values() if isinstance(part, dict) else [part])]
    if not (value is None or isinstance(value, (list, dict))) or any(
        not isinstance(target, (int, float, str)) for target in alone
    ):
        raise ValueError(
            "expected names, or by name a number, a label or an expression, or by a label of "
            f"one's own several of these; got {value!r:.80}"
        )
    return value


Interventions = Annotated[
    list[str] | dict[str, Target | dict[str, Target]] | None, BeforeValidator(_shaped)
]


def _preset(value: Any) -> Any:
    return {"preset": value} if isinstance(value, str) else value


class ProtocolOptions(Derived, of=Protocol):
    """The questions and measures, as `rung3.evaluation.Protocol` takes them.

    Args:
        preset: A preset that the rest changes, such as `melistas2024`, or `complete`.
        interventions: As `Evaluation` takes them.
    """

    preset: str | None = None
    interventions: Interventions = None
    measures: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.value()
        return self

    def value(self) -> Protocol:
        """Return the protocol, without its interventions.

        Raises:
            ValueError: If a field is out of its range, or the preset unknown.
        """
        changes = self.given(("preset", "interventions"))
        return Protocol.named(self.preset, **changes) if self.preset else Protocol(**changes)


class Evaluation(Part):
    """The questions to the fitted model, as `rung3.evaluate` takes them.

    Args:
        protocol: The name of a preset, or what is asked and measured; options given below override
            it.
        interventions: Names of variables, to be set to other rows' values; or by name a number, a
            label or an expression; or by a label several of these, set together.
        n: Test rows that are asked.
        particles: Draws of the noise, for the spread.
        bootstrap: Resamples, for the intervals.
        batch_size: Rows at once.
        peers: Folders of runs of the same study with other training seeds; how far their answers
            differ is the model's stability.
        oracles: How oracles are trained.
    """

    protocol: Annotated[ProtocolOptions | None, BeforeValidator(_preset)] = None
    interventions: Interventions = None
    n: Count | None = None
    particles: Count | None = None
    bootstrap: Annotated[int, Field(ge=0)] | None = None
    batch_size: Count | None = None
    peers: list[FilePath] = Field(default_factory=list)
    oracles: OracleOptions = OracleOptions()

    def protocol_of(self, variables: Mapping[str, Variable]) -> Protocol:
        """Return the protocol, with the options that go before it, and the interventions.

        Raises:
            ValueError: If a field is out of its range, a name is unknown, or a text is not an
                expression.
        """
        changes: dict[str, Any] = {
            name: value
            for name in ("n", "particles", "bootstrap")
            if (value := getattr(self, name)) is not None
        }
        if (interventions := self.interventions_of(variables)) is not None:
            changes["interventions"] = interventions
        return replace((self.protocol or ProtocolOptions()).value(), **changes)

    def interventions_of(
        self, variables: Mapping[str, Variable]
    ) -> dict[str, Any] | list[str] | None:
        """Return the interventions, as `evaluate` takes them.

        Raises:
            ValueError: If a name is unknown, or a text not an expression.
        """
        given = self.interventions
        if given is None and self.protocol is not None:
            given = self.protocol.interventions
        if not isinstance(given, dict):
            return given
        return {label: _targets(label, target, variables) for label, target in given.items()}


def _targets(
    label: str, target: Target | dict[str, Target], variables: Mapping[str, Variable]
) -> Any:
    if isinstance(target, dict):
        return interventions((f"{name}={value}" for name, value in target.items()), variables)
    return interventions([f"{label}={target}"], variables)[label]
