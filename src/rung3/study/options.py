"""The options of a study: how to fit, and what to ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rung3.data.expressions import interventions
from rung3.data.variables import Variable
from rung3.study.parser import Part

if TYPE_CHECKING:
    from rung3.evaluation.protocol import Protocol
    from rung3.training.counterfactual import CounterfactualObjective

__all__ = ["Evaluation", "ProtocolOptions", "Training", "WholeNumber"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=2**62)]
WholeNumber = Annotated[int, Field(gt=-(2**62), lt=2**62)]
Share = Annotated[float, Field(ge=0, le=1)]

EPOCHS = 2
"""Of a second training."""


class Objective(Part):
    """The counterfactual objective of images.

    It is `rung3.training.counterfactual.CounterfactualObjective`.

    Without a weight it is a second training, after that by likelihood, with rates and epochs of its
    own; with one, it is there from the start.

    Args:
        epochs: Epochs of the second training, 2 if not given.
        lr: Its learning rate.
    """

    kind: Literal["counterfactual"]
    intervene: list[str] | None = None
    at_once: Count | None = None
    soft: bool | None = None
    kept: float | None = None
    share: float | None = None
    weight: Positive | None = None
    after: int | None = None
    ramp: int | None = None
    margin: float | None = None
    rate: float | None = None
    damping: float | None = None
    epochs: Count | None = None
    lr: Positive | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.made()
        if self.weight is not None and (self.epochs or self.lr):
            raise ValueError(
                "epochs and lr are of a second training, and with a weight there is none; leave "
                "them out"
            )
        return self

    def made(self) -> CounterfactualObjective:
        """The objective.

        Raises:
            ValueError: If an option is out of range.
        """
        from rung3.training.counterfactual import CounterfactualObjective

        options = [name for name in type(self).model_fields if name not in ("kind", "epochs", "lr")]
        return CounterfactualObjective(**_given(self, options))

    def phases(self, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The options of the calls of `fit` for an image, one after the other."""
        if self.weight is not None:
            return [{**options, "objective": self.made()}]
        own = {"objective": self.made()} | _given(self, ("epochs", "lr"))
        first = ("epochs", "lr", "schedule", "warmup", "patience")  # are of the first training
        rest = {name: value for name, value in options.items() if name not in first}
        return [dict(options), {"epochs": EPOCHS, **rest, **own}]


class Options(Part):
    """Options of `rung3.fit`; what is not given is as `fit` has it, and `null` is its `None`."""

    epochs: Count | None = None
    batch_size: Count | None = None
    lr: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    schedule: Literal["constant", "cosine"] | None = None
    warmup: Annotated[int, Field(ge=0)] | None = None
    clip: Positive | None = None
    skip: Positive | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    patience: Count | None = None
    precision: str | None = None
    objective: Objective | None = None

    def given(self) -> dict[str, Any]:
        """The options that the file sets."""
        return {k: getattr(self, k) for k in Options.model_fields if k in self.model_fields_set}


class Training(Options):
    """How to fit: options for all mechanisms, and others for some.

    Args:
        seed: Of weights, the order of rows and training's own draws; the study's if not given. The
            data, the oracles and the questions are the study's always.
        mislabelled: By variable, the share of training rows that are given the value of another,
            to see what wrong labels do; the oracles see the right ones.
        accelerator: As Lightning names it, such as `cpu`.
        devices: Number of devices, or `auto`.
        checkpoint_every: Steps between checkpoints; one an epoch if not given.
        mechanisms: Options of single mechanisms, over those for all.
    """

    seed: WholeNumber | None = None
    mislabelled: dict[str, Share] = Field(default_factory=dict)
    accelerator: str | None = None
    devices: Count | str | None = None
    checkpoint_every: Count | None = None
    mechanisms: dict[str, Options] = Field(default_factory=dict)

    def shared(self) -> dict[str, Any]:
        """The options that hold for every call of `fit`."""
        return _given(self, ("accelerator", "devices", "checkpoint_every"))


class OracleOptions(Part):
    """How the oracles that judge effectiveness are trained; see `rung3.evaluation.fit_oracles`.

    Args:
        epochs: Passes over their rows.
        rows: Training rows that they see, at most; all if not given.
    """

    epochs: Count | None = None
    rows: Count | None = None


