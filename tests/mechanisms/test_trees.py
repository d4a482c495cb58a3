"""Sums of trees: scikit-learn's own predictions as the oracle, and noise that is not overfitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from noises import whole

from rung3 import SCM, Continuous, fit, load
from rung3.mechanisms import AdditiveNoise
from rung3.mechanisms.additive.trees import Trees


def rows(n: int, seed: int) -> dict[str, torch.Tensor]:
    """A sawtooth with noise of deviation .2."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, generator=g) * 4 - 2
    return {"x": x, "y": 2 * (2 * x - (2 * x).floor()) + 0.2 * torch.randn(n, generator=g)}


def test_they_say_what_scikit_learn_says() -> None:
    torch.manual_seed(0)
    z = torch.randn(800, 3)
    y = torch.stack([z[:, 0].sign() + z[:, 1] ** 2, (3 * z[:, 2]).floor()], 1)
    trees = Trees(30, outputs=2)
    for k in (0, 1):
        boosting = trees.boost(z, y[:, k])
        trees.store(k, boosting)
        for at in (z, 10 * torch.randn(500, 3)):
            expected = boosting.predict(at.double().numpy())
            assert trees(at)[:, k].numpy() == pytest.approx(expected, abs=1e-5)


def test_rows_are_told_by_trees_that_did_not_see_them() -> None:
    torch.manual_seed(0)
    z, e = torch.rand(600, 1), torch.randn(600, 1)
    trees = Trees(100)
    predictions = trees.solve(z, e)
    assert (e - predictions).std() > e.std() > 1.02 * (e - trees(z)).std()


def test_few_rows_are_enough_and_what_they_learned_is_replaced() -> None:
    torch.manual_seed(0)
    trees = Trees(20)
    trees.solve(torch.rand(300, 2), torch.rand(300, 1))
    trees.solve(torch.rand(5, 2), torch.full((5, 1), 3.0))
    assert torch.equal(trees(torch.rand(4, 2)), torch.full((4, 1), 3.0))


def test_steps_are_learned_and_saved(tmp_path: object) -> None:
    """The sawtooth is told to half its noise's deviation, of which one twentieth is lost."""
    model = SCM("x -> y", mechanisms={"y": AdditiveNoise(trees=100)})
    fit(model, rows(2_000, 0), epochs=3, progress=False)
    new = rows(1_000, 1)
    moved = (new["x"] + 0.5 + 2) % 4 - 2  # by a whole tooth: nothing changes
    answer = model.counterfactual(new, do={"x": moved})["y"]
    assert np.median((answer - new["y"]).abs().numpy()) < 0.1
    noise = whole(model.abduct(new)["y"])
    assert noise.std().item() == pytest.approx(1, abs=0.15)
    loaded = load(model.save(f"{tmp_path}/model"))
    assert torch.allclose(loaded.counterfactual(new, do={"x": moved})["y"], answer, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trees": 0}, "trees=0 must be a number of trees, at least 1"),
        ({"trees": 2.5}, "trees=2.5 must be"),
        ({"trees": 9, "degree": 1}, "trees=9: expected no degree, spread or regressor"),
        ({"trees": 9, "spread": True}, "trees=9: expected no degree, spread or regressor"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdditiveNoise(**options)


def test_vectors_take_a_sum_each() -> None:
    torch.manual_seed(0)
    mechanism = AdditiveNoise(trees=20).bind("y", Continuous(dim=2), {"x": Continuous()})
    x = torch.rand(400)
    y = torch.stack([(x > 0.5) * 1.0, (x > 0.2) * 2.0], 1) + 0.01 * torch.randn(400, 2)
    mechanism.calibrate(y, {"x": x})
    e = mechanism.abduct(y, {"x": x})
    moved = mechanism.predict(e, {"x": 0 * x + 0.9})
    assert (moved - torch.tensor([1.0, 2.0])).abs().mean() < 0.1
