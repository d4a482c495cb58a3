"""Causal graphs, and what follows from them before any data is seen.

The methods of a `CausalGraph` give plain answers: true or false, names, sets. The functions here
give answers with their reasons.
"""

from rung3.graph.adjustment import Adjustment, check_adjustment
from rung3.graph.causal_graph import CausalGraph
from rung3.graph.instruments import Instrument
from rung3.graph.paths import Path
from rung3.graph.roles import Roles
from rung3.graph.separation import Separation, separation
from rung3.graph.structures import Structure, structures

__all__ = [
    "Adjustment",
    "CausalGraph",
    "Instrument",
    "Path",
    "Roles",
    "Separation",
    "Structure",
    "check_adjustment",
    "separation",
    "structures",
]
