"""The one form of effects, shares, slopes and bounds: their print, and what lies in them."""

from __future__ import annotations

import pytest
import torch

from rung3.effects import Estimate
from rung3.effects.estimate import AVERAGE, BOUNDS, SLOPE

TEXTS = [
    (Estimate(0.5, 0.25, 0.75), "0.500 [0.250, 0.750]"),
    (Estimate(None, 0.25, 0.75, form=BOUNDS), "[0.250, 0.750]"),
    (Estimate(None, 0.25, 0.25, gaps=2, form=BOUNDS), "0.250; 2 rows with gaps left out"),
    (Estimate(-2.5, -3.0, -2.0, n=7, form=SLOPE), "-2.5 [-3.0, -2.0] (n = 7)"),
    (
        Estimate(torch.tensor(12.0), torch.tensor(11.0), torch.tensor(13.0), form=AVERAGE),
        "12 [11, 13]",
    ),
    (Estimate(0.68, 0.54192, 0.79238, form=AVERAGE), "0.6800 [0.5419, 0.7924]"),
    (Estimate(2.0, -0.4841, 16.128, form=AVERAGE), "2.00 [-0.48, 16.13]"),
    (
        Estimate(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3), n=4),
        "average effect of shape (2, 3) over 4 rows",
    ),
    (
        Estimate(1.0, 1.0, 1.0, learned=True),
        "1.000 [1.000, 1.000] (of the rows alone, not of learning the model)",
    ),
    (
        Estimate(1.0, 1.0, 1.0, learned=True, over="noise"),
        "1.000 [1.000, 1.000] (of the noise alone, not of learning the model)",
    ),
]


@pytest.mark.parametrize(("estimate", "text"), TEXTS)
def test_estimates_print_as_what_they_are(estimate: Estimate, text: str) -> None:
    assert str(estimate) == text


def test_an_interval_holds_its_ends_and_what_lies_between() -> None:
    bounds = Estimate(None, 0.2, 0.6, form=BOUNDS)
    assert [value in bounds for value in (0.1999, 0.2, 0.4, 0.6, 0.6001)] == [
        False, True, True, True, False,
    ]  # fmt: skip
    assert not bounds.identified
    assert Estimate(None, 0.2, 0.2 + 1e-7).identified
    assert 0.2 - 1e-7 in bounds  # as precise as the programs that find them
    assert 0.0 not in Estimate(3e-7, 2e-7, 4e-7)  # of a small unit


def test_the_value_has_the_name_of_what_it_is() -> None:
    assert Estimate(0.5, 0.4, 0.6).effect == Estimate(0.5, 0.4, 0.6).slope == 0.5
