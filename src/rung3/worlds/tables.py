"""Tables with known counterfactuals: the suite of CausalNF, and some whose noise is not additive.

Every world is its equations. Those of the suite are of Javaloy et al. 2023, *Causal normalizing
flows* (arXiv 2306.05415, appendix D; their code's `sem_equations`), "non-linear" there, and

    x := f(pa) + g(u)

in all of them, with `u ~ N(0, 1)`, or uniform in `backdoor`. The last three are ours: noise that
multiplies (`scaled`), whose size depends on a cause (`spread`), and whose shape does (`shaped`).
All are increasing in their noise, without which no data could tell their counterfactuals: of
`x u` and `-x u` both fit the same data, and they differ on the third rung where x changes sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rung3.data.rows import spell_unknown
from rung3.mechanisms import Equation
from rung3.scm.scm import SCM

__all__ = ["ADDITIVE", "SUITE", "suite"]

_LAYER = "softplus({} + 1) + softplus(u + 0.5) - 3"

SUITE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "triangle": {"x1": "u", "x2": "2*x1**2 + u", "x3": "20*sigmoid(x2**2 - x1) + u"},
        "chain": {"x1": "u", "x2": "exp(x1/2) + u/4", "x3": "(x2 - 5)**3/15 + u"},
        "fork": {
            "x1": "u",
            "x2": "u",
            "x3": "4*sigmoid(x1 + x2) - x2**2 + u/2",
            "x4": "20*sigmoid(x3 - x3**2/2) + u",
        },
        "simpson": {
            "x1": "u",
            "x2": "softplus(1 - x1) + sqrt(3/20)*u",
            "x3": "tanh(2*x2) + 1.5*x1 - 1 + tanh(u)",
            "x4": "(x3 - 4)/5 + 3 + u/sqrt(10)",
        },
        "symprod": {
            "x1": "u",
            "x2": "2*tanh(2*x1) + u/sqrt(10)",
            "x3": "x1*x2/2 + u/sqrt(2)",
            "x4": "tanh(1.5*x1) + sqrt(0.3)*u",
        },
        "backdoor": {
            "x1": "softplus(1.8*u) - 1",
            "x2": "1.5*(softplus(x1 + 1) + softplus(0.5) - 3) + u/4",
            **{f"x{k}": _LAYER.format(f"x{k - 2 if k > 3 else 1}") for k in range(3, 8)},
            "x8": "softplus(x6 + 1) - 1 + 0.3*u",
            "x9": "2 - softplus((1.3*x7 + x8)/3 + 1) - 0.6*where(u > 0.5, log(2 - 2*u), -log(2*u))",
        },
        "scaled": {"x1": "exp(u/2)", "x2": "x1*u", "x3": "x2 + softplus(x1 + x2)*u"},
        "spread": {"x1": "u", "x2": "sin(2*x1) + (0.2 + 0.8*sigmoid(3*x1))*u", "x3": "x2**2/4 + u"},
        "shaped": {"x1": "u", "x2": "exp(tanh(x1)*u) * u + u", "x3": "tanh(x2) + u/2"},
    }
)
"""The equations of each world, by variable."""

ADDITIVE = tuple(name for name in SUITE if name not in ("scaled", "spread", "shaped"))
"""The worlds whose noise is additive: those of CausalNF."""


def suite(name: str) -> SCM:
    """Build a world of the suite, by its name in `SUITE`.

    Args:
        name: `triangle`, `chain`, `fork`, `simpson`, `symprod`, `backdoor`; `scaled`, `spread`,
            `shaped`.

    Raises:
        ValueError: If there is none of this name.

    Example:
        >>> world = suite("chain")
        >>> factual = {"x1": 0.0, "x2": 1.0, "x3": 0.0}
        >>> round(float(world.counterfactual(factual, do={"x2": 5.0})["x3"]), 3)  # + 64 / 15
        4.267
    """
    if name not in SUITE:
        raise ValueError(f"the suite: {spell_unknown([name], SUITE)}")
    noise = "Uniform(0, 1)" if name == "backdoor" else None
    equations = {k: Equation(text, noise=noise) for k, text in SUITE[name].items()}
    return SCM(mechanisms=equations, world=name)
