"""Recovery of the noise, and its prior: against scipy and by hand, and how they rank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import blobs
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from rung3 import SCM, Image, worlds
from rung3.data.rows import Noise, Rows
from rung3.evaluation.measures.prior import apart, pit, prior_distances
from rung3.evaluation.measures.recovery import distance_correlation, rank_correlation, recovery
from rung3.mechanisms import Equation
from rung3.mechanisms.base import Abduction, Mechanism, Parents

# Rank correlation


def test_rank_correlation_is_scipys_also_with_ties() -> None:
    x = torch.randint(8, (50, 2, 3)).double()
    y = x + 4 * torch.rand(50, 2, 3)
    correlation = rank_correlation(x, y)
    assert correlation.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            expected = abs(stats.spearmanr(x[:, i, j], y[:, i, j]).statistic)
            assert correlation[i, j].item() == pytest.approx(expected, abs=1e-6)


def test_rank_correlation_ranks_noise() -> None:
    u = torch.randn(400)
    error = torch.randn(400)
    correlations = [
        float(rank_correlation(guess, u))
        for guess in (u.exp(), u + 0.1 * error, u + error, u[torch.randperm(400)])
    ]
    assert correlations[0] == pytest.approx(1, abs=1e-5)
    assert sorted(correlations, reverse=True) == correlations
    assert correlations[-1] < 0.15


def test_constant_noise_has_no_ranks() -> None:
    assert rank_correlation(torch.ones(5), torch.randn(5)).isnan()
    with pytest.raises(ValueError, match=r"of one shape, got \(5,\) and \(4,\)"):
        rank_correlation(torch.ones(5), torch.randn(4))


# Distance correlation


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Székely and Rizzo 2014, one pair after another."""
    n = len(x)

    def centred(z: np.ndarray) -> np.ndarray:
        a = np.array([[np.linalg.norm(p - q) for q in z] for p in z])
        out = np.zeros_like(a)
        for i in range(n):
            for j in range(n):
                if i != j:
                    mean = a[i].sum() / (n - 2) + a[:, j].sum() / (n - 2)
                    out[i, j] = a[i, j] - mean + a.sum() / ((n - 1) * (n - 2))
        return out

    a, b = centred(x), centred(y)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def test_distance_correlation_is_the_published_estimator() -> None:
    x, y = torch.randn(20, 3), torch.randn(20, 2, 2)
    y[:, 0, 0] += 2 * x[:, 0] ** 2
    expected = by_hand(x.double().numpy(), y.double().flatten(1).numpy())
    assert distance_correlation(x, y) == pytest.approx(expected, abs=1e-10)


def test_distance_correlation_ranks_latents_whatever_their_dimensions() -> None:
    """Turning the latents costs nothing; bending them, noise, and other rows' do."""
    u = torch.randn(300, 4)
    turned = u @ torch.linalg.qr(torch.randn(4, 4)).Q * 3 - 1
    noisy = torch.cat([u, torch.randn(300, 4)], dim=1)
    guesses = (turned, u.sinh(), noisy, u[torch.randperm(300)])
    correlations = [distance_correlation(guess, u) for guess in guesses]
    assert correlations[0] == pytest.approx(1, abs=1e-6)
    assert sorted(correlations, reverse=True) == correlations
    assert abs(correlations[-1]) < 0.02


def test_independent_noise_of_many_dimensions_has_no_distance_correlation_on_average() -> None:
    correlations = [
        distance_correlation(torch.randn(30, 200), torch.randn(30, 50)) for _ in range(60)
    ]
    assert abs(np.mean(correlations)) < 4 * np.std(correlations) / np.sqrt(60)


def test_too_few_rows_have_no_distance_correlation() -> None:
    with pytest.raises(ValueError, match="4 or more, got 3 and 3"):
        distance_correlation(torch.randn(3, 2), torch.randn(3, 2))


# Of models


class Halves(Mechanism):
    """The blobs' images, with noise in parts: the image's mean, and the rest as observation."""

    abduction: ClassVar[Abduction] = "approximate"
    assumption: str = "none"
    observation_noise: ClassVar[tuple[str, ...]] = ("eps",)

    def __init__(self, shuffled: bool = False, wide: float = 1.0) -> None:
        super().__init__()
        self.shuffled = shuffled
        self.breadth = wide

    def build(self) -> None: ...

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        u = torch.rand(n, *self.variable.shape, generator=generator)
        return self._halves(u)

    def _halves(self, u: Tensor) -> dict[str, Tensor]:
        z = u.reshape(len(u), 9, -1)[..., :8].mean(2)  # in nine places
        return {"z": z, "eps": u}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, Mapping)
        return blobs.base(parents["position"], parents["brightness"]) + 0.1 * noise["eps"]

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        u = 10 * (value - blobs.base(parents["position"], parents["brightness"]))
        halves = self._halves(u.roll(1, 0) if self.shuffled else u)
        return {"z": 0.5 + self.breadth * (halves["z"] - 0.5), "eps": halves["eps"]}

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return torch.zeros(len(value))


