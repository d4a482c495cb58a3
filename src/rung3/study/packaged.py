"""Studies by name: those that come with rung3, where no file of that name is there."""

from __future__ import annotations

from pathlib import Path

from rung3.data.spelling import suggest

__all__ = ["study_file", "study_names"]

READY = Path(__file__).parent / "ready"
"""Folder of those studies."""


def study_names() -> list[str]:
    """Return the names of the studies that come with rung3.

    Example:
        >>> "digits" in study_names()
        True
    """
    return sorted(file.stem for file in READY.glob("*.yaml"))


def study_file(name: str | Path) -> Path:
    """Return the path of a study: a file, or one that comes with rung3.

    Raises:
        ValueError: If it is a word, and neither.
    """
    path = Path(name)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    if path.name not in study_names():
        raise ValueError(
            f"{path}: no such file, and no study that comes with rung3; "
            f"{suggest(path.name, study_names(), 'those')}"
        )
    return READY / f"{path.name}.yaml"
