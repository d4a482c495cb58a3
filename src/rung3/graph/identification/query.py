r"""Causal queries as text: what is asked, on each rung of the ladder (lecture, Figure 7).

    seeing       P(y | z)               given that z is seen
    doing        P(y | do(x), z)        given that x is set, and z is seen then
    imagining    P(y_{x} | x, z)        had x been set, given what was seen without

    query     := "P(" term ("," term)* ["|" condition ("," condition)*] ")"
    condition := term | "do(" name ("," name)* ")"
    term      := name ["_{" name ("," name)* "}"]           name may be followed by "=" value

Names follow the grammar of graphs (`rung3.graph.text`), values any word. What is identified does
not depend on the values, which are left out; in a counterfactual, what is set and what was seen of
one variable are two values.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

from rung3.graph.text import WORD, checked_name, quote, tokens_of

__all__ = ["CausalQuery", "read_query"]


@dataclass(frozen=True)
class CausalQuery:
    """A distribution that is asked for.

    Attributes:
        outcome: Y.
        do: X, the variables that are set.
        given: Z, the variables that are seen.
        factual: Whether Z is seen in the world as it was, where X is not set: a counterfactual.
    """

    outcome: tuple[str, ...]
    do: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    factual: bool = False

    @property
    def rung(self) -> Literal["seeing", "doing", "imagining"]:
        """The rung of the ladder that it stands on."""
        if not self.do:
            return "seeing"
        return "imagining" if self.factual and self.given else "doing"

    def __str__(self) -> str:
        outcome, do, given = (
            [quote(name) for name in names] for names in (self.outcome, self.do, self.given)
        )
        if self.rung == "imagining":
            outcome = [f"{name}_{{{', '.join(do)}}}" for name in outcome]
        elif do:
            given = [f"do({', '.join(do)})", *given]
        known = f" | {', '.join(given)}" if given else ""
        return f"P({', '.join(outcome)}{known})"


_TOKEN = re.compile(
    rf"""\s*(?: (?P<do>do\s*\() | (?P<sub>_\s*\{{)
      | (?P<value>=\s*(?:"[^"]*"|'[^']*'|[^\s,|(){{}}]+))
      | (?P<mark>[(){{}},|]) | (?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<word>{WORD}?(?=_\s*\{{)|{WORD}) )""",
    re.VERBOSE | re.DOTALL,
)


def read_query(text: str) -> CausalQuery:
    """Read a query.

    Args:
        text: In the grammar of this module.

    Raises:
        ValueError: If it cannot be read, sets a variable twice, or asks of several worlds at once.

    >>> read_query("P(recovery | do(treatment=A), size)")
    CausalQuery(outcome=('recovery',), do=('treatment',), given=('size',), factual=False)
    >>> read_query("P(grade_{study} | study, grade)").rung
    'imagining'
    """
    try:
        return _read(deque(tokens_of(text, _TOKEN)))
    except ValueError as fault:
        raise ValueError(
            f"cannot read the query {text!r}: {fault}. Queries are of the form "
            "P(y | do(x), z), or P(y_{x} | x, z) for a counterfactual."
        ) from None


def _read(rest: deque[tuple[str, str]]) -> CausalQuery:
    if [rest.popleft() for _ in range(min(2, len(rest)))] != [("word", "P"), ("mark", "(")]:
        raise ValueError("it does not start with P(")
    outcome: dict[str, tuple[str, ...]] = {}
    given: dict[str, tuple[str, ...]] = {}
    do: tuple[str, ...] = ()
    side, token = outcome, ("mark", ",")
    while token == ("mark", ",") or (token == ("mark", "|") and side is outcome):
        side = given if token == ("mark", "|") else side
        if rest and rest[0][0] == "do":
            if side is outcome:
                raise ValueError("do(...) goes after the bar")
            rest.popleft()
            do += _settings(rest, ")")
        else:
            name, subscript = _name(rest), tuple[str, ...]()
            if rest and rest[0][0] == "sub":
                rest.popleft()
                subscript = _settings(rest, "}")
            if name in side:
                twice = subscript or side[name]
                raise ValueError(_several(f"{name} twice") if twice else f"{name!r} is there twice")
            side[name] = subscript
        token = rest.popleft() if rest else ("", "the end")
    if token != ("mark", ")"):
        raise ValueError(f"a closing bracket was expected at {token[1]!r}")
    if rest:
        raise ValueError(f"nothing was expected after it, and there is {rest[0][1]!r}")
    return _query(outcome, do, given)


def _query(
    outcome: dict[str, tuple[str, ...]], do: tuple[str, ...], given: dict[str, tuple[str, ...]]
) -> CausalQuery:
    """Make a query of terms, each with its subscript."""
    subscript = next(iter(outcome.values()))
    seen = set(given.values())
    if not subscript and seen - {()}:
        raise ValueError("a subscript is on the right of the bar only")
    if (
        set(outcome.values()) != {subscript}
        or len(seen) > 1
        or (subscript and (do or not seen <= {(), subscript}))
    ):
        worlds = dict.fromkeys([*outcome.values(), *given.values(), *([do] if do else [])])
        names = [
            f"under do({', '.join(map(quote, names))})" if names else "as it was"
            for names in worlds
        ]
        raise ValueError(_several(", ".join(names)))
    if len(set(subscript or do)) < len(subscript or do):
        raise ValueError("a variable is set twice")
    factual = bool(subscript) and seen == {()}
    return CausalQuery(tuple(outcome), subscript or do, tuple(given), factual)


def _several(worlds: str) -> str:
    """Say why a query of several worlds at once is refused, and what to ask instead."""
    return (
        f"it asks of several worlds at once ({worlds}), and no data, not even experiments, show "
        "one row in two worlds: how they go together rests on the mechanisms alone. Ask for the "
        "outcome in one world given what was seen. rung3.graph.identify_counterfactual takes events"
        " with values in several worlds. "
        "rung3.effects.bounds.probabilities_of_causation has the probabilities of necessity and "
        "sufficiency, and SCM.counterfactual has single rows in several worlds"
    )


def _settings(rest: deque[tuple[str, str]], closing: str) -> tuple[str, ...]:
    """Take names up to a closing mark off the tokens."""
    names = [_name(rest)]
    while rest and rest[0] == ("mark", ","):
        rest.popleft()
        names.append(_name(rest))
    if not rest or rest.popleft() != ("mark", closing):
        raise ValueError(f"a {closing!r} is missing")
    return tuple(names)


def _name(rest: deque[tuple[str, str]]) -> str:
    """Take a name, and its value if it has one, off the tokens."""
    kind, text = rest.popleft() if rest else ("", "the end")
    if kind not in ("word", "quoted"):
        raise ValueError(f"a variable is missing at {text!r}")
    if rest and rest[0][0] == "value":
        rest.popleft()
    return checked_name(re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "quoted" else text)
