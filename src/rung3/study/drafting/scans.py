"""What files of scans hold: sizes in millimetres, volumes or pictures, and how to read them.

A model of whole volumes takes hours on a CPU. So of a volume its middle axial slice is proposed,
which a reader may change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rung3.data.readers.scan import Scan
from rung3.data.readers.scans import ScanOptions, open_scan
from rung3.data.variables import Image
from rung3.study.drafting.pictures import CLOSE, Seen, shape_within

__all__ = ["look_at_scans"]

READ = 12
"""Scans that are read, spread over all: a volume takes a second, and `check` reads them all."""


def look_at_scans(name: str, files: Sequence[Path], longest: int | None = None) -> Seen:
    """Look at scans, and propose the variable to read them as, and what to take from each.

    Args:
        name: The variable, for the errors.
        files: NIfTI and DICOM files, and folders of DICOM series.
        longest: Pixels of the longer side; if not given, those of the files, 64 at most.

    Raises:
        ValueError: If a scan cannot be read, or some are volumes and others pictures.
    """
    first = _first(name, files[0])
    options = first.options
    if first.voxels.ndim == 3:
        options = replace(options, plane="axial")
    scans = [_open(name, file, options) for file in files[:: max(1, len(files) // READ)]]
    squares = [_squares(scan) for scan in scans]
    aspects = [width / height for height, width in squares]
    alike = max(aspects) / min(aspects) < CLOSE
    (height, width), _ = Counter(squares).most_common(1)[0]
    shape, why = shape_within(height, width, alike, len(set(squares)) > 1, longest)
    fields: dict[str, Any] = {
        "kind": "Image", "channels": 1, "height": shape[0], "width": shape[1],
    }  # fmt: skip
    if not all(scan.fits(Image(1, *shape)) for scan in scans):
        fields["fit"] = "pad"
        why += ", with black at the shorter sides (fit: crop cuts the longer ones)"
    taken: dict[str, Any] = {} if options.index is None else {"index": options.index}
    if options.plane is not None:
        taken = {"plane": options.plane, "at": options.at, **taken}
        why = f"the middle {options.plane} slice, {why}; for volumes give a depth, and no plane"
    return Seen(fields, f"{len(files)} scans, the first {_spell(first)}", why, taken)


def _first(name: str, file: Path) -> Scan:
    """Return a scan; of a file of several, the first of them."""
    try:
        return open_scan(file)
    except ValueError as error:
        if "choose one with index" not in str(error):
            raise ValueError(f"{name}: {error}") from None
    return _open(name, file, ScanOptions(index=0))


def _open(name: str, file: Path, options: ScanOptions) -> Scan:
    try:
        scan = open_scan(file, options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if scan.voxels.ndim == 3:
        raise ValueError(f"{name}: {file} is a volume, and the first scan is a picture")
    return scan


def _squares(scan: Scan) -> tuple[int, int]:
    """Return height and width of a picture in squares of its finer spacing."""
    sides = np.rint(np.array(scan.voxels.shape) * scan.spacing / scan.spacing.min())
    return int(sides[0]), int(sides[1])


def _spell(scan: Scan) -> str:
    """Return a scan's size in voxels and millimetres."""
    shape = "x".join(map(str, scan.voxels.shape))
    what = "voxels" if scan.voxels.ndim == 3 else "pixels"
    return f"of {shape} {what} of {'x'.join(f'{size:.3g}' for size in scan.spacing)} mm"
