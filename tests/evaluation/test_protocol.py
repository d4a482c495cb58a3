"""Protocols: what is asked, of whom, and what becomes of input that does not fit."""

from __future__ import annotations

import json
from typing import Any

import blobs
import pytest
import torch
from torch import Tensor

from rung3 import SCM, Categorical, Continuous, Image, worlds
from rung3.data.rows import Rows
from rung3.evaluation import Cache, Oracles, Protocol, evaluate
from rung3.evaluation.measures.registry import optional
from rung3.evaluation.plan import draw_targets
from rung3.evaluation.scores import Scores
from rung3.mechanisms import Equation

NO_ORACLES = Oracles({})
QUICK: dict[str, Any] = {"oracles": NO_ORACLES, "progress": False, "bootstrap": 50, "particles": 2}


def drawn(kind: Any, test: Tensor, train: Tensor, levels: int = 9, variable: Any = None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return draw_targets(kind, "t", variable or Continuous(), test, train, levels, generator)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return blobs.world().sample(60, seed=1)


@pytest.fixture(scope="module")
def train() -> Rows:
    return blobs.world().sample(400, seed=2)


# Targets ----


def test_marginal_targets_are_training_values_and_follow_their_distribution():
    train = torch.randn(5000) + 3
    targets = drawn("marginal", torch.zeros(4000), train)
    assert set(targets.tolist()) <= set(train.tolist())
    assert targets.mean().item() == pytest.approx(train.mean().item(), abs=0.06)
    assert targets.std().item() == pytest.approx(train.std().item(), rel=0.05)


def test_forced_targets_lie_in_another_bin_and_are_uniform_over_the_rest():
    train = torch.rand(2000)
    test = torch.full((6000,), 0.45)
    targets = drawn("forced", test, train, levels=5)
    low, high = train.min().item(), train.max().item()
    bins = ((targets - low) / (high - low) * 5).long().clamp(0, 4)
    assert (bins != 2).all()  # 0.45 is in the middle one
    shares = torch.bincount(bins, minlength=5)[[0, 1, 3, 4]] / 6000
    there = torch.histc(train, 5, low, high)[[0, 1, 3, 4]]
    torch.testing.assert_close(shares, there / there.sum(), atol=0.03, rtol=0)


def test_forced_categories_differ_whatever_their_shares():
    train = torch.tensor([0] * 90 + [1] * 9 + [2])
    test = torch.arange(3).repeat(1000)
    targets = drawn("forced", test, train, variable=Categorical(3))
    assert (targets != test).all()
    assert (targets[test == 0] == 2).double().mean().item() == pytest.approx(0.5, abs=0.05)


def test_a_grid_asks_each_value_equally_often():
    targets = drawn("grid", torch.zeros(90), torch.linspace(0, 1, 1001), levels=9)
    values, counts = targets.unique(return_counts=True)
    assert counts.tolist() == [10] * 9
    assert (values[0].item(), values[-1].item()) == (pytest.approx(0.02), pytest.approx(0.98))
    codes = drawn("grid", torch.zeros(6).long(), torch.tensor([2, 0, 2]), variable=Categorical(4))
    assert codes.unique().tolist() == [0, 2]


@pytest.mark.parametrize("kind", ["forced", "grid"])
def test_bins_and_grids_are_of_single_numbers(kind):
    values = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=f"t: {kind} targets are of single numbers"):
        drawn(kind, values, values, variable=Continuous(dim=2))


def test_nothing_can_be_forced_where_all_are_alike():
    with pytest.raises(ValueError, match="all training values lie in one bin"):
        drawn("forced", torch.zeros(3), torch.zeros(5))


# Protocols ----


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targets": "random"}, "targets: expected one of permuted, marginal, forced, grid"),
        ({"measures": {"beauty"}}, "unknown measure 'beauty'"),
        ({"seeds": 0}, "seeds: expected at least 1"),
        ({"n": 10, "truth_n": 11}, "truth_n=11: more rows than are asked, n=10"),
        ({"temperatures": (0.0,)}, "1 \\(noise kept as abducted\\) among them"),
        ({"reversibility": (0,)}, "reversibility: expected numbers of at least 1"),
    ],
)
def test_fields_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**fields)


