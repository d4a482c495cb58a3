from __future__ import annotations

import io
import json
import re
from typing import Any

import blobs
import numpy as np
import pytest
import torch
from PIL import Image as Picture

from rung3 import SCM, Categorical, Continuous, Image, Rows, worlds
from rung3.data.names import slug
from rung3.data.pictures import ACCENT, CURVES, signed
from rung3.evaluation import Oracles, Report, evaluate
from rung3.evaluation.measures.table import Cell, Table, with_units
from rung3.evaluation.report import pictures
from rung3.evaluation.report.tables import tables
from rung3.evaluation.report.values import effects_table, values_table
from rung3.mechanisms import Equation, InverseCDF

HISTORY = {"image": {"train": [3.0, 2.0, 1.5], "validation": [3.2, 2.1, 1.7]}, "position": [1, 0.9]}


@pytest.fixture(scope="module")
def report():
    world = blobs.world()
    return evaluate(
        blobs.scm(blobs.Latent(0.01)), world.sample(20, seed=0), world, oracles=Oracles({}),
        history=HISTORY, bootstrap=100, progress=False,
    )  # fmt: skip


def height(png: bytes) -> int:
    return Picture.open(io.BytesIO(png)).size[1]


def test_save_writes_numbers_page_and_pictures(report, tmp_path):
    path = report.save(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html"
    written = {file.name for file in path.parent.iterdir()}
    assert written == {
        "report.html", "metrics.json", "scores.safetensors", "examples.safetensors",
        "graph.png", "graph-do-position.png",
        "graph-do-brightness.png", "strip-do-position.png", "strip-do-brightness.png",
        "sweep-position.png", "sweep-brightness.png", "losses.png", "files.json",
    }  # fmt: skip
    assert json.loads((path.parent / "metrics.json").read_text()) == report.metrics
    for file in path.parent.glob("*.png"):
        Picture.open(file).verify()


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (2, 300)])
def test_flat_and_narrow_images_have_a_report(shape, tmp_path):
    equation = Equation(lambda t, u: 0.5 + 0 * t[:, None, None, None] + u / 4, "Uniform(0, 1)")
    rows, columns = shape
    kinds = {"scan": Image(1, rows, columns, bits=None)}
    world = SCM("t -> scan", kinds, {"t": Equation("u"), "scan": equation})
    report = evaluate(world, world.sample(4, seed=0), train=world.sample(9, seed=1),
                     oracles=Oracles({}), bootstrap=2, progress=False)  # fmt: skip
    report.save(tmp_path)
    assert height((tmp_path / "strip-do-t.png").read_bytes()) > 60


def ink(png: bytes, colour: str) -> int:
    """How many pixels are drawn in a colour."""
    image = np.array(Picture.open(io.BytesIO(png)).convert("RGBA")).reshape(-1, 4)
    pixels = torch.from_numpy(image).int()
    wanted = torch.tensor([int(colour[k : k + 2], 16) for k in (1, 3, 5)])
    return int(((pixels[:, :3] - wanted).abs().amax(1) < 12)[pixels[:, 3] > 200].sum())


def test_categories_whose_names_are_digits_are_swept_by_their_codes():
    equation = Equation(lambda t, u: t[:, None, None, None] / 2 + 0 * u, "Uniform(0, 1)")

    def sweep(kind):
        variables = {"t": kind, "scan": Image(1, 2, 2, bits=None)}
        mechanisms = {"t": InverseCDF(table=[0.2, 0.3, 0.5]), "scan": equation.clone()}
        world = SCM("t -> scan", variables, mechanisms, world="world")
        report = evaluate(world, world.sample(4, seed=0), oracles=Oracles({}), bootstrap=0,
                          progress=False)  # fmt: skip
        return torch.stack([answer["scan"] for answer in report.examples.sweeps[0].answers])

    assert torch.equal(sweep(Categorical(labels=("1", "2", "0"))), sweep(Categorical(3)))


