"""The trade-off between composition and effectiveness (lecture, Figure 38), over several models.

    across   composition: how far an image drifts when nothing is changed
    up       effectiveness: the error of the attribute that was set, as it is read off the image
    colour   skill: how much nearer to the true counterfactual than doing nothing

One panel an intervention; the lower left is where one wants to be. A model that does nothing stands
at the left edge of every panel, high up, and its colour is that of no skill: that is why the three
belong together. Figures that others published are hollow: they are quoted, and their skill is not
known. Where a model has noise of observation (a VAE's eps) all three are of answers from
z alone, as with eps kept composition is exact by construction.

Source: Monteiro et al. 2023 (arXiv 2303.01274); De Sousa Ribeiro et al. 2023 (arXiv 2306.15764).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from rung3.data.distances import unit as unit_of
from rung3.data.pictures import ACCENT, INK, SEQUENTIAL
from rung3.evaluation.measures.base import FACTUAL, KEPT, LATENT, OBSERVED
from rung3.evaluation.report.compared import Compared
from rung3.evaluation.report.published import PUBLISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "Point", "check_published", "label", "panels", "tradeoff"]

ACROSS = 3
"""Panels in a line."""

LOG = 3.0
"""Ratio of the greatest value to the least from which on an axis is logarithmic."""

NAME = 7.5
"""Points of the letters of a model's name."""

LONG = 26
"""Letters of a name from which on a point has a number instead, and the name stands below."""

AWAY = 6
"""Points between a name and its point."""

PLACES = (
    *((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 2), (0, -2)),
    *((1, 3), (1, -3), (-1, 3), (-1, -3)),
)
"""Where names may stand, from near to far: to the right of their points and up, in such units."""

BEYOND = 20.0
"""How much worse a name lies over an axis's own text than over another name."""

Interval = tuple[float, float, float]
"""Mean, low and high; all the same where there is no interval."""


class Point(NamedTuple):
    """A model in a panel.

    Attributes:
        name: Of the model.
        composition: Drift of the image, in its unit.
        effectiveness: Error of the attribute, in its unit; for categories the share misread.
        skill: Of the image; `None` where the truth is not known.
    """

    name: str
    composition: Interval
    effectiveness: Interval
    skill: float | None

    @property
    def place(self) -> tuple[float, float]:
        """Where it stands in its panel."""
        return self.composition[0], self.effectiveness[0]


@dataclass(frozen=True)
class Panel:
    """One intervention.

    Attributes:
        title: Its label.
        across: What composition is in.
        up: What effectiveness is in.
        points: The models.
        floor: Error of the same reading on real test images.
        published: What others published of theirs.
    """

    title: str
    across: str
    up: str
    points: list[Point]
    floor: float | None
    published: Sequence[Point] = ()

    @property
    def drawn(self) -> list[Point]:
        """All points, those that were published last."""
        return [*self.points, *self.published]


def panels(comparison: Compared, times: int = 1, published: str | None = None) -> list[Panel]:
    """Return what the figure shows, as numbers: a panel for each intervention on an attribute.

    Args:
        comparison: The models.
        times: Null interventions one after the other, as many as the reports have: 1 or 10.
        published: Whose figures to add, a key of `PUBLISHED`; for their own data set only.

    Returns:
        Those in which two models or more have composition and effectiveness.

    Raises:
        ValueError: If no such figures are known, or they are of other variables.
    """
    if published is not None:
        check_published(published)
    shown = [
        replace(panel, published=_published(panel, times, published))
        for panel in _panels(comparison, str(times))
    ]
    if published is not None and not any(panel.published for panel in shown):
        raise ValueError(
            f"published={published!r}: its figures are of "
            f"{', '.join(PUBLISHED[published][0].effectiveness)}, after "
            f"{' or '.join(map(str, PUBLISHED[published][0].composition))} null interventions; no "
            "panel here is"
        )
    return [panel for panel in shown if len(panel.points) + len(panel.published) > 1]


