"""Textbook worlds: small SCMs whose answers are known by hand."""

from __future__ import annotations

from rung3.data.variables import Binary, Continuous, Ordinal
from rung3.mechanisms import Equation, InverseCDF
from rung3.scm.scm import SCM

__all__ = ["lecture", "scans", "uniform"]


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


def scans() -> SCM:
    """Build a clinic: disease shows in the anatomy, that in a scan, which a reader marks.

    It has a causal and an anti-causal task (lecture 1.4.1): predicting the disease (known from a
    biopsy) from the scan is anti-causal; predicting the mark is causal. With `age` in three levels
    and standard normal noise:

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
