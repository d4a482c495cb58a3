"""Raw MNIST digits as exogenous noise: drawn by class, and known in that class alone."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from rung3.data.readers.mnist import Split, raw_mnist
from rung3.data.rows import Noise
from rung3.worlds.strokes.rendering import Rendering

__all__ = ["RawDigits", "RawRendering", "raw_of"]


class RawDigits(nn.Module):
    """The raw digits of a folder, by class.

    Args:
        root: Folder of the MNIST IDX files.
        split: `"train"` or `"test"`.

    Raises:
        ValueError: If a file is missing, truncated or altered.
    """

    raw: Tensor
    starts: Tensor
    counts: Tensor

    def __init__(self, root: str, split: Split) -> None:
        super().__init__()
        self.root = root
        images, labels = raw_mnist(root, split)
        counts = torch.bincount(labels.long(), minlength=10)
        by_class = images[labels.argsort(stable=True)].unsqueeze(1)
        self.register_buffer("raw", by_class, persistent=False)
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)

    def draw(
        self, name: str, n: int, digit: Tensor | None, generator: Generator | None
    ) -> dict[str, Tensor]:
        """Draw noise `raw` `(n, 1, 28, 28)`, uint8, and `label` `(n,)`.

        Args:
            name: The image's name, for errors.
            n: Number of rows.
            digit: Class of each row `(n,)` or `(1,)`; any class if not given.
            generator: Source of randomness.

        Raises:
            ValueError: If there is no digit of some class.
        """
        share = torch.rand(n, generator=generator, device=self.raw.device, dtype=torch.float64)
        if digit is None:
            place = (share * len(self.raw)).long()
            label = torch.searchsorted(self.starts, place, right=True) - 1
            return {"raw": self.raw[place], "label": label}
        digit = digit.long().expand(n)
        if (self.counts[digit] == 0).any():
            raise ValueError(f"{name}: {self.root} has no raw digit of some class asked for")
        place = (share * self.counts[digit]).long()
        return {"raw": self.raw[self.starts[digit] + place], "label": digit}


class RawRendering(Rendering):
    """A rendering whose noise is a raw MNIST digit.

    Args:
        root: Folder of the MNIST IDX files.
        split: Where raw digits are drawn from.
    """

    def __init__(self, root: str, split: Split = "train") -> None:
        super().__init__()
        self.root = root
        self.split = split

    def build(self) -> None:
        self.check_parents()
        self.digits = RawDigits(self.root, self.split)


def raw_of(name: str, noise: Noise, digit: Tensor | None, drawn: str) -> Tensor:
    """Return the raw digits in noise, `(n, 1, 28, 28)`, if they are of the class asked for.

    Args:
        name: The image's name, for errors.
        noise: What `RawDigits.draw` gave.
        digit: Class that each row is to have; any if not given.
        drawn: The world over drawn digits, which knows what this one does not.

    Raises:
        ValueError: If the noise is not of such a kind, or a raw digit is of another class.
    """
    if isinstance(noise, Tensor) or not noise.keys() >= {"raw", "label"}:
        raise ValueError(f"{name}: expected noise with the parts raw and label")
    raw, label = noise["raw"], noise["label"]
    if digit is not None and (label != digit).any():
        row = int((label != digit).nonzero()[0])
        raise ValueError(
            f"{name}: the raw digit of row {row} is a {int(label[row])}, and what it "
            f"would have been as a {int(digit.expand(len(label))[row])} is not "
            f"known: MNIST has no true counterfactual under do(digit); {drawn} has"
        )
    return raw
