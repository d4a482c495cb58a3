"""Morpho-MNIST as a world: the raw MNIST digit is the exogenous noise of its image.

    image := pad(set_intensity(set_thickness(raw, t), i)),      raw ~ MNIST digits of that class

So a true counterfactual re-renders the raw digit at the new thickness and intensity. MNIST has each
raw digit in one class only: under `do(digit)` one can sample (the raw digit is then drawn from the
new class), but what this very digit would have been is not known, and is refused.

Sources: Castro et al. 2019, *Morpho-MNIST* (JMLR 20); Pawlowski et al. 2020 (arXiv 2006.06485).
"""

from __future__ import annotations

from pathlib import Path

from torch import Generator, Tensor

from rung3.data.readers.mnist import Split, raw_mnist, to_images
from rung3.data.readers.morphomnist import WORLD
from rung3.data.rows import Noise
from rung3.data.variables import Image
from rung3.mechanisms.base import Parents
from rung3.scm.scm import SCM
from rung3.worlds.strokes.morphometry import set_intensity, set_thickness
from rung3.worlds.strokes.raw import RawRendering, raw_of
from rung3.worlds.strokes.rendering import StrokeRendering, stroke_world

__all__ = ["RawDigit", "morphomnist"]


def morphomnist(root: str | Path, split: Split = "train") -> SCM:
    """Build the true world of Morpho-MNIST "thickness-intensity" over a folder of raw MNIST files.

    It answers counterfactuals of rows that carry their raw digit: those that it samples, and those
    of `rung3.data.morphomnist(folder, mnist=root)`.

    Args:
        root: Folder of the MNIST IDX files.
        split: `"train"` or `"test"`: where the raw digits come from that it samples.

    Raises:
        ValueError: If a file is missing, truncated or altered.
    """
    _, labels = raw_mnist(root, split)
    return stroke_world(RawDigit(str(root), split), labels.long(), world=WORLD)


class RawDigit(RawRendering, StrokeRendering):
    """`image := render(raw, thickness, intensity)`; noise `raw` `(n, 1, 28, 28)`, `label` `(n,)`.

    Args:
        root: Folder of the MNIST IDX files.
        split: Where raw digits are drawn from.
    """

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return self.digits.draw(self.name, n, parents["digit"], generator)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        raw = raw_of(self.name, noise, parents["digit"], "worlds.digits()")
        drawn = set_thickness(raw.float() / 255, parents["thickness"])
        drawn = set_intensity(drawn, parents["intensity"])
        size = self.variable.height if isinstance(self.variable, Image) else raw.shape[-1]
        return to_images(255 * drawn[:, 0], size)
