"""An image of the user's own: decoded safely, its unknown causes read off it by oracles."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rung3.data.images import decode as decode_file
from rung3.data.rows import Rows
from rung3.data.variables import Continuous, Image
from rung3.explorer.session import Session
from rung3.training.oracles.oracle import Oracle

__all__ = ["LARGEST", "adopt", "decode", "readers"]

LARGEST = 2 * 2**20
"""Bytes that an upload may have."""

TYPES = ("PNG", "JPEG")

COLOURED = 25
"""Of 255, by how much the channels of a grey picture may differ, as in a JPEG they do."""


def decode(content: bytes, name: str, variable: Image) -> Tensor:
    """An uploaded picture as a value of an image variable, `(C, H, W)`.

    Args:
        content: The bytes of a PNG or JPEG file.
        name: The variable's name, for the errors.
        variable: What it must be.

    Raises:
        ValueError: If it is too large, of another type, broken, or of other size or colours.
    """
    if len(content) > LARGEST:
        raise ValueError(f"{name}: the file has more than {LARGEST // 2**20} MB")
    if variable.channels not in (1, 3):
        raise ValueError(f"{name}: images of {variable.channels} channels have no file type")
    try:
        picture = decode_file(io.BytesIO(content), TYPES)
        _, height, width = picture.shape
        if (height, width) != (variable.height, variable.width):
            raise ValueError(
                f"the picture has {width}x{height} pixels, expected "
                f"{variable.width}x{variable.height}"
            )
        if variable.channels == 1:
            if picture.colours > COLOURED:
                raise ValueError("the picture is in colour, expected shades of grey")
            picture = picture.grey()
        return picture.value(variable)[0].contiguous()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def readers(session: Session) -> dict[str, Oracle]:
    """Of each variable that a predictor reads off the one image, the first run's that has any."""
    found: dict[str, Oracle] = {}
    for opened in session.models:
        for (image, name), oracle in (opened.oracles or {}).items():
            if session.images == [image]:
                found.setdefault(name, oracle)
    return found


def adopt(
    session: Session, content: bytes, known: Mapping[str, Any] | None = None
) -> tuple[str, Rows, list[str]]:
    """Make an uploaded picture a row of the session.

    Args:
        session: The session.
        content: The bytes of a PNG or JPEG file.
        known: Values that the user states, by variable; the others are inferred.

    Returns:
        The name that a query asks for it by, the row, and the variables that were inferred.

    Raises:
        ValueError: If the picture is not one of the variable's, or a cause is neither stated nor
            read by a predictor.
    """
    if len(session.images) != 1:
        raise ValueError(f"an own picture needs one image variable; there are {session.images}")
    name = session.images[0]
    variable = session.variables[name]
    assert isinstance(variable, Image)
    image = decode(content, name, variable)
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
    predictors = readers(session)
    if unknown := [other for other in inferred if other not in predictors]:
        raise ValueError(
            f"{', '.join(unknown)}: no run has a predictor that reads it off {name}; state it"
        )
    for other in inferred:
        target = session.variables[other]
        with session.lock, torch.no_grad():
            read = predictors[other].read(image[None])[0]
        if isinstance(target, Continuous):
            read = read.clamp(target.lower, target.upper)
        values[other] = target.validate(other, read)
    digest = hashlib.sha256(content + repr(sorted(stated.items())).encode()).digest()
    key = base64.urlsafe_b64encode(digest[:9]).decode()
    row = Rows({k: values[k] for k in session.variables}, batched=False)
    session.adopt(key, row, inferred)
    return key, row, inferred
