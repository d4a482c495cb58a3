"""Equations: densities and noise against closed forms, and against scipy's distributions."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from noises import whole
from scipy import stats
from torch import Tensor
from torch import distributions as td

from rung3 import Binary, Continuous, worlds
from rung3.data.expressions import Function
from rung3.data.seeding import stream
from rung3.data.variables import Variable
from rung3.mechanisms import Equation
from rung3.mechanisms.distributions import NOISES, parse_distribution


def bound(
    function: Any, noise: Any = None, inverse: Any = None, variable: Variable | None = None
) -> Equation:
    mechanism = Equation(function, noise, inverse)
    parents = {name: Continuous() for name in mechanism.arguments or ()}
    return mechanism.bind("x", variable or Continuous(), parents)


def test_figure_17_of_the_lecture_has_a_density_of_one_half() -> None:
    """`x = 2u + 1`, `u ~ Uniform(0, 1)`: one half on [1, 3], and nothing outside."""
    inside = torch.linspace(1, 3, 21)
    density = worlds.uniform().log_prob({"x": inside}).exp()
    torch.testing.assert_close(density, torch.full((21,), 0.5))
    mechanism = bound("2*u + 1", "Uniform(0, 1)")
    assert mechanism.log_prob(torch.tensor([0.9, 3.1, -50.0]), {}).exp().tolist() == [0, 0, 0]


def test_the_lecture_s_example_is_abducted_by_hand() -> None:
    """`x2 := 3 x1 + u2` at (2, 4) had the noise -2 (lecture 1.7.1)."""
    mechanism = bound("3*x1 + u")
    x1, x2 = torch.tensor([2.0]), torch.tensor([4.0])
    assert whole(mechanism.abduct(x2, {"x1": x1})).tolist() == [-2.0]
    assert mechanism.predict(torch.tensor([-2.0]), {"x1": torch.tensor([5.0])}).tolist() == [13.0]


# Densities and noise, against scipy and by finite differences ---------------------------------

X = np.array([0.05, 0.4, 1.0, 2.7])
CLOSED_FORMS: dict[str, tuple[str, str | None, Any]] = {
    "normal": ("2*u - 1", None, stats.norm(-1, 2).logpdf),
    "exponential, mirrored": ("3 - 3*u", "Exponential(3)", lambda x: stats.expon().logpdf(3 - x)),
    "log-normal": ("exp(u)", None, stats.lognorm(1).logpdf),
    "exponential": ("-log(u)", "Uniform(0, 1)", stats.expon().logpdf),
    "logistic": ("log(u/(1 - u))", "Uniform(0, 1)", stats.logistic().logpdf),
    "Cauchy": ("sin(u)/cos(u)", "Uniform(-1.5707963, 1.5707963)", stats.cauchy().logpdf),
    "chi-squared": ("u**2", "HalfNormal(1)", stats.chi2(1).logpdf),
    "Weibull": ("sqrt(u)", "Exponential(1)", stats.weibull_min(2).logpdf),
    "inverse gamma": ("1/u", "Gamma(3, 2)", stats.invgamma(3, scale=2).logpdf),
    "cubic": ("u + u**3", None, None),
    "kinked": ("where(u > 0, u, 2*u) + 0.9", None, None),
    "soft": ("softplus(u)", "Laplace(0, 1)", None),
}  # fmt: skip


def by_finite_differences(mechanism: Equation, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """`log p_U(u) + log du/dx`, with the noise between two neighbours of x found by bisection."""

    function = Function(mechanism.function)

    def noise(value: float) -> float:
        low, high = -30.0, 30.0
        for _ in range(200):
            middle = (low + high) / 2
            u = torch.tensor([middle], dtype=torch.float64)
            above = float(function(u=u)) > value
            low, high = (low, middle) if above else (middle, high)
        return (low + high) / 2

    u = np.array([noise(value) for value in x])
    slope = np.array([(noise(v + 1e-6) - noise(v - 1e-6)) / 2e-6 for v in x])
    prior = parse_distribution(mechanism.noise).log_prob(torch.from_numpy(u)).numpy()
    density: np.ndarray[Any, Any] = prior + np.log(slope)
    return density


@pytest.mark.parametrize("case", CLOSED_FORMS)
def test_density_by_change_of_variables(case: str) -> None:
    function, noise, truth = CLOSED_FORMS[case]
    mechanism = bound(function, noise)
    expected = by_finite_differences(mechanism, X) if truth is None else truth(X)
    density = mechanism.log_prob(torch.tensor(X, dtype=torch.float32), {})
    np.testing.assert_allclose(density.numpy(force=True), expected, atol=2e-4)


@pytest.mark.parametrize("case", CLOSED_FORMS)
def test_noise_is_found_whatever_the_shape_of_a_monotone_equation(case: str) -> None:
    function, noise, _ = CLOSED_FORMS[case]
    mechanism = bound(function, noise)
    u = mechanism.sample_noise(200, {}, stream(0, "u"))
    x = mechanism.predict(u, {})
    torch.testing.assert_close(mechanism.abduct(x, {}), u, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("function", ["a*u", "a*u**3", "a*(u + tanh(u)) + 7"])
def test_the_direction_may_differ_between_rows(function: str) -> None:
    mechanism = bound(function)
    a, u = torch.tensor([2.0, -2.0, 0.5, -30.0]), torch.tensor([0.3, 0.3, -1.5, 2.0])
    abducted = mechanism.abduct(mechanism.predict(u, {"a": a}), {"a": a})
    torch.testing.assert_close(abducted, u)


def test_noise_far_from_its_bulk_is_found() -> None:
    mechanism = bound("u + 0.001*u**3")
    u = torch.tensor([-2000.0, -300.0, 50.0, 12345.0])
    torch.testing.assert_close(mechanism.abduct(mechanism.predict(u, {}), {}), u)


def test_what_is_found_is_differentiable_in_value_and_parents() -> None:
    """Implicitly: with `x = a + u + u^3`, `du/dx = 1 / (1 + 3 u^2) = -du/da`."""
    mechanism = bound("a + u + u**3")
    a = torch.tensor([0.5, -1.0], requires_grad=True)
    u = torch.tensor([0.7, -1.2])
    x = (a + u + u**3).detach().requires_grad_()
    to_x, to_a = torch.autograd.grad(whole(mechanism.abduct(x, {"a": a})).sum(), [x, a])
    torch.testing.assert_close(to_x, 1 / (1 + 3 * u**2))
    torch.testing.assert_close(to_a, -to_x)


def test_gradients_of_the_density_are_those_of_the_closed_form() -> None:
    x = torch.tensor([0.5, 2.0], requires_grad=True)
    density = bound("exp(u)", inverse="log(x)").log_prob(x, {})
    slope = torch.autograd.grad(density.sum(), x)[0]
    torch.testing.assert_close(slope, -(1 + x.detach().log()) / x.detach())


# Inverses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "inverse"),
    [
        ("exp(a + u)", "log(x) - a"),
        ("exp(a + u)", lambda x, a: x.log() - a),
        (lambda a, u: (a + u).exp(), lambda a, anything: anything.log() - a),
        (lambda u, a: (a + u).exp(), "log(value) - a"),
    ],
)
def test_an_inverse_may_be_text_or_a_function_and_names_its_value_freely(
    function: Any, inverse: Any
) -> None:
    mechanism, parents = bound(function, inverse=inverse), {"a": torch.tensor([0.5, -0.5])}
    x = torch.tensor([3.0, 0.1])
    torch.testing.assert_close(mechanism.abduct(x, parents), x.log() - parents["a"])
    torch.testing.assert_close(
        mechanism.log_prob(x, parents).double(),
        torch.from_numpy(stats.lognorm(1, scale=parents["a"].exp()).logpdf(x)),
    )


def test_an_inverse_that_is_given_is_used_also_where_the_equation_is_not_monotone() -> None:
    """`x = u^2` with `u > 0` known: the positive root is the noise."""
    mechanism = bound("u**2", inverse="sqrt(x)")
    assert whole(mechanism.abduct(torch.tensor([4.0, 9.0]), {})).tolist() == [2.0, 3.0]


def test_particles_of_an_exact_abduction_are_equal() -> None:
    noise = bound("exp(u)").abduct(torch.tensor([1.0, 2.0]), {}, particles=3)
    assert isinstance(noise, Tensor)
    torch.testing.assert_close(noise, torch.tensor([0.0, math.log(2)]).expand(3, 2))


@pytest.mark.parametrize("query", [Equation.abduct, Equation.log_prob])
@pytest.mark.parametrize(
    ("function", "noise", "x"),
    [
        ("u**2", None, 1.0),
        ("abs(u)", None, 1.0),
        ("sin(u)", None, 0.5),
        ("u**3 - 3*u", None, 0.0),
        ("u + 3*sin(2*u)", None, 1.0),
        ("a*u", None, 0.0),
        ("0*u", None, 0.0),
        ("floor(u)", None, 1.0),
        ("floor(20*u)", "Uniform(0, 1)", 7.0),
        ("maximum(u, 1)", None, 1.0),
        ("minimum(maximum(u, 0), 1)", None, 0.0),
        ("u > a", None, 1.0),
        (lambda u: u.round(), None, 2.0),
    ],
)
def test_noise_that_the_value_cannot_tell_is_an_error_that_says_so(
    query: Callable[..., Tensor], function: Any, noise: str | None, x: float
) -> None:
    mechanism = bound(function, noise)
    with pytest.raises(ValueError, match=r"^x: its equation is not monotone in u"):
        query(mechanism, torch.tensor([x]), {"a": torch.zeros(1)})


@pytest.mark.parametrize(
    ("function", "x"), [("maximum(u, 1)", 2.5), ("where(u > 0, 1 + u, u)", 1.5), ("u**5", 0.0)]
)
def test_values_beside_a_step_or_a_flat_stretch_are_told(function: str, x: float) -> None:
    value = torch.tensor([x])
    mechanism = bound(function)
    torch.testing.assert_close(mechanism.predict(mechanism.abduct(value, {}), {}), value)


@pytest.mark.parametrize(
    ("function", "noise", "x", "at_fault"),
    [
        ("2*u + 1", "Uniform(0, 1)", [2.0, 5.0], "5"),
        ("0.5 + u", "Gamma(10, 5)", [0.25, 1.0], "0.25"),
        ("exp(u)", None, [1.0, -2.0], "-2"),
        ("tanh(u)", None, [0.5, 1.5], "1.5"),
        ("where(u > 0, 1 + u, u)", None, [2.0, 0.5], "0.5"),
    ],
)
def test_a_value_that_cannot_occur_is_refused_and_has_no_density(
    function: str, noise: str | None, x: list[float], at_fault: str
) -> None:
    mechanism = bound(function, noise)
    message = rf"^x: evidence has probability zero: .*gives the value {re.escape(at_fault)}$"
    with pytest.raises(ValueError, match=message):
        mechanism.abduct(torch.tensor(x), {})
    impossible = [f"{value:g}" == at_fault for value in x]
    assert mechanism.log_prob(torch.tensor(x), {}).isinf().tolist() == impossible


# Vectors ------------------------------------------------------------------------------------------

ROOT = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 0.5, 3.0]])
PAIR = Continuous(dim=3)


def mix(a: Tensor, u: Tensor) -> Tensor:
    return a + u @ ROOT.T


def unmix(x: Tensor, a: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(ROOT, (x - a).T, upper=False).T


def test_a_vector_that_mixes_its_noise_has_the_density_of_the_whole_jacobian() -> None:
    mechanism = Equation(mix, inverse=unmix).bind("x", PAIR, {"a": PAIR})
    a, u = torch.randn(50, 3), torch.randn(50, 3)
    x = mechanism.predict(u, {"a": a})
    torch.testing.assert_close(mechanism.abduct(x, {"a": a}), u, rtol=1e-4, atol=1e-5)
    truth = td.MultivariateNormal(a, scale_tril=ROOT).log_prob(x)
    torch.testing.assert_close(mechanism.log_prob(x, {"a": a}), truth)


def test_a_vector_that_mixes_its_noise_is_not_inverted_entry_by_entry() -> None:
    mechanism = Equation(mix).bind("x", PAIR, {"a": PAIR})
    with pytest.raises(ValueError, match=r"^x: the noise found for .*give Equation\(\.\.\., inv"):
        mechanism.abduct(torch.tensor([[1.0, 2.0, 3.0]]), {"a": torch.zeros(1, 3)})


@pytest.mark.parametrize(
    "noise",
    [
        td.MultivariateNormal(torch.tensor([1.0, 0.0, -1.0]), scale_tril=ROOT),
        td.Independent(td.Normal(torch.tensor([1.0, 0.0, -1.0]), 2.0), 1),
        td.Normal(torch.tensor([1.0, 0.0, -1.0]), 2.0),
    ],
    ids=["multivariate", "independent", "one for each entry"],
)
def test_noise_may_be_a_vector_of_its_own(noise: td.Distribution) -> None:
    mechanism = Equation("2*u", noise).bind("x", PAIR, {})
    u = mechanism.sample_noise(20_000, {}, stream(0, "u"))
    assert isinstance(u, Tensor)
    assert u.shape == (20_000, 3)
    torch.testing.assert_close(u.mean(0), torch.tensor([1.0, 0.0, -1.0]), rtol=0, atol=0.1)
    x = mechanism.predict(u[:9], {})
    truth = noise.log_prob(u[:9]).reshape(9, -1).sum(1) - 3 * math.log(2)
    torch.testing.assert_close(mechanism.log_prob(x, {}), truth)


# Noise distributions ------------------------------------------------------------------------------

SCIPY: dict[str, Any] = {
    "Normal(1, 2)": stats.norm(1, 2),
    "Uniform(-1, 2)": stats.uniform(-1, 3),
    "Gamma(10, 5)": stats.gamma(10, scale=1 / 5),
    "Beta(2, 3)": stats.beta(2, 3),
    "Exponential(2)": stats.expon(scale=1 / 2),
    "Laplace(1, 2)": stats.laplace(1, 2),
    "LogNormal(0.5, 0.75)": stats.lognorm(0.75, scale=math.exp(0.5)),
    "Gumbel(1, 2)": stats.gumbel_r(1, 2),
    "StudentT(4)": stats.t(4),
    "Cauchy(1, 2)": stats.cauchy(1, 2),
    "HalfNormal(2)": stats.halfnorm(scale=2),
    "Chi2(3)": stats.chi2(3),
    "Weibull(2, 1.5)": stats.weibull_min(1.5, scale=2),
    "Pareto(1, 3)": stats.pareto(3),
}


def test_every_noise_distribution_has_its_truth_here() -> None:
    assert [text.partition("(")[0] for text in SCIPY] == list(NOISES)


@pytest.mark.parametrize("noise", SCIPY)
def test_noise_by_name_is_drawn_and_weighed_as_scipy_does(noise: str) -> None:
    truth, mechanism = SCIPY[noise], bound("1 - 2*u", noise)
    u = whole(mechanism.sample_noise(4000, {}, stream(0, "u")))
    assert stats.kstest(u.numpy(), truth.cdf).pvalue > 1e-3
    x = torch.from_numpy(1 - 2 * truth.ppf([0.01, 0.3, 0.5, 0.9])).float()
    expected = truth.logpdf((1 - x.numpy().astype(float)) / 2) - math.log(2)
    np.testing.assert_allclose(mechanism.log_prob(x, {}).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("noise", SCIPY)
def test_copies_draw_the_same_noise_and_the_configuration_keeps_it(noise: str) -> None:
    mechanism = bound("u", noise)
    name, parameters = noise.rstrip(")").split("(")
    family = NOISES[name](*map(float, parameters.split(",")))
    twin = Equation(**bound("u", family).config()).bind("x", Continuous(), {})
    drawn = whole(mechanism.sample_noise(5, {}, stream(0, "u")))
    for copied in (copy.deepcopy(mechanism), copy.deepcopy(copy.deepcopy(twin)), twin):
        assert torch.equal(whole(copied.sample_noise(5, {}, stream(0, "u"))), drawn)


def test_draws_follow_the_generator_or_else_torch_s_own_state() -> None:
    mechanism = bound("u", "Gamma(2, 1)")
    before = torch.random.get_rng_state()
    one, two = (whole(mechanism.sample_noise(3, {}, stream(0, "u"))) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(torch.random.get_rng_state(), before)
    one, two = (whole(mechanism.sample_noise(3, {})) for _ in range(2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize(
    "noise", ["Norml(0, 1)", "Normal", "Normal(a, 1)", "Normal(0, -1)", "Normal(0, 1, 2)", "", 3]
)
def test_noise_that_is_none_is_refused(noise: Any) -> None:
    message = f"noise {noise!r}: expected one of Normal, Uniform, Gamma, "
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        Equation("u", noise=noise)


@pytest.mark.parametrize("query", [Equation.abduct, Equation.log_prob])
@pytest.mark.parametrize(
    "noise", [td.Poisson(3.0), td.Bernoulli(0.3), td.Categorical(torch.ones(3))]
)
def test_discrete_noise_is_for_sampling_alone(
    query: Callable[..., Tensor], noise: td.Distribution
) -> None:
    mechanism = bound("2*u", noise)
    assert set(whole(mechanism.sample_noise(500, {})).unique().tolist()) <= set(range(20))
    with pytest.raises(ValueError, match=r"^x: its noise .* is discrete, which is for sampling"):
        query(mechanism, torch.tensor([1.0]), {})


# Deterministic equations --------------------------------------------------------------------------


def test_without_noise_a_value_is_certain_or_impossible() -> None:
    mechanism, parents = bound("2*a + 1"), {"a": torch.tensor([1.0, 2.0])}
    assert not mechanism.wants_noise
    assert mechanism.sample_noise(2, parents) == {}
    assert mechanism.abduct(torch.tensor([3.0, 5.0]), parents) == {}
    assert mechanism.predict({}, parents).tolist() == [3.0, 5.0]
    assert mechanism.log_prob(torch.tensor([3.0, 4.0]), parents).tolist() == [0.0, -math.inf]
    with pytest.raises(ValueError, match=r"^x: evidence has probability zero: 4 is not what its"):
        mechanism.abduct(torch.tensor([3.0, 4.0]), parents)


def test_a_discrete_variable_may_be_a_function_of_its_parents() -> None:
    mechanism = bound("a > 0", variable=Binary())
    assert mechanism.predict({}, {"a": torch.tensor([-1.0, 2.0])}).tolist() == [0, 1]
    assert mechanism.abduct(torch.tensor([0, 1]), {"a": torch.tensor([-1.0, 2.0])}) == {}


def test_a_constant_is_the_same_for_every_row() -> None:
    assert bound("7").predict({}, {}).tolist() == [7.0]
    assert bound("7 + 0*u").predict(torch.zeros(3), {}).tolist() == [7.0] * 3


# Writing, binding and saving ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Equation(3), "expected a function or text, got 3"),  # type: ignore[arg-type]
        (lambda: Equation("3*x1 +"), "equation '3*x1 +': not an arithmetic expression"),
        (lambda: Equation(lambda *args: 0), "an equation's arguments must be named"),
        (lambda: Equation(lambda **parents: 0), "an equation's arguments must be named"),
        (lambda: Equation("u", inverse="x +"), "equation 'x +': not an arithmetic expression"),
        (
            lambda: Equation("a + u").bind("x", Continuous(), {"b": Continuous()}),
            "x: the equation's arguments are ['a'], but the graph's parents of x are ['b']",
        ),
        (
            lambda: bound("a + u", inverse="x - a - c"),
            "x: the inverse must have one argument beside the parents ['a'], the value; its "
            "arguments are ['x', 'a', 'c']",
        ),
        (lambda: bound("a + u", inverse="2*a"), "x: the inverse must have one argument beside"),
        (
            lambda: bound("u").predict({"z": torch.zeros(1)}, {}),
            "expected noise as one tensor, got",
        ),
    ],
)
def test_an_equation_that_cannot_be_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_text_and_function_are_the_same_mechanism() -> None:
    text, function = bound("a**2 + exp(u)"), bound(lambda a, u: a**2 + torch.exp(u))
    assert text.arguments == function.arguments == ("a",)
    parents = {"a": torch.tensor([0.5, -2.0])}
    x = torch.tensor([1.0, 7.0])
    torch.testing.assert_close(text.abduct(x, parents), function.abduct(x, parents))
    torch.testing.assert_close(text.log_prob(x, parents), function.log_prob(x, parents))


def test_the_configuration_is_text_and_holds_what_was_given() -> None:
    mechanism = bound("exp(a + u)", td.Laplace(0.0, 0.1), "log(x) - a")
    config = mechanism.config()
    assert list(config) == ["function", "inverse", "noise"]
    copied = Equation(**config).bind("x", Continuous(), {"a": Continuous()})
    assert copied.config() == config
    x, parents = torch.tensor([2.0]), {"a": torch.tensor([1.0])}
    assert torch.equal(copied.log_prob(x, parents), mechanism.log_prob(x, parents))
    assert bound("u").config() == {"function": "u"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"function": lambda u: u}, "x: its equation is a Python function, which cannot be saved"),
        ({"function": "u", "inverse": lambda x: x}, "x: its equation is a Python function"),
        ({"function": "u", "noise": td.Normal(torch.zeros(2), 1.0)}, "x: noise Normal.* cannot be"),
        ({"function": "u", "noise": td.Kumaraswamy(1.0, 1.0)}, "x: noise Kumaraswamy.* cannot be"),
    ],
)
def test_what_is_not_text_cannot_be_saved(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bound(**options).config()


def test_an_equation_shows_its_text_and_noise() -> None:
    assert repr(Equation("3*x1 + u")) == "Equation('3*x1 + u')"
    assert repr(Equation(lambda u: u, "Gamma(10, 5)")) == "Equation('<function>'), u ~ Gamma(10, 5)"


# Large offsets and small factors --------------------------------------------------------------

SCALES = [1e-9, 1e-6, 1.0, 1e6]
OFFSETS = [0.0, 1.0, 1e6]


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize(
    "shape", ["exp(u)", "tanh(u + q)", "(u + q)**3", "u + q", "where(u > 4, 2*u - 4, u)"]
)
def test_an_inverse_does_not_depend_on_the_scale(shape: str, factor: float) -> None:
    mechanism = bound(f"{factor!r}*({shape})" + " + 0*q" * ("q" not in shape))
    parents = {"q": torch.tensor([2.0, -1.0, 0.5])}
    u = torch.tensor([-0.7, 0.3, 2.1])
    abducted = mechanism.abduct(mechanism.predict(u, parents), parents)
    torch.testing.assert_close(abducted, u, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("written", [True, False], ids=["text", "function"])
def test_an_offset_does_not_make_a_curve_a_line(offset: float, written: bool) -> None:
    """The noise of `c + q exp(u)` at 14.8 above c is log(14.8 / q), whatever c is."""
    function: Any = lambda q, u: offset + q * torch.exp(u)  # noqa: E731
    mechanism = bound(f"{offset!r} + q*exp(u)" if written else function)
    value, parents = Continuous().validate("x", [offset + 14.8]), {"q": torch.tensor([2.0])}
    assert whole(mechanism.abduct(value, parents)).item() == pytest.approx(math.log(7.4), abs=1e-3)
    value, parents = Continuous().validate("x", [27 * 1e6**3]), {"q": torch.tensor([1e6])}
    assert whole(bound("(u + q)**3").abduct(value, parents)).item() == pytest.approx(2e6, rel=1e-4)


def test_a_bend_beyond_the_usual_noise_is_seen() -> None:
    for function in ("where(u > 4, 2*u - 4, u)", lambda u: torch.where(u > 4, 2 * u - 4, u)):
        assert whole(bound(function).abduct(torch.tensor([10.0]), {})).item() == pytest.approx(7)


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("shape", ["u**2", "sin(u)", "0*u + 1", "floor(u)"])
def test_what_is_not_monotone_is_refused_at_any_scale(shape: str, factor: float) -> None:
    mechanism = bound(f"{factor!r}*({shape})")
    value = mechanism.predict(torch.tensor([0.4]), {})
    with pytest.raises(ValueError, match="not monotone in u"):
        mechanism.abduct(value, {})


def test_a_function_that_holds_tensors_of_single_precision_is_called_with_such() -> None:
    matrix = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    mechanism = bound(lambda u: u @ matrix, variable=Continuous(dim=2))
    u = torch.tensor([[1.0, -1.0]])
    assert mechanism.predict(u, {}).tolist() == [[2.0, -3.0]]
    torch.testing.assert_close(mechanism.abduct(mechanism.predict(u, {}), {}), u)