def test_presets_are_had_by_name_and_may_be_changed():
    assert Protocol.named("monteiro2023", n=7) == Protocol.monteiro2023(n=7)
    assert not Protocol.monteiro2023().propagate
    assert Protocol.melistas2024().targets == "forced"
    assert Protocol.ribeiro2023().reversibility == (1,)
    assert Protocol.complete().measures == optional().keys()
    with pytest.raises(ValueError, match="expected one of monteiro2023"):
        Protocol.named("melistas")
    with pytest.raises(ValueError, match="did you mean 'targets'"):
        Protocol.named("ribeiro2023", target="grid")


@pytest.mark.parametrize("name", ["monteiro2023", "melistas2024", "ribeiro2023"])
def test_presets_run_and_ask_what_they_say(name, rows, train):
    model = blobs.scm(blobs.Latent())
    report = evaluate(model, rows, blobs.world(), train, protocol=name, **QUICK)
    metrics = report.metrics
    assert list(metrics["truth"]) == ["do(position)", "do(brightness)"]
    modes = {"kept", "eps x 0.1"} if name == "melistas2024" else {"kept", "latent"}
    assert metrics["composition"]["image"].keys() == modes
    assert ("brightness" in metrics["truth"]["do(position)"]) == (name != "monteiro2023")
    assert ("reversibility" in metrics) == (name != "melistas2024")
    assert "spread" not in metrics
    assert "eps x 0.1" in str(report) or name != "melistas2024"


def test_arguments_go_before_the_protocol(rows):
    protocol = Protocol(n=50, bootstrap=0, interventions=["position"])
    metrics = evaluate(
        blobs.world(), rows, oracles=NO_ORACLES, protocol=protocol, n=9, progress=False
    ).metrics
    assert metrics["settings"]["rows"] == 9
    assert metrics["settings"]["resamples"] == 0
    assert list(metrics["targets"]) == ["do(position)"]


def test_held_parents_stay_and_the_truth_is_of_the_same_question(rows):
    metrics = evaluate(
        blobs.world(), rows, blobs.world(), protocol=Protocol(propagate=False), **QUICK
    ).metrics
    scores = metrics["truth"]["do(position)"]
    assert list(scores) == ["image"]
    assert scores["image"]["kept"]["skill"]["mean"] == pytest.approx(1, abs=1e-5)
    assert metrics["reversibility"]["do(position)"]["image"]["kept"]["5"]["mean"] < 1e-3
    held = blobs.world().counterfactual(
        rows, {"position": rows["position"].flip(0)}, hold=["brightness"]
    )
    assert torch.equal(held["brightness"], rows["brightness"])
    world = worlds.lecture()
    table = world.sample(9, seed=0)
    with pytest.raises(ValueError, match="propagate=False holds the other parents of images"):
        evaluate(world, table, protocol=Protocol(propagate=False))


def test_fewer_rows_may_be_compared_with_the_truth_than_are_asked(rows):
    world, model = blobs.world(), blobs.scm(blobs.wrong_sign)
    some = evaluate(model, rows, world, protocol=Protocol(truth_n=20), batch_size=16, **QUICK)
    first = evaluate(
        model, rows[:20], world, interventions=some_targets(rows, 20), batch_size=16, **QUICK
    )
    whole = evaluate(
        model, rows, world, interventions=some_targets(rows, 60), protocol=Protocol(truth_n=20),
        batch_size=16, **QUICK,
    )  # fmt: skip
    assert some.metrics["settings"]["rows compared with the truth"] == 20
    for label in ("do(position)", "do(brightness)"):
        one, other = (r.metrics["truth"][label]["image"]["kept"]["error"] for r in (first, whole))
        assert one["mean"] == pytest.approx(other["mean"], rel=1e-5)
        assert one["low"] == pytest.approx(other["low"], rel=1e-5)
    reversed_ = (
        r.metrics["reversibility"]["do(position)"]["image"]["kept"]["1"] for r in (first, whole)
    )
    one, other = (interval["high"] - interval["low"] for interval in reversed_)
    assert one != other  # of 20 rows and of 60


def some_targets(rows: Rows, n: int) -> dict[str, Tensor]:
    return {name: rows[name].flip(0)[:n] for name in ("position", "brightness")}


