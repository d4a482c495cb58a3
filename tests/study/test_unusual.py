"""What looks like a mistake in a study's rows, and what does not."""

from __future__ import annotations

import pytest
import torch

from rung3.data.rows import Rows
from rung3.data.variables import Categorical, Continuous, Image
from rung3.study.unusual import unusual

GENERATOR = torch.Generator().manual_seed(0)
SHARES = torch.rand(1_000, generator=GENERATOR, dtype=torch.float64)
NORMAL = torch.randn(1_000, generator=GENERATOR, dtype=torch.float64)
COUNTS = torch.poisson(torch.full((1_000,), 5.0), generator=GENERATOR).double()


def said(values: torch.Tensor, variable: Continuous | Categorical) -> list[str]:
    rows = Rows({"x": values})
    return list(unusual({"x": variable}, rows, rows[:5]))


@pytest.mark.parametrize("codes", [(-999,), (997, 998), (997, 998, 999), (-999, 999), (-99, -888)])
def test_codes_for_gaps_are_told_however_many(codes: tuple[int, ...]) -> None:
    values = NORMAL.clone()
    for k, code in enumerate(codes):
        values[k::20] = float(code)
    lines = said(values, Continuous())
    assert len(lines) == len(codes)
    for line, code in zip(lines, sorted(codes), strict=True):
        assert line.startswith(f"x: {code} (50 training rows) lies far from the others, -")


@pytest.mark.parametrize(
    "values",
    [
        NORMAL,
        NORMAL.mul(2).exp(),
        torch.where(SHARES < 0.5, 0.0, 20 * COUNTS),
        NORMAL.mul(20).add(60).clamp(18, 90).round(),
        SHARES.mul(30).add(1990).round(),
        SHARES.lt(0.1).double(),
        torch.tan(torch.pi * (SHARES - 0.5)),
    ],
    ids=["normal", "skewed", "zero-inflated", "capped", "years", "one-hot", "heavy tails"],
)
def test_nothing_is_unusual_in_healthy_values(values: torch.Tensor) -> None:
    assert said(values, Continuous()) == []


def test_a_zero_apart_from_all_others_may_stand_for_a_gap() -> None:
    ages = 45 + 35 * SHARES
    few, many = ages.clone(), ages.clone()
    few[:2], many[:200] = 0, 0
    assert said(ages, Continuous()) == said(many, Continuous()) == []
    rows, held = Rows({"x": few[1:]}), Rows({"x": few[:1]})
    (line,) = unusual({"x": Continuous()}, rows, held)
    assert line.startswith("x: 0 (2 rows) stands apart from the others, 45.")
    children = SHARES.mul(20).round()  # of newborns, 0 is an age
    assert said(children, Continuous()) == []


def test_a_training_row_that_is_there_twice_is_told() -> None:
    image = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    rows = Rows({"x": SHARES[:20], "scan": image})
    twice = rows.select(torch.tensor([*range(20), 3]))
    variables = {"x": Continuous(), "scan": Image(1, 4, 4, bits=None)}
    held = Rows({"x": SHARES[20:21], "scan": 1 - image[:1]})
    assert list(unusual(variables, rows, held)) == []
    (line,) = unusual(variables, twice, held)
    assert line.startswith("1 of 21 training rows repeats another, image and all")


def test_of_many_labels_without_rows_a_few_are_named() -> None:
    labels = tuple(f"site {k}" for k in range(500))
    (line,) = said(torch.arange(1_000) % 100, Categorical(labels=labels))
    assert "site 100 or site 101" in line
    assert "or 393 other labels" in line
    assert len(line) < 300
