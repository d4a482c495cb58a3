from __future__ import annotations

import copy
import math

import blobs
import pytest
import torch

from rung3 import SCM, Categorical, Continuous, Image
from rung3.evaluation import Oracle, Oracles, evaluate, fit_oracles
from rung3.mechanisms import Equation


@pytest.fixture(scope="module")
def oracles() -> Oracles:
    world = blobs.world()
    return fit_oracles(world, world.sample(1200, seed=2), epochs=8, progress=False)


def test_oracles_read_the_parents_off_images_they_never_saw(oracles):
    test = blobs.world().sample(300, seed=3)
    assert set(oracles) == {("image", "position"), ("image", "brightness")}
    assert "1200" in oracles.origin
    for (_, name), oracle in oracles.items():
        error = oracle.error(test["image"], test[name]).mean()
        guessing = (test[name] - test[name].mean()).abs().mean()
        assert error < (0.4 if name == "position" else 0.9) * guessing, name


def test_effectiveness_of_the_true_world_is_at_the_floor(oracles):
    world = blobs.world()
    metrics = evaluate(
        world, world.sample(300, seed=4), world, oracles=oracles, bootstrap=200, progress=False
    ).metrics["effectiveness"]["image"]
    for name in ("position", "brightness"):
        floor = metrics["factual"][name]["observed"]
        error = metrics["do(position)"][name]
        assert error["kept"]["mean"] == pytest.approx(error["truth"]["mean"], rel=1e-3)
        assert error["kept"]["mean"] < 1.5 * floor["high"]


def test_doing_nothing_is_not_effective(oracles):
    metrics = evaluate(
        blobs.scm(blobs.nothing), blobs.world().sample(200, seed=4), oracles=oracles,
        bootstrap=0, progress=False,
    ).metrics["effectiveness"]["image"]  # fmt: skip
    floor = metrics["factual"]["position"]["observed"]["mean"]
    assert metrics["do(position)"]["position"]["kept"]["mean"] > 3 * floor


def test_oracles_are_frozen_and_never_evaluated_in_training_mode(oracles):
    """Batch statistics would make an oracle's answer depend on the other rows of its batch."""
    test = blobs.world().sample(12, seed=5)
    scores = []
    for training in (False, True):
        for oracle in oracles.values():
            oracle.train(training)
        report = evaluate(
            blobs.world(), test, oracles=oracles, batch_size=2 + 10 * (not training),
            particles=1,
            bootstrap=0, progress=False, interventions=["position"],
        )  # fmt: skip
        scores.append(report.metrics["effectiveness"]["image"]["do(position)"])
        assert not any(oracle.training for oracle in oracles.values())
        assert not any(p.requires_grad for oracle in oracles.values() for p in oracle.parameters())
    for name in ("position", "brightness"):
        one, other = (path[name]["kept"]["mean"] for path in scores)
        assert one == pytest.approx(other, rel=1e-4)


def test_without_rows_to_train_on_there_is_no_effectiveness():
    world = blobs.world()
    report = evaluate(world, world.sample(5, seed=0), bootstrap=0, progress=False)
    assert "effectiveness" not in report.metrics
    assert report.metrics["settings"]["oracles trained on"] == "no oracles"


def test_classifiers_are_scored_by_accuracy():
    def image(kind, u):
        return (0.2 + 0.3 * kind[:, None, None, None] + 0.1 * u).expand(-1, 3, 9, 7)

    world = SCM(
        "kind -> image",
        {"kind": Categorical(3), "image": Image(3, 9, 7, bits=None)},
        {"image": Equation(image, noise="Uniform(0, 1)", inverse=lambda kind, image: (
            image - 0.2 - 0.3 * kind[:, None, None, None]) / 0.1)},
        world="kinds",
    )  # fmt: skip
    train, test = world.sample(400, seed=0), world.sample(40, seed=1)
    metrics = evaluate(world, test, train=train, bootstrap=50, progress=False).metrics
    accuracy = metrics["effectiveness"]["image"]["do(kind)"]["kind"]["kept"]
    assert accuracy["unit"] == "accuracy"
    assert accuracy["mean"] > 0.95


def test_vectors_are_read_in_their_own_units():
    oracle = Oracle(Image(1, 8, 8), Continuous(dim=2))
    oracle.standardise.calibrate(torch.tensor([[10.0, -1.0], [30.0, 1.0]]))
    oracle.eval()
    read = oracle.read(torch.zeros(5, 1, 8, 8))
    assert read.shape == (5, 2)
    assert (read[:, 0] > 5).all()


