"""Models side by side: paired differences, ties, refusals, and the page."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import blobs
import pytest
import torch
from PIL import Image as Picture
from rich.console import Console

from rung3 import Continuous, worlds
from rung3.data.provenance import Provenance
from rung3.data.rows import Rows
from rung3.evaluation import Oracles, Report, compare, evaluate
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.examples import Example, Examples
from rung3.evaluation.measures.calibration import crps
from rung3.evaluation.report.comparison_page import lines
from rung3.evaluation.scores import Scores, put
from rung3.graph import CausalGraph
from rung3.mechanisms import Equation

ROWS = 200
DRIFT = ("composition", "x", "kept", "1")
ERROR = ("truth", "do(a)", "x", "kept", "error")
NOTHING = (*ERROR[:3], "doing nothing", "error")
SKILL = (*ERROR[:4], "skill")


def report_of(
    scores: dict[tuple[str, ...], torch.Tensor],
    units: dict[tuple[str, ...], str] | None = None,
    set_to: float = 1.0,
    **settings: Any,
) -> Report:
    """A report of these scores, `(n,)` under each path."""
    resampled = Bootstrap(ROWS, settings.get("resamples", 200))
    by_path = Scores()
    for path, values in scores.items():
        by_path.add(path, values, (units or {}).get(path, "px"))
    metrics = by_path.summary(resampled)
    if ERROR in scores:
        put(metrics, SKILL, resampled.skill(scores[ERROR], scores[NOTHING]))
    metrics["model"], metrics["speed"] = ["SCM"], {"per second": None}
    metrics["settings"] = {
        "rows": ROWS, "rows left out for missing values": 0, "seed": 0, "resamples": 200,
        "world": None, "digest of the rows": "a", "digests of the targets": {"do(a)": "b"},
    } | settings  # fmt: skip
    variables = {"a": Continuous(), "x": Continuous(unit="px")}
    provenance = Provenance("imagining", {"a": "intervened", "x": "propagated"})
    shown = {"a": torch.full((2,), set_to), "x": torch.zeros(2)}
    answers = {mode: Rows(shown, provenance=provenance) for mode in ("kept", "latent")}
    examples = Examples({"do(a)": Example(Rows(shown), answers, None)})
    return Report(metrics, CausalGraph("a -> x"), variables, examples, {}, by_path)


def entry(reports: dict[str, Report], path: tuple[str, ...] = DRIFT) -> dict[str, Any]:
    return compare(reports).entries[path]


def test_what_is_hard_for_both_cancels() -> None:
    hard = 10 * torch.rand(ROWS)
    one, two = hard + 0.01 * torch.randn(ROWS), hard + 0.1 + 0.01 * torch.randn(ROWS)
    row = entry({"one": report_of({DRIFT: one}), "two": report_of({DRIFT: two})})
    a, b = row["runs"]["one"], row["runs"]["two"]
    assert a["high"] > b["low"]  # the intervals overlap
    assert row["best"] == ["one"]
    difference = row["differences"]["two"]
    assert difference["mean"] == pytest.approx(float((two - one).mean()), abs=1e-5)
    assert 0.09 < difference["low"] < difference["high"] < 0.11
    assert "one" not in row["differences"]


def test_who_cannot_be_told_apart_from_the_best_is_best_too() -> None:
    one = torch.rand(ROWS)
    tied, worse = one + 0.1 * torch.randn(ROWS), one + 0.5
    row = entry(
        {
            "one": report_of({DRIFT: one}),
            "tied": report_of({DRIFT: tied}),
            "w": report_of({DRIFT: worse}),
        }
    )
    assert set(row["best"]) == {"one", "tied"}
    assert row["better"] == "lower"


def test_skills_differ_by_the_difference_of_skills_with_rows_resampled_together() -> None:
    nothing = 1 + torch.rand(ROWS)
    one, two = 0.2 * nothing, 0.3 * nothing
    reports = {
        "two": report_of({ERROR: two, NOTHING: nothing}),
        "one": report_of({ERROR: one, NOTHING: nothing}),
    }
    row = entry(reports, SKILL)
    assert row["best"] == ["one"]
    assert row["better"] == "higher"
    for key in ("mean", "low", "high"):  # the ratio of errors is the same in every resample
        assert row["differences"]["two"][key] == pytest.approx(-0.1, abs=1e-5)
    assert NOTHING not in compare(reports).entries


@pytest.mark.parametrize(
    ("path", "unit", "best"),
    [
        (("effectiveness", "x", "do(a)", "a", "kept"), "px", ["low"]),
        (("effectiveness", "x", "do(a)", "a", "kept"), "accuracy", ["high"]),
        (("effectiveness", "x", "factual", "a", "observed"), "px", []),
        (("reversibility", "do(a)", "x", "kept", "1"), "px", ["low"]),
        (("log_prob", "x", "model"), "nats", ["high"]),
        (("spread", "do(a)", "x"), "px", []),
        (("truth", "do(a)", "x", "kept", "ssim"), "", ["high"]),
        (("calibration", "do(a)", "x", "crps"), "px", ["low"]),
        (("calibration", "do(a)", "x", "coverage 50%"), "", []),
        (("something", "new"), "", []),
    ],
)
def test_each_metric_knows_what_is_better(path: Any, unit: str, best: list[str]) -> None:
    low, high = torch.full((ROWS,), 0.1), torch.full((ROWS,), 0.9)
    reports = {
        name: report_of({path: values}, {path: unit})
        for name, values in (("low", low), ("high", high))
    }
    assert entry(reports, path)["best"] == best


@pytest.mark.parametrize(
    "path",
    [
        ("truth", "do(a)", "x", "doing nothing", "error"),
        ("truth", "do(a)", "x", "rescaling", "error"),
        ("effectiveness", "x", "do(a)", "a", "truth"),
        ("log_prob", "x", "world"),
    ],
)
def test_what_is_no_models_is_not_compared(path: Any) -> None:
    scores = {DRIFT: torch.rand(ROWS), path: torch.rand(ROWS)}
    assert list(compare({"one": report_of(scores), "two": report_of(scores)}).entries) == [DRIFT]


def test_what_a_run_lacks_is_a_dash_and_takes_part_in_nothing() -> None:
    other = (*DRIFT[:3], "10")
    reports = {
        "one": report_of({DRIFT: torch.rand(ROWS)}),
        "two": report_of({DRIFT: torch.rand(ROWS), other: torch.rand(ROWS)}),
    }
    row = entry(reports, other)
    assert row["runs"]["one"] is None
    assert row["best"] == ["two"]
    assert row["differences"] == {}
    line = next(line for line in str(compare(reports)).splitlines() if "10 times" in line)
    assert line.split("\N{DOWNWARDS ARROW}")[1].split()[0] == "\N{EN DASH}"


def test_plain_numbers_stand_beside_the_others_and_none_is_best() -> None:
    reports = {name: report_of({DRIFT: torch.rand(ROWS)}) for name in ("one", "two")}
    for n, report in enumerate(reports.values(), 5):
        report.metrics["realism"] = {"x": {"do(a)": {"kept": {"fid": n, "note": "words"}}}}
    row = entry(reports, ("realism", "x", "do(a)", "kept", "fid"))
    assert [run["mean"] for run in row["runs"].values()] == [5, 6]
    assert row["best"] == []
    assert row["differences"] == {"two": None}


def test_a_difference_of_arithmetic_is_none() -> None:
    reports = {
        "one": report_of({DRIFT: torch.zeros(ROWS), (*DRIFT[:3], "10"): torch.full((ROWS,), 20.0)}),
        "two": report_of({DRIFT: torch.full((ROWS,), 1e-6), (*DRIFT[:3], "10"): torch.rand(ROWS)}),
    }
    assert entry(reports)["best"] == ["one", "two"]
    assert entry(reports, (*DRIFT[:3], "10"))["best"] == ["two"]


def test_rows_without_a_number_are_left_out_of_both() -> None:
    one, two = torch.rand(ROWS), torch.rand(ROWS)
    reports = {"one": report_of({DRIFT: one}), "two": report_of({DRIFT: two})}
    reports["two"].scores = Scores()
    two[:50] = torch.nan
    reports["two"].scores.add(DRIFT, two, "px")
    difference = compare(reports).difference(DRIFT, "one", "two")
    assert difference is not None
    assert difference["mean"] == pytest.approx(float((one - two)[50:].mean()), abs=1e-6)


def test_without_resamples_there_is_one_best_unless_they_are_alike() -> None:
    one = torch.rand(ROWS)
    values = {"one": one, "near": one + 1e-3 * torch.rand(ROWS), "same": one.clone()}
    reports = {name: report_of({DRIFT: value}, resamples=0) for name, value in values.items()}
    assert entry(reports)["best"] == ["one", "same"]
    assert entry(reports)["differences"]["near"]["low"] is None


ONE = report_of({DRIFT: torch.linspace(0, 1, ROWS)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world": "digits"}, "two cannot be compared with one: world: 'digits', not None"),
        ({"rows": 100}, "rows: 100, not 200"),
        ({"other parents": "held"}, "other parents: 'held', not None"),
        ({"digest of the rows": "z"}, "its test rows are others"),
        ({"digests of the targets": {"do(b)": "b"}}, r"it was asked do\(b\), not do\(a\)"),
        ({"digests of the targets": {}}, r"it was asked nothing, not do\(a\)"),
        ({"digests of the targets": {"do(a)": "z"}}, r"do\(a\) sets other values"),
        ({"set_to": 2.0}, r"do\(a\) sets other values"),
    ],
)
def test_runs_that_were_not_asked_the_same_are_refused(changes: Any, message: str) -> None:
    other = report_of({DRIFT: torch.linspace(0, 1, ROWS)}, **changes)
    with pytest.raises(ValueError, match=message):
        compare({"one": ONE, "two": other})


def test_other_variables_are_refused() -> None:
    other = report_of({DRIFT: torch.rand(ROWS)})
    other.variables["x"] = Continuous(unit="mm")
    with pytest.raises(ValueError, match=r"its variable x is Continuous\(unit='mm'\), not"):
        compare([ONE, other])
    del other.variables["x"]
    with pytest.raises(ValueError, match="its variable x is missing"):
        compare([ONE, other])


def test_a_single_run_none_and_the_same_twice_are_refused(tmp_path: Any) -> None:
    alone: Any
    for alone in ([ONE], ONE):
        with pytest.raises(ValueError, match="expected two runs or more, got report 1"):
            compare(alone)
    with pytest.raises(ValueError, match="expected two runs or more, got none"):
        compare([])
    with pytest.raises(ValueError, match="is given twice"):
        compare([tmp_path, tmp_path])
    with pytest.raises(ValueError, match=r"holds no report: it has no metrics.json"):
        compare([tmp_path / "nowhere", tmp_path])


def test_other_oracles_are_told_and_the_same_are_not() -> None:
    floor = ("effectiveness", "x", "factual", "a", "observed")
    values = torch.rand(ROWS)
    reports = [
        report_of({floor: values}),
        report_of({floor: values}),
        report_of({floor: values + 0.1}),
    ]
    assert compare(reports[:2]).notes == []
    (note,) = compare(reports).notes
    assert "a is read off the x by oracles that are not the same in all runs" in note


def test_lines_that_are_the_same_in_all_runs_are_gathered_in_a_note() -> None:
    same = ("log_prob", "a", "model")
    fixed = torch.rand(ROWS)
    comparison = compare(
        [report_of({DRIFT: torch.rand(ROWS), same: fixed}, {same: "nats"}) for _ in range(2)]
    )
    assert [line.section for line in lines(comparison)] == ["Composition"]
    assert "The same in all runs: a, nats" in str(comparison)


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    world = blobs.world()
    rows = world.sample(20, seed=0)
    models = {
        "sharp": blobs.Latent(0.01),
        "<blurred> & more": blobs.Latent(0.1),
        "right": Equation(blobs.right, noise="Uniform(0, 1)"),
    }
    return {
        name: evaluate(
            blobs.scm(mechanism), rows, world, oracles=Oracles({}), bootstrap=50, progress=False
        )
        for name, mechanism in models.items()
    }


def test_models_of_images_rank_as_they_must(reports: dict[str, Report]) -> None:
    scores = compare(reports).metrics["truth"]["do(position)"]["image"]
    assert scores["kept"]["skill"]["best"] == ["right"]
    assert scores["latent"]["error"]["best"] == ["sharp"]
    assert scores["latent"]["error"]["runs"]["right"] is None


def test_the_page_needs_nothing_else_and_escapes_names(
    reports: dict[str, Report], tmp_path: Any
) -> None:
    path = compare(reports).save(tmp_path / "new" / "folder")
    written = {file.name for file in path.parent.iterdir()}
    pictures = {
        f"beside-do-{n}-{m}.png" for n in ("position", "brightness") for m in ("kept", "latent")
    }
    assert written == {"comparison.html", "comparison.json"} | pictures
    text = path.read_text("utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:)|https?://|@import|url\(|<script""", text)
    assert text.count("data:image/png;base64,") == 4
    assert "<blurred>" not in text
    assert "&lt;blurred&gt; &amp; more" in text
    assert "of their difference holds 0" in text
    numbers = json.loads((path.parent / "comparison.json").read_text())
    assert numbers == compare(reports).metrics


