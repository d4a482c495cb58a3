"""Names that a package hands on, imported when they are first used: so importing rung3 is fast."""

import ast
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import Any

__all__ = ["lazily"]


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