def test_every_curve_of_losses_is_drawn(report):
    drawn = report.pictures()["losses"]
    assert ink(drawn, ACCENT) > 300  # the validation curve, and its line in the legend
    for k in range(1, 5):  # in one row and in two
        histories = {f"v{j}": {"a": [3.0, 2.0], "b": [2.0, 4.0]} for j in range(k)}
        assert ink(pictures.losses(histories), ACCENT) > 300 * k
    many = {"x": {str(j): [j, j + 1.0] for j in range(5)}}
    assert all(ink(pictures.losses(many), colour) > 300 for colour in CURVES)
    alone = pictures.losses({"x": {"training": [3.0], "validation": [2.0]}})
    without = pictures.losses({"x": {"training": [3.0], "validation": []}})
    assert ink(alone, ACCENT) > ink(without, ACCENT) + 10  # of one epoch, a dot


def test_what_is_saved_is_loaded(report, tmp_path):
    report.save(tmp_path)
    loaded = Report.load(tmp_path)
    assert loaded.metrics == report.metrics
    assert loaded.variables == report.variables
    assert loaded.graph.to_text() == report.graph.to_text()
    assert list(loaded.scores) == list(report.scores)
    for path in report.scores:
        assert torch.equal(loaded.scores[path], report.scores[path])
        assert loaded.scores.unit(path) == report.scores.unit(path)
    for name in ("strip-do-position", "graph-do-position"):
        assert loaded.pictures()[name] == report.pictures()[name]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", None, "holds no report: it has no metrics.json"),
        ("metrics.json", b"{", "metrics.json is truncated"),
        ("scores.safetensors", None, "has no scores.safetensors, as reports of older versions"),
        ("scores.safetensors", b"\0" * 20, "scores.safetensors is truncated"),
        ("examples.safetensors", b"", "examples.safetensors is truncated"),
    ],
)
def test_a_folder_that_is_no_whole_report_is_refused(report, tmp_path, name, content, message):
    report.save(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Report.load(tmp_path)


def test_rows_and_targets_have_digests_of_their_own(report):
    world = blobs.world()
    defaults: dict[str, Any] = {"oracles": Oracles({}), "bootstrap": 0, "progress": False}

    def digests(rows, **options):
        settings = evaluate(blobs.scm(blobs.Latent()), rows, **defaults, **options).metrics[
            "settings"
        ]
        return settings["digest of the rows"], settings["digests of the targets"]

    same = digests(world.sample(20, seed=0))
    assert same[0] == report.metrics["settings"]["digest of the rows"]
    assert same[1] == report.metrics["settings"]["digests of the targets"]
    assert digests(world.sample(20, seed=1))[0] != same[0]
    assert digests(world.sample(20, seed=0), n=19)[0] != same[0]
    other = digests(world.sample(20, seed=0), interventions={"position": 1.0, "brightness": 0.2})
    assert other[0] == same[0]
    assert all(other[1][label] != same[1][label] for label in same[1])


def test_the_page_needs_nothing_else(report, tmp_path):
    page = report.save(tmp_path).read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)|https?://|@import|url\(|<script""", page)
    assert page.count("data:image/png;base64,") == 8
    assert "prefers-color-scheme: dark" in page
    for text in ("Composition and reversibility", "do(brightness)", "rests? on", "Settings"):
        assert re.search(text.replace("(", r"\(").replace(")", r"\)"), page), text


def test_names_are_escaped_and_unusual_ones_make_good_file_names(tmp_path):
    name = "<b>dose & 1/2</b>"
    model = SCM(
        [(name, "y")],
        mechanisms={name: Equation("u"), "y": Named(name)},
        world="odd",
    )
    report = evaluate(model, model.sample(5, seed=0), model, bootstrap=0, progress=False)
    page = report.save(tmp_path).read_text()
    assert name not in page
    assert "&lt;b&gt;dose &amp; 1/2&lt;/b&gt;" in page
    assert (tmp_path / "graph-do-b-dose-1-2-b.png").is_file()
    assert slug("???") == "unnamed"


class Named(Equation):
    """`y := parent + u`, for a parent whose name is not an identifier."""

    def __init__(self, parent: str) -> None:
        super().__init__("u")
        self.parent = parent
        self.arguments = (parent,)

    def predict(self, noise, parents):
        return parents[self.parent] + noise

    def abduct(self, value, parents, particles=None, generator=None):
        noise = value - parents[self.parent]
        return noise if particles is None else noise.expand(particles, -1)


