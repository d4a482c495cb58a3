"""Drawings of a causal graph: a matplotlib figure, and Mermaid's text.

Causes stand to the left of their effects, by generation. Lines and text are a middle grey on
nothing, so that they read on a light and on a dark page; a hidden common cause is dashed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rung3.data.pictures import ACCENT, INK
from rung3.graph.mixed_graph import MixedGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

__all__ = ["draw_graph", "layout", "to_mermaid"]

COLUMN = 1.75
"""Inches between generations."""

ROW = 0.62
"""Inches of one unit of y."""

SPACING = 1.2
"""Units of y between the variables of one generation."""

MARGIN = 0.1
"""Inches around everything."""

CLEARANCE = 0.04
"""Inches that an arrow keeps from a box that it passes."""

BENDS = (0.0, -0.18, 0.18, -0.3, 0.3, -0.45, 0.45, -0.6, 0.6)
"""Curvatures of an arrow (matplotlib's `rad`), in the order in which they are tried."""

Place: TypeAlias = tuple[float, float]


def draw_graph(
    graph: Any,
    *,
    do: Collection[str] = (),
    given: Collection[str] = (),
    square: Collection[str] = (),
    positions: Mapping[str, Place] | None = None,
) -> Figure:
    """Draw a graph.

    Args:
        graph: The graph.
        do: Variables that are set: they stand out, and the arrows that this cuts are dotted.
        given: Variables that are conditioned on: their boxes are bold.
        square: Variables with square corners, such as images.
        positions: The place of each variable, one apart, y upwards; if not given, by generation.

    Returns:
        A figure; ``.savefig("graph.png")`` writes it.

    Raises:
        ValueError: If the graph lacks a name.
    """
    graph = MixedGraph.given(graph)
    from matplotlib.figure import Figure

    graph.disjoint(do=do, given=given)
    graph.names(square)
    places = layout(graph) if positions is None else positions
    if lacking := [name for name in graph.nodes if name not in places]:
        raise ValueError(f"positions: {lacking[0]!r} has none; they are of {list(places)}.")
    at = {name: (COLUMN * places[name][0], ROW * places[name][1]) for name in graph.nodes}
    figure = Figure()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    texts = {
        name: _box(axes, name, place, name in do, name in given, name in square)
        for name, place in at.items()
    }
    figure.draw_without_rendering()  # boxes have a size once they are drawn
    sizes = {name: _half_size(text, figure.dpi) for name, text in texts.items()}
    extent = [corner for name in at for corner in _corners(at[name], sizes[name])]
    extent += _draw_arrows(axes, graph, set(do), at, sizes, texts)
    x, y = ([place[axis] for place in extent] or [0.0] for axis in (0, 1))
    axes.set_xlim(min(x) - MARGIN, max(x) + MARGIN)
    axes.set_ylim(min(y) - MARGIN, max(y) + MARGIN)
    figure.set_size_inches(np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim()))
    return figure


def _box(axes: Axes, name: str, place: Place, hot: bool, bold: bool, square: bool) -> Text:
    """Draw a variable's name in its box."""
    style = "square,pad=0.5" if square else "round,pad=0.5,rounding_size=0.9"
    return axes.text(
        *place, name, ha="center", va="center", fontsize=9.5, zorder=3,
        color="white" if hot else INK,
        bbox={
            "boxstyle": style, "facecolor": ACCENT if hot else "none",
            "edgecolor": ACCENT if hot else INK, "linewidth": 2.5 if bold else 1,
        },
    )  # fmt: skip


def _half_size(text: Text, dpi: float) -> Place:
    """Return half the width and half the height of a drawn box, in inches."""
    patch = text.get_bbox_patch()
    size = patch.get_window_extent() if patch else text.get_window_extent()
    return size.width / dpi / 2, size.height / dpi / 2


def _draw_arrows(
    axes: Axes,
    graph: MixedGraph,
    do: Set[str],
    at: Mapping[str, Place],
    sizes: Mapping[str, Place],
    texts: Mapping[str, Text],
) -> list[Place]:
    """Draw every arrow past the boxes in its way, and return points along all of them."""
    from matplotlib.patches import FancyArrowPatch

    points: list[Place] = []
    bends: dict[frozenset[str], float] = {}
    for a, b, style in _arrows(graph):
        others = [(at[name], sizes[name]) for name in graph.nodes if name not in (a, b)]
        ends = frozenset((a, b))
        bends[ends], curve = _clear(at[a], at[b], others, bends.get(ends))
        points += curve
        cut = b in do or (style == "<->" and a in do)
        axes.add_patch(
            FancyArrowPatch(
                at[a], at[b], arrowstyle=style, mutation_scale=11, color=INK, linewidth=1,
                linestyle=":" if cut else "--" if style == "<->" else "-", alpha=0.6 if cut else 1,
                patchA=texts[a].get_bbox_patch(), patchB=texts[b].get_bbox_patch(),
                shrinkA=2, shrinkB=3, zorder=4,  # above the boxes: they are placed when drawn
                connectionstyle=f"arc3,rad={bends[ends]}",
            )
        )  # fmt: skip
    return points


