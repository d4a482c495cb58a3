"""Effects from a table, without a model: by adjustment, and what a table alone misleads about."""

from rung3.effects.tables.adjustment import Effect, effect
from rung3.effects.tables.simpson import Reversal, advise, association, find_reversals

__all__ = ["Effect", "Reversal", "advise", "association", "effect", "find_reversals"]
