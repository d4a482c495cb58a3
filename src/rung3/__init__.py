"""rung3: deep structural causal models, and answers to the three kinds of causal question."""

from importlib.metadata import version

from rung3.graph import CausalGraph
from rung3.rows import Rows
from rung3.scm import SCM
from rung3.variables import Binary, Categorical, Continuous, Image, Ordinal

__version__ = version("rung3")

__all__ = [
    "SCM",
    "Binary",
    "Categorical",
    "CausalGraph",
    "Continuous",
    "Image",
    "Ordinal",
    "Rows",
]
