"""Disagreement, stress of graph and labels, and cost: by hand, and how they rank."""

from __future__ import annotations

import subprocess
import sys

import answers
import blobs
import pytest
import torch

from rung3 import SCM, CausalGraph, Image
from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.evaluation.measures.cost import cost, evaluations, peak_memory
from rung3.evaluation.measures.stability import disagreement
from rung3.evaluation.misspecification import changes, misdrawn, mislabelled
from rung3.mechanisms import VAE, Equation

# Disagreement


def test_disagreement_is_the_mean_over_pairs() -> None:
    rows, do, _ = answers.question(20)
    models = [blobs.world(), blobs.scm(blobs.nothing), blobs.scm(blobs.wrong_sign)]
    disagreements = disagreement(models, rows, do, ["image", "brightness"], seed=0)
    a, b, c = (model.counterfactual(rows, do)["image"] for model in models)
    image = Image(1, 12, 12, bits=None)
    pairs = distance(image, a, b) + distance(image, a, c) + distance(image, b, c)
    torch.testing.assert_close(disagreements["image"], pairs / 3)
    assert disagreements["brightness"].max() < 1e-6


def test_disagreement_ranks_how_differently_models_err_and_bounds_their_error() -> None:
    rows, do, true = answers.question(40)
    image = Image(1, 12, 12, bits=None)

    def blurred(blur: float) -> tuple[float, float]:
        models = [blobs.scm(blobs.Latent(blur)), blobs.world()]
        error = float(disagreement(models, rows, do, ["image"], seed=0)["image"].mean())
        answer = models[0].counterfactual(rows, do, seed=0)["image"]
        return error, float(distance(image, answer, true["image"]).mean())

    errors = [blurred(blur) for blur in (0.0, 0.01, 0.1)]
    assert sorted(errors) == errors
    assert all(apart <= error + 4e-7 for apart, error in errors)
    same = disagreement([blobs.scm(blobs.nothing)] * 2, rows, do, ["image"])["image"]
    assert same.max() == 0  # which says nothing about its error


def test_one_model_or_models_of_other_variables_are_refused() -> None:
    rows, do, _ = answers.question(3)
    with pytest.raises(ValueError, match="two or more models, got 1"):
        disagreement([blobs.world()], rows, do, ["image"])
    with pytest.raises(ValueError, match="differ in their variables"):
        disagreement([blobs.world(), SCM(a=Equation("u"))], rows, do, ["image"])


# Stress


def fit(graph: CausalGraph, rows: Rows) -> SCM:
    """Linear regressions of every variable on its parents."""
    mechanisms = {}
    for name in graph.nodes:
        parents = graph.parents(name)
        columns = torch.stack([*(rows[p] for p in parents), torch.ones(rows.n)], dim=1)
        weights = torch.linalg.lstsq(columns, rows[name][:, None]).solution[:, 0].tolist()
        terms = [f"{w}*{p}" for w, p in zip(weights, parents, strict=False)]
        mechanisms[name] = Equation(" + ".join([*terms, str(weights[-1]), "u"]))
    return SCM(graph, mechanisms=mechanisms)


def line() -> SCM:
    return SCM(
        mechanisms={"a": Equation("u"), "b": Equation("a + u"), "c": Equation("2*b + u")},
        world="line",
    )


def skill(model: SCM) -> dict[str, float]:
    rows = line().sample(300, seed=1)
    do = {"b": rows["b"].flip(0)}
    true = line().counterfactual(rows, do)["c"]
    error = (model.counterfactual(Rows(dict(rows)), do)["c"] - true).abs().mean()
    return {"skill": float(1 - error / (rows["c"] - true).abs().mean())}


def test_skill_falls_with_the_arrow_it_needs_and_with_wrong_labels() -> None:
    world = line()
    skills = changes(
        fit,
        skill,
        world.graph,
        world.sample(2000, seed=0),
        labels={"b": 0.1, "c": 0.5},
        seed=0,
    )
    fell = {name: scores["skill"] for name, scores in skills.items()}  # type: ignore[index]
    assert fell["without b -> c"] == pytest.approx(-1, abs=0.05)
    assert fell["c -> b"] == pytest.approx(-1, abs=0.05)
    assert fell["without a -> b"] == pytest.approx(0, abs=1e-6)
    # A share s of permuted rows shrinks the slope to 1 - s.
    assert fell["10% of b wrong"] == pytest.approx(-0.1, abs=0.03)
    assert fell["50% of c wrong"] == pytest.approx(-0.5, abs=0.05)


