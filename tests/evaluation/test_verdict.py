"""Verdicts on models that are good or bad in a known way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import blobs
import pytest
import torch

from rung3 import SCM, Image, evaluate, fit
from rung3.evaluation import Oracles, Report
from rung3.evaluation.evidence import trainings
from rung3.evaluation.verdict import LEAST_STEPS_IMAGE, Verdict, judge
from rung3.mechanisms import VAE

SETTLED = [9.0, 4.0, 2.0, 1.4, 1.2, 1.1, 1.05, 1.02]
FALLING = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]
RISING = [9.0, 4.0, 2.0, 1.5, 2.0, 3.0, 4.0, 5.0]


def mean(value: float | None, unit: str = "px") -> dict[str, Any]:
    return {"mean": value, "low": None, "high": None, "unit": unit}


def good() -> dict[str, Any]:
    """Numbers of a model that learned, obeys, keeps the individual, and is asked what it knows."""
    effects = {
        "factual": {"age": {"observed": mean(1.0)}, "sex": {"observed": mean(0.95, "accuracy")}},
        "do(age)": {
            "age": {"kept": mean(1.5), "doing nothing": mean(9.0)},
            "sex": {"kept": mean(0.9, "accuracy"), "doing nothing": mean(0.95, "accuracy")},
        },
        "do(sex)": {
            "age": {"kept": mean(1.2), "doing nothing": mean(1.0)},
            "sex": {"kept": mean(0.9, "accuracy"), "doing nothing": mean(0.5, "accuracy")},
        },
    }
    place = {"outcome": "scan", "seen": "20 to 80", "median": 50.0, "outside": 0.0, "far": 0.01}
    return {
        "training": {
            "age": {"image": False, "epochs": 9, "steps": 900, "losses": SETTLED},
            "scan": {"image": True, "epochs": 9, "steps": 4000, "losses": SETTLED},
        },
        "divergence": {"scan": {"z": {"unused": False}}},
        "effectiveness": {"scan": effects},
        "positivity": {
            "do(age)": [{"variable": "age", **place}],
            "do(sex)": [{"variable": "sex", **place, "median": None, "seen": "2 of 2"}],
        },
        "set": {"do(age)": ["age"], "do(sex)": ["sex"]},
        "between rows": {"scan": {"apart": 40.0, "unit": "grey levels", "image": True}},
        "composition": {"scan": {"kept": {"1": mean(0.0)}, "latent": {"1": mean(4.0)}}},
        "truth": {
            "do(age)": {
                "scan": {
                    "kept": {"error": mean(2.0), "skill": mean(0.8)},
                    "doing nothing": {"error": mean(9.0)},
                    "rescaling": {"error": mean(5.0), "skill": mean(0.4)},
                }
            }
        },
    }


def marks(metrics: dict[str, Any]) -> dict[str, str]:
    return {finding.question: finding.mark for finding in judge(metrics).findings}


def finding(metrics: dict[str, Any], question: str) -> Any:
    return next(f for f in judge(metrics).findings if f.question == question)


def test_a_good_model_learned_and_obeys():
    verdict = judge(good())
    assert verdict.headline == "learned and obeys"
    assert set(marks(good()).values()) == {"yes"}
    assert not any(f.command for f in verdict.findings)
    assert Verdict.of_config(json.loads(json.dumps(verdict.config()))) == verdict


@pytest.mark.parametrize(
    ("change", "mark", "text", "command"),
    [
        ({"steps": 60}, "no", "scan took 60 steps, of 1,000 that it needs", "epochs=300"),
        ({"losses": FALLING}, "partly", "still falling when training ended", "epochs=18"),
        ({"losses": RISING}, "partly", "least after epoch 4 of 8", "patience=3"),
    ],
)
def test_whether_it_learned(change, mark, text, command):
    metrics = good()
    metrics["training"]["scan"] |= change
    result = finding(metrics, "learned")
    assert result.mark == mark
    assert text in result.text
    assert command in result.next("runs/a")
    assert result.next("runs/a").startswith("rung3 run runs/a/study.yaml --out runs/a-next --set ")
    assert result.next(None).startswith("fit(model, train")


@pytest.mark.parametrize("losses", [[0.964, 0.9627, 0.963, 0.9629], [2.302, 2.3, 2.301, 2.2995]])
def test_a_mechanism_that_begins_well_is_not_blamed_for_chance(losses):
    metrics = good()
    metrics["training"]["age"]["losses"] = losses
    assert finding(metrics, "learned").mark == "yes"
    metrics["training"]["age"]["losses"] = [100 * loss for loss in losses]
    assert finding(metrics, "learned").mark == "partly"


def test_a_training_that_keeps_its_best_epoch_is_not_blamed_for_the_rest():
    model = SCM("a")
    record = {"epochs": 8, "batch_size": 10, "rows": 200}
    history = {"a": {"training": FALLING, "validation": RISING}}
    model.fitted = {"a": record}
    assert trainings(model, history)["a"]["losses"] == RISING
    model.fitted = {"a": record | {"patience": 4}}
    metrics = good()
    metrics["training"]["age"] = trainings(model, history)["a"]
    assert metrics["training"]["age"]["losses"] == [9.0, 4.0, 2.0, 1.5, 1.5, 1.5, 1.5, 1.5]
    assert finding(metrics, "learned").mark == "yes"


def test_a_collapsed_model_has_not_learned():
    metrics = good()
    metrics["divergence"]["scan"]["z"]["unused"] = True
    assert finding(metrics, "learned").mark == "no"
    metrics["divergence"]["scan"]["z2"] = {"unused": False}
    assert finding(metrics, "learned").mark == "yes"


def test_a_verdict_says_when_latents_had_collapsed():
    model = SCM("a")
    model.fitted = {"a": {"epochs": 8, "batch_size": 10, "rows": 200, "revived_at_step": 1234}}
    metrics = good()
    assert "collapsed" not in finding(metrics, "learned").text
    metrics["training"]["scan"]["revived"] = trainings(model, {})["a"]["revived"]
    text = "layers of latents are in use (they had collapsed, and were revived at step 1,234)"
    assert text in finding(metrics, "learned").text
    metrics["divergence"]["scan"]["z"]["unused"] = True
    assert "in use (they had collapsed" in finding(metrics, "learned").text


@pytest.mark.parametrize(("error", "mark"), [(1.0, "yes"), (4.5, "partly"), (8.5, "no")])
def test_obedience_lies_between_real_images_and_the_untouched_one(error, mark):
    metrics = good()
    metrics["effectiveness"]["scan"]["do(age)"]["age"]["kept"] = mean(error)
    result = finding(metrics, "obeys")
    assert result.mark == mark
    if mark != "yes":
        assert "under do(age) the scan shows age" in result.text
        assert "training.objective=counterfactual" in result.command


def test_what_no_predictor_reads_is_no_disobedience():
    metrics = good()
    metrics["effectiveness"]["scan"]["factual"]["sex"]["observed"] = mean(0.52, "accuracy")
    assert finding(metrics, "obeys").mark == "yes"
    assert "sex no predictor can read" in finding(metrics, "obeys").text
    metrics["effectiveness"]["scan"]["factual"]["age"]["observed"] = mean(8.9)
    assert finding(metrics, "obeys").mark == "unknown"
    metrics["effectiveness"] = {}
    assert finding(metrics, "obeys").mark == "unknown"


@pytest.mark.parametrize(("skill", "mark"), [(0.8, "yes"), (0.41, "partly"), (0.1, "no")])
def test_skill_tells_whether_it_is_the_same_individual(skill, mark):
    metrics = good()
    metrics["truth"]["do(age)"]["scan"]["kept"]["skill"] = mean(skill)
    assert marks(metrics)["individual"] == mark


def test_a_model_that_a_simple_edit_beats_is_the_same_in_part():
    metrics = good()
    metrics["truth"]["do(age)"]["scan"]["rescaling"]["skill"] = mean(0.9)
    result = finding(metrics, "individual")
    assert (result.mark, "rescaling has 0.90" in result.text) == ("partly", True)
    metrics["truth"]["do(age)"]["scan"]["supervised ceiling"] = {"skill": mean(0.99)}
    metrics["truth"]["do(age)"]["scan"]["rescaling"]["skill"] = mean(0.2)
    assert finding(metrics, "individual").mark == "yes"


@pytest.mark.parametrize(("drift", "mark"), [(4.0, "yes"), (24.0, "partly"), (36.0, "no")])
def test_without_truth_composition_tells(drift, mark):
    metrics = good() | {"truth": {}}
    metrics["composition"]["scan"]["latent"]["1"] = mean(drift)
    assert marks(metrics)["individual"] == mark


@pytest.mark.parametrize(
    ("outside", "far", "mark"),
    [(0.0, 0.05, "yes"), (0.05, 0.0, "partly"), (0.3, 0.9, "no"), (0.0, 0.3, "partly"),
     (0.0, 0.7, "no")],
)  # fmt: skip
def test_targets_outside_the_data_are_told_with_nearer_ones(outside, far, mark):
    metrics = good()
    metrics["positivity"]["do(age)"][0] |= {"outside": outside, "far": far}
    result = finding(metrics, "support")
    assert result.mark == mark
    if mark != "yes":
        assert (
            result.next("r")
            == "rung3 evaluate r --set 'evaluation.interventions={age: (age + 50)/2}'"
        )


@pytest.mark.parametrize(
    ("half", "most", "mark", "text"),
    [
        (0.47, 0.93, "yes", "50% intervals hold it in 47% to 52% and 90% intervals hold it in 88%"),
        (0.4, 0.81, "partly", "too close together: under do(age) their 50% intervals"),
        (0.2, 0.3, "no", "90% intervals hold the true scan in 30% of its numbers"),
        (0.58, 0.99, "partly", "draws are vague: under do(age) their 90% intervals"),
    ],
)
def test_draws_are_as_honest_as_their_worst_coverage(half, most, mark, text):
    metrics = good()
    covered = {"coverage 50%": mean(half, ""), "coverage 90%": mean(most, "")}
    metrics["calibration"] = {
        "do(age)": {"scan": covered | {"crps": mean(4.0)}, "mood": {"coverage 90%": mean(0.1, "")}},
        "do(sex)": {"scan": {"coverage 50%": mean(0.52, ""), "coverage 90%": mean(0.88, "")}},
    }
    result = finding(metrics, "uncertainty")
    assert result.mark == mark
    assert text in result.text
    assert result.next("run") == ""
    cure = "widen(model, validation, world)" if mark != "yes" and most < 0.9 else ""
    assert result.next(None) == cure


def test_a_model_that_is_sure_of_everything_has_no_word_on_its_draws():
    assert "uncertainty" not in marks(good())
    metrics = good() | {"calibration": {"do(age)": {"scan": {"crps": mean(1.0)}}}}
    assert "uncertainty" not in marks(metrics)


def test_reports_of_older_versions_are_judged_as_far_as_they_tell():
    before = Path(__file__).parents[1] / "support" / "before" / "run"
    report = Report.load(before)
    assert "verdict" not in report.metrics
    assert {f.mark for f in report.verdict.findings} <= {"yes", "partly", "no", "unknown"}
    assert report.verdict.mark("learned") == "unknown"
    assert report.verdict.findings[0].next(report.run) == f"rung3 evaluate {before}"


def report_of(model: SCM, **more: Any) -> Report:
    world = blobs.world()
    return evaluate(
        model, world.sample(60, seed=0), world, world.sample(300, seed=1), oracles=Oracles({}),
        bootstrap=0, progress=False, **more,
    )  # fmt: skip


def test_known_models_get_the_verdict_that_they_deserve(tmp_path):
    right, nothing = report_of(blobs.world()), report_of(blobs.scm(blobs.nothing))
    wrong = report_of(blobs.scm(blobs.wrong_sign))
    assert right.verdict.mark("learned") == "yes"
    assert right.verdict.mark("obeys") == "unknown"
    assert [r.verdict.mark("individual") for r in (right, nothing, wrong)] == ["yes", "no", "no"]
    far = report_of(blobs.world(), interventions={"position": 40.0})
    assert far.verdict.mark("support") == "no"
    assert "100% of the targets of do(position) lie outside" in str(far)
    page = right.save(tmp_path).read_text()
    assert page.index('class="verdict"') < page.index("What would they have been?")
    assert Report.load(tmp_path).verdict == right.verdict


def test_an_atlas_needs_fewer_steps_than_a_network():
    metrics = good()
    metrics["training"]["scan"] |= {"steps": 250, "kind": "DeformedAtlas"}
    assert finding(metrics, "learned").mark == "yes"
    metrics["training"]["scan"]["steps"] = 150
    assert "of 200 that it needs" in finding(metrics, "learned").text


def test_an_image_that_took_a_few_steps_has_not_learned():
    torch.manual_seed(0)
    kinds = {"image": Image(1, blobs.SIZE, blobs.SIZE, bits=None)}
    vae = VAE(latent=2, width=4, likelihood="gaussian")
    model = SCM(blobs.GRAPH, kinds, {"image": vae})
    train = blobs.world().sample(128, seed=1)
    fit(model, train, epochs=2, batch_size=32, validation_share=0, progress=False)
    result = report_of(model).verdict.findings[0]
    assert (result.mark, "image took 8 steps" in result.text) == ("no", True)
    assert result.call == f"fit(model, train, epochs={2 * LEAST_STEPS_IMAGE * 2 // 8})"


@pytest.mark.parametrize(
    ("kind", "layers", "command"),
    [
        ("VAE", ["z"], "'mechanisms.scan={kind: HVAE}'"),
        ("HVAE", ["z", "z2"], "training.mechanisms.scan.epochs=18"),
        ("FlowMatching", [], "training.mechanisms.scan.epochs=18"),
        ("DeformedAtlas", [], ""),
        (None, ["z"], "'mechanisms.scan={kind: HVAE}'"),
        (None, [], "training.mechanisms.scan.epochs=18"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_advice_names_no_family_that_keeps_less_than_the_one_in_use(kind, layers, command, known):
    metrics = good()
    metrics["training"]["scan"] |= {"kind": kind} if kind else {}
    metrics["divergence"] = {"scan": {layer: {"unused": False} for layer in layers}}
    metrics["truth"]["do(age)"]["scan"]["kept"]["skill"] = mean(0.1)
    metrics["composition"]["scan"]["latent"]["1"] = mean(39.0)
    if not known:
        metrics["truth"] = {}
    result = finding(metrics, "individual")
    assert result.mark == "no"
    assert result.command.endswith(command)
    assert bool(result.command) == bool(command)
    assert ("a DeformedAtlas keeps more of it" in result.text) == (kind in {"VAE", "HVAE"})


def test_advice_for_a_number_names_no_family_that_it_has():
    metrics = good()
    metrics["truth"]["do(age)"] = {"age": {"kept": {"skill": mean(0.1)}}}
    metrics["between rows"]["age"] = {"apart": 9.0, "unit": "years", "image": False}
    metrics["training"]["age"]["kind"] = "Additive"
    assert "kind: Flow" in finding(metrics, "individual").command
    metrics["training"]["age"]["kind"] = "Flow"
    assert finding(metrics, "individual").command.endswith("training.mechanisms.age.epochs=18")
