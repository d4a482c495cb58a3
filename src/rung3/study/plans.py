"""A plan of augmentation as a YAML file: the keys are the fields of `Plan`."""

from __future__ import annotations

from pathlib import Path

from rung3.study.options import Derived
from rung3.study.parser import read, validated
from rung3.training.augmentation.plan import Plan

__all__ = ["read_plan"]


class PlanOptions(Derived, of=Plan):
    """What augmented rows should look like; see `rung3.training.augmentation.Plan`."""


def read_plan(path: str | Path) -> Plan:
    """Read a plan.

    Raises:
        ValueError: If the file is missing or no YAML, or a key or value is not one of a plan.
    """
    return Plan(**validated(PlanOptions, read(path)).given())
