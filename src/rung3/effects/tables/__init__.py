"""Effects from a table, without a model: by the way that a graph allows, and what misleads."""

from rung3.effects.tables.answer import Curve
from rung3.effects.tables.estimation import Effect, effect
from rung3.effects.tables.simpson import Reversal, advise, association, find_reversals

__all__ = [
    "Curve",
    "Effect",
    "Reversal",
    "advise",
    "association",
    "effect",
    "find_reversals",
]
