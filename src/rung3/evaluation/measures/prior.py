"""Whether abducted noise follows its prior: the probability integral transform.

Abducted from rows of the world, one draw each, noise of a right model is distributed as its prior:
`E_x P(u | x) = P(u)`. With F the prior's distribution function, number by number,

    v = F(u)  ~  U(0, 1),        D = sup_v |share of rows below v - v|         (Kolmogorov-Smirnov)

F is not needed: v is the rank among draws from the prior itself, one of them for each row,
`v = (#{below} + #{equal} / 2) / m`. Of n and m numbers that do follow it, D is about
`0.87 sqrt(1/n + 1/m)`, which is reported beside it. Where D is larger, the counterfactuals start
from noise that the model would never draw; no D tells whether each row got its own noise.

Sources: Dawid 1984; Hoffman and Johnson 2016, *ELBO surgery* (the aggregate posterior).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.rows import Noise, Rows
from rung3.data.seeding import Seed, base_seed, stream
from rung3.evaluation.measures.abduction import abducted
from rung3.evaluation.measures.base import Section

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["PRIOR", "apart", "pit", "prior_distances"]

PRIOR = Section(
    "prior",
    "Abducted noise against its prior",
    "Kolmogorov-Smirnov distance between the noise of all rows and the prior, beside its value by "
    "chance.",
    plain=True,
)

CHANCE = 0.8687
"""Mean of Kolmogorov's distribution, `sqrt(pi / 2) ln 2`."""


def pit(noise: Tensor, prior: Tensor) -> Tensor:
    """Return the rank of each number of the noise among the prior's draws of it, in [0, 1].

    Args:
        noise: Abducted noise `(n, *shape)`.
        prior: Draws from the prior `(m, *shape)`.

    Returns:
        v, `(n, *shape)`: uniform, if the noise follows the prior.

    Raises:
        ValueError: If the shapes do not agree.

    Example:
        >>> pit(torch.tensor([0.0, 9.0]), torch.tensor([-1.0, 1.0, 2.0, 3.0]))
        tensor([0.2500, 1.0000])
    """
    if noise.shape[1:] != prior.shape[1:]:
        raise ValueError(
            f"PIT: expected draws of shape {tuple(noise.shape[1:])}, got {tuple(prior.shape[1:])}"
        )
    values, known = (part.reshape(len(part), -1).T.contiguous() for part in (noise, prior))
    known = known.sort(dim=1).values
    below = torch.searchsorted(known, values)
    upto = torch.searchsorted(known, values, right=True)
    return ((below + upto).T / (2 * len(prior))).reshape(noise.shape).to(noise)


def apart(v: Tensor) -> Tensor:
    """Return the Kolmogorov-Smirnov distance of each number's distribution over rows from U(0, 1).

    Args:
        v: Transformed noise `(n, *shape)`, in [0, 1].

    Returns:
        D of each number, `(*shape)`, in [0, 1].

    Example:
        >>> apart(torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
        tensor(0.1000)
    """
    n = len(v)
    ordered = v.sort(dim=0).values
    k = torch.arange(1, n + 1, device=v.device).view(-1, *[1] * (v.ndim - 1))
    return torch.maximum(k / n - ordered, ordered - (k - 1) / n).amax(0)


def prior_distances(model: SCM, rows: Rows, seed: Seed = None) -> dict[str, dict[str, Any]]:
    """Measure how far the abducted noise of rows is from its prior, by variable and part.

    Args:
        model: The model.
        rows: Rows of the world or of data; noise that they carry is not looked at.
        seed: Of abduction, and of the prior's draws.

    Returns:
        By variable and part (`noise`, where there is but one): the mean D over its numbers as
        `distance`, the `worst` of them, and what `chance` alone would give; variables whose noise
        cannot be abducted by itself are not listed.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> found = prior_distances(world, world.sample(500, seed=0), seed=0)["x2"]["noise"]
        >>> found["distance"] < 2 * found["chance"]
        True
    """
    base = base_seed(seed)
    chance = CHANCE * math.sqrt(2 / rows.n)
    by_variable: dict[str, dict[str, Any]] = {}
    for name, noise in abducted(model, rows, base).items():
        mechanism = model.mechanisms[name]
        if isinstance(noise, str) or not set(mechanism.parents) <= set(rows):
            continue  # refused, or with a hidden cause: it has no prior by itself
        parents = {parent: rows[parent].to(model.device) for parent in mechanism.parents}
        generator = stream(base, f"prior/{name}", model.device)
        prior = _parts(mechanism.sample_noise(rows.n, parents, generator))
        by_variable[name] = {}
        for part, values in _parts(noise).items():
            distances = apart(pit(values, prior[part].cpu()))
            by_variable[name][part] = {
                "distance": float(distances.mean()),
                "worst": float(distances.max()),
                "chance": chance,
            }
    return by_variable


def _parts(noise: Noise) -> dict[str, Tensor]:
    return {"noise": noise} if isinstance(noise, Tensor) else dict(noise)
