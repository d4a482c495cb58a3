"""Recovery of the exogenous noise: whether what was abducted is what really made the row.

Noise is known up to a monotone change of its scale: a model that holds `g(u)` for the world's `u`
answers every question alike. So where both have the same shape, and number by number, what counts
is Spearman's correlation of ranks,

    rho = corr(rank(u~), rank(u)),      reported as |rho|: a mechanism may well run on -u.

|rho| is 1 for recovered noise and 0 for noise that has nothing to do with the world's. Latents of
images have neither the world's dimensions nor its coordinates. There it is distance correlation,

    dcor^2 = dcov(u~, u) / sqrt(dcov(u~, u~) dcov(u, u)),

with `dcov(a, b)` the mean product of the two matrices of pairwise distances, each U-centred, which
makes it unbiased: about 0 (at times less) for independent noise, whatever the dimensions, and 1
where one is the other turned, moved or scaled as a whole. In between it only ranks models: a
perfect latent in bent coordinates scores less than 1.

Sources: Spearman 1904; Székely and Rizzo 2014 (Annals of Statistics 42:6), equations 2.4 to 2.7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.rows import Noise, Rows, map_noise, noise_parts
from rung3.data.seeding import Seed
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.abduction import abducted
from rung3.evaluation.measures.base import Examination, Measure, Section, or_why
from rung3.mechanisms.networks.encoding import deviation
from rung3.scm.query import Query

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["MAX_ROWS", "RECOVERY", "distance_correlation", "rank_correlation", "recovery"]

MAX_ROWS = 2_000
"""Rows between which distances are taken, at most: their matrix is held in memory."""


def rank_correlation(noise: Tensor, true: Tensor) -> Tensor:
    """Return the absolute rank correlation over rows, of each number by itself, `(*shape)`.

    Args:
        noise: Abducted noise `(n, *shape)`.
        true: The world's noise `(n, *shape)`.

    Returns:
        |rho| in [0, 1]; NaN where one of the two is constant.

    Raises:
        ValueError: If shapes differ, or there are fewer than two rows.

    Example:
        >>> u = torch.linspace(-2, 2, 50)
        >>> round(rank_correlation(-u.exp(), u).item(), 4)
        1.0
    """
    from torchmetrics.functional.regression import spearman_corrcoef

    if noise.shape != true.shape or len(noise) < 2:
        raise ValueError(
            f"rank correlation: expected two or more rows of one shape, got {tuple(noise.shape)} "
            f"and {tuple(true.shape)}"
        )
    a, b = (part.double().reshape(len(part), -1) for part in (noise, true))
    rho = spearman_corrcoef(a, b).abs().reshape(-1)
    constant = (a.amax(0) == a.amin(0)) | (b.amax(0) == b.amin(0))
    return rho.masked_fill(constant, torch.nan).reshape(noise.shape[1:])


def distance_correlation(x: Tensor, y: Tensor) -> float:
    """Return the bias-corrected squared distance correlation of paired rows.

    Args:
        x: Points `(n, ...)`, n at least 4.
        y: Points `(n, ...)`, of any shape of their own.

    Returns:
        At most 1; near 0 if independent; NaN where all points of one are the same.

    Raises:
        ValueError: If numbers of rows differ, or there are fewer than four.

    Example:
        >>> points = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
        >>> round(distance_correlation(points, 2 - 5 * points), 4)
        1.0
    """
    if len(x) != len(y) or len(x) < 4:
        raise ValueError(
            f"distance correlation: expected the same rows, 4 or more, got {len(x)} and {len(y)}"
        )
    a, b = _u_centred(x), _u_centred(y)
    return float((a * b).mean() / ((a * a).mean() * (b * b).mean()).sqrt())


def recovery(model: SCM, rows: Rows, seed: Seed = None) -> dict[str, dict[str, Any]]:
    """Measure how well a model recovers the noise of rows, by variable.

    Of a model's noise the part that only observes (a VAE's eps) is left out; of parts of noise
    every number is standardised, so that none outweighs the others by its unit.

    Args:
        model: The model.
        rows: Rows that carry the world's noise; at most 2,000 of them are compared by distances.
        seed: Of abduction.

    Returns:
        By variable: `measure` (`rank correlation` or `distance correlation`), its `value`, and
        the number of `rows`; or why it was `refused`.

    Raises:
        ValueError: If the rows carry no noise.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> found = recovery(world, world.sample(50, seed=0))["x2"]
        >>> found["measure"], round(found["value"], 4)
        ('rank correlation', 1.0)
    """
    if not rows.noise:
        raise ValueError("recovery: the rows carry no noise; expected rows sampled from a world")
    by_variable: dict[str, dict[str, Any]] = {}
    for name, noise in abducted(model, rows, seed).items():
        if name not in rows.noise:
            continue
        if isinstance(noise, str):
            by_variable[name] = {"refused": noise}
            continue
        latent = _latent(noise, model.mechanisms[name].observation_noise)
        true = map_noise(Tensor.cpu, rows.noise[name])
        if isinstance(latent, Tensor) and isinstance(true, Tensor) and latent.shape == true.shape:
            value = float(rank_correlation(latent, true).nanmean())
            by_variable[name] = {"measure": "rank correlation", "value": value, "rows": rows.n}
        else:
            first = slice(MAX_ROWS)
            value = distance_correlation(_columns(latent)[first], _columns(true)[first])
            count = min(rows.n, MAX_ROWS)
            by_variable[name] = {"measure": "distance correlation", "value": value, "rows": count}
    return by_variable


def _latent(noise: Noise, observation: tuple[str, ...]) -> Noise:
    """Return noise without the parts of observation."""
    if isinstance(noise, Mapping):
        return {name: part for name, part in noise.items() if name not in observation}
    return noise


def _columns(noise: Noise) -> Tensor:
    """Return noise as a standardised vector a row, `(n, d)`; grey levels and labels as numbers."""
    parts = noise_parts(noise).values()
    columns = torch.cat([part.double().reshape(len(part), -1) for part in parts], dim=1)
    return (columns - columns.mean(0)) / deviation(columns)


def _u_centred(x: Tensor) -> Tensor:
    """Return pairwise distances `(n, n)`, U-centred: every row and every column sums to zero.

    The diagonal is zero, and means are over n (n - 3).
    """
    n = len(x)
    flat = x.double().reshape(n, -1)
    d = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    means = d.sum(0) / (n - 2)
    centred = d - means[:, None] - means[None] + d.sum() / ((n - 1) * (n - 2))
    return centred.fill_diagonal_(0)


def _compute(
    exam: Examination, rows: Rows, queries: Sequence[Query], known: int, bootstrap: Bootstrap
) -> dict[str, Any]:
    some = rows[: min(known, MAX_ROWS)].to(exam.model.device)
    return {"recovery": or_why(lambda: recovery(exam.model, some, exam.seed))}


RECOVERY = Measure(
    name="recovery",
    about="rank correlation of abducted and true noise",
    sections=(
        Section(
            "recovery",
            "Recovery: is the abducted noise the true one?",
            "Rank correlation where both have one shape, else squared distance correlation; 1 is "
            "recovered, 0 is unrelated.",
            plain=True,
        ),
    ),
    compute=_compute,
)
