"""Mechanisms brought along keep the contract as far as they can, and say so where they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import stats
from torch import distributions as td
from torch import nn

from rung3 import SCM, Binary, Categorical, Continuous, fit
from rung3.mechanisms import AdditiveNoise, Conditional, Equation, ZukoFlow
from rung3.scm.dowhy import from_dowhy
from rung3.testing import CHECKS, check_mechanism, prepare

X = {"x": Continuous()}
AT = {"x": torch.linspace(-2, 2, 2_000)}

BROUGHT: dict[str, tuple[Callable[..., td.Distribution], Continuous]] = {
    "normal": (lambda x: td.Normal(x, (x / 2).exp()), Continuous()),
    "laplace": (lambda x: td.Laplace(2 * x, 1.5), Continuous()),
    "log-normal": (lambda x: td.LogNormal(x / 2, 0.5), Continuous(lower=0)),
    "exponential": (lambda x: td.Exponential(x.exp()), Continuous(lower=0)),
    "gamma": (lambda x: td.Gamma(3.0, (x / 2).exp()), Continuous(lower=0)),
    "mixture": (
        lambda x: td.MixtureSameFamily(
            td.Categorical(torch.ones(len(x), 2).double()),
            td.Normal(torch.stack([x - 1, x + 2], 1), 0.5),
        ),
        Continuous(),
    ),
}


LOCATED = ("normal", "laplace", "log-normal")
"""Whose noise can be told however far out; a distribution function rounds to one there."""


@pytest.mark.parametrize("name", BROUGHT)
def test_the_contract_of_distributions(name: str) -> None:
    conditional, variable = BROUGHT[name]
    subject = prepare(Conditional(conditional), variable, X, values=AT)
    for title, check in CHECKS.items():
        if title == "saving":
            assert "without pickle" in check(subject)
        elif title != "outside the training range" or name in LOCATED:
            check(subject)


def test_a_value_too_far_out_to_tell_its_noise_is_an_error() -> None:
    for name in set(BROUGHT) - set(LOCATED):
        conditional, variable = BROUGHT[name]
        mechanism = Conditional(conditional).bind("y", variable, X)
        with pytest.raises(ValueError, match="y: 900 lies so far out"):
            mechanism.abduct(torch.tensor([900.0]), {"x": torch.tensor([0.0])})
    positive = Conditional(BROUGHT["log-normal"][0]).bind("y", Continuous(), X)
    with pytest.raises(ValueError, match="probability zero: -1 is outside the support"):
        positive.abduct(torch.tensor([-1.0]), {"x": torch.tensor([0.0])})
    assert positive.log_prob(torch.tensor([-1.0]), {"x": torch.tensor([0.0])}).item() == -torch.inf


def test_noise_is_the_distribution_function_by_another_library() -> None:
    mechanism = Conditional(BROUGHT["gamma"][0]).bind("y", Continuous(lower=0), X)
    x, y = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 4.0])
    u = torch.as_tensor(mechanism.abduct(y, {"x": x}))
    expected = stats.gamma(3, scale=np.exp(-x.numpy() / 2)).cdf(y.numpy())
    assert u.numpy() == pytest.approx(expected, abs=1e-6)


def test_the_parameters_of_a_module_are_trained() -> None:
    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.zeros(()))

        def forward(self, x: torch.Tensor) -> td.Distribution:
            return td.Normal(self.slope * x, torch.ones_like(x))

    rows = SCM(x=Equation("u"), y=Equation("2*x + u")).sample(2_000, seed=0)
    model = SCM("x -> y", mechanisms={"y": Conditional(Line())})
    fit(model, dict(rows), epochs=20, lr=0.05, progress=False)
    answer = model.counterfactual({"x": 0.0, "y": 1.0}, do={"x": 1.0})
    assert answer["y"].item() == pytest.approx(3, abs=0.1)


def test_what_cannot_be_inverted_says_so() -> None:
    one = torch.ones(3)
    student = Conditional(lambda x: td.StudentT(3.0, x)).bind("y", Continuous(), X)
    with pytest.raises(ValueError, match=r"y: StudentT.* cannot be inverted"):
        student.abduct(one, {"x": one})
    poisson = Conditional(lambda x: td.Poisson(x.exp())).bind("y", Continuous(lower=0), X)
    with pytest.raises(ValueError, match=r"y: Poisson.* is discrete.*use InverseCDF"):
        poisson.abduct(one, {"x": one})
    number: Any = 3
    wrong = Conditional(lambda x: number).bind("y", Continuous(), X)
    with pytest.raises(ValueError, match="y: expected a torch distribution, got 3"):
        wrong.log_prob(one, {"x": one})
    with pytest.raises(ValueError, match=r"arguments are \['z'\], but .* are \['x'\]"):
        Conditional(lambda z: td.Normal(z, 1)).bind("y", Continuous(), X)
    with pytest.raises(ValueError, match="Conditional models numbers"):
        Conditional(lambda x: td.Normal(x, 1)).bind("y", Binary(), X)


# zuko ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [None, 2])
def test_the_contract_of_flows(dim: int | None) -> None:
    from zuko.flows import NSF

    torch.manual_seed(0)
    flow = NSF(dim or 1, context=1, transforms=1, hidden_features=(8,))
    report = check_mechanism(ZukoFlow(flow), Continuous(dim=dim), X, values=AT)
    assert "without pickle" in report.passed["saving"]


def test_a_flow_and_its_mechanism_agree() -> None:
    from zuko.flows import MAF

    torch.manual_seed(0)
    flow = MAF(1, context=2, hidden_features=(8,))
    parents = {"x": Continuous(), "z": Binary()}
    mechanism = ZukoFlow(flow).bind("y", Continuous(), parents)
    values = {"x": torch.tensor([0.5, 1.0]), "z": torch.tensor([0, 1])}
    y = torch.tensor([0.1, -0.3])
    expected = flow(torch.tensor([[0.5, 0.0], [1.0, 1.0]])).log_prob(y[:, None])
    assert torch.allclose(mechanism.log_prob(y, values), expected)


# Regressors ---------------------------------------------------------------------------------------


class Parabola:
    """What scikit-learn's regressors are like."""

    def __init__(self) -> None:
        self.curve: Any = None

    def fit(self, features: Any, target: Any) -> Parabola:
        self.curve = np.polyfit(features[:, 0], target, 2)
        return self

    def predict(self, features: Any) -> Any:
        if self.curve is None:
            raise ValueError("not fitted yet")
        return np.polyval(self.curve, features[:, 0])


