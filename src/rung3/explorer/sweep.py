"""A sweep: a query with one variable at each value of its range, as a strip of images."""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from torch import Tensor

from rung3.data.variables import Discrete
from rung3.explorer.query import PageState
from rung3.explorer.session import Session

__all__ = ["Sweep", "run_sweep", "span"]

STEPS = 9
"""Values of a continuous variable, from one end of its range to the other."""

MIN_HEIGHT = 96
"""Height of a frame of a film, in pixels: smaller images are enlarged by a whole factor."""


@dataclass(frozen=True)
class Sweep:
    """A row as it would be at each value of one variable.

    Attributes:
        name: The variable.
        values: Its values, in its unit.
        labels: The values as text.
        images: For each image variable, the mean over draws at each value, `(steps, C, H, W)`;
            of volumes `(steps, C, D, H, W)`.
        numbers: For each scalar variable that follows, its draws at each value.
    """

    name: str
    values: list[float]
    labels: list[str]
    images: dict[str, Tensor]
    numbers: dict[str, list[Tensor]]

    def png(self, image: str) -> bytes:
        """Return the strip as a PNG file, each value below its image."""
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
        """Return a film as a GIF file: the range up and down, four frames a second."""
        from PIL import Image

        from rung3.data.pictures import image_png

        frames = [Image.open(io.BytesIO(image_png(f))).convert("RGB") for f in self.images[image]]
        times = max(1, -(-MIN_HEIGHT // frames[0].height))
        size = (times * frames[0].width, times * frames[0].height)
        large = [frame.resize(size, Image.Resampling.NEAREST) for frame in frames]
        file = io.BytesIO()
        loop = large + large[-2:0:-1]
        loop[0].save(
            file, "GIF", save_all=True, append_images=loop[1:], duration=250, loop=0, disposal=1
        )
        return file.getvalue()


def span(session: Session, name: str) -> tuple[float, float]:
    """Return the ends of a variable's slider: the range of the rows and a tenth more at each end.

    The range stays in the variable's support; for categories, it is the first and last code.
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


def run_sweep(
    session: Session, query: PageState, name: str, k: int = 0, steps: int = STEPS
) -> Sweep:
    """Answer a query of the third rung with one variable at each of its values.

    Raises:
        ValueError: If there is no such variable, it is not a single number, or it is held.
    """
    if name not in session.variables or session.variables[name].shape:
        raise ValueError(f"sweep: {name!r} is not a variable of one number")
    if query.rung != "imagining":
        raise ValueError("a sweep needs one row: choose 'imagine'")
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
    statuses = [status for answer in answers for status in answer.provenance.status.items()]
    follow = {key for key, status in statuses if status == "propagated"}
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
