"""Posterior collapse: layers of latents that tell nothing about the image.

Averaged over images, the divergence of a layer's posterior from its prior is

    E KL(q(u_i | u_>i, x, pa) || p(u_i)) = I(x; u_i | u_>i, pa) + E KL(q(u_i | u_>i, pa) || p(u_i)),

at least the information that the layer has about the image, given the layers above it. Where it is
next to nothing, abduction draws from the prior, whatever the image is, and the layer is *unused*.

Source: Hoffman and Johnson 2016, *ELBO surgery*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.log_prob import batches
from rung3.mechanisms.autoencoder import UNUSED, Autoencoder
from rung3.mechanisms.base import Mechanism, Parents
from rung3.mechanisms.path import Path

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["divergences"]


def divergences(
    model: SCM, rows: Rows, batch_size: int, bootstrap: Bootstrap, seed: int
) -> dict[str, Any]:
    """Measure the divergence of posterior from prior by layer of latents, for all that have some.

    Args:
        model: The model.
        rows: Test rows, complete.
        batch_size: Rows at once.
        bootstrap: Of that many rows.
        seed: Of the draws from the posterior.

    Returns:
        By variable and layer, in the order in which they are decoded: `mean`, `low`, `high`,
        `unit`, the number of `dimensions`, and whether it is `unused`.
    """
    by_variable: dict[str, Any] = {}
    for name, mechanism in model.mechanisms.items():
        if not (isinstance(mechanism, Autoencoder) or _has_code(mechanism)):
            continue
        parts: dict[str, list[Tensor]] = {}
        sizes: dict[str, int] = {}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for batch in batches(mechanism, rows, batch_size, model.device):
                for layer, (z, kl) in _inferred(mechanism, *batch).items():
                    parts.setdefault(layer, []).append(kl.cpu())
                    sizes[layer] = z[0].numel()
        by_variable[name] = {}
        for layer, part in parts.items():
            mean = bootstrap.mean(torch.cat(part))
            held = {"dimensions": sizes[layer], "unused": mean["mean"] < UNUSED}
            by_variable[name][layer] = {**mean, "unit": "nats", **held}
    return by_variable


def _has_code(mechanism: Mechanism) -> bool:
    return isinstance(mechanism, Path) and bool(mechanism.latent)


def _inferred(
    mechanism: Mechanism, value: Tensor, parents: Parents
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return a draw of each layer's latents, `(n, ...)`, and their divergence, `(n,)`."""
    if isinstance(mechanism, Path):
        code, kl = mechanism.encode(mechanism.space(value, parents)[0], parents)
        assert code is not None
        return {"z": (code, kl)}
    assert isinstance(mechanism, Autoencoder)
    inferred = mechanism.infer(value, parents)
    return {layer: (inferred.noise[layer], kl) for layer, kl in inferred.kl.items()}