def test_seeds_ask_again_and_rows_are_averaged_over_them(rows):
    model = blobs.scm(blobs.Latent(blur=0.05))
    metrics = evaluate(model, rows, blobs.world(), protocol=Protocol(seeds=3), **QUICK).metrics
    error = metrics["truth"]["do(position)"]["image"]["kept"]["error"]
    assert len(set(error["by seed"])) == 3
    assert error["mean"] == pytest.approx(sum(error["by seed"]) / 3, rel=1e-5)
    one = evaluate(model, rows, blobs.world(), **QUICK).metrics
    alone = one["truth"]["do(position)"]["image"]["kept"]["error"]
    assert alone["mean"] == pytest.approx(error["by seed"][0], rel=1e-5)
    assert "by seed" not in alone


# Bad input ----


def test_more_rows_than_there_are_is_an_error(rows):
    with pytest.raises(ValueError, match="n=61: there are only 60 test rows"):
        evaluate(blobs.world(), rows, n=61, **QUICK)
    with pytest.raises(ValueError, match="truth_n=99: there are only 60 test rows"):
        evaluate(blobs.world(), rows, protocol=Protocol(truth_n=99), **QUICK)


def test_a_truth_from_another_world_is_refused(rows):
    other = blobs.scm(Equation(blobs.right, noise="Uniform(0, 1)"), world="other")
    with pytest.raises(ValueError, match="the world 'other', but the test rows are from 'blobs'"):
        evaluate(blobs.world(), rows, other, **QUICK)
    larger = SCM(blobs.GRAPH, {"image": Image(1, 9, 9)}, {"image": Equation(blobs.right)})
    with pytest.raises(ValueError, match="truth: image is Image"):
        evaluate(blobs.world(), rows, larger, **QUICK)


def test_targets_outside_the_support_are_refused_and_outside_the_range_are_counted():
    world = worlds.digits()
    test = world.sample(6, seed=0)
    with pytest.raises(ValueError, match="thickness"):
        evaluate(world, test, interventions={"thickness": -1.0}, **QUICK)
    world.mechanisms["thickness"].observed = torch.tensor([1.0, 2.0])
    targets = torch.tensor([1.5, 9.0, 1.5, 9.0, 9.0, 1.2])
    metrics = evaluate(world, test, interventions={"thickness": targets}, **QUICK).metrics
    assert metrics["targets"]["do(thickness)"] == {"thickness": 0.5}


def test_a_measure_that_is_nan_or_refuses_is_flagged_and_the_rest_survives(rows, tmp_path):
    def refuses(images: Tensor) -> Tensor:
        raise ValueError("a blank image has no position")

    measures = {
        "position": refuses,
        "brightness": lambda images: images.mean((1, 2, 3)).log() * torch.nan,
    }
    report = evaluate(blobs.world(), rows, blobs.world(), measures=measures, batch_size=25, **QUICK)
    measured = report.metrics["measured"]["image"]["do(position)"]
    assert measured["position"]["kept"]["undefined"] == "a blank image has no position"
    assert measured["brightness"]["kept"]["mean"] is None
    assert "60 of 60 rows not finite" in measured["brightness"]["kept"]["undefined"]
    assert report.metrics["truth"]["do(position)"]["image"]["kept"]["skill"][
        "mean"
    ] == pytest.approx(1)
    page = report.save(tmp_path).read_text()
    assert "a blank image has no position" in page
    assert "undefined" in str(report)
    assert json.loads((tmp_path / "metrics.json").read_text()) == report.metrics


def test_a_model_that_answers_nan_is_flagged_where_it_does(rows, tmp_path):
    def broken(position: Tensor, brightness: Tensor, u: Tensor) -> Tensor:
        image = blobs.right(position, brightness, u)
        return torch.where(position[:, None, None, None] > 2, torch.nan, image)

    model = blobs.scm(Equation(broken, inverse=lambda image, position, brightness: (
        image - blobs.base(position, brightness)) / 0.1))  # fmt: skip
    targets = {"position": torch.linspace(-1, 3, 60), "brightness": rows["brightness"].flip(0)}
    near = rows[rows["position"] < 2]
    targets = {name: value[: near.n] for name, value in targets.items()}
    targets["position"][-1] = 3.0
    report = evaluate(model, near, blobs.world(), interventions=targets, **QUICK)
    under = {label: part["image"]["kept"] for label, part in report.metrics["truth"].items()}
    assert under["do(position)"]["error"]["mean"] is None
    assert under["do(position)"]["skill"]["mean"] is None
    assert under["do(brightness)"]["skill"]["mean"] == pytest.approx(1, abs=1e-4)
    assert "undefined" in report.metrics["reversibility"]["do(position)"]["image"]["kept"]["1"]
    report.save(tmp_path)


