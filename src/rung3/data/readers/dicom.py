"""DICOM files: single pictures such as radiographs, and series of slices as volumes.

Numbers are those of the modality (rescale slope and intercept), pixels stored inverted
(MONOCHROME1) are turned, and the window that the file asks for says what is black and white. A
series is sorted by position along the normal of its slices, never by file name or instance number.

Source: DICOM PS3.3, sections C.7.6.2 and C.11.2, as pydicom reads them (the extra `medical`).
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from rung3.data.readers.scan import ROUNDING, Scan, ScanOptions, need

__all__ = ["DicomScan", "is_dicom", "is_series", "read_dicom"]

SUFFIXES = (".dcm", ".dicom", ".ima")

INVERTED = "MONOCHROME1"
"""The photometric interpretation whose least number is white."""

NUMBERS = ("Rows", "Columns", "ImageOrientationPatient", "PixelSpacing")
"""Numbers of the header that all slices of a series share."""

SHIFT = 0.1
"""Greatest shift of a slice against the one below, relative to their distance."""

DECODERS = "install decoders, pip install 'pylibjpeg[all]', or "
"""What reads most compressed files."""

WORDS = ("PhotometricInterpretation", "Modality", "RescaleType")
"""Words of the header that all slices share: else one number would mean different things."""


def is_dicom(path: Path) -> bool:
    """Return whether a path is a folder, of a series, or a DICOM file by name or by content."""
    if path.is_dir() or path.name.lower().endswith(SUFFIXES):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def is_series(folder: Path) -> bool:
    """Return whether a folder has DICOM files, several of one series, as its first two tell.

    Raises:
        ValueError: If one of them is damaged.
    """
    files = [file for file in _files(folder) if is_dicom(file)]
    if len(files) < 2:
        return False
    need("pydicom")
    import pydicom

    try:
        heads = [pydicom.dcmread(file, stop_before_pixels=True) for file in files[:2]]
    except Exception as error:  # a parser may raise anything on a damaged file
        raise ValueError(f"{folder}: a file cannot be read as DICOM: {error}") from None
    first, second = (head.get("SeriesInstanceUID") for head in heads)
    return first is not None and bool(first == second)


def read_dicom(path: str | Path, options: ScanOptions | None = None) -> DicomScan:
    """Read a DICOM file, or a folder with the files of one series.

    Args:
        path: The file, or the folder; files in it that are not DICOM are refused.
        options: What to take from it.

    Returns:
        The scan: a picture `(H, W)`, or a volume in the orientation of `rung3.data.readers.scan`.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: Naming the file, if one is damaged, encrypted, of a compression that cannot be
            decoded here or in colour; if the files of a folder are of several series, or their
            slices differ in size or unit, lie on one another or aside, or have a gap or uneven
            spacings.
    """
    return DicomScan(Path(path), options or ScanOptions())


class DicomScan(Scan):
    """A DICOM picture, or a series of slices as a volume.

    Args:
        path: A file, or the folder of a series.
        options: What to take from it.
    """

    def __init__(self, path: Path, options: ScanOptions) -> None:
        need("pydicom")
        if path.is_dir():
            files = _files(path)
            if not files:
                raise ValueError("holds no files; expected those of a series")
            self.slices = _sorted({file.name: _open(file) for file in files})
            name = next(iter(self.slices))
        elif not path.is_file():
            raise FileNotFoundError(path)
        else:
            name = path.name
            self.slices = {name: _open(path)}
        first = self.slices[name]
        planes = [_numbers(file, part, options.index) for file, part in self.slices.items()]
        # A picture has no direction in space that is the same for all kinds; it stays as it is.
        self.array = np.stack(planes)
        oriented, spacing = self.array[0], _pixel_spacing(first)
        if path.is_dir():
            oriented, spacing = _oriented(self.array, list(self.slices.values()))
        inverted = first.get("PhotometricInterpretation") == INVERTED
        super().__init__(oriented, spacing, _window(self.slices), options, inverted)

    def write(self, path: Path, note: str) -> None:
        """Write the files again, as a new series of derived pictures.

        Each has a new instance UID, `DERIVED` as its type, the note as its description and the
        instance it came from; all else, positions and windows among it, is kept.
        """
        from pydicom.uid import generate_uid

        series, one = generate_uid(), len(self.slices) == 1
        for (name, source), plane in zip(self.slices.items(), self.array, strict=True):
            file = path if one and path.suffix else path / f"{Path(name).stem}.dcm"
            file.parent.mkdir(parents=True, exist_ok=True)
            _derived(source, plane, note, series, self.options.index).save_as(
                file, enforce_file_format=True
            )


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder, but for hidden ones such as `.DS_Store`."""
    files = (file for file in folder.iterdir() if file.is_file())
    return sorted(file for file in files if not file.name.startswith("."))


