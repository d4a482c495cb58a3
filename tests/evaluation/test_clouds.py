"""Similarity, proper scores and intervals: against other implementations, and how they rank."""

from __future__ import annotations

import math

import answers
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from rung3 import Binary, Categorical, Continuous, Image
from rung3.data.ranks import covered, ranks
from rung3.evaluation.measures.calibration import crps
from rung3.evaluation.measures.similarity import ssim

PIXELS = Image(1, 12, 12, bits=None)


# Similarity


def test_ssim_is_wangs_formula() -> None:
    x, y = torch.rand(2, 3, 2, 14, 17)

    def blurred(image: Tensor) -> np.ndarray:
        return gaussian_filter(
            image.double().numpy(), (0, 0, 1.5, 1.5), mode="mirror", truncate=3.5
        )

    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    cov = blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    expected = (above / below).mean((1, 2, 3))
    np.testing.assert_allclose(ssim(x, y), expected, atol=1e-5)


def test_ssim_ranks_answers() -> None:
    rows, _, true = answers.question(40)
    scores = {
        name: float(ssim(image, true["image"]).mean())
        for name, image in answers.images(rows, true).items()
    }
    assert scores["true"] == pytest.approx(1, abs=1e-5)
    assert scores["true"] > scores["near"] > scores["far"] > max(scores[k] for k in answers.WRONG)
    assert scores["nothing"] > scores["wrong sign"]


def test_ssim_of_a_row_does_not_depend_on_the_others() -> None:
    x, y = torch.rand(2, 4, 1, 12, 12)
    torch.testing.assert_close(ssim(x, y)[:1], ssim(x[:1], y[:1]))


def test_images_too_small_for_ssim_are_refused() -> None:
    with pytest.raises(ValueError, match=r"more than 5 pixels a side, got \(5, 9\)"):
        ssim(torch.zeros(1, 1, 5, 9), torch.zeros(1, 1, 5, 9))


# CRPS


def naive(draws: Tensor, true: Tensor) -> Tensor:
    k = len(draws)
    error = sum((x - true).abs() for x in draws) / k
    pairs = sum((x - y).abs() for x in draws for y in draws)
    return error - pairs / (2 * k * (k - 1))


@pytest.mark.parametrize("k", [2, 7])
def test_crps_is_the_mean_over_all_pairs(k: int) -> None:
    draws, true = torch.rand(k, 3, 1, 12, 12), torch.rand(3, 1, 12, 12)
    expected = naive(draws, true).mean((1, 2, 3))
    torch.testing.assert_close(crps(PIXELS, draws, true), expected)
    grey = crps(Image(1, 12, 12), draws, true)
    torch.testing.assert_close(grey, 255 * expected)


def test_crps_of_categories_is_the_mean_over_all_pairs() -> None:
    draws, true = torch.randint(4, (9, 5)), torch.randint(4, (5,))
    k = len(draws)
    error = (draws != true).double().mean(0)
    pairs = sum((x != y).double() for x in draws for y in draws)
    expected = (error - pairs / (2 * k * (k - 1))).float()
    torch.testing.assert_close(crps(Categorical(4), draws, true), expected)


def test_crps_of_a_normal_is_its_closed_form_whatever_the_number_of_draws() -> None:
    """Gneiting and Raftery 2007, eq. 21: of N(0, 1) at y, `y (2 Phi - 1) + 2 phi - 1/sqrt(pi)`."""
    y = 0.7
    phi = math.exp(-(y**2) / 2) / math.sqrt(2 * math.pi)
    closed = y * math.erf(y / math.sqrt(2)) + 2 * phi - 1 / math.sqrt(math.pi)
    for k in (2, 16):
        draws = torch.randn(k, 400_000 // k)
        score = crps(Continuous(), draws, torch.full((400_000 // k,), y)).mean()
        assert score.item() == pytest.approx(closed, abs=0.01)


@pytest.mark.parametrize("draws", [torch.rand(1, 3), torch.rand(4, 2)])
def test_too_few_draws_or_of_other_rows_are_refused(draws: Tensor) -> None:
    with pytest.raises(ValueError, match="CRPS: expected at least 2 draws of shape"):
        crps(Continuous(), draws, torch.rand(3))


def cloud(centre: Tensor, spread: float, k: int = 30) -> Tensor:
    return centre + spread * torch.randn(k, *centre.shape)


def test_crps_ranks_clouds() -> None:
    """The truth is uncertain by 0.05: a cloud of that width beats surer and vaguer ones."""
    rows, _, known = answers.question(60)
    true = known["image"] + 0.05 * torch.randn_like(known["image"])
    scores = {
        name: float(crps(PIXELS, cloud(image, 0.05), true).mean())
        for name, image in answers.images(rows, known).items()
    }
    assert scores["true"] < scores["near"] < scores["far"] < min(scores[k] for k in answers.WRONG)
    assert scores["nothing"] < scores["wrong sign"]
    for spread in (0.005, 0.2):
        assert scores["true"] < float(crps(PIXELS, cloud(known["image"], spread), true).mean())


# Intervals


def shares(draws: Tensor, true: Tensor) -> list[float]:
    v, unsure = ranks(PIXELS, [draws], true, torch.Generator().manual_seed(0))
    return [float(covered(v, unsure, level).mean()) for level in (0.5, 0.9)]


def test_intervals_cover_as_often_as_they_say_only_if_the_spread_is_right() -> None:
    rows, _, known = answers.question(60)
    true = known["image"] + 0.05 * torch.randn_like(known["image"])
    half, most = shares(cloud(known["image"], 0.05), true)
    assert half == pytest.approx(0.5, abs=0.02)
    assert most == pytest.approx(0.9, abs=0.02)
    sure, vague = (
        shares(cloud(known["image"], 0.01), true),
        shares(cloud(known["image"], 0.2), true),
    )
    assert sure[1] < 0.4
    assert vague[0] > 0.9
    for name in answers.WRONG:
        assert shares(cloud(answers.images(rows, known)[name], 0.05), true)[1] < most - 0.02, name


def test_ranks_are_uniform_where_many_values_tie() -> None:
    draws, true = torch.randint(2, (5, 20_000)), torch.randint(2, (20_000,))
    v, _ = ranks(Binary(), [draws[:2], draws[2:]], true, torch.Generator().manual_seed(0))
    quartiles = torch.quantile(v, torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(quartiles, torch.tensor([0.25, 0.5, 0.75]), atol=0.02, rtol=0)


def test_places_that_are_certain_do_not_count() -> None:
    true = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    draws = torch.zeros(3, 2, 2)
    v, unsure = ranks(Continuous(), [draws], true)
    assert unsure.tolist() == [[False, True], [False, False]]
    share = covered(v, unsure, 0.5)
    assert share[0] == 0
    assert share[1].isnan()


def test_a_level_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1, got 90"):
        covered(torch.rand(2), torch.ones(2, dtype=torch.bool), 90)
