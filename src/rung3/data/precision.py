"""Numbers that single precision cannot tell apart are kept in double.

A number of torch's default type is rounded to within `eps |x| / 2`. Against the spread of a column
that is nothing, unless the column lies far from zero for its width: unix times, coordinates, grams
in tonnes. Such columns are kept in double (`held`), are centred in double
(`rung3.mechanisms.networks.encoding.Standardise`), and networks see what is left.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

__all__ = ["Precise", "held"]

MAX_RELATIVE_LOSS = 1e-3
"""Rounding that a column may suffer, relative to its standard deviation."""

MAX_LOSS = 1 / 32
"""Rounding that values without deviation may suffer, in their unit."""


def held(value: Tensor, axes: int) -> Tensor:
    """Return numbers in torch's default type, or in double where that would lose some.

    Args:
        value: Numbers, `(n, *shape)` or one value `shape`, NaN where missing.
        axes: How many axes `shape` has.

    Example:
        >>> held(torch.tensor([1.0, 2.0]).double(), 0).dtype
        torch.float32
        >>> held(torch.tensor([1.7e9, 1.7e9 + 1]).double(), 0)
        tensor([1.7000e+09, 1.7000e+09], dtype=torch.float64)
    """
    kind = torch.get_default_dtype()
    exact = value if value.is_floating_point() else value.double()
    if torch.finfo(exact.dtype).eps >= torch.finfo(kind).eps or not exact.numel():
        return value.to(kind)
    if exact.numel() == 1:  # as below, for a number alone: without deviation
        return exact if torch.finfo(kind).eps * abs(exact.item()) > MAX_LOSS else value.to(kind)
    seen = exact.detach()
    seen = seen if seen.ndim > axes else seen.unsqueeze(0)
    most = seen.abs().nan_to_num(0).amax(0)
    spread = (seen - seen.nanmean(0)).square().nanmean(0).sqrt().nan_to_num(0)
    allowed = torch.where(spread > 0, MAX_RELATIVE_LOSS * spread, MAX_LOSS)
    lost = torch.finfo(kind).eps * most > allowed
    return exact if lost.any() else value.to(kind)


class Precise(nn.Module):
    """A module that keeps one buffer in double, whatever its weights are, if the data were.

    Attributes:
        precise: Name of the buffer.
        wide: Whether it is kept in double.
    """

    precise: str
    wide: bool = False

    def keep(self, value: Tensor) -> None:
        """Put a statistic of data into the buffer, in the data's type."""
        buffer = getattr(self, self.precise)
        self.wide = value.dtype == torch.float64 != buffer.dtype
        dtype = torch.float64 if self.wide else buffer.dtype
        setattr(self, self.precise, value.to(buffer.device, dtype))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        before = getattr(self, self.precise, None)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.wide and before is not None:  # `.to(torch.float32)` would round it
            setattr(self, self.precise, before.to(getattr(self, self.precise).device))
        return self

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        saved, buffer = state.get(prefix + self.precise), getattr(self, self.precise, None)
        double = saved is not None and saved.dtype == torch.float64
        if double and buffer is not None and buffer.dtype != torch.float64:
            self.wide = True
            setattr(self, self.precise, buffer.double())
        super()._load_from_state_dict(state, prefix, *rest)
