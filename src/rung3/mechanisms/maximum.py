"""Maximum likelihood: the parameters of a mechanism that has few, found at once."""

from __future__ import annotations

import torch
from torch import Tensor

from rung3.mechanisms.base import Mechanism, Parents

__all__ = ["maximise_likelihood"]

LBFGS_STEPS = 200
"""Steps at most."""


@torch.enable_grad()
def maximise_likelihood(mechanism: Mechanism, value: Tensor, parents: Parents) -> None:
    """Fit a mechanism by its likelihood, in place; where that diverges it stays as it was."""
    before = {name: part.clone() for name, part in mechanism.state_dict().items()}
    optimizer = torch.optim.LBFGS(
        mechanism.parameters(), max_iter=LBFGS_STEPS, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = mechanism.loss(value, parents)
        loss.backward()
        return loss

    optimizer.step(closure)
    optimizer.zero_grad()
    if not mechanism.loss(value, parents).isfinite():
        mechanism.load_state_dict(before)
