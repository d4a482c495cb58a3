"""Missing causes of an image: read off it by predictors, and marked so."""

from __future__ import annotations

import blobs
import pytest
import torch

from rung3 import SCM, Binary, Continuous, Image
from rung3.mechanisms import VAE

NAN = float("nan")


class Brightest:
    """Reads a number off an image: its greatest pixel, times ten."""

    def read(self, images):
        return 10 * images.flatten(1).amax(1)


class Bright:
    """Reads whether any pixel is above a half."""

    def read(self, images):
        return (images.flatten(1).amax(1) > 0.5).long()


def model(readers=True) -> SCM:
    torch.manual_seed(0)
    kinds = {
        "level": Continuous(lower=0, upper=6, missing=True),
        "lit": Binary(missing=True),
        "scan": Image(1, 8, 8),
    }
    scm = SCM("{level lit} -> scan", kinds, {"scan": VAE(latent=2, width=4)})
    if readers:
        scm.readers = {("scan", "level"): Brightest(), ("scan", "lit"): Bright()}
    return scm


def rows(level=(NAN, 2.0, NAN), lit=(1.0, NAN, 0.0)):
    scan = torch.zeros(3, 1, 8, 8)
    scan[:, 0, 0, 0] = torch.tensor([51.0, 204.0, 255.0]) / 255
    return {"level": torch.tensor(level), "lit": torch.tensor(lit), "scan": scan}


def test_gaps_are_read_within_the_support_and_the_rest_stays():
    filled, read = model().fill(rows())
    assert filled["level"].tolist() == [pytest.approx(2.0), 2.0, 6.0]  # 10 is above the support
    assert filled["lit"].tolist() == [1.0, 1.0, 0.0]
    assert {k: v.tolist() for k, v in read.items()} == {
        "level": [True, False, True], "lit": [False, True, False],
    }  # fmt: skip


def test_counterfactuals_rest_on_what_was_read_and_say_so():
    scm, gapped = model(), rows()
    answer = scm.counterfactual(gapped, {"lit": 1}, seed=0)
    whole = scm.counterfactual(scm.fill(gapped)[0], {"lit": 1}, seed=0)
    assert torch.equal(answer["scan"], whole["scan"])
    assert answer["level"].tolist() == [pytest.approx(2.0), 2.0, 6.0]
    assert answer.explain().read == {"level": pytest.approx(2 / 3), "lit": pytest.approx(1 / 3)}
    assert "level: missing in 67% of rows, read off the image" in str(answer.explain())
    assert not whole.explain().read
    later = scm.do(lit=1).predict(scm.abduct(gapped, seed=0))
    assert later.explain().read == answer.explain().read
    one = {name: value[0] for name, value in gapped.items()}
    single = scm.counterfactual(one, {"lit": 0}, particles=3, seed=0)
    assert single["scan"].shape == (3, 1, 8, 8)
    assert single.explain().read == {"level": 1.0}


def test_an_image_alone_is_enough_where_readers_tell_the_rest():
    scm, scan = model(), rows()["scan"]
    answer = scm.counterfactual({"scan": scan}, {"lit": 1}, seed=0)
    given = scm.counterfactual({**rows([NAN] * 3, [NAN] * 3), "scan": scan}, {"lit": 1}, seed=0)
    assert torch.equal(answer["scan"], given["scan"])
    assert answer.explain().read == {"level": 1.0, "lit": 1.0}
    one = scm.counterfactual({"scan": scan[0]}, {"lit": 1}, seed=0)
    assert one["scan"].shape == (1, 8, 8)
    with pytest.raises(ValueError, match="scan: not given"):
        scm.counterfactual({"level": 2.0, "lit": 1}, {"lit": 0})


def test_without_readers_the_error_names_them():
    with pytest.raises(ValueError, match=r"level: missing in 2 rows.*model.readers = fit_oracles"):
        model(readers=False).counterfactual(rows(), {"lit": 1})
    with pytest.raises(ValueError, match=r"particles|only a bound"):
        model(readers=False).counterfactual(rows(), {"lit": 1}, particles=4)


def test_an_image_that_is_missing_itself_tells_nothing():
    scm = SCM(
        "level -> scan",
        {"level": Continuous(missing=True), "scan": Image(1, 8, 8, missing=True)},
        {"scan": VAE(latent=2, width=4)},
    )
    scm.readers = {("scan", "level"): Brightest()}
    scan = torch.zeros(2, 1, 8, 8)
    scan[1] = NAN
    filled, read = scm.fill({"level": [NAN, NAN], "scan": scan})
    assert filled["level"][0] == 0
    assert filled["level"][1].isnan()
    assert read["level"].tolist() == [True, False]


def test_whole_rows_are_the_same_rows_with_readers():
    world = blobs.world()
    given = world.sample(3, seed=0)
    before = world.counterfactual(given, {"position": 1.0}, seed=0)
    world.readers = {("image", "position"): Brightest()}
    after = world.counterfactual(given, {"position": 1.0}, seed=0)
    assert torch.equal(before["image"], after["image"])
