"""The page, served and driven: what a person does there, and what can be read off it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import serving

from rung3.explorer import Session


@contextmanager
def served(session: Session) -> Iterator[str]:
    """The address of a page that a session is behind."""
    with serving.served(session) as port:
        yield f"http://127.0.0.1:{port}/"


class Driver:
    """A page in a browser.

    Attributes:
        page: Playwright's page.
        faults: Errors in the page, and requests to elsewhere.
    """

    def __init__(self, browser: Any, width: int = 1280, scheme: str = "light") -> None:
        self.page = browser.new_page(
            bypass_csp=True, viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.page.set_default_timeout(120_000)  # a busy machine is not a fault of the page
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._look)

    def _look(self, request: Any) -> None:
        if "127.0.0.1" not in request.url and not request.url.startswith(("data:", "about:")):
            self.faults.append(request.url)

    def open(self, address: str, plain: bool = True) -> None:
        """Open the page; plain, with nothing set, where the address holds no query."""
        self.page.goto("about:blank")
        self.page.goto(f"{address}#%7B%7D" if plain and "#" not in address else address)
        self.page.wait_for_function("document.body.dataset.settled !== undefined")

    def after(self, act: Callable[[], Any]) -> None:
        """Do something, and wait until the page has answered it."""
        before = int(self.page.evaluate("document.body.dataset.settled"))
        act()
        self.page.wait_for_function(f"Number(document.body.dataset.settled) > {before}")

    def node(self, name: str, inner: str = "") -> Any:
        return self.page.locator(f".node[data-name={name}] {inner}".rstrip()).first

    def click(self, name: str) -> None:
        """Click on a variable."""
        self.after(self.node(name, "button.head").click)

    def set(self, name: str, value: float) -> None:
        """Move a variable's slider."""
        self.after(lambda: self.node(name, "input[type=range]").fill(str(value)))

    def hold(self, name: str) -> None:
        self.after(self.node(name, ".control button").click)

    def rung(self, word: str) -> None:
        self.after(self.page.get_by_text(word, exact=True).click)

    def fill(self, field: str, value: int) -> None:
        """Type a number into a field of the header."""
        box = self.page.locator(f"#{field}")
        self.after(lambda: (box.fill(str(value)), box.press("Enter")))

    def unfold(self, part: str) -> Any:
        """One of the parts below; open when this is done, if it has not opened by itself."""
        if self.page.locator(f"#{part}").get_attribute("open") is None:
            self.page.locator(f"#{part} summary").click()
        body = self.page.locator(f"#{part} .body[aria-busy=false]")
        body.wait_for()
        return body

    def status(self, name: str) -> str:
        return str(self.node(name, ".status").inner_text())

    def value(self, name: str) -> str:
        return str(self.node(name, ".value").inner_text())

    def picture(self, title: str, image: str = "image") -> str:
        element = self.page.locator(f"img[alt='{image} {title}']").first
        return str(element.get_attribute("src"))

    def arrows(self, kind: str) -> Set[str]:
        """The arrows that are `cut` or `lit`, as `a>b`."""
        elements = self.page.locator(f".arrow.{kind}")
        return {str(elements.nth(k).get_attribute("data-edge")) for k in range(elements.count())}

    def message(self) -> str:
        element = self.page.locator("#message")
        return str(element.inner_text()) if element.is_visible() else ""

    def draw(self) -> None:
        """Open the dialog of own images, and draw a one."""
        self.page.locator("#own").click()
        box = self.page.locator("#canvas").bounding_box()
        x, y, scale = box["x"] + box["width"] / 2, box["y"], box["height"] / 256
        self.page.mouse.move(x + 20 * scale, y + 40 * scale)
        self.page.mouse.down()
        self.page.mouse.move(x - 20 * scale, y + 200 * scale, steps=8)
        self.page.mouse.up()

    def shot(self, name: str, whole: bool = False) -> None:
        """A picture for the docs, where they are made."""
        if folder := os.environ.get("RUNG3_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.mouse.move(0, 0)
            self.page.screenshot(path=f"{folder}/{name}.png", full_page=whole)
