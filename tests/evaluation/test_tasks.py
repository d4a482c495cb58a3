"""Predictive tasks: directions and shifts after Castro et al., and what shifts do to predictors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rung3 import SCM, CausalGraph, Continuous, Image, worlds
from rung3.data.rows import Rows
from rung3.data.seeding import base_seed
from rung3.evaluation.tasks import Kind, shifted, shifts, stress, task
from rung3.mechanisms import Equation

BIOPSY = CausalGraph("disease -> anatomy -> scan; age -> {disease anatomy}")
SEGMENTATION = CausalGraph("age -> anatomy -> scan -> mask")
SCANNED = CausalGraph(
    "disease -> anatomy -> scan -> mask; {age sex} -> anatomy; scanner -> {coil scan}; "
    "coil -> scan; reader -> mask"
)


@pytest.mark.parametrize(
    ("text", "label", "inputs", "direction", "reason"),
    [
        ("y -> z -> x", "y", "x", "anti-causal", "y -> z -> x"),
        ("z -> x -> y", "y", "x", "causal", "x -> y"),
        ("z -> x; z -> y", "y", "x", "confounded", "x <- z -> y"),
        ("x <-> y", "y", "x", "confounded", "x <-> y"),
        ("x -> z <- y", "y", "x", "unrelated", "no open path joins them"),
        ("a -> y -> x", "y", ["a", "x"], "mixed", "a -> y and y -> x"),
    ],
)
def test_the_direction_is_read_off_the_graph(
    text: str, label: str, inputs: str | list[str], direction: str, reason: str
) -> None:
    result = task(CausalGraph(text), label, inputs)
    assert (result.direction, result.reason) == (direction, reason)


@pytest.mark.parametrize(
    ("graph", "label", "pointed", "kind", "mechanism", "invariant"),
    [
        (BIOPSY, "disease", "age", "population", "P(age)", False),
        (BIOPSY, "disease", "disease", "prevalence", "P(disease | age)", False),
        (BIOPSY, "disease", "anatomy", "manifestation", "P(anatomy | disease, age)", False),
        (BIOPSY, "disease", "scan", "acquisition", "P(scan | anatomy)", False),
        (SEGMENTATION, "mask", "age", "population", "P(age)", True),
        (SEGMENTATION, "mask", "anatomy", "population", "P(anatomy | age)", True),
        (SEGMENTATION, "mask", "scan", "acquisition", "P(scan | anatomy)", True),
        (SEGMENTATION, "mask", "mask", "annotation", "P(mask | scan)", False),
        (CausalGraph("x -> y"), "y", "x", "population", "P(x)", True),
        (CausalGraph("x -> reading -> y"), "y", "reading", "annotation", "P(reading | x)", False),
        (CausalGraph("x -> y -> bill"), "y", "bill", None, "P(bill | y)", True),
        (SCANNED, "disease", "scanner", "acquisition", "P(scanner)", False),
        (SCANNED, "disease", "coil", "acquisition", "P(coil | scanner)", False),
        (SCANNED, "disease", "age", "population", "P(age)", False),
        (SCANNED, "disease", "sex", "population", "P(sex)", False),
        (SCANNED, "mask", "reader", "annotation", "P(reader)", False),
        (
            CausalGraph("y -> x; thickness -> x"),
            "y",
            "thickness",
            "acquisition",
            "P(thickness)",
            False,
        ),
        (CausalGraph("age -> z -> x -> y; s -> x"), "y", "s", "acquisition", "P(s)", True),
        (CausalGraph("age -> z -> x -> y; s -> x"), "y", "age", "population", "P(age)", True),
        (CausalGraph("a -> x -> y; b -> x"), "y", "a", "population", "P(a)", True),
        (CausalGraph("z -> {x y}; reader -> y"), "y", "reader", "annotation", "P(reader)", False),
        (CausalGraph("z -> {x y}; s -> x"), "y", "s", "acquisition", "P(s)", False),
    ],
)
def test_a_shift_is_named_by_where_the_environment_points(
    graph: CausalGraph, label: str, pointed: str, kind: Kind | None, mechanism: str, invariant: bool
) -> None:
    """Castro et al. 2020, Table 1, and Figure 4 for the invariance."""
    inputs = "x" if "x" in graph else "scan"
    edges = [*graph.edges, ("site", pointed)]
    (shift,) = shifts(CausalGraph(edges), label, inputs, environment="site").values()
    assert (shift.variable, shift.kind, shift.mechanism) == (pointed, kind, mechanism)
    assert shift.invariant is invariant
    assert shift == shifts(graph, label, inputs)[pointed]


def test_an_environment_may_change_several_mechanisms() -> None:
    graph = CausalGraph([*BIOPSY.edges, ("site", "age"), ("site", "scan")])
    by_name = shifts(graph, "disease", "scan", environment="site")
    assert {name: shift.kind for name, shift in by_name.items()} == {
        "scan": "acquisition",
        "age": "population",
    }


def test_a_cause_of_the_input_that_goes_with_the_label_is_of_the_subjects() -> None:
    by_name = shifts(CausalGraph("y -> x; s -> x; y <-> s"), "y", "x")
    assert by_name["s"].kind == "population"


def test_other_subjects_are_scanned_by_the_same_scanner() -> None:
    model = SCM(
        age=Equation("u"),
        disease=Equation("age + u"),
        scanner=Equation("u"),
        scan=Equation("disease + scanner + u"),
    )
    here = model.sample(100, seed=0)
    there = shifted(model, "population", "disease", "scan").sample(100, seed=0)
    assert torch.equal(here["scanner"], there["scanner"])
    assert (there["age"] > here["age"] + 0.5).all()
    remeasured = shifted(model, "acquisition", "disease", "scan", variable="scanner")
    assert torch.equal(remeasured.sample(100, seed=0)["disease"], here["disease"])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("y -> x; a -> e; e -> x", {"environment": "e"}, r"'e' has causes \['a'\]"),
        ("y -> x; e <-> x", {"environment": "e"}, r"'e' has causes \['x'\]"),
        ("y -> x", {"environment": "y"}, "'y' is part of the task"),
        ("y -> x", {"environment": "e"}, "the graph has no variable 'e'"),
        ("y -> x", {"inputs": []}, "at least one name"),
        ("y -> x", {"inputs": ["y"]}, "'y' is in both label and inputs"),
    ],
)
def test_what_is_no_task_is_refused(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shifts(CausalGraph(text), **{"label": "y", "inputs": "x", **options})


@pytest.mark.parametrize(
    ("kind", "label", "changed"),
    [("population", "disease", "age"), ("prevalence", "disease", "disease"),
     ("manifestation", "disease", "lesion"), ("acquisition", "disease", "scan"),
     ("annotation", "mark", "mark")],
)  # fmt: skip
def test_a_shift_changes_its_mechanism_and_what_follows_alone(
    kind: Kind, label: str, changed: str
) -> None:
    world = worlds.scans()
    before = world.sample(500, seed=0)
    after = shifted(world, kind, label, "scan").sample(500, seed=0)
    below = {changed, *world.graph.descendants(changed)}
    for name in world.graph.nodes:
        assert torch.equal(before[name], after[name]) is (name not in below)


def test_the_defaults_are_what_they_say() -> None:
    world = worlds.scans()
    before = world.sample(20_000, seed=0)
    moved = shifted(world, "acquisition", "disease", "scan", size=2.0).sample(20_000, seed=0)
    step = (moved["scan"] - before["scan"]).mean().item()
    assert step == pytest.approx(2 * before["scan"].std().item(), rel=0.05)
    rare = shifted(world, "prevalence", "disease", "scan", size=2.0).sample(20_000, seed=0)
    healthy = before["disease"] == 0
    assert rare["disease"][healthy].float().mean().item() == pytest.approx(0.75, abs=0.02)
    assert bool((rare["disease"][~healthy] == 1).all())
    noisy = shifted(world, "annotation", "mark", "scan", size=0.5).sample(20_000, seed=0)
    flipped = (noisy["mark"] != before["mark"]).float().mean().item()
    assert flipped == pytest.approx(1 - 2**-0.5, abs=0.02)


def test_images_darken_and_supports_are_kept() -> None:
    model = SCM(
        "y -> z -> x",
        {"y": Continuous(), "z": Continuous(lower=0, upper=1), "x": Image(1, 4, 4, bits=None)},
        {
            "y": Equation("u"),
            "z": Equation("sigmoid(y + u)"),
            "x": Equation(lambda z, u: (z[:, None, None, None] * u).clamp(0, 1), "Uniform(0, 1)"),
        },
    )
    darker = shifted(model, "acquisition", "y", "x").sample(50, seed=0)["x"]
    torch.testing.assert_close(darker, model.sample(50, seed=0)["x"] ** 2)
    assert shifted(model, "manifestation", "y", "x", size=9).sample(50, seed=0)["z"].max() == 1


def test_darker_images_lie_on_the_levels_of_their_bits() -> None:
    drawn = Equation(
        lambda y, u: (31 * u).round() / 31 + 0 * y[:, None, None, None], "Uniform(0, 1)"
    )
    model = SCM("y -> x", {"x": Image(1, 4, 4, bits=5)}, {"y": Equation("u"), "x": drawn})
    darker = shifted(model, "acquisition", "y", "x").sample(50, seed=0)["x"]
    torch.testing.assert_close(darker, ((31 * model.sample(50, seed=0)["x"] ** 2).round() / 31))


def test_a_change_of_ones_own_takes_the_place_of_the_default() -> None:
    world = worlds.scans()
    custom = shifted(
        world, "acquisition", "disease", "scan", change=Equation("lesion + 3*u"), variable="scan"
    )
    assert custom.sample(5000, seed=0)["scan"].std() > 2.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "annotation"}, r"anti-causal.*has no annotation shift; it has \['acquisition'"),
        ({"kind": "drift"}, "expected one of .*got 'drift'"),
        ({"kind": "population", "variable": "scan"}, "scan: makes acquisition shift, not popul"),
        ({"kind": "prevalence", "size": -1.0}, "disease: no shift by default.*size=-1.0"),
        ({"kind": "prevalence", "size": float("nan")}, "expected a finite number"),
    ],
)
def test_shifts_that_a_task_does_not_have_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        shifted(worlds.scans(), label="disease", inputs="scan", **options)


def threshold(rows: Rows) -> torch.Tensor:
    assert list(rows) == ["scan"]  # the label is kept from the predictor
    return rows["scan"] > 1.8


def test_a_predictor_fares_worse_under_each_shift_by_as_much_as_counting_says() -> None:
    world = worlds.scans()
    scores = stress(world, threshold, "disease", "scan", n=4000, seed=0)
    kinds: list[Kind] = ["population", "prevalence", "acquisition", "manifestation"]
    assert list(scores.environments) == ["source", *kinds]
    before = world.sample(4000, seed=base_seed(0, "stress"))
    right = ((before["scan"] > 1.8) == before["disease"]).float()
    for kind in kinds:
        rows = shifted(world, kind, "disease", "scan").sample(4000, seed=base_seed(0, "stress"))
        hit = ((rows["scan"] > 1.8) == rows["disease"]).float()
        mean, low, high = scores[kind].score
        assert mean == pytest.approx(hit.mean().item(), abs=1e-6)
        assert low < mean < high
        assert scores[kind].change[0] == pytest.approx((hit - right).mean().item(), abs=1e-6)
        assert scores[kind].change[2] < 0
    assert scores["source"].change == (0, 0, 0)
    assert "acquisition" in str(scores)


def test_the_causal_predictor_does_not_mind_other_scanners() -> None:
    """The mark is 1{scan + u/2 > 1.5}: its best predictor is the same whatever made the scan."""
    world = worlds.scans()
    results = stress(world, lambda rows: rows["scan"] > 1.5, "mark", "scan", n=4000, seed=0)
    scores = {name: fared.score[0] for name, fared in results.environments.items()}
    assert scores["acquisition"] > scores["source"] - 0.05
    assert scores["annotation"] < scores["source"] - 0.3


@pytest.mark.parametrize(
    ("studies", "least", "most"),
    [(60, 52, 60), pytest.param(1000, 930, 970, marks=pytest.mark.slow)],
)
def test_the_intervals_of_a_change_cover_it(studies: int, least: int, most: int) -> None:
    """Of 60, 57 are expected, and fewer than 52 once in 200."""
    world = worlds.scans()
    far = {"acquisition": shifted(world, "acquisition", "disease", "scan")}
    before, after = (one.sample(200_000, seed=99) for one in (world, far["acquisition"]))
    hits = [((rows["scan"] > 1.8) == rows["disease"]).double().mean() for rows in (before, after)]
    truth = (hits[1] - hits[0]).item()
    covered = 0
    for seed in range(studies):
        scores = stress(world, threshold, "disease", "scan", environments=far, n=300, seed=seed)
        _, low, high = scores["acquisition"].change
        covered += low <= truth <= high
    assert least <= covered <= most


def test_predictors_may_give_scores_of_classes_or_numbers() -> None:
    world = worlds.scans()
    one = stress(
        world,
        lambda rows: torch.stack([1.8 - rows["scan"], rows["scan"] - 1.8], 1),
        "disease", "scan", environments={}, n=500, seed=0,
    )  # fmt: skip
    same = stress(world, threshold, "disease", "scan", environments={}, n=500, seed=0)
    assert one["source"].score == same["source"].score
    numbers = stress(world, lambda rows: rows["scan"], "lesion", "scan", n=500, seed=0)
    assert numbers.measure == "negative absolute error"
    assert numbers["source"].score[0] == pytest.approx(-0.5 * (2 / torch.pi) ** 0.5, abs=0.05)
    squared = stress(
        world, lambda rows: rows["scan"], "lesion", "scan", environments={}, n=500, seed=0,
        score=lambda guess, truth: -(guess - truth) ** 2,
    )  # fmt: skip
    assert squared["source"].score[0] == pytest.approx(-0.25, abs=0.05)


@pytest.mark.parametrize(
    ("predictor", "options", "message"),
    [
        (lambda rows: rows["scan"][:3] > 0, {}, r"source: expected one score a row, \(50,\), got"),
        (lambda rows: torch.zeros(50, 1), {}, r"got \(50, 1\)"),
        (threshold, {"label": "diseas"}, "the graph has no variable 'diseas'"),
        (threshold, {"n": 1}, "at least 2 rows"),
    ],
)
def test_predictors_that_do_not_fit_are_refused(
    predictor: Any, options: dict[str, Any], message: str
) -> None:
    arguments = {"label": "disease", "inputs": "scan", "n": 50, **options}
    with pytest.raises(ValueError, match=message):
        stress(worlds.scans(), predictor, **arguments)
