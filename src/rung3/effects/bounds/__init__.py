"""What data leave open: bounds on effects, on single rows, and on causation itself."""

from rung3.effects.bounds.alternatives import Reversed
from rung3.effects.bounds.causation import Causation, probabilities_of_causation
from rung3.effects.bounds.linear_program import bounds
from rung3.effects.bounds.per_row import row_bounds
from rung3.effects.bounds.sensitivity_analysis import Sensitivity, sensitivity

__all__ = [
    "Causation",
    "Reversed",
    "Sensitivity",
    "bounds",
    "probabilities_of_causation",
    "row_bounds",
    "sensitivity",
]
