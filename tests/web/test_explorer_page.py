"""The page in headless Chromium: every behaviour once. Run by `make test-web`.

The same run draws the screenshots of docs/explorer/, where RUNG3_SCREENSHOTS names that folder.
"""

from __future__ import annotations

import base64
import io
import shlex
from pathlib import Path
from typing import Any

import pytest
from driving import Driver, served
from PIL import Image as Pictures
from typer.testing import CliRunner

from rung3 import worlds
from rung3.cli import app
from rung3.data.pictures import image_png, uri
from rung3.explorer import Opened, Session, open_runs


def test_clicking_a_variable_sets_it_and_cuts_its_arrows(page: Driver, digits: str) -> None:
    page.open(digits)
    assert page.arrows("cut") == set()
    page.click("intensity")
    assert page.status("intensity") == "intervened"
    assert page.status("thickness") == "observed"
    assert page.status("image") == "propagated"
    assert page.arrows("cut") == {"thickness>intensity"}
    before = page.picture("as it would have been")
    page.set("intensity", 90)
    assert page.picture("as it would have been") != before
    assert page.value("intensity").split(" → ")[1] == "90 grey level"
    page.click("intensity")
    assert page.status("intensity") == "observed"


def test_the_four_states_differ_in_word_and_look(page: Driver, learned: str) -> None:
    page.open(learned)
    page.fill("row", 2)
    page.click("thickness")
    page.set("thickness", 4.2)
    assert page.status("intensity") == "propagated"
    page.fill("particles", 8)
    page.shot("imagine")
    page.hold("intensity")
    states = {name: page.status(name) for name in ("digit", "thickness", "image", "intensity")}
    assert list(states.values()) == ["observed", "intervened", "propagated", "held"]
    look = "e => { const s = getComputedStyle(e); return s.borderStyle + s.borderColor }"
    assert len({page.node(name).evaluate(look) for name in states}) == 4
    assert len({page.node(n).evaluate("e => getComputedStyle(e).border") for n in states}) == 4
    legend = page.page.locator("#legend li")
    assert [line.split()[0] for line in legend.all_inner_texts()] == list(states.values())
    assert page.arrows("cut") == {"thickness>intensity"}
    page.shot("held")


def test_the_three_rungs(page: Driver, drawn: str) -> None:
    page.open(drawn)
    page.click("intensity")
    page.set("intensity", 120)
    page.rung("See")
    assert page.status("intensity") == "observed"
    assert "chosen" in page.node("intensity").get_attribute("class")
    assert page.status("thickness") == "sampled"
    assert page.arrows("cut") == set()
    assert "effective sample size" in page.page.locator("#pictures").inner_text()
    page.shot("see")
    page.rung("Do")
    assert page.status("intensity") == "intervened"
    assert page.status("thickness") == "sampled"
    assert page.status("image") == "propagated"
    assert page.arrows("cut") == {"thickness>intensity"}
    assert page.page.locator("#pictures .plot").count() == 3
    page.shot("do")
    page.rung("Imagine")
    assert page.status("thickness") == "observed"


def test_a_number_can_be_typed_and_one_out_of_range_is_said(page: Driver, learned: str) -> None:
    page.open(learned)
    page.click("thickness")
    typed = page.node("thickness", "input[type=number]")
    page.after(lambda: (typed.fill("9.5"), typed.press("Enter")))
    assert page.value("thickness").endswith("9.5 px")
    assert "outside the range of the training data" in page.node("thickness", ".note").inner_text()
    page.after(lambda: (typed.fill("-1"), typed.press("Enter")))
    assert "outside its support" in page.message()
    assert "stale" in page.page.locator("#pictures").get_attribute("class")
    assert page.value("intensity") == "continuous"  # the value that it had is no answer to this
    row = page.page.locator("#row")
    page.after(lambda: (row.fill("9999"), row.press("Enter")))
    assert "test rows are 0 to" in page.message()
    assert page.value("intensity") == "continuous"
    page.after(lambda: (row.fill("1"), row.press("Enter")))
    page.after(lambda: (typed.fill("3"), typed.press("Enter")))
    assert "grey level" in page.value("intensity")
    assert page.message() == ""
    assert "stale" not in page.page.locator("#pictures").get_attribute("class")


