"""Classifiers trained in six ways, and their scores."""

from __future__ import annotations

import clinic
import pytest
import torch

from rung3 import Image, Rows
from rung3.data.seeding import stream
from rung3.evaluation.tasks.classifier import fit_classifier, jittered
from rung3.evaluation.tasks.robustness import (
    ARMS,
    MEASURES,
    Robustness,
    compare_training,
    scores_of,
)
from rung3.training.augmentation import Augmented, Plan
from rung3.training.augmentation import confirmation as confirming

APART = Plan(change="site", independent_of="disease")


def test_scores_by_hand() -> None:
    labels = torch.tensor([0] * 40 + [1] * 60)
    groups = torch.tensor([0] * 40 + [1] * 30 + [2] * 20 + [3] * 10)
    probabilities = torch.full((100, 2), 0.1)
    probabilities[:, 0] = 0.9
    probabilities[40:55] = torch.tensor([0.3, 0.7])
    scores = scores_of(probabilities, labels, groups)
    # Group 0 is right in 40 of 40, group 1 in 15 of 30; the others are too small.
    assert scores["accuracy"] == pytest.approx(0.55)
    assert scores["worst group"] == pytest.approx(0.5)
    assert scores["gap"] == pytest.approx(0.5)
    # 85 rows at 0.9, of which 40 are right; 15 at 0.7, all right.
    assert scores["calibration error"] == pytest.approx((85 * 0.9 - 40 + 15 * 0.3) / 100, abs=1e-6)


def test_ordinary_augmentation_keeps_range_and_mean_and_is_seeded() -> None:
    images = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    changed, again = (jittered(images, stream(0, "jitter")) for _ in range(2))
    assert torch.equal(changed, again)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert 0.05 < (changed - images).abs().mean() < 0.35
    assert abs(float(changed.mean() - images.mean())) < 0.05


def test_a_classifier_learns_the_rows_that_have_weight() -> None:
    light = torch.rand(200, generator=torch.Generator().manual_seed(0))
    images = light.view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    labels = (light > 0.5).long()
    misled = torch.cat([labels, 1 - labels])
    weights = torch.tensor([2.0] * 200 + [0.0] * 200)
    network = fit_classifier(
        Image(1, 8, 8), 2, images.repeat(2, 1, 1, 1), misled,
        weights=weights, transform=lambda seen, generator: seen, steps=60,
    )  # fmt: skip
    assert (network(images).argmax(1) == labels).double().mean() > 0.95


def synthetic() -> Robustness:
    """Arm k has k / 10 as its mean, two seeds 0.02 apart, in two environments."""
    scores = {
        arm: {
            place: {m: torch.tensor([k / 10 - 0.01, k / 10 + 0.01]) for m in MEASURES}
            for place in ("source", "unconfounded")
        }
        for k, arm in enumerate(ARMS)
    }
    one = torch.zeros(1, dtype=torch.long)
    made = Augmented(Rows({"site": one}), one, "site", one == 0, one - 1, one.double(), 0, {})
    return Robustness("disease", "site", scores, made, torch.rand(3, 2, 1, 8, 8))


def test_arms_are_told_in_numbers_text_and_a_picture() -> None:
    found = synthetic()
    assert found.environments == ["source", "unconfounded"]
    # t of 1 degree of freedom is 12.706, and the standard error of two values 0.02 apart is 0.01.
    assert found.interval(ARMS[3], "source", "gap") == pytest.approx(
        (0.3, 0.3 - 0.12706, 0.3 + 0.12706), abs=1e-4
    )
    assert found.difference(ARMS[3], ARMS[1], "source", "gap") == pytest.approx((0.2, 0.2, 0.2))
    assert found.closed() == pytest.approx(3 / 5)
    records = found.records()
    assert len(records) == len(ARMS) * 2 * len(MEASURES)
    assert records[-1]["mean"] == pytest.approx(0.5)
    assert "0.300 [0.173, 0.427]" in str(found)
    assert len(found.figure().axes) == 3 * 2 + 2


@pytest.mark.slow
def test_six_ways_are_compared_in_every_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirming, "IMAGES", 3000)
    world = clinic.world()
    rows = world.sample(300, seed=0)
    found = compare_training(world, world, rows, "disease", APART, seeds=2, steps=40, n=300)
    assert found.environments == [
        "source", "prevalence", "acquisition", "manifestation", "unconfounded",
    ]  # fmt: skip
    assert len(found.records()) == len(ARMS) * len(found.environments) * len(MEASURES)
    mean, low, high = found.interval("plain", "source", "accuracy")
    assert 0.8 < mean <= 1
    assert low <= mean <= high
    assert torch.equal(found.images[1], found.images[2])  # the model is the world
    assert "from plain to the ceiling" in str(found)
    assert len(found.figure().axes) == 3 * found.images.shape[1] + 5


def test_fewer_than_two_seeds_or_a_label_that_is_no_category_are_refused() -> None:
    world = clinic.world()
    rows = world.sample(50, seed=0)
    with pytest.raises(ValueError, match="seeds=1"):
        compare_training(world, world, rows, "disease", APART, seeds=1)
    with pytest.raises(ValueError, match="label='image'"):
        compare_training(world, world, rows, "image", APART)
