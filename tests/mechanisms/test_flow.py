"""Flows: change of variables against autograd, and what is learned against the known truth."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch import distributions as td

from rung3 import Binary, Categorical, Continuous, Image, Ordinal
from rung3.data.seeding import stream
from rung3.data.variables import Variable
from rung3.mechanisms import Flow, default_mechanism
from rung3.mechanisms.networks.real_line import ToReal

AGE: dict[str, Variable] = {"age": Continuous()}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small train many times faster on one thread than on a busy machine's two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wild(variable: Continuous, **options: Any) -> Flow:
    """A flow with a parent, whose weights are away from where training starts."""
    flow = Flow(**options).bind("x", variable, AGE)
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return flow


def train(flow: Flow, value: Tensor, parents: dict[str, Tensor], steps: int = 400) -> Flow:
    """Calibrate and train on random batches, with a plain optimiser."""
    flow.calibrate(value, parents)
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows = torch.randint(len(value), (256,))
        optimiser.zero_grad()
        flow.loss(value[rows], {k: v[rows] for k, v in parents.items()}).backward()
        optimiser.step()
        schedule.step()
    return flow.requires_grad_(False)


# Change of variables ------------------------------------------------------------------------------

SUPPORTS = {
    "real": Continuous(),
    "lower": Continuous(lower=2),
    "upper": Continuous(upper=-3),
    "both": Continuous(lower=-1, upper=4),
    "vector": Continuous(dim=3),
    "vector, both": Continuous(dim=2, lower=0, upper=10),
}


@pytest.mark.parametrize("splines", [0, 1, 2])
@pytest.mark.parametrize("support", SUPPORTS)
def test_the_density_is_that_of_the_noise_times_the_jacobian(support: str, splines: int) -> None:
    """`log p(x | pa) = log N(u; 0, I) + log |det du/dx|`, the Jacobian by autograd, row by row."""
    variable = SUPPORTS[support]
    flow = wild(variable, splines=splines)
    parents = {"age": torch.randn(6)}
    low, high = max(variable.lower, -5.0), min(variable.upper, 5.0)
    x = low + (high - low) * (0.05 + 0.9 * torch.rand(6, *variable.shape))

    def noise(value: Tensor, row: int) -> Tensor:
        u = flow.abduct(value[None], {"age": parents["age"][row : row + 1]})
        assert isinstance(u, Tensor)
        return u[0]

    for row in range(6):
        jacobian = torch.autograd.functional.jacobian(lambda v, row=row: noise(v, row), x[row])
        size = variable.dim or 1
        log_det = torch.linalg.slogdet(jacobian.reshape(size, size)).logabsdet
        truth = td.Normal(0.0, 1.0).log_prob(noise(x[row], row)).sum() + log_det
        density = flow.log_prob(x[row : row + 1], {"age": parents["age"][row : row + 1]})
        torch.testing.assert_close(density[0], truth, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("support", SUPPORTS)
def test_values_and_parents_fifty_deviations_away_come_back(support: str) -> None:
    """Nothing is lost beyond the splines' box, nor within it under parents as far away."""
    variable = SUPPORTS[support]
    age, flow = torch.randn(500), wild(variable)
    x = flow.predict(flow.sample_noise(500, {}), {"age": age}).detach()
    train(flow, x, {"age": age}, 60)
    away = torch.tensor([-50.0, -20, -5, 5, 20, 50]).reshape(-1, *[1] * len(variable.shape))
    far = torch.cat([x.mean(0) + away * x.std(0), x])
    if variable.shape:
        far[:50, 0] *= 50
    margin = 1e-3 * x.std(0)
    far = far.maximum(variable.lower + margin).minimum(variable.upper - margin)
    for value in (-50.0, -10.0, 0.0, 10.0, 50.0):
        parents = {"age": torch.full((len(far),), value)}
        repeated = flow.predict(flow.abduct(far, parents), parents)
        error = (repeated - far).abs() / (far.abs() + x.std(0))
        assert error.max() < 1e-3
        assert error.median() < 1e-5
        assert flow.log_prob(far, parents).isfinite().all()


