"""Textbook worlds: small SCMs whose answers are known by hand."""

from __future__ import annotations

from rung3.data.variables import Continuous
from rung3.mechanisms import Equation
from rung3.scm.scm import SCM

__all__ = ["lecture", "uniform"]


def lecture() -> SCM:
    """Build `x1 := u1 + 1`, `x2 := 3 x1 + u2`, with standard normal noise (lecture 1.7.1).

    Example:
        >>> lecture().counterfactual({"x1": 2.0, "x2": 4.0}, do={"x1": 5.0})["x2"]
        tensor(13.)
    """
    return SCM(x1=Equation("u + 1"), x2=Equation("3*x1 + u"), world="lecture")


def uniform() -> SCM:
    """Build `x := 2u + 1`, `u ~ Uniform(0, 1)`: of density one half on [1, 3] (lecture, Figure 17).

    Example:
        >>> uniform().log_prob({"x": 2.0}).exp()
        tensor(0.5000)
    """
    return SCM(
        mechanisms={"x": Equation("2*u + 1", noise="Uniform(0, 1)")},
        variables={"x": Continuous(lower=1, upper=3)},
        world="uniform",
    )
