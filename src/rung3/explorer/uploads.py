"""Uploaded images: decoded safely, with unknown causes read off the image by oracles."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rung3.data.images import decode as decode_file
from rung3.data.rows import Rows
from rung3.data.variables import Continuous, Image
from rung3.explorer.session import Session
from rung3.training.oracles.oracle import Oracle

__all__ = ["MAX_BYTES", "add_image", "decode", "is_uploadable", "readers"]

MAX_BYTES = 2 * 2**20
"""Bytes of an upload, at most."""

TYPES = ("PNG", "JPEG")
"""File types that are decoded."""

MAX_COLOUR = 25
"""Levels, of 255, by which the channels of a grey picture may differ, as they do in a JPEG."""


def decode(content: bytes, name: str, variable: Image, fit: bool = False) -> Tensor:
    """Decode an uploaded picture into a value of an image variable, `(C, H, W)`.

    Args:
        content: The bytes of a PNG or JPEG file.
        name: The variable's name, for error messages.
        variable: The image variable.
        fit: Whether a picture of another size is cropped to the middle and resized.

    Raises:
        ValueError: If the file is too large, broken or of another type, or the picture has another
            size or other colours.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"{name}: the file has more than {MAX_BYTES // 2**20} MB")
    if variable.channels not in (1, 3):
        raise ValueError(f"{name}: images of {variable.channels} channels have no file type")
    try:
        picture = decode_file(io.BytesIO(content), TYPES)
        _, height, width = picture.shape
        if fit:
            variable = replace(variable, fit="crop")
        elif (height, width) != (variable.height, variable.width):
            raise ValueError(
                f"the picture has {width}x{height} pixels, expected "
                f"{variable.width}x{variable.height}"
            )
        if variable.channels == 1:
            if picture.colours > MAX_COLOUR:
                raise ValueError("the picture is in colour, expected shades of grey")
            picture = picture.grey()
        return picture.value(variable)[0].contiguous()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def is_uploadable(session: Session) -> bool:
    """Return whether a picture can be a row: there is one image, and it is not a volume."""
    return [getattr(session.variables[k], "depth", None) for k in session.images] == [None]


def readers(session: Session) -> dict[str, Oracle]:
    """Return an oracle for each variable that a run's oracle reads off the one image."""
    oracles: dict[str, Oracle] = {}
    for opened in session.models:
        for (image, name), oracle in (opened.oracles or {}).items():
            if session.images == [image]:
                oracles.setdefault(name, oracle)
    return oracles


def add_image(
    session: Session, content: bytes, known: Mapping[str, Any] | None = None, fit: bool = False
) -> tuple[str, Rows, list[str]]:
    """Add an uploaded picture to the session as a row.

    Args:
        session: The session.
        content: The bytes of a PNG or JPEG file.
        known: Values that the user states, by variable; the others are inferred.
        fit: Whether a picture of another size is cropped to the middle and resized.

    Returns:
        The key of the upload in a query, the row, and the variables that were inferred.

    Raises:
        ValueError: If the picture does not fit the variable, or a cause is neither stated nor read
            by an oracle.
    """
    if not is_uploadable(session):
        raise ValueError(
            "an upload needs a model with one image variable that is not a volume; this one has "
            f"{session.images}"
        )
    name = session.images[0]
    variable = session.variables[name]
    assert isinstance(variable, Image)
    image = decode(content, name, variable, fit)
    session.models[0].model.graph.names(known or ())
    stated = {
        k: session.variables[k].validate(k, v if isinstance(v, str) else session.value(k, v))
        for k, v in (known or {}).items()
        if k != name
    }
    for other, value in stated.items():
        if value.shape != session.variables[other].shape:
            raise ValueError(f"{other}: expected one value, got {len(value)}")
    values: dict[str, Tensor] = {**stated, name: image}
    inferred = [other for other in session.variables if other not in values]
    oracles = readers(session)
    if unknown := [other for other in inferred if other not in oracles]:
        raise ValueError(
            f"{', '.join(unknown)}: no run has a predictor that reads it off {name}; state it"
        )
    for other in inferred:
        target = session.variables[other]
        with session.lock, torch.no_grad():
            read = oracles[other].read(image[None])[0]
        if isinstance(target, Continuous):
            read = read.clamp(target.lower, target.upper)
        values[other] = target.validate(other, read)
    digest = hashlib.sha256(content + repr((sorted(stated.items()), fit)).encode()).digest()
    key = base64.urlsafe_b64encode(digest[:9]).decode()
    row = Rows({k: values[k] for k in session.variables}, batched=False)
    session.add_upload(key, row, inferred)
    return key, row, inferred