def test_the_same_rows_are_shown_under_each_model(reports: dict[str, Report]) -> None:
    def height(names: list[str]) -> int:
        drawn = compare({name: reports[name] for name in names}).pictures()
        return int(Picture.open(io.BytesIO(drawn["beside-do-position-kept"])).size[1])

    three, two = height(list(reports)), height(["sharp", "right"])
    cell = round(128 / blobs.SIZE) * blobs.SIZE
    assert 2 * cell < three - two < 2 * cell + 40  # an answer and its error


def test_folders_are_named_by_what_tells_them_apart(
    reports: dict[str, Report], tmp_path: Any
) -> None:
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    for folder, report in zip(folders, reports.values(), strict=False):
        report.save(folder)
    comparison = compare(folders)
    assert list(comparison.reports) == ["a/run", "b/run"]
    there = compare({"a/run": reports["sharp"], "b/run": reports["<blurred> & more"]})
    assert comparison.metrics == there.metrics
    assert comparison.pictures() == there.pictures()


def test_functions_that_set_other_values_are_told_apart() -> None:
    world = worlds.lecture()
    rows = world.sample(20, seed=0)

    def report_under(change: float) -> Report:
        do = {"x1": lambda x1: x1 + change}
        return evaluate(world, rows, world, interventions=do, bootstrap=0, progress=False)

    with pytest.raises(ValueError, match=r"do\(x1\) sets other values"):
        compare([report_under(1.0), report_under(2.0)])
    assert compare([report_under(1.0), report_under(1.0)]).metrics["truth"]


