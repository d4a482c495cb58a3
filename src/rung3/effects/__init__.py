"""Effects: differences of potential outcomes, under one and the same exogenous noise."""

from rung3.effects.averages import Average, average, controlled
from rung3.effects.calibration import Coverage, coverage
from rung3.effects.mediation import Averages, Mediation, mediate, natural
from rung3.effects.paths import along
from rung3.effects.spread import Uncertainty, uncertainty
from rung3.effects.strips import Grid, grid

__all__ = [
    "Average",
    "Averages",
    "Coverage",
    "Grid",
    "Mediation",
    "Uncertainty",
    "along",
    "average",
    "controlled",
    "coverage",
    "grid",
    "mediate",
    "natural",
    "uncertainty",
]
