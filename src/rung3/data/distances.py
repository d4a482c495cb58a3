"""How far a value lies from another: the mean absolute error of each row.

    d(x, y) = s mean |x - y|,      s = 2^bits - 1 for images of whole grey levels, else 1

For categories it is 0 where they agree and 1 where they differ; on a circle `|x - y|` is the length
of the shorter arc.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rung3.data.variables import Discrete, Image, Variable

__all__ = ["distance", "scale", "unit"]


def scale(variable: Variable) -> float:
    """Return the grey levels of an image's range [0, 1]; 1 for every other variable."""
    if isinstance(variable, Image) and variable.levels is not None:
        return float(variable.levels)
    return 1.0


def unit(variable: Variable) -> str:
    """Return the unit that distances are in."""
    match variable:
        case Image(bits=None):
            return "of the range"
        case Image():
            return "grey levels"
        case Discrete():
            return "error rate"
        case _:
            return variable.unit


def distance(variable: Variable, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean absolute error of each row, in the variable's own unit, `(n,)`.

    It is computed in floating point: the difference of two whole grey levels held in eight bits
    would wrap around.

    Args:
        variable: The variable; of images, the error is in grey levels.
        x: Values `(n, *shape)`.
        y: Values `(n, *shape)`.

    Example:
        >>> from rung3 import Image
        >>> distance(Image(1, 1, 2), torch.tensor([[[[0.0, 0.2]]]]), torch.tensor([[[[0.2, 0.2]]]]))
        tensor([25.5000])
    """
    if isinstance(variable, Discrete):
        return (x != y).to(torch.get_default_dtype())
    kind = torch.get_default_dtype()
    x, y = x.to(kind), y.to(kind)
    error = variable.difference(x, y)
    return scale(variable) * error.abs().reshape(len(x), -1).mean(1)
