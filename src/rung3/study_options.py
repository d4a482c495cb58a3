"""The options of a study: how to fit, and what to ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from rung3.questions import interventions
from rung3.study_file import Part
from rung3.variables import Variable

__all__ = ["Evaluation", "Training"]

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


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

    def given(self) -> dict[str, Any]:
        """The options that the file sets."""
        return {k: getattr(self, k) for k in Options.model_fields if k in self.model_fields_set}


class Training(Options):
    """How to fit: options for all mechanisms, and others for some.

    Args:
        precision: As Lightning names it, such as `32-true` or `bf16-mixed`.
        accelerator: As Lightning names it, such as `cpu`.
        devices: Number of devices, or `auto`.
        checkpoint_every: Steps between checkpoints; one an epoch if not given.
        mechanisms: Options of single mechanisms, over those for all.
    """

    precision: str | None = None
    accelerator: str | None = None
    devices: Count | str | None = None
    checkpoint_every: Count | None = None
    mechanisms: dict[str, Options] = Field(default_factory=dict)

    def shared(self) -> dict[str, Any]:
        """The options that hold for every call of `fit`."""
        return _given(self, ("precision", "accelerator", "devices", "checkpoint_every"))


class OracleOptions(Part):
    """How the oracles that judge effectiveness are trained; see `rung3.evaluation.fit_oracles`.

    Args:
        epochs: Passes over their rows.
        rows: Training rows that they see, at most; all if not given.
    """

    epochs: Count | None = None
    rows: Count | None = None


Asked = float | str


class Evaluation(Part):
    """What to ask of the fitted model, as `rung3.evaluate` takes it.

    Args:
        interventions: Names of variables, to be set to other rows' values; or by name a number, a
            label or an expression; or by a label of one's own several of these, set together.
        n: Test rows that are asked.
        particles: Draws of the noise, for the spread.
        bootstrap: Resamples, for the intervals.
        batch_size: Rows at once.
        oracles: How oracles are trained.
    """

    interventions: list[str] | dict[str, Asked | dict[str, Asked]] | None = None
    n: Count | None = None
    particles: Count | None = None
    bootstrap: Annotated[int, Field(ge=0)] | None = None
    batch_size: Count | None = None
    oracles: OracleOptions = OracleOptions()

    def given(self) -> dict[str, Any]:
        """The options of `evaluate` that the file sets, the interventions aside."""
        return _given(self, ("n", "particles", "bootstrap", "batch_size"))

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
