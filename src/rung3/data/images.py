"""Image files as values of an image variable: what they hold, on the levels that it declares.

A file of whole numbers from 0 to M (255 or 65535, by its type) is read in one of two ways, with
`L = 2**bits - 1` the variable's levels:

    codes   k / L    where M > L and nothing exceeds L: a mask of 0 and 1, 12-bit scans in 16 bits
    range   v / M    else, where every v / M is the number of its type nearest to a level k / L

Anything else is refused, as are 32-bit numbers above L. Files of floats must hold levels, or any
numbers of [0, 1] where `bits` is `None`. A file is turned as its EXIF orientation says, and resized
with its aspect kept: bilinearly to the nearest level, or by nearest neighbour where `bits` is 1.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from rung3.data.gathering import FileReader, Note, Notes, gather, needed
from rung3.data.inside import File, Inside
from rung3.data.resizing import Fit, place
from rung3.data.variables import TOLERANCE, Image, Mask

if TYPE_CHECKING:
    from PIL.Image import Image as Pillow

__all__ = ["FORMATS", "SUFFIXES", "Picture", "Pictures", "decode", "pictures", "read_images"]

Array = np.ndarray[Any, Any]
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
"""Formats that are read, whatever a file is called: none that needs another program."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm")
"""Endings of the names of files in these formats."""

SAMPLE_FORMAT = 339
"""The tag of a TIFF that says whether its numbers are signed."""

GREY = ("1", "L", "LA")
DEEP = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of grey in eight bits, and in more."""


@dataclass(frozen=True)
class Picture:
    """The pixels of a file.

    Attributes:
        pixels: As stored, `(H, W, C)`: grey, C = 1, or colour, C = 3.
        most: White: the greatest number of the file's type, 1 for floats, `None` if not known.
        codes: Whether the numbers may be codes of fewer bits than the type has.
    """

    pixels: Array
    most: int | None
    codes: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        height, width, channels = self.pixels.shape
        return channels, height, width

    @property
    def bits(self) -> int | None:
        """Bits of a pixel, as far as the type of the file says."""
        return {255: 8, 65535: 16}.get(self.most or 0)

    @property
    def colours(self) -> int:
        """The greatest difference of a pixel's channels, as stored; 0 where all is grey."""
        return int(np.ptp(self.pixels.astype(np.int64), axis=2).max())

    def grey(self) -> Picture:
        """Convert to shades of grey: colours by their luminance (ITU-R 601-2)."""
        if not self.colours:
            return Picture(self.pixels[..., :1], self.most, self.codes)
        luma = (self.pixels @ np.array([0.299, 0.587, 0.114]))[..., None]
        return Picture(luma.round(), self.most, self.codes)

    def value(self, image: Image) -> tuple[Tensor, str, str]:
        """Return the picture as a value of a variable.

        Returns:
            Pixels `(C, H, W)`; `codes` or `range`, or nothing where both are the same; and how they
            were resized, if they were.

        Raises:
            ValueError: If the pixels are not levels of the image's bits, or the aspect is another
                and the image does not say what then.
        """
        pixels, way = self._levels(image)
        change = ""
        if self.shape[1:] != image.shape[1:]:
            pixels, method = _resize(pixels, image)
            change = f"{_size(self.shape)}, {method}"
        value = torch.from_numpy(pixels).movedim(-1, 0).to(image.dtype) / (image.levels or 1)
        return value.expand(image.shape), way, change

    def _levels(self, image: Image) -> tuple[Array, str]:
        """Return pixels as `k` of the levels `k / L`, or in [0, 1], and how they were read."""
        pixels, top, least = self.pixels.astype(float), self.pixels.max(), self.pixels.min()
        levels, most = image.levels, self.most
        real = self.pixels.dtype.kind == "f" and self.most == 1
        if not (least >= 0 and (most is None or top <= most)):
            raise ValueError(
                f"holds numbers from {least:g} to {top:g}; expected 0 to {most or levels or 1}: "
                "shift and scale them so, (x - least) / (greatest - least), and write floats "
                "(with bits=None) or unsigned numbers"
            )
        if levels is None:
            if most is None:
                raise ValueError(
                    f"holds 32-bit numbers up to {top}, of which none is known to be white; write "
                    "floats in [0, 1], or declare how many bits they have"
                )
            return pixels / most, ""
        if self.codes and (most is None or levels < most) and top <= levels:
            return pixels, "codes" if most and top else ""
        if most is not None:
            level = (pixels * levels / most).round()
            back = level * most / levels
            off = np.abs(pixels - back) * levels > TOLERANCE if real else pixels != back.round()
            if not off.any():
                return level, "range" if self.codes and levels < most and top else ""
        if real:
            raise ValueError(
                f"holds numbers that are not multiples of 1/{levels}, the levels of "
                f"bits={image.bits}; declare bits=None"
            )
        cure = "the bits it was stored with (12 if it goes to 4095)"
        if self.bits:
            cure += f", or bits={self.bits} for all that its type holds"
        spread = f" nor these spread over 0 to {most}" if most else ""
        raise ValueError(
            f"holds numbers up to {top:g} that are not the levels of bits={image.bits}, 0 to "
            f"{levels},{spread}; declare {cure}"
        )


