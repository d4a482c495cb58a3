"""Mechanisms that agree on rungs one and two, and what they leave open on three."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Continuous, Image, worlds
from rung3.effects.bounds import Reversed, sensitivity
from rung3.effects.bounds.alternatives import alternatives
from rung3.effects.bounds.sensitivity_analysis import MODELLED
from rung3.mechanisms import HVAE, VAE, Equation, Flow, GumbelMax, InverseCDF, Mechanism, Stage
from rung3.scm.enumeration import joint

FAILED = {"interested": [0], "studied": [0], "passed": [0]}


def pair(mechanism: Mechanism, kind: Continuous | Image | Categorical) -> SCM:
    """`s -> x`, and x far from its start: every weight is redrawn."""
    torch.manual_seed(0)
    model = SCM("s -> x", {"x": kind}, {"s": Equation("u"), "x": mechanism})
    with torch.no_grad():
        for parameter in model.mechanisms["x"].parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


CASES: dict[str, tuple[Mechanism, Continuous | Image | Categorical]] = {
    "flow": (Flow(), Continuous(lower=0)),
    "vector": (Flow(), Continuous(dim=3)),
    "equation": (Equation("s + s*u", noise="Uniform(0, 1)"), Continuous()),
    "VAE": (VAE(latent=2, width=4, depth=1), Image(1, 8, 8)),
    "HVAE": (HVAE(stages=[Stage(4, 8, latents=2)]), Image(1, 8, 8)),
    "Gumbel": (GumbelMax(), Categorical(4)),
    "inverse CDF": (InverseCDF(), Categorical(4)),
}


@pytest.mark.parametrize("case", CASES)
def test_alternatives_agree_on_rungs_one_and_two(case: str) -> None:
    model = pair(*CASES[case])
    rows = model.sample(4000, seed=0)
    head = rows[:50]
    for other in alternatives(model.mechanisms["x"]).values():
        swapped = model.do(x=other)
        densities = (m.log_probs(head, seed=0)["x"] for m in (model, swapped))
        torch.testing.assert_close(*densities, rtol=1e-4, atol=1e-4)
        for s in (-1.0, 1.0):
            one, two = (m.do(s=s).sample(4000, seed=1)["x"].float() for m in (model, swapped))
            torch.testing.assert_close(one.mean(0), two.mean(0), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("case", CASES)
def test_alternatives_change_nothing_under_a_null_intervention(case: str) -> None:
    model = pair(*CASES[case])
    rows = model.sample(40, seed=0)
    for other in alternatives(model.mechanisms["x"]).values():
        swapped = model.do(x=other)
        same = swapped.counterfactual(rows, {"s": rows["s"]}, particles=2, seed=0)["x"]
        torch.testing.assert_close(same, rows["x"].expand_as(same), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_alternatives_differ_on_rung_three(case: str) -> None:
    model = pair(*CASES[case])
    rows = model.sample(40, seed=0)
    kind = model.variables["x"]
    event = 1 if isinstance(kind, Categorical) else None
    alternatives = sensitivity(model, rows, {"s": rows["s"] + 1}, "x", event=event, particles=50)
    assert next(iter(alternatives.answers)) == MODELLED
    assert len(alternatives.answers) == 1 + len(alternatives.assumptions) >= 2
    assert alternatives.width.shape == (40,)
    assert alternatives.width.mean() > 0.02
    assert (alternatives.low <= alternatives.high).all()


def test_tables_give_the_same_joint_under_every_intervention() -> None:
    world = worlds.exam()
    for name in ("studied", "passed"):
        gumbel = alternatives(world.mechanisms[name])["GumbelMax"]
        for do in ({}, {"interested": 1}):
            one, two = (m.do(do) for m in (world, world.do({name: gumbel})))
            torch.testing.assert_close(joint(one), joint(two))


# Closed forms ----


def test_a_linear_equation_reversed() -> None:
    """`x2 = 3 x1 + u`: from u = -2, `3 * 5 - 2 = 13`, or `3 * 5 + 2 = 17`."""
    alternatives = sensitivity(worlds.lecture(), {"x1": 2.0, "x2": 4.0}, {"x1": 5.0}, "x2")
    assert alternatives.low.item() == pytest.approx(13)
    assert alternatives.high.item() == pytest.approx(17, abs=1e-4)
    assert alternatives.width.item() == pytest.approx(4, abs=1e-4)
    assert alternatives.bounds is None
    assert "any value in its support" in str(alternatives)


def test_monotone_and_reversed_noise_are_the_ends_of_the_probability_of_necessity() -> None:
    """Would it not have happened? Between `(p - q) / p` and `min(1, (1 - q) / p)`."""
    p, q = 0.8, 0.6
    model = SCM(
        "x -> y",
        variables={"x": Binary(), "y": Binary()},
        mechanisms={
            "x": InverseCDF(table=[0.5, 0.5]),
            "y": InverseCDF(table=[[1 - q, q], [1 - p, p]]),
        },
    )
    alternatives = sensitivity(
        model, {"x": [1], "y": [1]}, {"x": 0}, "y", event=0, particles=20_000
    )
    expected = [(p - q) / p, (1 - q) / p]
    assert alternatives.bounds is not None
    assert torch.cat(alternatives.bounds).tolist() == pytest.approx(expected, abs=1e-6)
    assert alternatives.answers[MODELLED].item() == pytest.approx(expected[0], abs=0.015)
    assert alternatives.answers["y, GumbelMax"].item() == pytest.approx(expected[0], abs=0.015)
    assert alternatives.answers["y, noise reversed"].item() == pytest.approx(expected[1], abs=0.015)


def test_a_flow_reversed_is_at_the_opposite_rank() -> None:
    model = pair(Flow(), Continuous(lower=0))
    rows, flow = model.sample(20, seed=0), model.mechanisms["x"]
    after = rows["s"] + 1
    answer = model.do(x=Reversed(flow)).counterfactual(rows, {"s": after})["x"]
    u = flow.abduct(rows["x"], {"s": rows["s"]})
    assert isinstance(u, Tensor)
    torch.testing.assert_close(answer, flow.predict(-u, {"s": after}))


def test_only_rows_whose_parents_change_are_turned_round() -> None:
    model = pair(Flow(), Continuous())
    rows = model.sample(6, seed=0)
    half = torch.where(torch.arange(6) < 3, rows["s"], rows["s"] + 1)
    alternatives = sensitivity(model, rows, {"s": half}, "x", particles=1)
    assert (alternatives.width[:3] < 1e-4).all()
    assert (alternatives.width[3:] > 1e-3).all()


def test_an_autoencoder_reversed_keeps_its_noise_of_observation() -> None:
    model = pair(*CASES["VAE"])
    rows, image = model.sample(5, seed=0), model.mechanisms["x"]
    after = rows["s"] + 1
    noise = model.abduct(rows, seed=3)["x"]
    assert isinstance(noise, dict)
    answer = model.do(x=Reversed(image)).counterfactual(rows, {"s": after}, seed=3)["x"]
    expected = image.predict({"z": -noise["z"], "eps": noise["eps"]}, {"s": after})
    torch.testing.assert_close(answer, expected)


# The report ----


def test_variables_between_are_exchanged_one_at_a_time() -> None:
    chain = SCM(a=Equation("u"), b=Equation("a + u"), c=Equation("b + u"), d=Equation("a + u"))
    rows = {"a": [0.0], "b": [1.0], "c": [3.0], "d": [0.0]}
    alternatives = sensitivity(chain, rows, {"a": 5.0}, "c")
    values = {name: answer.item() for name, answer in alternatives.answers.items()}
    expected = {MODELLED: 8, "b, noise reversed": 6, "c, noise reversed": 4}
    assert values == pytest.approx(expected, abs=1e-4)
    held = sensitivity(chain, rows, {"a": 5.0, "b": 2.0}, "c")
    assert list(held.answers) == [MODELLED, "c, noise reversed"]


def test_other_models_are_asked_too() -> None:
    other = SCM(x1=Equation("u + 1"), x2=Equation("2*x1 + u"))
    row = {"x1": 2.0, "x2": 4.0}
    alternatives = sensitivity(worlds.lecture(), row, {"x1": 5.0}, "x2", others={"seed 1": other})
    assert alternatives.answers["seed 1"].item() == pytest.approx(10)
    assert alternatives.low.item() == pytest.approx(10)
    assert "seed 1: 10, 3 apart; another model" in str(alternatives)


def test_a_world_s_own_noise_is_not_told_to_one_mechanism_alone() -> None:
    world = worlds.exam()
    rows = world.sample(5, seed=0)
    known = sensitivity(world, rows, {"studied": 1 - rows["studied"]}, "passed", particles=500)
    shares = known.answers[MODELLED]
    assert ((shares > 0.05) & (shares < 0.95)).any()  # not 0 or 1, as with the noise that is known
    assert known.bounds is not None
    low, high = known.bounds
    assert (low - 0.1 <= shares).all()
    assert (shares <= high + 0.1).all()


def test_it_is_determined_by_its_seed() -> None:
    one, two, three = (
        sensitivity(worlds.exam(), FAILED, {"studied": 1}, "passed", seed=seed).answers
        for seed in (0, 0, 1)
    )
    assert one == two != three


def test_bad_questions_are_refused() -> None:
    exam, ward = worlds.exam(), pair(GumbelMax(), Categorical(3))
    with pytest.raises(ValueError, match=r"nothing that is set, \['passed'\], causes 'studied'"):
        sensitivity(exam, FAILED, {"passed": 1}, "studied")
    with pytest.raises(ValueError, match="no variable 'grade'"):
        sensitivity(exam, FAILED, {"studied": 1}, "grade")
    with pytest.raises(ValueError, match="event: expected a value of x"):
        sensitivity(ward, {"s": [0.0], "x": [1]}, {"s": 1.0}, "x")
    with pytest.raises(ValueError, match="only discrete outcomes have events"):
        sensitivity(worlds.lecture(), {"x1": 2.0, "x2": 4.0}, {"x1": 5.0}, "x2", event=1)
    with pytest.raises(ValueError, match="others: the variables of 'seed 1'"):
        sensitivity(exam, FAILED, {"studied": 1}, "passed", others={"seed 1": worlds.lecture()})
    confounded = SCM("x -> y; x <-> y", {"x": Binary(), "y": Binary()})
    with pytest.raises(ValueError, match=r"hidden common causes.*rung3\.effects\.bounds"):
        sensitivity(confounded, {"x": [0], "y": [0]}, {"x": 1}, "y")
    with pytest.raises(ValueError, match="cannot be reversed"):
        Reversed(GumbelMax().bind("x", Categorical(3), {}))
    text = str(sensitivity(exam, FAILED, {"studied": lambda studied: 1 - studied}, "passed"))
    assert "not known (do: studied must be set to a value" in text
