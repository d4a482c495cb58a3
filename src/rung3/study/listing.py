"""The runs in a folder, as a list."""

from __future__ import annotations

from pathlib import Path

from rung3.data.variables import Image
from rung3.study.folder import RunFolder

__all__ = ["list_runs"]


def list_runs(folder: str | Path) -> list[list[str]]:
    """Return a line for each run in a folder and its subfolders, the newest first.

    Args:
        folder: Where to look, two levels deep: sweeps keep their runs in folders of their own.

    Returns:
        Lines of name, study, kind of data, mechanisms of images, state and verdict.

    Raises:
        ValueError: If there is no such folder.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder; runs are in runs/, or where --out put them")
    studies = [
        *place.glob("study.yaml"),
        *place.glob("*/study.yaml"),
        *place.glob("*/*/study.yaml"),
    ]
    studies.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    return [_line(place, RunFolder(file.parent)) for file in studies]


def _line(place: Path, run: RunFolder) -> list[str]:
    name = run.path.relative_to(place).as_posix() if run.path != place else run.path.name
    try:
        study = run.study()
    except ValueError as error:
        return [name, "", "", "", "damaged", str(error).split(";")[0]]
    state = "finished" if run.finished else "fitted" if run.fitted else "begun"
    by = []
    for key, variable in study.declared().items():
        if isinstance(variable, Image):
            mechanism = study.mechanisms.get(key)
            kind = mechanism.get("kind", "") if isinstance(mechanism, dict) else mechanism or "VAE"
            by.append(str(kind))
    verdict = run.verdict()
    return [
        name,
        study.name,
        str(study.data.kind),
        ", ".join(by),
        state,
        verdict.headline if verdict else "",
    ]