def _open(path: Path) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        part = pydicom.dcmread(path)
        part.get("Rows")
    except InvalidDicomError:
        raise ValueError(f"{path.name} is damaged, encrypted, or no DICOM file") from None
    except Exception as error:  # a parser may raise anything on a damaged file
        raise ValueError(f"{path.name} cannot be read: damaged or truncated: {error}") from None
    if "FloatPixelData" in part or "DoubleFloatPixelData" in part:
        raise ValueError(f"{path.name} holds real numbers as pixels; expected whole ones")
    if "PixelData" not in part:
        kind = getattr(part.get("SOPClassUID"), "name", "no class")
        raise ValueError(f"{path.name} holds no pixels ({kind}); leave it out")
    if part.get("SamplesPerPixel", 1) != 1 or "PALETTE" in part.get(
        "PhotometricInterpretation", ""
    ):
        raise ValueError(f"{path.name} is in colour; expected shades of grey")
    return part


def _numbers(name: str, part: Any, index: int | None) -> Any:
    """Return the numbers of a picture `(H, W)` in the modality's unit."""
    try:
        stored = part.pixel_array
    except Exception as error:  # of a decoder
        syntax = part.file_meta.get("TransferSyntaxUID")
        if syntax is not None and (syntax.is_private or syntax.is_compressed):
            known = not isinstance(error, NotImplementedError)
            raise ValueError(
                f"{name} is compressed as {syntax.name}, which cannot be decoded here: "
                f"{' '.join(str(error).split())}; {DECODERS if known else ''}decompress the file "
                "with another program, such as gdcmconv --raw"
            ) from None
        raise ValueError(f"{name} has damaged or missing pixels: {error}") from None
    if stored.ndim == 3:
        if index is None or index >= len(stored):
            raise ValueError(
                f"{name} holds {len(stored)} frames; choose one with index, from 0 to "
                f"{len(stored) - 1}"
            )
        stored = stored[index]
    if part.get("ModalityLUTSequence"):
        raise ValueError(
            f"{name} has a table of levels (ModalityLUTSequence), which is not read; apply it with "
            "another program"
        )
    slope, intercept = _rescale(part)
    if slope == 0 or not math.isfinite(slope * intercept):
        raise ValueError(
            f"{name} has the RescaleSlope {slope:g} and the RescaleIntercept {intercept:g}; "
            "expected finite numbers, and a slope that is not 0: correct its header"
        )
    return stored * slope + intercept