def test_models_side_by_side_and_the_truth(page: Driver, digits: str) -> None:
    page.open(digits)
    assert "runs/lost could not be opened" in page.message()
    page.click("thickness")
    page.set("thickness", 1.5)
    page.page.locator(".truth:not(.waiting)").nth(1).wait_for()
    assert page.page.locator(".panels[data-image=image]").count() == 2
    errors = [
        float(text.split("off by ")[1].split()[0])
        for text in page.page.locator(".truth small").all_inner_texts()
    ]
    assert errors[0] > 1
    assert errors[1] == 0  # the world is the truth
    first = page.value("intensity")
    page.shot("models")
    page.after(page.page.locator("#shown").get_by_text("world").click)
    assert page.value("intensity") != first
    shown = page.page.locator("[data-changed='1']").inner_text()
    assert page.value("intensity").split(" → ")[1].split()[0] in shown


def test_the_value_that_is_let_go_is_the_one_that_is_shown(page: Driver, learned: str) -> None:
    page.open(learned)
    page.click("thickness")
    box = page.node("thickness", "input[type=range]").bounding_box()
    y = box["y"] + box["height"] / 2
    page.page.mouse.move(box["x"] + box["width"] - 30, y)
    page.page.mouse.down()
    for k in range(12):
        page.page.mouse.move(box["x"] + box["width"] - 30 - 5 * k, y)
    page.after(page.page.mouse.up)
    value = float(page.node("thickness", "input[type=range]").input_value())
    assert float(page.value("thickness").split(" → ")[1].split()[0]) == pytest.approx(value)
    assert f"thickness = {value:.4g}" in page.page.locator("#question").inner_text()
    address, picture = page.page.url, page.picture("as it would have been")
    page.open(address)
    assert page.picture("as it would have been") == picture


def test_swipe_between_factual_and_counterfactual(page: Driver, learned: str) -> None:
    page.open(learned)
    page.page.locator("input[aria-label='image: swipe between the two']").fill("20")
    cut = page.page.locator(".swipe img").nth(1).evaluate("e => e.style.clipPath")
    assert "20%" in cut


def test_draws_have_a_spread(page: Driver, learned: str) -> None:
    page.open(learned)
    page.click("digit")
    assert page.page.locator("img[alt='image spread']").count() == 0
    page.fill("particles", 4)
    assert page.page.locator("img[alt='image spread']").count() == 1
    assert page.page.locator(".draws img").count() == 4


def test_effects_light_their_path(page: Driver, learned: str) -> None:
    page.open(learned)
    page.click("thickness")
    page.set("thickness", 1.6)
    effects = page.unfold("effects")
    for part, edges in {
        "direct": {"thickness>image"},
        "indirect": {"thickness>intensity", "intensity>image"},
        "total": {"thickness>image", "thickness>intensity", "intensity>image"},
    }.items():
        effects.locator(f"[data-part={part}]").click()
        assert page.arrows("lit") == edges
    effects.locator("[data-part=indirect]").click()
    page.shot("effects", whole=True)
    page.after(lambda: page.node("digit", "button.head").click())
    assert page.arrows("lit") == set()
    body = page.page.locator("#effects")
    body.locator("select").first.select_option("intensity")
    body.get_by_text("all of the effect is direct").wait_for()


def test_whether_to_believe_it(page: Driver, learned: str) -> None:
    page.open(learned)
    page.click("thickness")
    page.set("thickness", 4.5)
    checks = page.unfold("checks")
    text = checks.inner_text()
    for part in ("null intervention", "there and back", "support", "predictors", "abduction"):
        assert part in text
    assert checks.locator(".plot").count() == 2
    assert checks.locator(".plot .is").count() == 2
    page.shot("checks", whole=True)


def test_a_sweep_is_shown_and_saved(page: Driver, learned: str) -> None:
    page.open(learned)
    page.click("thickness")
    sweep = page.unfold("sweep")
    assert sweep.locator(".strip img").count() == 9
    page.shot("sweep", whole=True)
    for kind, form in (("PNG", "PNG"), ("GIF", "GIF")):
        with page.page.expect_download() as saved:
            sweep.get_by_role("link", name=kind).click()
        assert saved.value.suggested_filename == f"sweep.{kind.lower()}"
        content = Path(saved.value.path()).read_bytes()
        assert Pictures.open(io.BytesIO(content)).format == form
    sweep.locator("select").select_option("digit")
    page.page.locator("#sweep .strip img").nth(9).wait_for()


