"""The page in headless Chromium: every behaviour once. Run by `make test-web`.

The same run draws the screenshots of docs/explorer/, where RUNG3_SCREENSHOTS names that folder.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rung3 import SCM, worlds
from rung3.evaluation.oracles import fit_oracles
from rung3.explorer import Opened, Session
from rung3.mechanisms import VAE, Equation

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
uvicorn = pytest.importorskip("uvicorn", reason="needs rung3[web]")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs chromium", allow_module_level=True)


def _served(session: Session) -> Iterator[str]:
    from rung3.explorer.server import application

    server = uvicorn.Server(uvicorn.Config(application(session), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(5)


@pytest.fixture(scope="module")
def digits() -> Iterator[str]:
    world = worlds.digits()
    rows = world.sample(40, seed=1)
    torch.manual_seed(0)
    vae = SCM(world.graph, world.variables, {"image": VAE(latent=2, width=4, depth=1)}).eval()
    oracles = fit_oracles(vae, rows, epochs=1, width=4, progress=False)
    models = [Opened("world", world, rows, world, oracles), Opened("vae", vae, rows, world)]
    yield from _served(Session(models, {"runs/lost": "it has no study.yaml"}))


@pytest.fixture(scope="module")
def learned() -> Iterator[str]:
    """A model alone: a world does not know the noise of an image of one's own."""
    world = worlds.digits()
    rows = world.sample(40, seed=1)
    torch.manual_seed(0)
    vae = SCM(world.graph, world.variables, {"image": VAE(latent=2, width=4, depth=1)}).eval()
    oracles = fit_oracles(vae, rows, epochs=1, width=4, progress=False)
    yield from _served(Session([Opened("vae", vae, rows, world, oracles)]))


