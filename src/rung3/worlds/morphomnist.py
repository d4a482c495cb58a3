"""Morpho-MNIST as a world: the raw MNIST digit is the exogenous noise of its image.

    image := pad(set_intensity(set_thickness(raw, t), i)),      raw ~ MNIST digits of that class

So a true counterfactual re-renders the raw digit at the new thickness and intensity. MNIST has each
raw digit in one class only: under `do(digit)` one can sample (the raw digit is then drawn from the
new class), but what this very digit would have been is not known, and is refused.

Sources: Castro et al. 2019, *Morpho-MNIST* (JMLR 20); Pawlowski et al. 2020 (arXiv 2006.06485).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Generator, Tensor

from rung3.data.mnist import Split, raw_mnist, to_images
from rung3.data.morphomnist import WORLD
from rung3.mechanisms.base import Parents
from rung3.morphometry import set_intensity, set_thickness
from rung3.rows import Noise
from rung3.scm import SCM
from rung3.variables import Image
from rung3.worlds.strokes import Rendering, stroke_world

__all__ = ["RawDigit", "morphomnist"]


def morphomnist(root: str | Path, split: Split = "train") -> SCM:
    """The true world of Morpho-MNIST "thickness-intensity", over a folder of raw MNIST files.

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


class RawDigit(Rendering):
    """`image := render(raw, thickness, intensity)`; noise `raw` `(n, 1, 28, 28)`, `label` `(n,)`.

    Args:
        root: Folder of the MNIST IDX files.
        split: Where raw digits are drawn from.
    """

    raw: Tensor
    starts: Tensor
    counts: Tensor

    def __init__(self, root: str, split: Split = "train") -> None:
        super().__init__()
        self.root = root
        self.split = split

    def build(self) -> None:
        self.check_parents()
        images, labels = raw_mnist(self.root, self.split)
        counts = torch.bincount(labels.long(), minlength=10)
        by_class = images[labels.argsort(stable=True)].unsqueeze(1)
        self.register_buffer("raw", by_class, persistent=False)
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        digit = parents["digit"].long().expand(n)
        if (self.counts[digit] == 0).any():
            raise ValueError(f"{self.name}: {self.root} has no raw digit of some class asked for")
        share = torch.rand(n, generator=generator, device=digit.device, dtype=torch.float64)
        place = (share * self.counts[digit]).long()
        return {"raw": self.raw[self.starts[digit] + place], "label": digit}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        if isinstance(noise, Tensor) or noise.keys() != {"raw", "label"}:
            raise ValueError(f"{self.name}: expected noise with the parts raw and label")
        raw, label = noise["raw"], noise["label"]
        other = (label != parents["digit"]).nonzero().flatten()
        if len(other):
            row = int(other[0])
            raise ValueError(
                f"{self.name}: the raw digit of row {row} is a {int(label[row])}, and what it "
                f"would have been as a {int(parents['digit'].expand(len(label))[row])} is not "
                "known: MNIST has no true counterfactual under do(digit); worlds.digits() has"
            )
        drawn = set_thickness(raw.float() / 255, parents["thickness"])
        drawn = set_intensity(drawn, parents["intensity"])
        size = self.variable.height if isinstance(self.variable, Image) else raw.shape[-1]
        return to_images(255 * drawn[:, 0], size)
