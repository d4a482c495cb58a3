"""How strong causes are, against closed forms and the answers of DoWhy 0.14.

DoWhy's numbers were recorded with `python benchmarks/dowhy_attribution.py`, in an environment of
its own (`pip install dowhy==0.14`); they are averages of draws, with an error of some 1 to 5 %.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rung3 import SCM, Binary, Categorical
from rung3.effects.attribution import (
    arrow_strength,
    distribution_change,
    intrinsic_causal_influence,
    parent_relevance,
)
from rung3.mechanisms import Equation, GumbelMax, InverseCDF


def chain(noise: float, last: float) -> SCM:
    """`x -> y -> z`, all slopes 1."""
    return SCM(x=Equation("u"), y=Equation(f"x + {noise}*u"), z=Equation(f"y + {last}*u"))


def triangle() -> SCM:
    return SCM(x=Equation("u"), y=Equation("x + u"), z=Equation("2*x + y + u"))


def logistic() -> SCM:
    """A category of two: `P(y = 1 | w, x) = 1 / (1 + exp(-(w + 2 x - 0.5)))`."""
    kinds = {"y": Binary()}
    model = SCM("w -> y; x -> y", kinds, {"w": Equation("u"), "x": Equation("u"),
                                          "y": InverseCDF(hidden=())})  # fmt: skip
    weight, bias = model.mechanisms["y"].parameters()
    with torch.no_grad():
        weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
        bias.copy_(torch.tensor([0.0, -0.5]))
    return model


DRAWS = 100_000


def test_arrows_of_a_linear_chain() -> None:
    """Cutting x takes Var(x) = 1 from what is known of y; cutting y takes Var(y) = 5."""
    assert arrow_strength(chain(2, 1), "y", draws=DRAWS)["x"] == pytest.approx(1, abs=0.04)
    assert arrow_strength(chain(2, 1), "z", draws=DRAWS)["y"] == pytest.approx(5, abs=0.1)


def test_intrinsic_influence_of_a_linear_chain() -> None:
    influence = intrinsic_causal_influence(chain(1, 0.5), "z", draws=DRAWS)
    assert dict(influence) == pytest.approx({"x": 1, "y": 1, "z": 0.25}, abs=0.03)
    for name, truth in {"x": 1, "y": 1, "z": 0.25}.items():
        assert abs(influence[name] - truth) < 4 * influence.errors[name]
    assert sum(influence.values()) == pytest.approx(2.25, abs=0.03)
    assert str(influence).startswith("z: variance by cause\n    x: 1")


def test_interactions_are_shared_by_shapley() -> None:
    """`y = x w`: neither alone tells anything of its mean, both together tell all of it."""
    model = SCM(x=Equation("u"), w=Equation("u"), y=Equation("x*w + u/2"))
    influence = intrinsic_causal_influence(model, "y", draws=DRAWS)
    assert dict(influence) == pytest.approx({"x": 0.5, "w": 0.5, "y": 0.25}, abs=0.05)


def test_relevance_of_dependent_parents_in_closed_form() -> None:
    influence = parent_relevance(triangle(), "z", draws=DRAWS)
    assert dict(influence) == pytest.approx({"x": 6, "y": 4, "z": 1}, abs=0.1)


def test_arrows_into_a_category_by_quadrature() -> None:
    """`E KL(p(w, x) || E_w p(w, x))`, with Gauss and Hermite's nodes for both causes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    p = 1 / (1 + np.exp(-(nodes[:, None] + 2 * nodes - 0.5)))
    p = np.stack([p, 1 - p])
    cut = {"w": (weights[:, None] * p).sum(1, keepdims=True), "x": (p * weights).sum(2)[..., None]}
    influence = arrow_strength(logistic(), "y")
    for name, q in cut.items():
        truth = float(((p * np.log(p / q)).sum(0) * weights[:, None] * weights).sum())
        assert abs(influence[name] - truth) < 4 * influence.errors[name] + 0.005


def test_the_entropy_of_a_category_is_shared() -> None:
    tables = {"x": InverseCDF(table=[0.5, 0.5]), "y": GumbelMax(table=[[1, 0, 0], [0, 0.5, 0.5]])}
    model = SCM("x -> y", {"x": Binary(), "y": Categorical(3)}, tables)
    influence = intrinsic_causal_influence(model, "y")
    whole = 1.5 * math.log(2)  # the entropy of (1/2, 1/4, 1/4)
    assert sum(influence.values()) == pytest.approx(whole, abs=0.03)
    divergence = arrow_strength(model, "y")["x"]  # of (1, 0, 0) or (0, 1/2, 1/2) from the mixture
    assert divergence == pytest.approx(math.log(2), abs=0.05)


