"""Everything that an evaluation measures: one object a measure, beside its formula.

The order of `MEASURES` is that in which they are asked, which the random numbers of a report
depend on: a new measure goes to the end.
"""

from __future__ import annotations

from collections.abc import Collection

from rung3.evaluation.measures.amplification import AMPLIFICATION
from rung3.evaluation.measures.axioms import COMPOSITION, REVERSIBILITY
from rung3.evaluation.measures.base import Measure, Section
from rung3.evaluation.measures.calibration import CALIBRATION, DRAWS
from rung3.evaluation.measures.change import CHANGE
from rung3.evaluation.measures.commutativity import COMMUTATIVITY
from rung3.evaluation.measures.cost import COST
from rung3.evaluation.measures.density import DENSITY
from rung3.evaluation.measures.effectiveness import EFFECTIVENESS
from rung3.evaluation.measures.interventional import DISTANCE
from rung3.evaluation.measures.minimality import MINIMALITY
from rung3.evaluation.measures.realism import REALISM
from rung3.evaluation.measures.recovery import RECOVERY
from rung3.evaluation.measures.regions import REGIONS
from rung3.evaluation.measures.similarity import SIMILARITY
from rung3.evaluation.measures.spread import SPREAD
from rung3.evaluation.measures.stability import STABILITY
from rung3.evaluation.measures.true_effect import TRUE_EFFECT
from rung3.evaluation.measures.truth import AGAINST_TRUTH

__all__ = ["MEASURES", "chosen", "optional", "sections"]

MEASURES: tuple[Measure, ...] = (
    AGAINST_TRUTH,
    EFFECTIVENESS,
    AMPLIFICATION,
    COMPOSITION,
    REVERSIBILITY,
    SPREAD,
    DRAWS,
    COMMUTATIVITY,
    SIMILARITY,
    MINIMALITY,
    REALISM,
    RECOVERY,
    CALIBRATION,
    STABILITY,
    DISTANCE,
    COST,
    DENSITY,
    CHANGE,
    REGIONS,
    TRUE_EFFECT,
)


def optional() -> dict[str, str]:
    """Return what can be asked for, and what it measures, beside what is always measured."""
    return {measure.name: measure.about for measure in MEASURES if not measure.always}


def chosen(names: Collection[str]) -> list[Measure]:
    """Return the measures of these names, and those that are always measured."""
    return [measure for measure in MEASURES if measure.always or measure.name in names]


def sections() -> dict[str, Section]:
    """Return the sections of a report's numbers by the first name of their paths.

    Those that the console shows come first.
    """
    ordered = sorted(MEASURES, key=lambda measure: not measure.essential)
    return {section.name: section for measure in ordered for section in measure.sections}
