"""Which way scores are better, and which depend on how many draws of the noise there are."""

from __future__ import annotations

from rung3.evaluation.runner import AVERAGED, FACTUAL
from rung3.evaluation.scores import Path

__all__ = ["CRPS", "better_of", "of_particles"]

BETTER = {
    "log_prob": "higher",
    "truth skill": "higher",
    "truth ssim": "higher",
    "truth error": "lower",
    "calibration crps": "lower",
    "calibration crps skill": "higher",
    "minimality cld": "lower",
} | dict.fromkeys(
    (
        "composition", "reversibility", "effectiveness", "measured", "amplification", "drift",
        "commutativity", "stability",
    ),
    "lower",
)  # fmt: skip
"""What is better, by the first name of a path, or its first and its last."""

CRPS = "crps skill"
"""Of draws of the noise: what is left of the error of doing nothing."""


def of_particles(path: Path) -> bool:
    """Whether a score depends on how many draws of the noise there are."""
    return AVERAGED in path or path[0] == "spread" or "coverage" in path[-1]


def better_of(path: Path, unit: str) -> str | None:
    """`higher` or `lower`; `None` where neither is better."""
    if FACTUAL in path:
        return None
    if unit == "accuracy" and path[0] == "effectiveness":
        return "higher"
    return BETTER.get(path[0]) or BETTER.get(f"{path[0]} {path[-1]}")
