"""Baselines score as they must, by every kind of measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import blobs
import halves
import pytest
import torch
from torch import Tensor

from rung3 import SCM, Categorical, Continuous, Ordinal, worlds
from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.evaluation import composition, evaluate, fit_ceiling, reversibility
from rung3.evaluation.baselines.baselines import (
    as_model,
    baselines,
    identity,
    opposite,
    retrieval,
    shuffled,
)
from rung3.evaluation.measures.base import NOTHING, Baseline
from rung3.training.oracles.oracles import Oracles

N = 24
NAMES = (NOTHING, "wrong sign", "shuffled abduction", "retrieval")


@pytest.fixture(scope="module")
def world() -> SCM:
    return worlds.digits()


@pytest.fixture(scope="module")
def rows(world: SCM) -> Rows:
    return world.sample(N, seed=1)


@pytest.fixture(scope="module")
def known(world: SCM) -> dict[str, Baseline]:
    return {NOTHING: identity} | baselines(world, "image", world.sample(2000, seed=2))


def parents(world: SCM, rows: Rows) -> dict[str, Tensor]:
    return {name: rows[name] for name in world.graph.parents("image")}


def intervened(world: SCM, rows: Rows, cause: str) -> tuple[Tensor, dict[str, Tensor], Rows]:
    true = world.counterfactual(rows, {cause: rows[cause].roll(1)})
    return rows["image"], parents(world, rows), true


def skills(world: SCM, rows: Rows, cause: str, known: Mapping[str, Baseline]) -> dict[str, float]:
    image, before, true = intervened(world, rows, cause)
    after, kind = parents(world, true), world.variables["image"]
    nothing = distance(kind, image, true["image"]).mean()
    images = {name: edit(image, before, after) for name, edit in known.items()}
    errors = {name: distance(kind, x, true["image"]).mean() for name, x in images.items()}
    return {name: float(1 - error / nothing) for name, error in errors.items()}


# Skill ----


def test_under_do_thickness_they_rank_as_they_must(
    world: SCM, rows: Rows, known: dict[str, Baseline]
) -> None:
    scores = skills(world, rows, "thickness", known)
    assert scores[NOTHING] == 0
    assert 1 > scores["re-morphing"] > 0.7 > scores["rescaling"] > 0.3
    assert scores["wrong sign"] < -0.3
    assert scores["shuffled abduction"] < -0.3
    assert abs(scores["retrieval"]) < 0.3  # another's handwriting, though much like it


def test_under_do_intensity_rescaling_is_nearly_the_truth(
    world: SCM, rows: Rows, known: dict[str, Baseline]
) -> None:
    scores = skills(world, rows, "intensity", known)
    assert 1 > scores["rescaling"] > 0.9 > scores["re-morphing"] > 0.5
    assert scores["wrong sign"] < -0.2
    assert scores["shuffled abduction"] < scores["retrieval"] < 0


def test_under_do_digit_only_another_digit_helps(
    world: SCM, rows: Rows, known: dict[str, Baseline]
) -> None:
    scores = skills(world, rows, "digit", known)
    assert scores["rescaling"] == scores[NOTHING] == 0
    assert abs(scores["wrong sign"]) < 0.05  # a category has no opposite
    assert scores["retrieval"] > max(0.03, scores["shuffled abduction"])


def test_the_ceiling_stands_between_the_truth_and_doing_nothing() -> None:
    world = halves.world()
    ceiling = fit_ceiling(world, "image", n=1024, epochs=3, width=16, progress=False)
    known: dict[str, Baseline] = {NOTHING: identity, "ceiling": ceiling}
    known |= baselines(world, "image", world.sample(2000, seed=2), edit=ceiling)
    scores = skills(world, world.sample(200, seed=1), "left", known)
    assert 1 > scores["ceiling"] > 0.5
    assert scores[NOTHING] == 0 > scores["wrong sign"]
    assert scores["shuffled abduction"] < 0


def test_where_noise_can_be_told_the_wrong_sign_is_that_of_the_truth() -> None:
    world = blobs.world()
    known = baselines(world, "image")
    assert list(known) == ["wrong sign", "shuffled abduction"]
    image, before, true = intervened(world, world.sample(N, seed=1), "position")
    turned = 2 * before["position"] - true["position"], 2 * before["brightness"]
    there = blobs.base(turned[0], turned[1] - true["brightness"])
    expected = image - blobs.base(*before.values()) + there
    wrong_sign = known["wrong sign"](image, before, parents(world, true))
    torch.testing.assert_close(wrong_sign, expected, atol=1e-4, rtol=0)


# Every other measure: a good score that is not enough ----


def test_doing_nothing_composes_and_reverses_perfectly(
    world: SCM, rows: Rows, known: dict[str, Baseline]
) -> None:
    drift, back = {}, {}
    for name in NAMES:
        model = as_model(world, "image", known[name])
        drift[name] = composition(model, rows, "image", [1])[1].mean().item()
        turned = reversibility(
            model, rows, {"intensity": rows["intensity"].roll(1)}, ["image"], [1]
        )
        back[name] = turned[1]["image"].mean().item()
    assert drift[NOTHING] == back[NOTHING] == 0
    assert drift["wrong sign"] == 0  # of the ceiling, which moves nothing where nothing is set
    assert 0 < drift["retrieval"] < drift["shuffled abduction"]
    assert 0 < back["wrong sign"] < back["retrieval"] < back["shuffled abduction"]
    assert composition(world, rows, "image", [1])[1].max() < 1e-3


def test_shuffled_abduction_is_as_effective_as_the_truth(
    world: SCM, rows: Rows, known: dict[str, Baseline]
) -> None:
    image, before, true = intervened(world, rows, "thickness")
    after = parents(world, true)

    def missed(x: Tensor) -> float:
        return (world.measures["thickness"](x) - after["thickness"]).abs().mean().item()

    errors = {name: missed(known[name](image, before, after)) for name in NAMES}
    assert errors["shuffled abduction"] < 1.5 * missed(true["image"])
    assert errors["retrieval"] < 0.5 * errors[NOTHING]
    assert errors[NOTHING] < errors["wrong sign"]


def test_strangers_are_drawn_from_the_world_itself(world: SCM, rows: Rows) -> None:
    one, other = (shuffled(world.mechanisms["image"], seed) for seed in (0, 0))
    image, before, true = intervened(world, rows, "thickness")
    after = parents(world, true)
    first = one(image, before, after)
    assert torch.equal(first, other(image, before, after))
    assert not torch.equal(first, one(image, before, after))  # someone else each time
    assert first.mean().item() == pytest.approx(true["image"].mean().item(), rel=0.1)


def test_baselines_are_evaluated_as_models_and_beside_them() -> None:
    world = blobs.world()
    test, known = world.sample(N, seed=1), baselines(world, "image", world.sample(500, seed=2))
    model = as_model(world, "image", known["shuffled abduction"])
    options: dict[str, Any] = {
        "oracles": Oracles({}),
        "interventions": ["position"],
        "bootstrap": 0,
    }
    metrics = evaluate(model, test, world, baselines=known, progress=False, **options).metrics
    truth = metrics["truth"]["do(position)"]["image"]
    skill = {name: part["skill"]["mean"] for name, part in truth.items()}
    assert list(skill)[-4:] == [NOTHING, *known]
    assert skill[NOTHING] == 0
    assert skill["wrong sign"] < -0.2
    assert skill["kept"] < 0
    assert skill["kept"] == pytest.approx(skill["shuffled abduction"], abs=0.2)
    assert metrics["composition"]["image"]["kept"]["1"]["mean"] > 5 / 255


# Parts ----


def test_retrieval_takes_the_class_then_the_numbers_then_the_image() -> None:
    train = {
        "d": torch.tensor([0, 1, 1, 1]),
        "t": torch.tensor([0.0, 0.0, 0.1, 9.0]),
        "x": torch.tensor([0.0, 0.2, 0.8, 0.9]).view(4, 1, 1, 1),
    }
    kinds = {"d": Categorical(3), "t": Continuous()}
    image = torch.tensor([0.9, 0.1, 0.0]).view(3, 1, 1, 1)
    before: dict[str, torch.Tensor] = {}
    wanted = {"d": torch.tensor([1, 1, 2]), "t": torch.tensor([0.0, 8.0, 9.0])}
    images = [
        retrieval(train, "x", kinds, nearest)(image, before, wanted).flatten().tolist()
        for nearest in (1, 2)
    ]
    # No row has the class 2: then the numbers decide, and of the nearest the image.
    assert images[0] == pytest.approx([0.2, 0.9, 0.9])
    assert images[1] == pytest.approx([0.8, 0.8, 0.8])


def test_retrieval_goes_the_shorter_way_round_a_circle() -> None:
    hue = Continuous(lower=0, upper=1, circular=True)
    train = {"hue": torch.tensor([0.02, 0.7]), "x": torch.tensor([0.2, 0.9]).view(2, 1, 1, 1)}
    wanted = {"hue": torch.tensor([0.95, 0.6])}  # 0.07 from 0.02, and 0.1 from 0.7
    image = retrieval(train, "x", {"hue": hue}, nearest=1)(torch.zeros(2, 1, 1, 1), {}, wanted)
    assert image.flatten().tolist() == pytest.approx([0.2, 0.9])


@pytest.mark.parametrize(
    ("kind", "before", "after", "expected"),
    [
        (Continuous(), 1.0, 3.0, -1.0),
        (Continuous(lower=0), 2.0, 8.0, 0.5),
        (Continuous(lower=0, upper=10), 4.0, 1.0, 10.0),
        (Continuous(lower=0, upper=1, circular=True), 0.9, 0.1, 0.7),
        (Continuous(lower=0, upper=1, circular=True), 0.1, 0.3, 0.9),
        (Ordinal(5), 1, 3, 0),
        (Categorical(5), 1, 3, 1),
    ],
)
def test_the_opposite_is_as_far_the_other_way(kind, before, after, expected) -> None:
    edit = opposite(lambda image, before, after: after["a"], {"a": kind})
    edited = edit(torch.zeros(1), {"a": torch.tensor([before])}, {"a": torch.tensor([after])})
    assert edited.item() == pytest.approx(expected)


def test_what_does_not_fit_is_refused(world: SCM, rows: Rows) -> None:
    with pytest.raises(ValueError, match="image='digit': expected an image with causes"):
        baselines(world, "digit")
    with pytest.raises(ValueError, match=r"train: lacks \['digit'\]"):
        baselines(world, "image", {k: v for k, v in rows.items() if k != "digit"})
    with pytest.raises(ValueError, match="at least one row"):
        baselines(world, "image", rows[:0])
    with pytest.raises(ValueError, match="an edit needs a factual image"):
        as_model(world, "image", identity).sample(2)
