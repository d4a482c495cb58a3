"""Images and maps as pictures: one palette, one scale of differences, and one sheet to lay them on.

Text and lines are a middle grey, so that they read on a light and on a dark page. A difference of
two images is red where there is more and blue where there is less, over the whole range of an
image; a spread goes from dark to bright. All kinds of colour vision can order both.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rung3.data.number_text import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "CELL",
    "CURVES",
    "DIVERGING",
    "DPI",
    "GAP",
    "INK",
    "MARGIN",
    "PALE",
    "SEQUENTIAL",
    "SPREAD_END",
    "ZERO",
    "Sheet",
    "by_channel",
    "cell_size",
    "colours_png",
    "image_png",
    "line",
    "picture",
    "pixels",
    "planar",
    "png",
    "shade",
    "show",
    "signed",
    "uri",
]

INK = "#7d8288"
"""Text and lines on a light or a dark page."""

DARK = "#333333"
"""Text and lines on white paper, where a middle grey is faint."""

PALE = "#c8c8c8"
"""Frames."""

ACCENT = "#d1495b"
"""What stands out: a variable that is set, the name of a model."""

ZERO = "#f7f7f7"
"""The middle of `DIVERGING`."""

CURVES = (INK, ACCENT, "#3f88c5", "#e0a030", "#5aa469")
"""Colours of curves in one panel."""

DIVERGING = "RdBu_r"
"""Colours of a difference: blue is less, white none, red more."""

SEQUENTIAL = "viridis"
"""Colours of what has no sign, such as a spread."""

SPREAD_END = 64 / 255
"""Standard deviation at the end of the colours of a spread, as a share of an image's range."""

DPI = 150
"""Pixels an inch."""

CELL = 0.85
"""Inches of an image's longer side."""

GAP = 0.05
"""Inches between images."""

MARGIN = 0.12
"""Inches around all."""

PANEL = 2.6
"""Inches of a panel of `picture`."""

BAR = 0.12
"""Inches across a colour bar."""


