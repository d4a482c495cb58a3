"""The report in a browser: of a model of images, and of one of a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import Driver

from rung3 import SCM, Binary, Continuous, evaluate
from rung3.evaluation import Report
from rung3.scm.zoo import SHELF


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the model that rung3 holds, drawn again, with its losses."""
    place = SHELF / "digits"
    report = Report.load(place)
    report.history = json.loads((place / "history.json").read_text())
    report.run = "runs/small-digits"
    return report.save(tmp_path_factory.mktemp("images")).as_uri()


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> str:
    from rung3.mechanisms import Equation

    kinds = {"dose": Continuous(unit="mg"), "recovered": Binary(labels=("no", "yes"))}
    equations = {
        "age": Equation("50 + 10*u"), "dose": Equation("age/10 + u"),
        "pressure": Equation("120 - 4*dose + age/5 + 3*u"),
    }  # fmt: skip
    graph = "age -> dose; {age dose} -> pressure; pressure -> recovered"
    model = SCM(graph, kinds, equations).eval().requires_grad_(False)
    rows = model.sample(300, seed=0)
    interventions = {"dose": 9.0, "age": lambda age: age + 10}
    report = evaluate(model, rows[:60], train=rows[60:], interventions=interventions, seed=0)
    return report.save(tmp_path_factory.mktemp("numbers")).as_uri()


@pytest.fixture
def reader(browser: Any, width: int, scheme: str) -> Iterator[Driver]:
    driver = Driver(browser, width, scheme)
    yield driver
    driver.page.close()
    assert [fault for fault in driver.faults if not fault.startswith("file:")] == []


SIZES = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
@pytest.mark.parametrize("of", ["images", "numbers"])
def test_a_report_fits_its_window(
    reader: Driver, request: pytest.FixtureRequest, of: str, width: int, scheme: str
) -> None:
    page = reader.page
    page.goto(request.getfixturevalue(of))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".verdict").bounding_box()["y"] < 500
    pictures = page.locator("img")
    drawn = [pictures.nth(k).evaluate("e => e.naturalWidth") for k in range(pictures.count())]
    assert drawn
    assert min(drawn) > 100
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(21, 24, 28)") == (scheme == "dark")
    reader.shot(f"report-{of}-{width}-{scheme}")
    page.locator("table").last.scroll_into_view_if_needed()
    contents = page.locator("nav").bounding_box()
    assert 0 <= contents["y"] < 100


@pytest.mark.parametrize(("width", "scheme"), SIZES[:1])
def test_a_picture_is_saved_and_a_part_is_reached(reader: Driver, images: str) -> None:
    page = reader.page
    page.goto(images)
    with page.expect_download() as saved:
        page.locator("a[download='losses.png']").click()
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")
    page.locator("nav").get_by_text("Losses").click()
    assert 0 <= page.get_by_role("heading", name="Losses").bounding_box()["y"] < 300
