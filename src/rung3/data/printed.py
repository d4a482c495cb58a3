"""`Printed`: what shows itself in a notebook as it prints."""

from __future__ import annotations

from html import escape

__all__ = ["Printed"]


class Printed:
    """A result whose text is made to be read; a notebook shows it instead of the fields.

    Example:
        >>> class Answer(Printed):
        ...     def __str__(self) -> str:
        ...         return "x < 3"
        >>> Answer()._repr_html_()
        '<pre>x &lt; 3</pre>'
    """

    def _repr_html_(self) -> str:
        """Return the text for a notebook."""
        return f"<pre>{escape(str(self))}</pre>"
