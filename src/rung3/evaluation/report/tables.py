"""The numbers as tables: the essential ones for the console, and all of them for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rung3.evaluation.measures import registry
from rung3.evaluation.measures.table import Table

__all__ = ["further", "tables"]


def tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Return the essential tables for which there are numbers."""
    return _shown(metrics, essential=True)


def further(metrics: Mapping[str, Any]) -> list[Table]:
    """Return the other tables for which there are numbers: the console stays short."""
    return _shown(metrics, essential=False)


def _shown(metrics: Mapping[str, Any], essential: bool) -> list[Table]:
    chosen = sorted(
        (m for m in registry.MEASURES if m.essential == essential), key=lambda m: m.rung
    )
    return [table for measure in chosen for table in measure.show(metrics)]
