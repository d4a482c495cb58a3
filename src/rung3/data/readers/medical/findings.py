"""Labels of findings, read off reports by programs: 1 is present, 0 absent, -1 uncertain."""

from __future__ import annotations

from typing import Literal, TypeAlias

from rung3.data.readers.medical.cohort import YEARS
from rung3.data.readers.medical.sheet import Row
from rung3.data.variables import Binary, Continuous, Variable

__all__ = ["Uncertain", "disease_of", "disease_variable", "radiograph"]

Uncertain: TypeAlias = Literal["drop", "present", "absent"]
"""What becomes of labels that are uncertain."""


def radiograph(finding: str) -> dict[str, Variable]:
    """Return what is known of a chest radiograph: age, sex, disease and view, as variables.

    `disease` is not a finding at all, or this one.
    """
    return {
        "age": Continuous(**YEARS),
        "sex": Binary(labels=("female", "male")),
        "disease": disease_variable(finding),
        "view": Binary(labels=("AP", "PA")),
    }


def disease_variable(finding: str) -> Binary:
    """Return `disease` as a variable."""
    return Binary(labels=("no finding", finding.lower()))


def disease_of(row: Row, finding: str, uncertain: Uncertain) -> tuple[int | None, str]:
    """Return 1 if a finding is present, 0 if there is none at all; else `None`, and why.

    Raises:
        ValueError: If a label or `uncertain` is not one of those above.
    """
    if uncertain not in ("drop", "present", "absent"):
        raise ValueError(f"uncertain={uncertain!r}: expected 'drop', 'present' or 'absent'")
    label, healthy = _label(row, finding), _label(row, "No Finding")
    if label == -1 and uncertain == "drop":
        return None, "label uncertain (-1)"
    if label == 1 or (label == -1 and uncertain == "present"):
        return 1, ""
    return (0, "") if healthy == 1 else (None, "neither the finding nor no finding")


def _label(row: Row, finding: str) -> float | None:
    label = row.number(finding)
    if label not in (None, 1, 0, -1):
        raise row.fault(finding, "is none of 1, 0, -1 and blank")
    return label
