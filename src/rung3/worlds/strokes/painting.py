"""Coloured digits as mechanisms: a shape, drawn or of MNIST, painted in one colour.

    image := paint(shape(digit, thickness; u), hue, saturation)       (see
    `rung3.worlds.strokes.colorimetry`)

What the image's parents do not determine belongs to its noise, and no counterfactual changes it:

    digit uniform (of MNIST: that of a raw digit drawn from all), thickness ~ U(2, 4) px (of MNIST:
    as written), hue ~ U(0, 1), saturation 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Generator, Tensor

from rung3.data.readers.mnist import to_images
from rung3.data.rows import Noise
from rung3.mechanisms.base import Parents
from rung3.worlds.strokes.colorimetry import grey, measure_hue, measure_saturation, paint
from rung3.worlds.strokes.drawn import SIZE, draw, draw_noise
from rung3.worlds.strokes.morphometry import measure_thickness, set_thickness
from rung3.worlds.strokes.raw import RawRendering, raw_of
from rung3.worlds.strokes.rendering import Rendering

__all__ = ["DrawnColour", "PaintedMNIST", "baselines", "measures"]

PARTS = ("digit", "thickness", "hue", "saturation")
"""What a coloured digit may have among its parents."""


class Painting(Rendering):
    """A shape in a colour; noise: that of the shape, and `hue` if it is not a parent."""

    @abstractmethod
    def shape_noise(
        self, n: int, parents: Parents, generator: Generator | None
    ) -> dict[str, Tensor]:
        """Draw the noise of the shape, `(n, ...)`."""

    @abstractmethod
    def shape(self, noise: dict[str, Tensor], parents: Parents) -> Tensor:
        """Draw the shape in grey, `(n, 1, 32, 32)`, strokes on black."""

    def check_parents(self) -> None:
        if unknown := [name for name in self.parents if name not in PARTS]:
            raise ValueError(f"{self.name}: its parents may be {list(PARTS)}, got {unknown}")

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        noise = self.shape_noise(n, parents, generator)
        if "hue" not in self.parents:
            noise["hue"] = torch.rand(n, generator=generator, device=self.observed.device)
        return noise

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        if isinstance(noise, Tensor):
            raise ValueError(f"{self.name}: expected noise with named parts, got a tensor")
        n = len(next(iter(noise.values())))
        known = {name: value.expand(n) for name, value in parents.items()}
        shape = self.shape(noise, known)
        hue = known["hue"] if "hue" in known else noise["hue"]
        return paint(shape, hue, known.get("saturation", torch.ones_like(hue)))


class DrawnColour(Painting):
    """A digit drawn with a random handwriting, in a colour.

    Noise: the handwriting (see `rung3.worlds.digits`), and each of `digit`, `thickness` and `hue`
    that is not a parent.
    """

    def __init__(self) -> None:
        super().__init__()

    def build(self) -> None:
        self.check_parents()

    def shape_noise(
        self, n: int, parents: Parents, generator: Generator | None
    ) -> dict[str, Tensor]:
        noise, place = draw_noise(n, generator), self.observed.device
        if "digit" not in self.parents:
            noise["digit"] = torch.randint(10, (n,), generator=generator, device=place)
        if "thickness" not in self.parents:
            noise["thickness"] = 2 + 2 * torch.rand(n, generator=generator, device=place)
        return noise

    def shape(self, noise: dict[str, Tensor], parents: Parents) -> Tensor:
        given = {**noise, **parents}
        thickness = given["thickness"]
        white = torch.full_like(thickness, 255.0)
        return draw(noise, given["digit"].long(), thickness, white)


class PaintedMNIST(Painting, RawRendering):
    """A raw MNIST digit, dilated or eroded if thickness is a parent, in a colour.

    Noise: `raw` `(n, 1, 28, 28)`, its `label` `(n,)`, and `hue` if it is not a parent.

    Args:
        root: Folder of the MNIST IDX files.
        split: Where raw digits are drawn from.
    """

    def shape_noise(
        self, n: int, parents: Parents, generator: Generator | None
    ) -> dict[str, Tensor]:
        return self.digits.draw(self.name, n, parents.get("digit"), generator)

    def shape(self, noise: dict[str, Tensor], parents: Parents) -> Tensor:
        drawn = "the same world without root="
        written = raw_of(self.name, noise, parents.get("digit"), drawn).float() / 255
        if "thickness" in parents:
            written = set_thickness(written, parents["thickness"])
        return to_images(255 * written[:, 0], SIZE)


def measures(names: tuple[str, ...]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return how these variables are measured on images; the digit cannot be."""
    known: dict[str, Callable[[Tensor], Tensor]] = {
        "hue": measure_hue,
        "saturation": measure_saturation,
        "thickness": lambda images: measure_thickness(grey(images)),
    }
    return {name: known[name] for name in names if name in known}


def baselines(names: tuple[str, ...]) -> dict[str, Callable[..., Tensor]]:
    """Return baselines without a model: repainting, and re-morphing if thickness is a variable.

    Repainting keeps the shape, and so is exact where colour alone is changed.
    """
    known: dict[str, Callable[..., Tensor]] = {}
    if {"hue", "saturation"} & set(names):
        known["repainting"] = partial(repaint, morph=False)
    if "thickness" in names:
        known["re-morphing"] = partial(repaint, morph=True)
    return known


def repaint(
    image: Tensor, before: Mapping[str, Tensor], after: Mapping[str, Tensor], morph: bool
) -> Tensor:
    """Paint the factual shape in the counterfactual colour, `(n, 3, H, W)`: a baseline.

    Args:
        image: The factual image, `(n, 3, H, W)`.
        before: Its parents.
        after: Their counterfactual values.
        morph: Whether the shape is dilated or eroded to the counterfactual thickness, too.
    """
    shape = grey(image)
    if morph:
        shape = set_thickness(shape, after["thickness"])
    hue = after["hue"] if "hue" in after else measure_hue(image)
    saturation = after["saturation"] if "saturation" in after else measure_saturation(image)
    return paint(shape, hue, saturation)