def _arrows(graph: MixedGraph) -> list[tuple[str, str, str]]:
    """Return the ends of each arrow, and matplotlib's name of its style."""
    edges = [(a, b, "-|>") for a, b in graph.edges]
    return edges + [(a, b, "<->") for a, b in graph.bidirected]


def _corners(place: Place, half: Place) -> list[Place]:
    return [(place[0] - half[0], place[1] - half[1]), (place[0] + half[0], place[1] + half[1])]


def _clear(
    start: Place, end: Place, boxes: list[tuple[Place, Place]], taken: float | None
) -> tuple[float, list[Place]]:
    """Find the least bend of an arrow that leads it past boxes, and points along it.

    Args:
        start: Where it starts.
        end: Where it ends.
        boxes: The middle and half the size of each box on the way.
        taken: The bend of another arrow between the same two.
    """
    (x0, y0), (x2, y2) = start, end
    ways: list[tuple[bool, int, int, float, list[Place]]] = []
    for bend in BENDS:
        x1, y1 = (x0 + x2) / 2 + bend * (y2 - y0), (y0 + y2) / 2 - bend * (x2 - x0)
        curve = [
            (
                (1 - t) ** 2 * x0 + 2 * t * (1 - t) * x1 + t**2 * x2,
                (1 - t) ** 2 * y0 + 2 * t * (1 - t) * y1 + t**2 * y2,
            )
            for t in np.linspace(0, 1, 41).tolist()
        ]
        struck = sum(
            any(abs(x - a) < w + CLEARANCE and abs(y - b) < h + CLEARANCE for x, y in curve)
            for (a, b), (w, h) in boxes
        )
        ways.append((bend == taken, struck, len(ways), bend, curve))
    return min(ways)[3:]


def to_mermaid(graph: Any, *, do: Collection[str] = ()) -> str:
    """Return the text of a Mermaid flowchart, which many documentation pages draw.

    Args:
        graph: The graph.
        do: Variables that are set: they stand out, and arrows into them are left out.

    Raises:
        ValueError: If the graph lacks a name.

    >>> from rung3.graph import CausalGraph
    >>> print(to_mermaid(CausalGraph("dose -> cured; dose <-> cured")))
    flowchart LR
        n0["dose"]
        n1["cured"]
        n0 --> n1
        n0 <-.-> n1
    """
    graph = MixedGraph.given(graph)
    label = {name: f"n{at}" for at, name in enumerate(graph.nodes)}
    cut = graph.do(*do)
    lines = [f'{label[name]}["{_escaped(name)}"]' for name in graph.nodes]
    lines += [f"{label[a]} --> {label[b]}" for a, b in cut.edges]
    lines += [f"{label[a]} <-.-> {label[b]}" for a, b in cut.bidirected]
    lines += [f"style {label[name]} fill:{ACCENT},color:#fff" for name in graph.in_order(set(do))]
    return "\n    ".join(["flowchart LR", *lines])


def layout(graph: MixedGraph) -> dict[str, Place]:
    """Place variables at `(x, y)`: x is the generation, y follows the mean of the parents."""
    generation: dict[str, int] = {}
    for name in graph.order:
        generation[name] = 1 + max((generation[p] for p in graph.parents(name)), default=-1)
    place: dict[str, Place] = {}
    for level in range(max(generation.values(), default=-1) + 1):
        members = [name for name in graph.order if generation[name] == level]
        if level:
            members.sort(
                key=lambda k: sum(place[p][1] for p in graph.parents(k)) / len(graph.parents(k))
            )
        for k, name in enumerate(members):
            place[name] = (float(level), SPACING * (k - (len(members) - 1) / 2))
    return place


def _escaped(name: str) -> str:
    """Return a name as it stands between the quotes of Mermaid's text."""
    return name.replace("&", "&amp;").replace('"', "&quot;")
