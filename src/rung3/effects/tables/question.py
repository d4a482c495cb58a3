"""What `effect` asks of rows: the way, whose effect, of which values; and the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rung3.data.display import spell
from rung3.data.seeding import Seed
from rung3.data.values import coded
from rung3.data.variables import Categorical, Discrete
from rung3.effects.tables.adjustment import adjusted_effect, arms_of
from rung3.effects.tables.answer import Answer
from rung3.effects.tables.dose import dose_effect
from rung3.effects.tables.front_door import front_door_effect, front_door_slope
from rung3.effects.tables.instrumental import instrumental_effect
from rung3.effects.tables.m_estimation import Estimand, Method
from rung3.effects.tables.plug_in import plug_in_effect
from rung3.effects.tables.sample import Sample
from rung3.effects.tables.ways import Way

__all__ = ["Compared", "Question"]


@dataclass(frozen=True)
class Compared:
    """The values of a treatment that are compared.

    Attributes:
        labels: Both as text; empty of an average derivative.
        units: How many units of treatment lie between them.
        codes: Both, of a category.
        doses: Both, of a number.
    """

    labels: tuple[str, str] | tuple[()]
    units: float
    codes: tuple[int, int] | None = None
    doses: tuple[float, float] | None = None


@dataclass(frozen=True)
class Question:
    """What is asked of a sample."""

    way: Way
    do: Any
    versus: Any
    method: Method
    estimand: Estimand
    learner: Any
    folds: int
    pool: bool
    level: float
    seed: Seed

    def of(self, sample: Sample) -> tuple[Answer, tuple[str, str] | tuple[()]]:
        """Return the answer, and what is compared."""
        compared = self.compared(sample)
        answer = (
            self._of_arms(sample, compared) if compared.codes else self._of_doses(sample, compared)
        )
        return answer, compared.labels

    def compared(self, sample: Sample) -> Compared:
        """Return the values of the treatment that are compared.

        Raises:
            ValueError: If they are the same, or none of the treatment's.
        """
        name, kind = sample.treatment, sample.kinds[sample.treatment]
        if kind.shape:
            raise ValueError(f"{name}: is {kind}; expected a number or category a row")
        if isinstance(kind, Discrete):
            do, versus = coded(self.do, 1), coded(self.versus, 0)
            _, labels = arms_of(sample, do, versus)
            code, other = (int(kind.validate(name, one)) for one in (do, versus))
            return Compared(labels, float(code - other), (code, other))
        if (self.do is None) != (self.versus is None):
            raise ValueError(
                f"{name}: is {kind}; give both do and versus, or neither for the effect of a unit"
            )
        if self.estimand != "ATE":
            raise ValueError(f"estimand: {name} is {kind}; expected a discrete treatment, or 'ATE'")
        if self.do is None:
            return Compared((), 1.0)
        doses = (float(kind.validate(name, self.do)), float(kind.validate(name, self.versus)))
        if doses[0] == doses[1]:
            raise ValueError(f"{name}: do and versus are the same value, {self.do!r}")
        labels = (spell(kind, doses[0]), spell(kind, doses[1]))
        return Compared(labels, doses[0] - doses[1], doses=doses)

    def _of_arms(self, sample: Sample, compared: Compared) -> Answer:
        way, kind = self.way, sample.kinds[sample.treatment]
        assert compared.codes is not None
        match way.name:
            case "front-door":
                arms = torch.stack([sample.rows[sample.treatment] == c for c in compared.codes])
                return front_door_effect(sample, way.through, arms)
            case "ID algorithm":
                assert way.formula is not None
                return plug_in_effect(sample, way.used, way.formula, compared.codes)
            case "instrument":
                if isinstance(kind, Categorical) and kind.classes > 2:
                    raise ValueError(
                        f"{sample.treatment}: is {kind}; by an instrument, expected a number, or a "
                        "category of two levels"
                    )
                return instrumental_effect(
                    sample, way.through, way.given, compared.units, self.level
                )
        return adjusted_effect(
            sample, way.given, coded(self.do, 1), coded(self.versus, 0), self.method,
            self.estimand, self.learner, self.folds, self.seed,
        )  # fmt: skip

    def _of_doses(self, sample: Sample, compared: Compared) -> Answer:
        way, name = self.way, sample.treatment
        match way.name:
            case "front-door":
                return front_door_slope(sample, way.through, compared.units)
            case "instrument":
                return instrumental_effect(
                    sample, way.through, way.given, compared.units, self.level
                )
            case "ID algorithm":
                raise ValueError(
                    f"{name}: is {sample.kinds[name]}; this effect is identified by a formula "
                    f"alone ({way.formula}), which is estimated on categories: cut it into levels"
                )
        return dose_effect(sample, way.given, compared.doses, self.learner, self.folds, self.seed)
