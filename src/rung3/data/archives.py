"""Files inside zip archives, by a path that leads through one: `scans.zip/T1/brain.nii.gz`."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile, ZipFile

__all__ = ["archive_of", "unpack"]


def archive_of(path: Path) -> Path | None:
    """Return the archive that a path leads into, if the file is there.

    Raises:
        ValueError: If the archive is damaged.
    """
    for parent in path.parents:
        if parent.suffix == ".zip" and parent.is_file():
            try:
                with ZipFile(parent) as files:
                    inside = path.relative_to(parent).as_posix() in files.namelist()
            except BadZipFile as error:
                raise ValueError(f"{parent} is damaged: {error}") from None
            return parent if inside else None
    return None


def unpack(path: Path, archive: Path) -> bytes:
    """Return the content of a file in an archive.

    Raises:
        ValueError: If it is encrypted or damaged.
    """
    try:
        with ZipFile(archive) as files:
            return files.read(path.relative_to(archive).as_posix())
    except (RuntimeError, BadZipFile, NotImplementedError) as error:  # a password raises the first
        raise ValueError(f"{archive} cannot be unpacked: {error}") from None
