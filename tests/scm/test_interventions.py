"""Interventions: whatever `do` puts in the place of a mechanism, against what is found by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from rung3 import SCM, Binary, Categorical, Continuous, Image, Rows
from rung3.data.expressions import Expression
from rung3.data.variables import Variable
from rung3.effects import mediate, natural
from rung3.mechanisms import AdditiveNoise, Equation, Flow, GumbelMax, InverseCDF, Mechanism


def chain() -> SCM:
    """`a := u`, `b := 2 a + u`, `c := a b + u`."""
    return SCM(a=Equation("u"), b=Equation("2*a + u"), c=Equation("a*b + u"))


@pytest.fixture
def rows() -> Rows:
    return chain().sample(40, seed=0)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def b(rows: Rows, a: Tensor | float) -> Tensor:
    """b had a been so."""
    return 2 * a + rows["b"] - 2 * rows["a"]


def c(rows: Rows, a: Tensor | float, b: Tensor | float) -> Tensor:
    """c had a and b been so."""
    return a * b + rows["c"] - rows["a"] * rows["b"]


PER_ROW = torch.linspace(-1, 1, 40)

VALUES: dict[str, tuple[Any, Callable[[Rows], tuple[Any, Any]]]] = {
    "a number": ({"a": 1.5}, lambda r: (1.5, b(r, 1.5))),
    "a number for a descendant": ({"b": -1}, lambda r: (r["a"], -1.0)),
    "a tensor of one value": ({"a": torch.tensor(1.5)}, lambda r: (1.5, b(r, 1.5))),
    "a tensor per row": ({"a": PER_ROW}, lambda r: (PER_ROW, b(r, PER_ROW))),
    "an array per row": ({"b": PER_ROW.numpy()}, lambda r: (r["a"], PER_ROW)),
    "a function of parents": ({"b": lambda a: a**2}, lambda r: (r["a"], r["a"] ** 2)),
    "a function of itself": ({"b": lambda b: b + 3}, lambda r: (r["a"], r["b"] + 3)),
    "a function of both": ({"b": lambda b, a: a * b}, lambda r: (r["a"], r["a"] * r["b"])),
    "a function of nothing": ({"b": lambda: 0.5}, lambda r: (r["a"], 0.5)),
    "a function with one value per row": ({"b": lambda: PER_ROW}, lambda r: (r["a"], PER_ROW)),
    "ancestor and descendant": ({"a": 2.0, "b": 3.0}, lambda r: (2.0, 3.0)),
    "descendant before ancestor": ({"b": PER_ROW, "a": 2.0}, lambda r: (2.0, PER_ROW)),
    "a descendant that would have followed": (
        {"a": 2.0, "b": lambda b: b + 1}, lambda r: (2.0, b(r, 2.0) + 1),
    ),
    "a function of an ancestor that is set": (
        {"a": lambda a: -a, "b": lambda a: a + 1}, lambda r: (-r["a"], 1 - r["a"]),
    ),
    "another mechanism": (  # with the noise of the old one
        {"b": Equation("exp(a) + 3*u")},
        lambda r: (r["a"], r["a"].exp() + 3 * (r["b"] - 2 * r["a"])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("particles", [None, 2])
@pytest.mark.parametrize("case", VALUES)
def test_what_is_set_and_what_follows(case: str, particles: int | None, rows: Rows) -> None:
    do, truth = VALUES[case]
    answer = chain().counterfactual(rows, do, particles=particles)
    set_a, set_b = (torch.as_tensor(value).expand(40) for value in truth(rows))
    for name, expected in {"a": set_a, "b": set_b, "c": c(rows, set_a, set_b)}.items():
        close(answer[name], expected if particles is None else expected.expand(2, 40))


def test_what_is_set_is_set_exactly(rows: Rows) -> None:
    answer = chain().counterfactual(rows, {"a": 0.1, "b": PER_ROW})
    assert answer["a"].eq(torch.tensor(0.1)).all()
    assert torch.equal(answer["b"], PER_ROW)


def test_samples_obey_interventions_too() -> None:
    model = chain()
    natural = model.sample(40, seed=3)
    drawn = model.do(a=lambda a: a + 1, b=PER_ROW).sample(40, seed=3)
    close(drawn["a"], natural["a"] + 1)
    assert torch.equal(drawn["b"], PER_ROW)
    close(drawn["c"], c(natural, natural["a"] + 1, PER_ROW))


def test_a_single_row_takes_a_value_and_a_function() -> None:
    row = {"a": 1.0, "b": 3.0, "c": 4.0}
    answer = chain().counterfactual(row, {"a": lambda a: a + 1, "b": 0.0})
    assert {k: v.item() for k, v in answer.items()} == pytest.approx({"a": 2, "b": 0, "c": 1})
    assert answer["c"].shape == ()


def test_functions_of_functions_are_applied_in_turn(rows: Rows) -> None:
    model = chain()
    noise = model.abduct(rows)
    twice = model.do(b=lambda b: b + 1).do(b=lambda b: 2 * b)
    close(twice.predict(noise)["b"], 2 * (rows["b"] + 1))
    close(twice.do(b=5.0).predict(noise)["b"], torch.full((40,), 5.0))


def test_another_mechanism_may_have_other_parents_and_cuts_the_old_ones(rows: Rows) -> None:
    model = SCM(x=Equation("u"), y=Equation("x + u"), z=Equation("3*u"))
    acted = model.do(y=Equation("2*z + u"))
    assert set(acted.graph.edges) == {("z", "y")}
    evidence = {"x": 1.0, "y": 1.5, "z": 3.0}
    assert acted.predict(model.abduct(evidence))["y"].item() == pytest.approx(6.5)
    fixed = model.do(x=Equation("7"))
    assert fixed.sample(3)["x"].tolist() == [7.0] * 3


def test_a_mechanism_of_another_model_can_be_put_in() -> None:
    one = SCM(graph="a -> k", variables={"k": Categorical(3)})
    other = SCM(graph="a -> k", variables={"k": Categorical(3)})
    mixed = one.do(k=other.mechanisms["k"])
    assert mixed.mechanisms["k"] is other.mechanisms["k"]
    values = {"a": [0.0, 1.0], "k": [0, 2]}
    assert torch.equal(mixed.log_probs(values)["k"], other.log_probs(values)["k"])


def test_every_kind_of_variable_can_be_set() -> None:
    variables = {
        "k": Categorical(4, labels=("n", "e", "s", "w")),
        "sick": Binary(),
        "v": Continuous(dim=2),
        "im": Image(1, 4, 4),
    }
    model = SCM(graph="k -> sick -> v -> im", variables=variables)
    picture = torch.randint(256, (1, 4, 4)) / 255
    acted = model.do(k="s", sick=True, v=[1.0, 2.0], im=lambda im: 1 - im)
    drawn, before = acted.sample(3, seed=0), model.do(k="s", sick=1, v=[1.0, 2.0]).sample(3, seed=0)
    assert drawn["k"].tolist() == [2, 2, 2]
    assert drawn["sick"].tolist() == [1, 1, 1]
    assert drawn["v"].tolist() == [[1.0, 2.0]] * 3
    close(drawn["im"], 1 - before["im"])
    assert torch.equal(model.do(im=picture).sample(2)["im"], picture.expand(2, 1, 4, 4))
    several = torch.randint(256, (2, 1, 4, 4)) / 255
    assert torch.equal(model.do(im=several).sample(2)["im"], several)
    assert model.do(k=["s", "n"]).sample(2)["k"].tolist() == [2, 0]
    turned = model.do(k=lambda k: (k + 1) % 4).sample(50, seed=0)["k"]
    assert torch.equal(turned, (model.sample(50, seed=0)["k"] + 1) % 4)


def test_densities_of_what_was_set() -> None:
    values = {"a": [1.0, 1.0], "b": [3.0, 2.0]}
    for do in ({"b": 3.0}, {"b": lambda a: 3 * a}, {"b": Equation("3*a")}):
        density = chain().do(do).log_probs(values)["b"]
        assert density.tolist() == [0.0, -np.inf]
    with pytest.raises(ValueError, match=r"b: log_prob is not known under do\(b=function of itsel"):
        chain().do(b=lambda b: b + 1).log_prob(values)


def test_gradients_reach_a_value_and_what_a_function_closes_over(rows: Rows) -> None:
    value, shift = torch.ones(40, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    answer = chain().counterfactual(rows, {"a": value, "b": lambda b: b + shift})
    answer["c"].sum().backward()
    # c~ = a~ (2 a~ + u_b + shift) + u_c at a~ = 1
    assert value.grad is not None
    assert shift.grad is not None
    close(value.grad, 4 + rows["b"] - 2 * rows["a"])
    assert shift.grad.item() == 40


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2, "set to 2 mg"),
        ([1.0, 2.0], "set to a given value in each row"),
        (lambda a, b: a + b, "set to a function of a, b"),
        (lambda: 1.0, "set to a function of nothing"),
    ],
)
def test_interventions_are_said_in_words(value: Any, words: str) -> None:
    model = SCM(
        graph="a -> b",
        variables={"b": Continuous(unit="mg")},
        mechanisms={"a": Equation("u"), "b": Equation("a + u")},
    )
    assert model.do(b=value).sample(2).explain().interventions == {"b": words}


def variables() -> SCM:
    return SCM(
        graph="a -> b; k; im; m",
        variables={
            "a": Continuous(lower=0, upper=10, unit="px"),
            "k": Categorical(3, labels=("x", "y", "z")),
            "im": Image(1, 4, 4),
            "m": Continuous(missing=True),
        },
    )


FOREIGN = SCM(graph="q -> b; a", variables={"a": Categorical(2)}).mechanisms


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ({"aa": 1.0}, "do: unknown variable 'aa'; the variables are .*; did you mean 'a'"),
        ({"a": -1.0}, r"a: -1 is outside its support \[0, 10\] px"),
        ({"a": [1.0, 11.0]}, r"a: 11 is outside its support \[0, 10\] px"),
        ({"a": np.nan}, "a: 1 values are NaN"),
        ({"a": np.inf}, "a: 1 values are infinite"),
        ({"m": [1.0, np.nan]}, "m: cannot be set to NaN"),
        ({"a": "much"}, "a: expected numbers, got values of type"),
        ({"a": None}, "a: 1 values are NaN"),
        ({"a": [[1.0]]}, r"a: expected shape \(\) or \(n,\), got \(1, 1\)"),
        ({"k": 3}, r"k: unknown category \[3\]; expected \['x', 'y', 'z'\]; if codes are meant"),
        ({"k": torch.tensor(3)}, "k: 3 is not a category; expected a whole number from 0 to 2"),
        ({"k": "v"}, r"k: unknown category \['v'\]; expected \['x', 'y', 'z'\]"),
        ({"im": torch.zeros(4, 4)}, r"im: expected shape \(1, 4, 4\) or \(n, 1, 4, 4\), got"),
        ({"im": torch.zeros(1, 4, 4, dtype=torch.uint8)}, "im: expected an image of floats"),
        ({"b": lambda k: k}, r"do\(b=function\): unknown variable 'k'.*must be parents, or the"),
        ({"b": lambda bb: bb}, "unknown variable 'bb'.*did you mean 'b'"),
        ({"b": lambda *values: 1.0}, r"do\(b=function\): unknown variable 'values'"),
        ({"b": torch.exp}, r"do\(b=function\): .* its arguments' names; write it as lambda b: "),
        ({"a": Equation("b + u")}, "cycle: a -> b -> a|cycle: b -> a -> b"),
        ({"b": Equation("c + u")}, r"do\(b=mechanism\): unknown variable 'c'"),
        ({"b": FOREIGN["b"]}, r"do\(b=mechanism\): unknown variable 'q'"),
        ({"a": FOREIGN["a"]}, r"a: the new mechanism is for Categorical.*, expected Continuous"),
        ({"b": GumbelMax()}, "b: GumbelMax models categories, and b is Continuous"),
        ({"k": Flow()}, "k: Flow models numbers, and k is Categorical"),
        ({"im": InverseCDF()}, "im: InverseCDF models categories, and im is Image"),
    ],
)  # fmt: skip
def test_interventions_that_do_not_fit_are_refused_before_any_work(
    do: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        variables().do(do)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ({"a": lambda a: -a - 1}, r"a: -[\d.e+]+ is outside its support \[0, 10\] px"),
        ({"b": lambda b: b / 0}, "b: 5 values are infinite"),
        ({"b": lambda b: b * torch.nan}, "b: the function that it is set to gives NaN"),
        ({"m": lambda: torch.tensor(np.nan)}, "m: the function that it is set to gives NaN"),
        ({"k": lambda k: k + 3}, "k: [345] is not a category"),
        ({"b": lambda a: a.reshape(-1, 1)}, r"b: expected shape \(\) or \(n,\), got \(5, 1\)"),
        ({"b": lambda: torch.zeros(3)}, "b: 3 values for 5 rows"),
        ({"a": torch.ones(3)}, "a.*: 3 values for 5 rows"),
    ],
)
def test_values_that_do_not_fit_are_refused_when_they_are_known(
    do: dict[str, Any], message: str
) -> None:
    model = variables()
    rows = model.sample(5, seed=0)
    with pytest.raises(ValueError, match=message):
        model.do(do).sample(5, seed=0)
    for particles in (None, 2):
        wanted = message.replace("5 values are", r"\d+ values are").replace("(5, 1", r"(\d+, 1")
        with pytest.raises(ValueError, match=wanted):
            model.counterfactual(rows, do, particles=particles, seed=0)


def test_a_model_in_which_a_function_of_a_variable_was_set_cannot_abduct_it(rows: Rows) -> None:
    acted = chain().do(b=lambda b: b + 1)
    assert torch.equal(acted.counterfactual(rows, {"c": 0.0})["b"], rows["b"])
    with pytest.raises(ValueError, match=r"b: the value it would have had is not known, as do\(b="):
        acted.counterfactual(rows, {"a": 1.0})


def test_chance_enters_as_u_and_leaves_the_worlds_paired(rows: Rows) -> None:
    model = SCM(a=Equation("u"), b=Equation("2*a + u"))
    noisy = model.do(b=lambda b, u: torch.where(u < 0.25, b + 100, b))
    plain, drawn = model.sample(4000, seed=0), noisy.sample(4000, seed=0)
    moved = drawn["b"] != plain["b"]
    assert moved.float().mean().item() == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(drawn["b"][moved], plain["b"][moved] + 100)
    assert torch.equal(drawn["a"], plain["a"])
    uniform = model.do(a=lambda u: 2 * u).sample(4000, seed=0)["a"]
    assert stats.kstest(uniform.numpy(), stats.uniform(0, 2).cdf).pvalue > 0.01


def test_chance_joins_noise_that_comes_in_parts_or_not_at_all() -> None:
    kinds = {"image": Image(1, 8, 8)}
    model = SCM("a -> b; a -> image", variables=kinds, mechanisms={"b": Equation("2*a")})
    same = model.do(b=lambda b, u: b + 0 * u, image=lambda image, u: image)
    plain, drawn = model.sample(20, seed=0), same.sample(20, seed=0)
    assert all(torch.equal(plain[name], drawn[name]) for name in plain)


def test_what_chance_gave_is_not_abducted() -> None:
    model = SCM(a=Equation("u"), b=Equation("2*a + u"), c=Equation("b + u"))
    acted = model.do(b=lambda b, u: b + u)
    with pytest.raises(ValueError, match="b: what chance gave is not known"):
        acted.counterfactual({"a": 1.0, "b": 2.0, "c": 0.0}, do={"a": 0.0})
    with pytest.raises(ValueError, match=r"log_prob is not known under do\(a=function of u\)"):
        model.do(a=lambda u: u).log_prob({"a": 0.5, "b": 1.0})


def test_a_variable_called_u_is_still_a_parent() -> None:
    model = SCM("u -> b", mechanisms={"u": Equation(lambda: 3.0)})
    assert model.do(b=lambda u: 2 * u).sample(2, seed=0)["b"].tolist() == [6.0, 6.0]


# Other noise --------------------------------------------------------------------------------------

SPACES: dict[str, tuple[Variable, Mechanism]] = {
    "normal": (Continuous(), Equation("x + u")),
    "another normal": (Continuous(), Equation("x + u", noise="Normal(1, 2)")),
    "uniform": (Continuous(), Equation("x + u", noise="Uniform(0, 1)")),
    "flow": (Continuous(), Flow(hidden=(8,))),
    "additive": (Continuous(), AdditiveNoise()),
    "certain": (Continuous(), Equation("2*x")),
    "gumbel": (Categorical(3), GumbelMax(hidden=(8,))),
    "inverse": (Categorical(3), InverseCDF(hidden=(8,))),
}
SHARED = {frozenset(pair) for pair in combinations(("normal", "flow", "additive"), 2)}


@pytest.mark.parametrize("particles", [None, 3])
@pytest.mark.parametrize(("old", "new"), list(permutations(SPACES, 2)))
def test_noise_of_another_prior_is_drawn_anew(old: str, new: str, particles: int | None) -> None:
    (kind, was), (other, put_in) = SPACES[old], SPACES[new]
    if kind != other:
        return
    torch.manual_seed(0)
    model = SCM("x -> y", {"y": kind}, {"x": Equation("u"), "y": was})
    rows = model.sample(4000, seed=0)
    acted = model.do(y=put_in)
    answer = acted.predict(model.abduct(rows, particles, seed=1))
    abduction = answer.explain().abductions.get("y")
    if new == "certain":
        assert abduction is None
        return
    assert (abduction == "noise drawn anew") == (frozenset((old, new)) not in SHARED)
    mechanism, x = acted.mechanisms["y"], rows["x"].repeat(particles or 1)
    noise = mechanism.abduct(answer["y"].flatten(), {"x": x}, None, Generator().manual_seed(2))
    prior = mechanism.sample_noise(len(x), {"x": x}, Generator().manual_seed(3))
    assert isinstance(noise, Tensor)
    assert isinstance(prior, Tensor)
    if abduction == "noise drawn anew":
        for mine, theirs in zip(
            noise.reshape(len(x), -1).T, prior.reshape(len(x), -1).T, strict=True
        ):
            assert stats.ks_2samp(mine.detach(), theirs).pvalue > 1e-4
        if particles:
            assert not torch.equal(answer["y"][0], answer["y"][1])


def test_a_new_equation_with_other_noise_gives_possible_values() -> None:
    model = SCM(x=Equation("u"), y=Equation("x + u"))
    put_in = Equation("x + u", noise="Uniform(0, 1)")
    answer = model.counterfactual({"x": 0.0, "y": -2.0}, {"y": put_in}, seed=0)
    assert 0 <= answer["y"] <= 1
    assert "y: propagated; noise drawn anew" in str(answer.explain())
    repeated = model.do(y=put_in).predict(model.abduct({"x": 0.0, "y": -2.0}, seed=0))
    assert torch.equal(answer["y"], repeated["y"])
    counterfactual = model.counterfactual({"x": 0.0, "y": -2.0}, {"y": Equation("5*x + 2*u")})
    assert counterfactual["y"] == -4
    assert counterfactual.explain().abductions == {"y": "exact"}


def test_a_policy_of_chance_is_followed_on_every_rung() -> None:
    model = SCM(a=Equation("u"), b=Equation("2*a + u"), c=Equation("b + u"))
    rows = model.sample(4000, seed=0)
    policies: list[Any] = [
        lambda b, u: torch.where(u < 0.25, b + 100, b),
        lambda a, u: torch.where(u < 0.25, 2 * a + 100, 2 * a),
    ]
    for policy in policies:
        for particles in (None, 2):
            answer = model.counterfactual(rows, {"b": policy}, particles=particles, seed=0)
            treated = answer["b"] > 50
            assert treated.float().mean().item() == pytest.approx(0.25, abs=0.03)
            close(answer["c"] - answer["b"], (rows["c"] - rows["b"]).expand_as(answer["c"]))
            assert answer.explain().abductions["b"] == "noise drawn anew"
        assert torch.equal(answer["a"][0], rows["a"])
    twice = model.do(b=lambda b, u: b + u).do(b=lambda b, u: b + 100 * u)
    moved = twice.predict(model.abduct(rows, seed=0))["b"] - rows["b"]
    assert stats.kstest((moved / 100).numpy(), "uniform").pvalue > 1e-4


def test_effects_of_another_mechanism_have_its_noise() -> None:
    model = SCM(x=Equation("u"), m=Equation("x + u"), y=Equation("m + u"))
    put_in = {"m": Equation("x + 10 + u", noise="Uniform(0, 1)")}
    rows = model.sample(2000, seed=0)
    effect = mediate(model, rows, put_in, "y", [], seed=0)
    new = effect.total + rows["m"] - rows["x"] - 10
    assert stats.kstest(new.numpy(), "uniform").pvalue > 1e-4
    average = natural(model, put_in, "y", [], n=2000, seed=0).total
    assert average.effect.item() == pytest.approx(10.5, abs=0.1)


@pytest.mark.parametrize("text", [True, False], ids=["text", "function"])
def test_names_that_are_no_words_can_be_used(text: bool) -> None:
    written: Any = "2*'blood pressure' + 'u' + u"
    function: Any = lambda v, /, u: 2 * v["blood pressure"] + v["u"] + u  # noqa: E731
    model = SCM(
        '"blood pressure" -> y; u -> y',
        mechanisms={
            "blood pressure": Equation("u"),
            "u": Equation("u"),
            "y": Equation(written if text else function),
        },
    )
    row = {"blood pressure": [1.0], "u": [2.0], "y": [5.0]}  # noise 1
    assert model.counterfactual(row, do={"u": 3.0})["y"].item() == pytest.approx(6)
    more: Any = Expression('"blood pressure" + 1') if text else lambda v, /: v["blood pressure"] + 1
    assert model.counterfactual(row, {"blood pressure": more})["y"].item() == pytest.approx(7)
    both: Any = Expression('"blood pressure" * "u"') if text else lambda v, /: v["u"] * 10
    expected = 2.0 if text else 20.0
    assert model.counterfactual(row, {"y": both})["y"].item() == pytest.approx(expected)


def test_a_label_that_is_set_is_said_by_name() -> None:
    model = SCM("k", {"k": Categorical(labels=("x", "y", "z"))})
    interventions = model.do(k="z").sample(2).explain().interventions
    assert interventions == {"k": "set to z"}
    assert model.do(k=lambda k: "y").sample(2)["k"].tolist() == [1, 1]
