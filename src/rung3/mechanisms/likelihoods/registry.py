"""The likelihoods of pixels by name, for every image mechanism.

| name | pixels | |
|---|---|---|
| `"discretised"` | whole levels | the level nearest to `mu + sigma eps` |
| `"logistic"` | whole levels | the same with logistic noise, whose tails are longer |
| `"mixture"` | whole levels | a mixture of discretised logistics, channels given each other |
| `"gaussian"` | real numbers | `mu + sigma eps` |
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rung3.data.variables import Image
from rung3.mechanisms.likelihoods.base import Likelihood
from rung3.mechanisms.likelihoods.gaussian import DiscretisedGaussian, Gaussian
from rung3.mechanisms.likelihoods.logistic import DiscretisedLogistic
from rung3.mechanisms.likelihoods.mixture import LogisticMixture

__all__ = ["LIKELIHOODS", "check_likelihood", "likelihood_of"]

LIKELIHOODS: Mapping[str, type[Likelihood[Any]]] = MappingProxyType(
    {
        "discretised": DiscretisedGaussian,
        "logistic": DiscretisedLogistic,
        "mixture": LogisticMixture,
        "gaussian": Gaussian,
    }
)
"""The class of each name; one for whole levels is made with `bits`, and all with
`min_log_scale`."""


def check_likelihood(name: str) -> None:
    """Refuse a name that no likelihood has.

    Raises:
        ValueError: If it is none of those above.
    """
    if name not in [*LIKELIHOODS]:
        raise ValueError(f"likelihood={name!r} must be one of {', '.join(map(repr, LIKELIHOODS))}")


def likelihood_of(
    name: str, image: Image, likelihood: str, min_log_scale: float = -6.0
) -> Likelihood[Any]:
    """Return the likelihood of an image's pixels.

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
    check_likelihood(likelihood)
    kind = LIKELIHOODS[likelihood]
    if image.bits is not None and not kind.whole_levels:
        raise ValueError(
            f"{name}: its pixels are whole levels (bits={image.bits}), and the likelihood is "
            f"{likelihood}, for real-valued ones; use likelihood='discretised', the same for "
            "levels, or declare bits=None"
        )
    if image.bits is None and kind.whole_levels:
        raise ValueError(
            f"{name}: its pixels are real-valued (bits=None), and the likelihood is {likelihood}, "
            "for whole levels; use likelihood='gaussian', or say how many bits they have"
        )
    levels: dict[str, Any] = {"bits": image.bits} if kind.whole_levels else {}
    try:
        return kind(**levels, min_log_scale=min_log_scale)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
