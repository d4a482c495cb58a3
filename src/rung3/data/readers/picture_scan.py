"""Pictures as scans: grey PNG and TIFF of up to 16 bits, by the levels that are black and white."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rung3.data.images import decode
from rung3.data.readers.scan import Scan, ScanOptions

__all__ = ["PictureScan", "is_picture", "read_picture"]

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")


def is_picture(path: Path) -> bool:
    """Return whether a path is named as a picture is."""
    return path.suffix.lower() in SUFFIXES


def read_picture(path: Path, options: ScanOptions) -> PictureScan:
    """Read a picture.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or is in colour.
    """
    return PictureScan(path, options)


class PictureScan(Scan):
    """A grey picture.

    Args:
        path: The file.
        options: Black and white; there is nothing to cut or to choose from.
    """

    def __init__(self, path: Path, options: ScanOptions) -> None:
        picture = decode(path)
        if picture.colours:
            raise ValueError("is in colour; expected shades of grey")
        self.stored = picture.grey().pixels[..., 0]
        self.array = self.stored.astype(np.float64)
        super().__init__(self.array, (1.0, 1.0), None, options)

    def write(self, path: Path, note: str) -> None:
        """Write a PNG whose text says what was done.

        Raises:
            ValueError: If the file is not to be a PNG.
        """
        from PIL import Image as Files
        from PIL.PngImagePlugin import PngInfo

        if path.suffix.lower() != ".png":
            raise ValueError(f"{path}: a picture is written as .png, without loss")
        text = PngInfo()
        text.add_text("Description", note)
        numbers = self.array
        if self.stored.dtype.kind in "iu":
            ends = np.iinfo(self.stored.dtype)
            numbers = np.clip(np.rint(numbers), ends.min, ends.max)
        path.parent.mkdir(parents=True, exist_ok=True)
        Files.fromarray(numbers.astype(self.stored.dtype)).save(path, pnginfo=text)
