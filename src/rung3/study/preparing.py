"""Prepare the rows of a study on disk, before it is run."""

from __future__ import annotations

from pathlib import Path

from rung3.study.row_source import Filed
from rung3.study.study import Study

__all__ = ["prepare_study"]


def prepare_study(
    study: Study, out: str | Path | None = None, *, workers: int = 1, progress: bool = True
) -> list[Path]:
    """Prepare the rows of a study on disk; what was prepared and has not changed is kept.

    Args:
        study: The study, whose rows are read from a table or a medical data set.
        out: The folder; by default `data.prepared` of the study, or else one of the user's cache.
            A study that names it as `data.prepared` reads from there.
        workers: Processes that read images, each with a shard.
        progress: Whether to show a progress bar.

    Returns:
        The folder of each table.

    Raises:
        ValueError: If the rows are not read from such files, or one cannot be read.
        OSError: If a shard cannot be written, as where the disk is full.
        ChildProcessError: If a worker died.
    """
    source = study.data
    if not isinstance(source, Filed):
        raise ValueError(
            f"data: rows of kind {source.kind!r} are not read from files by row; tables and "
            "medical data sets can be prepared"
        )
    if out is not None:
        source = source.model_copy(update={"prepared": Path(out).absolute()})
    listings = source.listings(study.declared())
    for listing in listings:
        listing.prepare(workers, progress)
    return [listing.folder for listing in listings]
