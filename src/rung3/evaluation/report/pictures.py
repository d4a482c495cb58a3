"""Pictures of the report, as PNG: strips, film strips, the causal graph, loss curves."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.display import headed, spell
from rung3.data.distances import scale, unit
from rung3.data.pictures import (
    ACCENT,
    CELL,
    CURVES,
    DIVERGING,
    DPI,
    GAP,
    INK,
    Sheet,
    line,
    pixels,
    planar,
    png,
    signed,
)
from rung3.data.variables import Image, Variable
from rung3.evaluation.examples import Example, Sweep
from rung3.evaluation.report.values import changes
from rung3.graph.drawing import draw_graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rung3.graph import CausalGraph

__all__ = ["beside", "film", "graph", "losses", "strip"]

PITCH = 42
"""Pixels from a cell to the next, at least: room for two lines of a name, however flat it is."""

NAME = 8.5
"""Points of the letters beside a band."""

HEAD = 7.5
"""Points of the letters above a column."""

LETTER = 0.056
"""Inches that one of them takes, on average."""

STEPS = (1, 2, 2.5, 5, 10)
"""Multiples between ticks, those of matplotlib's default."""


def strip(
    example: Example,
    chosen: Sequence[str],
    causes: CausalGraph,
    variables: Mapping[str, Variable],
) -> bytes | None:
    """Draw factual, counterfactual, truth where known, and differences, one column a test row.

    Differences are drawn channel by channel, on a fixed scale, the whole range of the image to
    either side of zero.

    Returns:
        A PNG; `None` if no image is affected.
    """
    images = [name for name, variable in variables.items() if isinstance(variable, Image)]
    shown = [name for name in images if name in causes.descendants(list(chosen))]
    bands: list[tuple[str, Tensor]] = []
    for name in shown:
        before, after = example.factual[name], example.answers["kept"][name]
        lead = f"{name}: " if len(shown) > 1 else ""
        bands += [(f"{lead}factual", _colour(before)), ("counterfactual", _colour(after))]
        if "latent" in example.answers:
            bands.append(("from z alone", _colour(example.answers["latent"][name])))
        if example.truth is not None:
            bands.append(("truth", _colour(example.truth[name])))
        bands += _differences("difference\n(from factual)", after - before)
        if example.truth is not None:
            bands += _differences("error\n(from truth)", after - example.truth[name])
    if not bands:
        return None
    return _headed(bands, chosen, example, variables, shown[0])


def _headed(
    bands: list[tuple[str, Tensor]],
    chosen: Sequence[str],
    example: Example,
    variables: Mapping[str, Variable],
    image: str,
) -> bytes:
    """Draw bands of an image under what is set in each column."""
    columns = [changes(example, name, variables[name]) for name in chosen]
    heads = ["\n".join(column[k] for column in columns) for k in range(example.factual.n)]
    corner = "\n".join(headed(name, variables[name]) for name in chosen)
    return _mosaic(bands, heads, corner, variables[image])


def beside(
    examples: Mapping[str, Example],
    mode: str,
    causes: CausalGraph,
    variables: Mapping[str, Variable],
) -> bytes | None:
    """Draw factual, truth where known, each model's answer, and its error or difference.

    Args:
        examples: By model, the same test rows under one intervention.
        mode: Of the answers; a model without it answers with its noise kept.
        causes: The causal graph.
        variables: Its variables.

    Returns:
        A PNG; `None` if no image is affected, or no model has the mode.
    """
    first = next(iter(examples.values()))
    chosen = [name for name, what in first.status.items() if what == "intervened"]
    below = causes.descendants(chosen)
    shown = [k for k, v in variables.items() if isinstance(v, Image) and k in below]
    if not shown or not any(mode in example.answers for example in examples.values()):
        return None
    bands: list[tuple[str, Tensor]] = []
    for image in shown:
        lead = f"{image}: " if len(shown) > 1 else ""
        bands.append((f"{lead}factual", _colour(first.factual[image])))
        if first.truth is not None:
            bands.append((f"{lead}truth", _colour(first.truth[image])))
        answers = {k: e.answers.get(mode, e.answers["kept"])[image] for k, e in examples.items()}
        bands += [(f"{lead}{name}", _colour(answer)) for name, answer in answers.items()]
        near, what = first.factual[image], "difference"
        if first.truth is not None:
            near, what = first.truth[image], "error"
        for name, answer in answers.items():
            bands += _differences(f"{what}\n{name}", answer - near)
    return _headed(bands, chosen, first, variables, shown[0])


def film(sweep: Sweep, causes: CausalGraph, variables: Mapping[str, Variable]) -> bytes:
    """Draw one variable over its range, from left to right; one test row a line, factual first."""
    below = causes.descendants([sweep.name])
    image = next(name for name, v in variables.items() if isinstance(v, Image) and name in below)
    variable = variables[sweep.name]
    heads = ["factual", *(spell(variable, value) for value in sweep.values)]
    bands = []
    for k in range(sweep.factual.n):
        cells = [sweep.factual[image][k], *(answer[image][k] for answer in sweep.answers)]
        value = spell(variable, sweep.factual[sweep.name][k])
        bands.append((value, _colour(torch.stack(cells))))
    return _mosaic(bands, heads, headed(sweep.name, variable), None, first_apart=True)


def graph(
    causes: CausalGraph, variables: Mapping[str, Variable], chosen: Sequence[str] = ()
) -> bytes:
    """Draw the causal graph, by generation from left to right.

    Variables that are set stand out, and what would act on them is dotted: it is cut.
    """
    square = [name for name, variable in variables.items() if isinstance(variable, Image)]
    return png(draw_graph(causes, do=chosen, square=square))


