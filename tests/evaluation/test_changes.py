"""Minimality, amplification, drift, commutativity: by hand, and how they rank."""

from __future__ import annotations

import math

import answers
import blobs
import numpy as np
import pytest
import torch
from torch import Tensor

from rung3 import SCM, Categorical, Continuous, Image, evaluate
from rung3.data.rows import Rows
from rung3.evaluation import Oracle, Oracles, Protocol, fit_oracles
from rung3.evaluation.measures.amplification import amplification, drift, moved, unchanged
from rung3.evaluation.measures.commutativity import commutativity
from rung3.evaluation.measures.minimality import alike, latent_divergence
from rung3.mechanisms import Equation

# Minimality


def test_latent_divergence_is_melistas_formula_row_by_row() -> None:
    n, m = 6, 40
    delta, distances = torch.rand(n), torch.rand(n, m)
    old, new, reference = torch.randint(3, (n,)), torch.randint(3, (n,)), torch.randint(3, (m,))
    digit = Categorical(3)
    divergence = latent_divergence(
        delta, distances, alike(digit, old, reference), alike(digit, new, reference)
    )
    for k in range(n):
        near = [d <= delta[k] for d, r in zip(distances[k], reference, strict=True) if r == new[k]]
        far = [d >= delta[k] for d, r in zip(distances[k], reference, strict=True) if r == old[k]]
        p1, p2 = np.mean(near), np.mean(far)
        assert divergence.cld[k].item() == pytest.approx(
            math.log(0.8 * math.exp(p1) + 0.2 * math.exp(p2)), abs=1e-6
        )


def test_latent_divergence_ranks_changes_of_class() -> None:
    """Classes ten apart, people of 16 features: the change to the class and no more is best."""
    person = torch.randn(300, 16)
    old, new = torch.arange(300) % 3, (torch.arange(300) + 1) % 3
    reference_class = torch.randint(3, (500,))

    def place(label: Tensor) -> Tensor:
        return 10.0 * label[:, None] * torch.eye(16)[0]

    reference = place(reference_class) + torch.randn(500, 16)
    factual = place(old) + person
    other = person.flip(0)
    candidates = {
        "true": place(new) + person,
        "near": place(new) + person + 0.5 * torch.randn(300, 16),
        "shuffled": place(new) + other,
        "too much": factual + 2 * (place(new) - place(old)),
        "nothing": factual,
    }
    digit = Categorical(3)
    masks = alike(digit, old, reference_class), alike(digit, new, reference_class)
    divergences = {
        name: latent_divergence(
            (image - factual).norm(dim=1), torch.cdist(factual, reference), *masks
        )
        for name, image in candidates.items()
    }
    cld = {name: float(f.cld.mean()) for name, f in divergences.items()}
    assert cld["true"] < cld["near"] < cld["shuffled"] < cld["too much"]
    assert cld["true"] < cld["nothing"] == pytest.approx(math.log(0.8 + 0.2 * math.e), abs=1e-5)
    assert float(divergences["nothing"].too_far.max()) == 0
    assert float(divergences["nothing"].too_near.min()) == 1


def test_rows_without_a_reference_are_nan_and_the_others_are_not() -> None:
    digit = Categorical(3)
    after = alike(digit, torch.tensor([0, 2]), torch.tensor([0, 0]))
    divergence = latent_divergence(torch.rand(2), torch.rand(2, 2), torch.ones_like(after), after)
    assert divergence.cld.isnan().tolist() == [False, True]


def test_bins_of_numbers_hold_equal_shares_and_one_edge_rule() -> None:
    reference = torch.randn(1000)
    mask = alike(Continuous(), reference, reference)
    assert bool(mask.diagonal().all())
    assert (mask.sum(1) - 100).abs().max() <= 1
    assert torch.equal(mask, mask.T)


def test_wrong_weights_and_variables_are_refused() -> None:
    some = torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="two of sum 1"):
        latent_divergence(torch.ones(1), torch.ones(1, 1), some, some, (0.8, 0.8))
    with pytest.raises(ValueError, match="expected single values"):
        alike(Continuous(dim=2), torch.ones(1, 2), torch.ones(1, 2))


# Amplification and drift


@pytest.fixture(scope="module")
def oracles() -> Oracles:
    world = blobs.world()
    return fit_oracles(world, world.sample(800, seed=2), epochs=6, progress=False)


