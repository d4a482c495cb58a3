"""Every example of the pages (fenced as `pycon`) is run, and prints what stands there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
FENCE = re.compile(r"^```pycon\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINES = 20
"""Of an example, with what it prints, aside from blank ones."""


def examples(page: Path) -> list[str]:
    return FENCE.findall(page.read_text("utf-8"))


PAGES = [page for page in sorted(DOCS.glob("*.md")) if examples(page)]


def test_there_are_pages_with_examples() -> None:
    assert DOCS / "lecture.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_print_what_stands_there(page: Path) -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=flags)
    names: dict[str, object] = {}
    output: list[str] = []
    for number, block in enumerate(examples(page), 1):
        title = f"{page.name}, example {number}"
        test = doctest.DocTestParser().get_doctest(block, names, title, str(page), 0)
        names = test.globs
        runner.run(test, out=output.append, clear_globs=False)
    assert not runner.failures, "".join(output)


def test_the_lectures_examples_are_short() -> None:
    blocks = examples(DOCS / "lecture.md")
    assert max(sum(bool(line.strip()) for line in block.splitlines()) for block in blocks) < LINES
