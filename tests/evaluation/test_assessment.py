from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import blobs
import numpy as np
import pytest
import torch
from torchmetrics.functional import mean_absolute_error

from rung3 import SCM, Categorical, Continuous, Image, worlds
from rung3.data.abductions import Abductions
from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.evaluation import Oracles, composition, evaluate, reversibility
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.plan import plan
from rung3.evaluation.protocol import Protocol
from rung3.mechanisms import Equation
from rung3.scm.query import causes, outcomes

NO_ORACLES = Oracles({})


def assess(model, test, truth=None, **options):
    quick: dict[str, Any] = {"oracles": NO_ORACLES, "progress": False, "bootstrap": 100}
    return evaluate(model, test, truth, **{**quick, "particles": 2, **options}).metrics


@pytest.fixture(scope="module")
def rows():
    return blobs.world().sample(60, seed=1)


# Distances and intervals ----


def test_distance_does_not_wrap_around_in_eight_bits():
    image = Image(1, 1, 2)
    dark, bright = torch.zeros(1, 1, 1, 2).byte(), torch.ones(1, 1, 1, 2).byte()
    assert distance(image, dark, bright).item() == 255
    assert distance(image, bright, dark).item() == 255


def test_distance_of_an_image_is_in_grey_levels_of_its_bits():
    x, y = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    assert distance(Image(3, 4, 4), x, y).tolist() == [127.5, 127.5]
    assert distance(Image(3, 4, 4, bits=None), x, y).tolist() == [0.5, 0.5]
    assert distance(Categorical(3), torch.tensor([0, 2]), torch.tensor([2, 2])).tolist() == [1, 0]


def test_mean_error_agrees_with_torchmetrics():
    x, y = torch.rand(9, 1, 8, 8), torch.rand(9, 1, 8, 8)
    expected = 255 * mean_absolute_error(x.contiguous(), y.contiguous())
    torch.testing.assert_close(distance(Image(1, 8, 8), x, y).mean(), expected)


@pytest.mark.parametrize("n", [12, 200])
def test_intervals_cover_as_often_as_they_say(n):
    bootstrap = Bootstrap(n, 1000)
    covered = 0
    for sample in torch.randn(1500, n, generator=torch.Generator().manual_seed(0)):
        interval = bootstrap.mean(sample)
        covered += interval["low"] <= 0 <= interval["high"]
    # Plain percentiles cover 0.91 of samples of 12. Standard error 0.006.
    assert 0.93 < covered / 1500 < 0.97


def test_rows_without_a_score_are_left_out_of_the_mean_and_of_every_resample():
    bootstrap, draw = Bootstrap(60, 1000), torch.Generator().manual_seed(1)
    covered = 0
    for sample in torch.randn(1000, 60, generator=draw):
        sample[torch.randperm(60, generator=draw)[:35]] = torch.nan
        interval = bootstrap.mean(sample, partial=True)
        assert interval["mean"] == pytest.approx(sample.nanmean().item(), abs=1e-6)
        covered += interval["low"] <= 0 <= interval["high"]
    assert 0.925 < covered / 1000 < 0.975
    whole = torch.randn(60, generator=draw)
    assert bootstrap.mean(whole, partial=True) == bootstrap.mean(whole)
    nobody = torch.full((60,), torch.nan)
    assert bootstrap.mean(nobody, partial=True)["undefined"] == "no rows"
    assert "60 of 60" in bootstrap.mean(nobody)["undefined"]


def test_skill_is_resampled_row_by_row():
    baseline = torch.rand(50) + 0.5
    skill = Bootstrap(50, 200).skill(0.25 * baseline, baseline)
    assert skill["mean"] == pytest.approx(0.75, abs=1e-6)
    assert skill["low"] == pytest.approx(0.75, abs=1e-5)  # the ratio is the same in every resample
    assert Bootstrap(50).skill(baseline, torch.zeros(50))["mean"] is None


def test_one_row_has_no_interval():
    assert Bootstrap(1).mean(torch.tensor([2.0])) == {"mean": 2.0, "low": None, "high": None}


# What is asked ----