def test_amplification_and_drift_rank_answers(oracles: Oracles) -> None:
    """The brightness is set, and the position must stay: an image of another position drifts."""
    world = blobs.world()
    rows = world.sample(200, seed=3)
    true = world.counterfactual(rows, {"brightness": 0.2})
    oracle = oracles["image", "position"]
    other = world.counterfactual(rows, {"position": rows["position"].flip(0), "brightness": 0.2})
    slightly = world.counterfactual(rows, {"position": rows["position"] + 0.2, "brightness": 0.2})
    moved_to = {
        "nothing": rows["image"],
        "true": true["image"],
        "slightly": slightly["image"],
        "other": other["image"],
    }
    scores = {
        name: (
            float(drift(oracle, rows["image"], image).mean()),
            float(amplification(oracle, rows["image"], image, rows["position"]).mean()),
        )
        for name, image in moved_to.items()
    }
    assert scores["nothing"] == (0, 0)
    assert scores["true"][0] < scores["slightly"][0] < scores["other"][0]
    assert scores["slightly"][0] == pytest.approx(0.2, abs=0.1)
    assert scores["true"][1] < scores["slightly"][1] + 0.1 < scores["other"][1]


def test_a_category_that_was_right_and_is_wrong_is_amplified_by_one() -> None:
    oracle = Oracle(Image(1, 8, 8), Categorical(2), width=4).eval()
    images = torch.rand(6, 1, 8, 8)
    read = oracle.read(images)
    assert amplification(oracle, images, images, read).tolist() == [0] * 6
    others = images.roll(1, 0)
    expected = (oracle.read(others) != read).float()
    assert torch.equal(amplification(oracle, images, others, read), expected)


def test_only_parents_below_no_intervention_are_unchanged() -> None:
    world = blobs.world()
    assert unchanged(world, "image", ["position"]) == []
    assert unchanged(world, "image", ["brightness"]) == ["position"]


def test_non_descendants_do_not_move_in_a_sound_model() -> None:
    rows, do, true = answers.question(20)
    assert moved(blobs.world(), ["brightness"], rows, rows).keys() == {"position"}
    assert moved(blobs.world(), do, rows, true) == {}
    wrong = Rows({**rows, "position": rows["position"] + 0.5})
    movement = moved(blobs.world(), ["brightness"], rows, wrong)["position"]
    torch.testing.assert_close(movement, torch.full((20,), 0.5))


# Commutativity


def intervened(image: object, n: int = 50) -> float:
    model, rows = blobs.scm(image), blobs.world().sample(n, seed=0)
    first, second = ("position", rows["position"].flip(0)), ("brightness", 0.2)
    return float(commutativity(model, rows, first, second, "image", seed=0).mean())


def drifting(position: Tensor, brightness: Tensor, u: Tensor) -> Tensor:
    """Its noise scales the bright part, so what the first answer was cut to counts."""
    return u * (0.2 + blobs.base(position, 12 * brightness))


def test_commutativity_ranks_mechanisms() -> None:
    """Exact inversion commutes, doing nothing too; a blurred abduction does not, the less so."""
    right = intervened(blobs.right)
    assert right < 1e-3
    assert intervened(blobs.nothing) < 1e-3
    some, more = (intervened(blobs.Latent(blur)) for blur in (0.01, 0.1))
    assert right < some < more


def test_commutativity_holds_the_other_parents() -> None:
    """Through the graph, setting the cause last would undo nothing, setting it first moves b."""
    world = SCM(a=Equation("u"), b=Equation("a + u"), x=Equation("a * b + u"))
    rows = world.sample(10, seed=0)
    for pair in ((("a", 1.0), ("b", 2.0)), (("b", 2.0), ("a", 1.0))):
        assert commutativity(world, rows, *pair, "x").max() < 1e-5


def test_a_report_has_the_commutativity_of_each_pair_of_values() -> None:
    model, rows = blobs.scm(blobs.Latent(0.1)), blobs.world().sample(20, seed=0)
    protocol = Protocol(
        interventions={
            "position": 3.0,
            "brightness": 0.2,
            "moved": {"position": lambda position: position + 1},
        },
        measures=frozenset({"commutativity"}),
        bootstrap=0,
    )
    report = evaluate(
        model, rows, protocol=protocol, oracles=Oracles({}), baselines={}, progress=False
    )
    (pair,) = report.metrics["commutativity"]  # a function has no value to be set to first
    assert pair == "position, brightness"
    scores = report.metrics["commutativity"][pair]["image"]
    pairs = ("position", 3.0), ("brightness", 0.2)
    expected = commutativity(model, rows, *pairs, "image", seed=1).mean()
    for score in scores.values():
        assert score["mean"] == pytest.approx(float(expected), rel=0.3)


def test_commutativity_is_of_two_parents() -> None:
    world, rows = blobs.world(), blobs.world().sample(3, seed=0)
    for second in ("position", "image"):
        with pytest.raises(ValueError, match="expected two parents of image"):
            commutativity(world, rows, ("position", 0.0), (second, 0.0), "image")
