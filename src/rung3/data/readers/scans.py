"""Files of scans as values of an image variable, and counterfactuals as files of scans."""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from torch import Tensor

from rung3.data.gathering import FileReader, Note, Notes
from rung3.data.inside import File, Inside
from rung3.data.readers.dicom import is_dicom, read_dicom
from rung3.data.readers.nifti import is_nifti, read_nifti
from rung3.data.readers.picture_scan import is_picture, read_picture
from rung3.data.readers.scan import Scan, ScanOptions
from rung3.data.variables import Image

__all__ = [
    "ScanOptions", "Scans", "Slice", "is_scan", "open_scan", "taken", "write_scan",
]  # fmt: skip


@dataclass(frozen=True)
class Slice(Inside):
    """One slice of a scan, where several are rows of their own.

    Attributes:
        path: The scan.
        at: Where it is cut, as `ScanOptions` has it; the plane is that of the options.
    """

    path: Path
    at: float

    def open(self) -> BytesIO:
        return BytesIO(self.path.read_bytes())

    def __str__(self) -> str:
        return f"{self.path}, cut at {self.at:g}"


def taken(file: Path | Slice, options: ScanOptions | None) -> tuple[Path, ScanOptions]:
    """Return the scan that a row is of, and what is taken from it.

    Raises:
        ValueError: If it is a slice, and the options do not say in which plane.

    Example:
        >>> _, options = taken(Slice(Path("head.nii"), 0.6), ScanOptions(plane="axial"))
        >>> options.plane, options.at
        ('axial', 0.6)
    """
    options = options or ScanOptions()
    if not isinstance(file, Slice):
        return file, options
    if options.plane is None:
        raise ValueError(f"{file}: say in which plane, such as scans: {{plane: axial}}")
    return file.path, replace(options, at=file.at)


def is_scan(path: Path) -> bool:
    """Return whether a path is that of a NIfTI or DICOM file, or of a folder of the last."""
    return is_nifti(path) or is_dicom(path)


def open_scan(path: str | Path, options: ScanOptions | None = None) -> Scan:
    """Read a scan, by the name of its file.

    Args:
        path: A `.nii`, `.nii.gz` or `.dcm` file, a folder with the files of one DICOM series, or a
            grey picture of more than eight bits that is to be read by its levels.
        options: What to take from it.

    Raises:
        ValueError: Naming the file, if it is missing, unreadable or of another kind.
    """
    path, options = Path(path), options or ScanOptions()
    try:
        if is_nifti(path):
            return read_nifti(path, options)
        if is_dicom(path):
            return read_dicom(path, options)
        if is_picture(path):
            return read_picture(path, options)
        if not path.exists():
            raise FileNotFoundError
        raise ValueError("is named like no scan; expected .nii, .nii.gz, .dcm, or a folder")
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class Scans(FileReader):
    """What reads the scans of an image variable.

    Args:
        name: The variable's name, for the errors.
        image: The variable.
        options: What to take from each.
    """

    what = "scan"
    threads = False  # not all readers of scans can be used by several

    def __init__(self, name: str, image: Image, options: ScanOptions | None = None) -> None:
        super().__init__(name, image)
        self.options = options

    def read(self, file: File) -> tuple[Tensor, Note | None]:
        if isinstance(file, Inside) and not isinstance(file, Slice):
            raise ValueError(f"{self.name}: {file}: scans are read from files of their own")
        try:
            value, change = open_scan(*taken(file, self.options)).value(self.image)
        except ValueError as error:
            place = "" if str(error).startswith(str(file)) else f"{file} "
            raise ValueError(f"{self.name}: {place}{error}") from None
        return value, Note.of("", change, False)

    def conclude(self, notes: Notes, n: int) -> None:
        goal = "x".join(map(str, self.image.sizes))
        self.tell(f"scans are not {goal}", notes.resized, n)


def write_scan(
    path: str | Path,
    source: str | Path,
    factual: Tensor,
    counterfactual: Tensor,
    image: Image,
    options: ScanOptions | None = None,
    note: str = "counterfactual",
) -> Path:
    """Write a counterfactual as a scan like the one that its factual image was read from.

    The file is read again and changed by what the two images differ in, on its own grid: a null
    intervention gives the same numbers back. Header, affine and type of number are kept, and the
    file is marked as derived: the description of a NIfTI file is the note, and a DICOM picture has
    `DERIVED` as its type and a new instance UID.

    Args:
        path: Where to write: a file with the source's suffix; for a DICOM series, a folder.
        source: The scan that was read.
        factual: Its value, `(1, ...)`.
        counterfactual: What it would have been, `(1, ...)`.
        image: The variable.
        options: As it was read.
        note: What was asked, such as `do(age=70)`.

    Returns:
        The path.

    Raises:
        ValueError: If the source cannot be read, the path is the source, or is named like another
            kind of file.
    """
    path = Path(path)
    if path.resolve() == Path(source).resolve():
        raise ValueError(f"{path} is the scan itself; write the counterfactual elsewhere")
    scan = open_scan(source, options)
    if any(kind(path) != kind(Path(source)) for kind in (is_nifti, is_picture)):
        raise ValueError(f"{path}: expected a name like that of {source}")
    scan.add(counterfactual - factual, image)
    scan.write(path, f"rung3: {note}")
    return path