def test_causes_of_the_images_are_asked_and_of_anything_in_a_table():
    assert outcomes(blobs.world()) == ["image"]
    assert causes(blobs.world()) == ["position", "brightness"]
    chain = SCM(a=Equation("u"), b=Equation("a + u"), c=Equation("b + u"))
    assert outcomes(chain) == ["b", "c"]
    assert causes(chain) == ["a", "b"]


def test_targets_are_the_values_of_other_rows_permuted_by_the_seed(rows):
    one, repeated, other = (plan(blobs.world(), rows, 10, None, seed)[0] for seed in (0, 0, 1))
    assert one.label == "do(position)"
    targets = one.do["position"]
    assert torch.equal(targets.sort().values, rows["position"].sort().values)
    assert torch.equal(targets, repeated.do["position"])
    assert not torch.equal(targets, other.do["position"])
    assert torch.equal(one.at(slice(2, 5), torch.device("cpu"))["position"], targets[2:5])


@pytest.mark.parametrize(
    ("interventions", "message"),
    [
        (["postion"], "did you mean 'position'"),
        ({"position": torch.zeros(7)}, "position: 7 targets, expected 60"),
        ({"both": {"position": 0.0, "nobody": 1.0}}, "unknown variable 'nobody'"),
        ({"image": torch.zeros(60, 1, 3, 3)}, "image: expected shape"),
    ],
)
def test_interventions_that_do_not_fit_are_refused(rows, interventions, message):
    with pytest.raises(ValueError, match=message):
        plan(blobs.world(), rows, 60, interventions, 0)


def test_interventions_may_be_values_functions_and_joint(rows):
    interventions = {
        "position": lambda position: position + 1,
        "brightness": 0.2,
        "both": {"position": rows["position"], "brightness": torch.full((60,), 0.1)},
    }
    metrics = assess(blobs.world(), rows, blobs.world(), interventions=interventions)
    assert list(metrics["truth"]) == ["do(position)", "do(brightness)", "both"]
    assert list(metrics["truth"]["both"]) == ["image"]
    assert metrics["truth"]["do(position)"]["image"]["kept"]["skill"]["mean"] == 1


# Models that are right or wrong in a known way ----


def test_the_true_world_is_perfect(rows):
    metrics = assess(blobs.world(), rows, blobs.world())
    for m in ("1", "10"):
        assert metrics["composition"]["image"]["kept"][m]["mean"] == pytest.approx(0, abs=4e-6)
    for label in ("do(position)", "do(brightness)"):
        scores = metrics["truth"][label]["image"]
        assert scores["kept"]["skill"]["mean"] == pytest.approx(1, abs=1e-5)
        assert scores["doing nothing"]["skill"]["mean"] == 0
        assert metrics["reversibility"][label]["image"]["kept"]["5"]["mean"] < 4e-6
        assert metrics["spread"][label]["image"]["mean"] == pytest.approx(0, abs=4e-6)


def test_doing_nothing_passes_composition_and_has_no_skill(rows):
    metrics = assess(blobs.scm(blobs.nothing), rows, blobs.world())
    assert metrics["composition"]["image"]["kept"]["10"]["mean"] == pytest.approx(0, abs=4e-6)
    assert metrics["reversibility"]["do(position)"]["image"]["kept"]["5"]["mean"] < 4e-6
    assert metrics["truth"]["do(position)"]["image"]["kept"]["skill"]["mean"] == pytest.approx(
        0, abs=1e-5
    )


def test_the_wrong_sign_is_worse_than_doing_nothing(rows):
    metrics = assess(blobs.scm(blobs.wrong_sign), rows, blobs.world())
    for label in ("do(position)", "do(brightness)"):
        scores = metrics["truth"][label]["image"]["kept"]
        assert scores["skill"]["mean"] == pytest.approx(-1, abs=1e-4)  # twice the error, each row
        assert scores["skill"]["low"] == pytest.approx(-1, abs=1e-4)