def test_copied_code_gives_the_picture_of_the_page(
    browser: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with served(Session(*open_runs([run]))) as address:
        page = Driver(browser)
        page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.open(address)
        page.fill("row", 3)
        page.click("thickness")
        page.set("thickness", 4)
        shown = page.picture("as it would have been")
        code = page.unfold("code")
        copied = []
        for kind in ("python", "command", "link"):
            code.get_by_role("button", name=f"Copy as {kind}").click()
            done = code.get_by_role("button", name="Copied")
            done.wait_for()
            copied.append(page.page.evaluate("navigator.clipboard.readText()"))
            done.wait_for(state="detached")
        page.open(copied[2])
        assert page.picture("as it would have been") == shown
        page.page.close()
    spaces: dict[str, Any] = {}
    exec(compile(copied[0], "copied", "exec"), spaces)
    assert uri(image_png(spaces["after"]["image"])) == shown
    assert (tmp_path / "image.png").is_file()
    result = CliRunner().invoke(app, [*shlex.split(copied[1])[1:], "--out", "command.png"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "command.png").is_file()


def test_the_link_restores_the_state(page: Driver, digits: str) -> None:
    page.open(digits)
    page.after(page.page.locator("#next").click)
    page.click("digit")
    page.after(lambda: page.node("digit", "select").select_option("7"))
    page.after(page.page.locator("#shown").get_by_text("world").click)
    address, picture = page.page.url, page.picture("as it would have been")
    page.open(address)
    assert page.picture("as it would have been") == picture
    assert page.page.locator("#row").input_value() == "1"
    assert page.page.locator("[name=shown]").nth(1).is_checked()
    assert page.status("digit") == "intervened"


# A user's own image -----------------------------------------------------------------------------


def test_a_drawn_image_is_asked_with_what_is_known_and_inferred(page: Driver, learned: str) -> None:
    page.open(learned)
    page.draw()
    page.page.locator("#known [name=digit]").select_option("1")
    page.shot("upload")
    page.after(page.page.locator("#take").click)
    marks = {"digit": "observed", "thickness": "observed · inferred"}
    assert {name: page.status(name) for name in marks} == marks
    assert page.value("digit") == "1"
    page.open(page.page.url)  # and so it stays
    assert {name: page.status(name) for name in marks} == marks
    page.click("thickness")
    assert page.status("intensity") == "propagated · inferred"
    page.after(page.page.locator("#next").click)
    assert page.status("intensity") == "propagated"


def test_an_uploaded_image_is_asked(page: Driver, learned: str) -> None:
    rows = worlds.digits().sample(1, seed=9)
    page.open(learned)
    page.page.locator("#own").click()
    _choose(page, "seven.png", image_png(rows["image"][0]))
    page.page.locator("#known [name=thickness]").fill("2.5")
    page.after(page.page.locator("#take").click)
    assert page.picture("as it was") == uri(image_png(rows["image"][0]))
    assert page.value("thickness") == "2.5 px"
    assert page.status("thickness") == "observed"


def _choose(page: Driver, name: str, content: bytes) -> None:
    file = {"name": name, "mimeType": "image/png", "buffer": content}
    page.page.locator("#file").set_input_files(files=[file])


def _file(size: tuple[int, int], colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Pictures.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "known", "message"),
    [
        (b"no picture", "", "not a PNG or JPEG"),
        (_file((20, 20), (9, 9, 9)), "", "20x20 pixels, expected 32x32"),
        (_file((32, 32), (200, 0, 0)), "", "in colour"),
        (b"0" * (3 * 2**20), "", "more than 2 MB"),
        (_file((32, 32), (9, 9, 9)), "-2", "outside its support"),
        (None, "", "choose a file, or draw"),
    ],
)
def test_a_wrong_image_is_said_and_the_page_goes_on(
    page: Driver, learned: str, content: bytes | None, known: str, message: str
) -> None:
    page.open(learned)
    page.page.locator("#own").click()
    if content is not None:
        _choose(page, "../../x.png", content)
    page.page.locator("#known [name=thickness]").fill(known)
    page.page.locator("#take").click()
    page.page.locator("#refused:not([hidden])").wait_for()
    assert message in page.page.locator("#refused").inner_text()
    page.page.get_by_text("Cancel").click()
    page.after(page.page.locator("#next").click)
    assert page.page.locator("#row").input_value() == "1"


def test_without_predictors_all_must_be_stated(browser: Any, trained: Opened) -> None:
    with served(Session([Opened("blind", trained.model, trained.rows)])) as address:
        page = Driver(browser)
        page.open(address)
        page.draw()
        assert "needed" in page.page.locator("#known [name=intensity]").get_attribute("placeholder")
        page.page.locator("#take").click()
        page.page.locator("#refused:not([hidden])").wait_for()
        assert "state it" in page.page.locator("#refused").inner_text()
        page.page.close()


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ('{"do":{"thickness":-1}}', "outside its support"),
        ('{"row":4000}', "the test rows are 0 to 39"),
        ('{"upload":"gone"}', "upload it again"),
        ('{"colour":1}', "colour"),
        ('{"do":', "cannot be read"),
        ("7", ""),
    ],
)
def test_a_wrong_link_is_said_and_the_page_goes_on(
    page: Driver, learned: str, link: str, message: str
) -> None:
    from urllib.parse import quote

    page.open(learned + "#" + quote(link, safe=""))
    assert message in page.message()
    page.after(page.page.locator("#reset").click)
    assert page.message() == ""
    page.click("thickness")
    assert page.status("thickness") == "intervened"


