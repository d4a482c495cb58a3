"""The picture of a what-if."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rung3.picture import picture


def panels(figure: Any) -> dict[str, Any]:
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def test_the_difference_is_on_a_scale_with_zero_in_its_middle() -> None:
    factual, imagined = torch.zeros(1, 6, 5), torch.zeros(1, 6, 5)
    imagined[0, 2, 3], imagined[0, 1, 1] = 0.75, 0.25
    drawn = panels(picture(factual, imagined))["difference"].images[0]
    assert drawn.get_clim() == (-0.75, 0.75)
    np.testing.assert_array_equal(drawn.get_array(), (imagined - factual)[0].numpy())


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_panels(channels: int) -> None:
    factual, draws = torch.rand(channels, 6, 5), torch.rand(4, channels, 6, 5)
    shown = panels(picture(factual, draws[0], truth=draws[1], title="row 3"))
    assert list(shown) == ["factual", "counterfactual", "truth", "difference"]
    shown = panels(picture(factual, draws))
    assert list(shown) == ["factual", "counterfactual (4)", "difference", "spread (s.d.)"]
    spread = shown["spread (s.d.)"].images[0].get_array()
    np.testing.assert_allclose(spread, draws.std(0).mean(0), rtol=1e-6)
