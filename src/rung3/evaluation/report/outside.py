"""The map of change outside the region that may change, as a picture; one intervention a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rung3.data.distances import scale, unit
from rung3.data.pictures import (
    GAP,
    MARGIN,
    SEQUENTIAL,
    Sheet,
    cell_size,
    line,
    pixels,
    planar,
    shade,
)
from rung3.data.variables import Image
from rung3.evaluation.measures.base import MODES
from rung3.evaluation.outside import MAY_CHANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["outside_figure"]

CELL = 1.3
"""Inches of an image's longer side."""

LABELS = 1.1
"""Inches for what stands beside the lines, and beside the colour bar."""

HEAD = 7.0
"""Points of the letters."""

MOST = 0.995
"""Quantile of the changes shown that has the last colour: single pixels may lie beyond."""


def outside_figure(
    maps: Mapping[str, Mapping[str, Tensor]], image: Image, paper: str | None = "white"
) -> Figure:
    """Draw by intervention where pixels may change, and how much those change that should not.

    Args:
        maps: By intervention and who answers, maps in [0, 1] of one channel: those of
            `rung3.evaluation.outside.OutsideMaps`.
        image: The variable.
        paper: Colour of the background; if not given it has none.

    Raises:
        ValueError: If there is no map.

    Example:
        >>> maps = {"do(a)": {"may change": torch.zeros(1, 8, 8), "kept": torch.zeros(1, 8, 8)}}
        >>> figure = outside_figure(maps, Image(1, 8, 8))
    """
    if not maps:
        raise ValueError("maps: expected those of at least one intervention, got none")
    names = dict.fromkeys(answerer for by_answerer in maps.values() for answerer in by_answerer)
    answerers = sorted(names, key=lambda name: name != MAY_CHANGE)  # a file has another order
    most = _most(
        [part for one in maps.values() for name, part in one.items() if name != MAY_CHANGE]
    )
    shape = planar(next(iter(maps.values()))[answerers[0]]).shape
    across, down = cell_size(shape, CELL)
    head, block = 3 * line(HEAD), down + GAP + 1.5 * line(HEAD)
    width = LABELS + len(answerers) * (across + GAP) + LABELS
    sheet = Sheet(width, MARGIN + head + len(maps) * block, paper)
    for column, answerer in enumerate(answerers):
        middle = LABELS + column * (across + GAP) + across / 2
        sheet.text(middle, MARGIN + head - 2 * GAP, _head(answerer), HEAD, ha="center")
    for number, (label, by_answerer) in enumerate(maps.items()):
        top = MARGIN + head + number * block
        sheet.text(LABELS - 2 * GAP, top + down / 2, label, HEAD, ha="right", va="center")
        for answerer, part in by_answerer.items():
            column = answerers.index(answerer)
            left = LABELS + column * (across + GAP)
            axes = sheet.axes(left, top, across, down)
            axes.set_axis_off()
            shown = planar(part).nan_to_num()
            if answerer == MAY_CHANGE:
                axes.imshow(pixels(shown).numpy(), cmap="gray", vmin=0, vmax=1)
                text = f"{float(part.mean()):.0%} of the pixels"
            else:
                axes.imshow(shade(shown[0], SEQUENTIAL, 0, most).numpy())
                text = f"mean {scale(image) * float(part.nanmean()):.2f} {unit(image)}"
            sheet.text(left + across / 2, top + down + GAP, text, HEAD, ha="center", va="top")
    left = LABELS + len(answerers) * (across + GAP) + GAP
    grey = scale(image) * most
    sheet.bar(left, MARGIN + head, 0.7 * down, unit(image), SEQUENTIAL, 0.0, grey, extend="max")
    return sheet.figure


def _most(changes: list[Tensor]) -> float:
    """Return the change that has the last colour: at least a grey level."""
    seen = (
        torch.cat([part.flatten() for part in changes]).nan_to_num() if changes else torch.zeros(1)
    )
    return max(float(np.quantile(seen.cpu().numpy(), MOST)), 1 / 255)  # torch takes 2^24 numbers


def _head(answerer: str) -> str:
    """Return what stands above a column."""
    return (
        "rows in which\nit may change"
        if answerer == MAY_CHANGE
        else f"change outside,\n{MODES.get(answerer, answerer)}"
    )
