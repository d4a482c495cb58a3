"""NIfTI files: volumes of MRI and CT, read in one orientation and written back in their own.

Source: NIfTI-1, NIfTI-2 and Analyze 7.5, as nibabel reads them (the extra `medical`).
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from rung3.data.archives import archive_of, unpack
from rung3.data.readers.scan import Scan, ScanOptions, need

__all__ = ["NiftiScan", "is_nifti", "read_nifti"]

SUFFIXES = (".nii", ".nii.gz", ".img")

SECOND = 540
"""Bytes of a NIfTI-2 header, with which it begins; that of NIfTI-1 has 348."""

BLOCK = 2**20
"""Bytes read at once where a file is read to its end."""

DESCRIPTION_BYTES = 79
"""Bytes of the header's field of free text, but for the zero that ends it."""


def is_nifti(path: Path) -> bool:
    """Return whether a path is named as a NIfTI file is."""
    return path.name.lower().endswith(SUFFIXES)


def read_nifti(path: str | Path, options: ScanOptions | None = None) -> NiftiScan:
    """Read a NIfTI file, `.nii` or `.nii.gz`, or the `.img` of an Analyze pair.

    Args:
        path: The file; it may lie in an archive, `scans.zip/T1.nii.gz`.
        options: What to take from it.

    Returns:
        The scan, in the orientation of `rung3.data.readers.scan`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, encrypted or something else, holds several volumes and no
            index says which, is flat where a volume is needed, or holds colours or NaN.
    """
    return NiftiScan(Path(path), options or ScanOptions())


class NiftiScan(Scan):
    """A volume of a NIfTI file.

    Args:
        path: The file.
        options: What to take from it.
    """

    def __init__(self, path: Path, options: ScanOptions) -> None:
        need("nibabel")
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        self.file = _open(path)
        self.array = _numbers(self.file)
        volume = _one(self.array, options.index)
        affine = self.file.affine
        # From the file's axes to depth (to the head), rows (to the back), columns (to the left).
        orientation = io_orientation(affine) if np.isfinite(affine).all() else np.nan
        if np.isnan(orientation).any():
            raise ValueError("has an affine without a direction for every axis; correct its header")
        turn = ornt_transform(orientation, axcodes2ornt(("S", "P", "L")))
        order = np.argsort(turn[:, 0]).astype(int)
        flips = tuple(slice(None, None, int(turn[axis, 1])) for axis in order)
        spacing = np.sqrt((affine[:3, :3] ** 2).sum(0))[order]
        super().__init__(volume.transpose(*order)[flips], spacing, None, options)

    def write(self, path: Path, note: str) -> None:
        """Write the file again, with its header, affine and type; its description is the note."""
        import nibabel

        header = self.file.header.copy()
        kind = header.get_data_dtype()
        slope, inter = self.file.dataobj.slope, self.file.dataobj.inter
        stored = (self.array - inter) / slope
        if kind.kind in "iu":
            ends = np.iinfo(kind)
            stored = np.clip(np.rint(stored), ends.min, ends.max)
        header["descrip"] = note.encode("ascii", "replace")[:DESCRIPTION_BYTES]
        written = type(self.file)(stored.astype(kind), self.file.affine, header)
        written.header.set_slope_inter(slope, inter)
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(written, path)


def _open(path: Path) -> Any:
    import nibabel
    from nibabel.analyze import AnalyzeImage
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    archive = archive_of(path)
    if not path.is_file() and archive is None:
        raise FileNotFoundError(path)
    try:
        file = nibabel.load(path) if archive is None else _unpacked(path, archive)
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"cannot be read: damaged, encrypted, or no NIfTI file: {error}") from None
    if not isinstance(file, AnalyzeImage):  # NIfTI files are some
        raise ValueError(f"is not a NIfTI file, but {type(file).__name__}")
    return file


def _unpacked(path: Path, archive: Path) -> Any:
    """Return a file of a zip archive."""
    import nibabel

    content = unpack(path, archive)
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    second = SECOND in (int.from_bytes(content[:4], order) for order in ("little", "big"))
    return (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_bytes(content)


def _numbers(file: Any) -> Any:
    if min(file.shape, default=0) < 1:
        raise ValueError(f"has axes of {file.shape} voxels; expected at least one along each")
    if file.get_data_dtype().names is not None or file.get_data_dtype().kind == "c":
        raise ValueError(f"holds {file.get_data_dtype()} in each voxel; expected one number")
    try:
        array = np.array(file.get_fdata(caching="unchanged"))  # not the file's own memory
        _check_sum(Path(file.get_filename() or ""))
    except (OSError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise ValueError(f"cannot be read to its end: truncated or damaged: {error}") from None
    if not np.isfinite(array).all():
        raise ValueError(
            f"holds {(~np.isfinite(array)).sum()} voxels that are NaN or infinite; set them to "
            "the background"
        )
    return array


def _check_sum(path: Path) -> None:
    """Read a compressed file to its end, where its check sum is compared."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as content:
            while content.read(BLOCK):
                pass


def _one(array: Any, index: int | None) -> Any:
    """Return a view of one volume."""
    if array.ndim < 3:
        raise ValueError(f"has {array.ndim} axes; expected a volume")
    count = int(np.prod(array.shape[3:]))
    if index is None:
        if count > 1:
            raise ValueError(
                f"holds {count} volumes ({'x'.join(map(str, array.shape))}); choose one with "
                f"index, from 0 to {count - 1}"
            )
        index = 0
    if index >= count:
        raise ValueError(f"holds {count} volumes, and index={index} is none; the first is 0")
    return array[(..., *np.unravel_index(index, array.shape[3:]))] if array.ndim > 3 else array
