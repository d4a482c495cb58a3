"""What image files hold: sizes, channels and bits, and the image variable to read them as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rung3.data.images import Picture, decode

__all__ = ["CLOSE", "Seen", "look_at", "shape_within"]

DECODED = 48
"""Files whose pixels are looked at, spread over all: enough to meet colour and deep pixels."""

LARGEST = 64
"""Pixels of the longer side, at most, that are proposed for a CPU: twice as many take four times as
long."""

COLOURED = 8
"""Levels, of 255, by which channels must differ to be colour; grey JPEGs differ by less."""

CLOSE = 1.02
"""Ratio of aspects below which pictures are alike: it is less than a pixel of 64."""


@dataclass(frozen=True)
class Seen:
    """What image files hold.

    Attributes:
        fields: Fields of the image variable.
        saw: Sizes, channels and bits, as text.
        why: What is done with them.
        scans: What is taken from them, where they are scans.
    """

    fields: dict[str, Any]
    saw: str
    why: str
    scans: dict[str, Any] = field(default_factory=dict)


def look_at(name: str, files: Sequence[Path], longest: int | None = None) -> Seen:
    """Look at image files, and propose the variable to read them as.

    Args:
        name: The variable, for the errors.
        files: The files.
        longest: Pixels of the longer side; if not given, those of the files, 64 at most.

    Raises:
        ValueError: If a file is missing or cannot be read.
    """
    sizes = Counter(_size(name, file) for file in files)
    step = max(1, len(files) // DECODED)
    pictures = [_decoded(name, file) for file in files[::step]]
    spread = max(picture.colours / (picture.most or 255) * 255 for picture in pictures)
    channels = 3 if spread > COLOURED else 1
    bits = _bits(pictures)
    (height, width), _ = sizes.most_common(1)[0]
    aspects = [w / h for h, w in sizes]
    alike = max(aspects) / min(aspects) < CLOSE
    shape, why = shape_within(height, width, alike, len(sizes) > 1, longest)
    fields: dict[str, Any] = {
        "kind": "Image", "channels": channels, "height": shape[0], "width": shape[1],
    }  # fmt: skip
    if bits != 8:
        fields["bits"] = bits
    if not _fits(sizes, shape):
        fields["fit"] = "crop"
        why += ", the longer sides cropped to the middle (fit: pad keeps them)"
    listed = ", ".join(f"{w}x{h} ({n})" for (h, w), n in sizes.most_common(3))
    more = f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
    colour = "colour" if channels == 3 else "grey"
    depth = "real numbers" if bits is None else f"{bits} bit" + "s" * (bits > 1)
    return Seen(fields, f"{listed}{more}; {colour}, {depth}", why)


def _size(name: str, file: Path) -> tuple[int, int]:
    """Return height and width from a file's head, turned as its EXIF orientation says."""
    from PIL import Image as Files
    from PIL import UnidentifiedImageError

    try:
        with Files.open(file) as picture:
            turned = picture.getexif().get(274, 1) >= 5
            width, height = picture.size
    except FileNotFoundError:
        raise ValueError(f"{name}: image file {file} is missing") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{name}: image file {file} cannot be read: {error}") from None
    return (width, height) if turned else (height, width)


def _decoded(name: str, file: Path) -> Picture:
    try:
        return decode(file)
    except ValueError as error:
        raise ValueError(f"{name}: image file {file} {error}") from None


def _bits(pictures: Sequence[Picture]) -> int | None:
    """Return the bits of a pixel; `None` for real numbers."""
    if any(picture.pixels.dtype.kind == "f" for picture in pictures):
        return None
    most = max(picture.most or 65535 for picture in pictures)
    levels = np.unique(np.concatenate([np.unique(picture.pixels) for picture in pictures]))
    if set(levels.tolist()) <= {0, 1} or set(levels.tolist()) <= {0, most}:
        return 1
    if most <= 255:
        return 8
    return 12 if levels[-1] <= 4095 else 16


def shape_within(
    height: int, width: int, alike: bool, several: bool, longest: int | None
) -> tuple[tuple[int, int], str]:
    """Return height and width to read files at, and what that does to them.

    Args:
        height: Of most files.
        width: Of most files.
        alike: Whether all have this aspect.
        several: Whether there are other sizes.
        longest: Pixels of the longer side; if not given, those of the files, 64 at most.
    """
    limit = longest or LARGEST
    if not alike:
        side = min(limit, max(height, width)) if longest is None else limit
        return (side, side), f"resized to {side}x{side}"
    scale = limit / max(height, width)
    if scale >= 1 and longest is None:
        what = f"resized to {width}x{height}" if several else "as they are"
        return (height, width), what
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    return shape, f"resized to {shape[1]}x{shape[0]}"


def _fits(sizes: Counter[tuple[int, int]], shape: tuple[int, int]) -> bool:
    """Return whether all files have the aspect of a shape, as far as a pixel tells."""
    goal = np.array(shape)
    scaled = [np.rint(np.array(size) * (goal / np.array(size)).min()) for size in sizes]
    return all((inner == goal).all() for inner in scaled)
