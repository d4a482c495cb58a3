"""The words of rung3, each with what it means: for the report, the page and the documentation.

`glossary.md` beside this file is the source; `docs/glossary.md` is a copy of it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

__all__ = ["words"]

ENTRY = re.compile(r"\*\*(?P<term>[^*]+)\.\*\*\s+(?P<text>.+)", re.DOTALL)
"""A paragraph that begins with its term in bold."""


@cache
def words() -> dict[str, str]:
    """Return what each term means, as plain text, by the term.

    Example:
        >>> words()["Intervention"]
        'Setting a variable, do(x := 4); arrows into it are cut.'
    """
    text = Path(__file__).with_suffix(".md").read_text("utf-8")
    entries = filter(None, map(ENTRY.match, text.split("\n\n")))
    return {entry["term"]: _plain(entry["text"]) for entry in entries}


def _plain(text: str) -> str:
    """Return Markdown of one paragraph as text: links, code and emphasis without their marks."""
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    return " ".join(re.sub(r"[`*]", "", text).split())
