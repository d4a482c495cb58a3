"""Score intervals of shares and of paired yes and no: against scipy's, and how often they cover."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, multinomial

from rung3 import SCM, Binary, fit
from rung3.effects import Estimate, average
from rung3.effects.averages import average_of
from rung3.effects.score import score_interval
from rung3.mechanisms import Equation, InverseCDF


@pytest.mark.parametrize(("count", "n"), [(0, 20), (2, 100), (37, 60), (60, 60)])
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_shares_have_wilson_s_interval(count: int, n: int, level: float) -> None:
    truth = binomtest(count, n).proportion_ci(level, "wilson")
    interval = score_interval(torch.tensor(count), torch.tensor(0), n, level, signed=False)
    assert [float(end) for end in interval] == pytest.approx([truth.low, truth.high], abs=1e-9)


def test_the_ends_solve_tango_s_equation_and_mirror_each_other() -> None:
    rose, fell = torch.tensor([12, 3, 0]), torch.tensor([14, 0, 0])
    low, high = score_interval(rose, fell, 44, 0.95)
    theta = high[0]
    q = torch.linspace(1e-6, 1, 400_001).double()
    q = q[q + theta > 0]
    q = q[2 * q + theta < 1]
    likely = 12 * (q + theta).log() + 14 * q.log() + 18 * (1 - 2 * q - theta).log()
    best = q[likely.argmax()]
    deviation = (44 * (2 * best + theta - theta**2)).sqrt()
    assert float((12 - 14 - 44 * theta) / deviation) == pytest.approx(-1.959964, abs=1e-3)
    mirrored = score_interval(fell, rose, 44, 0.95)
    torch.testing.assert_close(mirrored[0], -high)
    torch.testing.assert_close(mirrored[1], -low)


@pytest.mark.parametrize("n", [40, 100, 400])
@pytest.mark.parametrize("p", [0.02, 0.1, 0.5])
def test_rare_events_are_covered(p: float, n: int) -> None:
    """Hall's interval of Bernoulli .02 covers 85 % at n = 100."""
    counts = torch.arange(n + 1)
    low, high = score_interval(counts, torch.zeros_like(counts), n, 0.95)
    covered = ((low <= p) & (high >= p)).numpy()
    assert binom(n, p).pmf(counts)[covered].sum() > 0.925


@pytest.mark.parametrize(("up", "down"), [(0.06, 0.02), (0.02, 0.0), (0.3, 0.3)])
def test_averages_of_yes_and_no_cover_as_often_as_they_say(up: float, down: float) -> None:
    rng, n = np.random.default_rng(0), 100
    counts = multinomial(n, [up, down, 1 - up - down]).rvs(300, random_state=rng)
    columns = [np.repeat([1.0, -1.0, 0.0], one) for one in counts]
    estimate = average_of(torch.from_numpy(np.stack(columns, 1)))
    covered = (estimate.low <= up - down) & (estimate.high >= up - down)
    assert covered.double().mean() > 0.92
    assert (estimate.high > estimate.low).all()


def test_equal_differences_of_numbers_are_exact_and_of_yes_and_no_are_not() -> None:
    def ends(estimate: Estimate) -> list[float]:
        return [round(float(end), 3) for end in (estimate.low, estimate.high)]

    assert ends(average_of(torch.full((50,), 3.0))) == [3, 3]
    assert ends(average_of(torch.ones(50), numbers=True)) == [1, 1]
    assert ends(average_of(torch.zeros(50))) == [-0.071, 0.071]
    assert ends(average_of(torch.zeros(50, dtype=torch.bool))) == [0, 0.071]
    never = InverseCDF(table=[[1.0, 0.0], [1.0, 0.0]])
    model = SCM("x -> y", {"x": Binary(), "y": Binary()}, {"y": never})
    estimate = average(model, {"x": 1}, "y", versus={"x": 0}, n=100, seed=0)
    assert ends(estimate) == [-0.037, 0.037]


def test_the_printed_line_of_a_fitted_model_says_what_it_leaves_out() -> None:
    model = SCM("x -> y")
    known = SCM(x=Equation("u"), y=Equation("x + u"))
    assert "learning" not in str(average(known, {"x": 1.0}, "y", n=50, seed=0))
    fit(model, known.sample(200, seed=0), epochs=1, progress=False)
    estimate = average(model, {"x": 1.0}, "y", versus={"x": 0.0}, n=50, seed=0)
    assert str(estimate).endswith("] (of the rows alone, not of learning the model)")
