"""Predictive tasks, causally: their direction, their shifts, and what a shift does to a predictor.

Source: Castro, Walker and Glocker 2020, *Causality matters in medical imaging*, Nature
Communications 11:3673 (lecture 1.4).
"""

from rung3.effects.attribution.mechanism_changes import Change, changes
from rung3.evaluation.tasks.direction import Direction, Task, task
from rung3.evaluation.tasks.distribution_shifts import Kind, Shift, shifted, shifts
from rung3.evaluation.tasks.stressing import Stress, stress

__all__ = [
    "Change",
    "Direction",
    "Kind",
    "Shift",
    "Stress",
    "Task",
    "changes",
    "shifted",
    "shifts",
    "stress",
    "task",
]
