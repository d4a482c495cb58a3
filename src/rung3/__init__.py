"""rung3: deep structural causal models, and answers to the three kinds of causal question.

The names below are imported when they are first used, so that importing rung3 is fast.
"""

import ast
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
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


def lazily(spec: ModuleSpec | None) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package: what it imports for types comes with its first use.

    Args:
        spec: The package's `__spec__`.
    """
    assert spec is not None
    loader: Any = spec.loader
    imports = [
        statement
        for block in ast.parse(loader.get_source(spec.name)).body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
    ]
    homes = {alias.name: statement.module for statement in imports for alias in statement.names}

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {spec.name!r} has no attribute {name!r}")
        if homes[name] == spec.name:
            return import_module(f"{spec.name}.{name}")
        return getattr(import_module(str(homes[name])), name)

    return attribute


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


__getattr__ = lazily(__spec__)
