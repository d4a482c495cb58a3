"""A sweep: one variable over its range, everything else of the query as it is, as a film strip."""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from torch import Tensor

from rung3.data.variables import Discrete
from rung3.explorer.query import PageState
from rung3.explorer.session import Session

__all__ = ["Sweep", "span", "sweep"]

STEPS = 9
EDGE = 96
"""Least height of a picture that is written, in pixels."""


@dataclass(frozen=True)
class Sweep:
    """What a row would be at each value of one variable.

    Attributes:
        name: The variable.
        values: Its values, in its own unit.
        labels: The same in words.
        images: Of each image variable, one a value, the mean over draws, `(steps, C, H, W)`.
        numbers: Of each other variable of one number that follows, its draws at each value.
    """

    name: str
    values: list[float]
    labels: list[str]
    images: dict[str, Tensor]
    numbers: dict[str, list[Tensor]]

    def png(self, image: str) -> bytes:
        """The film strip, each value below its picture."""
        from matplotlib.figure import Figure

        from rung3.data.pictures import show

        frames = self.images[image]
        figure = Figure(figsize=(1.2 * len(frames), 1.5), layout="constrained")
        for axes, frame, label in zip(
            figure.subplots(1, len(frames), squeeze=False)[0], frames, self.labels, strict=True
        ):
            show(axes, frame)
            axes.text(0.5, -0.06, label, ha="center", va="top", transform=axes.transAxes)
        figure.supxlabel(self.name)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=150)
        return file.getvalue()

    def gif(self, image: str) -> bytes:
        """The same as a film, there and back, four pictures a second."""
        from PIL import Image

        from rung3.explorer.png import image_png

        frames = [Image.open(io.BytesIO(image_png(f))).convert("RGB") for f in self.images[image]]
        times = max(1, -(-EDGE // frames[0].height))
        size = (times * frames[0].width, times * frames[0].height)
        large = [frame.resize(size, Image.Resampling.NEAREST) for frame in frames]
        file = io.BytesIO()
        loop = large + large[-2:0:-1]
        loop[0].save(
            file, "GIF", save_all=True, append_images=loop[1:], duration=250, loop=0, disposal=1
        )
        return file.getvalue()


def span(session: Session, name: str) -> tuple[float, float]:
    """Where a variable's slider goes: the range of the rows, a tenth more on either side.

    Within the variable's support; for categories, the first and the last code.
    """
    variable = session.variables[name]
    if isinstance(variable, Discrete):
        return 0.0, float(variable.classes - 1)
    values = session.rows[name]
    values = values[~variable.is_missing(values)]
    low, high = (float(v) for v in values.double().aminmax()) if len(values) else (0.0, 1.0)
    more = 0.1 * (high - low) or 1.0
    lower, upper = getattr(variable, "lower", low), getattr(variable, "upper", high)
    return max(low - more, lower), min(high + more, upper)


def sweep(session: Session, query: PageState, name: str, k: int = 0, steps: int = STEPS) -> Sweep:
    """Ask a query of the third rung with one variable at each of its values.

    Raises:
        ValueError: If there is no such variable, it is no single number, or it is held.
    """
    if name not in session.variables or session.variables[name].shape:
        raise ValueError(f"sweep: {name!r} is not a variable of one number")
    if query.rung != "imagining":
        raise ValueError("a sweep is of one row that is imagined anew: choose 'imagine'")
    variable = session.variables[name]
    if isinstance(variable, Discrete):
        values = [float(code) for code in range(variable.classes)]
        labels = [variable.label(code) for code in range(variable.classes)]
    else:
        low, high = span(session, name)
        values = torch.linspace(low, high, steps, dtype=torch.float64).tolist()
        labels = [f"{value:.3g}" for value in values]
    answers = [
        session.answer_of(query.model_copy(update={"do": {**query.do, name: value}}), k)
        for value in values
    ]
    follow = {k for a in answers for k, s in a.provenance.status.items() if s == "propagated"}
    images = {
        key: torch.stack([a.draws(key).double().mean(0) for a in answers]).float()
        for key in session.images
    }
    numbers = {
        key: [a.draws(key) for a in answers]
        for key, kind in session.variables.items()
        if key in follow and not kind.shape
    }
    return Sweep(name, values, labels, images, numbers)
