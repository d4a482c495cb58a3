"""Pictures of the report, as PNG: strips, film strips, the causal graph, loss curves.

Text and lines are a middle grey on nothing, so that they read on a light and on a dark page.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.cli.picture import by_channel, signed
from rung3.data.distances import scale, unit
from rung3.data.variables import Discrete, Image, Variable
from rung3.evaluation.examples import Example, Sweep
from rung3.graph.drawing import draw_graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rung3.graph import CausalGraph

__all__ = ["beside", "film", "graph", "losses", "png", "strip"]

INK, ACCENT = "#7d8288", "#d1495b"
COLOURS = (INK, ACCENT, "#3f88c5", "#e0a030", "#5aa469")
DPI = 150

CELL = 128
"""Pixels of a picture's cell, about."""

GAP = 8
"""Pixels between cells."""

PITCH = 42
"""Pixels from a cell to the next, at least: room for two lines of a name, however flat it is."""


def strip(
    example: Example,
    chosen: Sequence[str],
    causes: CausalGraph,
    variables: Mapping[str, Variable],
) -> bytes | None:
    """Factual, counterfactual, truth where known, and differences, one column a test row.

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
    heads = [
        "\n".join(_change(name, variables[name], example, k) for name in chosen)
        for k in range(example.factual.n)
    ]
    corner = "\n".join(_named(name, variables[name]) for name in chosen)
    return _mosaic(bands, heads, corner, variables[shown[0]])


def beside(
    examples: Mapping[str, Example],
    mode: str,
    causes: CausalGraph,
    variables: Mapping[str, Variable],
) -> bytes | None:
    """Factual, truth where known, and each model's answer; then each one's error, or difference.

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
    heads = [
        "\n".join(_change(name, variables[name], first, k) for name in chosen)
        for k in range(first.factual.n)
    ]
    corner = "\n".join(_named(name, variables[name]) for name in chosen)
    return _mosaic(bands, heads, corner, variables[shown[0]])


def film(sweep: Sweep, causes: CausalGraph, variables: Mapping[str, Variable]) -> bytes:
    """One variable over its range, from left to right; one test row a line, its factual first."""
    below = causes.descendants([sweep.name])
    image = next(name for name, v in variables.items() if isinstance(v, Image) and name in below)
    variable = variables[sweep.name]
    heads = ["factual", *(_value(variable, value) for value in sweep.values)]
    bands = []
    for k in range(sweep.factual.n):
        cells = [sweep.factual[image][k], *(answer[image][k] for answer in sweep.answers)]
        own = _value(variable, sweep.factual[sweep.name][k])
        bands.append((own, _colour(torch.stack(cells))))
    return _mosaic(bands, heads, _named(sweep.name, variable), None, first_apart=True)


def graph(
    causes: CausalGraph, variables: Mapping[str, Variable], chosen: Sequence[str] = ()
) -> bytes:
    """The causal graph, by generation from left to right.

    Variables that are set stand out, and what would act on them is dotted: it is cut.
    """
    square = [name for name, variable in variables.items() if isinstance(variable, Image)]
    return png(draw_graph(causes, do=chosen, square=square))


