"""Exact bounds on a row's counterfactual, against closed forms and linear programs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from rung3 import SCM, Binary, Categorical, worlds
from rung3.effects.bounds import probabilities_of_causation, row_bounds
from rung3.effects.bounds.linear_program import optimise
from rung3.mechanisms import GumbelMax, InverseCDF


def discrete(graph: str, **tables: list) -> SCM:
    """A model of tables, whose last axes are the variables' own."""
    kinds = {name: Categorical(np.shape(table)[-1]) for name, table in tables.items()}
    mechanisms = {name: GumbelMax(table=table) for name, table in tables.items()}
    return SCM(graph, kinds, mechanisms)


def ends(model: SCM, do: dict[str, int], event: int, **row: int) -> list[float]:
    values = {name: [value] for name, value in row.items()}
    low, high = row_bounds(model, values, do, model.graph.order[-1], event)
    return [low.item(), high.item()]


@pytest.mark.parametrize(("p", "q"), [(0.8, 0.5), (0.5, 0.8), (0.3, 0.1), (0.9, 0.9)])
def test_necessity_is_bounded_as_tian_and_pearl_bound_it(p: float, q: float) -> None:
    """`max(0, (p - q) / p) <= PN <= min(1, (1 - q) / p)` with p = P(y | x), q = P(y | x')."""
    model = discrete("x -> y", x=[0.5, 0.5], y=[[1 - q, q], [1 - p, p]])
    interval = ends(model, {"x": 0}, event=0, x=1, y=1)
    assert interval == pytest.approx([max(0, (p - q) / p), min(1, (1 - q) / p)], abs=1e-6)
    rows = {"x": [1] * 1000 + [0] * 1000}
    rows["y"] = [int(k < 1000 * p) for k in range(1000)] + [int(k < 1000 * q) for k in range(1000)]
    pn = probabilities_of_causation(rows, "x", "y", exogenous=True).necessity
    assert interval == pytest.approx([pn.low, pn.high], abs=1e-6)  # type: ignore[union-attr]


def test_of_one_variable_they_are_the_linear_programs_over_response_functions() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(3, 4, generator=generator).double().mul(2).softmax(-1)
    model = discrete("x -> y", x=[0.2, 0.3, 0.5], y=table.tolist())
    functions = np.array(list(product(range(4), repeat=3)))  # y under x = 0, 1, 2
    matrix = np.array([functions[:, x] == y for x in range(3) for y in range(4)], dtype=float)
    for seen, target, y, event in product(range(3), range(3), range(4), range(4)):
        sought = (functions[:, seen] == y) & (functions[:, target] == event)
        expected = optimise(
            sought / float(table[seen, y]), matrix, table.reshape(-1).numpy(force=True)
        )
        interval = ends(model, {"x": target}, event, x=seen, y=y)
        assert interval == pytest.approx([expected.low, expected.high], abs=1e-5)


def test_along_a_chain_they_are_worked_out_by_hand() -> None:
    """`x -> m -> y`: m stays with the chance q, and then so does y; if it moves, y may too."""
    model = discrete(
        "x -> m -> y",
        x=[0.5, 0.5],
        m=[[0.7, 0.3], [0.4, 0.6]],
        y=[[0.9, 0.1], [0.2, 0.8]],
    )
    moves = (0.6 + 0.7 - 1) / 0.7, 0.6 / 0.7  # m from 0 to 1, given that it was 0
    follows = (0.8 + 0.9 - 1) / 0.9, 0.8 / 0.9  # y from 0 to 1 under m = 1, given that it was 0
    expected = [a * b for a, b in zip(moves, follows, strict=True)]
    assert ends(model, {"x": 1}, 1, x=0, m=0, y=0) == pytest.approx(expected, abs=1e-6)
    assert ends(model, {"x": 0}, 1, x=0, m=0, y=0) == [0, 0]  # nothing changed
    assert ends(model, {"m": 1}, 1, x=0, m=0, y=0) == pytest.approx(follows, abs=1e-6)
    either = row_bounds(model, {"x": [0], "m": [0], "y": [0]}, {"x": 1}, "y", [0, 1])
    assert torch.stack(either).flatten().tolist() == pytest.approx([1, 1], abs=1e-6)


@pytest.mark.parametrize("kind", [GumbelMax, InverseCDF])
def test_every_mechanism_answers_within_them(kind: type) -> None:
    generator = torch.Generator().manual_seed(1)

    def table(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).double().mul(3).softmax(-1)

    shapes = {"a": (3,), "b": (3, 3), "c": (3, 3, 3)}
    model = SCM(
        "a -> b -> c; a -> c",
        variables=dict.fromkeys(shapes, Categorical(3)),
        mechanisms={name: kind(table=table(*shape)) for name, shape in shapes.items()},
    )
    rows = model.sample(20, seed=0)
    targets = rows["a"].roll(1)
    answers = model.counterfactual(rows, {"a": targets}, particles=4000, seed=0)["c"]
    for event in range(3):
        low, high = row_bounds(model, rows, {"a": targets}, "c", event)
        share = (answers == event).double().mean(0)
        assert (low - 0.03 <= share).all()
        assert (share <= high + 0.03).all()
        assert ((high - low)[targets != rows["a"]] > 0.02).any()
        assert (low == high)[targets == rows["a"]].all()


def test_what_has_no_exact_bounds_is_refused() -> None:
    failed = {"interested": [0], "studied": [0], "passed": [0]}
    with pytest.raises(ValueError, match=r"x2: is Continuous.*expected discrete"):
        row_bounds(worlds.lecture(), {"x1": [2.0], "x2": [4.0]}, {"x1": 5.0}, "x2", 1)
    with pytest.raises(ValueError, match="studied must be set to a value"):
        row_bounds(worlds.exam(), failed, {"studied": lambda studied: 1 - studied}, "passed", 1)
    with pytest.raises(ValueError, match="passed: not given"):
        row_bounds(worlds.exam(), {"interested": [0], "studied": [0]}, {"studied": 1}, "passed", 1)
    never = SCM(
        "x -> y",
        variables={"x": Binary(), "y": Binary()},
        mechanisms={
            "x": InverseCDF(table=[0.5, 0.5]),
            "y": InverseCDF(table=[[1.0, 0.0], [0.5, 0.5]]),
        },
    )
    with pytest.raises(ValueError, match="y: a row's value has probability zero"):
        row_bounds(never, {"x": [0], "y": [1]}, {"x": 1}, "y", 1)
