"""rung3: deep structural causal models, and answers to the three kinds of causal question.

The names below are imported when they are first used, so that importing rung3 is fast.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rung3 import effects, mechanisms, worlds
    from rung3.choice import choose
    from rung3.diagnosis import diagnose
    from rung3.evaluation import evaluate
    from rung3.graph import CausalGraph
    from rung3.identification import identify
    from rung3.rows import Rows
    from rung3.scm import SCM
    from rung3.store import load
    from rung3.training import fit
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
    "choose",
    "diagnose",
    "effects",
    "evaluate",
    "fit",
    "identify",
    "load",
    "mechanisms",
    "worlds",
]

_HOME = {
    "SCM": "rung3.scm",
    "Binary": "rung3.variables",
    "Categorical": "rung3.variables",
    "CausalGraph": "rung3.graph",
    "Continuous": "rung3.variables",
    "Image": "rung3.variables",
    "Ordinal": "rung3.variables",
    "Rows": "rung3.rows",
    "choose": "rung3.choice",
    "diagnose": "rung3.diagnosis",
    "evaluate": "rung3.evaluation",
    "fit": "rung3.training",
    "identify": "rung3.identification",
    "load": "rung3.store",
}
_MODULES = ("effects", "mechanisms", "worlds")


def __getattr__(name: str) -> Any:
    """The public name, from the module that it lives in."""
    if name in _MODULES:
        return import_module(f"rung3.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'rung3' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