def test_a_regressor_with_additive_noise(tmp_path: Path) -> None:
    world = SCM(x=Equation("u"), y=Equation("x**2 + x + u/2"))
    rows = dict(world.sample(3_000, seed=0))
    given = Parabola()
    model = SCM("x -> y", mechanisms={"y": AdditiveNoise(regressor=given)})
    fit(model, rows, epochs=3, progress=False)
    answer = model.counterfactual({"x": 1.0, "y": 3.0}, do={"x": 2.0})
    assert answer["y"].item() == pytest.approx(3 + 6 - 2, abs=0.15)
    assert given.curve is None  # the model's is a copy
    bound = model.mechanisms["y"].requires_grad_(True)
    check_mechanism(bound, Continuous(), X, values={"x": AT["x"].clone()})
    with pytest.raises(ValueError, match=r"y: its regressor .* cannot be saved without pickle"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_regressor_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an object with fit and predict"):
        AdditiveNoise(regressor=Parabola)
    with pytest.raises(ValueError, match="no degree or spread beside it"):
        AdditiveNoise(degree=2, regressor=Parabola())
    with pytest.raises(ValueError, match="y: a regressor gives one number"):
        AdditiveNoise(regressor=Parabola()).bind("y", Continuous(dim=2), X)
    unfitted = AdditiveNoise(regressor=Parabola()).bind("y", Continuous(), X)
    with pytest.raises(ValueError, match="y: its regressor: not fitted yet"):
        unfitted.log_prob(torch.ones(2), {"x": torch.ones(2)})


# DoWhy-GCM ----------------------------------------------------------------------------------------


class Theirs:
    """A causal model as DoWhy-GCM lays it out: a networkx graph with mechanisms at its nodes."""

    def __init__(self) -> None:
        self.graph = nx.DiGraph([("b", "y"), ("a", "y"), ("g", "w"), ("a", "w")])
        regression = type("M", (), {"prediction_model": Parabola()})()
        regression.prediction_model.curve = np.array([0.0, 5.0, 1.0])
        self.graph.nodes["y"]["causal_mechanism"] = regression
        self.graph.nodes["w"]["causal_mechanism"] = regression


def test_a_graph_of_dowhy() -> None:
    model = from_dowhy(Theirs(), {"g": Categorical(3)})
    assert model.graph.parents("y") == ("a", "b")
    assert isinstance(model.mechanisms["y"], AdditiveNoise)
    assert model.mechanisms["w"].describe() == "Flow()"  # a category among its parents
    answer = model.counterfactual(
        {"a": 1.0, "b": 0.0, "g": 0, "y": 7.0, "w": 0.0}, do={"a": 2.0}, hold=["w"]
    )
    assert answer["y"].item() == pytest.approx(12.0, abs=1e-4)  # 5 a + 1, of the first column: a
    with pytest.raises(ValueError, match=r"expected a causal model of dowhy\.gcm"):
        from_dowhy("x -> y")


def test_dowhy_itself() -> None:
    gcm = pytest.importorskip("dowhy.gcm")
    import pandas as pd

    world = SCM(x=Equation("u"), y=Equation("2*x + u"))
    rows = {k: v.double().numpy() for k, v in world.sample(1_000, seed=0).items()}
    theirs = gcm.InvertibleStructuralCausalModel(nx.DiGraph([("x", "y")]))
    gcm.auto.assign_causal_mechanisms(theirs, pd.DataFrame(rows))
    gcm.fit(theirs, pd.DataFrame(rows))
    model = from_dowhy(theirs)
    fit(model, rows, epochs=2, progress=False)
    answer = model.counterfactual(rows, do={"x": 1.0})["y"].numpy()
    their = gcm.counterfactual_samples(
        theirs, {"x": lambda _: 1.0}, observed_data=pd.DataFrame(rows)
    )["y"]
    assert answer == pytest.approx(their.to_numpy(), abs=1e-3)
