"""What the worlds of digits share: thickness, intensity, and an image drawn from both.

    digit := GumbelMax of the classes' frequencies
    t := 0.5 + u,                              u ~ Gamma(10, 5)               (px)
    i := 64 + 191 sigmoid(2t - 5 + u/2),       u ~ N(0, 1)                    (grey levels)
    image := render(digit, t, i; u)

Source: Pawlowski et al. 2020 (arXiv 2006.06485), section 4.1 and appendix A.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.data.variables import Categorical, Continuous, Image
from rung3.mechanisms import Equation, GumbelMax
from rung3.mechanisms.base import Abduction, Mechanism, Parents
from rung3.scm.scm import SCM
from rung3.worlds.strokes.morphometry import (
    measure_intensity,
    measure_thickness,
    set_intensity,
    set_thickness,
)

__all__ = ["Rendering", "StrokeRendering", "remorph", "rescale", "stroke_world"]


class Rendering(Mechanism):
    """An image drawn by a known procedure, whose noise cannot be told from the pixels."""

    abduction: ClassVar[Abduction] = "exact"
    assumption: str = "the rendering is the true mechanism"

    @abstractmethod
    def check_parents(self) -> None:
        """Refuse parents that the rendering does not show.

        Raises:
            ValueError: Naming those given.
        """

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        """Refuse: a world abducts from the noise that its rows carry.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"{self.name}: noise unknown: it cannot be told from the pixels; ask with rows that "
            "carry it, as sample() and the readers give them"
        )

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Refuse: the density of the drawn images is not known.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{self.name}: the density of rendered images is not known")


class StrokeRendering(Rendering):
    """A rendering of a digit in grey, with a thickness and an intensity."""

    def check_parents(self) -> None:
        if set(self.parents) != {"digit", "thickness", "intensity"}:
            raise ValueError(
                f"{self.name}: its parents must be digit, thickness and intensity, "
                f"got {list(self.parents)}"
            )


def stroke_world(render: StrokeRendering, labels: Tensor, world: str) -> SCM:
    """Build the world of a rendering.

    Args:
        render: The mechanism of the image, 32 x 32.
        labels: Digits whose frequencies the world has, `(m,)`.
        world: Name of the world.
    """
    model = SCM(
        graph="thickness -> intensity; {digit thickness intensity} -> image",
        variables={
            "digit": Categorical(10),
            "thickness": Continuous(unit="px", lower=0),
            "intensity": Continuous(unit="grey level", lower=0, upper=255),
            "image": Image(1, 32, 32),
        },
        mechanisms={
            "digit": GumbelMax(),
            "thickness": Equation("0.5 + u", noise="Gamma(10, 5)", inverse="thickness - 0.5"),
            "intensity": Equation(
                "64 + 191*sigmoid(2*thickness - 5 + u/2)",
                inverse="2*(log((intensity - 64)/(255 - intensity)) - 2*thickness + 5)",
            ),
            "image": render,
        },
        world=world,
    )
    model.mechanisms["digit"].calibrate(labels, {})
    model.measures = {"thickness": measure_thickness, "intensity": measure_intensity}
    model.baselines = {"rescaling": rescale, "re-morphing": remorph}
    return model.requires_grad_(False).eval()


def rescale(image: Tensor, before: Parents, after: Parents) -> Tensor:
    """Multiply the factual image by the ratio of intensities, `(n, 1, H, W)`: a baseline."""
    factor = after["intensity"] / before["intensity"]
    return (image * factor[:, None, None, None]).clamp(0, 1)


def remorph(image: Tensor, before: Parents, after: Parents) -> Tensor:
    """Dilate or erode the factual image, and rescale it, `(n, 1, H, W)`: a baseline."""
    return set_intensity(set_thickness(image, after["thickness"]), after["intensity"])
