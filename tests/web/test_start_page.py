"""Where to begin and how to go back: the verdict, examples, surprises, undo, and full size."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from driving import Driver, served
from PIL import Image as Pictures

from rung3.evaluation.verdict import Finding, Verdict
from rung3.explorer import Opened, Session

VERDICT = Verdict(
    (
        Finding("learned", "yes", "It learned: image took 2,000 steps."),
        Finding("obeys", "no", "It does not obey.", "rung3 run RUN/study.yaml --set a=1", "fit()"),
    )
)


@pytest.fixture(scope="module")
def judged(trained: Opened) -> Iterator[str]:
    with served(Session([replace(trained, verdict=VERDICT)])) as address:
        yield address


def test_the_verdict_is_one_line_that_opens(page: Driver, judged: str) -> None:
    page.open(judged)
    summary = page.page.locator("#verdict summary")
    assert " ".join(summary.inner_text().split()) == "The model learned, does not obey ✓ ✗"
    assert not page.page.get_by_text("It does not obey.").is_visible()
    summary.click()
    assert page.page.get_by_text("It does not obey.").is_visible()
    page.shot("verdict")


def test_without_a_report_there_is_no_verdict(page: Driver, learned: str) -> None:
    page.open(learned)
    assert not page.page.locator("#verdict").is_visible()


def test_an_example_sets_a_real_change_and_undo_takes_it_back(page: Driver, learned: str) -> None:
    page.open(learned)
    assert page.page.locator("#undo").is_disabled()
    before = page.page.url
    chips = page.page.locator("#examples button")
    assert chips.count() == 4  # three causes, and a surprise
    page.after(chips.nth(0).click)
    assert page.picture("as it was") != page.picture("as it would have been")
    assert "intervened" in {page.status(name) for name in ("digit", "thickness", "intensity")}
    once = page.page.url
    page.after(chips.nth(1).click)
    page.after(page.page.locator("#undo").click)
    assert page.page.url == once
    page.after(page.page.locator("#undo").click)
    assert page.page.url.split("#")[0] == before.split("#")[0]
    assert page.page.locator("#undo").is_disabled()


def test_it_opens_on_a_real_change(page: Driver, learned: str) -> None:
    page.open(learned, plain=False)
    states = [page.status(name) for name in ("digit", "thickness", "intensity")]
    assert states.count("intervened") == 1
    assert page.picture("as it was") != page.picture("as it would have been")
    page.after(page.page.locator("#reset").click)
    assert "intervened" not in {page.status(name) for name in ("digit", "thickness", "intensity")}


def test_a_surprise_asks_of_some_row_and_cause(page: Driver, learned: str) -> None:
    page.open(learned)
    page.after(page.page.locator("#surprise").click)
    states = [page.status(name) for name in ("digit", "thickness", "intensity")]
    assert states.count("intervened") == 1


def test_a_click_on_a_binary_takes_the_other_value(page: Driver, table: str) -> None:
    page.open(table)
    before = page.value("recovered")
    page.click("recovered")
    assert page.value("recovered").split(" → ") == [before, {"no": "yes", "yes": "no"}[before]]


def test_a_picture_opens_in_full_size(page: Driver, learned: str) -> None:
    page.open(learned)
    page.page.locator("img[alt='image as it was']").first.click()
    large = page.page.locator("#large img")
    assert large.bounding_box()["width"] > 600
    large.click()
    assert not large.is_visible()


def test_the_swipe_opens_in_full_size(page: Driver, learned: str) -> None:
    page.open(learned)
    page.click("thickness")
    page.set("thickness", 4.2)
    page.page.get_by_role("button", name="swipe in full size").click()
    large = page.page.locator("#large .swipe")
    assert large.bounding_box()["width"] > 600
    page.page.locator("#large input[type=range]").fill("20")
    assert "20%" in large.locator("img").nth(1).evaluate("e => e.style.clipPath")
    page.shot("swipe")
    page.page.get_by_role("button", name="Close").click()
    assert not large.is_visible()


def test_whether_to_believe_it_is_a_line_that_opens_when_it_warns(
    page: Driver, learned: str
) -> None:
    page.open(learned)
    line, checks = page.page.locator("#trust"), page.page.locator("#checks")
    assert not line.is_visible()
    page.click("digit")
    page.after(lambda: page.node("digit", "select").select_option("1"))
    page.click("digit")
    page.click("thickness")
    typed = page.node("thickness", "input[type=number]")
    page.after(lambda: (typed.fill("9.5"), typed.press("Enter")))
    assert "outside the range of the training data" in line.inner_text()
    assert checks.get_attribute("open") is not None
    page.shot("warning", whole=True)
    page.after(lambda: (typed.fill("2.6"), typed.press("Enter")))
    assert "checks passed" in line.inner_text()
    assert checks.get_attribute("open") is None
    line.click()
    assert checks.get_attribute("open") is not None


def test_doing_shows_differences_with_intervals(page: Driver, table: str) -> None:
    page.open(table)
    page.click("dose")
    page.rung("Do")
    page.set("dose", 8)
    rows = page.page.locator("#pictures table tr").all_inner_texts()
    cells = {line.split("\t")[0]: line.split("\t") for line in rows}
    assert cells["variable"][3] == "difference"
    assert cells["age"][3] == "0"
    assert cells["pressure"][3].startswith("-")
    assert " to " in cells["pressure"][3]
    assert cells["recovered"][3].startswith("yes ")
    page.shot("do-differences", whole=True)


def test_models_stand_side_by_side(page: Driver, digits: str) -> None:
    page.open(digits)
    one, two = (page.page.locator(".model").nth(k).bounding_box() for k in range(2))
    assert one["y"] == two["y"]
    assert two["x"] > one["x"]
    page.shot("columns")


def test_a_picture_of_another_size_is_fitted_with_consent(page: Driver, learned: str) -> None:
    page.open(learned)
    levels = np.zeros((60, 90), np.uint8)
    levels[10:50, 40:48] = 255
    file = io.BytesIO()
    Pictures.fromarray(levels).save(file, "PNG")
    page.page.locator("#own").click()
    given = {"name": "one.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.page.locator("#file").set_input_files(given)
    assert not page.page.locator("#fit").is_visible()
    page.page.locator("#take").click()
    page.page.get_by_text("90x60 pixels, expected 32x32").wait_for()
    page.after(page.page.locator("#fit").click)
    shown = base64.b64decode(page.picture("as it was").partition(",")[2])
    assert Pictures.open(io.BytesIO(shown)).size == (32, 32)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_the_picture_stays_in_sight(browser: Any, judged: str, scheme: str) -> None:
    phone = Driver(browser, width=400, scheme=scheme)
    phone.open(judged)
    phone.click("thickness")
    phone.node("thickness", "input[type=range]").scroll_into_view_if_needed()
    phone.page.mouse.wheel(0, 300)
    box = phone.page.locator("img[alt='image as it was']").first.bounding_box()
    assert 0 <= box["y"] < 450
    phone.shot(f"phone-{scheme}", whole=True)
    phone.page.close()
    assert phone.faults == []
