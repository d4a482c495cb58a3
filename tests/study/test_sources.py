"""Where a study's rows come from."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch

from rung3.study.drawn_sources import ColourData, DigitsData
from rung3.worlds.strokes.scenarios import Scenario

SCENARIOS = get_args(Scenario)


@pytest.mark.parametrize("scenario", [None, *SCENARIOS])
def test_one_row_is_drawn_as_it_is_among_all(scenario: Any) -> None:
    source = (
        DigitsData(kind="digits", test=9)
        if scenario is None
        else ColourData(kind="colour", scenario=scenario, test=9)
    )
    whole = source.test_rows({}, 3)
    for at in (0, 4, 8):
        row, expected = source.test_rows({}, 3, at), whole[at]
        assert row.keys() == expected.keys()
        assert all(torch.equal(row[name], expected[name]) for name in row)
        assert row.world == expected.world
        assert row.noise is not None
        assert expected.noise is not None
        assert row.noise.keys() == expected.noise.keys()
    for at in (-1, 9):
        with pytest.raises(ValueError, match=f"row {at}: the test rows are 0 to 8"):
            source.test_rows({}, 3, at)
