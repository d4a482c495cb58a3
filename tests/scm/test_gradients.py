"""Densities, and gradients through every verb."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from models import chain, every_kind, row
from scipy import stats

from rung3 import SCM, Image
from rung3.mechanisms import VAE

# Densities ----------------------------------------------------------------------------------------


def test_log_prob_is_the_sum_over_the_variables_in_closed_form() -> None:
    model, rows = chain(), chain().sample(30, seed=0)
    a, b, c, d = (rows[name].double().numpy() for name in "abcd")
    truth = {
        "a": stats.norm.logpdf(a),
        "b": stats.norm.logpdf(b, scale=np.exp(a / 2)),
        "c": stats.norm.logpdf(c, loc=a * b, scale=2),
        "d": stats.norm.logpdf(d, scale=3),
    }
    densities = model.log_probs(rows)
    for name, expected in truth.items():
        np.testing.assert_allclose(densities[name], expected, atol=1e-3)
    np.testing.assert_allclose(model.log_prob(rows), sum(truth.values()), atol=1e-3)
    assert model.log_prob(rows[0]).shape == ()
    some = {"a": rows["a"], "b": rows["b"]}
    assert list(model.log_probs(some)) == ["a", "b"]
    np.testing.assert_allclose(model.log_prob(some), truth["a"] + truth["b"], atol=1e-3)


def test_a_bound_is_drawn_under_its_seed_and_torch_is_left_alone() -> None:
    torch.manual_seed(0)
    model = SCM("scan", {"scan": Image(1, 8, 8)}, {"scan": VAE(latent=3, width=4, depth=1)})
    scan = torch.randint(256, (4, 1, 8, 8)) / 255
    before = torch.get_rng_state()
    bounds = [model.log_prob({"scan": scan}, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(bounds[0], model.log_probs({"scan": scan}, seed=0)["scan"])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(bounds[0], bounds[1])
    assert not torch.equal(bounds[0], bounds[2])
    follows = []
    for _ in range(2):
        torch.manual_seed(5)
        follows.append([model.log_prob({"scan": scan}) for _ in range(2)])
    assert all(torch.equal(*pair) for pair in zip(*follows, strict=True))
    assert not torch.equal(*follows[0])


def test_log_prob_under_an_intervention_is_the_truncated_factorisation() -> None:
    acted = chain().do(b=2.0)
    rows = {"a": [0.0, 0.0], "b": [2.0, 2.1]}
    density = acted.log_prob(rows)
    assert density.tolist() == pytest.approx([stats.norm.logpdf(0), -np.inf])


# Gradients and devices ----------------------------------------------------------------------------


def test_gradients_flow_through_values_and_interventions() -> None:
    model = chain()
    values = {k: torch.tensor([v], requires_grad=True) for k, v in row().items()}
    target = torch.tensor([2.0], requires_grad=True)
    model.counterfactual(values, do={"a": target})["c"].sum().backward()
    # c~ = a~ exp((a~ - a)/2) b + c - a b
    grown = float(np.exp((2 - 0.5) / 2))
    gradients = {k: v.grad.item() for k, v in values.items() if v.grad is not None}
    assert gradients == pytest.approx({"a": grown + 1.0, "b": 2 * grown - 0.5, "c": 1.0}, rel=1e-4)
    assert target.grad is not None
    assert target.grad.item() == pytest.approx(-grown * (1 + 2 / 2), rel=1e-4)


def test_gradients_flow_through_functions_densities_and_every_continuous_kind() -> None:
    model = every_kind()
    rows = model.sample(3, seed=0)
    shift = torch.tensor(1.0, requires_grad=True)
    cold: dict[str, Any] = {"temperature": 0.0}
    answer = model.counterfactual(rows, {"dose": lambda dose: dose + shift}, seed=0, **cold)
    for name in ("dose", "place"):
        (gradient,) = torch.autograd.grad(answer[name].sum(), shift, retain_graph=True)
        assert gradient.isfinite()
        assert gradient.abs() > 1e-6, name
    a = torch.tensor([0.3], requires_grad=True)
    chain().log_prob({"a": a}).sum().backward()
    assert a.grad is not None
    assert a.grad.item() == pytest.approx(-0.3)


def test_queries_follow_the_grad_mode() -> None:
    model = every_kind()
    rows = model.sample(2, seed=0)
    assert model.counterfactual(rows, {"dose": 2.0})["place"].requires_grad
    with torch.no_grad():
        assert not model.counterfactual(rows, {"dose": 2.0})["place"].requires_grad
        assert not model.log_prob({"site": [0]}).requires_grad


GPU = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_to_moves_queries_and_answers(device: str) -> None:
    model = every_kind()
    rows = model.sample(3, seed=0)
    acted = model.do(sick=1)
    model.to(device)
    assert model.device.type == device
    model.do(stage=0).to(device)
    for answer in (
        model.counterfactual(rows, {"dose": 2.0, "sick": lambda site, sick: 1 - sick}, seed=0),
        model.counterfactual(rows, {"dose": rows["dose"]}, particles=2, hold=["stage"], seed=0),
        model.sample(2, given={"site": 1}, seed=0),
        acted.to(device).sample(2, seed=0),
        {"log_prob": model.log_prob({"site": [1]})},
    ):
        assert {value.device.type for value in answer.values()} == {device}
    assert model.to("cpu").device.type == "cpu"
