"""Scenarios of colour digits: which variables their data confound, and how."""

from __future__ import annotations

from typing import Literal

__all__ = ["CENTRES", "RANGES", "Scenario"]

Scenario = Literal["digit-hue", "digit-thickness", "thickness-hue", "digit-hue-saturation"]

RANGES = {"thickness": (1.5, 6.0), "hue": (0.0, 1.0), "saturation": (0.3, 1.0)}
"""Ranges that outliers, and causes without confounding, are uniform on."""

CENTRES: dict[str, dict[str, tuple[str, str, float]]] = {
    "digit-hue": {"hue": ("digit", "digit/10 + 0.05", 0.05)},
    "digit-thickness": {"thickness": ("digit", "1.5 + 0.45*digit", 0.225)},
    "thickness-hue": {"hue": ("thickness", "(thickness - 1.5)/4.5", 0.05)},
    "digit-hue-saturation": {
        "hue": ("digit", "digit/10 + 0.05", 0.05),
        "saturation": ("hue", "0.3 + 0.7*hue", 0.05),
    },
}
"""By scenario and confounded variable: its cause, its centre given the cause, and s."""
