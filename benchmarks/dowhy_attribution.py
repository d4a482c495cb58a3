"""DoWhy's answers to questions of attribution, as `tests/effects/test_influence.py` records them.

    pip install dowhy==0.14
    python benchmarks/dowhy_attribution.py

The models are linear with Gaussian noise, and one category by a known logistic regression.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
from dowhy import gcm
from dowhy.gcm.distribution_change import distribution_change_of_graphs
from dowhy.gcm.ml.classification import ClassificationModel
from scipy import stats

Spec = Mapping[str, tuple[list[float], float]]
EDGES = [("x", "y"), ("y", "z")]


class Linear:
    """A regression that is known."""

    def __init__(self, slopes: list[float]) -> None:
        self.slopes = slopes

    def fit(self, X: Any, Y: Any) -> None:
        """Learn nothing."""

    def predict(self, X: Any) -> Any:
        return (np.asarray(X, float) @ np.array(self.slopes)).reshape(-1, 1)

    def clone(self) -> Linear:
        return Linear(self.slopes)


class Logistic(ClassificationModel):  # type: ignore[misc]
    """`P(b | w, x) = 1 / (1 + exp(-(w + 2 x - 0.5)))`."""

    classes = ("a", "b")

    def fit(self, X: Any, Y: Any) -> None:
        """Learn nothing."""

    def predict(self, X: Any) -> Any:
        return np.array(self.classes)[self.predict_probabilities(X).argmax(1)].reshape(-1, 1)

    def predict_probabilities(self, X: Any) -> Any:
        columns = np.asarray(X, float)
        p = 1 / (1 + np.exp(-(columns[:, 0] + 2 * columns[:, 1] - 0.5)))
        return np.column_stack([1 - p, p])

    def clone(self) -> Logistic:
        return Logistic()


def linear(edges: list[tuple[str, str]], spec: Spec) -> Any:
    """A model: for each variable the slopes of its parents, and the deviation of its noise."""
    model = gcm.InvertibleStructuralCausalModel(nx.DiGraph(edges))
    for name, (slopes, deviation) in spec.items():
        noise = gcm.ScipyDistribution(stats.norm, loc=0, scale=deviation)
        mechanism = gcm.AdditiveNoiseModel(Linear(slopes), noise) if slopes else noise
        model.set_causal_mechanism(name, mechanism)
        model.graph.nodes[name]["parents_during_fit"] = sorted(model.graph.predecessors(name))
    return model


def logistic() -> Any:
    model = gcm.StructuralCausalModel(nx.DiGraph([("w", "y"), ("x", "y")]))
    for name in "wx":
        model.set_causal_mechanism(name, gcm.ScipyDistribution(stats.norm, loc=0, scale=1))
        model.graph.nodes[name]["parents_during_fit"] = []
    model.set_causal_mechanism("y", gcm.ClassifierFCM(Logistic()))
    model.graph.nodes["y"]["parents_during_fit"] = ["w", "x"]
    return model


def show(question: str, answer: Mapping[Any, Any]) -> None:
    print(question, {str(k): round(float(np.ravel(v)[0]), 3) for k, v in answer.items()})


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    gcm.config.disable_progress_bars()
    gcm.util.general.set_random_seed(0)
    arrows = {"num_samples_conditional": 4000, "max_num_runs": 2000, "n_jobs": 1}
    influence = {"prediction_model": "exact", "num_samples_randomization": 2000,
                 "num_samples_baseline": 20000, "max_batch_size": 2000}  # fmt: skip
    chain = linear(EDGES, {"x": ([], 1), "y": ([1], 2), "z": ([1], 1)})
    triangle = linear([*EDGES, ("x", "z")], {"x": ([], 1), "y": ([1], 1), "z": ([2, 1], 1)})
    for name in "yz":
        show(f"arrows into {name}", gcm.arrow_strength(chain, name, tolerance=1e-4, **arrows))
    short = linear(EDGES, {"x": ([], 1), "y": ([1], 1), "z": ([1], 0.5)})
    show("influence on z", gcm.intrinsic_causal_influence(short, "z", **influence))
    show("influence, triangle", gcm.intrinsic_causal_influence(triangle, "z", **influence))
    show("arrows, triangle", gcm.arrow_strength(triangle, "z", tolerance=1e-4, **arrows))
    relevance = {"num_samples_randomization": 5000, "num_samples_baseline": 3000}
    parents, noise = gcm.parent_relevance(triangle, "z", **relevance)
    show("relevance, triangle", {**parents, "noise": noise})
    old = linear(EDGES, {"x": ([], 1), "y": ([1], 1), "z": ([1], 1)})
    new = linear(EDGES, {"x": ([], 2), "y": ([2], 1), "z": ([1], 1)})
    differences = {
        "variance": lambda a, b: np.var(b) - np.var(a),
        "quantile": lambda a, b: np.quantile(b, 0.9) - np.quantile(a, 0.9),
    }
    show("change, kl", distribution_change_of_graphs(old, new, "z", num_samples=20000))
    for name, function in differences.items():
        answer = distribution_change_of_graphs(
            old, new, "z", num_samples=50000, difference_estimation_func=function
        )
        show(f"change, {name}", answer)
    category = logistic()
    show("arrows, category", gcm.arrow_strength(category, "y", tolerance=1e-5, **arrows))
    influence |= {"num_samples_randomization": 1000, "num_samples_baseline": 3000}
    influence |= {"max_batch_size": 500}
    show("influence, category", gcm.intrinsic_causal_influence(category, "y", **influence))
    relevance = {"num_samples_randomization": 2000, "num_samples_baseline": 2000}
    parents, noise = gcm.parent_relevance(category, "y", **relevance)
    show("relevance, category", {**parents, "noise": noise})


if __name__ == "__main__":
    main()
