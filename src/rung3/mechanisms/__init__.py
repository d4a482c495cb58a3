"""Mechanisms `x := f(pa, u)`, one family a file; `rung3.mechanisms.base` is their contract."""

from rung3.data.variables import Categorical, Continuous, Image, Variable
from rung3.mechanisms.adapters import Conditional, ZukoFlow
from rung3.mechanisms.additive.mechanism import AdditiveNoise
from rung3.mechanisms.at_bounds import AtBounds
from rung3.mechanisms.base import Mechanism
from rung3.mechanisms.contaminated import Contaminated
from rung3.mechanisms.discrete import GumbelMax, InverseCDF
from rung3.mechanisms.equation import Equation
from rung3.mechanisms.flow import Flow
from rung3.mechanisms.hvae import HVAE, Stage
from rung3.mechanisms.vae import VAE

__all__ = [
    "AdditiveNoise",
    "AtBounds",
    "Conditional",
    "Contaminated",
    "Equation",
    "Flow",
    "GumbelMax",
    "HVAE",
    "InverseCDF",
    "Mechanism",
    "Stage",
    "VAE",
    "ZukoFlow",
    "default_mechanism",
]


def default_mechanism(variable: Variable) -> Mechanism:
    """The mechanism that a variable of this kind gets where none is named.

    Example:
        >>> default_mechanism(Continuous(lower=0))
        Flow()
    """
    match variable:
        case Continuous():
            return Flow()
        case Categorical():
            return GumbelMax()
        case Image(bits=bits):
            return VAE() if bits else VAE(likelihood="gaussian")
        case _:
            return InverseCDF()