def test_a_server_that_is_gone_is_said(browser: Any, trained: Opened) -> None:
    page = Driver(browser)
    with served(Session([trained])) as address:
        page.open(address)
    page.after(page.node("thickness", "button.head").click)
    assert "is `rung3 explore` still running" in page.message()
    page.page.close()


# Keyboard ----------------------------------------------------------------------------------------


def test_all_of_it_is_reached_by_keyboard(page: Driver, learned: str) -> None:
    page.open(learned)
    keys = page.page.keyboard

    def tab_to(test: str) -> None:
        for _ in range(60):
            keys.press("Tab")
            if page.page.evaluate(f"(e => {test})(document.activeElement)"):
                return
        raise AssertionError(f"never reached: {test}")

    tab_to("e.name === 'rung'")
    page.after(lambda: keys.press("ArrowLeft"))
    assert page.page.locator("[value=doing]").is_checked()
    page.after(lambda: keys.press("ArrowRight"))
    tab_to("e.closest('.node')?.dataset.name === 'thickness'")
    page.after(lambda: keys.press("Enter"))
    keys.press("Tab")
    assert page.page.evaluate("document.activeElement.type") == "range"
    before = page.value("thickness")
    page.after(lambda: keys.press("ArrowLeft"))
    assert page.value("thickness") != before
    tab_to("e.textContent === 'hold'")
    page.after(lambda: keys.press("Enter"))
    assert page.status("intensity") == "held"
    page.after(page.node("intensity", ".control button").click)
    tab_to("e.ariaLabel?.includes('swipe')")
    tab_to("e.parentElement.id === 'effects'")
    keys.press("Enter")
    page.page.locator("[data-part=total]").wait_for()
    tab_to("e.dataset.part === 'total'")
    keys.press("Enter")
    assert len(page.arrows("lit")) == 3
    for part in ("checks", "sweep", "code"):
        tab_to(f"e.parentElement.id === '{part}'")
        keys.press("Enter")
        page.page.locator(f"#{part} .body[aria-busy=false]").wait_for()
    tab_to("e.textContent === 'Copy as python'")


# Other worlds ------------------------------------------------------------------------------------


def test_a_table_has_values_and_plots(page: Driver, table: str) -> None:
    page.open(table)
    page.click("dose")
    page.set("dose", 8)
    assert page.value("pressure").count("→") == 1
    assert page.page.locator("#pictures table").count() == 1
    assert page.page.locator("#pictures img").count() == 0
    assert page.page.locator("#pictures .plot").count() == 4
    assert page.page.locator("#own").is_hidden()
    assert page.unfold("sweep").locator("polyline").count() == 2
    assert {"no", "yes"} & set(page.page.locator("#sweep td").all_inner_texts())
    effects = page.unfold("effects")
    effects.locator("[data-part=total]").wait_for()
    assert "mg" not in effects.inner_text()
    page.unfold("checks")
    page.shot("table", whole=True)
    page.rung("Do")
    assert page.page.locator("#pictures .plot").count() == 4
    page.rung("See")
    assert page.status("dose") == "observed"


def test_colour_images_differ_by_colour(page: Driver, colours: str) -> None:
    page.open(colours)
    page.click("hue")
    page.set("hue", 0.6)
    page.page.locator(".truth:not(.waiting)").wait_for()
    assert _size(page.picture("difference")) == (96, 32)  # red, green and blue
    assert _size(page.picture("as it was")) == (32, 32)
    effects = page.unfold("effects")
    assert _size(page.picture("on image", "total effect")) == (96, 32)
    effects.locator("[data-part=indirect]").click()
    assert page.arrows("lit") == {"hue>saturation", "saturation>image"}
    page.shot("colours", whole=True)


def _size(address: str) -> tuple[int, int]:
    return Pictures.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).size