def test_scores_are_refused_path_by_path():
    scores = Scores()
    scores.add(("a", "x"), torch.ones(3), "")
    scores.refuse(("a", "x"), "no")
    scores.add(("a", "x"), torch.ones(3), "")
    scores.add(("a", "y"), torch.tensor([1.0, torch.nan, 3.0]), "", partial=True)
    from rung3.evaluation.bootstrap import Bootstrap

    summary = scores.summary(Bootstrap(3, 0))["a"]
    assert summary["x"]["undefined"] == "no"
    assert summary["y"]["mean"] == 2


# The cache ----


def test_truths_are_rendered_once(tmp_path, monkeypatch):
    world = worlds.digits()
    test, cache = world.sample(6, seed=0), Cache(tmp_path / "cache")
    interventions: dict[str, Any] = {"thickness": torch.linspace(2, 4, 6), "intensity": 128.0}
    calls = []
    mechanism = type(world.mechanisms["image"])
    predict = mechanism.predict

    def counted(self: Any, noise: Any, parents: Any) -> Tensor:
        calls.append(1)
        return predict(self, noise, parents)

    monkeypatch.setattr(mechanism, "predict", counted)

    def ask(rows: Rows, do: dict[str, Any]) -> tuple[Any, int]:
        calls.clear()
        report = evaluate(
            nothing(world), rows, world, interventions=do, cache=cache, measures={}, baselines={},
            **QUICK,
        )  # fmt: skip
        return report.metrics["truth"], len(calls)

    first, rendered = ask(test, interventions)
    repeated, later = ask(test, interventions)
    assert (rendered, later) == (2, 0)
    assert first == repeated
    assert ask(test, interventions | {"intensity": 129.0})[1] == 1
    assert (
        ask(test[:5], {k: v if k != "thickness" else v[:5] for k, v in interventions.items()})[1]
        == 2
    )
    for file in (tmp_path / "cache").rglob("*.safetensors"):
        file.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match=r"the cache is rebuilt: .*\.safetensors is truncated"):
        repaired, anew = ask(test, interventions)
    assert anew == 2
    assert repaired == first
    assert ask(test, {"thickness": lambda thickness: thickness + 1})[1] == 1
    assert (
        ask(test, {"thickness": lambda thickness: thickness + 1})[1] == 1
    )  # functions are not kept


def test_a_cache_that_cannot_be_written_to_is_done_without(tmp_path):
    (tmp_path / "cache").write_text("a file")
    cache, world = Cache(tmp_path / "cache"), worlds.digits()
    rows = world.sample(2, seed=0)
    with pytest.warns(UserWarning, match="nothing is kept in the cache"):
        report = evaluate(
            nothing(world), rows, world, interventions={"intensity": 128.0}, cache=cache,
            measures={}, baselines={}, **QUICK,
        )  # fmt: skip
    assert report.metrics["truth"]


def nothing(world: SCM) -> SCM:
    """A model over a world's variables whose image ignores its parents."""

    def image(digit: Tensor, thickness: Tensor, intensity: Tensor, u: Tensor) -> Tensor:
        return u + 0 * thickness[:, None, None, None]

    causes = {name: Equation("u") for name in ("thickness",)}
    return SCM(world.graph, world.variables, {
        **causes, "intensity": Equation("thickness + u"), "image": Equation(image),
    })  # fmt: skip


def test_worlds_of_python_functions_are_not_kept(rows, tmp_path):
    evaluate(blobs.world(), rows, blobs.world(), cache=Cache(tmp_path / "cache"), **QUICK)
    assert not (tmp_path / "cache").exists()
