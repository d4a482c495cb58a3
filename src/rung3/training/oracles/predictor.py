"""`Predictor`: what reads a parent's value off an image, with a density once it is measured.

With rows that it was not trained on a predictor is measured, and then it has a density: `q(pa | x)`
is its softmax for categories, and `N(d(x), s^2)` for numbers, s the residual on those rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.data.distances import distance
from rung3.data.files import digest
from rung3.data.variables import Discrete, Image, Variable
from rung3.mechanisms.networks.encoding import coding

__all__ = ["Predictor"]

FINEST = 0.01
"""Least residual, in standard deviations of the variable: a smaller one would outweigh all else."""

AT_ONCE = 512
"""Rows at once when a predictor is measured."""


class Predictor(nn.Module):
    """Reads one variable off an image: subclasses say how, in `forward`.

    Args:
        image: The image it sees.
        target: The variable that it reads.

    Attributes:
        residual: Root mean square of what it misses on rows held out, standardised; NaN before
            `measure`, and for categories.
        explained: Share of the variable's uncertainty that it explains on those rows: of the
            variance for numbers, of the entropy for categories; NaN before `measure`.
    """

    residual: Tensor
    explained: Tensor

    def __init__(self, image: Image, target: Variable) -> None:
        super().__init__()
        self.image = image
        self.target = target
        self.standardise = coding(target)
        self.register_buffer("residual", torch.full(self.shape, torch.nan))
        self.register_buffer("explained", torch.tensor(torch.nan))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(n, classes)`, or the standardised value `(n, *shape)`."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the target as it is coded: `(2,)` for a point of a circle."""
        return self.standardise.shape

    def read(self, images: Tensor) -> Tensor:
        """Return the variable's value in its own unit, `(n, *shape)`, off images `(n, C, H, W)`."""
        return self.value(self(images.to(self.explained.device))).to(images.device)

    def value(self, reading: Tensor) -> Tensor:
        """Return the variable's value in its own unit, `(n, *shape)`, of what `forward` gives."""
        if isinstance(self.target, Discrete):
            codes: Tensor = reading.argmax(1)
            return codes
        value: Tensor = self.standardise.inverse(reading)
        return value

    def expected(self, images: Tensor) -> Tensor:
        """Return what it expects of images: probabilities `(n, classes)`, or numbers as coded."""
        reading: Tensor = self(images).to(self.explained.dtype)
        return reading.softmax(1) if isinstance(self.target, Discrete) else reading

    def goal(self, values: Tensor) -> Tensor:
        """Return values as `log_loss` takes them: class codes, or standardised."""
        if isinstance(self.target, Discrete):
            return values.long()
        standard: Tensor = self.standardise(values)
        return standard

    def log_loss(self, images: Tensor, sought: Tensor) -> Tensor:
        """Return `-log q(sought | images)` of each row, `(n,)`, in nats, of a measured predictor.

        Args:
            images: Images `(n, C, H, W)`; gradients reach them.
            sought: What they should show: from `goal`, or from `expected` of other images, and then
                it is the cross-entropy of what is expected of the two (but for a constant).
        """
        reading: Tensor = self(images).to(self.explained.dtype)
        if isinstance(self.target, Discrete):
            return F.cross_entropy(reading, sought, reduction="none")
        missed = ((reading - sought) / self.residual).square()
        nats: Tensor = 0.5 * missed + self.residual.log() + 0.5 * math.log(2 * math.pi)
        return nats.reshape(len(images), -1).sum(1)

    @torch.no_grad()
    def measure(self, images: Tensor, values: Tensor) -> None:
        """Take the residual, and the share explained, from rows that it was not trained on."""
        parts = (part.to(values.device) for part in images.split(AT_ONCE))
        reading = torch.cat([self(part) for part in parts])
        if isinstance(self.target, Discrete):
            shares = torch.bincount(values.long(), minlength=self.target.classes) / len(values)
            guessing = torch.special.entr(shares).sum()
            missed = F.cross_entropy(reading, values.long())
        else:
            sought = self.standardise(values)
            squares = (reading - sought).square()
            self.residual.copy_(squares.mean(0).sqrt().clamp_min(FINEST))
            missed, guessing = squares.mean(), (sought - sought.mean(0)).square().mean()
        self.explained.copy_((1 - missed / guessing).nan_to_num(0, 0, 0))

    def digest(self) -> str:
        """Return a few letters that change if any weight does, but not with `measure`."""
        measured = ("residual", "explained")
        weights = {k: part.float() for k, part in self.state_dict().items() if k not in measured}
        return digest(weights)

    def error(self, images: Tensor, values: Tensor) -> Tensor:
        """Return each row's error, `(n,)`: absolute, in its unit; 0 or 1 for categories."""
        return distance(self.target, self.read(images), values)