class ProtocolOptions(Part):
    """What is asked and measured, as `rung3.evaluation.Protocol` takes it.

    Args:
        preset: A preset that the rest changes, such as `melistas2024`, or `complete`.
    """

    preset: str | None = None
    targets: str | None = None
    levels: WholeNumber | None = None
    propagate: bool | None = None
    n: Count | None = None
    truth_n: WholeNumber | None = None
    seeds: WholeNumber | None = None
    bootstrap: WholeNumber | None = None
    particles: WholeNumber | None = None
    temperatures: list[float] | None = None
    composition: list[WholeNumber] | None = None
    reversibility: list[WholeNumber] | None = None
    measures: list[str] | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.made()
        return self

    def made(self) -> Protocol:
        """The protocol.

        Raises:
            ValueError: If a field is out of its range, or the preset unknown.
        """
        from rung3.evaluation.protocol import Protocol

        names = [name for name in type(self).model_fields if name != "preset"]
        changes = _given(self, names)
        return Protocol.named(self.preset, **changes) if self.preset else Protocol(**changes)


Asked = float | str


class Evaluation(Part):
    """What to ask of the fitted model, as `rung3.evaluate` takes it.

    Args:
        protocol: The name of a preset, or what is asked and measured; the options below that are
            given go before it.
        interventions: Names of variables, to be set to other rows' values; or by name a number, a
            label or an expression; or by a label of one's own several of these, set together.
        n: Test rows that are asked.
        particles: Draws of the noise, for the spread.
        bootstrap: Resamples, for the intervals.
        batch_size: Rows at once.
        oracles: How oracles are trained.
    """

    protocol: ProtocolOptions | None = None
    interventions: list[str] | dict[str, Asked | dict[str, Asked]] | None = None
    n: Count | None = None
    particles: Count | None = None
    bootstrap: Annotated[int, Field(ge=0)] | None = None
    batch_size: Count | None = None
    oracles: OracleOptions = OracleOptions()

    @field_validator("protocol", mode="before")
    @classmethod
    def _named(cls, said: Any) -> Any:
        return {"preset": said} if isinstance(said, str) else said

    @field_validator("interventions", mode="before")
    @classmethod
    def _shaped(cls, said: Any) -> Any:
        parts = said.values() if isinstance(said, dict) else []
        alone = [v for part in parts for v in (part.values() if isinstance(part, dict) else [part])]
        if not (said is None or isinstance(said, (list, dict))) or any(
            not isinstance(value, (int, float, str)) for value in alone
        ):
            raise ValueError(
                "expected names, or by name a number, a label or an expression, or by a label of "
                f"one's own several of these; got {said!r:.80}"
            )
        return said

    def given(self) -> dict[str, Any]:
        """The options of `evaluate` that the file sets, the interventions aside."""
        given = _given(self, ("n", "particles", "bootstrap", "batch_size"))
        return {"protocol": self.asking(), **given}

    def asking(self) -> Protocol:
        """The protocol, without the options that go before it."""
        return (self.protocol or ProtocolOptions()).made()

    def asking_of(self, variables: Mapping[str, Variable]) -> Protocol:
        """The protocol with the options that go before it, and the interventions."""
        given: dict[str, Any] = _given(self, ("n", "particles", "bootstrap"))
        if (asked := self.asked(variables)) is not None:
            given["interventions"] = asked
        return replace(self.asking(), **given)

    def asked(self, variables: Mapping[str, Variable]) -> dict[str, Any] | list[str] | None:
        """The interventions, as `evaluate` takes them.

        Raises:
            ValueError: If a name is unknown, or a text not an expression.
        """
        if not isinstance(self.interventions, dict):
            return self.interventions
        return {
            label: interventions((f"{k}={v}" for k, v in said.items()), variables)
            if isinstance(said, dict)
            else interventions([f"{label}={said}"], variables)[label]
            for label, said in self.interventions.items()
        }


def _given(part: Part, names: Iterable[str]) -> dict[str, Any]:
    found = {name: getattr(part, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}