def losses(history: Mapping[str, Any]) -> bytes:
    """Draw loss curves, one panel a mechanism.

    Args:
        history: By mechanism either losses, or curves by name: each a sequence of numbers, or of
            (step, loss) pairs.
    """
    rows, columns = -(-len(history) // 3), min(3, len(history))
    figure = Sheet(3.1 * columns, 2.1 * rows).figure
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(history) :]:
        axes.axis("off")
    for axes, (name, curves) in zip(panels, history.items(), strict=False):
        _losses(axes, name, curves if isinstance(curves, Mapping) else {"loss": curves})
    figure.tight_layout()
    return png(figure)


def _losses(axes: Axes, title: str, curves: Mapping[str, Any]) -> None:
    """Draw one mechanism's curves."""
    from matplotlib.ticker import MaxNLocator

    for colour, (label, curve) in zip(cycle(CURVES), curves.items(), strict=False):
        points = torch.as_tensor(curve, dtype=torch.float64)
        steps = points[:, 0] if points.ndim == 2 else torch.arange(1, len(points) + 1)
        values = points[:, 1] if points.ndim == 2 else points
        dot = "." if len(points) == 1 else ""  # a line needs two
        axes.plot(steps, values, marker=dot, color=colour, linewidth=1.2, label=label)
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.tick_params(colors=INK, labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=STEPS, integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    if len(curves) > 1:
        axes.legend(fontsize=7, frameon=False, labelcolor=INK)


def _mosaic(
    bands: list[tuple[str, Tensor]],
    heads: list[str],
    corner: str,
    differs: Variable | None,
    first_apart: bool = False,
) -> bytes:
    """Draw bands `(columns, H, W, 3)` under one another, names at the left, heads above.

    Args:
        bands: Name and images of each.
        heads: What stands above the columns.
        corner: What stands above the names.
        differs: The image variable whose differences are shown; `None` if none are.
        first_apart: Whether the first column is not one of the values that the corner names.
    """
    canvas, columns = _canvas([images for _, images in bands]), len(heads)
    down, across = (side / DPI for side in canvas.shape[:2])
    tall, wide = down / len(bands), across / columns
    heads = [_wrapped(head, wide) for head in heads]
    names = [text for name in (corner, *(name for name, _ in bands)) for text in name.split("\n")]
    left, bottom = 0.2 + 0.075 * max(map(len, names)), 0.04
    right = 0.1 if differs is None else 0.7
    top = 0.1 + 1.2 * line(HEAD) * max(head.count("\n") + 1 for head in heads)
    sheet = Sheet(left + across + right, top + down + bottom)
    axes = sheet.axes(left, top, across, down)
    axes.axis("off")
    axes.imshow(canvas.numpy(force=True), interpolation="nearest", aspect="auto")
    edge, above = left - 0.1 * wide, top - 0.06 * tall
    for i, (name, _) in enumerate(bands):
        sheet.text(edge, top + (i + 0.47) * tall, name, NAME, ha="right", va="center")
    sheet.text(edge, above, corner, NAME, ha="right", color=ACCENT)
    for j, head in enumerate(heads):
        colour = ACCENT if first_apart and j > 0 else INK
        sheet.text(left + (j + 0.47) * wide, above, head, HEAD, ha="center", color=colour)
    if differs is not None:
        end, title = scale(differs), unit(differs).replace(" ", "\n")
        height = min(down, 1.7) - 0.3
        sheet.bar(sheet.width - 0.6, top + 0.24, height, title, DIVERGING, -end, end)
    return png(sheet.figure)


def _wrapped(head: str, width: float) -> str:
    """Break the lines of a head between words, so that it is not wider than so many inches.

    Example:
        >>> _wrapped("no finding -> pleural effusion", 0.9).splitlines()
        ['no finding ->', 'pleural effusion']
    """
    letters = max(1, int(width / LETTER))
    lines = [textwrap.wrap(line, letters, break_long_words=False) for line in head.split("\n")]
    return "\n".join(part for parts in lines for part in parts or [""])


def _canvas(bands: list[Tensor]) -> Tensor:
    """Lay bands `(columns, h, w, 3)` under one another, each pixel a square: `(H, W, 4)`."""
    columns, height, width, _ = bands[0].shape
    zoom = max(1, round(CELL * DPI / max(height, width)))
    gap = round(GAP * DPI)
    height, width = (max(side * zoom + gap, PITCH) for side in (height, width))
    canvas = torch.zeros(len(bands) * height, columns * width, 4)
    for i, images in enumerate(bands):
        for j, image in enumerate(images):
            large = image.repeat_interleave(zoom, 0).repeat_interleave(zoom, 1)
            place = canvas[i * height :, j * width :][: len(large), : large.shape[1]]
            place[..., :3], place[..., 3] = large, 1
    return canvas


def _colour(images: Tensor) -> Tensor:
    """Return images `(n, C, H, W)`, or slices of volumes, in [0, 1] as colours `(n, H, W, 3)`."""
    shown = pixels(planar(images, leading=1))
    return shown if shown.ndim == 4 else shown[..., None].expand(-1, -1, -1, 3)


def _differences(name: str, difference: Tensor) -> list[tuple[str, Tensor]]:
    """Return a band `(n, H, W, 3)` of each channel of differences `(n, C, ...)` in [-1, 1]."""
    channels = planar(difference, leading=1).unbind(1)
    names = ("red", "green", "blue") if len(channels) == 3 else range(1, len(channels) + 1)
    heads = [f"{name}\n{channel}" for channel in names] if len(channels) > 1 else [name]
    return [(head, signed(channel)) for head, channel in zip(heads, channels, strict=True)]