def test_training_is_determined_by_the_seed_and_leaves_the_global_state_alone():
    world = blobs.world()
    train = world.sample(256, seed=0)
    before = torch.random.get_rng_state()
    one, repeated, other = (
        fit_oracles(world, train, epochs=1, seed=seed, progress=False) for seed in (0, 0, 1)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    x = train["image"][:4]
    key = ("image", "position")
    assert torch.equal(one[key].read(x), repeated[key].read(x))
    assert not torch.equal(one[key].read(x), other[key].read(x))


def test_an_oracle_is_measured_on_rows_held_out_and_then_has_a_density(oracles):
    world = blobs.world()
    held = world.sample(500, seed=7)
    assert all(oracle.explained.isnan() for oracle in oracles.values())
    digests = [oracle.digest() for oracle in oracles.values()]
    oracles.measure(world, held)
    assert [oracle.digest() for oracle in oracles.values()] == digests
    for (_, name), oracle in oracles.items():
        missed = oracle(held["image"]) - oracle.standardise(held[name])
        assert oracle.residual.item() == pytest.approx(missed.square().mean().sqrt().item())
        r2 = 1 - missed.square().mean() / oracle.standardise(held[name]).var(correction=0)
        assert oracle.explained.item() == pytest.approx(r2.item(), abs=1e-5)
        x = held["image"][:1].expand(4001, -1, -1, -1)
        grid = torch.linspace(-40, 40, 4001)
        mass = torch.trapezoid((-oracle.log_loss(x, grid)).exp(), grid)
        assert mass.item() == pytest.approx(1, abs=1e-3)
        # It is calibrated on rows that it was not measured on either.
        other = world.sample(500, seed=8)
        z = (oracle(other["image"]) - oracle.standardise(other[name])) / oracle.residual
        assert z.square().mean().item() == pytest.approx(1, abs=0.35)
    assert oracles["image", "position"].explained > oracles["image", "brightness"].explained


def test_the_digest_is_of_the_weights(oracles):
    one = copy.deepcopy(oracles["image", "position"])
    assert one.digest() == oracles["image", "position"].digest()
    assert one.double().digest() == oracles["image", "position"].digest()
    next(iter(one.parameters())).data[0] += 1e-3
    assert one.digest() != oracles["image", "position"].digest()


def test_a_classifier_explains_a_share_of_the_entropy():
    oracle = Oracle(Image(1, 8, 8), Categorical(3), 4).eval()
    images, codes = torch.rand(300, 1, 8, 8), torch.arange(300) % 3
    oracle.measure(images, codes)
    missed = -oracle(images).log_softmax(1)[torch.arange(300), codes].mean()
    assert oracle.explained.item() == pytest.approx(1 - missed.item() / math.log(3), abs=1e-5)
    oracle.measure(images, torch.zeros(300, dtype=torch.long))
    assert oracle.explained == 0  # nothing was uncertain


def test_save_and_load(oracles, tmp_path):
    path = tmp_path / "oracles.safetensors"
    oracles.save(path)
    loaded = Oracles.load(path)
    x = torch.rand(4, 1, 12, 12)
    assert loaded.origin == oracles.origin
    assert set(loaded) == set(oracles)
    for key in oracles:
        assert torch.equal(oracles[key].read(x), loaded[key].read(x))
        assert loaded[key].target == oracles[key].target


def test_files_that_hold_no_oracles_are_refused(tmp_path):
    from safetensors.torch import save_file

    other, broken = tmp_path / "other.safetensors", tmp_path / "broken.safetensors"
    save_file({"x": torch.zeros(1)}, str(other))
    broken.write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="holds no oracles"):
        Oracles.load(other)
    for path in (broken, tmp_path / "missing.safetensors"):
        with pytest.raises(ValueError, match="cannot read oracles"):
            Oracles.load(path)


def test_rows_that_lack_a_variable_are_refused():
    with pytest.raises(ValueError, match="image: not in the training rows"):
        fit_oracles(blobs.world(), {"position": [1.0, 2.0], "brightness": [0.1, 0.2]})


@pytest.mark.slow
def test_oracles_on_real_digits(morphomnist_root):
    """Errors on all official test rows, of oracles as `rung3 run` trains them, on 60,000 rows."""
    from rung3.data import morphomnist
    from rung3.worlds import digits

    train, test = (morphomnist(morphomnist_root, split) for split in ("train", "test"))
    trained = fit_oracles(digits(), train, progress=False)
    errors = {
        name: torch.cat([
            oracle.error(test["image"][k : k + 500], test[name][k : k + 500])
            for k in range(0, 10_000, 500)
        ]).mean().item()
        for (_, name), oracle in trained.items()
    }  # fmt: skip
    assert 1 - errors["digit"] >= 0.985
    assert errors["thickness"] <= 0.09
    assert errors["intensity"] <= 1.6