@pytest.mark.parametrize(
    ("ask", "dowhy"),
    [
        (lambda: arrow_strength(chain(2, 1), "y", draws=DRAWS), {"x": 0.991}),
        (lambda: arrow_strength(chain(2, 1), "z", draws=DRAWS), {"y": 5.011}),
        (lambda: arrow_strength(triangle(), "z", draws=DRAWS), {"x": 3.975, "y": 2.005}),
        (
            lambda: arrow_strength(logistic(), "y", measure="kl by draw"),
            {"w": 0.135, "x": 0.562},
        ),
        (
            lambda: intrinsic_causal_influence(chain(1, 0.5), "z", draws=DRAWS),
            {"x": 0.995, "y": 0.981, "z": 0.249},
        ),
        (
            lambda: intrinsic_causal_influence(triangle(), "z", draws=DRAWS),
            {"x": 9.036, "y": 1.045, "z": 1.032},
        ),
        (lambda: intrinsic_causal_influence(logistic(), "y"), {"w": 0.116, "x": 0.314, "y": 0.254}),
        (
            lambda: parent_relevance(triangle(), "z", draws=DRAWS),
            {"x": 5.8, "y": 3.842, "z": 1.022},
        ),
        (lambda: parent_relevance(logistic(), "y"), {"w": 0.041, "x": 0.114, "y": 0.09}),
    ],
)
def test_answers_are_those_of_dowhy(ask, dowhy) -> None:
    assert dict(ask()) == pytest.approx(dowhy, rel=0.08, abs=0.01)


def moved() -> SCM:
    """The chain with twice the spread of x and twice its slope; z is as it was."""
    return SCM(x=Equation("2*u"), y=Equation("2*x + u"), z=Equation("y + u"))


@pytest.mark.parametrize(
    ("difference", "dowhy"),
    [
        ("kl", {"x": 0.246, "y": 0.242, "z": 0.007}),
        ("variance", {"x": 7.533, "y": 7.485, "z": 0.059}),
        (
            lambda old, new: new.quantile(0.9) - old.quantile(0.9),
            {"x": 1.609, "y": 1.591, "z": 0.022},
        ),
    ],
)
def test_changes_of_a_distribution_are_those_of_dowhy(difference, dowhy) -> None:
    influence = distribution_change(chain(1, 1), moved(), "z", difference=difference)
    assert dict(influence) == pytest.approx(dowhy, rel=0.04, abs=0.06)
    assert influence["z"] == 0


def test_a_change_of_divergence_in_closed_form() -> None:
    """From N(0, 3) to N(0, 18)."""
    influence = distribution_change(chain(1, 1), moved(), "z")
    assert sum(influence.values()) == pytest.approx((3 / 18 - 1 + math.log(6)) / 2, abs=0.02)
    mean = distribution_change(
        SCM(x=Equation("u"), y=Equation("x + u")),
        SCM(x=Equation("u + 1"), y=Equation("x + u + 3")),
        "y",
        difference="mean",
    )
    assert dict(mean) == pytest.approx({"x": 1, "y": 3}, abs=0.01)


def test_a_change_of_categories() -> None:
    kinds = {"x": Binary(), "y": Categorical(3)}
    rows = [[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]]
    before, after = (
        SCM("x -> y", kinds, {"x": InverseCDF(table=[p, 1 - p]), "y": GumbelMax(table=rows)})
        for p in (0.5, 0.1)
    )
    influence = distribution_change(before, after, "y")
    p, q = ([w * a + (1 - w) * b for a, b in zip(*rows, strict=True)] for w in (0.5, 0.1))
    truth = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert influence["x"] == pytest.approx(truth, abs=0.01)
    assert influence["y"] == 0


def test_bad_questions() -> None:
    model = chain(1, 1)
    with pytest.raises(ValueError, match="x: no arrow points at it"):
        arrow_strength(model, "x")
    with pytest.raises(ValueError, match="x: no arrow points at it"):
        parent_relevance(model, "x")
    with pytest.raises(ValueError, match=r"outcome: .*'q'"):
        intrinsic_causal_influence(model, "q")
    with pytest.raises(ValueError, match="expected 'mean', 'variance', 'kl' or a function"):
        distribution_change(model, moved(), "z", difference="median")  # type: ignore[arg-type]
    three = SCM("x -> y", {"x": Binary(), "y": Categorical(3)})
    with pytest.raises(ValueError, match="is for categories, and it is"):
        arrow_strength(model, "z", measure="kl by draw")
    with pytest.raises(ValueError, match="has no variance; use"):
        arrow_strength(three, "y", measure="variance")