def test_the_table_fits_eighty_columns_and_has_intervals_where_there_is_room() -> None:
    names = [f"beta={value}" for value in (0.25, 1, 4, 16)]
    comparison = compare(
        {name: report_of({DRIFT: k + torch.rand(ROWS)}) for k, name in enumerate(names)}
    )

    def printed(width: int) -> list[str]:
        out = io.StringIO()
        Console(file=out, width=width, color_system=None).print(comparison)
        return out.getvalue().splitlines()

    narrow, wide = printed(80), printed(160)
    assert max(map(len, narrow)) <= 80
    heads = next(line for line in narrow if "Composition" in line)
    assert heads.split() == ["Composition", *names]
    assert any("\N{GREEK CAPITAL LETTER DELTA} +1.0" in line for line in narrow)
    mean = comparison.entries[DRIFT]["runs"]["beta=4"]
    interval = f"{mean['low']:.2f} to {mean['high']:.2f}"
    assert not any(interval in line for line in narrow)
    assert any(interval in line for line in wide)


CRPS = ("calibration", "do(a)", "x", "crps")
AVERAGED = (*ERROR[:3], "averaged", "error")


def test_an_honest_posterior_is_not_beaten_by_a_point_nor_by_more_draws() -> None:
    """Truth N(0, 1) a row: two honest clouds, of 8 and of 64 draws, and the certain answer 0."""
    nothing, cases = 3 * torch.ones(ROWS), {}
    for name, particles in (("honest", 8), ("more", 64), ("certain", 8)):
        true = torch.randn(ROWS, generator=torch.Generator().manual_seed(0))
        draws = torch.randn(particles, ROWS, generator=torch.Generator().manual_seed(particles))
        draws = 0 * draws if name == "certain" else draws
        scores = {
            ERROR: (draws[0] - true).abs(),
            AVERAGED: (draws.mean(0) - true).abs(),
            CRPS: crps(Continuous(), draws, true),
            NOTHING: nothing,
        }
        report = report_of(scores, particles=particles)
        skill = Bootstrap(ROWS, 200).skill(scores[CRPS], nothing)
        put(report.metrics, (*CRPS[:-1], "crps skill"), skill)
        cases[name] = report
    pair = compare({k: cases[k] for k in ("honest", "certain")})
    assert pair.entries[ERROR]["best"] == ["certain"]  # a single draw is punished for its honesty
    skill = pair.entries[*CRPS[:-1], "crps skill"]
    assert skill["best"] == ["honest"]
    assert skill["differences"]["certain"]["high"] < 0
    assert pair.entries[AVERAGED]["better"] == "lower"
    assert not any("particles" in note for note in pair.notes)
    first = lines(pair)[0]
    assert first.section == "Against the true counterfactual"
    assert first.name.startswith("CRPS")

    unequal = compare({k: cases[k] for k in ("honest", "more")})
    assert unequal.entries[AVERAGED]["better"] is None
    assert unequal.entries[AVERAGED]["best"] == []
    assert set(unequal.entries[*CRPS[:-1], "crps skill"]["best"]) == {"honest", "more"}
    assert any("particles: honest 8, more 64" in note for note in unequal.notes)
    assert "are not ranked" in str(unequal)
