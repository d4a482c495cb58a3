"""A world of scans, with a causal and an anti-causal task in it (lecture 1.4.1)."""

from __future__ import annotations

from rung3.data.variables import Binary, Continuous, Ordinal
from rung3.mechanisms import Equation, InverseCDF
from rung3.scm.scm import SCM

__all__ = ["scans"]


def scans() -> SCM:
    """Build a clinic: disease shows in the anatomy, that in a scan, which a reader marks.

    Predicting the disease (known from a biopsy) from the scan is anti-causal; predicting the mark
    is causal. With `age` in three levels and standard normal noise:

        P(disease) = 0.1, 0.3 or 0.5,     lesion := 2 disease + age/2 + u,
        scan := lesion + u/2,             mark := 1{scan + u/2 > 1.5}

    Example:
        >>> from rung3.evaluation.tasks import task
        >>> graph = scans().graph
        >>> task(graph, "disease", "scan").direction, task(graph, "mark", "scan").direction
        ('anti-causal', 'causal')
    """
    return SCM(
        "age -> disease; {age disease} -> lesion -> scan -> mark",
        variables={
            "age": Ordinal(3, labels=("young", "middle", "old")),
            "disease": Binary(),
            "lesion": Continuous(unit="mm"),
            "scan": Continuous(unit="grey level"),
            "mark": Binary(),
        },
        mechanisms={
            "age": InverseCDF(table=[0.3, 0.4, 0.3]),
            "disease": InverseCDF(table=[[0.9, 0.1], [0.7, 0.3], [0.5, 0.5]]),
            "lesion": Equation("2*disease + 0.5*age + u"),
            "scan": Equation("lesion + 0.5*u"),
            "mark": Equation("scan + 0.5*u > 1.5"),
        },
        world="scans",
    )
