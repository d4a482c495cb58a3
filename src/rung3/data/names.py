"""Texts as names of files: labels and names of variables may hold anything."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

__all__ = ["slug", "slugs"]

LONGEST = 80
"""Bytes of a name."""


def slug(text: str, keep: str = r"\w.-") -> str:
    """Return a text as part of a file's name: short, of letters, digits, `_`, `.` and `-`.

    Args:
        text: The text.
        keep: Characters that are kept, as in a regular expression; others become `-`.

    Example:
        >>> slug("do(thickness)"), slug("../../a"), len(slug("long" * 99))
        ('do-thickness', 'a', 80)
    """
    name = re.sub(f"[^{keep}]+", "-", text).strip(" -.") or "unnamed"
    return name if len(name.encode()) <= LONGEST else _marked(name, text)


def slugs(texts: Iterable[str], keep: str = r"\w.-") -> dict[str, str]:
    """Return slugs of several texts, no two alike nor differing in capitals alone.

    Example:
        >>> slugs(["t up!", "t up?", "do(t)"])
        {'t up!': 't-up-5021df99', 't up?': 't-up-49a3d492', 'do(t)': 'do-t'}
    """
    names = {text: slug(text, keep) for text in texts}
    taken = Counter(name.casefold() for name in names.values())
    return {k: v if taken[v.casefold()] == 1 else _marked(v, k) for k, v in names.items()}


def _marked(name: str, text: str) -> str:
    """Cut a name short, and add a few letters that stand for the text."""
    cut = name.encode()[: LONGEST - 9].decode(errors="ignore")
    return f"{cut}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