def check_published(published: str, variables: Collection[str] | None = None) -> None:
    """Refuse figures that are not known, or of none of the variables.

    Args:
        published: A key of `PUBLISHED`.
        variables: Names of the variables that there are, if known.

    Raises:
        ValueError: If so.
    """
    if published not in PUBLISHED:
        raise ValueError(f"published={published!r}: expected one of {', '.join(PUBLISHED)}")
    known = PUBLISHED[published][0].effectiveness
    if variables is not None and known.keys().isdisjoint(variables):
        raise ValueError(
            f"published={published!r}: its figures are of {', '.join(known)}, and there are only "
            f"{', '.join(variables)}; leave published out"
        )


def _published(panel: Panel, times: int, published: str | None) -> list[Point]:
    """Return what was published of the variable that a panel is about."""
    name = panel.title.removeprefix("do(").removesuffix(")")
    points = []
    for model in PUBLISHED[published] if published else ():
        drift, error = model.composition.get(times), model.effectiveness.get(name)
        if drift is not None and error is not None:
            shown = f"{model.name} (published)"
            points.append(Point(shown, (drift,) * 3, (error,) * 3, None))
    return points


def tradeoff(comparison: Compared, times: int = 1, published: str | None = None) -> Figure:
    """Draw composition against effectiveness, with skill as colour; runs of a sweep are joined.

    In a sweep over two settings, such as family and epochs, each value of the first has its line.

    Args:
        comparison: The models.
        times: Null interventions one after the other, as many as the reports have: 1 or 10.
        published: Whose figures to add, such as `"melistas2024"` on Morpho-MNIST.

    Returns:
        A matplotlib figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If no intervention has two models of known composition and effectiveness, or no
            such figures were published.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    shown = panels(comparison, times, published)
    if not shown:
        counts = {path[-1]: None for path in comparison.entries if path[0] == "composition"}
        raise ValueError(
            f"tradeoff: no intervention has composition ({times} times; known: "
            f"{', '.join(counts) or 'none'}) and effectiveness on an image in two runs or more"
        )
    skills = [p.skill for panel in shown for p in panel.points if p.skill is not None]
    scale = Normalize(min(skills), max(skills)) if skills else None
    shades = ScalarMappable(scale, SEQUENTIAL)
    down, across = -(-len(shown) // ACROSS), min(ACROSS, len(shown))
    key = _key(point.name for panel in shown for point in panel.drawn)
    size = (3.5 * across + 0.6 * bool(skills), 3.5 * down + 1.6 * NAME / 72 * len(key))
    figure = Figure(figsize=size, layout="constrained")
    if key:
        lines = "\n".join(f"{number}  {name}" for name, number in key.items())
        figure.supxlabel(lines, x=0.01, ha="left", fontsize=NAME, color=INK)
    axes_list = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in axes_list[len(shown) :]:
        axes.set_axis_off()
    for axes, panel in zip(axes_list, shown, strict=False):
        _draw(axes, panel, shades)
    if skills:
        bar = figure.colorbar(shades, ax=axes_list, aspect=28, pad=0.015)
        bar.set_label("skill", color=INK, fontsize=8)
        bar.ax.tick_params(colors=INK, labelsize=7)
        bar.outline.set_visible(False)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes, panel in zip(axes_list, shown, strict=False):
        names = [key.get(point.name, point.name) for point in panel.drawn]
        label(axes, names, [point.place for point in panel.drawn], INK)
    return figure


def _key(names: Iterable[str]) -> dict[str, str]:
    """Return a number for each name that is too long to stand beside its point."""
    long = dict.fromkeys(name for name in names if len(name) > LONG)
    return {name: str(number) for number, name in enumerate(long, 1)}


def _panels(comparison: Compared, times: str) -> Iterator[Panel]:
    """Yield panels read by oracles where there are any, as in the papers, else by measurement."""
    seen = set()
    for section in ("effectiveness", "measured"):
        for image, by_title in comparison.metrics.get(section, {}).items():
            for title, by_name in by_title.items():
                for name, by_mode in by_name.items():
                    if title == f"do({name})" and (image, name) not in seen:
                        seen.add((image, name))
                        yield _panel(comparison, section, image, title, name, times, by_mode)


def _panel(
    comparison: Compared,
    section: str,
    image: str,
    title: str,
    name: str,
    times: str,
    by_mode: Mapping[str, Any],
) -> Panel:
    def of(run: str, *path: str) -> Any:
        entry = comparison.entries.get(path)
        return None if entry is None else entry["runs"][run]

    def drift_of(run: str, mode: str) -> Any:
        return of(run, "composition", image, mode, times)

    first, unit = next(iter(comparison.reports)), next(iter(by_mode.values()))["unit"]
    right = unit == "accuracy"
    points = []
    for run in comparison.reports:
        mode = LATENT if drift_of(run, LATENT) else KEPT
        drift = _interval(drift_of(run, mode))
        error = _interval(of(run, section, image, title, name, mode), right)
        skill = of(run, "truth", title, image, mode, "skill")
        if drift and error:
            points.append(Point(run, drift, error, skill and skill["mean"]))
    repeated = "" if times == "1" else f" {times} times"
    grey = unit_of(comparison.reports[first].variables[image])
    what = f"{name} misread, share" if right else f"error of {name}, {unit}".rstrip(", ")
    up = f"effectiveness: {what}"
    floor = _interval(of(first, section, image, FACTUAL, name, OBSERVED), right)
    across = f"composition{repeated}: drift of {image}, {grey}"
    return Panel(title, across, up, points, floor and floor[0])


def _interval(mean: Mapping[str, Any] | None, share_right: bool = False) -> Interval | None:
    """Return mean, low and high, so that lower is better."""
    if mean is None or mean["mean"] is None:
        return None
    low, high = (mean[k] if mean[k] is not None else mean["mean"] for k in ("low", "high"))
    if share_right:
        return 1 - mean["mean"], 1 - high, 1 - low
    return mean["mean"], low, high


def _draw(axes: Axes, panel: Panel, shades: Any) -> None:
    xs, ys = [p.composition for p in panel.points], [p.effectiveness for p in panel.points]
    for line in _lines(panel.points):
        joined = [point.place for point in line]
        axes.plot(*zip(*joined, strict=True), color=INK, linewidth=0.8, alpha=0.5, zorder=1)
    for point, x, y in zip(panel.points, xs, ys, strict=True):
        colour = INK if point.skill is None else shades.to_rgba(point.skill)
        axes.errorbar(
            x[0], y[0], xerr=_arms(x), yerr=_arms(y), color=INK, linewidth=0.8, zorder=2
        )  # fmt: skip
        axes.plot(
            x[0], y[0], "o", color=colour, markersize=9, markeredgecolor=INK, markeredgewidth=0.6
        )
    for point in panel.published:
        axes.plot(*point.place, "D", color="none", markersize=7, markeredgecolor=INK)
    if panel.floor is not None:
        axes.axhline(panel.floor, color=INK, linewidth=0.8, linestyle=":", zorder=0)
        low, high = min(panel.drawn, key=_up), max(panel.drawn, key=_up)
        end = int(low.place[0] < high.place[0])  # away from the point that is nearest to the line
        axes.annotate(
            "real images", (end, panel.floor), xycoords=("axes fraction", "data"),
            ha=("left", "right")[end], xytext=(2 - 4 * end, 2), textcoords="offset points",
            fontsize=7, color=INK,
        )  # fmt: skip
    spans = [p.composition for p in panel.drawn], [p.effectiveness for p in panel.drawn]
    ends = [[end for span in values for end in span] for values in spans]
    ends[1] += [] if panel.floor is None else [panel.floor]
    for axis, values in zip(("x", "y"), ends, strict=True):
        _scale(axes, axis, values)
    axes.set_title(panel.title, fontsize=9, color=INK, loc="left")
    axes.set_xlabel(panel.across, fontsize=8, color=INK)
    axes.set_ylabel(panel.up, fontsize=8, color=INK)
    axes.tick_params(which="both", colors=INK, labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.annotate(
        "better", (0.87, 0.87), (0.995, 0.995), xycoords="axes fraction", ha="right", va="top",
        fontsize=8, color=ACCENT, arrowprops={"arrowstyle": "->", "color": ACCENT},
    )  # fmt: skip


def _up(point: Point) -> float:
    return point.place[1]


def _lines(points: list[Point]) -> list[list[Point]]:
    """Return the points of each line, sorted by the number that ends their names.

    Of a sweep over two settings, such as `kind=HVAE,epochs=2`, the last is followed along a line,
    and each value of the other has its own; a point without a number is on none.
    """
    lines: dict[str, list[tuple[float, Point]]] = {}
    for point in points:
        swept = re.fullmatch(r"(.+)=([-+.\de]+)", point.name)
        if swept is not None:
            lines.setdefault(swept[1], []).append((float(swept[2]), point))
    return [[point for _, point in sorted(line, key=itemgetter(0))] for line in lines.values()]


def _arms(value: Interval) -> list[list[float]]:
    mean, low, high = value
    return [[max(0.0, mean - low)], [max(0.0, high - mean)]]


def _scale(axes: Axes, axis: str, values: list[float]) -> None:
    """Make an axis logarithmic where values span much, and leave room at its ends."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = min(values), max(values)
    if low > 0 and high / low >= LOG:
        room = (high / low) ** 0.15
        axes.set(**{f"{axis}scale": "log", f"{axis}lim": (low / room, high * room)})
        side = axes.xaxis if axis == "x" else axes.yaxis
        side.set_major_locator(LogLocator(subs=(1, 2, 5)))
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        side.set_minor_locator(NullLocator())
        side.set_minor_formatter(NullFormatter())
    else:
        room = 0.15 * (high - low or abs(high) or 1.0)
        axes.set(**{f"{axis}lim": (low - room if low > 0 or low < 0 else -room, high + room)})


