"""The trade-off: the numbers of its panels, what is drawn of them, and names out of the way."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from rung3 import Categorical, Continuous, Image
from rung3.data.pictures import png
from rung3.data.provenance import Provenance
from rung3.data.rows import Rows
from rung3.evaluation import Report, compare, tradeoff
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.examples import Example, Examples
from rung3.evaluation.report.tradeoff import label, panels
from rung3.evaluation.scores import Scores, put
from rung3.graph import CausalGraph

ROWS = 50


def report_of(
    drift: float, error: float, skill: float | None, modes: tuple[str, ...] = ("kept",)
) -> Report:
    """A model whose image drifts, whose `a` is off and whose digit is misread that much."""
    scores = Scores()
    noise = 0.01 * (torch.rand(ROWS) - 0.5)
    for mode in modes:
        more = noise + (0 if mode == modes[-1] else 100)
        scores.add(("composition", "x", mode, "1"), drift + more, "grey levels")
        scores.add(("effectiveness", "x", "do(a)", "a", mode), error + more, "px")
        scores.add(("effectiveness", "x", "do(d)", "a", mode), error + more, "px")
        right = (torch.arange(ROWS) >= error * ROWS).float()
        scores.add(("effectiveness", "x", "do(d)", "d", mode), right, "accuracy")
    scores.add(("effectiveness", "x", "factual", "a", "observed"), torch.full((ROWS,), 0.05), "px")
    metrics = scores.summary(Bootstrap(ROWS, 100))
    if skill is not None:
        for mode in modes:
            value = {"mean": skill if mode == modes[-1] else -9.0, "low": None, "high": None}
            put(metrics, ("truth", "do(a)", "x", mode, "skill"), value)
    metrics["settings"] = {
        "rows": ROWS, "seed": 0, "resamples": 100, "world": None, "digest of the rows": "a",
        "digests of the targets": {},
    }  # fmt: skip
    variables = {"a": Continuous(unit="px"), "d": Categorical(3), "x": Image(1, 4, 4)}
    shown = {"a": torch.zeros(2), "x": torch.zeros(2, 1, 4, 4)}
    provenance = Provenance("imagining", {"a": "intervened", "x": "propagated"})
    answers = {mode: Rows(shown, provenance=provenance) for mode in modes}
    examples = Examples({"do(a)": Example(Rows(shown), answers, None)})
    return Report(metrics, CausalGraph("{a d} -> x"), variables, examples, {}, scores)


def sweep(**options: Any) -> dict[str, Report]:
    values = {"beta=2": (4.0, 0.2, 0.6), "beta=0.5": (1.0, 0.8, 0.1), "beta=1": (2.0, 0.4, 0.4)}
    return {name: report_of(*value, **options) for name, value in values.items()}


def test_a_panel_for_each_attribute_that_was_set() -> None:
    first, second = panels(compare(sweep()))
    assert (first.title, second.title) == ("do(a)", "do(d)")
    assert first.up == "effectiveness: error of a, px"
    assert first.across == "composition: drift of x, grey levels"
    assert second.up == "effectiveness: d misread, share"
    point = first.points[0]
    assert (point.name, point.skill) == ("beta=2", 0.6)
    assert point.place == pytest.approx((4.0, 0.2), abs=1e-3)
    assert point.composition[1] < point.composition[0] < point.composition[2]
    assert first.floor == pytest.approx(0.05)
    assert second.floor is None


def test_what_has_an_oracle_is_not_shown_as_measured_too() -> None:
    reports = sweep()
    for report in reports.values():
        scores = report.metrics["effectiveness"]["x"]["do(a)"]["a"]
        report.metrics["measured"] = {"x": {"do(a)": {"a": scores}, "do(b)": {"b": scores}}}
    assert [panel.title for panel in panels(compare(reports))] == ["do(a)", "do(d)", "do(b)"]


def test_four_panels_are_drawn_in_two_lines() -> None:
    reports = sweep()
    for report in reports.values():
        scores = report.metrics["effectiveness"]["x"]["do(a)"]["a"]
        report.metrics["measured"] = {"x": {f"do({name})": {name: scores} for name in "bc"}}
    *four, empty, _, bar = tradeoff(compare(reports)).axes
    assert len(four) == 4
    assert not empty.axison
    assert bar.get_ylabel() == "skill"


def test_accuracy_is_turned_into_the_share_misread() -> None:
    point = panels(compare(sweep()))[1].points[1]
    mean, low, high = point.effectiveness
    assert mean == pytest.approx(0.8)
    assert low < mean < high
    assert point.skill is None


def test_answers_are_from_z_alone_where_there_is_a_z() -> None:
    both = {
        "with": report_of(1.0, 0.5, 0.3, ("kept", "latent")),
        "without": report_of(2.0, 0.6, 0.2),
    }
    points = panels(compare(both))[0].points
    assert [point.composition[0] for point in points] == pytest.approx([1.0, 2.0], abs=1e-2)
    assert [point.skill for point in points] == [0.3, 0.2]


def test_the_figure_has_every_name_the_way_to_better_and_a_bar_for_skill() -> None:
    figure = tradeoff(compare(sweep()))
    first, second, bar = figure.axes
    texts = [text.get_text() for text in first.texts]
    assert texts == ["real images", "better", "beta=2", "beta=0.5", "beta=1"]
    assert bar.get_ylabel() == "skill"
    assert first.get_xscale() == first.get_yscale() == "log"
    assert second.get_xscale() == "log"
    Picture.open(io.BytesIO(png(figure))).verify()


def test_long_names_have_numbers_and_stand_below() -> None:
    name = "image=kind-HVAE,objective=kind-counterfactual-weight-1"
    reports = dict(zip(("beta=2", name, "beta=1"), sweep().values(), strict=True))
    figure = tradeoff(compare(reports))
    for axes in figure.axes[:2]:
        assert [text.get_text() for text in axes.texts][-3:] == ["beta=2", "1", "beta=1"]
    assert figure.get_supxlabel() == f"1  {name}"
    assert tradeoff(compare(sweep())).get_supxlabel() == ""


def test_runs_of_a_sweep_are_joined_in_the_order_of_their_values_and_others_are_not() -> None:
    joined = tradeoff(compare(sweep())).axes[0].lines[0]
    assert joined.get_xdata() == pytest.approx([1.0, 2.0, 4.0], abs=1e-2)
    other = dict(zip(("vae", "hvae=1", "beta=2"), sweep().values(), strict=True))
    lines = tradeoff(compare(other)).axes[0].lines
    assert lines
    assert all(np.size(line.get_xdata()) < 3 for line in lines)


def test_each_family_of_a_sweep_over_two_settings_has_its_own_line() -> None:
    both = {
        f"kind={family},epochs={k}": report_of(drift * k, 0.8 / k, 0.1 * k)
        for family, drift in (("HVAE", 1.0), ("Diffusion", 3.0))
        for k in (2, 10, 4)
    }
    both["counterfactual"] = report_of(2.0, 0.5, 0.3)
    lines = tradeoff(compare(both)).axes[0].lines
    joined = [np.asarray(line.get_xdata()) for line in lines[:2]]
    np.testing.assert_allclose(joined, [[2, 4, 10], [6, 12, 30]], atol=0.01)


def test_without_a_truth_there_is_no_bar() -> None:
    blind = {"one": report_of(1.0, 0.5, None), "two": report_of(1.1, 0.4, None)}
    figure = tradeoff(compare(blind))
    assert len(figure.axes) == 2
    assert figure.axes[0].get_xscale() == "linear"


def test_exact_composition_is_on_a_linear_axis() -> None:
    exact = {"one": report_of(0.0, 0.5, 0.1), "two": report_of(9.0, 0.4, 0.2)}
    assert tradeoff(compare(exact)).axes[0].get_xscale() == "linear"


def test_what_nobody_measured_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match=r"no intervention has composition \(7 times; known: 1\)"):
        tradeoff(compare(sweep()), times=7)
    without = sweep()
    for report in without.values():
        del report.metrics["effectiveness"]
    with pytest.raises(ValueError, match="and effectiveness on an image in two runs or more"):
        tradeoff(compare(without))
    assert "tradeoff" not in compare(without).pictures()
    assert "tradeoff" in compare(sweep()).pictures()


@pytest.mark.parametrize(
    "points",
    [
        [(0.5, 0.5), (0.5, 0.52)],
        [(0.1, 0.1), (0.9, 0.9)],
        [(0.02, 0.5), (0.98, 0.5)],
        [(0.5, 0.5), (0.55, 0.5), (0.45, 0.5)],
        [(0.06, 0.5), (0.1, 0.56), (0.14, 0.5), (0.1, 0.44)],
    ],
)
def test_names_cover_neither_each_other_nor_leave_the_axes(
    points: list[tuple[float, float]],
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), dpi=100)
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    label(axes, [f"model {k}" for k in range(len(points))], points, "black")
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    frame = axes.get_window_extent()
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k])
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1


def morphomnist() -> dict[str, Report]:
    """Two models, of which the variables are called as those that figures were published of."""
    reports = {"ours": report_of(1.0, 0.5, 0.3), "another": report_of(2.0, 0.4, 0.4)}
    for report in reports.values():
        scores = report.metrics["effectiveness"]["x"]
        scores["do(thickness)"] = {"thickness": scores.pop("do(a)")["a"]}
        scores["do(digit)"] = {"digit": scores.pop("do(d)")["d"]}
    return reports


@pytest.mark.parametrize(("times", "drift"), [(1, 0.438), (10, 1.55)])
def test_published_figures_stand_in_the_panels_of_their_variables(times: int, drift: float) -> None:
    reports = morphomnist()
    for metrics in (report.metrics for report in reports.values()):
        drifts = metrics["composition"]["x"]["kept"]
        drifts["10"] = drifts["1"]
    by_title = {p.title: p for p in panels(compare(reports), times, "melistas2024")}
    assert set(by_title) == {"do(thickness)", "do(digit)"}
    _, hvae, _ = by_title["do(digit)"].published
    assert (hvae.name, hvae.place, hvae.skill) == ("HVAE (published)", (drift, 0.028), None)


def test_published_points_are_hollow_and_named() -> None:
    figure = tradeoff(compare(morphomnist()), published="melistas2024")
    first = figure.axes[0]
    hollow = [line for line in first.lines if line.get_marker() == "D"]
    assert [line.get_markerfacecolor() for line in hollow] == ["none"] * 3
    names = [text.get_text() for text in first.texts]
    assert names[-4:] == ["another", *(f"{k} (published)" for k in ("VAE", "HVAE", "GAN"))]
    low, high = first.get_xlim()
    assert low < 0.438
    assert high > 3.81


def test_the_pictures_of_a_comparison_may_have_published_points() -> None:
    comparison = compare(morphomnist())
    plain, beside = comparison.pictures(), comparison.pictures("melistas2024")
    assert plain["tradeoff"] == png(tradeoff(comparison))
    assert beside["tradeoff"] == png(tradeoff(comparison, published="melistas2024"))
    assert beside["tradeoff"] != plain["tradeoff"]


def test_figures_that_nobody_published_are_refused() -> None:
    with pytest.raises(ValueError, match="published='me': expected one of melistas2024"):
        tradeoff(compare(sweep()), published="me")
    with pytest.raises(ValueError, match=r"figures are of thickness, .* after 1 or 10 null"):
        tradeoff(compare(sweep()), published="melistas2024")
