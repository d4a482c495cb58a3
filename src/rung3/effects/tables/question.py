"""What `effect` asks of rows: the way, whose effect, of which values; and the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rung3.data.display import spell
from rung3.data.seeding import Seed
from rung3.data.values import coded
from rung3.data.variables import Categorical, Discrete, Variable
from rung3.effects.tables.adjustment import adjusted_effect, arms_of
from rung3.effects.tables.answer import Answer
from rung3.effects.tables.dose import dose_effect
from rung3.effects.tables.front_door import front_door_effect, front_door_slope
from rung3.effects.tables.instrumental import instrumental_effect
from rung3.effects.tables.m_estimation import Estimand, Method
from rung3.effects.tables.plug_in import plug_in_effect
from rung3.effects.tables.sample import Sample
from rung3.effects.tables.ways import Way

__all__ = ["Question"]


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
        kind = sample.kinds[sample.treatment]
        if kind.shape:
            raise ValueError(f"{sample.treatment}: is {kind}; expected a number or category a row")
        if isinstance(kind, Discrete):
            return self._of_arms(sample, kind)
        if (self.do is None) != (self.versus is None):
            raise ValueError(
                f"{sample.treatment}: is {kind}; give both do and versus, or neither for the "
                "effect of a unit"
            )
        return self._of_doses(sample, kind)

    def _of_arms(self, sample: Sample, kind: Discrete) -> tuple[Answer, tuple[str, str]]:
        do, versus = coded(self.do, 1), coded(self.versus, 0)
        arms, labels = arms_of(sample, do, versus)
        code, other = (int(kind.validate(sample.treatment, one)) for one in (do, versus))
        way = self.way
        match way.name:
            case "front-door":
                return front_door_effect(sample, way.through, arms), labels
            case "ID algorithm":
                assert way.formula is not None
                return plug_in_effect(sample, way.used, way.formula, (code, other)), labels
            case "instrument":
                if isinstance(kind, Categorical) and kind.classes > 2:
                    raise ValueError(
                        f"{sample.treatment}: is {kind}; by an instrument, expected a number, or a "
                        "category of two levels"
                    )
                units, level = float(code - other), self.level
                return instrumental_effect(sample, way.through, way.given, units, level), labels
        return adjusted_effect(
            sample, way.given, do, versus, self.method, self.estimand, self.learner, self.folds,
            self.seed,
        ), labels  # fmt: skip

    def _of_doses(
        self, sample: Sample, kind: Variable
    ) -> tuple[Answer, tuple[str, str] | tuple[()]]:
        way, name = self.way, sample.treatment
        doses: tuple[float, float] | None
        compared: tuple[str, str] | tuple[()]
        if self.estimand != "ATE":
            raise ValueError(f"estimand: {name} is {kind}; expected a discrete treatment, or 'ATE'")
        if self.do is None:
            doses, compared, units = None, (), 1.0
        else:
            doses = (float(kind.validate(name, self.do)), float(kind.validate(name, self.versus)))
            compared = (spell(kind, doses[0]), spell(kind, doses[1]))
            units = doses[0] - doses[1]
        if units == 0:
            raise ValueError(f"{name}: do and versus are the same value, {self.do!r}")
        match way.name:
            case "front-door":
                answer = front_door_slope(sample, way.through, units)
            case "instrument":
                answer = instrumental_effect(sample, way.through, way.given, units, self.level)
            case "ID algorithm":
                raise ValueError(
                    f"{name}: is {kind}; this effect is identified by a formula alone "
                    f"({way.formula}), which is estimated on categories: cut it into levels"
                )
            case _:
                answer = dose_effect(sample, way.given, doses, self.learner, self.folds, self.seed)
        return answer, compared
