"""Mechanisms `x := f(pa, u)`, one family a file; `rung3.mechanisms.base` is their contract."""

from collections.abc import Mapping

from rung3.data.rows import spell_unknown
from rung3.data.variables import Variable
from rung3.graph import CausalGraph
from rung3.mechanisms.adapters import Conditional, ZukoFlow, from_dowhy
from rung3.mechanisms.additive.mechanism import AdditiveNoise
from rung3.mechanisms.at_bounds import AtBounds
from rung3.mechanisms.base import Mechanism
from rung3.mechanisms.contaminated import Contaminated
from rung3.mechanisms.defaults import default_mechanism
from rung3.mechanisms.discrete import GumbelMax, InverseCDF
from rung3.mechanisms.equation import Equation
from rung3.mechanisms.flow import Flow
from rung3.mechanisms.hvae import HVAE
from rung3.mechanisms.networks.stages import Stage
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
    "from_dowhy",
    "graph_of",
]


def graph_of(mechanisms: Mapping[str, Mechanism], variables: Mapping[str, Variable]) -> CausalGraph:
    """The graph that equations draw: their arguments are their parents.

    Raises:
        ValueError: If a mechanism does not say its parents.
    """
    silent = [name for name, mechanism in mechanisms.items() if mechanism.arguments is None]
    silent += [name for name in variables if name not in mechanisms]
    if silent or not mechanisms:
        raise ValueError(
            f"graph: not given, and {silent or 'nobody'} does not say its parents; "
            'give SCM(graph="a -> b; ...") or an Equation for every variable'
        )
    edges = [(parent, name) for name, m in mechanisms.items() for parent in m.arguments or ()]
    unknown = [parent for parent, _ in edges if parent not in mechanisms]
    if unknown:
        raise ValueError(f"an equation's argument: {spell_unknown(unknown, mechanisms)}")
    return CausalGraph(edges, nodes=list(mechanisms))
