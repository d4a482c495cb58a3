"""Lets the reference show doctests as code, wherever they stand in a docstring."""

from __future__ import annotations

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^( *)(>>> .*(?:\n *\S.*)*)", flags=re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts a fence around each doctest before the docstring is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with each object that has been read."""
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(r"\1```pycon\n\1\2\n\1```", obj.docstring.value)
