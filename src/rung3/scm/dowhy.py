"""Models of DoWhy-GCM, taken over with what they have learned."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from rung3.data.variables import Continuous, Variable
from rung3.graph.causal_graph import CausalGraph
from rung3.mechanisms.additive.mechanism import AdditiveNoise
from rung3.mechanisms.base import Mechanism
from rung3.scm.scm import SCM

__all__ = ["from_dowhy"]


def from_dowhy(model: Any, variables: Mapping[str, Variable] | None = None) -> SCM:
    """Turn a graph of DoWhy-GCM into an `SCM`, with the regressions that it has learned.

    Nodes with a fitted `AdditiveNoiseModel` whose parents are numbers bring their regression, which
    stays as it is; the distribution of their noise, and all other mechanisms, are what `fit` then
    learns. DoWhy itself is not needed.

    Args:
        model: A causal model of `dowhy.gcm`, such as an `InvertibleStructuralCausalModel`.
        variables: What the columns are, where they are not numbers.

    Raises:
        ValueError: If it has no graph with causal mechanisms.
    """
    try:
        arrows = [(str(a), str(b)) for a, b in model.graph.edges]
        nodes = {str(node): model.graph.nodes[node] for node in model.graph.nodes}
    except AttributeError:
        raise ValueError(f"expected a causal model of dowhy.gcm, got {model!r}") from None
    kinds = dict(variables or {})
    graph = CausalGraph.of(sorted(nodes), arrows)  # DoWhy's parents are in this order, too
    mechanisms: dict[str, Mechanism] = {}
    for name in graph.nodes:
        brought = getattr(nodes[name].get("causal_mechanism"), "prediction_model", None)
        parents = [kinds.get(parent, Continuous()) for parent in graph.parents(name)]
        scalar = all(isinstance(kind, Continuous) and not kind.shape for kind in parents)
        if brought is not None and scalar and isinstance(kinds.get(name, Continuous()), Continuous):
            mechanisms[name] = AdditiveNoise(regressor=_Fitted(copy.deepcopy(brought)))
    return SCM(graph, kinds, mechanisms)


class _Fitted:
    """A regression that is not fitted again."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, features: Any, target: Any) -> _Fitted:
        return self

    def predict(self, features: Any) -> Any:
        return self.model.predict(features)
