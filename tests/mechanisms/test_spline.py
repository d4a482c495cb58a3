"""Splines look their knots up quicker than those of zuko, and give the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from zuko.transforms import MonotonicRQSTransform

from rung3 import Continuous
from rung3.mechanisms import Flow
from rung3.mechanisms.flow import BOX, MAX_SLOPE
from rung3.mechanisms.networks.one_number import Likelihood
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


@pytest.mark.parametrize("splines", [0, 1, 2])
def test_a_likelihood_by_hand_has_the_value_and_the_slopes_of_autograd(splines: int) -> None:
    """Also beyond the box, where the spline is the identity, and with steep parameters."""
    generator = torch.Generator().manual_seed(splines)
    flow = Flow(splines=splines, bins=6).bind("x", Continuous(), {}).double()
    for part in flow.parameters():
        part.data = torch.randn(part.shape, generator=generator).double()
    y = 4 * torch.randn(300, generator=generator).double()
    weight = torch.rand(300, generator=generator).double()
    weight /= weight.sum()
    loss = -(weight * flow.log_prob(y, {})).sum() - math.log(2 * math.pi) / 2
    slopes = torch.cat([s.flatten() for s in torch.autograd.grad(loss, flow.alone())])
    parameters = torch.cat([part.detach().flatten() for part in flow.alone()]).numpy()
    likelihood = Likelihood(y.numpy(), weight.numpy(), 6, BOX, MAX_SLOPE)
    value, by_hand = likelihood(parameters)
    assert value == pytest.approx(loss.item(), abs=1e-12)
    np.testing.assert_allclose(by_hand, slopes.numpy(), atol=1e-12)
    climbed = likelihood.climb(parameters, 5, 1e-9)
    assert likelihood(climbed)[0] < value - 0.1


def test_skewed_numbers_without_parents_are_fitted() -> None:
    """The entropy of this lognormal is 1.419 nats; ten steps of L-BFGS ended above 1.65."""
    value = torch.randn(5_000, generator=torch.Generator().manual_seed(0)).exp()
    flow = Flow().bind("x", Continuous(), {})
    flow.calibrate(value, {})
    assert flow.loss(value, {}).mean() < 1.58
