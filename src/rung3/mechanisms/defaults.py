"""The mechanism of a variable for which none is named."""

from __future__ import annotations

import math

from rung3.data.variables import Categorical, Continuous, Image, Variable
from rung3.mechanisms.base import Mechanism
from rung3.mechanisms.counts import Counts
from rung3.mechanisms.discrete import GumbelMax, InverseCDF
from rung3.mechanisms.flow import Flow
from rung3.mechanisms.vae import VAE

__all__ = ["default_mechanism"]


def default_mechanism(variable: Variable) -> Mechanism:
    """Return the mechanism that a variable of this kind gets where none is named.

    Example:
        >>> default_mechanism(Continuous(lower=0))
        Flow()
    """
    match variable:
        case Continuous(whole=True, lower=0, upper=math.inf, dim=None):
            return Counts()
        case Continuous():
            return Flow()
        case Categorical():
            return GumbelMax()
        case Image(bits=bits):
            return VAE() if bits else VAE(likelihood="gaussian")
        case _:
            return InverseCDF()
