"""An image of the user's own: decoded safely, its unknown causes read off it by oracles."""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rung3.evaluation.oracle import Oracle
from rung3.explorer.session import Session
from rung3.rows import Rows
from rung3.variables import Continuous, Image

__all__ = ["LARGEST", "adopt", "decode", "readers"]

LARGEST = 2 * 2**20
"""Bytes that an upload may have."""

TYPES = ("PNG", "JPEG")


def decode(content: bytes, name: str, variable: Image) -> Tensor:
    """An uploaded picture as a value of an image variable, `(C, H, W)`.

    Args:
        content: The bytes of a PNG or JPEG file.
        name: The variable's name, for the errors.
        variable: What it must be.

    Raises:
        ValueError: If it is too large, of another type, broken, or of other size or colours.
    """
    import numpy as np
    from PIL import Image as Pictures

    if len(content) > LARGEST:
        raise ValueError(f"{name}: the file has more than {LARGEST // 2**20} MB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pictures.DecompressionBombWarning)
            picture = Pictures.open(io.BytesIO(content), formats=TYPES)
            if picture.size != (variable.width, variable.height):
                raise ValueError(
                    f"{name}: the picture has {picture.width}x{picture.height} pixels, expected "
                    f"{variable.width}x{variable.height}"
                )
            if variable.channels not in (1, 3):
                raise ValueError(
                    f"{name}: images of {variable.channels} channels have no file type"
                )
            picture.load()
            pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    except (OSError, SyntaxError, Pictures.DecompressionBombError, Warning) as error:
        raise ValueError(f"{name}: not a {' or '.join(TYPES)} picture: {error}") from None
    value = torch.from_numpy(pixels).movedim(-1, 0)
    if variable.channels == 3:
        return value.contiguous()
    if float((value - value[:1]).abs().max()) > 0.1:
        raise ValueError(f"{name}: the picture is in colour, expected shades of grey")
    return (value.mean(0, keepdim=True) * 255).round() / 255


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
