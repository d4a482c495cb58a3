"""The axioms as pictures: several models asked the same of the same rows, side by side.

    composition      x, f_0(x), f_0(f_0(x)), ...                    (lecture, Figure 35)
    effectiveness    f(x; do(k := v)) for every v, all else held    (Figure 36)
    reversibility    x, there, back, there, back, ...               (Figure 37)

with `f_0` a null intervention. Every column's mean error over the rows stands beneath it.
"""

from rung3.evaluation.figures.strips import (
    Comparison,
    Panel,
    composition,
    effectiveness,
    reversibility,
)

__all__ = ["Comparison", "Panel", "composition", "effectiveness", "reversibility"]
