"""The likelihoods of pixels by name, for every image mechanism.

| name | pixels | |
|---|---|---|
| `"discretised"` | whole levels | the level nearest to `mu + sigma eps` |
| `"logistic"` | whole levels | the same with logistic noise, whose tails are longer |
| `"mixture"` | whole levels | a mixture of discretised logistics, channels given each other |
| `"gaussian"` | real numbers | `mu + sigma eps` |
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from rung3.data.variables import Image
from rung3.mechanisms.likelihoods.base import DiscretisedGaussian, Gaussian, Likelihood
from rung3.mechanisms.likelihoods.logistic import DiscretisedLogistic
from rung3.mechanisms.likelihoods.mixture import LogisticMixture

__all__ = ["Kind", "check_kind", "likelihood_of"]

Kind = Literal["discretised", "logistic", "mixture", "gaussian"]


def check_kind(likelihood: str) -> None:
    """Refuse a name that no likelihood has.

    Raises:
        ValueError: If it is none of those above.
    """
    if likelihood not in get_args(Kind):
        names = ", ".join(map(repr, get_args(Kind)))
        raise ValueError(f"likelihood={likelihood!r} must be one of {names}")


def likelihood_of(
    name: str, image: Image, likelihood: Kind, min_log_scale: float = -6.0
) -> Likelihood[Any]:
    """The likelihood of an image's pixels.

    Args:
        name: The variable's name, for errors.
        image: The variable.
        likelihood: One of the names above.
        min_log_scale: Lower bound of log-scales, with pixels from 0 to 1.

    Raises:
        ValueError: If pixels are real-valued and the likelihood is for whole levels, or the other
            way round; if the likelihood cannot have so many bits; or if the bound lies outside -12
            to 0.

    Example:
        >>> likelihood_of("scan", Image(3, 8, 8), "mixture").outputs(3)
        100
    """
    check_kind(likelihood)
    if likelihood == "gaussian":
        if image.bits is not None:
            raise ValueError(
                f"{name}: its pixels are whole levels (bits={image.bits}), and the likelihood is "
                "gaussian, for real-valued ones; use likelihood='discretised', the same for "
                "levels, or declare bits=None"
            )
        return Gaussian(min_log_scale)
    if image.bits is None:
        raise ValueError(
            f"{name}: its pixels are real-valued (bits=None), and the likelihood is {likelihood}, "
            "for whole levels; use likelihood='gaussian', or say how many bits they have"
        )
    if likelihood == "mixture":
        try:
            return LogisticMixture(image.bits, min_log_scale)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    kind = DiscretisedLogistic if likelihood == "logistic" else DiscretisedGaussian
    return kind(image.bits, min_log_scale)
