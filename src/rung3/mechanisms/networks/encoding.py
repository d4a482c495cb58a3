"""Parents of mixed kinds, encoded as one vector of features: the only place where it is done.

| parent | features |
|---|---|
| continuous, scalar or vector | standardised with the training data's mean and deviation |
| continuous on a circle | cosine and sine of the angle |
| binary | -1 or 1 |
| ordinal | thermometer code, -1 or 1 for each threshold passed |
| categorical | one-hot |
| image | 32 features of a small convolutional network, any size and channels |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.data.precision import Precise
from rung3.data.variables import (
    Binary,
    Categorical,
    CensoredTime,
    Continuous,
    Image,
    Ordinal,
    Variable,
)
from rung3.mechanisms.base import Parents
from rung3.mechanisms.networks.spatial import conv

__all__ = ["Circle", "MLP", "ParentEncoder", "Standardise", "coding", "deviation"]

IMAGE_FEATURES = 32
"""Features of an image that is a parent."""

POINT_SCALE = 1e-3
"""Scale of a constant, in units of its precision: any noise then gives the constant back."""


def deviation(value: Tensor) -> Tensor:
    """Return the deviation of `(n, *shape)` values over rows; 1 where they are all the same."""
    constant = value.amax(0) == value.amin(0)  # whose deviation rounds to more than zero
    return torch.where(constant, 1.0, value.std(0, correction=0))


class Standardise(Precise):
    """`(x - loc) / scale` with statistics of the training data.

    Numbers in double are centred in double, and come out in the module's own type.
    """

    precise = "loc"
    loc: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("loc", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def calibrate(self, value: Tensor, point: bool = False) -> None:
        """Take mean and standard deviation from `(n, *shape)` values; a constant has scale 1.

        With `point`, a constant has a scale so small that any noise gives it back.
        """
        constant = value.amax(0) == value.amin(0)
        self.keep(torch.where(constant, value[0], value.mean(0)))  # a mean is rounded
        self.scale.copy_(deviation(value))
        if point:
            eps = torch.finfo(self.loc.dtype).eps
            small = POINT_SCALE * eps * self.loc.abs().clamp_min(eps)
            self.scale.copy_(torch.where(constant, small, self.scale))

    def forward(self, value: Tensor) -> Tensor:
        standard: Tensor = (self._exact(value) - self.loc) / self.scale
        return standard.to(self.scale.dtype)

    def inverse(self, value: Tensor) -> Tensor:
        """Map back to the original unit."""
        return self._exact(value) * self.scale + self.loc

    def _exact(self, value: Tensor) -> Tensor:
        return value.double() if self.wide else value


class Circle(nn.Module):
    """Points of a circle as `(cos, sin)` of their angles, so that its seam is nowhere.

    Args:
        variable: A circular variable, scalar or vector.

    Example:
        >>> hour = Circle(Continuous(lower=0, upper=24, circular=True))
        >>> hour.inverse(3 * hour(torch.tensor([6.0, 23.0])))  # an arrow's length has no effect
        tensor([ 6., 23.])
    """

    def __init__(self, variable: Continuous) -> None:
        super().__init__()
        self.variable = variable
        self.angle = 2 * math.pi / (variable.upper - variable.lower)
        self.shape = (*variable.shape, 2)

    def calibrate(self, value: Tensor) -> None:
        """Do nothing: a circle has a scale of its own."""

    def forward(self, value: Tensor) -> Tensor:
        """Turn points `(n, *shape)` into arrows `(n, *shape, 2)`."""
        angle = self.angle * (value - self.variable.lower)
        return torch.stack([angle.cos(), angle.sin()], dim=-1).to(torch.get_default_dtype())

    def inverse(self, arrow: Tensor) -> Tensor:
        """Turn arrows `(n, *shape, 2)`, of any length, into the points that they show to."""
        angle = torch.atan2(arrow[..., 1], arrow[..., 0])
        return self.variable.wrap(self.variable.lower + angle / self.angle)


class ParentEncoder(nn.Module):
    """A mapping of parents' values, in their own units, to features `(n, width)`.

    Args:
        parents: The parents' variables, by name.

    Example:
        >>> encoder = ParentEncoder({"digit": Categorical(3), "sick": Binary()})
        >>> encoder({"digit": torch.tensor([2]), "sick": torch.tensor([1])}, 1)
        tensor([[0., 0., 1., 1.]])
    """

    def __init__(self, parents: Mapping[str, Variable]) -> None:
        super().__init__()
        self.names = list(parents)
        self.encoders = nn.ModuleList(_encoder(variable) for variable in parents.values())
        self.width = sum(_width(variable) for variable in parents.values())

    def calibrate(self, parents: Parents) -> None:
        """Take the statistics of continuous parents from training data."""
        for name, encoder in zip(self.names, self.encoders, strict=True):
            if isinstance(encoder, _Real):
                encoder.standardise.calibrate(parents[name])

    def forward(self, parents: Parents, n: int) -> Tensor:
        """Return features `(n, width)`; `n` is the number of rows, needed without parents."""
        if not self.names:
            device = next((b.device for b in self.buffers()), None)
            return torch.empty(n, 0, device=device)
        encoded = [e(parents[k]) for k, e in zip(self.names, self.encoders, strict=True)]
        return _beside(encoded)

    def plain(self, parents: Parents, n: int) -> Tensor:
        """Return the same with numbers as they are, in double."""
        if not self.names:
            return self.forward(parents, n)
        parts = [
            parents[k].double().reshape(n, -1)
            if isinstance(e, _Real) and isinstance(e.standardise, Standardise)
            else e(parents[k])
            for k, e in zip(self.names, self.encoders, strict=True)
        ]
        return _beside(parts)


def _beside(parts: Iterable[Tensor]) -> Tensor:
    """Join parts `(n, d)` of a few numbers each, `(n, width)`: line by line, the faster way."""
    return torch.cat([part.T for part in parts]).T.contiguous()


def coding(variable: Variable) -> Standardise | Circle:
    """Return how numbers of a variable are given to a network, and read from it."""
    if isinstance(variable, Continuous) and variable.circular:
        return Circle(variable)
    return Standardise(variable.shape)


class _Real(nn.Module):
    def __init__(self, variable: Variable) -> None:
        super().__init__()
        self.standardise = coding(variable)

    def forward(self, value: Tensor) -> Tensor:
        standard: Tensor = self.standardise(value)
        return standard.reshape(len(value), -1)


class _Sign(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return 2 * value.to(torch.get_default_dtype()).unsqueeze(1) - 1


class _OneHot(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, value: Tensor) -> Tensor:
        return F.one_hot(value.long(), self.classes).to(torch.get_default_dtype())


class _Thermometer(nn.Module):
    thresholds: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("thresholds", torch.arange(1, classes))

    def forward(self, value: Tensor) -> Tensor:
        return 2 * (value.unsqueeze(1) >= self.thresholds).to(torch.get_default_dtype()) - 1


def _image_network(image: Image) -> nn.Module:
    axes = len(image.sizes)
    pool = nn.AdaptiveAvgPool2d(2) if axes == 2 else nn.AdaptiveAvgPool3d(2)
    return nn.Sequential(
        conv(axes, image.channels, 16, 3, stride=2, padding=1),
        nn.SiLU(),
        conv(axes, 16, 32, 3, stride=2, padding=1),
        nn.SiLU(),
        conv(axes, 32, 32, 3, stride=2, padding=1),
        nn.SiLU(),
        pool,
        nn.Flatten(),
        nn.Linear(32 * 2**axes, IMAGE_FEATURES),
    )


def _encoder(variable: Variable) -> nn.Module:
    match variable:
        case Image():
            return _image_network(variable)
        case Binary():
            return _Sign()
        case Ordinal(classes=classes):
            return _Thermometer(classes)
        case Categorical(classes=classes):
            return _OneHot(classes)
        case CensoredTime():
            raise ValueError(
                f"{variable} is not a cause of anything: of a censored one it is not known when it "
                "ends; leave out its arrows"
            )
        case _:
            return _Real(variable)


def _width(variable: Variable) -> int:
    match variable:
        case Image():
            return IMAGE_FEATURES
        case Binary():
            return 1
        case Ordinal(classes=classes):
            return classes - 1
        case Categorical(classes=classes):
            return classes
        case _:
            return math.prod(coding(variable).shape)


class _Constant(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Tensor) -> Tensor:
        return self.value.expand(len(features), -1)


def MLP(inputs: int, outputs: int, hidden: tuple[int, ...] = (64, 64)) -> nn.Module:
    """Make a perceptron `(n, inputs) -> (n, outputs)`; without inputs, a learned constant."""
    if inputs == 0:
        return _Constant(outputs)
    widths = (inputs, *hidden)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