def decode(source: Path | BinaryIO, formats: Sequence[str] = FORMATS) -> Picture:
    """Read one picture, turned as its EXIF orientation says.

    Args:
        source: The file, or its content.
        formats: Formats that it may have; others are never handed to a decoder.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has another format, is damaged or has more pixels than Pillow holds safe
            (89 million); if it holds several pictures, transparent pixels, or colours of more than
            eight bits.
    """
    with bounded():
        return _decoded(source, formats)


@contextmanager
def bounded() -> Iterator[None]:
    """Let pictures of more pixels than Pillow holds safe be errors, in all threads."""
    from PIL import Image as Files

    with warnings.catch_warnings():
        warnings.simplefilter("error", Files.DecompressionBombWarning)
        yield


def _decoded(source: Path | BinaryIO, formats: Sequence[str]) -> Picture:
    from PIL import Image as Files
    from PIL import ImageOps

    try:
        with Files.open(source, formats=tuple(formats)) as opened:
            form, count = opened.format, getattr(opened, "n_frames", 1)
            stored = str([tile[3] for tile in opened.tile])  # portable maps: with their white
            signed = 2 in getattr(opened, "tag_v2", {}).get(SAMPLE_FORMAT, ())
            opened.load()
            picture = ImageOps.exif_transpose(opened)
        pixels, clear = _pixels(picture)
    except FileNotFoundError:
        raise
    except Exception as error:  # a decoder may raise anything on a damaged file
        known = " or ".join([", ".join(formats[:-1]), formats[-1]])
        raise ValueError(
            f"cannot be read: not a {known} picture of grey in 1 to 16 bits or 32-bit floats, or "
            f"of colours in 8 bits: {error}"
        ) from None
    if count > 1 and form != "MPO":  # what cameras add to a JPEG are previews
        raise ValueError(f"holds {count} pictures; expected one")
    if clear:
        raise ValueError("has transparent pixels; save it on an opaque background")
    white = re.search(r", (\d+)\)", stored) if form == "PPM" else None
    depth = 16 if ";16" in stored else int(white[1]).bit_length() if white else 8
    if depth > 8 and pixels.dtype == np.uint8:
        raise ValueError(f"holds colours of {depth} bits, of which 8 can be read; save it with 8")
    if signed and pixels.dtype == np.uint8:
        raise ValueError("holds signed numbers of 8 bits, which cannot be read; save it with 16")
    if pixels.dtype.kind == "f":
        return Picture(pixels, 1, codes=False)
    # A portable map says which number is white, and is decoded by it.
    most = {1: 255, 2: 65535}.get(pixels.dtype.itemsize, 65535 if form == "PPM" else None)
    return Picture(pixels, most, codes=form != "PPM")


def _pixels(picture: Pillow) -> tuple[Array, bool]:
    """Return numbers `(H, W, C)` as stored, and whether some of them are transparent."""
    if picture.mode in DEEP:
        pixels = np.asarray(picture)[..., None]
        hidden = picture.info.get("transparency")
        return pixels.astype(pixels.dtype.newbyteorder("=")), bool((pixels == hidden).any())
    seen = picture.convert("L" if picture.mode in GREY else "RGB")
    clear = False
    if picture.has_transparency_data:
        clear = bool((np.asarray(picture.convert("RGBA"))[..., 3] < 255).any())
    return np.atleast_3d(np.asarray(seen)), clear


def read_images(name: str, files: Sequence[File | None], image: Image | None = None) -> Tensor:
    """Read image files as values of a variable, which are held as they are stored.

    Warns where files were resized, cropped or padded, or colours converted to grey.

    Args:
        name: The variable's name, for the errors.
        files: The files; `None` where there is none.
        image: The variable; if not given, as the first file is.

    Returns:
        Images `(n, C, H, W)` in [0, 1], as `rung3.data.stored.Stored`; NaN where there is none and
        the variable may be missing.

    Raises:
        ValueError: If a file is missing or unreadable, or does not fit the variable.
    """
    return gather(pictures(name, files, image), files)


