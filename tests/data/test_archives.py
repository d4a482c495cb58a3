"""Scans inside zip archives: what is there, and what cannot be read."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest

from rung3.data.archives import archive_of, unpack

CENTRAL = b"PK\x01\x02"
"""The signature of an entry in the directory of a zip file."""


def archive(folder: Path) -> Path:
    path = folder / "scans.zip"
    with ZipFile(path, "w") as files:
        files.writestr("T1/brain.nii.gz", b"voxels of a brain")
    return path


def altered(path: Path, at: int, value: int) -> None:
    """Write another byte, in the entry's own header and in the directory's."""
    content = bytearray(path.read_bytes())
    content[6 + at] = content[content.index(CENTRAL) + 8 + at] = value
    path.write_bytes(content)


def test_a_path_leads_into_an_archive(tmp_path: Path) -> None:
    path = archive(tmp_path)
    assert archive_of(path / "T1/brain.nii.gz") == path
    assert archive_of(path / "T2/brain.nii.gz") is None
    assert archive_of(tmp_path / "T1/brain.nii.gz") is None
    assert unpack(path / "T1/brain.nii.gz", path) == b"voxels of a brain"


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"voxels of a brain", b"voxels of a drain"))
    with pytest.raises(ValueError, match=r"scans\.zip cannot be unpacked: Bad CRC-32"):
        unpack(path / "T1/brain.nii.gz", path)
    path.write_bytes(content[:20])
    with pytest.raises(ValueError, match=r"scans\.zip is damaged: File is not a zip file"):
        archive_of(path / "T1/brain.nii.gz")


def test_an_archive_with_a_password_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path)
    altered(path, 0, 1)  # the flag of encryption
    with pytest.raises(ValueError, match=r"scans\.zip cannot be unpacked: .*password required"):
        unpack(path / "T1/brain.nii.gz", path)