@pytest.fixture(scope="module")
def table() -> Iterator[str]:
    model = SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("3*x + 5*m + u"))
    yield from _served(Session([Opened("chain", model, model.sample(400, seed=0))]))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    made = browser.new_page(bypass_csp=True, viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    made.on("pageerror", lambda error: faults.append(str(error)))
    made.on(
        "request",
        lambda r: "127.0.0.1" in r.url or r.url.startswith("data:") or faults.append(r.url),
    )
    yield made
    made.close()
    assert faults == []  # no error in the page, no request to elsewhere


def _open(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_function("document.body.dataset.settled !== undefined")


def _after(page: Any, act: Any) -> None:
    """Do something, and wait until the page has answered it."""
    before = int(page.evaluate("document.body.dataset.settled"))
    act()
    page.wait_for_function(f"Number(document.body.dataset.settled) > {before}")


def _status(page: Any, name: str) -> str:
    return str(page.locator(f".node[data-name={name}] .status").first.inner_text())


def _picture(page: Any, title: str) -> str:
    return str(page.locator(f"img[alt='image {title}']").first.get_attribute("src"))


def _shot(page: Any, name: str) -> None:
    if folder := os.environ.get("RUNG3_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png")


def _set(page: Any, name: str, value: float) -> None:
    slider = page.locator(f".node[data-name={name}] input[type=range]")
    _after(page, lambda: slider.fill(str(value)))


def test_clicking_a_variable_sets_it_and_cuts_its_arrows(page: Any, digits: str) -> None:
    _open(page, digits)
    assert page.locator(".arrow.cut").count() == 0
    _after(page, lambda: page.locator(".node[data-name=intensity] button.head").click())
    assert _status(page, "intensity") == "intervened"
    assert _status(page, "thickness") == "observed"
    assert _status(page, "image") == "propagated"
    cut = page.locator(".arrow.cut")
    assert [cut.nth(k).get_attribute("data-edge") for k in range(cut.count())] == [
        "thickness>intensity"
    ]
    before = _picture(page, "as it would have been")
    _set(page, "intensity", 90)
    assert _picture(page, "as it would have been") != before
    assert "→" in page.locator(".node[data-name=intensity] .value").inner_text()
    _after(page, lambda: page.locator(".node[data-name=intensity] button.head").click())
    assert _status(page, "intensity") == "observed"


def test_a_variable_can_be_held(page: Any, digits: str) -> None:
    _open(page, digits)
    _after(page, lambda: page.locator(".node[data-name=thickness] button.head").click())
    _set(page, "thickness", 4.2)
    assert _status(page, "intensity") == "propagated"
    _shot(page, "imagine")
    _after(page, lambda: page.locator(".node[data-name=intensity] .control button").click())
    assert _status(page, "intensity") == "held"


def test_the_three_rungs(page: Any, digits: str) -> None:
    _open(page, digits)
    _after(page, lambda: page.locator(".node[data-name=intensity] button.head").click())
    _after(page, lambda: page.get_by_text("See", exact=True).click())
    assert _status(page, "intensity") == "observed"
    assert page.locator(".arrow.cut").count() == 0
    _after(page, lambda: page.get_by_text("Do", exact=True).click())
    assert _status(page, "intensity") == "intervened"
    assert page.locator(".arrow.cut").count() == 1
    assert page.locator(".plot").count() > 0
    _shot(page, "do")


def test_truth_swipe_and_two_models(page: Any, digits: str) -> None:
    _open(page, digits)
    _after(page, lambda: page.locator(".node[data-name=thickness] button.head").click())
    assert page.locator(".panels[data-image=image]").count() == 2
    assert page.locator(".truth").count() == 2
    page.locator("input[aria-label='image: swipe between the two']").first.fill("20")
    assert "20%" in page.locator(".swipe img").nth(1).evaluate("e => e.style.clipPath")
    assert "runs/lost could not be opened" in page.locator("#message").inner_text()


def test_effects_light_their_path(page: Any, digits: str) -> None:
    _open(page, digits)
    _after(page, lambda: page.locator(".node[data-name=thickness] button.head").click())
    _set(page, "thickness", 1.6)
    page.locator("#effects summary").click()
    page.locator("[data-part=indirect]").first.click()
    lit = page.locator(".arrow.lit")
    assert {lit.nth(k).get_attribute("data-edge") for k in range(lit.count())} == {
        "thickness>intensity",
        "intensity>image",
    }
    _shot(page, "effects")


def test_belief_sweep_and_code_unfold(page: Any, digits: str) -> None:
    _open(page, digits)
    _after(page, lambda: page.locator(".node[data-name=thickness] button.head").click())
    page.locator("#belief summary").click()
    page.locator("#belief .plot").first.wait_for()
    text = page.locator("#belief").inner_text()
    for part in ("null intervention", "there and back", "support", "predictors", "abduction"):
        assert part in text
    _shot(page, "belief")
    page.locator("#film summary").click()
    page.locator("#film .strip img").first.wait_for()
    assert page.locator("#film .strip").first.locator("img").count() == 9
    with page.expect_download() as saved:
        page.get_by_role("link", name="GIF").first.click()
    assert saved.value.suggested_filename == "sweep.gif"
    page.locator("#code summary").click()
    page.locator("#code pre").first.wait_for()
    assert "model.counterfactual(" in page.locator("#code pre").first.inner_text()


def test_the_link_restores_the_state(page: Any, digits: str) -> None:
    _open(page, digits)
    _after(page, lambda: page.locator("#next").click())
    _after(page, lambda: page.locator(".node[data-name=digit] button.head").click())
    _after(page, lambda: page.locator(".node[data-name=digit] select").select_option("7"))
    address, picture = page.url, _picture(page, "as it would have been")
    page.goto("about:blank")
    _open(page, address)
    assert _picture(page, "as it would have been") == picture
    assert page.locator("#row").input_value() == "1"


def test_a_drawn_image_is_asked_with_what_was_inferred(page: Any, learned: str) -> None:
    _open(page, learned)
    page.locator("#own").click()
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 180, steps=6)
    page.mouse.up()
    _after(page, lambda: page.locator("#take").click())
    assert _status(page, "thickness").endswith("inferred")


def test_a_wrong_upload_is_said_and_the_page_goes_on(page: Any, digits: str) -> None:
    _open(page, digits)
    page.locator("#own").click()
    page.locator("#file").set_input_files(
        files=[{"name": "../../x.png", "mimeType": "image/png", "buffer": b"no picture"}]
    )
    page.locator("#refused:not([hidden])").wait_for()
    assert "not a PNG or JPEG" in page.locator("#refused").inner_text()
    page.get_by_text("Cancel").click()
    _after(page, lambda: page.locator("#next").click())


def test_a_value_out_of_range_in_a_link_is_said(page: Any, digits: str) -> None:
    page.goto(digits + "#%7B%22do%22%3A%7B%22thickness%22%3A-1%7D%7D")
    page.locator("#message:not([hidden])").wait_for()
    page.wait_for_function("document.querySelector('#message').textContent.includes('outside')")
    page.locator("#reset").click()
    page.wait_for_function("!document.querySelector('#message').textContent.includes('outside')")


def test_all_of_it_is_reached_by_keyboard(page: Any, digits: str) -> None:
    _open(page, digits)
    page.locator(".node[data-name=thickness] button.head").focus()
    _after(page, lambda: page.keyboard.press("Enter"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "range"
    before = page.locator(".node[data-name=thickness] .value").inner_text()
    _after(page, lambda: page.keyboard.press("ArrowLeft"))
    assert page.locator(".node[data-name=thickness] .value").inner_text() != before


def test_a_table_has_values_and_plots(page: Any, table: str) -> None:
    _open(page, table)
    _after(page, lambda: page.locator(".node[data-name=x] button.head").click())
    assert page.locator("#pictures table").count() == 1
    assert page.locator("#pictures img").count() == 0
    _after(page, lambda: page.get_by_text("Do", exact=True).click())
    assert page.locator("#pictures .plot").count() == 3
    _shot(page, "table")


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("phone", 390, "light"), ("dark", 1280, "dark")]
)
def test_it_fits_a_phone_and_the_dark(
    browser: Any, digits: str, name: str, width: int, scheme: str
) -> None:
    page = browser.new_page(
        bypass_csp=True, viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    _open(page, digits)
    _after(page, lambda: page.locator(".node[data-name=thickness] button.head").click())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(21, 23, 26)") == (scheme == "dark")
    _shot(page, name)
    page.close()