def pictures(
    name: str,
    files: Sequence[File | None],
    image: Image | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit | None = None,
) -> Pictures:
    """Return what reads image files, as `read_images` does; without a variable, as the first is.

    Args:
        name: The variable's name, for the errors.
        files: The files; `None` where there is none.
        image: The variable, if it is known.
        size: `(height, width)` of a variable that is not given.
        fit: As of `Image`, of a variable that is not given.
    """
    alike = 0 if image is not None else 3 if size is None else 1  # axes on which files must agree
    image = image or _as_first(name, files, size, fit)
    return Pictures(name, image, files[0] if alike else None, alike)


class Pictures(FileReader):
    """What reads the picture files of an image variable.

    Args:
        name: The variable's name, for the errors.
        image: The variable.
        first: A file that the others must be like, if they must.
        alike: On how many axes.

    Raises:
        ValueError: If no file type holds such images.
    """

    what = "image file"
    threads = True

    def __init__(self, name: str, image: Image, first: File | None = None, alike: int = 0) -> None:
        super().__init__(name, image)
        self.first, self.alike = first, alike
        if image.channels not in (1, 3):
            raise ValueError(f"{name}: images of {image.channels} channels have no file type")

    def bounded(self) -> AbstractContextManager[None]:
        return bounded()

    def read(self, file: File) -> tuple[Tensor, Note | None]:
        name, image = self.name, self.image
        if image.depth is not None:
            raise ValueError(
                f"{name}: a volume is read from NIfTI or DICOM, and {file} is neither; name .nii, "
                ".nii.gz or .dcm files, or folders of the last"
            )
        picture = _open(name, file)
        if picture.shape[: self.alike] != image.shape[: self.alike]:
            unlike = f"is {picture.shape}, but {self.first} is {image.shape}"
            return torch.zeros(image.shape), Note(unlike=unlike)
        converted = False
        if image.channels == 1 and picture.shape[0] == 3:
            converted = bool(picture.colours)
            picture = picture.grey()
        try:
            value, way, change = picture.value(image)
        except ValueError as error:
            raise ValueError(f"{name}: image file {file} {error}") from None
        return value, Note.of(way, change, converted)

    def conclude(self, notes: Notes, n: int) -> None:
        """Refuse files of several sizes, or some read as codes of levels and others as a range."""
        ways, image = notes.ways, self.image
        if notes.unlike[0]:
            raise ValueError(
                f"{self.name}: {notes.unlike[1]}; give size=(height, width), or declare the "
                "column's Image"
            )
        if "codes" in ways and "range" in ways:
            raise ValueError(
                f"{self.name}: pixels of {ways['codes']} are at most {image.levels}, as codes of "
                f"bits={image.bits} are, and those of {ways['range']} go beyond; write all alike"
            )
        size = _size(image.shape)
        self.tell(f"image files are not {size}", notes.resized, n)
        self.tell("image files are in colour, and were converted to grey", notes.grey, n)


def _as_first(
    name: str, files: Sequence[File | None], size: tuple[int, int] | None, fit: Fit | None
) -> Image:
    """Return the variable of images like the first file; all rows must have one."""
    needed(name, files, Pictures.what)
    assert files[0] is not None
    first = _open(name, files[0])
    height, width = size or first.shape[1:]
    return Image(first.shape[0], height, width, bits=first.bits, fit=fit)


def _open(name: str, file: File) -> Picture:
    try:
        return _decoded(file.open() if isinstance(file, Inside) else file, FORMATS)
    except FileNotFoundError:
        raise ValueError(f"{name}: image file {file} is missing") from None
    except ValueError as error:
        raise ValueError(f"{name}: image file {file} {error}") from None


def _resize(pixels: Array, image: Image) -> tuple[Array, str]:
    """Resize pixels `(h, w, C)` to the image's size, `(H, W, C)`, and say how."""
    from PIL import Image as Files

    goal = np.array([image.height, image.width])
    placed = place(np.array(pixels.shape[:2]), goal, image.fit)
    if placed is None:
        raise ValueError(
            f"has {_size(pixels.shape[:2])} pixels, another aspect than "
            f"{_size(image.shape)}; declare fit='crop' or fit='pad' to keep it"
        )
    (top, left), (tall, wide), inner, before, method = placed
    part = (left, top, left + wide, top + tall)
    mask = image.bits == 1 or isinstance(image, Mask)
    kind = Files.Resampling.NEAREST if mask else Files.Resampling.BILINEAR
    planes = [
        np.asarray(Files.fromarray(plane).resize((inner[1], inner[0]), kind, part))
        for plane in np.moveaxis(pixels, -1, 0).astype(np.float32, order="C")
    ]
    around = [*zip(before, goal - inner - before, strict=True), (0, 0)]
    drawn = np.pad(np.stack(planes, axis=-1), around)
    return drawn if image.levels is None else np.rint(drawn), method


def _size(shape: Sequence[int]) -> str:
    """Write height x width, of `(C, H, W)` or `(H, W)`."""
    return "x".join(map(str, shape[-2:]))