@pytest.mark.parametrize("splines", [0, 1, 2])
def test_each_coordinate_of_the_noise_depends_on_those_before_alone(splines: int) -> None:
    flow = wild(Continuous(dim=3), splines=splines)
    parents = {"age": torch.randn(1)}

    def noise(value: Tensor) -> Tensor:
        u = flow.abduct(value[None], parents)
        assert isinstance(u, Tensor)
        return u[0]

    jacobian = torch.autograd.functional.jacobian(noise, torch.randn(3))
    assert torch.equal(jacobian.triu(1), torch.zeros(3, 3))
    assert (jacobian.tril() != 0).sum() == 6


@pytest.mark.parametrize("support", SUPPORTS)
def test_training_starts_at_a_gaussian_of_the_data_whatever_the_parents(support: str) -> None:
    variable = SUPPORTS[support]
    x = wild(variable).predict(torch.randn(50, *variable.shape), {"age": torch.randn(50)}).detach()
    flow = Flow().bind("x", variable, AGE)
    flow.calibrate(x, {"age": torch.randn(50)})
    real, _ = flow.to_real(x)
    expected = (real - real.mean(0)) / real.std(0, correction=0)
    noise = flow.abduct(x, {"age": 10 * torch.randn(50)})
    torch.testing.assert_close(noise, expected, rtol=1e-4, atol=1e-4)


def test_a_flow_bound_again_is_not_answered_for_by_what_it_was() -> None:
    u = torch.tensor([-1.0, 0.0, 2.0])
    first = Flow().bind("x", Continuous(), {}).requires_grad_(False)
    before = first.predict(u, {})  # keeps its map
    again = first.bind("x", Continuous(), {})
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(0.5)
    again.requires_grad_(False)
    fresh = Flow().bind("x", Continuous(), {})
    fresh.load_state_dict(again.state_dict())
    torch.testing.assert_close(again.predict(u, {}), fresh.predict(u, {}))
    assert not torch.allclose(again.predict(u, {}), before)


def test_without_splines_a_flow_is_a_conditional_gaussian() -> None:
    flow = wild(Continuous(), splines=0)
    parents, x = {"age": torch.linspace(-3, 3, 50)}, torch.linspace(-5, 5, 50)
    zero, one = (flow.predict(torch.full((50,), u), parents) for u in (0.0, 1.0))
    truth = td.Normal(zero, (one - zero).abs()).log_prob(x)
    torch.testing.assert_close(flow.log_prob(x, parents), truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("support", SUPPORTS)
def test_predictions_lie_in_the_support_whatever_the_noise(support: str) -> None:
    variable = SUPPORTS[support]
    flow = wild(variable)
    u = torch.linspace(-40, 40, 81).reshape(-1, *[1] * len(variable.shape))
    x = flow.predict(u.expand(81, *variable.shape), {"age": torch.randn(81)})
    variable.validate("x", x.detach())


@pytest.mark.parametrize("support", ["real", "lower", "upper", "both"])
def test_a_scalar_rises_or_falls_with_its_noise_throughout(support: str) -> None:
    flow = wild(SUPPORTS[support])
    x = flow.predict(torch.linspace(-4, 4, 401), {"age": torch.full((401,), 0.7)})
    assert len(set(x.diff().sign().tolist()) - {0.0}) == 1


# The map from a support to the real line ----------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "x"),
    [
        (Continuous(), [-1e6, 0.0, 3.0]),
        (Continuous(lower=2), [2.0, 2.001, 3.0, 70.0, 1e6]),
        (Continuous(upper=-3), [-3.0, -3.001, -4.0, -70.0, -1e6]),
        (Continuous(lower=-1, upper=4), [-1.0, -0.999, 1.5, 3.999, 4.0]),
        (Continuous(lower=0, upper=1e-3), [0.0, 1e-6, 5e-4, 1e-3]),
    ],
)
def test_every_value_of_a_support_comes_back_its_ends_within_a_margin(
    variable: Continuous, x: list[float]
) -> None:
    to_real, value = ToReal(variable), torch.tensor(x)
    real, slope = to_real(value)
    assert real.isfinite().all()
    assert slope.isfinite().all()
    width = min(variable.upper - variable.lower, 1.0)
    torch.testing.assert_close(to_real.inverse(real), value, rtol=1e-5, atol=1e-5 * width)


