"""One what-if as a picture: factual, counterfactual, what changed, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_channel", "picture", "show", "signed"]

WIDTH = 2.6
"""Inches of a panel."""

SIGNED = "RdBu_r"
"""Colours of a difference: blue is less, white none, red more, over the whole range of an image."""

SPREAD = 0.25
"""Standard deviation over draws at the end of the colours, of the range of an image."""


def picture(
    factual: Tensor,
    imagined: Tensor,
    *,
    truth: Tensor | None = None,
    title: str = "",
    names: tuple[str, str] = ("factual", "counterfactual"),
) -> Figure:
    """A row of panels: factual, counterfactual, truth if known, difference, spread if there is one.

    The difference is counterfactual minus factual, its channels side by side, on the one scale that
    reports and the page have too: red is brighter than before, blue is darker, from -1 to 1.

    Args:
        factual: The image as it was, `(C, H, W)` in [0, 1].
        imagined: The image as it would have been, `(C, H, W)`; or `(K, C, H, W)`, K draws of it:
            their mean is shown, with K in its title, and their standard deviation beside it.
        truth: The true counterfactual, `(C, H, W)`.
        title: A line above.
        names: What the first two panels are called.

    Returns:
        A matplotlib figure; `figure.savefig(path)` writes it.

    Example:
        >>> figure = picture(torch.zeros(1, 8, 8), torch.rand(4, 1, 8, 8))
        >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
        ['factual', 'counterfactual (4)', 'difference', 'spread (s.d.)']
    """
    from matplotlib.figure import Figure

    draws = imagined if imagined.ndim == factual.ndim + 1 else imagined[None]
    mean = draws.mean(0)
    counted = f"{names[1]} ({len(draws)})" if len(draws) > 1 else names[1]
    panels: list[tuple[str, Tensor]] = [(names[0], factual), (counted, mean)]
    if truth is not None:
        panels.append(("truth", truth))
    maps: list[tuple[str, Tensor, dict[str, Any]]] = []
    change = by_channel(mean - factual)
    maps.append(("difference", change, {"cmap": SIGNED, "vmin": -1, "vmax": 1}))
    if len(draws) > 1:
        spread = draws.std(0).mean(0)
        maps.append(("spread (s.d.)", spread, {"cmap": "magma", "vmin": 0, "vmax": SPREAD}))
    wide = [1] * len(panels) + [values.shape[1] // mean.shape[2] for _, values, _ in maps]
    figure = Figure(figsize=(WIDTH * sum(wide), WIDTH + 0.7), layout="constrained")
    axes = figure.subplots(1, len(wide), squeeze=False, width_ratios=wide)[0]
    for axis, (name, image) in zip(axes, panels, strict=False):
        show(axis, image, name)
    for axis, (name, values, scale) in zip(axes[len(panels) :], maps, strict=True):
        drawn = axis.imshow(values.numpy(force=True), **scale)
        axis.set_title(name)
        axis.set_axis_off()
        figure.colorbar(drawn, ax=axis, shrink=0.75)
    if title:
        figure.suptitle(title)
    return figure


def by_channel(maps: Tensor) -> Tensor:
    """The channels of maps `(..., C, H, W)` side by side, `(..., H, C W)`.

    Their mean would hide a change of hue.

    Example:
        >>> by_channel(torch.tensor([[[1.0]], [[-1.0]], [[0.0]]]))
        tensor([[ 1., -1.,  0.]])
    """
    return torch.cat(maps.unbind(-3), dim=-1)


def signed(difference: Tensor) -> Tensor:
    """Differences `(...)` of images in [0, 1] as colours `(..., 3)`, the same in every picture.

    Example:
        >>> signed(torch.tensor([-1.0, 0.0, 1.0])).argmax(-1).tolist()
        [2, 0, 0]
    """
    from matplotlib import colormaps

    shade = (difference.detach().cpu().float().clamp(-1, 1) + 1) / 2
    return torch.from_numpy(colormaps[SIGNED](shade.numpy())[..., :3]).float()


def show(axes: Axes, image: Tensor, title: str = "") -> None:
    """Draw one image `(C, H, W)` in [0, 1]: three channels in colour, any others as grey."""
    pixels = image.detach().cpu().clamp(0, 1)
    grey = len(pixels) != 3
    shown = pixels.mean(0) if grey else torch.movedim(pixels, 0, -1)
    axes.imshow(shown.numpy(), cmap="gray" if grey else None, vmin=0, vmax=1)
    axes.set_title(title)
    axes.set_axis_off()
