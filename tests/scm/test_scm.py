"""SCM: the three verbs, on equations whose answers are known and on one model of every kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Continuous, Image, Ordinal, Rows, fit, worlds
from rung3.data.rows import Exogenous, Noise
from rung3.effects import mediate
from rung3.mechanisms import VAE, Equation, Flow, GumbelMax, InverseCDF, Mechanism
from rung3.scm import conditioning
from rung3.scm.undeclared import infer


def chain() -> SCM:
    """`a := u`, `b := exp(a/2) u`, `c := a b + 2 u`, and d beside them."""
    return SCM(
        a=Equation("u"),
        b=Equation("exp(a/2) * u"),
        c=Equation("a*b + 2*u"),
        d=Equation("3*u"),
    )


def every_kind() -> SCM:
    """An untrained model of every kind of variable and mechanism, away from where it starts."""
    model = SCM(
        graph="site -> dose -> stage; {site dose} -> sick; {dose stage} -> scan; dose -> place",
        variables={
            "site": Categorical(4),
            "dose": Continuous(unit="mg", lower=0),
            "stage": Ordinal(3),
            "sick": Binary(),
            "place": Continuous(dim=2),
            "scan": Image(1, 8, 9),
        },
        mechanisms={"scan": VAE(latent=3, width=4, depth=1)},
    )
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def row() -> dict[str, Any]:
    return {"a": 0.5, "b": -1.0, "c": 2.0, "d": 1.0}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[k], other[k]) for k in one)


def parts(noise: Noise) -> list[Tensor]:
    return [noise] if isinstance(noise, Tensor) else list(noise.values())


# The three verbs


def test_the_verbs_give_what_one_finds_by_hand() -> None:
    model = chain()
    rows = {k: np.random.default_rng(i).normal(size=50) for i, k in enumerate("abcd")}
    noise = model.abduct(rows)
    u_b = rows["b"] / np.exp(rows["a"] / 2)
    u_c = (rows["c"] - rows["a"] * rows["b"]) / 2
    for name, truth in {"a": rows["a"], "b": u_b, "c": u_c, "d": rows["d"] / 3}.items():
        np.testing.assert_allclose(noise[name], truth, atol=1e-4)
    imagined = model.do(a=1.5).predict(noise)
    b = np.exp(0.75) * u_b
    np.testing.assert_allclose(imagined["b"], b, atol=1e-4)
    np.testing.assert_allclose(imagined["c"], 1.5 * b + 2 * u_c, atol=1e-4)


@pytest.mark.parametrize("particles", [None, 3])
def test_counterfactual_is_abduction_action_and_prediction(particles: int | None) -> None:
    model = every_kind()
    rows = model.sample(6, seed=0)
    do = {"dose": rows["dose"] + 1, "site": 2}
    chained = model.do(do).predict(model.abduct(rows, particles, seed=3))
    assert same(chained, model.counterfactual(rows, do, particles=particles, seed=3))


@pytest.mark.parametrize("particles", [None, 1, 3])
@pytest.mark.parametrize("n", [None, 1, 5])
def test_answers_are_shaped_as_the_evidence(n: int | None, particles: int | None) -> None:
    model = every_kind()
    rows = model.sample(5, seed=0)
    evidence = rows[0] if n is None else rows[:n]
    lead = () if particles is None else (particles,)
    lead += () if n is None else (n,)
    for do in (
        {"dose": 2.0},
        {},
        {"scan": evidence["scan"]},
        {"site": lambda site: (site + 1) % 4},
    ):
        answer = model.counterfactual(evidence, do, particles=particles, seed=0)
        assert list(answer) == list(model.variables)
        assert {k: v.shape for k, v in answer.items()} == {
            name: (*lead, *variable.shape) for name, variable in model.variables.items()
        }
        assert {k: v.dtype for k, v in answer.items()} == {
            name: variable.dtype for name, variable in model.variables.items()
        }
    axes = (n or 1,) if particles is None else (particles, n or 1)
    noise = model.abduct(evidence, particles, seed=0)
    for part in (part for name in noise for part in parts(noise[name])):
        assert part.shape[: len(axes)] == axes


def test_one_row_alone_is_answered_as_in_a_batch_of_one() -> None:
    model = every_kind()
    rows = model.sample(1, seed=0)
    alone = model.counterfactual(rows[0], do={"dose": 2.0}, seed=1)
    batch = model.counterfactual(rows, do={"dose": 2.0}, seed=1)
    assert alone["dose"].shape == ()
    assert same(alone, {name: value[0] for name, value in batch.items()})


class Counting(Equation):
    """Counts how often it predicts."""

    calls = 0

    def predict(self, noise: Noise, parents: Any) -> Tensor:
        self.calls += 1
        return super().predict(noise, parents)


def test_a_null_intervention_takes_no_short_cut_and_changes_nothing() -> None:
    model = SCM(a=Equation("u"), b=Counting("exp(a) + a*u"), c=Counting("b + u"))
    rows = model.sample(200, seed=0)
    bound: Any = model.mechanisms
    noise = model.abduct(rows)
    before = bound["b"].calls, bound["c"].calls
    again = model.do(a=rows["a"]).predict(noise)
    assert (bound["b"].calls, bound["c"].calls) == (before[0] + 1, before[1] + 1)
    for name in rows:
        torch.testing.assert_close(again[name], rows[name], atol=1e-5, rtol=1e-5)


def test_a_null_intervention_changes_no_kind_of_variable() -> None:
    model = every_kind()
    rows = model.sample(100, seed=0)
    cloud = model.counterfactual(rows, do={"site": rows["site"]}, particles=3, seed=1)
    for name, variable in model.variables.items():
        expected = rows[name].expand(cloud[name].shape)
        if isinstance(variable, Continuous):
            torch.testing.assert_close(cloud[name], expected, atol=1e-4, rtol=1e-4)
        else:  # classes never flip, and pixels come back to their level
            assert torch.equal(cloud[name], expected), name


@pytest.mark.parametrize("particles", [None, 2])
def test_what_is_not_downstream_comes_back_bit_for_bit(particles: int | None) -> None:
    model = every_kind()
    rows = model.sample(40, seed=0)
    answer = model.counterfactual(rows, do={"stage": 0, "sick": 1}, particles=particles, seed=1)
    for name in ("site", "dose", "place"):
        assert torch.equal(answer[name], rows[name].expand(answer[name].shape))
    assert not torch.equal(answer["scan"], rows["scan"].expand(answer["scan"].shape))


def test_no_intervention_gives_the_factual_bit_for_bit() -> None:
    model = every_kind()
    rows = model.sample(10, seed=0)
    assert same(model.counterfactual(rows, do={}), rows)
    assert same(model.predict(model.abduct(rows)), rows)


def test_do_makes_a_new_model_that_shares_parameters_and_leaves_the_old_one() -> None:
    model = every_kind()
    rows = model.sample(5, seed=0)
    graph, text = model.graph, str(model)
    acted = model.do({"dose": 1.0})
    assert model.graph is graph
    assert str(model) == text
    assert same(model.sample(5, seed=0), rows)
    assert acted.graph == graph.do("dose")
    for name, mechanism in model.mechanisms.items():
        assert (acted.mechanisms[name] is mechanism) is (name != "dose")
    with torch.no_grad():
        for parameter in model.mechanisms["place"].parameters():
            parameter += 1.0
    assert torch.equal(
        acted.sample(5, seed=0)["place"], model.do(dose=1.0).sample(5, seed=0)["place"]
    )
    assert not torch.equal(model.sample(5, seed=0)["place"], rows["place"])


@pytest.mark.parametrize("training", [True, False])
def test_do_keeps_the_mode(training: bool) -> None:
    assert every_kind().train(training).do(dose=1.0).training is training


def test_interventions_one_after_the_other_are_joint() -> None:
    model, rows = chain(), chain().sample(10, seed=0)
    noise = model.abduct(rows)
    joint = model.do(a=1.0, b=2.0).predict(noise)
    assert same(model.do(a=1.0).do(b=2.0).predict(noise), joint)
    assert same(model.do({"a": 0.0}, b=2.0).do(a=1.0).predict(noise), joint)


def test_worlds_asked_with_one_seed_share_the_noise_of_every_kind() -> None:
    model = every_kind()
    before = model.sample(50, seed=7)
    for name in model.variables:
        again = model.do({name: before[name]}).sample(50, seed=7)
        for other, variable in model.variables.items():
            exact = not isinstance(variable, Continuous)
            tolerance = {"atol": 0.0, "rtol": 0.0} if exact else {"atol": 1e-5, "rtol": 1e-5}
            torch.testing.assert_close(again[other], before[other], **tolerance)


def test_particles_follow_the_posterior_and_the_two_families_differ_on_rung_three() -> None:
    """Against noise drawn from the prior, of which only what gives the evidence is kept."""
    rng = np.random.default_rng(0)
    table = [[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]
    old, new = np.array(table)
    gumbel, uniform = rng.gumbel(size=(400_000, 3)), rng.random(400_000)
    told: dict[type, Callable[[np.ndarray], np.ndarray]] = {
        GumbelMax: lambda p: (np.log(p) + gumbel).argmax(1),
        InverseCDF: lambda p: np.searchsorted(p.cumsum()[:-1], uniform, side="right"),
    }
    found = {}
    for family, value in told.items():
        kind = Categorical(3) if family is GumbelMax else Ordinal(3)
        model = SCM(
            graph="t -> x",
            variables={"t": Binary(), "x": kind},
            mechanisms={"t": InverseCDF(), "x": family(table=table)},
        )
        for x in range(3):
            cloud = model.counterfactual({"t": 0, "x": x}, {"t": 1}, particles=40_000, seed=x)
            share = np.bincount(cloud["x"], minlength=3) / 40_000
            kept = value(new)[value(old) == x]
            truth = np.bincount(kept, minlength=3) / len(kept)
            np.testing.assert_allclose(share, truth, atol=0.012)  # 4 standard errors
            found[family, x] = share
    assert abs(found[GumbelMax, 0] - found[InverseCDF, 0]).max() > 0.05


# Seeds


QUERIES: dict[str, Callable[[SCM, Rows, Any], list[Tensor]]] = {
    "sample": lambda model, rows, seed: list(model.sample(5, seed=seed).values()),
    "sample given": lambda model, rows, seed: list(
        model.sample(5, given={"stage": 1}, seed=seed).values()
    ),
    "sample given an image": lambda model, rows, seed: list(
        model.sample(
            5, given={k: rows[k][0] for k in ("dose", "stage", "scan")}, seed=seed
        ).values()
    ),
    "abduct": lambda model, rows, seed: [
        part for noise in model.abduct(rows, seed=seed).values() for part in parts(noise)
    ],
    "counterfactual": lambda model, rows, seed: list(
        model.counterfactual(rows, {"dose": 3.0}, particles=4, seed=seed).values()
    ),
}


@pytest.mark.parametrize("query", QUERIES)
def test_seeds(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditioning, "PROPOSALS", 100)
    model = every_kind()
    rows = model.sample(5, seed=0)

    def ask(seed: Any) -> list[Tensor]:
        return QUERIES[query](model, rows, seed)

    def alike(one: list[Tensor], other: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    torch.manual_seed(12)
    state = torch.random.get_rng_state()
    first = ask(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert alike(first, ask(1))
    assert not alike(first, ask(2))
    generator = torch.Generator().manual_seed(5)
    drawn = ask(generator)
    assert not alike(drawn, ask(generator))
    assert alike(drawn, ask(torch.Generator().manual_seed(5)))
    torch.manual_seed(6)
    followed = ask(None)
    assert not alike(followed, ask(None))
    torch.manual_seed(6)
    assert alike(followed, ask(None))


@pytest.mark.parametrize("seed", ["1", 1.0, True])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed: expected an int, a torch.Generator or None, got"):
        chain().sample(1, seed=seed)


# hold, temperature, mean


def test_a_variable_that_is_held_leaves_the_direct_effect() -> None:
    model, rows = chain(), chain().sample(20, seed=0)
    answer = model.counterfactual(rows, do={"a": 2.0}, hold=["b"])
    assert torch.equal(answer["b"], rows["b"])
    direct = rows["c"] + (2 - rows["a"]) * rows["b"]
    torch.testing.assert_close(answer["c"], direct, atol=1e-4, rtol=1e-4)
    assert answer.explain().status == {
        "a": "intervened", "b": "held", "c": "propagated", "d": "observed",
    }  # fmt: skip
    assert same(model.counterfactual(rows, do={"a": 2.0}, hold="b"), answer)
    cloud = model.counterfactual(rows, do={"a": 2.0}, hold=["b"], particles=2)
    assert torch.equal(cloud["c"][1], answer["c"])


def test_a_model_that_holds_answers_as_a_counterfactual_that_does() -> None:
    model, rows = chain(), chain().sample(5, seed=0)
    acted = model.do(a=2.0).hold({"b": rows["b"]})
    assert same(acted.predict(model.abduct(rows)), model.counterfactual(rows, {"a": 2.0}, hold="b"))
    assert acted.predict(model.abduct(rows)).explain().status["b"] == "held"
    with pytest.raises(ValueError, match="z"):
        model.hold({"z": 1.0})


def test_holding_what_is_not_downstream_changes_nothing() -> None:
    model, rows = chain(), chain().sample(200, seed=0)
    answer = model.counterfactual(rows, do={"d": 0.0}, hold=["a"])
    assert same({k: answer[k] for k in "abc"}, {k: rows[k] for k in "abc"})
    assert answer.explain().status["a"] == "observed"


def test_temperature_scales_the_noise_of_observation_alone() -> None:
    model = every_kind()
    rows = model.sample(4, seed=0)
    noise = model.abduct(rows, seed=1)
    acted, scan = model.do(dose=2.0), model.mechanisms["scan"]
    warm, cold = acted.predict(noise), acted.predict(noise, temperature=0.0)
    parents = {"dose": cold["dose"], "stage": cold["stage"]}
    own: Any = noise["scan"]
    still = {"z": own["z"], "eps": torch.zeros_like(own["eps"])}
    assert torch.equal(cold["scan"], scan.predict(still, parents))
    half = {"z": own["z"], "eps": own["eps"] / 2}
    lukewarm = acted.predict(noise, temperature=0.5)
    assert torch.equal(lukewarm["scan"], scan.predict(half, parents))
    assert not torch.equal(warm["scan"], cold["scan"])
    assert same(
        {k: v for k, v in warm.items() if k != "scan"},
        {k: v for k, v in cold.items() if k != "scan"},
    )
    chained = model.counterfactual(rows, {"dose": 2.0}, seed=1, temperature=0.0)
    assert same(chained, cold)


def test_what_is_not_declared_is_read_off_its_column_when_fitted() -> None:
    kinds = {"y": Continuous()}
    model = SCM("{drug ward name} -> y; given -> y", kinds, {"given": Flow()})
    table = {
        "drug": [0, 1] * 30,
        "ward": [2, 0, 1] * 20,
        "name": ["ann", "bob", "cy"] * 20,
        "given": [0, 1] * 30,
        "y": np.random.default_rng(0).normal(size=60),
    }
    with pytest.warns(UserWarning, match=r"not declared, .* drug: Binary\(\), ward: Cat"):
        fit(model, table, epochs=1, progress=False)
    assert model.variables["drug"] == Binary()
    assert model.variables["name"] == Categorical(labels=("ann", "bob", "cy"))
    assert model.variables["given"] == Continuous()  # its mechanism models numbers
    assert isinstance(model.mechanisms["drug"], InverseCDF)
    assert infer(model, table) == {}
    assert model.do(name="bob").sample(1)["name"].item() == 1


def test_a_yes_or_no_in_floats_is_not_taken_for_a_number_in_silence() -> None:
    model, table = SCM("a -> b"), {"a": torch.tensor([1.0, 0.0] * 20), "b": torch.arange(40) / 7}
    with pytest.warns(UserWarning, match=r"a: its 0\.0 and 1\.0 .* variables={'a': Binary\(\)}"):
        assert infer(model, table) == {}


def test_the_mean_is_the_decoders() -> None:
    model = every_kind()
    rows = model.sample(4, seed=0)
    noise = model.abduct(rows, seed=1)
    acted = model.do(dose=2.0)
    answer = acted.predict(noise, mean=["scan"])
    parents = {"dose": answer["dose"], "stage": answer["stage"]}
    assert torch.equal(answer["scan"], model.mechanisms["scan"].mean(noise["scan"], parents))
    assert torch.equal(acted.predict(noise, mean="scan")["scan"], answer["scan"])
    with pytest.raises(ValueError, match="no variable 'scann'; did you mean 'scan'"):
        acted.predict(noise, mean=["scann"])


# What an answer rests on


def test_explain_says_what_was_done_to_each_variable_and_what_it_rests_on() -> None:
    model = every_kind()
    rows = model.sample(5, seed=0)
    do = {"dose": lambda dose: dose + 1, "sick": 1}
    answer = model.counterfactual(rows, do, hold=["place"]).explain()
    assert answer.rung == "imagining"
    assert answer.status == {
        "site": "observed",
        "dose": "intervened",
        "stage": "propagated",
        "sick": "intervened",
        "place": "held",
        "scan": "propagated",
    }
    assert answer.names("propagated") == ["stage", "scan"]
    assert answer.interventions == {
        "dose": "set to a function of dose",
        "sick": "set to 1",
        "place": "held at its factual value",
    }
    assert answer.abductions["stage"] == "posterior"
    assert answer.abductions["scan"] == "approximate"
    assert "not told by data" in answer.assumptions["stage"]
    text = str(answer)
    for line in (
        "rung: imagining",
        "  site: observed",
        "  sick: intervened; set to 1",
        "  stage: propagated; abduction posterior; monotone in uniform noise, not told by data",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("mechanism", "variable", "kind"),
    [
        (Equation("a + u"), Continuous(), "exact"),
        (Flow(), Continuous(), "exact"),
        (GumbelMax(), Categorical(3), "posterior"),
        (InverseCDF(), Binary(), "posterior"),
        (VAE(latent=2, width=4), Image(1, 8, 8), "approximate"),
    ],
)
def test_kinds_of_abduction(mechanism: Mechanism, variable: Any, kind: str) -> None:
    model = SCM(
        graph="a -> x",
        variables={"x": variable},
        mechanisms={"a": Equation("u"), "x": mechanism},
    )
    answer = model.counterfactual(model.sample(2, seed=0), do={"a": 1.0}, seed=0)
    assert answer.explain().abductions == {"x": kind}
    assert answer.explain().assumptions == {"x": model.mechanisms["x"].assumption}


def test_rungs_and_statuses_of_samples() -> None:
    model = chain()
    assert model.sample(2).explain().rung == "seeing"
    doing = model.do(b=1.0).sample(2, given={"a": 0.0}).explain()
    assert doing.rung == "doing"
    assert doing.status == {
        "a": "observed", "b": "intervened", "c": "sampled", "d": "sampled",
    }  # fmt: skip
    with pytest.raises(ValueError, match="these rows are data"):
        Rows({"a": torch.zeros(2)}).explain()


def test_answers_outside_the_training_range_are_given_and_flagged() -> None:
    model = SCM(graph="a -> b", mechanisms={"a": Flow(), "b": Equation("2*a + u")})
    seen = {"a": torch.linspace(-1, 1, 100), "b": torch.linspace(-3, 3, 100)}
    for name, mechanism in model.mechanisms.items():
        mechanism.calibrate(seen[name], {parent: seen[parent] for parent in mechanism.parents})
    rows = {"a": torch.zeros(4), "b": torch.zeros(4)}
    far = torch.tensor([0.0, 0.5, 2.0, 1000.0])
    answer = model.counterfactual(rows, do={"a": far})
    torch.testing.assert_close(answer["b"], 2 * far)
    assert answer.explain().outside == {"a": 0.5, "b": 0.5}
    assert "outside the training range in 50% of rows" in str(answer.explain())
    assert model.do(a=50.0).sample(2).explain().outside == {"a": 1.0}
    assert model.sample(2, given={"a": 50.0}).explain().outside == {"a": 1.0}
    assert model.counterfactual(rows, do={"a": 0.1}).explain().outside == {}


# Densities


def test_log_prob_is_the_sum_over_the_variables_in_closed_form() -> None:
    model, rows = chain(), chain().sample(30, seed=0)
    a, b, c, d = (rows[name].double().numpy() for name in "abcd")
    truth = {
        "a": stats.norm.logpdf(a),
        "b": stats.norm.logpdf(b, scale=np.exp(a / 2)),
        "c": stats.norm.logpdf(c, loc=a * b, scale=2),
        "d": stats.norm.logpdf(d, scale=3),
    }
    found = model.log_probs(rows)
    for name, expected in truth.items():
        np.testing.assert_allclose(found[name], expected, atol=1e-3)
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
    found = acted.log_prob(rows)
    assert found.tolist() == pytest.approx([stats.norm.logpdf(0), -np.inf])


# Gradients and devices


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
    cold = {"temperature": 0.0}
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


# What goes in


ROWS = {"a": [0.0, 1.0, 2.0], "b": [1.0, 1.0, 0.0], "c": [3.0, -1.0, 0.0], "d": [0.0, 0.0, 1.0]}


@pytest.mark.parametrize(
    "given",
    [
        ROWS,
        {k: np.array(v) for k, v in ROWS.items()},
        {k: np.array(v, dtype=int) for k, v in ROWS.items()},
        {k: torch.tensor(v, dtype=torch.float64) for k, v in ROWS.items()},
        {k: pd.Series(v, index=[7, 8, 9]) for k, v in ROWS.items()},
        pd.DataFrame(ROWS, index=[3, 1, 2]),
        Rows({k: torch.tensor(v) for k, v in ROWS.items()}),
    ],
    ids=["lists", "arrays", "integers", "doubles", "series", "frame", "rows"],
)
def test_array_likes_are_accepted_and_tensors_come_back(given: Any) -> None:
    model = chain()
    expected = model.counterfactual({k: torch.tensor(v) for k, v in ROWS.items()}, {"a": 1.0})
    for do in ({"a": 1}, {"a": np.float64(1)}, {"a": [1, 1, 1]}, pd.DataFrame({"a": [1.0] * 3})):
        answer = model.counterfactual(given, do)
        assert same(answer, expected)
        assert same(model.do(do).predict(model.abduct(given)), expected)
    assert torch.equal(model.log_prob(given), model.log_prob(ROWS))


@pytest.mark.parametrize("wrap", [dict, pd.Series])
def test_numbers_in_numbers_out(wrap: Callable[[Any], Any]) -> None:
    answer = worlds.lecture().counterfactual(wrap({"x1": 2.0, "x2": 4.0}), do={"x1": 5})
    assert answer["x2"].item() == 13.0
    assert answer["x2"].shape == ()


NAMES = ["blood sugar", "x.y", "größe", "self", "values", "do", "seed", "training", "42", "a-b"]


def test_variables_of_any_name_work() -> None:
    model = SCM(graph=list(pairwise(NAMES)), mechanisms={name: Flow(splines=0) for name in NAMES})
    rows = model.sample(3, seed=0)
    assert list(rows) == NAMES
    for name, other in pairwise(NAMES):
        answer = model.counterfactual(rows, do={name: 1.5}, hold=[other])
        assert torch.equal(answer[other], rows[other])
        assert answer[name].tolist() == [1.5] * 3
        assert model.do({name: 2.0}).sample(2)[name].tolist() == [2.0] * 2
    assert model.log_prob(rows).shape == (3,)
    assert model.do(seed=3.0, training=2.0).sample(1)["seed"].item() == 3.0
    odd = SCM(mechanisms={"graph": Equation("u"), "world": Equation("graph + 2*u")})
    assert odd.counterfactual({"graph": 0.0, "world": 1.0}, {"graph": 3.0})["world"].item() == 4.0


def test_the_default_of_each_kind_is_chosen_and_said() -> None:
    text = str(every_kind())
    assert "site: Categorical(classes=4) := GumbelMax() (default of its kind)" in text
    assert "stage: Ordinal(classes=3) := InverseCDF() (default of its kind)" in text
    assert "dose: Continuous(unit='mg', lower=0) := Flow() (default of its kind)" in text
    assert "VAE(latent=3, width=4, depth=1)\n" not in text.split("(default")[-1]
    assert every_kind().defaults == {"site", "dose", "stage", "sick", "place"}


# Worlds


def test_a_world_abducts_from_the_noise_of_its_rows() -> None:
    world = SCM(a=Equation("u**2"), b=Equation("a + u"), world="squares")
    rows = world.sample(6, seed=0)
    assert rows.noise is not None
    noise = world.abduct(rows[2:5])
    assert torch.equal(noise["a"], rows.noise["a"][2:5])
    assert noise.kinds == {"a": "known", "b": "known"}
    assert world.abduct(rows[0])["a"].shape == (1,)
    with pytest.raises(ValueError, match="a: its equation is not monotone in u"):
        world.abduct(dict(rows))
    assert SCM(a=Equation("u")).sample(1).noise is None


@pytest.mark.parametrize("new", [Equation("10*u"), 3.0, lambda x1: x1 + 2])
def test_rows_of_a_world_that_was_changed_carry_no_noise_of_what_was_replaced(new: Any) -> None:
    world = worlds.lecture()
    rows = world.do(x1=new).sample(5, seed=0)
    noise = world.abduct(rows)
    torch.testing.assert_close(noise["x1"], rows["x1"] - 1)
    torch.testing.assert_close(noise["x2"], rows["x2"] - 3 * rows["x1"], atol=1e-4, rtol=1e-4)
    assert noise.kinds == {"x1": "exact", "x2": "known"}


# What is refused


def categories() -> SCM:
    variables = {"a": Categorical(3), "b": Continuous(lower=0, unit="px", missing=True)}
    return SCM(graph="a -> b", variables=variables)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SCM(a=Equation("b + u"), b=Equation("a + u")), "cycle: b -> a -> b"),
        (lambda: SCM(graph="a -> b; b -> a"), "cycle"),
        (lambda: SCM(b=Equation("a + u")), "argument: unknown variable 'a'.*are .'b'."),
        (lambda: SCM(graph="a -> b", variables={"bb": Binary()}), "'bb'.*did you mean 'b'"),
        (lambda: SCM(graph="a -> b", mechanisms={"bb": Flow()}), "'bb'.*did you mean 'b'"),
        (lambda: SCM(graph="a -> b", mechanisms={"b": Equation("u")}),
         "b: the equation's arguments are .., but the graph's parents of b are .'a'."),
        (lambda: SCM(graph="a", variables={"a": Binary()}, mechanisms={"a": Flow()}),
         "a: Flow models numbers, and a is Binary"),
        (lambda: SCM(graph="a", mechanisms={"a": GumbelMax()}), "a: GumbelMax models categories"),
        (lambda: SCM(a=Flow()), "graph: not given, and .'a'. does not say its parents"),
        (lambda: SCM(graph="a", mechanisms={"a": Flow}),
         r"a: expected a mechanism, such as Flow\(\), got <class"),
        (lambda: SCM(graph="a", variables={"a": "continuous"}),
         r"a: expected a variable, such as Binary\(\), got 'continuous'"),
    ],
)  # fmt: skip
def test_models_that_do_not_fit_together_are_refused(make: Callable[[], SCM], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": [0, 1]}, r"b: not given; abduction needs a value of every variable.*\['a'\]"),
        ({"a": [0], "b": [1.0], "c": [0]}, r"unknown variable 'c'; the variables are \['a', 'b'\]"),
        ({"a": [0, 3], "b": [1.0, 1.0]}, "a: 3 is not a category; expected .* from 0 to 2"),
        ({"a": [0.5], "b": [1.0]}, "a: 0.5 is not a category"),
        ({"a": [-1], "b": [1.0]}, "a: -1 is not a category"),
        ({"a": [0, 1], "b": [1.0, -2.0]}, r"b: -2 is outside its support \[0, inf\] px"),
        ({"a": [0], "b": [np.inf]}, "b: 1 values are infinite"),
        ({"a": [np.nan], "b": [1.0]}, "a: 1 values are NaN; declare .* missing=True"),
        ({"a": [0, 0, 0], "b": [1.0, 1.0, np.nan]}, r"b: missing in 1 rows \(first: row 2\)"),
        ({"a": [0, 1], "b": [1.0]}, "differ in number of rows: {'a': 2, 'b': 1}"),
        ({"a": 0, "b": [1.0]}, r"\['a'\] are single values but \['b'\] are batches"),
        ({"a": [0], "b": [[1.0]]}, r"b: expected shape \(\) or \(n,\), got \(1, 1\)"),
        ({"a": [0], "b": ["much"]}, "b: expected numbers, got values of type"),
        ({}, "no values were given"),
        (3, "expected a mapping from variable to values, got int"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_any_work(rows: Any, message: str) -> None:
    model = categories()
    for ask in (model.abduct, lambda r: model.counterfactual(r, do={"a": 1})):
        with pytest.raises(ValueError, match=message):
            ask(rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do": {"aa": 1}}, "do: unknown variable 'aa'.*did you mean 'a'"),
        ({"do": {"a": 3}}, "a: 3 is not a category; expected a whole number from 0 to 2"),
        ({"do": {"a": 1}, "hold": ["bb"]}, "no variable 'bb'; did you mean 'b'"),
        ({"do": {"a": 1}, "hold": ["a"]}, "a: cannot both be set and held"),
        ({"do": {"a": 1}, "particles": 0}, "particles: .* whole number of at least 1, got 0"),
        ({"do": {"a": 1}, "particles": 2.5}, "particles: .* whole number of at least 1, got 2.5"),
        ({"do": {"a": 1}, "particles": True}, "particles: .* whole number .*, got True"),
        ({"do": {"a": [0, 1, 2]}}, "a=...: 3 values for 2 rows"),
    ],
)
def test_questions_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("...:", r"\.\.\.\):")):
        categories().counterfactual({"a": [0, 1], "b": [1.0, 2.0]}, **options)


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "3"])
def test_what_is_no_number_of_rows_is_refused(n: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"at least 1, got {n!r}")):
        chain().sample(n)


def test_densities_name_a_parent_that_is_not_given_and_a_value_that_is_missing() -> None:
    with pytest.raises(ValueError, match=r"c: its parents \['b'\] are not given"):
        chain().log_prob({"a": [0.0], "c": [1.0]})
    for values in ({"a": [0, 1], "b": [1.0, np.nan]}, {"b": [1.0, np.nan], "a": [0, 1]}):
        with pytest.raises(ValueError, match=r"b: missing in 1 rows \(first: row 1\)"):
            categories().log_prob(values)


def test_a_mechanism_that_cannot_be_inverted_says_so_and_is_not_asked_without_need() -> None:
    model = SCM(a=Equation("u**2"), b=Equation("a + u"), c=Equation("b + sin(u)"))
    rows = {"a": [1.0], "b": [2.0], "c": [2.5]}
    with pytest.raises(ValueError, match=r"a: its equation is not monotone in u.*inverse="):
        model.abduct(rows)
    with pytest.raises(ValueError, match="c: its equation is not monotone in u"):
        model.counterfactual(rows, do={"a": 2.0})
    assert model.counterfactual(rows, do={"a": 2.0}, hold=["c"])["b"].item() == 3.0


def test_evidence_that_cannot_be_is_refused() -> None:
    model = SCM(a=Equation("u", noise="Uniform(0, 1)"), b=Equation("2*a"))
    with pytest.raises(ValueError, match="a: evidence has probability zero"):
        model.abduct({"a": 2.0, "b": 4.0})
    with pytest.raises(ValueError, match="b: evidence has probability zero: 3 is not what"):
        model.abduct({"a": 0.5, "b": 3.0})


def test_noise_that_is_needed_and_not_there_is_named() -> None:
    model = chain()
    with pytest.raises(ValueError, match="b: its noise is needed, and was not abducted"):
        model.predict({"a": torch.zeros(2)})
    noise = model.abduct(ROWS)
    without = Exogenous(
        {k: v for k, v in noise.items() if k != "c"},
        n=noise.n,
        factual=noise.factual,
        mechanisms=noise.mechanisms,
    )
    assert same(model.do(d=1.0).predict(without), model.do(d=1.0).predict(noise))
    with pytest.raises(ValueError, match="c: its noise is needed"):
        model.do(a=1.0).predict(without)


# Impossible evidence ------------------------------------------------------------------------------


@pytest.mark.parametrize("particles", [None, 2])
@pytest.mark.parametrize(
    "do",
    [
        {"c": 1.0},
        {"c": 2.0},
        {"x": lambda x: x + 1},
        {"x": lambda x, u: x + u},
        {"c": lambda u: u},
        {"c": 0.0, "y": lambda y: y},
    ],
)
def test_impossible_evidence_is_refused_by_counterfactuals_too(
    do: dict[str, Any], particles: int | None
) -> None:
    model = SCM(c=Equation("u"), x=Equation("c"), y=Equation("x + u"))
    rows = {"c": [1.0, 1.0], "x": [1.0, 5.0], "y": [5.0, 5.0]}
    message = "x: evidence has probability zero in row 1: 5 is not what its deterministic equation"
    with pytest.raises(ValueError, match=message):
        model.abduct(rows)
    with pytest.raises(ValueError, match=message):
        model.counterfactual(rows, do, particles=particles)
    single = {name: values[1] for name, values in rows.items()}
    with pytest.raises(ValueError, match="x: evidence has probability zero: 5 is not"):
        model.counterfactual(single, do, particles=particles)
    held = model.counterfactual(rows, {"c": 2.0}, hold=["x"], particles=particles)
    assert torch.equal(held["y"], torch.tensor([5.0, 5.0]).expand_as(held["y"]))
    possible = {**rows, "x": [1.0, 1.0]}
    null = model.counterfactual(possible, {"c": 1.0}, particles=particles)
    assert torch.equal(null["y"], torch.tensor([5.0, 5.0]).expand_as(null["y"]))


def test_impossible_evidence_under_a_function_that_was_set_is_refused() -> None:
    model = SCM(c=Equation("u"), x=Equation("c + u"), y=Equation("x + u")).do(x=lambda c: 2 * c)
    rows = {"c": [1.0, 1.0], "x": [2.0, 5.0], "y": [0.0, 0.0]}
    with pytest.raises(ValueError, match="x: evidence has probability zero in row 1"):
        model.counterfactual(rows, {"c": 1.0})


def test_effects_refuse_impossible_evidence() -> None:
    model = SCM(c=Equation("u"), x=Equation("c"), y=Equation("x + u"))
    rows = {"c": [1.0, 1.0], "x": [1.0, 5.0], "y": [5.0, 5.0]}
    with pytest.raises(ValueError, match="x: evidence has probability zero in row 1"):
        mediate(model, rows, {"c": 2.0}, "y", [])


# What cannot be answered -------------------------------------------------------------------------


@pytest.mark.parametrize("far", [1e15, 1e30])
def test_an_answer_that_is_no_number_is_flagged_with_its_causes(far: float) -> None:
    model = SCM(t=Equation("u"), y=Equation(lambda t, u: u + 0 * (1e300 * t)))
    rows = model.sample(3, seed=0)
    for answer, n in (
        (model.counterfactual(rows, do={"t": far}), 3),
        (model.counterfactual(rows, do={"t": far}, particles=2), 6),
        (model.do(t=far).sample(3), 3),
    ):
        said = answer.explain()
        assert said.undefined == {"y": f"{n} of {n} rows, such as at t={far:.4g}"}
        assert f"NOT A NUMBER in {n} of {n} rows" in str(said)
    some = model.counterfactual(rows, do={"t": 2.0})
    assert some["y"].equal(rows["y"])
    assert some.explain().undefined == {}


@pytest.mark.parametrize("particles", [None, 10**9])
def test_what_memory_cannot_hold_is_refused_before_it_is_made(particles: int | None) -> None:
    model = SCM("t -> i", {"i": Image(3, 64, 64)}, {"i": VAE(latent=2, width=2, depth=1)}).eval()
    rows = model.sample(2, seed=0)
    size = r"would take some [\d,]+ GiB of memory, and \d+ are free; ask for fewer at once"
    if particles is None:
        with pytest.raises(ValueError, match=rf"10,000,000,000 rows {size}"):
            model.sample(10**10)
        return
    for ask in (
        lambda: model.abduct(rows, particles=particles),
        lambda: model.counterfactual(rows, do={"t": 0.0}, particles=particles),
    ):
        with pytest.raises(ValueError, match=rf"2 rows with particles=1,000,000,000 {size}"):
            ask()
