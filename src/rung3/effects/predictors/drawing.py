"""Parts of effects as bars with their intervals: the picture of an audit, and of an explanation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rung3.data.pictures import CURVES, INK, Sheet, show
from rung3.effects.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["bars", "draw_parts"]

LINE = 0.24
"""Inches of a bar and the space around it."""

NAMES = 2.1
"""Inches of the names at the left."""

WIDTH = 3.6
"""Inches of the bars."""

IMAGE = 1.15
"""Inches of an image."""

HEAD = 0.35
"""Inches above a panel, for its title."""

FOOT = 0.35
"""Inches below a panel, for its axis."""


def draw_parts(
    panels: Mapping[str, Mapping[str, Estimate[Tensor]]],
    unit: str,
    images: Mapping[str, Tensor] = MappingProxyType({}),
    shared: bool = False,
) -> Figure:
    """Draw a panel of bars for each of several sets of estimates.

    Args:
        panels: Estimates by name, by the title of their panel.
        unit: What the axis says.
        images: Images above, `(C, H, W)` each, by title.
        shared: Whether all panels have one axis, as they have one unit.
    """
    heights = [HEAD + LINE * len(panel) + FOOT for panel in panels.values()]
    band = HEAD + IMAGE if images else 0.0
    width = max(NAMES + WIDTH + 0.3, 0.1 + (IMAGE + 0.1) * len(images))
    sheet = Sheet(width, band + sum(heights) + 0.2)
    for k, (title, image) in enumerate(images.items()):
        show(sheet.axes(0.1 + k * (IMAGE + 0.1), HEAD, IMAGE, IMAGE), image)
        sheet.text(0.1 + k * (IMAGE + 0.1), HEAD - 0.15, title, 5.5)
    top = 0.1 + band
    for height, (title, panel) in zip(heights, panels.items(), strict=True):
        axes = sheet.axes(NAMES, top + HEAD, WIDTH, height - HEAD - FOOT)
        bars(axes, panel, title, unit)
        top += height
    if shared:
        drawn = sheet.figure.axes[len(images) :]
        low, high = (f(axes.get_xlim()[k] for axes in drawn) for k, f in enumerate((min, max)))
        for axes in drawn:
            axes.set_xlim(low, high)
    return sheet.figure


def bars(axes: Axes, estimates: Mapping[str, Estimate[Tensor]], title: str, unit: str) -> None:
    """Draw one bar for each estimate, the whole first and in grey, with its interval."""
    names = list(estimates)
    values = torch.stack([torch.as_tensor(estimates[name].effect) for name in names]).double()
    low, high = (
        torch.stack([torch.as_tensor(getattr(one, end)) for one in estimates.values()]).double()
        for end in ("low", "high")
    )
    places = range(len(names))
    colours = [INK, *[CURVES[2]] * (len(names) - 1)]
    axes.barh(places, values.tolist(), color=colours, height=0.7)
    error = torch.stack([values - low, high - values]).clamp_min(0).numpy()
    axes.errorbar(values.tolist(), places, xerr=error, fmt="none", ecolor=INK, capsize=2, lw=1)
    axes.axvline(0, color=INK, lw=0.6)
    axes.set_yticks(places, names, fontsize=7, color=INK)
    axes.tick_params(axis="x", labelsize=7, colors=INK)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=8, color=INK, loc="left")
    axes.set_xlabel(unit, fontsize=7, color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
