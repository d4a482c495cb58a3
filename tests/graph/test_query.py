"""Queries as text."""

from __future__ import annotations

import pytest

from rung3.graph import CausalQuery, read_query


@pytest.mark.parametrize(
    ("text", "query", "rung"),
    [
        ("P(y)", CausalQuery(("y",)), "seeing"),
        ("P(y, z | w, v)", CausalQuery(("y", "z"), (), ("w", "v")), "seeing"),
        ("P(y | do(x))", CausalQuery(("y",), ("x",)), "doing"),
        ("P( y|do( x , w ),z )", CausalQuery(("y",), ("x", "w"), ("z",)), "doing"),
        ("P(y=1 | do(x=A, w='b c'), z=0.5)", CausalQuery(("y",), ("x", "w"), ("z",)), "doing"),
        ("P(y | z, do(x))", CausalQuery(("y",), ("x",), ("z",)), "doing"),
        ("P(y_{x} | x, y)", CausalQuery(("y",), ("x",), ("x", "y"), True), "imagining"),
        ("P(y_{x=1}|x=0,y=0)", CausalQuery(("y",), ("x",), ("x", "y"), True), "imagining"),
        (
            "P(y_{x, w}, z_{x, w} | e)",
            CausalQuery(("y", "z"), ("x", "w"), ("e",), True),
            "imagining",
        ),
        ("P(y_{x})", CausalQuery(("y",), ("x",)), "doing"),
        ("P(y_{x} | z_{x})", CausalQuery(("y",), ("x",), ("z",)), "doing"),
        ("P(y_t_{x_1} | x_1)", CausalQuery(("y_t",), ("x_1",), ("x_1",), True), "imagining"),
        (
            'P("blood sugar"_{"my x"} | "my x")',
            CausalQuery(("blood sugar",), ("my x",), ("my x",), True),
            "imagining",
        ),
    ],
)
def test_queries_are_read(text, query, rung):
    parsed = read_query(text)
    assert parsed == query
    assert parsed.rung == rung
    assert read_query(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("y | do(x)", "it does not start with P("),
        ("", "it does not start with P("),
        ("P(y | do x)", "a closing bracket was expected at 'x'"),
        ("P(y", "a closing bracket was expected at 'the end'"),
        ("P(y | do(x", "a ')' is missing"),
        ("P(y_{x | z)", "a '}' is missing"),
        ("P(y) P(z)", "nothing was expected after it, and there is 'P'"),
        ("P()", "a variable is missing at ')'"),
        ("P(y | )", "a variable is missing at ')'"),
        ("P(do(x))", "do(...) goes after the bar"),
        ("P(y | y_{x})", "a subscript is on the right of the bar only"),
        ("P(y_{x}, y_{z})", "it asks of several worlds at once (y twice), and no data, not even"),
        ("P(y_{x=1}, y_{x=0})", "it asks of several worlds at once (y twice), and no data"),
        ("P(y_{x}, y_{x})", "it asks of several worlds at once (y twice), and no data"),
        ("P(y, y)", "'y' is there twice"),
        ("P(y_{x}, w_{z})", "it asks of several worlds at once (under do(x), under do(z)), and"),
        ("P(y_{x} | z, w_{x})", "it asks of several worlds at once (under do(x), as it was), and"),
        ("P(y_{x} | do(z))", "it asks of several worlds at once (under do(x), under do(z)), and"),
        ("P(y | do(x, x))", "a variable is set twice"),
        ("P(y ^ x)", "what is '^ x)'?"),
    ],
)
def test_queries_that_cannot_be_read(text, says):
    with pytest.raises(ValueError) as error:
        read_query(text)
    assert f"cannot read the query {text!r}: {says}" in str(error.value)
