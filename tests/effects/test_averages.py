"""Effects, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from scipy.stats import t
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Continuous, Image, Rows
from rung3.data.rows import Noise
from rung3.data.seeding import base_seed
from rung3.effects import Estimate, Mediation, average, mediate, natural
from rung3.effects.averages import average_of
from rung3.mechanisms import VAE, Equation
from rung3.mechanisms.base import Parents


def linear() -> SCM:
    return SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("3*x + 5*m + u"))


def interacting() -> SCM:
    """`m := x^2 + u`, `y := x m + sin(x) + exp(m/4) u`."""
    return SCM(
        x=Equation("u"),
        m=Equation("x**2 + u"),
        y=Equation("x*m + sin(x) + exp(m/4)*u"),
    )


def close(one: Tensor, other: Tensor | float) -> None:
    expected = torch.as_tensor(other).to(one).expand_as(one)
    torch.testing.assert_close(one, expected, atol=2e-4, rtol=2e-4)


# Mediation


@pytest.mark.parametrize("particles", [None, 3])
def test_linear_effects_are_products_of_coefficients(particles: int | None) -> None:
    rows = linear().sample(20, seed=0)
    do = {"x": lambda x: x + 2}
    effect = mediate(linear(), rows, do, "y", "m", particles=particles)
    for part, truth in ((effect.direct, 6.0), (effect.indirect, 20.0), (effect.total, 26.0)):
        assert part.shape == ((20,) if particles is None else (3, 20))
        close(part, truth)
    close(effect.interaction, 0.0)
    assert effect.outcome == "y"


TARGETS: dict[str, Callable[[Tensor], Any]] = {
    "a number": lambda x: 1.5,
    "a value per row": lambda x: x.flip(0),
    "a function": lambda x: lambda x: 2 - x,
}


@pytest.mark.parametrize("particles", [None, 2])
@pytest.mark.parametrize("target", TARGETS)
def test_effects_with_interaction_are_those_found_by_hand(
    target: str, particles: int | None
) -> None:
    model = interacting()
    rows = model.sample(50, seed=1)
    x, m, y = rows["x"], rows["m"], rows["y"]
    query = TARGETS[target](x)
    x_ = query(x) if callable(query) else torch.as_tensor(query).expand(50)
    m_ = m + x_**2 - x**2
    u = (y - x * m - x.sin()) / (m / 4).exp()

    def outcome(x: Tensor, m: Tensor) -> Tensor:
        return x * m + x.sin() + (m / 4).exp() * u

    effect = mediate(model, rows, {"x": query}, "y", ["m"], particles=particles)
    close(effect.direct, outcome(x_, m) - y)
    close(effect.indirect, outcome(x, m_) - y)
    close(effect.total, outcome(x_, m_) - y)
    close(effect.interaction, outcome(x_, m_) - outcome(x_, m) - outcome(x, m_) + y)
    imagined = model.counterfactual(rows, {"x": query})
    close(effect.total, imagined["y"] - y)


def test_one_row_gives_one_effect() -> None:
    row = {"x": 0.0, "m": 1.0, "y": 2.0}
    alone = mediate(linear(), row, {"x": 1.0}, "y", "m")
    assert (alone.direct.shape, alone.direct.item()) == ((), 3.0)
    cloud = mediate(linear(), row, {"x": [1.0][0]}, "y", "m", particles=4)
    assert cloud.indirect.tolist() == [10.0] * 4


def several() -> SCM:
    """x reaches y by itself, through m1, through m1 and m2, through m2, and through n."""
    return SCM(
        x=Equation("u"),
        m1=Equation("2*x + u"),
        m2=Equation("3*m1 + x + u"),
        n=Equation("7*x + u"),
        y=Equation("x + 10*m1 + 100*m2 + 1000*n + u"),
    )


@pytest.mark.parametrize(
    ("through", "indirect"),
    [
        ("m1", 2 * 10 + 2 * 3 * 100),
        ("m2", (2 * 3 + 1) * 100),
        (["m1", "m2"], 2 * 10 + (2 * 3 + 1) * 100),
        (["m2", "m1"], 2 * 10 + (2 * 3 + 1) * 100),
        (["n"], 7 * 1000),
        (["m1", "m2", "n"], 2 * 10 + (2 * 3 + 1) * 100 + 7 * 1000),
    ],
)
def test_several_mediators_are_taken_together(through: Any, indirect: float) -> None:
    row = {"x": 0.0, "m1": 0.5, "m2": -1.0, "n": 1.0, "y": 0.0}
    effect = mediate(several(), row, {"x": 1.0}, "y", through)
    total = 1 + 20 + 700 + 7000
    assert effect.total.item() == pytest.approx(total, rel=1e-4)
    assert effect.indirect.item() == pytest.approx(indirect, rel=1e-4)
    assert effect.direct.item() == pytest.approx(total - indirect, rel=1e-4)


def deep() -> SCM:
    model = SCM(
        graph="{a b} -> kind -> size; {a size} -> scan; b -> sick",
        variables={
            "kind": Categorical(4),
            "size": Continuous(lower=0),
            "sick": Binary(),
            "scan": Image(1, 8, 8),
        },
        mechanisms={"a": Equation("u"), "scan": VAE(latent=2, width=4, depth=1)},
    )
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


NULLS: dict[str, Callable[[Rows], dict[str, Any]]] = {
    "the factual value": lambda r: {"a": r["a"]},
    "a function": lambda r: {"a": lambda a: a},
    "both causes": lambda r: {"b": r["b"], "a": r["a"]},
    "the same mechanism": lambda r: {"a": Equation("u")},
}


@pytest.mark.parametrize("particles", [None, 3])
@pytest.mark.parametrize("null", NULLS)
def test_every_effect_of_a_null_intervention_is_exactly_zero(
    null: str, particles: int | None
) -> None:
    model = deep()
    rows = model.sample(30, seed=0)
    through = ["kind", "size"]
    effect = mediate(model, rows, NULLS[null](rows), "scan", through, particles=particles, seed=1)
    rows = several().sample(500, seed=0)
    plain = mediate(several(), rows, {"x": rows["x"]}, "y", ["m1", "m2"], particles=particles)
    for one in (effect, plain):
        for part in (one.direct, one.indirect, one.total, one.interaction):
            assert not part.any()


def test_effects_on_an_image_are_differences_of_decoder_means() -> None:
    model = deep()
    rows = model.sample(5, seed=0)
    noise = model.abduct(rows, seed=base_seed(2, "effects"))
    imagined = model.do(b=3.0).predict(noise)
    effect = mediate(model, rows, {"b": 3.0}, "scan", "size", seed=2)
    mean = model.mechanisms["scan"].mean
    before = mean(noise["scan"], {"a": rows["a"], "size": rows["size"]})
    after = mean(noise["scan"], {"a": rows["a"], "size": imagined["size"]})
    assert effect.indirect.abs().max() > 1e-3
    torch.testing.assert_close(effect.indirect, after - before, atol=1e-5, rtol=0)
    torch.testing.assert_close(effect.total, effect.indirect, atol=0, rtol=0)
    assert not effect.direct.any()


def test_one_seed_gives_one_answer_and_particles_differ() -> None:
    model = deep()
    rows = model.sample(5, seed=0)

    def ask(seed: int) -> Mediation:
        return mediate(model, rows, {"b": 3.0}, "scan", "kind", particles=3, seed=seed)

    assert torch.equal(ask(0).total, ask(0).total)
    assert not torch.equal(ask(0).total, ask(1).total)
    assert not torch.equal(ask(0).total[0], ask(0).total[1])


def test_gradients_flow_through_effects() -> None:
    target = torch.tensor(1.0, requires_grad=True)
    row = {"x": 0.5, "m": 0.0, "y": 0.0}
    mediate(linear(), row, {"x": target}, "y", "m").indirect.backward()
    assert target.grad is not None
    assert target.grad.item() == pytest.approx(10)


@pytest.mark.parametrize(
    ("do", "outcome", "through", "message"),
    [
        ({"x": 1.0}, "y", "mm", "no variable 'mm'; did you mean 'm'"),
        ({"x": 1.0}, "yy", "m", "no variable 'yy'; did you mean 'y'"),
        ({"xx": 1.0}, "y", "m", "do: unknown variable 'xx'.*did you mean 'x'"),
        ({}, "y", "m", "do: it is empty"),
        ({"x": 1.0, "y": 2.0}, "y", "m", "outcome: 'y' is itself set"),
        ({"x": 1.0}, "y", "latent", "y: its mechanism has no latent mediator; use HVAE"),
        ({"x": 1.0}, "y", "y", "through: 'y' is the outcome or the cause, not a mediator"),
        ({"x": 1.0}, "y", ["m", "x"], "through: 'x' is the outcome or the cause"),
        ({"m": 1.0}, "y", "x", r"'x' is not downstream of \['m'\]; its descendants are \['y'\]"),
        ({"x": [1.0, 2.0]}, "y", "m", r"x=\.\.\.\): 2 values for 3 rows"),
    ],
)
def test_questions_that_make_no_sense_are_refused(
    do: Any, outcome: str, through: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mediate(linear(), linear().sample(3), do, outcome, through)


def test_a_cause_that_cannot_be_inverted_does_not_stand_in_the_way() -> None:
    """Nor does an effect of the cause that the outcome does not listen to."""
    model = SCM(
        x=Equation("u**2"),
        m=Equation("2*x + u"),
        side=Equation("x + u**2"),
        y=Equation("3*x + 5*m + u"),
    )
    rows = model.sample(10, seed=0)
    effect = mediate(model, rows, {"x": 1.0}, "y", "m")
    close(effect.direct, 3 * (1 - rows["x"]))
    close(effect.indirect, 10 * (1 - rows["x"]))
    with pytest.raises(ValueError, match="x: its equation is not monotone in u"):
        mediate(model, rows, {"x": lambda x: x + 1}, "y", "m")


class Counted(Equation):
    """An equation that counts how often its mean is asked for."""

    def __init__(self, function: str) -> None:
        super().__init__(function)
        self.calls = 0

    def mean(self, noise: Noise, parents: Parents) -> Tensor:
        self.calls += 1
        return self.predict(noise, parents)


@pytest.mark.parametrize(
    ("y", "through", "worlds"),
    [
        ("x + m + u", "m", 4),
        ("x + m + u", [], 2),
        ("m + u", "m", 2),
        ("x + m + n + u", ["m", "n"], 4),
        ("m + n + u", ["m", "n"], 2),
        ("m + n + u", ["m"], 4),
    ],
)
def test_worlds_that_are_equal_are_computed_once(y: str, through: Any, worlds: int) -> None:
    model = SCM(x=Equation("u"), m=Equation("x + u"), n=Equation("x + m + u"), y=Counted(y))
    rows = {name: torch.zeros(2) for name in model.variables}
    mediate(model, rows, {"x": 1.0}, "y", through)
    assert model.mechanisms["y"].calls == worlds


def test_few_rows_at_a_time_give_the_same_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    model = deep()
    rows = model.sample(64, seed=0)

    def ask() -> Mediation:
        return mediate(model, rows, {"b": 3.0, "a": 0.0}, "scan", "size", particles=2, seed=0)

    whole = ask()
    monkeypatch.setattr("rung3.scm.parts.MEMORY", 1)
    parts = ask()
    assert whole.direct.abs().max() > 1e-3
    for name in ("direct", "indirect", "total", "factual"):
        one, other = getattr(whole, name), getattr(parts, name)
        assert one.shape == other.shape == (2, 64, 1, 8, 8)
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_effects_can_be_counted_from_another_intervention() -> None:
    model = interacting()
    rows = model.sample(20, seed=0)
    effect = mediate(model, rows, {"x": 2.0}, "y", "m", versus={"x": -1.0})
    back = mediate(model, rows, {"x": -1.0}, "y", "m", versus={"x": 2.0})
    two, one = (model.counterfactual(rows, {"x": x})["y"] for x in (2.0, -1.0))
    close(effect.total, two - one)
    close(effect.factual, one)
    close(effect.direct - back.indirect, two - one)
    mixed = mediate(model, rows, {"x": lambda x: x + 1}, "y", "m", versus={"x": lambda x: x})
    plain = mediate(model, rows, {"x": lambda x: x + 1}, "y", "m")
    assert torch.equal(mixed.total, plain.total)


def test_variables_that_must_both_change_and_not_are_named() -> None:
    row = {"x": 0.0, "m1": 0.5, "m2": -1.0, "n": 1.0, "y": 0.0}
    ask = partial(mediate, several(), row, {"x": 1.0}, "y")
    assert ask("m1").witnesses == ()  # a change comes to m1 and m2, and goes on from there
    assert ask("m2").witnesses == ("m1",)
    assert ask(["m1", "m2"]).witnesses == ()


def test_averages_are_over_particles_and_then_over_rows() -> None:
    model = deep()
    rows = model.sample(6, seed=0)
    effect = mediate(model, rows, {"b": 3.0}, "scan", "size", particles=3, seed=2)
    estimate = effect.average(level=0.9)
    each = effect.total.double().mean(0)
    torch.testing.assert_close(estimate.total.effect, each.mean(0))
    one = average_of(each[:, 0, 3, 4], level=0.9, numbers=True)
    for end in ("low", "high"):
        torch.testing.assert_close(getattr(estimate.total, end)[0, 3, 4], getattr(one, end))
    assert (estimate.total.n, estimate.total.level) == (6, 0.9)
    assert estimate.interaction.effect.shape == (1, 8, 8)
    alone = mediate(linear(), {"x": 0.0, "m": 1.0, "y": 2.0}, {"x": 1.0}, "y", "m", particles=3)
    with pytest.raises(ValueError, match="there is one row; an interval needs at least two"):
        alone.average()


def test_effects_on_a_category_without_order_are_refused() -> None:
    with pytest.raises(ValueError, match="outcome: 'kind' is Categorical"):
        mediate(deep(), deep().sample(3, seed=0), {"b": 1.0}, "kind", [])
    with pytest.raises(ValueError, match="outcome: 'kind' is Categorical"):
        average(deep(), {"b": 1.0}, "kind")


# Averages


@pytest.mark.parametrize(
    ("do", "versus", "truth"),
    [
        ({"x": 2.0}, {"x": -1.0}, 2 * (4 + 0) + math.sin(2) - (-1 * (1 + 0)) + math.sin(1)),
        ({"m": 1.0}, {"m": 0.0}, 0.0),
        ({"x": 1.0}, None, 1 + math.sin(1)),  # E[x m] = E[x^3] = 0, E[sin x] = 0
        ({"x": lambda x: x + 1}, None, 4.0 + math.exp(-0.5) * math.sin(1)),  # E[(x + 1)^3] = 4
        ({"x": 2.0, "m": 3.0}, {"x": 2.0, "m": 1.0}, 4.0),
    ],
)
def test_average_effects_are_the_expectations(do: Any, versus: Any, truth: float) -> None:
    estimate = average(interacting(), do, "y", versus=versus, n=40_000, level=0.9999, seed=0)
    assert estimate.low <= truth <= estimate.high
    assert (estimate.high - estimate.low).item() < 1.0
    assert (estimate.n, estimate.level) == (40_000, 0.9999)
    assert estimate.low <= estimate.effect <= estimate.high


def test_paired_noise_leaves_no_error_where_every_effect_is_alike() -> None:
    estimate = average(linear(), {"x": 1.0}, "y", versus={"x": 0.0}, n=100, seed=0)
    assert estimate.effect.item() == pytest.approx(13, abs=1e-4)
    assert (estimate.high - estimate.low).item() < 1e-5
    zero = average(linear(), {"x": 1.0}, "x", versus={"x": 1.0}, n=100, seed=0)
    assert (zero.low.item(), zero.high.item()) == (0.0, 0.0)


def test_intervals_of_symmetric_effects_are_t_intervals_and_those_of_skewed_ones_are_not() -> None:
    values = torch.tensor([-3.0, -1.0, -1.0, 0.0, 1.0, 1.0, 3.0]).double()
    estimate = average_of(values, level=0.9)
    half = t.ppf(0.95, 6) * values.std() / math.sqrt(7)
    torch.testing.assert_close(estimate.high, half)
    torch.testing.assert_close(estimate.low, -half)
    skewed = average_of(values.exp(), level=0.9)
    assert skewed.high - skewed.effect > 2 * (skewed.effect - skewed.low)
    mirrored = average_of(-values.exp(), level=0.9)
    torch.testing.assert_close(mirrored.low, -skewed.high)
    near = average_of(values + 1e-7 * values.exp(), level=0.9)  # either side of a = 0
    torch.testing.assert_close(near.high, estimate.high, atol=1e-5, rtol=0)


@pytest.mark.parametrize("n", [12, 60])
def test_intervals_of_skewed_effects_cover_as_often_as_they_say(n: int) -> None:
    draws = torch.distributions.Exponential(torch.ones(4000)).sample((n,))
    estimate = average_of(draws)
    covered = ((estimate.low <= 1) & (estimate.high >= 1)).double().mean()
    assert 0.93 <= covered <= 0.96  # the plain t interval: 0.91 and 0.94


@pytest.mark.parametrize("n", [4, 12, 60])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_cover_as_often_as_they_say(n: int, level: float) -> None:
    """The effect of x on a row is its w, which is normal; every coordinate is a run of its own."""
    many = Continuous(dim=250)
    model = SCM(
        variables={"w": many, "x": many, "y": many},
        w=Equation("u + 1"),
        x=Equation("u"),
        y=Equation("w*x + u"),
    )
    covered: list[bool] = []
    for seed in range(12):
        estimate = average(
            model,
            {"x": torch.ones(250)},
            "y",
            versus={"x": torch.zeros(250)},
            n=n,
            level=level,
            seed=seed,
        )
        covered += ((estimate.low <= 1) & (estimate.high >= 1)).tolist()
    error = math.sqrt(level * (1 - level) / len(covered))
    assert abs(sum(covered) / len(covered) - level) < 3 * error


ASK: dict[str, Callable[[SCM, int], Estimate]] = {
    "average": lambda world, seed: average(
        world, {"x": 1.0}, "y", versus={"x": -1.0}, n=60, seed=seed
    ),
    "natural": lambda world, seed: (
        natural(world, {"x": 1.0}, "y", "m", versus={"x": -1.0}, n=60, seed=seed).total
    ),
    "natural direct": lambda world, seed: (
        natural(world, {"x": 1.0}, "y", "m", versus={"x": -1.0}, n=60, seed=seed).direct
    ),
    "mediate": lambda world, seed: (
        mediate(world, world.sample(60, seed=seed), {"x": 1.0}, "y", "m", versus={"x": -1.0})
        .average()
        .indirect
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("ask", ASK)
def test_intervals_cover_in_a_thousand_studies(ask: str) -> None:
    """The effects are skewed (chi-squared and exponential); 95 % intervals cover in 93 to 97 %."""
    world = SCM(
        x=Equation("u"),
        m=Equation("x + u"),
        y=Equation("x*w*w + exp(w/2)*m + u"),
        w=Equation("u"),
    )
    direct, indirect = 2.0, 2 * math.exp(1 / 8)
    truth = {"natural direct": direct, "mediate": indirect}.get(ask, direct + indirect)
    estimates = [ASK[ask](world, seed) for seed in range(1500)]
    covered = [bool(one.low <= truth <= one.high) for one in estimates]
    assert 0.93 <= sum(covered) / len(covered) <= 0.97


def test_averages_of_a_vector_are_those_of_its_parts() -> None:
    slopes = torch.tensor([1.0, 2.0, -3.0])
    model = SCM(
        graph="x -> v",
        variables={"v": Continuous(dim=3)},
        mechanisms={"x": Equation("u"), "v": Equation(lambda x, u: x[:, None] * slopes + u)},
    )
    estimate = average(model, {"x": 1.0}, "v", versus={"x": -1.0}, n=10, seed=0)
    for part in (estimate.effect, estimate.low, estimate.high):  # every row has the same effect
        torch.testing.assert_close(part.float(), 2 * slopes, atol=1e-5, rtol=0)


def test_average_effects_on_categories_are_differences_of_their_means() -> None:
    model = SCM(graph="x -> sick", variables={"sick": Binary()}, mechanisms={"x": Equation("u")})
    estimate = average(model, {"x": 3.0}, "sick", versus={"x": -3.0}, n=20_000, level=0.999, seed=0)
    chance = [model.log_probs({"x": [x], "sick": [1]})["sick"].exp().item() for x in (3.0, -3.0)]
    assert estimate.low <= chance[0] - chance[1] <= estimate.high


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 95}, "level: expected a number between 0 and 1, got 95"),
        ({"level": 0.0}, "level: expected a number between 0 and 1, got 0.0"),
        ({"n": 1}, "n: expected a whole number of at least 2 rows, for an interval, got 1"),
        ({"n": 2.5}, "n: expected a whole number of at least 2 rows, for an interval, got 2.5"),
        ({"outcome": "yy"}, "no variable 'yy'; did you mean 'y'"),
        ({"do": {"xx": 1.0}}, "do: unknown variable 'xx'.*did you mean 'x'"),
        ({"versus": {"xx": 1.0}}, "do: unknown variable 'xx'.*did you mean 'x'"),
        ({"seed": "0"}, "seed: expected an int"),
    ],
)
def test_averages_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        average(linear(), **({"do": {"x": 1.0}, "outcome": "y"} | options))
