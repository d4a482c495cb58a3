"""Expressions: what the grammar means, and that nothing else is ever run."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Continuous
from rung3.data.expressions import FUNCTIONS, Expression, interventions
from rung3.mechanisms import Equation, InverseCDF

U, V = torch.tensor([-1.5, 0.25, 2.0]), torch.tensor([3.0, 0.25, -1.0])

MEANING: dict[str, Tensor] = {
    "3*u + v": 3 * U + V,
    "u - v - 1": U - V - 1,
    "u / v / 2": U / V / 2,
    "-u**2": -(U**2),
    "2**-u": 2.0**-U,
    "2**3**u": 2 ** (3**U),
    "+u*(1 - v)": U * (1 - V),
    "1_000*u + 0x10 + .5e1": 1000 * U + 16 + 5,
    "u < v": (U < V).float(),
    "u <= v": (U <= V).float(),
    "u > 0.25": (U > 0.25).float(),
    "u >= 0.25": (U >= 0.25).float(),
    "u == v": (U == V).float(),
    "u != v": (U != V).float(),
    "exp(u)": U.exp(),
    "log(abs(u))": U.abs().log(),
    "sqrt(v + 1)": (V + 1).sqrt(),
    "sin(u) + cos(v)": U.sin() + V.cos(),
    "tanh(u)": U.tanh(),
    "sigmoid(u)": 1 / (1 + (-U).exp()),
    "softplus(u)": (1 + U.exp()).log(),
    "floor(u)": torch.tensor([-2.0, 0.0, 2.0]),
    "minimum(u, v)": torch.tensor([-1.5, 0.25, -1.0]),
    "maximum(0, u)": torch.tensor([0.0, 0.25, 2.0]),
    "where(u > 0, v, -1)": torch.tensor([-1.0, 0.25, -1.0]),
    "where(u - v, 1, 0)": torch.tensor([0.0, 0.0, 1.0]),
    "(u > 0) * (v > 0)": torch.tensor([0.0, 1.0, 0.0]),
    " u + v # and a remark \n": U + V,
}


@pytest.mark.parametrize("text", MEANING)
def test_text_means_what_it_says(text: str) -> None:
    expression = Expression(text)
    values = {name: {"u": U, "v": V}[name] for name in expression.arguments}
    torch.testing.assert_close(expression(**values), MEANING[text])


def test_every_function_has_a_meaning_tested_here() -> None:
    assert set(FUNCTIONS) == set(re.findall(r"([a-z]+)\(", " ".join(MEANING)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3.0),
        ("-1/2", -0.5),
        ("2**0.5", math.sqrt(2)),
        ("1 < 2", 1.0),
        ("minimum(1, 2.5)", 1.0),
        ("abs(-2)", 2.0),
        ("1/0", math.inf),
        ("-1/0", -math.inf),
        ("(-8)**0.5", math.nan),
        ("9**9**9**9", math.inf),
        ("0/0", math.nan),
    ],
)
def test_numbers_alone_are_computed_as_tensors_are(text: str, value: float) -> None:
    """At once, too: whole numbers of Python would grow without end."""
    result = Expression(text)()
    assert result.dtype == torch.get_default_dtype()
    assert result.item() == pytest.approx(value, nan_ok=True)


def test_arguments_are_the_names_in_the_order_in_which_they_are_evaluated() -> None:
    assert Expression("b*exp(a) + where(u > b, größe, 1)").arguments == ("b", "a", "u", "größe")
    assert Expression("1 + 1").arguments == ()
    assert Expression("exp + exp(exp)").arguments == ("exp",)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("__import__('os').system('ls')", "__import__('os').system('ls')"),
        ("u.__class__", "u.__class__"),
        ("1 + u.real", "u.real"),
        ("u[0]", "u[0]"),
        ("eval(u)", "eval(u)"),
        ("log10(u)", "log10(u)"),
        ("(lambda: 1)()", "(lambda: 1)()"),
        ("[u for u in v]", "[u for u in v]"),
        ("(u := 3)", "u := 3"),
        ("u if v else 1", "u if v else 1"),
        ("u and v", "u and v"),
        ("not u", "not u"),
        ("~u", "~u"),
        ("u // 2", "u // 2"),
        ("u % 2", "u % 2"),
        ("u @ v", "u @ v"),
        ("u is v", "u is v"),
        ("u in v", "u in v"),
        ("0 < u < 1", "0 < u < 1"),
        ("True", "True"),
        ("None + u", "None"),
        ("2j*u", "2j"),
        ("b'text'", "b'text'"),
        ("f'{u}'", "f'{u}'"),
        ("(u, v)", "(u, v)"),
        ("1e999*u", "1e999"),
        ("3(u)", "3(u)"),
        ("exp(x=u)", "exp(x=u)"),
        ("exp(*u)", "*u"),
        ("exp()", "exp()"),
        ("exp(u, v)", "exp(u, v)"),
        ("minimum(u)", "minimum(u)"),
        ("where(u, v)", "where(u, v)"),
    ],
)
def test_what_is_not_of_the_grammar_is_refused_and_quoted(text: str, part: str) -> None:
    message = f"equation {text!r}: {part!r} is not allowed; use numbers, names, "
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        Expression(text)


@pytest.mark.parametrize(
    "text", ["", " ", "u +", "(u", "u v", "u = 1", "u; v", "import os", "u\0", "3u", "1 +* u"]
)
def test_what_is_no_expression_is_refused_and_quoted(text: str) -> None:
    message = f"equation {text!r}: not an arithmetic expression"
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        Expression(text)


@pytest.mark.parametrize("levels", [300, 1000, 3000, 30_000])
@pytest.mark.parametrize(("before", "after"), [("(-", ")"), ("-", ""), ("", "+u"), ("exp(", ")")])
def test_text_nested_beyond_reason_is_refused(before: str, after: str, levels: int) -> None:
    with pytest.raises(ValueError, match=r"nested more than 200 levels|not an arithmetic"):
        Expression(before * levels + "u" + after * levels)


def test_a_sum_of_a_hundred_terms_is_not_nested_beyond_reason() -> None:
    assert Expression("+".join(["u"] * 100))(u=torch.tensor(0.5)).item() == 50


@given(st.text(alphabet="uv019.+-*/()<>=! ,explogif_[]'\"", max_size=12))
def test_any_text_is_an_expression_or_is_refused(text: str) -> None:
    try:
        expression = Expression(text)
    except ValueError as error:
        assert repr(text) in str(error)  # noqa: PT017 - most texts are refused, some are not
        return
    values = dict.fromkeys(expression.arguments, U)
    assert expression(**values).shape in [(), U.shape]


def test_whole_numbers_of_categories_count_as_real_ones() -> None:
    stage = torch.tensor([0, 1, 2])
    for text in ("stage**-1", "softplus(stage)", "where(stage > 0, stage, 0.5)", "-stage"):
        torch.testing.assert_close(
            Expression(text)(stage=stage), Expression(text)(stage=stage + 0.0)
        )


def test_gradients_flow_to_the_arguments() -> None:
    u = torch.tensor([0.5, -2.0], requires_grad=True)
    Expression("3*u**2 + where(u > 0, exp(u), 1)")(u=u).sum().backward()
    assert u.grad is not None
    torch.testing.assert_close(u.grad, torch.tensor([3 + math.exp(0.5), -12.0]))


def test_double_values_stay_double() -> None:
    result = Expression("u/3 + 1")(u=torch.tensor([1.0], dtype=torch.float64))
    torch.testing.assert_close(result, torch.tensor([4 / 3], dtype=torch.float64), rtol=0, atol=0)


def test_an_expression_shows_its_text() -> None:
    assert repr(Expression("3*x + u")) == "Expression('3*x + u')"


@pytest.fixture
def model() -> SCM:
    return SCM(
        graph="a -> b; c",
        variables={"c": Binary(labels=("no", "yes"))},
        mechanisms={"a": Equation("u"), "b": Equation("2*a + u"), "c": InverseCDF()},
    )


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("a=4", "a", 4.0),
        ("a = -1/2", "a", -0.5),
        ("b=b+2", "b", 5.0),
        ("b=a", "b", 1.0),
        ("c=yes", "c", 1.0),
        ("c=1-c", "c", 0.0),
        ('b="a"+1', "b", 2.0),
    ],
)
def test_a_question_in_words_is_answered(model: SCM, text: str, name: str, value: float) -> None:
    row = {"a": 1.0, "b": 3.0, "c": "yes"}
    answer = model.counterfactual(row, interventions([text], model.variables), seed=0)
    torch.testing.assert_close(answer[name].float(), torch.tensor(value))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a"], "expected name=value"),
        (["=3"], "expected name=value"),
        (["bb=3"], "unknown variable 'bb'.*did you mean 'b'"),
        (["a=1", "a=2"], "a is set twice"),
        (["a=__import__('os')"], "not allowed"),
        (["c=yez"], r"c: unknown category \['yez'\]; expected \['no', 'yes'\]; did you mean 'yes'"),
        (["c=New York"], r"c: unknown category \['New York'\]; expected \['no', 'yes'\]"),
    ],
)
def test_what_is_not_a_question_is_refused(model: SCM, texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interventions(texts, model.variables)


def test_an_expression_of_other_variables_than_the_parents_is_refused(model: SCM) -> None:
    do = interventions(["a=b+1"], {"a": Continuous(), "b": Continuous()})
    with pytest.raises(ValueError, match="must be parents, or the variable itself"):
        model.do(do)


def test_a_number_is_the_label_that_reads_like_it() -> None:
    kinds = {"school": Categorical(labels=("1", "2", "3"))}
    model = SCM("school", kinds)
    assert model.do(interventions(["school=2"], kinds)).sample(1)["school"].item() == 1
    with pytest.raises(ValueError, match="unknown category"):
        model.do(interventions(["school=0"], kinds))
