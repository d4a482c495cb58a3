"""An exponential moving average of weights, that forgets the first steps quickly.

After step n = 0, 1, ... (Polyak averaging with a decay that grows, as in TensorFlow's)

    a <- d a + (1 - d) w,   d = min(decay, (1 + n) / (10 + n)),   d = 0 at n = 0.
"""

from __future__ import annotations

import copy

from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["Average"]


class Average(nn.Module):
    """The moving average of the weights of modules; buffers are copied as they are.

    So are the weights of modules that are not `averaged`.

    Args:
        modules: What is trained.
        decay: The greatest decay, between 0 and 1.

    Attributes:
        module: The modules with averaged weights.
    """

    def __init__(self, modules: nn.ModuleList, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.module = copy.deepcopy(modules).requires_grad_(False)
        # In a list, what is trained is no part of this module.
        self._pairs = list(zip(self.module, modules, strict=True))

    def update(self, k: int, n: int) -> None:
        """Move the average of the k-th module along after its step n."""
        average, trained = self._pairs[k]
        decay = min(self.decay, (1 + n) / (10 + n)) if n and trained.averaged else 0.0
        averages, weights = (
            [p.to_local() if isinstance(p, DTensor) else p for p in side.parameters()]
            for side in (average, trained)
        )
        get_ema_multi_avg_fn(decay)(averages, weights, n)
        for held, current in zip(average.buffers(), trained.buffers(), strict=True):
            held.copy_(current)
