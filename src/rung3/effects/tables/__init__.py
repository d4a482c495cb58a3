"""Effects from a table, without a model: by the way that a graph allows, and what misleads."""

from rung3.effects.tables.answer import Curve
from rung3.effects.tables.balance import Balance
from rung3.effects.tables.estimation import Effect, effect
from rung3.effects.tables.refutation import Refutation, refute
from rung3.effects.tables.simpson import Reversal, advise, association, find_reversals
from rung3.effects.tables.unobserved import EValue, Robustness, e_value, robustness

__all__ = [
    "Balance",
    "Curve",
    "EValue",
    "Effect",
    "Refutation",
    "Reversal",
    "Robustness",
    "advise",
    "association",
    "e_value",
    "effect",
    "find_reversals",
    "refute",
    "robustness",
]