def wrong_brightness() -> SCM:
    """It takes the effect of the position on the brightness for noise."""
    return SCM(
        blobs.GRAPH,
        variables={"image": Image(1, 12, 12, bits=None)},
        mechanisms={
            "position": Equation("1.5*u"),
            "brightness": Equation("0.15 + 0.05*position + 0.01*u"),
            "image": Equation(blobs.right, noise="Uniform(0, 1)"),
        },
    )


def value(model: SCM, name: str) -> tuple[str, float]:
    recovered: dict[str, Any] = recovery(model, blobs.world().sample(200, seed=0), seed=0)[name]
    return recovered["measure"], recovered["value"]


def test_recovery_ranks_models() -> None:
    measure, number = value(blobs.world(), "brightness")
    assert measure == "rank correlation"
    assert number == pytest.approx(1, abs=1e-5)
    assert value(blobs.world(), "image")[1] == pytest.approx(1, abs=1e-2)
    assert value(wrong_brightness(), "brightness")[1] < 0.5
    measure, right = value(blobs.scm(Halves()), "image")
    assert measure == "distance correlation"
    assert right > 0.1 > 5 * abs(value(blobs.scm(Halves(shuffled=True)), "image")[1])


def test_noise_of_whole_numbers_is_compared_too() -> None:
    """A raw digit is the noise of its image: grey levels in bytes, and a label."""
    rows = blobs.world().sample(200, seed=0)
    noise = rows.noise or {}
    levels = (100 * noise["image"]).to(torch.uint8) if isinstance(noise["image"], Tensor) else None
    assert levels is not None
    raw = {"raw": levels, "label": torch.arange(200)}
    known = Rows(dict(rows), noise={**noise, "image": raw}, world=rows.world)
    recovered: dict[str, Any] = recovery(blobs.scm(Halves()), known, seed=0)["image"]
    assert recovered["measure"] == "distance correlation"
    assert math.isfinite(recovered["value"])


def test_recovery_needs_rows_that_carry_noise() -> None:
    rows = blobs.scm(blobs.right).sample(5, seed=0)
    with pytest.raises(ValueError, match="the rows carry no noise"):
        recovery(blobs.world(), rows)


def test_a_variable_that_cannot_be_abducted_leaves_the_others_theirs() -> None:
    world = worlds.digits()
    rows = world.sample(300, seed=0)  # more than are abducted at once
    recovered = recovery(world, rows, seed=0)
    assert "noise unknown" in recovered["image"]["refused"]
    assert recovered["intensity"]["value"] == pytest.approx(1, abs=1e-3)
    assert recovered["intensity"]["rows"] == 300
    assert "image" not in prior_distances(world, rows, seed=0)


# The prior


def test_distance_from_uniform_is_scipys() -> None:
    v = torch.rand(200, 3) ** 1.2
    distance = apart(v)
    for k in range(3):
        expected = stats.kstest(v[:, k].numpy(), "uniform").statistic
        assert distance[k].item() == pytest.approx(expected, abs=1e-6)


def test_ranks_among_draws_are_those_of_two_samples() -> None:
    noise, prior = torch.randn(50, 2).round(decimals=1), torch.randn(80, 2).round(decimals=1)
    v = pit(noise, prior)
    for k in range(2):
        for i in range(50):
            below = (prior[:, k] < noise[i, k]).sum()
            equal = (prior[:, k] == noise[i, k]).sum()
            assert v[i, k].item() == pytest.approx(float((below + equal / 2) / 80))


def test_chance_is_what_right_noise_gives_on_average() -> None:
    distances = [float(apart(pit(torch.randn(200), torch.randn(200)))) for _ in range(200)]
    expected = 0.8687 * (2 / 200) ** 0.5
    assert np.mean(distances) == pytest.approx(expected, rel=0.1)


def distance(model: SCM, name: str, part: str = "noise") -> tuple[float, float]:
    result = prior_distances(model, blobs.world().sample(400, seed=0), seed=0)[name][part]
    return result["distance"], result["chance"]


def test_noise_of_the_right_model_follows_its_prior_and_that_of_wrong_ones_does_not() -> None:
    right, chance = distance(blobs.world(), "image")
    assert right == pytest.approx(chance, rel=0.2)
    for wrong in (blobs.nothing, blobs.wrong_sign):
        assert (
            distance(blobs.scm(Equation(wrong, noise="Normal(0.5, 0.1)")), "image")[0] > 3 * chance
        )
    assert distance(wrong_brightness(), "brightness")[0] > 3 * chance


def test_latents_that_are_too_sure_do_not_follow_the_prior() -> None:
    distances = [distance(blobs.scm(Halves(wide=wide)), "image", "z") for wide in (1.0, 0.8, 0.2)]
    (right, chance), (some, _), (much, _) = distances
    assert right < 1.3 * chance < some < much


def test_noise_of_other_rows_follows_the_prior_all_the_same() -> None:
    measured, chance = distance(blobs.scm(Halves(shuffled=True)), "image", "z")
    assert measured < 1.5 * chance
