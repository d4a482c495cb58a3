"""Splines look their knots up quicker than those of zuko, and give the same numbers."""

from __future__ import annotations

import pytest
import torch
from zuko.transforms import MonotonicRQSTransform

from rung3.mechanisms.networks.spline import Spline


@pytest.mark.parametrize(
    ("features", "rows", "learning"),
    [(1, None, False), (1, None, True), (3, None, False), (1, 50, False), (3, 50, True)],
)
def test_numbers_and_gradients_are_those_of_zuko(
    features: int, rows: int | None, learning: bool
) -> None:
    torch.manual_seed(0)
    of_rows = (features,) if rows is None else (rows, features)
    knots = [
        torch.randn(*of, 8 - at // 2)
        for at, of in ((0, (features,)), (1, of_rows), (2, (features,)))
    ]
    x = torch.cat([torch.randn(45, features) * 3, torch.full((5, features), 7.0)])
    x[0] = x[0] if learning else torch.nan
    answers = []
    for family in (MonotonicRQSTransform, Spline):
        own = [knot.clone().requires_grad_(learning) for knot in knots]
        spline, value = family(*own, slope=0.01), x.clone().requires_grad_()
        y, slope = spline.call_and_ladj(value)
        back = spline.inv(y.detach())
        (y.nansum() + slope.nansum() + back.nansum()).backward()
        gradients = [one.grad for one in (value, *own) if one.grad is not None]
        answers.append([spline(value), y, slope, back, *gradients])
    assert len(answers[0]) == len(answers[1]) == (8 if learning else 5)
    for theirs, ours in zip(*answers, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)