def test_truth_is_drawn_only_where_it_is_known(report):
    world = blobs.world()
    unknown = evaluate(
        blobs.scm(blobs.Latent()), world.sample(20, seed=0), oracles=Oracles({}),
        bootstrap=0, progress=False,
    )  # fmt: skip
    known = height(report.pictures()["strip-do-position"])
    assert known > height(unknown.pictures()["strip-do-position"]) + 200  # two bands of 120
    assert "truth" not in unknown.metrics
    assert not any("true" in table.title for table in tables(unknown.metrics))


def test_differences_are_on_a_fixed_scale_with_zero_in_its_middle():
    values = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).reshape(5, 1, 1, 1)
    colours = signed(values).reshape(5, 3)
    assert (colours[2] > 0.95).all()  # white
    assert colours[4, 0] > colours[4, 2]  # brighter is red
    assert colours[0, 2] > colours[0, 0]  # darker is blue
    torch.testing.assert_close(signed(0.5 * values)[1], signed(values * 0.5)[1])
    assert not torch.equal(signed(0.5 * values)[4], signed(values)[4])  # not stretched


def test_the_console_shows_every_table_with_intervals(report):
    text = str(report)
    for title in ("Against the true counterfactual", "Composition and reversibility", "Spread"):
        assert title in text
    assert re.search(r"\d to \d", text)
    assert "from z alone" in text
    assert "20 test rows" in text


def test_tables_print_the_floor_beside_every_score(report):
    metrics = {
        "effectiveness": {
            "image": {
                "factual": {"age": {"observed": {"mean": 1.0, "low": 0.5, "high": 2, "unit": "y"}}},
                "do(age)": {
                    "age": {
                        "kept": {"mean": 3.0, "low": None, "high": None, "unit": "y"},
                        "truth": {"mean": 1.5, "low": None, "high": None, "unit": "y"},
                    }
                },
            }
        }
    }
    table = tables(metrics)[0]
    assert table.columns == ["", "age, MAE y, oracle"]
    assert [name for name, _ in table.rows] == [
        "real test images (floor)", "do(age)", "do(age): the truth",
    ]  # fmt: skip
    assert [cells[0][:2] for _, cells in table.rows] == [
        ("1.000", "0.500 to 2.000"), ("3.000", ""), ("1.500", ""),
    ]  # fmt: skip


def test_a_table_of_numbers_has_no_strips(tmp_path):
    world = worlds.lecture()
    report = evaluate(world, world.sample(10, seed=0), world, bootstrap=10, progress=False)
    assert set(report.pictures()) == {"graph", "graph-do-x1"}
    assert "Against the true counterfactual" in report.save(tmp_path).read_text()


def test_a_notebook_shows_the_verdict_and_the_tables(report):
    html = report._repr_html_()
    assert html.startswith("<ul><li>")
    assert "<pre>" in html
    assert report.verdict.findings[0].text.split("'")[0] in html


def test_a_table_says_how_far_single_rows_move_where_ups_and_downs_cancel():
    equations = {"a": Equation("u"), "b": Equation("2*a + u")}
    model = SCM("a -> b", {"b": Continuous(unit="mm")}, equations)
    rows = Rows({"a": torch.tensor([-1.0, 1.0]), "b": torch.tensor([-1.5, 2.25])})
    turned = evaluate(
        model, rows, interventions={"a": lambda a: -a}, bootstrap=0, particles=2, progress=False
    )
    ((name, cells),) = effects_table(turned.metrics).rows
    assert (name, [cell.value for cell in cells]) == ("b under do(a)", ["0 mm", "4 mm"])
    shown = values_table(turned.examples.queries["do(a)"], model.variables)
    columns = dict(zip(shown.columns, zip(*shown.rows, strict=True), strict=False))
    assert columns["example"] == ("1", "2")
    assert [cells[1].value for _, cells in shown.rows] == ["-1.50 → 2.50", "2.25 → -1.75"]
    older = {key: part for key, part in turned.metrics.items() if key != "size of change"}
    assert effects_table(older).columns == ["", "mean change"]


def test_a_unit_stands_in_the_head_beside_bounds_too():
    cells = [Cell("-2.5 nats", "-3 to -2 nats"), Cell("at least -639.3 nats"), Cell("< 0.001 nats")]
    table = with_units(Table("", "", ["", "model"], [(str(k), [c]) for k, c in enumerate(cells)]))
    assert table.columns[1] == "model, nats"
    assert [row[0].value for _, row in table.rows] == ["-2.5", "at least -639.3", "< 0.001"]