def test_composition_from_z_alone_loses_what_only_eps_holds(rows):
    model = blobs.scm(blobs.Latent())
    metrics = assess(model, rows, blobs.world())
    scores = metrics["composition"]["image"]
    assert scores["kept"]["10"]["mean"] == pytest.approx(0, abs=4e-6)
    rest = rows["image"] - blobs.base(rows["position"], rows["brightness"])
    expected = (rest - rest.mean((1, 2, 3), keepdim=True)).abs().mean()
    assert scores["latent"]["1"]["mean"] == pytest.approx(expected.item(), rel=1e-4)
    assert scores["latent"]["10"]["mean"] == pytest.approx(expected.item(), rel=1e-4)
    truth = metrics["truth"]["do(position)"]["image"]
    assert truth["kept"]["skill"]["mean"] == pytest.approx(1, abs=1e-4)
    assert truth["latent"]["error"]["mean"] == pytest.approx(expected.item(), rel=1e-4)


def test_drift_adds_up_over_cycles(rows):
    def drifts(position, brightness, u):
        return blobs.base(position, brightness) + u

    image = Equation(drifts, inverse=lambda image, position, brightness: image
                     - blobs.base(position, brightness) - 0.01)  # fmt: skip
    model = blobs.scm(image)
    drift_by_cycle = composition(model, rows, "image", [1, 3])
    torch.testing.assert_close(drift_by_cycle[1], torch.full((60,), 0.01), atol=4e-6, rtol=0)
    torch.testing.assert_close(drift_by_cycle[3], torch.full((60,), 0.03), atol=4e-6, rtol=0)
    there = reversibility(model, rows, {"brightness": 0.1}, ["image"], [2])
    torch.testing.assert_close(there[2]["image"], torch.full((60,), 0.04), atol=4e-6, rtol=0)


def test_spread_is_the_deviation_over_particles(rows):
    metrics = assess(blobs.scm(blobs.Latent(blur=0.1)), rows, particles=64)
    spread = metrics["spread"]["do(position)"]["image"]["mean"]
    assert spread == pytest.approx(0.1, rel=0.05)  # a shift of all pixels of that deviation
    assert "spread" not in assess(blobs.scm(blobs.Latent()), rows, particles=1)


def test_the_mean_of_draws_is_nearer_to_the_truth_than_one_draw(rows):
    class Forgetful(blobs.Latent):
        """Answers from z alone, whose draws are right on average."""

        def predict(self, noise, parents):
            return super().predict({**noise, "eps": 0 * noise["eps"]}, parents)

    metrics = assess(blobs.scm(Forgetful(blur=0.1)), rows, blobs.world(), particles=64)
    scores = metrics["truth"]["do(position)"]["image"]
    assert scores["averaged"]["error"]["mean"] < 0.5 * scores["kept"]["error"]["mean"]


def test_a_table_is_scored_against_truth_for_every_descendant():
    true = SCM(
        a=Equation("u"), b=Equation("2*a + u"), c=Equation("b - a + u"), world="true"
    )  # fmt: skip
    model = SCM(a=Equation("u"), b=Equation("a + u"), c=Equation("b - a + u"))
    test = true.sample(50, seed=0)
    targets = torch.randn(50)
    metrics = assess(model, test, true, interventions={"a": targets})
    change = (targets - test["a"]).abs().mean().item()
    scores = metrics["truth"]["do(a)"]
    assert scores["b"]["kept"]["error"]["mean"] == pytest.approx(change, rel=1e-4)
    assert scores["b"]["kept"]["skill"]["mean"] == pytest.approx(0.5, abs=1e-4)
    assert scores["c"]["kept"]["error"]["mean"] == pytest.approx(change, rel=1e-4)
    assert scores["c"]["kept"]["skill"]["mean"] == pytest.approx(0, abs=1e-4)
    assert set(metrics["composition"]) == {"b", "c"}


# Truth, and its absence ----


def test_a_world_that_refuses_gives_a_flagged_cell_and_the_report_goes_on(rows):
    refuses = blobs.scm(blobs.Refuses(blobs.right, noise="Uniform(0, 1)"), world="blobs")
    far = torch.zeros(60)
    far[40] = 2e3  # in the second batch of the three
    interventions = {"position": far, "brightness": 0.2}
    report = evaluate(
        blobs.scm(blobs.nothing), rows, refuses, interventions=interventions, oracles=NO_ORACLES,
        batch_size=25, bootstrap=0, progress=False,
    )  # fmt: skip
    metrics = report.metrics
    assert metrics["truth"]["do(position)"] == {"no truth": "image: nobody knows"}
    assert "kept" in metrics["truth"]["do(brightness)"]["image"]
    assert "no truth" in str(report)
    assert report.examples.queries["do(position)"].truth is None


