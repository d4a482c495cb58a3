"""Which mechanisms changed: calibrated where none did, and right about which one where one did."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from rung3 import Binary, Categorical, CausalGraph, Image, worlds
from rung3.evaluation.tasks import Kind, changes, shifted

Draw = Callable[[int, Tensor, Tensor], dict[str, Tensor]]
"""Rows of `a` and `x`, given how far `a` moves, and noise `(4, n)`."""


def step(shift: float, e: Tensor) -> Tensor:
    return (e[0] > 0.5 - shift).long()


# In each the parents move between the data sets, and the mechanism of x is the same in both.
SAME: dict[str, tuple[str, Callable[[float, Tensor], dict[str, Tensor]]]] = {
    "without parents": ("x", lambda s, e: {"x": e[0]}),
    "linear": ("a -> x", lambda s, e: {"a": e[0] + s, "x": e[0] + s + e[1]}),
    "little noise": ("a -> x", lambda s, e: {"a": e[0] + s, "x": e[0] + s + 0.05 * e[1]}),
    "curved, uneven noise": (
        "a -> x",
        lambda s, e: {"a": e[0] + s, "x": torch.sin(2 * (e[0] + s)) + 0.3 * (e[0] + s) * e[1]},
    ),
    "two parents that interact": (
        "{a b} -> x",
        lambda s, e: {"a": e[0] + s, "b": e[1], "x": (e[0] + s) * e[1] + e[2]},
    ),
    "categories": (
        "a -> x",
        lambda s, e: {"a": step(s, e), "x": (e[1] > 0.8 - step(s, e)).long()},
    ),
    "both kinds of parents": (
        "{a b} -> x",
        lambda s, e: {"a": step(s, e), "b": e[1], "x": (2 * step(s, e) - 1) * e[1] + e[2]},
    ),
}


def p_values(case: str, count: int, n: int) -> Tensor:
    text, draw = SAME[case]
    graph = CausalGraph(text, nodes=["x"]) if "->" in text else CausalGraph(nodes=["x"])
    values = []
    for seed in range(count):
        noise = torch.randn(2, 4, n, generator=torch.Generator().manual_seed(seed))
        source, target = draw(0.0, noise[0]), draw(0.8, noise[1])
        tested = changes(source, target, graph, seed=seed)
        values += [one.p for one in tested if one.variable == "x"]
    return torch.tensor(values)


@pytest.mark.slow
@pytest.mark.parametrize("case", SAME)
def test_false_alarms_are_as_rare_as_they_should_be(case: str) -> None:
    """400 pairs of data sets: at 5 %, 20 alarms, with a standard error of 4.4."""
    p = p_values(case, 400, 300)
    assert 7 <= int((p < 0.05).sum()) <= 36
    assert int((p < 0.01).sum()) <= 12


@pytest.mark.parametrize("case", ["linear", "categories"])
def test_p_values_are_uniform_where_nothing_changed(case: str) -> None:
    assert stats.kstest(p_values(case, 60, 200).numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("kind", "label", "changed"),
    [("population", "disease", "age"), ("prevalence", "disease", "disease"),
     ("manifestation", "disease", "lesion"), ("acquisition", "disease", "scan"),
     ("annotation", "mark", "mark")],
)  # fmt: skip
def test_the_mechanism_that_changed_is_named_and_no_other(
    kind: Kind, label: str, changed: str
) -> None:
    world = worlds.scans()
    other = shifted(world, kind, label, "scan", size=0.5)
    findings = changes(world.sample(1000, seed=0), other.sample(1000, seed=1), world.graph)
    assert [one.variable for one in findings if one.changed] == [changed]
    (named,) = (one for one in findings if one.changed)
    assert str(named).startswith(f"P({changed}")


@pytest.mark.parametrize(
    "alter",
    [
        lambda a, e: 2 * e,  # spread
        lambda a, e: torch.where(a > 0, a + e, -a + e),  # slope, in a part
        lambda a, e: a + e.sign(),  # shape alone: mean and variance stay
    ],
)
def test_changes_of_any_kind_are_seen(alter: Callable[[Tensor, Tensor], Tensor]) -> None:
    noise = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))
    source = {"a": noise[0], "x": noise[0] + noise[1]}
    target = {"a": noise[2] + 0.5, "x": alter(noise[2] + 0.5, noise[3])}
    by_name = {one.variable: one for one in changes(source, target, CausalGraph("a -> x"))}
    assert by_name["x"].adjusted < 1e-3


def test_a_change_of_images_is_seen_and_their_parents_is_not_taken_for_one() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(shift: float, blur: float) -> dict[str, Tensor]:
        size = torch.randn(400, generator=generator) + shift
        place = torch.linspace(-1, 1, 12)
        r2 = place[:, None] ** 2 + place**2
        disk = torch.sigmoid((0.5 + 0.1 * size[:, None, None] - r2) / blur)
        noise = 0.1 * torch.rand(400, 12, 12, generator=generator)
        return {"size": size, "image": (0.9 * disk + noise)[:, None]}

    graph = CausalGraph("size -> image")
    kinds = {"image": Image(1, 12, 12, bits=None)}
    same = changes(draw(0, 0.1), draw(0.5, 0.1), graph, variables=kinds)
    assert [one.changed for one in same] == [True, False]
    other = changes(draw(0, 0.1), draw(0, 0.2), graph, variables=kinds)
    assert [one.changed for one in other] == [False, True]


def test_a_category_that_one_data_set_lacks_is_a_change() -> None:
    source = {"x": torch.arange(300) % 2}
    target = {"x": torch.arange(300) % 3}
    (findings,) = changes(source, target, CausalGraph(nodes=["x"]))
    assert findings.changed


def test_a_variable_that_never_varies_has_not_changed() -> None:
    table = {"x": torch.zeros(100), "y": torch.randn(100)}
    findings = changes(table, table, CausalGraph("x -> y"))
    assert (findings[0].p, findings[0].changed) == (1.0, False)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ({"y": [0.0] * 50}, {}, "lacks a column: unknown variable 'x'"),
        ({"x": [0.0] * 5}, {"most": 2}, "x: 4 rows are too few to test its mechanism"),
        ({"x": [0.5] * 50}, {"level": 2.0}, "level: expected a number between 0 and 1"),
        ({"x": [0.5] * 50}, {"variables": {"x": Binary()}}, "x: 0.5 is not a category"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    target: dict[str, list[float]], options: dict[str, object], message: str
) -> None:
    source = {"x": torch.arange(50.0) % 2}
    with pytest.raises(ValueError, match=message):
        changes(source, target, CausalGraph(nodes=["x"]), **options)  # type: ignore[arg-type]


def test_readings_of_two_data_sets_are_joined() -> None:
    source, target = {"x": [0, 1] * 50}, {"x": [0, 1, 4, 4] * 25}
    (findings,) = changes(source, target, CausalGraph(nodes=["x"]), variables={"x": Categorical(5)})
    (read,) = changes(source, target, CausalGraph(nodes=["x"]))
    assert findings == read


def test_rows_with_gaps_are_left_out_and_counted() -> None:
    world = worlds.lecture()
    before, after = dict(world.sample(300, seed=0)), dict(world.sample(300, seed=1))
    gappy = dict(before) | {"x2": before["x2"].clone()}
    gappy["x2"][:30] = torch.nan
    findings = changes(gappy, after, world.graph)
    whole = changes({k: v[30:] for k, v in before.items()}, after, world.graph)
    assert [one.p for one in findings] == [one.p for one in whole]
    assert [one.gaps for one in findings] == [30, 30]
    assert str(findings[0]).endswith("; 30 rows with gaps left out")
