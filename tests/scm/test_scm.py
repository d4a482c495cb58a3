"""SCM: the three verbs, on equations whose answers are known and on one model of every kind."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from models import ROWS, chain, every_kind, parts, row, same
from noises import whole
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Continuous, Ordinal, Rows, fit, worlds
from rung3.data.rows import Noise
from rung3.mechanisms import Equation, Flow, GumbelMax, InverseCDF
from rung3.scm import conditioning
from rung3.scm.undeclared import infer

# The three verbs ----------------------------------------------------------------------------------


def test_the_verbs_give_what_one_finds_by_hand() -> None:
    model = chain()
    rows = {k: np.random.default_rng(i).normal(size=50) for i, k in enumerate("abcd")}
    noise = model.abduct(rows)
    u_b = rows["b"] / np.exp(rows["a"] / 2)
    u_c = (rows["c"] - rows["a"] * rows["b"]) / 2
    for name, truth in {"a": rows["a"], "b": u_b, "c": u_c, "d": rows["d"] / 3}.items():
        np.testing.assert_allclose(whole(noise[name]), truth, atol=1e-4)
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
    lead = tuple(size for size in (particles, n) if size is not None)
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
    repeated = model.do(a=rows["a"]).predict(noise)
    assert (bound["b"].calls, bound["c"].calls) == (before[0] + 1, before[1] + 1)
    for name in rows:
        torch.testing.assert_close(repeated[name], rows[name], atol=1e-5, rtol=1e-5)


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


def test_the_mechanisms_are_one_mapping_that_cannot_be_written() -> None:
    model = chain()
    assert list(model.mechanisms) == list(model.graph.nodes)
    mechanisms: Any = model.mechanisms
    with pytest.raises(TypeError, match="does not support item assignment"):
        mechanisms["a"] = Equation("2*u")
    modules = dict(model.named_modules()).values()
    assert all(any(m is module for module in modules) for m in model.mechanisms.values())


def test_the_noise_of_some_variables_is_that_of_all() -> None:
    model = every_kind()
    rows = model.read(Rows(dict(model.sample(5, seed=0))))
    whole, part = model.abduct(rows, seed=1), model.abduct_only(rows, {"scan", "dose"}, seed=1)
    assert list(part) == ["dose", "scan"]
    assert same(part["scan"], whole["scan"])  # type: ignore[arg-type]
    assert torch.equal(part["dose"], whole["dose"])  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [None, 7])
def test_a_counterfactual_checks_each_value_once(
    n: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, checked = chain(), []
    rows = {k: [v] * n if n else v for k, v in row().items()}
    validate = Continuous.validate

    def counted(kind: Continuous, name: str, value: Any, exact: bool = False) -> Tensor:
        checked.append(name)
        return validate(kind, name, value, exact)

    monkeypatch.setattr(Continuous, "validate", counted)
    model.counterfactual(rows, do={"a": 1.0}, seed=0)
    assert checked == [*row(), "a"]


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
            parameter.add_(1.0)
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
        repeated = model.do({name: before[name]}).sample(50, seed=7)
        for other, variable in model.variables.items():
            exact = not isinstance(variable, Continuous)
            tolerance = 0.0 if exact else 1e-5
            torch.testing.assert_close(
                repeated[other], before[other], atol=tolerance, rtol=tolerance
            )


def test_particles_follow_the_posterior_and_the_two_families_differ_on_rung_three() -> None:
    """Against noise drawn from the prior, of which only what gives the evidence is kept."""
    rng = np.random.default_rng(0)
    table = [[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]
    old, new = np.array(table)
    gumbel, uniform = rng.gumbel(size=(400_000, 3)), rng.random(400_000)
    draws: dict[type, Callable[[np.ndarray], np.ndarray]] = {
        GumbelMax: lambda p: (np.log(p) + gumbel).argmax(1),
        InverseCDF: lambda p: np.searchsorted(p.cumsum()[:-1], uniform, side="right"),
    }
    frequencies = {}
    for family, value in draws.items():
        kind = Categorical(3) if family is GumbelMax else Ordinal(3)
        model = SCM(
            graph="t -> x",
            variables={"t": Binary(), "x": kind},
            mechanisms={"t": InverseCDF(), "x": family(table=table)},
        )
        for x in range(3):
            cloud = model.counterfactual({"t": 0, "x": x}, {"t": 1}, particles=40_000, seed=x)
            share = np.bincount(cloud["x"], minlength=3) / 40_000
            counterfactual = value(new)[value(old) == x]
            truth = np.bincount(counterfactual, minlength=3) / len(counterfactual)
            np.testing.assert_allclose(share, truth, atol=0.012)  # 4 standard errors
            frequencies[family, x] = share
    assert abs(frequencies[GumbelMax, 0] - frequencies[InverseCDF, 0]).max() > 0.05


# Seeds --------------------------------------------------------------------------------------------

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
    noise_of_scan: Any = noise["scan"]
    still = {"z": noise_of_scan["z"], "eps": torch.zeros_like(noise_of_scan["eps"])}
    assert torch.equal(cold["scan"], scan.predict(still, parents))
    half = {"z": noise_of_scan["z"], "eps": noise_of_scan["eps"] / 2}
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


# What goes in -------------------------------------------------------------------------------------


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
    frame = pd.DataFrame({"a": [1.0] * 3})
    for do in ({"a": 1}, {"a": np.float64(1)}, {"a": [1, 1, 1]}, frame):
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


# Worlds -------------------------------------------------------------------------------------------


def test_a_world_abducts_from_the_noise_of_its_rows() -> None:
    world = SCM(a=Equation("u**2"), b=Equation("a + u"), world="squares")
    rows = world.sample(6, seed=0)
    assert rows.noise is not None
    noise = world.abduct(rows[2:5])
    assert torch.equal(whole(noise["a"]), whole(rows.noise["a"])[2:5])
    assert noise.kinds == {"a": "known", "b": "known"}
    assert whole(world.abduct(rows[0])["a"]).shape == (1,)
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


def test_a_notebook_shows_the_graph_and_the_mechanisms() -> None:
    html = SCM("x -> y", {"y": Binary(labels=("<5", "more"))})._repr_html_()
    assert "data:image/png" in html
    assert "&lt;5" in html
    assert "<td>Flow()</td>" in html
