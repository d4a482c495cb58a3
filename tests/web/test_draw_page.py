"""Drawing a graph on the page, and what is answered while it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driving import Driver

from rung3.graph import CausalGraph


class Board:
    """The drawing of a graph, and what a person does there."""

    def __init__(self, page: Driver, address: str) -> None:
        self.page = page.page
        page.open(address)
        self.after(self.page.locator("#draw").click)

    def after(self, act: Callable[[], Any]) -> None:
        """Do something, and wait until what is drawn has been asked."""
        before = int(self.page.evaluate("document.body.dataset.drawn ?? 0"))
        act()
        self.page.wait_for_function(f"Number(document.body.dataset.drawn) > {before}")

    def node(self, name: str) -> Any:
        return self.page.locator(f"#drawn .node[data-name={name}]")

    def link(self, cause: str, effect: str) -> None:
        self.node(cause).click()
        self.after(self.node(effect).click)

    def choose(self, name: str, role: str) -> None:
        self.node(name).click()
        self.after(self.page.locator("#chosen").get_by_text(role, exact=True).click)
        self.node(name).click()

    def write(self, text: str) -> None:
        box = self.page.locator("#graphtext")
        self.after(lambda: (box.fill(text), box.blur()))

    @property
    def graph(self) -> CausalGraph:
        return CausalGraph(self.page.locator("#graphtext").input_value())

    def said(self) -> str:
        return " ".join(self.page.locator("#graphanswers").inner_text().split())

    def lit(self, kind: str) -> set[str]:
        found = self.page.locator(f"#drawnarrows .arrow.{kind}")
        return {str(found.nth(k).get_attribute("data-edge")) for k in range(found.count())}


@pytest.fixture
def board(page: Driver, table: str) -> Board:
    return Board(page, table)


def test_it_begins_with_the_model_and_its_paths_are_coloured(board: Board) -> None:
    assert board.graph == CausalGraph("age -> dose; {age dose} -> pressure; pressure -> recovered")
    assert not board.page.locator("main").is_visible()
    board.choose("dose", "treatment")
    board.choose("pressure", "outcome")
    assert "Adjusting for nothing does not give the effect of dose on pressure" in board.said()
    assert board.lit("causal") == {"dose>pressure"}
    assert board.lit("biasing") == {"age>dose", "age>pressure"}
    board.after(board.page.locator("#graphanswers .choices button").first.click)
    assert "Adjusting for age gives the effect" in board.said()
    assert board.lit("biasing") == set()
    assert "adjusted · confounder" in board.node("age").inner_text()
    board.page.locator(".paths .blocked").hover()
    assert board.lit("blocked") == {"age>dose", "age>pressure"}
    board.choose("age", "adjust for it")
    board.choose("recovered", "adjust for it")
    assert "below a causal path" in board.said()


def test_arrows_are_drawn_by_clicks_and_by_a_drag_and_taken_back(board: Board) -> None:
    first = board.graph
    board.link("age", "recovered")
    assert ("age", "recovered") in board.graph.edges
    board.link("age", "recovered")
    assert board.graph == first
    board.after(lambda: board.node("age").drag_to(board.node("recovered")))
    assert ("age", "recovered") in board.graph.edges
    board.after(board.page.locator("#takeback").click)
    assert board.graph == first
    board.page.locator("#newname").fill("blood type")
    board.after(lambda: board.page.locator("#newname").press("Enter"))
    assert "blood type" in board.graph.nodes
    board.page.locator("#arrowkind").select_option("hidden")
    board.link("dose", "recovered")
    assert board.graph.bidirected == (("dose", "recovered"),)
    board.node("pressure").click()
    board.after(board.page.locator("#chosen").get_by_text("remove").click)
    assert "pressure" not in board.graph
    board.after(board.page.locator("#asmodel").click)
    assert board.graph == first


def test_what_is_no_graph_is_said_and_not_kept(board: Board) -> None:
    first = board.graph
    board.node("recovered").click()
    board.node("age").click()  # a cycle
    fault = board.page.locator("#graphfault")
    fault.wait_for()
    assert "cycle" in fault.inner_text()
    assert board.graph == first
    board.write("age -> dose; dose -> cured; age <-> cured")
    assert not fault.is_visible()
    assert board.node("cured").is_visible()


def test_a_front_door_is_found_and_the_study_is_saved(board: Board, tmp_path: Path) -> None:
    board.write("smoking -> tar -> cancer; smoking <-> cancer; price -> smoking")
    board.choose("smoking", "treatment")
    board.choose("cancer", "outcome")
    said = board.said()
    assert "no set of these variables gives it" in said
    assert "By the front door: tar" in said
    assert "Instruments: price" in said
    assert "Hidden confounders: smoking ↔ cancer" in said
    assert board.lit("biasing") == {"smoking<>cancer"}
    with board.page.expect_download() as saved:
        board.page.get_by_role("link", name="graph.yaml").click()
    text = Path(saved.value.path()).read_text()
    assert CausalGraph(text.removeprefix("graph: ").strip().strip("'")) == board.graph


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_its_window(browser: Any, table: str, width: int, scheme: str) -> None:
    page = Driver(browser, width, scheme)
    board = Board(page, table)
    board.write("age -> {dose diet}; {age dose diet} -> pressure -> recovered; dose <-> recovered")
    board.choose("dose", "treatment")
    board.choose("recovered", "outcome")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    page.shot(f"draw-{width}-{scheme}", whole=True)
    page.page.close()
    assert page.faults == []
