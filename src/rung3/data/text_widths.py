"""How wide the columns of a table of text are to be, so that it fits a console."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["fitted", "longest_word"]


def longest_word(texts: Iterable[str]) -> int:
    """Return the letters of the longest word of some texts.

    Example:
        >>> longest_word(["default of its kind", "by the study"])
        7
    """
    return max((len(word) for text in texts for word in text.split()), default=1)


def fitted(natural: Sequence[int], floors: Iterable[Sequence[int]], room: int) -> list[int]:
    """Return widths that fit a room: as they would be, or less for the widest columns.

    Args:
        natural: Widths without any line broken.
        floors: Widths below which columns do not go, unless they do not fit even so: then the next
            hold, and at last none.
        room: For all columns together.

    Example:
        >>> fitted([9, 30, 20], [[9, 8, 8]], 50), fitted([9, 30, 20], [[9, 8, 8]], 12)
        ([9, 21, 20], [4, 4, 4])
    """
    widths = list(natural)
    for floor in (*floors, [1] * len(widths)):
        while sum(widths) > room:
            at = max(range(len(widths)), key=lambda k: (widths[k] > floor[k], widths[k]))
            if widths[at] <= floor[at]:
                break
            widths[at] -= 1
    return widths
