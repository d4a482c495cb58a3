"""rung3: deep structural causal models, and answers to the three kinds of causal question.

The names below are imported when they are first used, so that importing rung3 is fast.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

from rung3.imports import lazily

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


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if not TYPE_CHECKING:  # so that a name that is not there is still found by a type checker
    __getattr__ = lazily(__spec__)
