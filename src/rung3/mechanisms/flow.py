"""`Flow`: a continuous variable as an invertible function of its noise, given its parents.

`x = f(pa, u)`, `u ~ N(0, I)`, `u = f^-1(x; pa)`, and by change of variables (lecture 1.8.1)

    log p(x | pa) = log p_U(u) + log |det du/dx|.

From x to u: the support is mapped to the real line, standardised, sent through an affine map whose
location and scale are functions of the parents, and then through neural splines that depend on the
parents too (Durkan et al. 2019, arXiv 1906.04032). Splines are the identity outside their box,
whatever the parents; the affine map before them makes the parents act everywhere. What a spline
depends on is held within `REACH` deviations, and its slopes within `STEEP`: beyond, its bins would
grow so steep that single precision cannot carry a value to its noise and back.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from rung3.mechanisms.base import Abduction, Mechanism, Parents, one_tensor, repeat_noise
from rung3.mechanisms.encoding import ParentEncoder, Standardise
from rung3.mechanisms.support import ToReal
from rung3.rows import Noise
from rung3.variables import Continuous

__all__ = ["Flow"]

REACH = 3.0
STEEP = 100.0


class Flow(Mechanism):
    """A conditional neural spline flow, for scalars and vectors; noise of the value's shape.

    Args:
        splines: Number of spline transformations after the affine one (0: conditional Gaussian).
        bins: Bins of each spline, at least 2.
        hidden: Widths of the networks from the parents to the transformations' parameters.

    Raises:
        ValueError: If there are fewer than 0 splines or 2 bins; on `build`, if the variable is not
            continuous.

    Example:
        >>> from rung3 import Continuous
        >>> mechanism = Flow().bind("thickness", Continuous(lower=0), {})
        >>> x = torch.tensor([0.5, 2.0, 40.0])
        >>> torch.allclose(mechanism.predict(mechanism.abduct(x, {}), {}), x, rtol=1e-4)
        True
    """

    abduction: ClassVar[Abduction] = "exact"
    learning_rate: ClassVar[float] = 1e-2
    assumption: str = "monotone in Gaussian noise (each coordinate given those before)"

    def __init__(
        self, splines: int = 1, bins: int = 16, hidden: tuple[int, ...] = (32, 32)
    ) -> None:
        super().__init__()
        if splines < 0 or bins < 2:
            raise ValueError(f"splines={splines} must be at least 0, and bins={bins} at least 2")
        self.splines = splines
        self.bins = bins
        self.hidden = tuple(hidden)

    def build(self) -> None:
        if not isinstance(self.variable, Continuous):
            raise ValueError(
                f"{self.name}: Flow models numbers, and {self.name} is {self.variable}; "
                "use GumbelMax or InverseCDF for categories and VAE for images"
            )
        self.features = self.variable.dim or 1
        self.encoder = ParentEncoder(self.parents)
        self.to_real = ToReal(self.variable)
        self.standardise = Standardise(self.variable.shape)
        self.layers = nn.ModuleList(self._layers())

    def _layers(self) -> list[nn.Module]:
        from zuko.flows.autoregressive import MaskedAutoregressiveTransform
        from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

        shape: dict[str, Any] = {
            "features": self.features,
            "context": self.encoder.width,
            "hidden_features": self.hidden,
        }
        affine = {"univariate": MonotonicAffineTransform, "shapes": [(), ()]}
        knots = [(self.bins,), (self.bins,), (self.bins - 1,)]
        rational = partial(MonotonicRQSTransform, slope=1 / STEEP)
        spline = {"univariate": rational, "shapes": knots}
        layers: list[nn.Module] = []
        for index, univariate in enumerate([affine, *[spline] * self.splines]):
            order = torch.arange(self.features)
            order = order.flip(0) if index % 2 else order
            layer = MaskedAutoregressiveTransform(**shape, **univariate, order=order)
            if univariate is spline and self.features + self.encoder.width > 1:
                layer.hyper.insert(0, nn.Hardtanh(-REACH, REACH))
            layers.append(layer)
        return layers

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Take units, location and scale from the training data."""
        self.encoder.calibrate(parents)
        self.to_real.calibrate(value)
        self.standardise.calibrate(self.to_real(value)[0])

    def _transforms(self, parents: Parents, n: int) -> list[Any]:
        context = self.encoder(parents, n) if self.encoder.width else None
        return [layer(context) for layer in self.layers]

    def _to_noise(self, value: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """`u` as `(n, features)` and `log |det du/dx|` as `(n,)`."""
        n = len(value)
        real, slope = self.to_real(value)
        slope = (slope - self.standardise.scale.log()).reshape(n, -1).sum(1)
        u = self.standardise(real).reshape(n, self.features)
        for transform in self._transforms(parents, n):
            u, ladj = transform.call_and_ladj(u)
            slope = slope + ladj.reshape(n, -1).sum(1)
        return u, slope

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        shape = (n, *self.variable.shape)
        return torch.randn(shape, generator=generator, device=self.observed.device)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        u = one_tensor(noise, self.name)
        n = len(u)
        real = u.reshape(n, self.features)
        for transform in reversed(self._transforms(parents, n)):
            real = transform.inv(real)
        return self.to_real.inverse(self.standardise.inverse(real.reshape(u.shape)))

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        u, _ = self._to_noise(value, parents)
        return repeat_noise(u.reshape(value.shape), particles)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        u, slope = self._to_noise(value, parents)
        return -0.5 * (u.square() + math.log(2 * math.pi)).sum(1) + slope
