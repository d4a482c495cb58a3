"""One noise or another, row by row."""

from __future__ import annotations

import torch
from torch import Tensor

from rung3.data.rows import Noise

__all__ = ["choose_noise"]


def choose_noise(mask: Tensor, yes: Noise, no: Noise) -> Noise:
    """Return one noise where a mask holds, and another elsewhere.

    Args:
        mask: Truth values, of the leading axes of the noises.
        yes: Noise of the rows where it holds, a tensor or parts.
        no: Noise of the other rows, of the same shape and parts.

    Example:
        >>> choose_noise(torch.tensor([True, False]), torch.ones(2, 2), torch.zeros(2, 2))
        tensor([[1., 1.],
                [0., 0.]])
    """

    def one(yes: Tensor, no: Tensor) -> Tensor:
        return torch.where(mask.reshape(*mask.shape, *[1] * (yes.ndim - mask.ndim)), yes, no)

    if isinstance(yes, Tensor) and isinstance(no, Tensor):
        return one(yes, no)
    assert not isinstance(yes, Tensor)
    assert not isinstance(no, Tensor)
    return {key: one(part, no[key]) for key, part in yes.items()}
