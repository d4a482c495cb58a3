"""The page about one row in headless Chromium: backtracking, and what a predictor says of it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from driving import Driver, served
from typer.testing import CliRunner

from rung3.cli import app
from rung3.data.pictures import image_png, uri
from rung3.explorer import Session, open_runs


def test_backtracking_moves_what_leads_to_it_and_cuts_nothing(page: Driver, learned: str) -> None:
    page.open(learned)
    page.fill("row", 2)
    page.click("intensity")
    page.set("intensity", 90)
    thickness, broken = page.value("thickness"), page.picture("as it would have been")
    assert page.arrows("cut") == {"thickness>intensity"}
    page.rung("Backtrack")
    assert page.arrows("cut") == set()
    assert page.status("intensity") == "antecedent"
    assert page.value("intensity").endswith("90 grey level")
    assert page.status("thickness") == "moved"
    assert page.value("thickness").startswith(thickness.split()[0])
    assert "→" in page.value("thickness")
    assert page.status("digit") == "observed"
    assert page.status("image") == "propagated"
    assert "standard deviations" in page.node("thickness", ".note").inner_text()
    question = page.page.locator("#question").inner_text()
    assert "row 2 with intensity = 90 grey level; the noise moves by" in question
    assert page.picture("by intervention") == broken
    assert page.picture("as it would have been") != broken
    page.page.locator(".truth:not(.waiting)").wait_for()
    assert page.page.locator(".node[data-name=thickness]").inner_text().count("truth") == 1
    page.shot("backtrack")


def test_backtracking_has_checks_draws_undo_and_a_link(page: Driver, learned: str) -> None:
    page.open(learned)
    page.rung("Backtrack")
    page.click("thickness")
    page.set("thickness", 2)
    assert "noise of thickness moves by" in page.unfold("checks").inner_text()
    assert page.page.locator("#trust").is_visible()
    nearest = page.picture("as it would have been")
    page.fill("particles", 3)
    assert page.page.locator(".draws img").count() == 3
    address, mean = page.page.url, page.picture("as it would have been")
    page.after(page.page.locator("#undo").click)
    assert page.picture("as it would have been") == nearest
    page.open(address)
    assert page.page.locator("[value=backtracking]").is_checked()
    assert page.picture("as it would have been") == mean


def test_what_no_noise_gives_is_said(page: Driver, bow: str, table: str) -> None:
    page.open(bow)
    page.rung("Backtrack")
    page.click("y")
    assert "hidden common causes share" in page.message()
    assert "stale" in page.page.locator("#pictures").get_attribute("class")
    page.open(table)
    page.rung("Backtrack")
    page.click("pressure")
    page.set("pressure", 110)
    heads = page.page.locator("#pictures th").all_inner_texts()
    assert heads == ["variable", "was", "would have been", "by intervention", "status"]
    for part in ("effects", "sweep"):
        assert "choose 'Imagine'" in page.unfold(part).inner_text()


def test_copied_code_backtracks(
    browser: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with served(Session(*open_runs([run]))) as address:
        page = Driver(browser)
        page.open(address)
        page.rung("Backtrack")
        page.click("intensity")
        page.set("intensity", 120)
        shown = page.picture("as it would have been")
        python, command = page.unfold("code").locator("pre").all_inner_texts()[:2]
        page.page.close()
    spaces: dict[str, Any] = {}
    exec(compile(python, "copied", "exec"), spaces)
    assert uri(image_png(spaces["after"]["image"])) == shown
    assert "--backtrack" in command
    result = CliRunner().invoke(app, [*shlex.split(command)[1:], "--out", "command.png"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "command.png").is_file()


def test_a_predictor_says_why(page: Driver, judged: str, learned: str) -> None:
    page.open(judged)
    page.fill("row", 2)
    said = page.page.locator(".says")
    assert "→" not in said.inner_text()
    explain = page.unfold("explain")
    assert "Why does models:bright say so?" in page.page.locator("#explain summary").inner_text()
    rows = explain.locator(".reasons tr")
    assert "do(" in rows.first.inner_text()
    assert explain.locator("th", has_text="through intensity").count() == 2
    assert explain.locator(".extent.whole").count() == 6
    change = float(rows.first.locator("td").first.inner_text().replace("−", "-"))
    before = float(said.inner_text().split("says ")[1].split(";")[0])
    page.after(rows.first.locator("button").click)
    after = float(said.inner_text().split("→ ")[1].split(";")[0])
    assert after - before == pytest.approx(change, abs=0.01)
    assert len(page.page.locator(".node.intervened").all()) == 1
    assert "necessary" in explain.inner_text()
    assert "The decision flips with" in explain.inner_text()
    page.shot("explain", whole=True)
    page.rung("Do")
    assert "in the mean" in said.inner_text()
    assert "choose 'Imagine'" in page.unfold("explain").inner_text()
    page.open(learned)
    assert page.page.locator("#explain").is_hidden()
    assert page.page.locator(".says").count() == 0


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_of_it_is_wider_than_the_window(browser: Any, judged: str, width: int) -> None:
    page = Driver(browser, width)
    page.open(judged)
    page.rung("Backtrack")
    page.click("intensity")
    for part in ("explain", "checks", "code"):
        page.unfold(part)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.faults == []
    page.page.close()
