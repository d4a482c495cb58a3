"""Worlds in which the data mislead: Simpson's reversal and Reichenbach's common cause.

In each, seeing and doing differ, `P(y | x) != P(y | do(x))`, by an amount that is known.
"""

from __future__ import annotations

from typing import Literal

import torch

from rung3.data.readers.kidney_stones import COUNTS, VARIABLES
from rung3.data.variables import Binary, Continuous
from rung3.mechanisms import Equation, InverseCDF
from rung3.scm.scm import SCM

__all__ = ["chocolate", "collider", "exam", "hospital", "kidney_stones"]

Explanation = Literal["chocolate causes prizes", "prizes cause chocolate", "common cause"]


def kidney_stones() -> SCM:
    """Build Simpson's paradox: treatment A is better for small and large stones, and looks worse.

    Probabilities are the shares among the 700 patients of `rung3.data.kidney_stones`. By adjustment
    for the size of the stone, `P(recovery | do(A)) = 0.833` and `P(recovery | do(B)) = 0.779`;
    seeing says 0.78 and 0.826 (lecture 1.3, Figure 3).

    Example:
        >>> from rung3.scm.enumeration import probability
        >>> world = kidney_stones()
        >>> round(probability(world, {"recovery": "yes"}, given={"treatment": "A"}), 3)
        0.78
        >>> round(probability(world.do(treatment="A"), {"recovery": "yes"}), 3)
        0.833
    """
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    tables = {
        "size": counts.sum((1, 2)),
        "treatment": counts.sum(2),
        "recovery": counts,
    }
    return SCM(
        "size -> treatment; {size treatment} -> recovery",
        variables=VARIABLES,
        mechanisms={k: InverseCDF(table=t / t.sum(-1, keepdim=True)) for k, t in tables.items()},
        world="kidney_stones",
    )


def chocolate(explanation: Explanation) -> SCM:
    """Build one of three explanations of why a country's chocolate and Nobel prizes correlate.

    Both are in standard deviations. Under each explanation they are jointly Gaussian with the same
    correlation `r = 0.791` (Messerli 2012, New England Journal of Medicine 367:1562-1564, of 23
    countries), so no data on the two tell the explanations apart; `E[prizes | do(chocolate = c)]`
    is `r c`, or 0, or 0 (Reichenbach's principle; lecture 1.2, Figure 2).

    Args:
        explanation: `"chocolate causes prizes"`, `"prizes cause chocolate"`, or `"common cause"`:
            the wealth of the country, a third variable of that world.

    Raises:
        ValueError: If it is none of these.

    Example:
        >>> for explanation in ("chocolate causes prizes", "common cause"):
        ...     more = chocolate(explanation).do(chocolate=2.0).sample(10_000, seed=1)
        ...     print(f"{explanation}: {more['prizes'].mean():.1f}")
        chocolate causes prizes: 1.6
        common cause: 0.0
    """
    effect, alone = "0.791*{} + sqrt(1 - 0.791**2)*u", "u"
    shares = "sqrt(0.791)*wealth + sqrt(1 - 0.791)*u"
    texts: dict[str, dict[str, str]] = {
        "chocolate causes prizes": {"chocolate": alone, "prizes": effect.format("chocolate")},
        "prizes cause chocolate": {"chocolate": effect.format("prizes"), "prizes": alone},
        "common cause": {"wealth": alone, "chocolate": shares, "prizes": shares},
    }
    if explanation not in texts:
        raise ValueError(f"explanation: expected one of {list(texts)}, got {explanation!r}")
    equations = {name: Equation(text) for name, text in texts[explanation].items()}
    units = {name: Continuous(unit="standard deviations") for name in equations}
    return SCM(variables=units, mechanisms=equations, world=f"chocolate ({explanation})")


def collider() -> SCM:
    """Build `x3 := x1 + x2 + u3`, causes independent and standard normal (lecture, Figure 11 b).

    Given `x3` the causes depend on each other, with correlation `-1/2`: when one explains the
    effect, the other need not.

    Example:
        >>> rows = collider().sample(5_000, given={"x3": 1.0}, seed=0)
        >>> round(torch.stack([rows["x1"], rows["x2"]]).corrcoef()[0, 1].item(), 1)
        -0.5
    """
    return SCM(x1=Equation("u"), x2=Equation("u"), x3=Equation("x1 + x2 + u"), world="collider")


def hospital() -> SCM:
    """Build a selection: flu and injury are independent, but not among a hospital's patients.

    `P(flu) = P(injury) = 0.1`. Either one brings a person to hospital with probability 0.5, both
    with 0.75, and the healthy come with probability 0.05. Among the admitted, those with an injury
    have flu far less often than those without (Berkson 1946, Biometrics Bulletin 2:47-53).

    Example:
        >>> from rung3.scm.enumeration import probability
        >>> world = hospital()
        >>> flu = {"flu": 1}
        >>> round(probability(world, flu, given={"injury": 1}), 3)
        0.1
        >>> round(probability(world, flu, given={"injury": 1, "admitted": 1}), 3)
        0.143
        >>> round(probability(world, flu, given={"injury": 0, "admitted": 1}), 3)
        0.526
    """
    stays_away = torch.tensor([[0.95, 0.5], [0.5, 0.25]])
    tables = {
        "flu": [0.9, 0.1],
        "injury": [0.9, 0.1],
        "admitted": torch.stack([stays_away, 1 - stays_away], -1),
    }
    return SCM(
        "{flu injury} -> admitted",
        variables=dict.fromkeys(tables, Binary()),
        mechanisms={name: InverseCDF(table=table) for name, table in tables.items()},
        world="hospital",
    )


def exam() -> SCM:
    """Build an exam: interest makes students study, and makes them pass anyway.

    Half are interested; of them 80 % study, of the others 20 %. Without interest 30 % pass, or 60 %
    if they study; with interest 50 % or 90 %. Studying never makes anybody fail (the mechanism is
    monotone), so of those who studied and passed a share `PN = 0.38 / 0.84` passed because of it,
    and of those who did neither a share `PS = 0.32 / 0.66` would have passed, had they studied
    (lecture 1.1; see `rung3.effects.bounds.probabilities_of_causation`).

    Example:
        >>> failed = {"interested": 0, "studied": 0, "passed": 0}
        >>> imagined = exam().counterfactual(failed, do={"studied": 1}, particles=10_000, seed=0)
        >>> round(imagined["passed"].float().mean().item(), 1)
        0.4
    """
    passed = torch.tensor([[0.3, 0.6], [0.5, 0.9]])
    tables = {
        "interested": [0.5, 0.5],
        "studied": [[0.8, 0.2], [0.2, 0.8]],
        "passed": torch.stack([1 - passed, passed], -1),
    }
    return SCM(
        "interested -> studied; {interested studied} -> passed",
        variables=dict.fromkeys(tables, Binary()),
        mechanisms={name: InverseCDF(table=table) for name, table in tables.items()},
        world="exam",
    )
