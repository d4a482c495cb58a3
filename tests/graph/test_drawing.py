"""Drawings: arrows pass boxes by, and everything is in the picture."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from graphs import random_graph
from matplotlib.patches import FancyArrowPatch

from rung3.graph import CausalGraph, draw_graph, to_mermaid
from rung3.graph.drawing import layout


def arrows_and_boxes(figure):
    """The arrows, and the extents of the boxes on the canvas."""
    figure.draw_without_rendering()
    axes = figure.axes[0]
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    return arrows, [text.get_bbox_patch().get_window_extent() for text in axes.texts]


def outline(arrow):
    """Points along an arrow on the canvas."""
    curve = arrow.get_path().transformed(arrow.get_transform())
    return np.concatenate(
        [
            np.linspace(start, end, 20)
            for line in curve.to_polygons(closed_only=False)
            for start, end in pairwise(line)
        ]
    )


@pytest.mark.parametrize(
    "text",
    [
        "a -> b -> c; a -> c",
        "a -> b -> c -> d; a -> {c d}; b -> d; a <-> d",
        "x <- u -> m <- v -> y; x -> y; x <-> y",
        "smoking -> tar -> cancer; smoking <-> cancer",
    ],
)
def test_arrows_pass_boxes_by(text):
    figure = draw_graph(CausalGraph(text))
    arrows, boxes = arrows_and_boxes(figure)
    for arrow in arrows:
        x, y = outline(arrow).T
        for box in boxes:
            across = (box.x0 + 2 < x) & (x < box.x1 - 2)
            assert not (across & (box.y0 + 2 < y) & (y < box.y1 - 2)).any()


def test_all_is_in_the_picture():
    for seed in range(4):
        graph = random_graph(seed, 7, hidden=True)
        figure = draw_graph(graph)
        arrows, boxes = arrows_and_boxes(figure)
        assert len(arrows) == len(graph.edges) + len(graph.bidirected)
        assert len(boxes) == len(graph.nodes)
        width, height = figure.bbox.size
        for arrow in arrows:
            x, y = outline(arrow).T
            assert x.min() > 0
            assert y.min() > 0
            assert x.max() < width
            assert y.max() < height
        for box in boxes:
            assert box.x0 > 0
            assert box.y0 > 0
            assert box.x1 < width
            assert box.y1 < height


def test_what_is_set_stands_out_and_its_causes_are_cut():
    graph = CausalGraph("z -> x -> y; x <-> y")
    figure = draw_graph(graph, do=["x"], given=["z"], square=["y"])
    arrows, _ = arrows_and_boxes(figure)
    assert [arrow.get_linestyle() for arrow in arrows] == [":", "-", ":"]
    plain, _ = arrows_and_boxes(draw_graph(graph))
    assert [arrow.get_linestyle() for arrow in plain] == ["-", "-", "--"]
    boxes = {text.get_text(): text.get_bbox_patch() for text in figure.axes[0].texts}
    widths = {name: box.get_linewidth() for name, box in boxes.items() if box is not None}
    assert widths["z"] > widths["y"] == widths["x"]


def test_places_of_ones_own_and_no_graph():
    places = {"a": (0.0, 0.0), "b": (2.0, 1.0)}
    figure = draw_graph(CausalGraph("a -> b"), positions=places)
    first, second = (np.array(text.get_position()) for text in figure.axes[0].texts)
    assert (second - first > 0).all()
    out = io.BytesIO()
    draw_graph(CausalGraph("")).savefig(out)
    assert out.getvalue().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="positions: 'b' has none"):
        draw_graph(CausalGraph("a -> b"), positions={"a": (0, 0)})
    with pytest.raises(ValueError, match="no variable 'c'"):
        draw_graph(CausalGraph("a -> b"), do=["c"])


def test_causes_stand_left_of_effects():
    for seed in range(20):
        graph = random_graph(seed, 7, hidden=False)
        place = layout(graph)
        assert all(place[a][0] < place[b][0] for a, b in graph.edges)
        assert len(set(place.values())) == len(graph.nodes)


def test_mermaid():
    graph = CausalGraph('"a \\"b\\" & c" -> y <- x; x <-> y')
    assert to_mermaid(graph, do=["x"]).splitlines() == [
        "flowchart LR",
        '    n0["a &quot;b&quot; &amp; c"]',
        '    n1["y"]',
        '    n2["x"]',
        "    n0 --> n1",
        "    n2 --> n1",
        "    style n2 fill:#d1495b,color:#fff",
    ]
    assert "n1 <-.-> n2" in to_mermaid(graph)


def test_a_notebook_shows_the_drawing() -> None:
    html = CausalGraph('"a<b" -> c')._repr_html_()
    assert html.startswith("<img width=")
    assert "a&lt;b" in html
    assert "data:image/png;base64," in html
