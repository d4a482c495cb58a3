"""Everything that an evaluation measures: one object a measure, beside its formula."""

from rung3.evaluation.measures.base import Measure, Section
from rung3.evaluation.measures.registry import MEASURES

__all__ = ["MEASURES", "Measure", "Section"]