class Sheet:
    """A figure on which everything has its place, in inches from the upper left corner.

    Args:
        width: Its width, inches.
        height: Its height, inches.
        paper: Colour of its background; if not given it has none, and suits light and dark pages.

    Attributes:
        figure: The matplotlib figure.
        ink: Colour of its text.
    """

    def __init__(self, width: float, height: float, paper: str | None = None) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.ink = DARK if paper else INK
        self.figure: Figure = Figure(figsize=(width, height), dpi=DPI, facecolor=paper or "none")

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Return axes whose upper left corner is at `(x, y)`."""
        across, down = self.width, self.height
        place = (x / across, 1 - (y + height) / down, width / across, height / down)
        return self.figure.add_axes(place)

    def text(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        """Write text of `size` points, its lower left corner at `(x, y)` unless the style differs.

        Args:
            x: From the left.
            y: From above.
            text: The text.
            size: Of its letters, points.
            style: Other properties of matplotlib's text.
        """
        style = {"va": "bottom", "color": self.ink, "linespacing": 1.15, **style}
        self.figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, **style)

    def bar(
        self,
        x: float,
        y: float,
        height: float,
        title: str,
        colours: str,
        low: float,
        high: float,
        extend: str = "neither",
    ) -> Axes:
        """Draw a colour bar with its ends and zero marked.

        Args:
            x: Its left edge.
            y: Its upper edge; the title stands above.
            height: Its height.
            title: What it is of, with the unit.
            colours: `DIVERGING` or `SEQUENTIAL`.
            low: Value at its lower end.
            high: Value at its upper end.
            extend: Whether values lie beyond `"min"`, `"max"`, `"both"` or `"neither"`.
        """
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        axes = self.axes(x, y, BAR, height)
        shades = ScalarMappable(Normalize(low, high), colours)
        bar = self.figure.colorbar(shades, cax=axes, extend=extend)
        ticks = sorted({low, 0, high})
        bar.set_ticks(ticks, labels=[number_text(k, 3, sign=low < 0 and k > 0) for k in ticks])
        axes.tick_params(labelsize=7, colors=self.ink, length=2)
        bar.outline.set_visible(False)
        axes.set_title(title, fontsize=7, color=self.ink, loc="left")
        return axes


def cell_size(shape: Sequence[int], longest: float = CELL) -> tuple[float, float]:
    """Return width and height, in inches, of a cell for an image, or for three slices of a volume.

    Args:
        shape: `(C, H, W)` or `(C, D, H, W)`.
        longest: Inches of the longer side of the image, or of a slice.

    Example:
        >>> cell_size((1, 64, 32), longest=1.0), cell_size((1, 8, 8, 8), longest=1.0)
        ((0.5, 1.0), (3.0, 1.0))
    """
    *_, height, width = planar(torch.empty(tuple(shape), device="meta")).shape
    inches = longest * (1 if len(shape) == 3 else 3) / max(height, width)
    return inches * width, inches * height


def line(size: float) -> float:
    """Return the inches that a line of text of `size` points takes.

    Example:
        >>> line(6)
        0.1
    """
    return size / 60  # a point is 1/72 inch, and a line 1.2 times its letters


def picture(
    factual: Tensor,
    imagined: Tensor,
    *,
    truth: Tensor | None = None,
    beside: Mapping[str, Tensor] = MappingProxyType({}),
    title: str = "",
    names: tuple[str, str] = ("factual", "counterfactual"),
    levels: float = 255.0,
) -> Figure:
    """Draw a row of panels: factual, counterfactual, truth if known, difference, spread if any.

    The difference is counterfactual minus factual, its channels side by side, on the scale that
    reports and the page have too: red is brighter than before, blue is darker, the whole range to
    either side of zero.

    Args:
        factual: The image as it was, `(C, H, W)` in [0, 1]; of a volume `(C, D, H, W)`, three
            slices are drawn, see `planar`.
        imagined: The image as it would have been, `(C, H, W)`; or `(K, C, H, W)`, K draws of it:
            their mean is shown, with K in its title, and their standard deviation beside it.
        truth: The true counterfactual, `(C, H, W)`.
        beside: Other answers, `(C, H, W)` each, by name: with a difference of their own.
        title: A line above.
        names: What the first two panels are called.
        levels: Grey levels of the range, as `rung3.data.distances.scale` has them; 1 without any.

    Returns:
        A matplotlib figure; `figure.savefig(path)` writes it.

    Example:
        >>> figure = picture(torch.zeros(1, 8, 8), torch.rand(4, 1, 8, 8))
        >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
        ['factual', 'counterfactual (4)', 'difference', 'spread (s.d.)']
    """
    from matplotlib.figure import Figure

    draws = imagined if imagined.ndim == factual.ndim + 1 else imagined[None]
    factual, draws = planar(factual), planar(draws, 1)
    truth = None if truth is None else planar(truth)
    mean = draws.mean(0)
    counted = f"{names[1]} ({len(draws)})" if len(draws) > 1 else names[1]
    others = {name: planar(image) for name, image in beside.items()}
    known = {} if truth is None else {"truth": truth}
    images = {names[0]: factual, counted: mean, **others, **known}
    maps = {"difference": (by_channel(mean - factual), DIVERGING, -1.0, 1.0)}
    for name, image in others.items():
        maps[f"difference, {name}"] = (by_channel(image - factual), DIVERGING, -1.0, 1.0)
    if len(draws) > 1:
        maps["spread (s.d.)"] = (draws.std(0).mean(0), SEQUENTIAL, 0.0, SPREAD_END)
    ratios = [1] * len(images) + [values.shape[1] // mean.shape[2] for values, *_ in maps.values()]
    figure = Figure(figsize=(PANEL * sum(ratios), PANEL + 0.7), layout="constrained")
    panels = iter(figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0])
    for name, image in images.items():
        show(next(panels), image, name)
    for name, (values, colours, low, high) in maps.items():
        axes = next(panels)
        drawn = axes.imshow(values.numpy(force=True), cmap=colours, vmin=low, vmax=high)
        axes.set_title(name)
        axes.set_axis_off()
        bar = figure.colorbar(drawn, ax=axes, shrink=0.75, ticks=[low, (low + high) / 2, high])
        bar.set_ticklabels([f"{levels * tick:.3g}" for tick in bar.get_ticks()])
        bar.set_label("grey levels" if levels > 1 else "of the range")
    if title:
        figure.suptitle(title)
    return figure


def show(axes: Axes, image: Tensor, title: str = "") -> None:
    """Draw one image, or slices of a volume, in [0, 1]: three channels in colour, others as grey.

    Args:
        axes: Where it is drawn.
        image: The image `(C, H, W)`, or the volume `(C, D, H, W)`.
        title: A line above.
    """
    axes.imshow(pixels(planar(image)).numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title)
    axes.set_axis_off()


def planar(images: Tensor, leading: int = 0, at: float = 0.5) -> Tensor:
    """Return images as they are, and volumes as three slices side by side, `(..., C, h, w)`.

    The slices cut a volume across its depth, its height and its width: of a scan whose depth goes
    up and whose rows go back, the axial, the coronal and the sagittal one. The last two have their
    depth upright, so that what is up stands above.

    Args:
        images: `(..., C, H, W)` or `(..., C, D, H, W)`.
        leading: Axes before the channels.
        at: Where to cut, from 0, the first slice of each axis, to 1, the last.

    Example:
        >>> planar(torch.zeros(5, 1, 20, 32, 24), leading=1).shape
        torch.Size([5, 1, 32, 80])
    """
    if images.ndim == leading + 3:
        return images
    depth, height, width = ((size - 1) * at for size in images.shape[-3:])
    axial = images[..., round(depth), :, :]
    coronal = images[..., round(height), :].flip(-2)
    sagittal = images[..., round(width)].flip(-2)
    tallest = max(axial.shape[-2], coronal.shape[-2])
    return torch.cat(
        [F.pad(part, (0, 0, 0, tallest - part.shape[-2])) for part in (axial, coronal, sagittal)],
        dim=-1,
    )


def pixels(images: Tensor) -> Tensor:
    """Return images `(..., C, H, W)` in [0, 1] as `(..., H, W, 3)`, or as grey `(..., H, W)`.

    Three channels are colours; of any others the mean is shown.

    Example:
        >>> pixels(torch.zeros(5, 3, 8, 9)).shape, pixels(torch.zeros(5, 2, 8, 9)).shape
        (torch.Size([5, 8, 9, 3]), torch.Size([5, 8, 9]))
    """
    shown = images.detach().cpu().float().clamp(0, 1)
    return shown.movedim(-3, -1) if shown.shape[-3] == 3 else shown.mean(-3)


def by_channel(maps: Tensor) -> Tensor:
    """Return the channels of maps `(..., C, H, W)` side by side, `(..., H, C W)`.

    Their mean would hide a change of hue.

    Example:
        >>> by_channel(torch.tensor([[[1.0]], [[-1.0]], [[0.0]]]))
        tensor([[ 1., -1.,  0.]])
    """
    return torch.cat(maps.unbind(-3), dim=-1)


def signed(difference: Tensor) -> Tensor:
    """Return differences `(...)` of images in [0, 1] as colours `(..., 3)`, alike everywhere.

    Example:
        >>> signed(torch.tensor([-1.0, 0.0, 1.0])).argmax(-1).tolist()
        [2, 0, 0]
    """
    return shade(difference, DIVERGING, -1, 1)


def shade(values: Tensor, colours: str, low: float, high: float) -> Tensor:
    """Return values `(...)` as colours `(..., 3)` in [0, 1]; what is beyond an end has its colour.

    Example:
        >>> shade(torch.tensor([-9.0, 0.0, 1.0]), "gray", 0, 1)[:, 0]
        tensor([0., 0., 1.])
    """
    from matplotlib import colormaps

    share = (values.detach().cpu().float().clamp(low, high) - low) / (high - low)
    return torch.from_numpy(colormaps[colours](share.numpy())[..., :3]).float()


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file, its background transparent."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, transparent=True)
    return out.getvalue()


def image_png(image: Tensor, at: float = 0.5) -> bytes:
    """Return an image in [0, 1], `(C, H, W)` or `(C, D, H, W)`, as a PNG file, pixel for pixel.

    Three channels are colours; of any others the mean is shown. Of a volume three slices are shown,
    cut `at` a share of every axis.
    """
    return colours_png(pixels(planar(image, at=at)))


def colours_png(shown: Tensor) -> bytes:
    """Return colours `(H, W, 3)` or grey `(H, W)` in [0, 1] as a PNG file, pixel for pixel."""
    from PIL import Image

    levels = (shown * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def uri(png: bytes) -> str:
    """Return an address that holds the PNG file itself, for a page that fetches nothing."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