def _rescale(part: Any) -> tuple[float, float]:
    """Return slope and intercept from stored numbers to the modality's unit."""
    slope, intercept = (_first(part.get(key)) for key in ("RescaleSlope", "RescaleIntercept"))
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def _window(parts: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the ends of the window that files ask for: the widest, where slices differ."""
    ends = []
    for part in parts.values():
        centre, width = (_first(part.get(key)) for key in ("WindowCenter", "WindowWidth"))
        if centre is None or width is None or width <= 1:
            return None
        ends.append((centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2))
    return min(low for low, _ in ends), max(high for _, high in ends)


def _first(value: Any) -> float | None:
    """Return a number of the header, the first of several; `None` where it is empty."""
    if value is None or value == "" or value == []:
        return None
    return float(value if isinstance(value, (int, float, str)) else value[0])


def _ends(part: Any) -> tuple[int, int]:
    """Return the least and the greatest number that the pixels can be stored as."""
    bits = int(part.BitsStored)
    return (
        (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if part.PixelRepresentation else (0, 2**bits - 1)
    )


def _pixel_spacing(part: Any) -> tuple[float, float]:
    spacing = part.get("PixelSpacing") or part.get("ImagerPixelSpacing")
    if spacing is not None:
        rows, columns = float(spacing[0]), float(spacing[1])
        if min(rows, columns) <= 0:
            raise ValueError(f"has a PixelSpacing of {rows:g} and {columns:g} mm; expected more")
        return rows, columns
    aspect = part.get("PixelAspectRatio")  # vertical and horizontal size, without a unit
    return (float(aspect[0]), float(aspect[1])) if aspect else (1.0, 1.0)


def _sorted(files: dict[str, Any]) -> dict[str, Any]:
    """Return the files of a series by position; refuse those that are not whole series."""
    for key, kind in (("SeriesInstanceUID", "series"), ("PatientID", "patients")):
        names = Counter(str(part.get(key, "none")) for part in files.values())
        if len(names) > 1:
            counts = ", ".join(f"{name} ({count} files)" for name, count in names.most_common())
            raise ValueError(
                f"holds {len(names)} {kind}, {counts}; put each into a folder of its own"
            )
    for key in ("ImagePositionPatient", "ImageOrientationPatient"):
        if lacking := [name for name, part in files.items() if part.get(key) is None]:
            raise ValueError(f"{lacking[0]} has no {key}, by which slices are sorted")
    _check_alike(files)
    first = next(iter(files.values()))
    normal = _normal(first)
    places = {name: np.array(part.ImagePositionPatient, float) for name, part in files.items()}
    where = {name: float(normal @ place) for name, place in places.items()}
    order = sorted(files, key=where.__getitem__)
    _check_gaps(order, [where[name] for name in order])
    _check_upright(order, np.stack([places[name] for name in order]), normal)
    return {name: files[name] for name in order}


def _check_alike(files: Mapping[str, Any]) -> None:
    """Refuse slices that differ in size, direction or the meaning of their numbers."""
    name_of_first, first = next(iter(files.items()))
    for name, part in files.items():
        for key in (*NUMBERS, *WORDS):
            values = first.get(key), part.get(key)
            if not (_close(*values) if key in NUMBERS else values[0] == values[1]):
                raise ValueError(
                    f"{name}: its {key} is {values[1]}, and that of {name_of_first} {values[0]}; "
                    "expected slices alike"
                )


def _close(one: Any, other: Any) -> bool:
    """Return whether two numbers, or lists of them, are the same up to rounding."""
    a, b = (np.array(1 if value is None else value, dtype=float) for value in (one, other))
    return a.shape == b.shape and bool(np.allclose(a, b, atol=1e-3))


def _normal(part: Any) -> Any:
    across, down = np.array(part.ImageOrientationPatient, dtype=float).reshape(2, 3)
    return np.cross(across, down)


def _check_gaps(names: Sequence[str], where: Sequence[float]) -> None:
    """Refuse slices that lie on one another, a gap where one is missing, and uneven spacings."""
    if len(where) == 1:
        raise ValueError(f"holds one slice, {names[0]}; name the file itself for a picture")
    gaps = np.diff(where)
    step = float(np.median(gaps))
    for (before, after), gap, at in zip(pairwise(names), gaps, where[:-1], strict=True):
        place = f"between {before}, at {at:g} mm, and {after}"
        if gap < ROUNDING * step or gap == 0:
            raise ValueError(
                f"holds two slices at one position: {before} and {after}, at {at:g} mm"
            )
        if abs(gap - step) > ROUNDING * step + 1e-3:
            times = gap / step
            if times > 1.5 and abs(times - round(times)) < 0.1:
                raise ValueError(
                    f"lacks {round(times) - 1} of its slices {place}: {gap:g} mm are {times:.3g} "
                    f"times the usual {step:g} mm"
                )
            raise ValueError(
                f"has slices at mixed spacings: {gap:g} mm {place}, where {step:g} mm are usual; "
                "resample it to even ones"
            )


def _check_upright(names: Sequence[str], places: Any, normal: Any) -> None:
    """Refuse slices that are shifted against one another, as a tilted gantry takes them."""
    steps = np.diff(places, axis=0)
    along = steps @ normal
    aside = np.linalg.norm(steps - along[:, None] * normal, axis=1)
    # Rounding of positions moves slices, too, by less than a tenth of the way to the next.
    if (shifted := aside > SHIFT * along).any():
        at = int(shifted.argmax())
        raise ValueError(
            f"has slices that are shifted sideways: {names[at + 1]} by {aside[at]:.3g} mm against "
            f"{names[at]}, {along[at]:.3g} mm away (a tilted gantry); resample it to upright ones"
        )


def _oriented(array: Any, parts: Sequence[Any]) -> tuple[Any, Any]:
    """Return a view of stacked slices, depth to the head, rows to the back, columns to the left."""
    first = parts[0]
    across, down = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    ends = [np.array(part.ImagePositionPatient, dtype=float) for part in (parts[0], parts[-1])]
    step = abs(float(_normal(first) @ (ends[1] - ends[0]))) / (len(parts) - 1)
    # Directions of the array's axes (slices, rows, columns) in the patient: left, back, head.
    directions = np.stack([_normal(first), down, across])
    axes = [2, 1, 0]  # of the patient: head, back, left
    order: list[int] = []
    for axis in axes:
        free = [k for k in range(3) if k not in order]
        order.append(max(free, key=lambda k: abs(directions[k, axis])))
    flips = tuple(
        slice(None, None, -1 if directions[k, axis] < 0 else 1)
        for k, axis in zip(order, axes, strict=True)
    )
    spacing = np.array([step, *_pixel_spacing(first)])[order]
    return array.transpose(order)[flips], spacing


def _derived(source: Any, plane: Any, note: str, series: str, index: int | None) -> Any:
    """Return a dataset with these numbers, derived from another."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    frames = source.pixel_array
    part = copy.deepcopy(source)
    slope, intercept = _rescale(part)
    stored = np.clip(np.rint((plane - intercept) / slope), *_ends(part)).astype(frames.dtype)
    if frames.ndim == 3:
        whole = frames.copy()
        whole[index] = stored
        stored = whole
    origin = Dataset()
    origin.ReferencedSOPClassUID = source.SOPClassUID
    origin.ReferencedSOPInstanceUID = source.SOPInstanceUID
    part.SourceImageSequence = Items([origin])
    kinds = list(part.get("ImageType", ["ORIGINAL", "PRIMARY"]))[1:] or ["PRIMARY"]
    part.ImageType = ["DERIVED", *kinds]
    part.DerivationDescription = note
    part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    part.SeriesInstanceUID = series
    part.SeriesDescription = f"{part.get('SeriesDescription', '')} (counterfactual)".strip()[:64]
    now = datetime.now()
    part.InstanceCreationDate, part.InstanceCreationTime = (
        now.strftime("%Y%m%d"),
        now.strftime("%H%M%S"),
    )
    part.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    part.PixelData = np.ascontiguousarray(stored).tobytes()
    part["PixelData"].VR = "OB" if part.BitsAllocated <= 8 else "OW"
    part["PixelData"].is_undefined_length = False
    return part