@pytest.mark.parametrize("unit", [1.0, 1000.0])
@pytest.mark.parametrize("support", ["real", "lower", "upper", "both"])
def test_the_slope_of_the_map_is_its_derivative_in_every_unit(support: str, unit: float) -> None:
    known = SUPPORTS[support]
    to_real = ToReal(Continuous(lower=unit * known.lower, upper=unit * known.upper))
    x = (unit * torch.tensor({"upper": [-3.5, -9.0]}.get(support, [2.1, 3.9]))).requires_grad_()
    to_real.calibrate(x.detach())
    real, slope = to_real(x)
    derivative = torch.autograd.grad(real.sum(), x)[0]
    torch.testing.assert_close(slope, derivative.log())


def test_far_from_its_only_end_the_map_is_the_identity_but_for_a_shift() -> None:
    to_real = ToReal(Continuous(lower=5))
    real, slope = to_real(torch.tensor([30.0, 100.0, 1e4]))
    torch.testing.assert_close(real, torch.tensor([25.0, 95.0, 9995.0]))
    torch.testing.assert_close(slope, torch.zeros(3))


# Learning -----------------------------------------------------------------------------------------


def truth_of(age: Tensor, group: Tensor) -> td.Normal:
    return td.Normal(3 * age - 40 + 5 * group, 2 * torch.exp(0.5 * (age - 10) + 0.3 * group))


def sample(n: int) -> tuple[Tensor, dict[str, Tensor]]:
    parents = {"age": 10 + torch.rand(n) * 2 - 1, "group": torch.randint(3, (n,))}
    return truth_of(**parents).sample(), parents


@lru_cache
def learned() -> Flow:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        variables: dict[str, Variable] = {"age": Continuous(), "group": Categorical(3)}
        return train(Flow().bind("x", Continuous(), variables), *sample(8000))


def test_the_density_of_a_conditional_gaussian_is_learned() -> None:
    """To 0.02 nats of divergence, where a Gaussian that ignores its parents is 0.9 away."""
    x, parents = sample(20_000)
    truth = truth_of(**parents).log_prob(x)
    ignorant = td.Normal(x.mean(), x.std()).log_prob(x)
    divergence = (truth - learned().log_prob(x, parents)).mean().item()
    assert -0.005 < divergence < 0.02
    assert (truth - ignorant).mean() > 0.5


def test_its_noise_and_counterfactuals_are_the_known_ones() -> None:
    x, parents = sample(5000)
    truth = truth_of(**parents)
    u = learned().abduct(x, parents)
    assert isinstance(u, Tensor)
    standard = (x - truth.loc) / truth.scale
    assert (u - standard).abs().mean() < 0.1
    assert stats.kstest(u.numpy(), "norm").statistic < 0.03
    changed = {"age": parents["age"].flip(0), "group": (parents["group"] + 1) % 3}
    other = truth_of(**changed)
    expected = other.loc + other.scale * standard
    skill = (
        1 - (learned().predict(u, changed) - expected).abs().mean() / (x - expected).abs().mean()
    )
    assert skill > 0.95


def test_parents_act_outside_the_training_range() -> None:
    """A spline is the identity out there, whatever its context: the affine map before it is not."""
    flow, parents = learned(), {"age": torch.full((2,), 10.0), "group": torch.zeros(2).long()}
    x = truth_of(**parents).mean + 50 * truth_of(**parents).stddev * torch.tensor([-1.0, 1.0])
    older = flow.predict(flow.abduct(x, parents), parents | {"age": torch.full((2,), 10.5)})
    assert ((older - x).abs() > 10).all()
    far = parents | {"age": torch.full((2,), 12.0)}
    assert ((flow.predict(flow.abduct(x, parents), far) - x).abs() > 10).all()


def test_a_skewed_density_above_a_bound_is_learned() -> None:
    """Morpho-MNIST's thickness, `0.5 + Gamma(10, 5)`: its own mean log-density is -0.927."""
    gamma = td.Gamma(10.0, 5.0)
    flow = train(Flow().bind("x", Continuous(lower=0), {}), 0.5 + gamma.sample((8000,)), {}, 600)
    x = 0.5 + gamma.sample((20_000,))
    assert -0.005 < (gamma.log_prob(x - 0.5) - flow.log_prob(x, {})).mean().item() < 0.02
    drawn = flow.predict(flow.sample_noise(20_000, {}, stream(0, "u")), {})
    assert stats.kstest((drawn - 0.5).numpy(), stats.gamma(10, scale=0.2).cdf).statistic < 0.03