def test_rows_without_noise_have_no_truth_where_pixels_cannot_tell_it():
    world = worlds.digits()
    test = world.sample(6, seed=0)
    metrics = assess(
        blobs_like(world), Rows(dict(test)), world, interventions={"digit": 3}, measures={}
    )
    assert "noise unknown" in metrics["truth"]["do(digit)"]["no truth"]


def blobs_like(world):
    """A model over a world's variables whose image ignores its parents."""

    def image(digit, thickness, intensity, u):
        return u + 0 * thickness[:, None, None, None]

    causes = {k: world.mechanisms[k] for k in ("thickness", "intensity", "digit")}
    return SCM(world.graph, world.variables, {**causes, "image": Equation(image)})


def test_the_worlds_measures_and_baselines_are_used():
    world = worlds.digits()
    metrics = assess(world, world.sample(24, seed=0), world, interventions=["intensity"])
    measured = metrics["measured"]["image"]
    assert measured["factual"]["thickness"]["observed"]["mean"] < 0.25
    assert measured["do(intensity)"]["intensity"]["kept"]["mean"] < 2
    scores = metrics["truth"]["do(intensity)"]["image"]
    assert scores["kept"]["skill"]["mean"] == 1
    assert scores["rescaling"]["skill"]["mean"] > 0.9
    assert "re-morphing" in scores


def test_truth_must_have_the_models_variables(rows):
    with pytest.raises(ValueError, match="truth: its variables are"):
        assess(blobs.world(), rows, worlds.lecture())


@pytest.mark.slow
def test_baselines_on_the_published_test_rows(morphomnist_root: Path, mnist_root: Path):
    """Rescaling and re-morphing score what was measured for them on these rows."""
    from rung3.data import morphomnist

    truth = np.load(morphomnist_root / "truth.npz")
    test = morphomnist(morphomnist_root, "test", mnist=mnist_root)[:400]
    world = worlds.morphomnist(mnist_root, "test")
    interventions = {
        "thickness": torch.from_numpy(truth["do_thickness_thickness"]).float(),
        "intensity": torch.from_numpy(truth["do_intensity_intensity"]).float(),
        "digit": 3,
    }
    metrics = assess(blobs_like(world), test, world, interventions=interventions, measures={})
    assert "do(digit)" in metrics["truth"]["do(digit)"]["no truth"]
    expected = {
        ("intensity", "rescaling"): 0.952, ("thickness", "rescaling"): 0.504,
        ("intensity", "re-morphing"): 0.825, ("thickness", "re-morphing"): 0.869,
    }  # fmt: skip
    for (name, who), skill in expected.items():
        reached = metrics["truth"][f"do({name})"]["image"][who]["skill"]["mean"]
        assert reached == pytest.approx(skill, abs=0.01), (name, who)


# How rows are gone through ----


def test_means_and_intervals_are_over_rows_whatever_the_batches(rows):
    one, other = (
        assess(blobs.scm(blobs.wrong_sign), rows, blobs.world(), batch_size=size)
        for size in (7, 60)
    )
    for key in ("composition", "reversibility", "truth"):
        flat_one, flat_other = flatten(one[key]), flatten(other[key])
        assert flat_one.keys() == flat_other.keys()
        for path, value in flat_one.items():
            assert value == pytest.approx(flat_other[path], abs=2e-4), path


def flatten(nested, path=()):
    if not isinstance(nested, dict):
        return {path: nested}
    return {k: v for key, part in nested.items() for k, v in flatten(part, (*path, key)).items()}


def test_the_same_seed_gives_the_same_numbers(rows):
    model = blobs.scm(blobs.Latent(blur=0.1))
    one, repeated, other = (assess(model, rows, seed=seed) for seed in (3, 3, 4))
    for metrics in (one, repeated, other):
        del metrics["speed"]
    assert one == repeated
    assert one["spread"] != other["spread"]