class Box(NamedTuple):
    """Centre and half sides of what is in the way, in pixels."""

    x: float
    y: float
    wide: float
    high: float

    def overlap(self, other: Box) -> float:
        """Return the area that two boxes share."""
        across = self.wide + other.wide - abs(self.x - other.x)
        up = self.high + other.high - abs(self.y - other.y)
        return max(0.0, across) * max(0.0, up)


def label(
    axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float]], ink: str
) -> None:
    """Write each name beside its point, once limits and layout of the axes stand.

    Args:
        axes: The axes.
        names: A name for each point.
        points: In data coordinates.
        ink: Colour of the names.
    """
    pixel = axes.figure.dpi / 72
    frame = axes.get_window_extent()
    side = AWAY * pixel
    taken = [Box(x, y, side, side) for x, y in axes.transData.transform(points)]
    for name, point, box in zip(names, points, list(taken), strict=True):
        wide, high = 0.3 * NAME * len(name) * pixel, 0.6 * NAME * pixel
        places = {
            (right, up): Box(box.x + right * (box.wide + wide), box.y + up * box.high, wide, high)
            for right, up in PLACES
        }
        cost = {
            place: _outside(box, frame.x0, frame.x1) + sum(map(box.overlap, taken))
            for place, box in places.items()
        }
        right, up = min(cost, key=lambda place: cost[place])
        taken.append(places[right, up])
        axes.annotate(
            name, point, (right * AWAY, up * AWAY), textcoords="offset points", fontsize=NAME,
            color=ink, ha=("center", "left", "right")[right], va="center",
        )  # fmt: skip


def _outside(box: Box, left: float, right: float) -> float:
    """Return the cost of a box that lies beyond the left or the right, over an axis's own text."""
    return BEYOND * max(0.0, box.x + box.wide - right, left - box.x + box.wide) * box.high
