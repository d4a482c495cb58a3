"""Worlds: SCMs whose truth is known, so that answers can be checked."""

from typing import TYPE_CHECKING

from rung3.imports import lazily

if TYPE_CHECKING:
    from rung3.worlds.confounded import hidden_cause
    from rung3.worlds.ellipses import ellipse
    from rung3.worlds.medical.brain import brain
    from rung3.worlds.medical.chest import chest
    from rung3.worlds.paradoxes import chocolate, collider, exam, hospital, kidney_stones
    from rung3.worlds.strokes.colour import colour
    from rung3.worlds.strokes.drawn import digits
    from rung3.worlds.strokes.morphomnist import morphomnist
    from rung3.worlds.tables import suite
    from rung3.worlds.textbook import lecture, scans, uniform

__all__ = [
    "brain",
    "chest",
    "chocolate",
    "collider",
    "colour",
    "digits",
    "ellipse",
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

if not TYPE_CHECKING:  # so that a name that is not there is still found by a type checker
    __getattr__ = lazily(__spec__)
