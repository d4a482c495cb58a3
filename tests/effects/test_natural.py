"""Natural and controlled effects of populations: closed forms, and potential outcomes by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Image
from rung3.data.seeding import base_seed
from rung3.effects import average, controlled, mediate, natural
from rung3.effects.averages import average_of
from rung3.mechanisms import VAE, Equation


def linear() -> SCM:
    return SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("3*x + 5*m + u"))


def curved() -> SCM:
    """The effect of m depends on x, and the noise of y on m."""
    return SCM(
        c=Equation("u"),
        x=Equation("c + u"),
        m=Equation("exp(x/2) + c + u/4"),
        y=Equation("x*m + tanh(m)*c + exp(m/8)*u"),
        world="curved",
    )


def test_in_a_linear_world_natural_effects_are_products_of_coefficients() -> None:
    natural_effects = natural(linear(), {"x": 2.0}, "y", "m", versus={"x": -1.0}, n=50, seed=0)
    for effect, truth in (
        (natural_effects.direct, 9),
        (natural_effects.indirect, 30),
        (natural_effects.total, 39),
    ):
        assert effect.effect.item() == pytest.approx(truth, abs=1e-4)
        assert effect.low.item() == pytest.approx(truth, abs=1e-4)
    assert natural_effects.interaction.effect.item() == pytest.approx(0, abs=1e-4)
    held = controlled(linear(), {"x": 2.0}, "y", {"m": 7.0}, versus={"x": -1.0}, n=50, seed=0)
    assert held.effect.item() == pytest.approx(9, abs=1e-4)


@pytest.mark.parametrize("versus", [None, {"x": -0.5}])
def test_natural_effects_are_those_of_potential_outcomes_by_hand(versus: Any) -> None:
    n, seed = 400, 3
    u: Any = curved().sample(n, seed=base_seed(seed, "effects")).noise
    c = u["c"]

    def mediator(x: Tensor) -> Tensor:
        return (x / 2).exp() + c + u["m"] / 4

    def outcome(x: Tensor, m: Tensor) -> Tensor:
        return x * m + m.tanh() * c + (m / 8).exp() * u["y"]

    x_ = torch.full((n,), 1.0)
    x = c + u["x"] if versus is None else torch.full((n,), versus["x"])
    base = outcome(x, mediator(x))
    effect = natural(curved(), {"x": 1.0}, "y", "m", versus=versus, n=n, seed=seed)
    truth = {
        "direct": outcome(x_, mediator(x)) - base,
        "indirect": outcome(x, mediator(x_)) - base,
        "total": outcome(x_, mediator(x_)) - base,
        "interaction": outcome(x_, mediator(x_))
        - outcome(x_, mediator(x))
        - outcome(x, mediator(x_))
        + base,
    }
    assert abs(truth["interaction"].mean()) > 0.1
    for name, each in truth.items():
        one = getattr(effect, name)
        assert one.effect.item() == pytest.approx(each.mean().item(), abs=1e-4)
        by_hand = average_of(each)
        torch.testing.assert_close(one.low, by_hand.low, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.high, by_hand.high, atol=1e-4, rtol=1e-4)
    m = torch.tensor(0.8)
    held = controlled(curved(), {"x": 1.0}, "y", {"m": 0.8}, versus=versus, n=n, seed=seed)
    assert held.effect.item() == pytest.approx(
        (outcome(x_, m) - outcome(x, m)).mean().item(), abs=1e-4
    )


def test_the_total_effect_is_the_average_effect() -> None:
    total = natural(curved(), {"x": 1.0}, "y", "m", n=500, seed=0).total
    plain = average(curved(), {"x": 1.0}, "y", n=500, seed=0)
    torch.testing.assert_close(total.effect, plain.effect, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(total.low, plain.low, atol=1e-6, rtol=1e-6)


def test_a_population_and_its_rows_agree() -> None:
    rows = curved().sample(300, seed=base_seed(1, "effects"))
    effect = natural(curved(), {"x": 1.0}, "y", "m", n=300, seed=1)
    same = mediate(curved(), rows, {"x": 1.0}, "y", "m").average()
    for name in ("direct", "indirect", "total"):
        one, other = getattr(effect, name), getattr(same, name)
        torch.testing.assert_close(one.effect, other.effect, atol=1e-4, rtol=1e-4)


def test_null_interventions_have_no_effect_at_all() -> None:
    for do, versus in (({"x": 1.0}, {"x": 1.0}), ({"x": lambda x: x}, None)):
        effect = natural(curved(), do, "y", "m", versus=versus, n=200, seed=0)
        assert [effect.direct.effect, effect.indirect.high, effect.total.low] == [0, 0, 0]


def test_images_have_natural_effects_too() -> None:
    model = SCM(
        graph="x -> m; {x m} -> scan",
        variables={"scan": Image(1, 8, 8)},
        mechanisms={"x": Equation("u"), "m": Equation("x + u"), "scan": VAE(2, width=4, depth=1)},
    ).eval()
    effect = natural(model, {"x": 3.0}, "scan", "m", versus={"x": 0.0}, n=20, seed=0)
    assert effect.direct.effect.shape == (1, 8, 8)
    assert not torch.equal(effect.direct.effect, effect.total.effect)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 1}, "n: expected a whole number of at least 2"),
        ({"level": 1.0}, "level: expected a number between 0 and 1"),
        ({"through": "x"}, "through: 'x' is the outcome or the cause"),
        ({"through": "c"}, "through: 'c' is not downstream of"),
        ({"versus": {"y": 1.0}}, "outcome: 'y' is itself set"),
    ],
)
def test_questions_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        natural(curved(), **({"do": {"x": 1.0}, "outcome": "y", "through": "m"} | options))


def test_a_mediator_that_is_a_cause_cannot_be_controlled() -> None:
    with pytest.raises(ValueError, match="at: 'x' is a cause that is set"):
        controlled(curved(), {"x": 1.0}, "y", {"x": 2.0})