def test_the_first_n_rows_are_used(rows):
    metrics = assess(blobs.world(), rows, blobs.world(), n=10)
    assert metrics["settings"]["rows"] == 10
    whole = assess(blobs.world(), rows[:10], blobs.world(), interventions={"position": 0.0})
    part = assess(blobs.world(), rows, blobs.world(), interventions={"position": 0.0}, n=10)
    for metrics in (whole, part):
        del metrics["speed"], metrics["log_prob"]  # of all rows
    assert whole == part


def test_log_densities_are_those_of_the_world_and_a_worse_model_has_lower_ones():
    world = worlds.lecture()
    worse = SCM(x1=Equation("u + 1"), x2=Equation("2*x1 + u"))
    test = world.sample(20_000, seed=0)
    densities = assess(worse, test, world, n=10)["log_prob"]
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    assert densities["x1"]["model"] == densities["x1"]["world"]
    assert densities["x1"]["world"]["mean"] == pytest.approx(-entropy, abs=0.02)
    # log N(3 x1 + u; 2 x1, 1) is lower by E[x1^2] / 2 = 1
    assert densities["x2"]["model"]["mean"] == pytest.approx(-entropy - 1, abs=0.05)
    assert densities["x2"]["model"]["low"] < densities["x2"]["model"]["mean"]


def test_rows_of_density_zero_are_counted_and_no_mean_is_made_up():
    model = SCM(x=Equation("u", noise=torch.distributions.Uniform(0.0, 1.0)))
    densities = assess(model, {"x": [0.5, 2.0, 0.1]})["log_prob"]["x"]["model"]
    assert (densities["mean"], densities["impossible"]) == (None, 1)


def test_the_model_is_in_evaluation_mode_and_its_mode_is_restored(rows):
    model = blobs.scm(blobs.Latent()).train()
    assess(model, rows)
    image = model.mechanisms["image"]
    assert isinstance(image, blobs.Latent)
    assert image.modes
    assert not any(image.modes)
    assert model.training
    assert image.training


def test_rows_with_missing_values_are_left_out_and_counted():
    variables = {name: Continuous(missing=True) for name in "ab"}
    model = SCM("a -> b", variables, {"a": Equation("u"), "b": Equation("a + u")}, world="w")
    test = dict(model.sample(20, seed=0))
    test["a"][3] = torch.nan
    metrics = assess(model, test)
    assert metrics["settings"]["rows"] == 19
    assert metrics["settings"]["rows left out for missing values"] == 1


def test_rows_that_do_not_fit_are_refused_before_any_work(rows):
    with pytest.raises(ValueError, match="image: not in the test rows"):
        assess(blobs.world(), {"position": [1.0], "brightness": [0.1]})
    with pytest.raises(ValueError, match="expected a batch of rows"):
        assess(blobs.world(), rows[0])
    with pytest.raises(ValueError, match="train: these are the test rows"):
        evaluate(blobs.world(), rows, train=rows, progress=False)


# Abductions ----


def test_noise_of_test_rows_is_abducted_once_and_scores_stay(monkeypatch):
    variables = {"a": Continuous(), "c": Categorical(3), "x": Continuous()}
    equations = {"a": Equation("u"), "x": Equation("a + c + u")}
    model = SCM("a -> c; {a c} -> x", variables, equations)
    rows, abducted = model.sample(40, seed=0), list[torch.Tensor]()
    invert = Equation.invert

    def counted(self, value, parents):
        abducted.extend([value] if self.name == "x" else [])
        return invert(self, value, parents)

    monkeypatch.setattr(Equation, "invert", counted)
    measures = frozenset({"composition", "reversibility", "spread", "stability"})
    options = {"interventions": ["a", "c"], "protocol": Protocol(measures=measures)}
    once = assess(model, rows, **options) | {"speed": None}
    of_rows = sum(torch.equal(value, rows["x"]) for value in abducted)
    monkeypatch.setattr(Abductions, "find", lambda *_: None)
    abducted.clear()
    assert assess(model, rows, **options) | {"speed": None} == once
    assert of_rows == 3  # alone, as particles, and for the time of a whole counterfactual
    assert sum(torch.equal(value, rows["x"]) for value in abducted) > 20