def test_a_model_that_refuses_a_graph_leaves_the_others_their_scores() -> None:
    def choosy(graph: CausalGraph, rows: Rows) -> SCM:
        if not graph.parents("b"):
            raise ValueError("b: needs a cause")
        return fit(graph, rows)

    scores = changes(choosy, skill, line().graph, line().sample(500, seed=0))
    assert scores["without a -> b"] == "b: needs a cause"
    assert isinstance(scores["without b -> c"], dict)


def test_an_arrow_is_turned_only_where_that_makes_no_cycle() -> None:
    graphs = misdrawn(CausalGraph("a -> b -> c; a -> c; a <-> b"))
    assert "c -> a" not in graphs
    assert graphs["c -> b"].parents("b") == ("a", "c")
    assert all(graph.bidirected == (("a", "b"),) for graph in graphs.values())


def test_wrong_labels_are_other_rows_and_only_so_many() -> None:
    rows = line().sample(200, seed=0)
    labels = mislabelled(rows, "b", 0.25, seed=0)
    assert int((labels["b"] != rows["b"]).sum()) == 50
    assert torch.equal(labels["b"].sort().values, rows["b"].sort().values)
    assert torch.equal(labels["a"], rows["a"])
    assert labels.noise is None
    with pytest.raises(ValueError, match="did you mean 'b'"):
        mislabelled(rows, "bb", 0.1)
    with pytest.raises(ValueError, match="between 0 and 1, got 10"):
        mislabelled(rows, "b", 10)


# Cost


def vae(width: int) -> SCM:
    mechanisms = {"p": Equation("u"), "scan": VAE(4, width=width, depth=1)}
    return SCM("p -> scan", {"scan": Image(1, 16, 16)}, mechanisms).eval()


def test_cost_counts_what_a_counterfactual_runs() -> None:
    model = vae(4)
    rows = model.sample(8, seed=0)
    counts = cost(model, rows, {"p": 1.0}, repeats=2, seed=0)
    assert counts["evaluations"]["scan.encoder"] == 1
    assert counts["evaluations"]["scan.decoder"] == 2  # for eps, and for the answer
    assert counts["parameters"] == sum(p.numel() for p in model.parameters())
    assert counts["rows"] == 8
    nothing = evaluations(model, lambda: model.counterfactual(rows, {"scan": rows["scan"]}))
    assert nothing == {}


def test_cost_ranks_networks_and_grows_with_the_batch_as_it_must() -> None:
    small, wide = vae(4), vae(16)
    rows = small.sample(128, seed=0)
    few_rows, many, more = (
        cost(model, rows[:n], {"p": 1.0}, repeats=1, seed=0)
        for model, n in ((small, 32), (small, 128), (wide, 128))
    )
    assert few_rows["gflop per row"] == pytest.approx(many["gflop per row"], rel=1e-6)
    assert many["peak MiB"] == pytest.approx(4 * few_rows["peak MiB"], rel=0.05)
    assert many["gflop per row"] < more["gflop per row"]
    assert many["parameters"] < more["parameters"]


def test_multiplications_are_counted_as_two_operations_each() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        torch.zeros(3, 4) @ torch.zeros(4, 5)
    assert counter.get_total_flops() == 2 * 3 * 4 * 5


def test_peak_memory_is_what_is_held_at_once() -> None:
    """Two tensors of 4 MB; then, one given back before the next is made."""
    million = torch.zeros(1_000_000)

    def together() -> None:
        a = million + 1
        b = a + 1
        del a, b

    def in_turn() -> None:
        a = million + 1
        del a
        b = million + 1
        del b

    assert peak_memory(together) == pytest.approx(8_000_000, abs=100)
    assert peak_memory(in_turn) == pytest.approx(4_000_000, abs=100)


MEASURED = """
import pathlib, torch
from rung3.evaluation.measures.cost import peak_memory
net = torch.nn.Sequential(*[torch.nn.Conv2d(16, 16, 3, padding=1) for _ in range(4)])
def call(n):
    with torch.no_grad():
        net(torch.rand(n, 16, 128, 128))
def most():
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
call(1); peak_memory(lambda: call(1))
before = most()
call(64)
print(most() - before, peak_memory(lambda: call(64)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_agrees_with_the_systems() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True
    )
    system, measured = map(int, done.stdout.split())
    assert measured == pytest.approx(system, rel=0.15)


def test_no_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        cost(blobs.world(), blobs.world().sample(2, seed=0), {"position": 0.0}, repeats=0)