def test_the_dependence_within_a_vector_is_learned() -> None:
    root = torch.tensor([[1.0, 0.0], [1.5, 0.5]])

    def joint(age: Tensor) -> td.MultivariateNormal:
        return td.MultivariateNormal(torch.stack([age, -2 * age], 1), scale_tril=root)

    age = torch.randn(8000)
    flow = train(Flow().bind("x", Continuous(dim=2), AGE), joint(age).sample(), {"age": age}, 300)
    age = torch.randn(10_000)
    x = joint(age).sample()
    divergence = (joint(age).log_prob(x) - flow.log_prob(x, {"age": age})).mean().item()
    assert -0.005 < divergence < 0.05


def test_two_humps_whose_weights_and_places_depend_on_a_parent_are_learned() -> None:
    """To 0.1 nats, where the best Gaussian for each age is more than one away."""

    def humps(age: Tensor) -> td.Distribution:
        right = 0.5 + 0.3 * torch.tanh(age)
        places = torch.stack([2 + 0.5 * age, -2 - 0.5 * age], 1)
        weights = td.Categorical(torch.stack([right, 1 - right], 1))
        return td.MixtureSameFamily(weights, td.Normal(places, 0.15))

    age = torch.randn(8000)
    flow = train(Flow().bind("x", Continuous(), AGE), humps(age).sample(), {"age": age}, 800)
    age = torch.randn(10_000)
    x = humps(age).sample()
    best = td.Normal(humps(age).mean, humps(age).stddev)
    assert (humps(age).log_prob(x) - best.log_prob(x)).mean() > 1
    divergence = (humps(age).log_prob(x) - flow.log_prob(x, {"age": age})).mean().item()
    assert -0.005 < divergence < 0.1


def test_training_data_that_are_constant_leave_that_number() -> None:
    """As a density so narrow that nothing else is drawn, and still finite beyond it."""
    flow = Flow().bind("x", Continuous(), {})
    flow.calibrate(torch.full((1000,), 0.1), {})
    at, beyond = flow.log_prob(torch.tensor([0.1, 1.1]), {})
    assert at > 15
    assert beyond.isfinite()
    assert (flow.predict(torch.randn(500), {}) == 0.1).all()


# Configuration ------------------------------------------------------------------------------------


def test_flows_are_the_default_for_numbers_and_their_defaults_are_not_written() -> None:
    assert isinstance(default_mechanism(Continuous(dim=2, upper=3)), Flow)
    assert (Flow().config(), repr(Flow())) == ({}, "Flow()")
    assert repr(Flow(splines=0, hidden=[8])) == "Flow(splines=0, hidden=(8,))"  # type: ignore[arg-type]


def test_the_options_say_how_many_splines_of_how_many_bins() -> None:
    flow = Flow(splines=3, bins=5, hidden=(8,)).bind("x", Continuous(dim=2), AGE)
    sizes = {name: list(tensor.shape) for name, tensor in flow.named_parameters()}
    assert [sizes[f"flow.univariate.widths.{k}"] for k in range(3)] == [[2, 5]] * 3
    assert sizes["flow.hyper.0.weight"] == [8, 3]
    assert sizes["flow.hyper.2.bias"] == [2 * (2 + 3 * 5)]


@pytest.mark.parametrize("options", [{"splines": -1}, {"bins": 0}, {"bins": 1}])
def test_options_without_meaning_are_refused(options: dict[str, Any]) -> None:
    (name, value), *_ = options.items()
    with pytest.raises(ValueError, match=f"{name}={value}.* must be|{name}={value} at least"):
        Flow(**options)


@pytest.mark.parametrize("variable", [Binary(), Ordinal(3), Categorical(3), Image(1, 8, 8)])
def test_what_is_no_number_is_refused(variable: Variable) -> None:
    message = f"x: Flow models numbers, and x is {variable}; use GumbelMax or InverseCDF for cat"
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        Flow().bind("x", variable, {})


def test_values_outside_the_training_range_are_told() -> None:
    flow = Flow().bind("x", Continuous(dim=2), {})
    x = torch.tensor([[0.0, 0.0], [1.0, math.pi]])
    assert flow.out_of_range(x + 50).tolist() == [False, False]
    flow.calibrate(x, {})
    values = torch.tensor([[0.0, 0.0], [1.0, 3.0], [1.1, 3.0], [0.5, -0.1]])
    assert flow.out_of_range(values).tolist() == [False, False, True, True]
