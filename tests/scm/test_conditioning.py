"""Conditioning on evidence, against conditionals in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from rung3 import SCM, Binary, Categorical, Continuous, Image, Ordinal, worlds
from rung3.mechanisms import VAE, Equation, GumbelMax, InverseCDF

N = 4000


def linear() -> SCM:
    """`a := u`, `b := 2 a + u`, `c := a - b + u/2`, `d := b + c + u`."""
    return SCM(
        a=Equation("u"),
        b=Equation("2*a + u"),
        c=Equation("a - b + u/2"),
        d=Equation("b + c + u"),
    )


def gaussian(given: dict[str, float]) -> tuple[dict[str, float], np.ndarray]:
    """Means, and covariance, of a, b, c and d given some of them."""
    weights = np.array([[0, 0, 0, 0], [2, 0, 0, 0], [1, -1, 0, 0], [0, 1, 1, 0]], dtype=float)
    total = np.linalg.inv(np.eye(4) - weights)
    covariance = total @ np.diag([1, 1, 0.25, 1]) @ total.T
    known = ["abcd".index(name) for name in given]
    slopes = covariance[:, known] @ np.linalg.inv(covariance[np.ix_(known, known)])
    means = slopes @ np.array(list(given.values()))
    return dict(zip("abcd", means, strict=True)), covariance - slopes @ covariance[known]


@pytest.mark.parametrize(
    ("given", "weighted"),
    [
        ({"a": 1.0}, False),
        ({"a": -0.5, "b": 1.0}, False),
        ({"b": 2.0}, True),
        ({"d": 1.5}, True),
        ({"c": -1.0, "a": 0.5}, True),
        ({"b": 1.0, "d": 0.0}, True),
    ],
)
def test_rows_follow_the_conditional_distribution(given: dict[str, float], weighted: bool) -> None:
    rows = linear().sample(N, given=given, seed=0)
    means, covariance = gaussian(given)
    size = rows.explain().effective_sample_size
    assert (size is not None) is weighted
    independent = N if size is None else min(N, size) / 2  # resampled rows repeat
    for i, name in enumerate("abcd"):
        value, deviation = rows[name].double(), max(covariance[i, i], 0) ** 0.5
        if name in given:
            assert value.eq(torch.tensor(given[name]).double()).all()
            continue
        error = deviation / independent**0.5
        assert abs(value.mean().item() - means[name]) < 4 * error, name
        assert value.std().item() == pytest.approx(deviation, abs=4 * error), name


def test_statuses_tell_evidence_from_what_was_drawn() -> None:
    provenance = linear().sample(3, given={"b": 1.0}, seed=0).explain()
    assert provenance.rung == "seeing"
    assert provenance.status == {"a": "sampled", "b": "observed", "c": "sampled", "d": "sampled"}
    assert "effective sample size: " in str(provenance)
    exact = linear().sample(3, given={"a": 1.0}, seed=0).explain()
    assert "effective" not in str(exact)


def test_the_effective_sample_size_is_that_of_the_weights() -> None:
    """Where `a ~ N(0, 1)` and `b | a ~ N(a, s)`, both of their moments are Gaussian integrals."""
    s, b = 0.5, 1.0
    model = SCM(a=Equation("u"), b=Equation("a + u/2"))
    first = stats.norm.pdf(b, scale=math.hypot(1, s))
    second = stats.norm.pdf(b, scale=math.sqrt(1 + s**2 / 2)) / (2 * s * math.sqrt(math.pi))
    size = model.sample(10, given={"b": b}, seed=0).explain().effective_sample_size
    assert size == pytest.approx(10_000 * first**2 / second, rel=0.05)


def test_evidence_that_tells_nothing_costs_nothing() -> None:
    model = SCM(a=Equation("u"), b=Equation("0*a + u"))
    size = model.sample(5, given={"b": 1.0}, seed=0).explain().effective_sample_size
    assert size == pytest.approx(10_000)


@pytest.mark.parametrize(
    ("y", "noise", "coefficient"),
    [(12.0, 1.0, 1.0), (-20.0, 1.0, 1.0), (3.0, 0.01, 1.0), (40.0, 1.0, 3.0), (5.0, 1e-3, -2.0)],
)
def test_rare_evidence_is_conditioned_on_as_in_closed_form(
    y: float, noise: float, coefficient: float
) -> None:
    """Of `y = a x + s u`: x given y has mean `a y / (a^2 + s^2)`, variance `s^2 / (a^2 + s^2)`."""
    model = SCM(x=Equation("u"), y=Equation(f"{coefficient}*x + {noise}*u"))
    rows = model.sample(2 * N, given={"y": y}, seed=0)
    x, total = rows["x"].double(), coefficient**2 + noise**2
    deviation = noise / total**0.5
    assert x.mean().item() == pytest.approx(coefficient * y / total, abs=0.06 * deviation)
    assert x.std().item() == pytest.approx(deviation, rel=0.05)
    assert len(x.unique()) > N / 2
    assert (rows.explain().effective_sample_size or 0) > N


@pytest.mark.parametrize("given", [{"d": 15.0}, {"b": -9.0, "d": 3.0}, {"c": 8.0}])
def test_rare_evidence_on_several_variables(given: dict[str, float]) -> None:
    rows = linear().sample(N, given=given, seed=0)
    means, covariance = gaussian(given)
    for i, name in enumerate("abcd"):
        within = 0.08 * max(covariance[i, i], 0) ** 0.5 + 1e-6
        assert rows[name].double().mean().item() == pytest.approx(means[name], abs=within)


def test_rare_evidence_that_two_causes_explain_keeps_both() -> None:
    model = SCM(x=Equation("u"), y=Equation("x**2 + u/20"))
    rows = model.sample(N, given={"y": 9.0}, seed=0)
    assert rows["x"].abs().mean().item() == pytest.approx(3, abs=0.01)
    assert (rows["x"] > 0).double().mean().item() == pytest.approx(0.5, abs=0.1)


def test_rare_evidence_on_what_a_category_and_a_number_cause() -> None:
    """Of `y = 10 k + x + u/10`, at 20: k is 2, however rare, and x as without it."""
    kinds = {"k": Categorical(3), "x": Continuous(lower=0), "y": Continuous()}
    tables = {
        "k": InverseCDF(table=[0.99, 0.009, 0.001]),
        "x": Equation("u", noise="Exponential(1)"),
        "z": Equation("k + 0*x"),
        "y": Equation("10*z + x + u/10"),
    }
    rows = SCM("{k x} -> z; {z x} -> y", kinds, tables).sample(N, given={"y": 21.0}, seed=0)
    assert rows["k"].eq(2).double().mean() > 0.999
    assert rows["x"].mean().item() == pytest.approx(1 - 0.01, abs=0.01)
    assert torch.equal(rows["z"], rows["k"].float())


def test_rare_categories_are_summed_over() -> None:
    kinds = {name: Binary() for name in "abc"}
    tables = {
        "a": InverseCDF(table=[1 - 1e-6, 1e-6]),
        "b": InverseCDF(table=[[1 - 1e-6, 1e-6], [0.5, 0.5]]),
        "c": InverseCDF(table=[[1.0, 0.0], [0.5, 0.5]]),
    }
    rows = SCM("a -> b -> c", kinds, tables).sample(N, given={"c": 1}, seed=0)
    assert rows["b"].eq(1).all()
    assert rows["a"].double().mean().item() == pytest.approx(1 / 3, abs=0.03)  # 0.5 to 1
    assert rows.explain().effective_sample_size is None


def test_rare_evidence_under_a_hidden_cause() -> None:
    """`x` and `y` are correlated through h alone; given y, x has mean `rho y`."""
    model = SCM("x <-> y", mechanisms={"x": Equation("u"), "y": Equation("u")})
    with torch.no_grad():
        for mechanism in model.mechanisms.values():
            mechanism.weights.fill_(3.0)  # type: ignore[operator]
    rows = model.sample(N, given={"y": 6.0}, seed=0)
    assert rows["x"].mean().item() == pytest.approx(0.9 * 6, abs=0.05)


def test_rows_that_are_worth_too_few_say_so() -> None:
    """What is unknown and has no density cannot be tempered."""
    model = SCM(
        "image -> y",
        {"image": Image(1, 4, 4), "y": Continuous()},
        {
            "image": VAE(latent=2, width=4),
            "y": Equation(lambda image, u: image.mean((1, 2, 3)) + u / 1e4),
        },
    )
    with pytest.warns(UserWarning, match="worth only .* independent ones: do not trust them"):
        rows = model.sample(10, given={"y": 0.9}, seed=0)
    assert (rows.explain().effective_sample_size or 99) < 30
    assert "DO NOT TRUST" in str(rows.explain())


def test_an_image_as_evidence_needs_what_causes_it() -> None:
    model = SCM(
        "s -> t -> image; s -> image; t -> y",
        {"image": Image(1, 4, 4)},
        {"image": VAE(latent=2, width=4)},
    )
    image = torch.zeros(1, 4, 4)
    with pytest.raises(
        ValueError, match=r"image would weigh s by its likelihood.*give \['s'\] too"
    ):
        model.sample(3, given={"image": image, "t": 0.5})
    rows = model.sample(50, given={"image": image, "t": 0.5, "s": 1.0, "y": 0.1}, seed=0)
    assert rows.explain().effective_sample_size is None


def test_more_rows_take_more_draws() -> None:
    model = SCM(a=Equation("u"), b=Equation("0*a + u"))
    size = model.sample(2000, given={"b": 0.0}, seed=0).explain().effective_sample_size
    assert size == pytest.approx(20_000)


def test_discrete_evidence_by_bayes() -> None:
    """The disease and the two tests of it that err apart."""
    model = SCM(
        graph="sick -> {first second}",
        variables={"sick": Binary(), "first": Binary(), "second": Ordinal(3)},
        mechanisms={
            "sick": InverseCDF(table=[0.9, 0.1]),
            "first": InverseCDF(table=[[0.95, 0.05], [0.2, 0.8]]),
            "second": InverseCDF(table=[[0.8, 0.15, 0.05], [0.1, 0.3, 0.6]]),
        },
    )
    rows = model.sample(N, given={"first": 1, "second": 2}, seed=0)
    truth = 0.1 * 0.8 * 0.6 / (0.1 * 0.8 * 0.6 + 0.9 * 0.05 * 0.05)
    assert rows["sick"].double().mean().item() == pytest.approx(truth, abs=0.02)
    rows = model.sample(N, given={"first": 1}, seed=0)
    sick = 0.08 / (0.08 + 0.045)
    assert rows["second"].eq(2).double().mean().item() == pytest.approx(
        sick * 0.6 + (1 - sick) * 0.05, abs=0.04
    )


def test_evidence_on_the_outcome_alone_tells_of_its_causes() -> None:
    """Not drawn from their prior: with `y = x^2 + u/2`, x given y is on both sides of zero."""
    model = SCM(x=Equation("u"), y=Equation("x**2 + u/2"))
    x = model.sample(N, given={"y": 4.0}, seed=0)["x"].double()
    mass = integrate.quad(lambda v: stats.norm.pdf(v) * stats.norm.pdf(4, v**2, 0.5), -5, 5)[0]
    size = integrate.quad(
        lambda v: abs(v) * stats.norm.pdf(v) * stats.norm.pdf(4, v**2, 0.5), -5, 5
    )[0]
    assert x.abs().mean().item() == pytest.approx(size / mass, abs=0.03)
    assert x.mean().item() == pytest.approx(0, abs=0.35)


def test_conditioning_under_an_intervention_sees_the_cut_graph() -> None:
    """Had b been set, it would say nothing of its cause a; c still does."""
    acted = linear().do(b=3.0)
    rows = acted.sample(N, given={"b": 3.0}, seed=0)
    assert rows["a"].mean().item() == pytest.approx(0, abs=0.08)
    rows = acted.sample(N, given={"c": -1.0}, seed=0)  # c = a - 3 + u/2
    assert rows["a"].mean().item() == pytest.approx(2 / 1.25, abs=0.08)
    assert rows.explain().rung == "doing"


def test_rows_that_were_conditioned_carry_no_noise() -> None:
    assert worlds.lecture().sample(2, given={"x1": 1.0}).noise is None
    assert worlds.lecture().sample(2).noise is not None


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (lambda: SCM(a=Equation("u", noise="Uniform(0, 1)"), b=Equation("a + u")), {"a": 5.0}),
        (lambda: SCM(a=Equation("u", noise="Uniform(0, 1)"), b=Equation("2*a")), {"b": 5.0}),
        (lambda: SCM(a=Equation("u"), b=Equation("2*a")), {"a": 1.0, "b": 5.0}),
        (lambda: SCM(a=Equation("u"), b=Equation("a + u")).do(a=2.0), {"a": 1.0}),
        (lambda: SCM(a=Equation("u"), b=Equation("a + u")).do(a=2.0), {"a": 1.0, "b": 0.0}),
    ],
)
def test_evidence_of_probability_zero_is_refused(
    make: Callable[[], SCM], given: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match=r"given: the evidence on \['.*'\] has probability zero"):
        make().sample(3, given=given, seed=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kk": 1}, "unknown variable 'kk'; the variables are .* did you mean 'k'"),
        ({"k": [0, 1]}, "given: expected one value a variable, got batches"),
        ({"k": 3}, "k: 3 is not a category; expected a whole number from 0 to 2"),
        ({"x": -1.0}, r"x: -1 is outside its support \[0, inf\] mm"),
        ({"x": np.inf}, "x: 1 values are infinite"),
        ({"x": np.nan}, "x: 1 values are NaN"),
        ({"m": np.nan}, "given: m is NaN; leave out what is not known"),
        ({"x": "long"}, "x: expected numbers"),
    ],
)
def test_evidence_that_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    model = SCM(
        graph="k -> x -> m",
        variables={
            "k": Categorical(3),
            "x": Continuous(lower=0, unit="mm"),
            "m": Continuous(missing=True),
        },
    )
    with pytest.raises(ValueError, match=message):
        model.sample(3, given=given)


def test_a_table_that_never_gives_a_value_refuses_it_as_evidence() -> None:
    kinds = {"a": Binary(), "b": Binary(labels=("no", "yes"))}
    for family in (InverseCDF, GumbelMax):
        tables = {"a": [0.5, 0.5], "b": [[1.0, 0.0], [1.0, 0.0]]}
        model = SCM("a -> b", kinds, {name: family(table=table) for name, table in tables.items()})
        with pytest.raises(ValueError, match=r"evidence on \['b'\] has probability zero"):
            model.sample(3, given={"b": "yes"}, seed=0)


def test_evidence_that_no_draw_gives_is_said_to_be_so() -> None:
    model = SCM("a -> b", {"b": Binary()}, {"a": Equation("u"), "b": Equation("a > 100")})
    with pytest.raises(ValueError, match=r"as far as 10,000 draws can tell"):
        model.sample(3, given={"b": 1}, seed=0)
