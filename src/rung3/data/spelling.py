"""Suggestions for misspelt names: which right ones are near."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = ["did_you_mean", "listed", "near", "suggest"]

MAX_SUGGESTED = 3
"""Names that are suggested, at most."""

MAX_LISTED = 20
"""Names that are written out, at most."""


def near(given: object, known: Iterable[object]) -> list[str]:
    """Return the known names that a misspelt one may mean, nearest first, at most three.

    Example:
        >>> near("thicknes", ["digit", "thickness"]), near("PARI", ["Rome", "Paris"])
        (['thickness'], ['Paris'])
    """
    names = [str(name) for name in known]
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.casefold(), name)
    close = get_close_matches(str(given), names, n=MAX_SUGGESTED)
    close += [folded[k] for k in get_close_matches(str(given).casefold(), folded, n=MAX_SUGGESTED)]
    return list(dict.fromkeys(close))[:MAX_SUGGESTED]


def did_you_mean(given: object, known: Iterable[object]) -> str:
    """Ask whether a near name was meant; empty if none is near.

    Example:
        >>> did_you_mean("Paris2", ["Paris1", "Paris", "Rome"])
        "did you mean 'Paris' or 'Paris1'?"
    """
    close = [repr(name) for name in near(given, known)]
    return f"did you mean {' or '.join(close)}?" if close else ""


def suggest(given: object, known: Iterable[object], what: str) -> str:
    """Say which names are right, if they are few, and which are near a misspelt one.

    Args:
        given: The name.
        known: The right ones.
        what: What these are, such as `"the variables"`.

    Example:
        >>> suggest("agee", ["age", "sex"], "the variables")
        "the variables are ['age', 'sex']; did you mean 'age'?"
    """
    names = [str(name) for name in known]
    hint = did_you_mean(given, names)
    return listed(names, what) + (f"; {hint}" if hint else "")


def listed(names: Sequence[str], what: str) -> str:
    """List names, of which twenty are written out.

    Example:
        >>> listed(["age", "sex"], "the variables")
        "the variables are ['age', 'sex']"
    """
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"{what} are {list(names[:MAX_LISTED])}{more}"
