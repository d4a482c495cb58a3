"""The causal direction of a predictive task, read off the graph.

To predict a label Y from inputs X is

- causal, `X -> Y`: to predict the effect from its cause (a segmentation drawn on the image);
- anti-causal, `Y -> X`: to predict the cause from its effect (a biopsy's finding from a scan);
- confounded, `X <- Z -> Y`: neither causes the other.

The direction says what unlabelled inputs are worth: `P(x)` has nothing to say on `P(y | x)` in a
causal task, and may have in an anti-causal one (Castro et al. 2020; lecture, Figure 6).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rung3.graph import CausalGraph

__all__ = ["Direction", "Task", "task"]

Direction = Literal["causal", "anti-causal", "mixed", "confounded", "unrelated"]


@dataclass(frozen=True)
class Task:
    """Predict a label from inputs.

    Attributes:
        graph: The causal graph.
        label: Name of what is predicted, Y.
        inputs: Names of what it is predicted from, X.
        direction: `causal`, `anti-causal`, `mixed` (some inputs cause the label, it causes others),
            `confounded` or `unrelated`.
        reason: Why, naming a path.
    """

    graph: CausalGraph
    label: str
    inputs: tuple[str, ...]
    direction: Direction
    reason: str

    def __str__(self) -> str:
        return f"{self.label} from {', '.join(self.inputs)}: {self.direction}; {self.reason}"


def task(graph: CausalGraph, label: str, inputs: str | Iterable[str]) -> Task:
    """Describe the task of predicting a label from inputs.

    Args:
        graph: The causal graph.
        label: Name of the label.
        inputs: Name of the input, or several.

    Raises:
        ValueError: If the graph lacks a name, there is no input, or the label is one.

    Example:
        >>> graph = CausalGraph("disease -> anatomy -> scan -> segmentation; age -> anatomy")
        >>> print(task(graph, "disease", "scan"))
        disease from scan: anti-causal; disease -> anatomy -> scan
        >>> print(task(graph, "segmentation", "scan"))
        segmentation from scan: causal; scan -> segmentation
        >>> print(task(graph, "age", ["disease", "anatomy"]))
        age from disease, anatomy: anti-causal; age -> anatomy
    """
    names = (inputs,) if isinstance(inputs, str) else tuple(dict.fromkeys(inputs))
    if not names:
        raise ValueError("inputs: expected at least one name")
    graph.disjoint(label=label, inputs=names)
    causes = [name for name in names if name in graph.ancestors(label)]
    effects = [name for name in names if name in graph.descendants(label)]
    if causes and effects:
        both = [_way(graph, causes[0], label), _way(graph, label, effects[0])]
        return Task(graph, label, names, "mixed", " and ".join(both))
    if causes:
        return Task(graph, label, names, "causal", _way(graph, causes[0], label))
    if effects:
        return Task(graph, label, names, "anti-causal", _way(graph, label, effects[0]))
    for name in names:
        for path in graph.backdoor_paths(name, label):
            if path.is_open():
                return Task(graph, label, names, "confounded", str(path))
    return Task(graph, label, names, "unrelated", "no open path joins them")


def _way(graph: CausalGraph, cause: str, effect: str) -> str:
    """Return a directed path as text."""
    return str(next(graph.causal_paths(cause, effect)))
