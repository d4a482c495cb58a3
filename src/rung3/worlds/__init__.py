"""Worlds: SCMs whose truth is known, so that answers can be checked."""

from rung3.worlds.colour import colour
from rung3.worlds.digits import digits
from rung3.worlds.hidden import hidden_cause
from rung3.worlds.morphomnist import morphomnist
from rung3.worlds.paradoxes import chocolate, collider, exam, hospital, kidney_stones
from rung3.worlds.radiology import scans
from rung3.worlds.suite import suite
from rung3.worlds.textbook import lecture, uniform

__all__ = [
    "chocolate",
    "collider",
    "colour",
    "digits",
    "exam",
    "hidden_cause",
    "hospital",
    "kidney_stones",
    "lecture",
    "morphomnist",
    "scans",
    "suite",
    "uniform",
]