def test_volumes_are_cut_where_the_slider_stands(page: Driver, volumes: str, scans: str) -> None:
    page.open(volumes)
    page.click("radius")
    page.set("radius", 3)
    assert _size(page.picture("as it was", "volume")) == (48, 16)  # three slices
    assert page.value("volume") == "16×16×16 volume"
    assert page.page.locator("img[alt='volume as it was']").bounding_box()["width"] > 250
    page.page.locator(".truth:not(.waiting)").wait_for()
    pictures = ("as it was", "as it would have been", "difference", "truth")
    middle = [page.picture(title, "volume") for title in pictures]
    page.after(lambda: page.page.locator("#slice").fill("0.25"))
    page.page.locator(".truth:not(.waiting)").wait_for()
    moved = [page.picture(title, "volume") for title in pictures]
    assert all(before != after for before, after in zip(middle, moved, strict=True))
    link = page.page.url
    assert "slice" in link
    page.open(link)
    assert page.picture("as it was", "volume") == moved[0]
    assert page.page.locator("#slice").input_value() == "0.25"
    page.shot("volumes", whole=True)
    page.open(scans)
    assert not page.page.locator("#slice").is_visible()


def test_effects_through_latents(page: Driver, scans: str) -> None:
    page.open(scans)
    page.click("t")
    page.set("t", 1)
    page.unfold("effects")
    through = page.page.locator("#effects select").nth(1)
    assert through.locator("option").all_inner_texts() == ["i", "latent"]
    before = page.picture("on scan", "indirect effect")
    through.select_option("latent")
    page.page.wait_for_function(
        "old => document.querySelector('img[alt=\"indirect effect on scan\"]').src !== old",
        arg=before,
    )
    page.page.locator("[data-part=indirect]").click()
    assert page.arrows("lit") == {"t>scan", "t>i", "i>scan"}
    page.shot("latents", whole=True)


def test_hidden_common_causes(page: Driver, hidden: str) -> None:
    page.open(hidden)
    assert page.page.locator(".arrow.hidden-cause").count() == 1
    page.click("x")
    page.set("x", 1.5)
    assert page.status("y") == "propagated"
    assert page.arrows("cut") == {"x<>y"}
    assert "→" in page.value("y")
    for part in ("effects", "checks", "sweep", "code"):
        page.unfold(part)
    assert "hidden causes act on it" in page.page.locator("#checks").inner_text()
    page.rung("Do")
    assert page.status("y") == "propagated"
    page.shot("hidden")


def test_what_hidden_causes_leave_untold_is_refused(page: Driver, bow: str) -> None:
    page.open(bow)
    page.click("x")
    assert "not identified" in page.message()
    assert page.status("x") == "intervened"
    assert "stale" in page.page.locator("#pictures").get_attribute("class")
    page.shot("refused")
    page.click("x")
    assert page.message() == ""
    page.click("x")
    page.rung("See")
    assert page.message() == ""
    assert page.status("x") == "observed"


# Looks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
@pytest.mark.parametrize("world", ["digits", "table", "colours", "hidden"])
def test_nothing_is_wider_than_the_window(
    browser: Any, request: pytest.FixtureRequest, width: int, world: str
) -> None:
    page = Driver(browser, width)
    page.open(request.getfixturevalue(world))
    page.click({"digits": "thickness", "table": "dose", "colours": "hue", "hidden": "x"}[world])
    for part in ("effects", "checks", "sweep", "code"):
        page.unfold(part)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    page.page.close()


def test_on_a_phone_no_slider_is_under_the_pictures_which_are_a_row(
    browser: Any, learned: str
) -> None:
    page = Driver(browser, 390)
    page.open(learned)
    page.click("thickness")
    page.click("intensity")
    figures = page.page.locator("#pictures .panels > figure")
    tops = {figures.nth(k).bounding_box()["y"] for k in range(figures.count())}
    assert figures.count() > 2
    assert len(tops) == 1
    for name in ("thickness", "intensity"):
        slider = page.node(name, "input[type=range]")
        slider.evaluate("e => window.scrollTo(0, e.getBoundingClientRect().bottom + scrollY)")
        slider.evaluate("e => e.scrollIntoView({ block: 'nearest' })")  # as for focus
        pictures = page.page.locator("#pictures").bounding_box()
        assert slider.bounding_box()["y"] >= pictures["y"] + pictures["height"]
        assert pictures["y"] + pictures["height"] > 0
    page.page.close()


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("phone", 390, "light"), ("dark", 1280, "dark")]
)
def test_it_fits_a_phone_and_the_dark(
    browser: Any, learned: str, name: str, width: int, scheme: str
) -> None:
    page = Driver(browser, width, scheme)
    page.open(learned)
    page.fill("row", 2)
    page.click("thickness")
    page.set("thickness", 4.2)
    ground = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(21, 23, 26)") == (scheme == "dark")
    page.shot(name, whole=width < 500)
    page.page.close()
