"""rung3: deep structural causal models, and answers to the three kinds of causal question.

The names below are imported when they are first used, so that importing rung3 is fast.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rung3 import effects, mechanisms, worlds
    from rung3.data.rows import Rows
    from rung3.data.variables import (
        Binary,
        Categorical,
        CensoredTime,
        Continuous,
        Image,
        Mask,
        Ordinal,
    )
    from rung3.effects.attribution import explain
    from rung3.effects.predictors import audit, recourse
    from rung3.effects.tables import effect
    from rung3.evaluation import evaluate
    from rung3.graph import CausalGraph
    from rung3.scm.identifiability import identify
    from rung3.scm.scm import SCM, load
    from rung3.training.augmentation import augment
    from rung3.training.automatic import fit
    from rung3.training.choice import choose
    from rung3.training.diagnosis import diagnose

__version__ = version("rung3")

__all__ = [
    "SCM",
    "Binary",
    "Categorical",
    "CausalGraph",
    "CensoredTime",
    "Continuous",
    "Image",
    "Mask",
    "Ordinal",
    "Rows",
    "audit",
    "augment",
    "choose",
    "diagnose",
    "effect",
    "effects",
    "evaluate",
    "explain",
    "fit",
    "identify",
    "load",
    "mechanisms",
    "recourse",
    "worlds",
]

_HOME = {
    "SCM": "rung3.scm",
    "Binary": "rung3.data.variables",
    "Categorical": "rung3.data.variables",
    "CensoredTime": "rung3.data.variables",
    "CausalGraph": "rung3.graph",
    "Continuous": "rung3.data.variables",
    "Image": "rung3.data.variables",
    "Mask": "rung3.data.variables",
    "Ordinal": "rung3.data.variables",
    "Rows": "rung3.data.rows",
    "audit": "rung3.effects.predictors",
    "augment": "rung3.training.augmentation",
    "choose": "rung3.training.choice",
    "diagnose": "rung3.training.diagnosis",
    "effect": "rung3.effects.tables",
    "evaluate": "rung3.evaluation",
    "explain": "rung3.effects.attribution",
    "fit": "rung3.training",
    "identify": "rung3.scm.identifiability",
    "load": "rung3.scm",
    "recourse": "rung3.effects.predictors",
}
_MODULES = ("effects", "mechanisms", "worlds")


def __getattr__(name: str) -> Any:
    """Return a public name from the module that it lives in."""
    if name in _MODULES:
        return import_module(f"rung3.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'rung3' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