def losses(history: Mapping[str, Any]) -> bytes:
    """Loss curves, one panel a mechanism.

    Args:
        history: By mechanism either losses, or curves by name: each a sequence of numbers, or of
            (step, loss) pairs.
    """
    rows, columns = -(-len(history) // 3), min(3, len(history))
    figure = _figure(3.1 * columns, 2.1 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(history) :]:
        axes.axis("off")
    for axes, (name, curves) in zip(panels, history.items(), strict=False):
        named = curves if isinstance(curves, Mapping) else {"loss": curves}
        for colour, (label, curve) in zip(cycle(COLOURS), named.items(), strict=False):
            points = torch.as_tensor(curve, dtype=torch.float64)
            steps = points[:, 0] if points.ndim == 2 else torch.arange(1, len(points) + 1)
            values = points[:, 1] if points.ndim == 2 else points
            dot = "." if len(points) == 1 else ""  # a line needs two
            axes.plot(steps, values, marker=dot, color=colour, linewidth=1.2, label=label)
        axes.set_title(name, fontsize=9, color=INK, loc="left")
        axes.tick_params(colors=INK, labelsize=7)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        if len(named) > 1:
            axes.legend(fontsize=7, frameon=False, labelcolor=INK)
    figure.tight_layout()
    return png(figure)


def _mosaic(
    bands: list[tuple[str, Tensor]],
    heads: list[str],
    corner: str,
    differs: Variable | None,
    first_apart: bool = False,
) -> bytes:
    """Bands `(columns, H, W, 3)` under one another, names at the left, heads and corner above."""
    columns, height, width, _ = bands[0][1].shape
    zoom = max(1, round(CELL / max(height, width)))
    height, width = (max(side * zoom + GAP, PITCH) for side in (height, width))
    canvas = torch.zeros(len(bands) * height, columns * width, 4)
    for i, (_, cells) in enumerate(bands):
        for j, cell in enumerate(cells):
            large = cell.repeat_interleave(zoom, 0).repeat_interleave(zoom, 1)
            place = canvas[i * height :, j * width :][: len(large), : large.shape[1]]
            place[..., :3], place[..., 3] = large, 1
    names = [line for text in (corner, *(name for name, _ in bands)) for line in text.split("\n")]
    left, bottom = 0.2 + 0.075 * max(map(len, names)), 0.04
    right = 0.1 if differs is None else 0.7
    top = 0.1 + 0.15 * max(head.count("\n") + 1 for head in heads)
    down, across = (side / DPI for side in canvas.shape[:2])
    W, H = left + across + right, bottom + down + top
    figure = _figure(W, H)
    axes = figure.add_axes((left / W, bottom / H, across / W, down / H))
    axes.axis("off")
    axes.imshow(canvas.numpy(force=True), interpolation="nearest", aspect="auto")
    _captions(axes, bands, heads, corner, height, width, first_apart)
    if differs is not None:
        tall = min(down, 1.7)
        bar = figure.add_axes(((W - 0.6) / W, (bottom + 0.06) / H, 0.08 / W, (tall - 0.3) / H))
        _colour_bar(bar, differs)
    return png(figure)


def _captions(
    axes: Axes,
    bands: list[tuple[str, Tensor]],
    heads: list[str],
    corner: str,
    height: int,
    width: int,
    first_apart: bool,
) -> None:
    for i, (name, _) in enumerate(bands):
        axes.text(
            -0.1 * width, (i + 0.47) * height, name, ha="right", va="center", fontsize=8.5,
            color=INK, linespacing=1.3,
        )  # fmt: skip
    axes.text(
        -0.1 * width, -0.06 * height, corner, ha="right", va="bottom", fontsize=8.5, color=ACCENT,
        linespacing=1.2,
    )  # fmt: skip
    for j, head in enumerate(heads):
        axes.text(
            (j + 0.47) * width, -0.06 * height, head, ha="center", va="bottom", fontsize=7.5,
            color=ACCENT if first_apart and j > 0 else INK, linespacing=1.2,
        )  # fmt: skip


def _colour_bar(axes: Axes, variable: Variable) -> None:
    values = torch.linspace(1, -1, 128).reshape(128, 1)
    most = scale(variable)
    axes.imshow(signed(values), aspect="auto", extent=(0, 1, -most, most))
    axes.set_xticks([])
    axes.set_yticks([-most, 0, most], [f"-{most:g}", "0", f"+{most:g}"])
    axes.yaxis.tick_right()
    axes.tick_params(colors=INK, labelsize=7, length=2)
    axes.set_title(unit(variable).replace(" ", "\n"), fontsize=7, color=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _colour(images: Tensor) -> Tensor:
    """Images `(n, C, H, W)` in [0, 1] as colours `(n, H, W, 3)`: three channels, or their mean."""
    images = images.float().clamp(0, 1)
    if images.shape[1] != 3:
        images = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return images.movedim(1, -1)


def _differences(name: str, difference: Tensor) -> list[tuple[str, Tensor]]:
    """A band `(n, H, W, 3)` of each channel of differences `(n, C, H, W)` in [-1, 1]."""
    channels = difference.split(1, dim=1)
    said = ("red", "green", "blue") if len(channels) == 3 else range(1, len(channels) + 1)
    heads = [f"{name}\n{one}" for one in said] if len(channels) > 1 else [name]
    return [(head, _signed(one)) for head, one in zip(heads, channels, strict=True)]


def _signed(difference: Tensor) -> Tensor:
    """Differences `(n, C, H, W)` in [-1, 1] as colours `(n, H, C W, 3)`, from blue to red."""
    return signed(by_channel(difference))


def _change(name: str, variable: Variable, example: Example, k: int) -> str:
    before = _value(variable, example.factual[name][k])
    after = _value(variable, example.answers["kept"][name][k])
    return f"{before} \N{RIGHTWARDS ARROW} {after}"


def _named(name: str, variable: Variable) -> str:
    return f"{name}, {variable.unit}" if variable.unit else name


def _value(variable: Variable, value: Tensor) -> str:
    if value.ndim:
        return "\N{HORIZONTAL ELLIPSIS}"
    if isinstance(variable, Discrete):
        return variable.label(int(value))
    return f"{float(value):.3g}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI)


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, transparent=True)
    return out.getvalue()
