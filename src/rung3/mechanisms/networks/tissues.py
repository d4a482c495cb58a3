"""A mixture of kinds of tissue, fitted to images that lie on top of each other.

At place p of image n a kind k has the share pi_kp, and its level is a regression on what sets how
images look, f_n = (1, looks):

    k ~ pi_p,      x_np ~ N(B_k f_n, s_k^2).

It is fitted by expectation and maximisation, from places that look alike: each is described by the
regression of its own level on f, and places are clustered, so that what is bright in one sequence
and dark in another is a kind of its own.

Source: Ashburner and Friston 2005, *Unified segmentation* (NeuroImage 26:839-851), without the
deformation and the bias field.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Lesion", "Mixture", "lesion_of", "mixed"]

ROUNDS = 12
"""Rounds of expectation and maximisation: shares and levels hardly change after them."""

LEAST_DEVIATION = 0.01
"""Least standard deviation of a kind, with levels from 0 to 1: two to three of 255."""

RIDGE = 1e-3
"""Added to the diagonal of the regressions, in rows, for looks that are alike in all rows."""

ALIKE = 1e-6
"""Levels by which places are told apart that are alike."""

START = 0.7
"""Share of the kind that a place's cluster is, at the start."""

STRUCK = 0.05
"""Share of all places, those that lesions change most, whose levels tell that of a lesion."""

OFTEN = 0.9
"""Quantile of the levels of the ill at these places that is taken for the lesion's: less often
than in a tenth of them there is one."""


class Mixture(NamedTuple):
    """Kinds of tissue.

    Attributes:
        share: By place, `(k, p)`.
        level: Coefficients B of the regression on `(1, looks)`, `(k, c, 1 + w)`.
        deviation: Standard deviation of the levels, `(k, c)`.
    """

    share: Tensor
    level: Tensor
    deviation: Tensor


class Lesion(NamedTuple):
    """What covers tissue in some images.

    Attributes:
        share: How probable it is at each place of the ill, `sizes`.
        level: By channel, `(c,)`.
    """

    share: Tensor
    level: Tensor


@torch.no_grad()
def lesion_of(well: Float[Tensor, "n c *sizes"], ill: Float[Tensor, "m c *sizes"]) -> Lesion:
    """Estimate the level of a lesion and where it is, from images without and with one.

    At a place the mean of the ill is `share * level + (1 - share) * mean of the well`.

    Example:
        >>> well, ill = torch.full((4, 1, 5, 5), 0.2), torch.full((4, 1, 5, 5), 0.2)
        >>> ill[:2, :, 0] = 0.8
        >>> lesion = lesion_of(well, ill)
        >>> lesion.level, lesion.share[:, 0]
        (tensor([0.8000]), tensor([0.5000, 0.0000, 0.0000, 0.0000, 0.0000]))
    """
    if not len(ill):  # none has been seen: anywhere, and half bright
        return Lesion(torch.zeros_like(well[0, 0]), well.new_full((well.shape[1],), 0.5))
    mean = well.mean(0)
    change = ill.mean(0) - mean
    size = change.square().sum(0)
    struck = size >= _quantile(size.flatten(), 1 - STRUCK)
    sign = torch.where(change[:, struck].mean(1) < 0, -1.0, 1.0)
    level = sign * _quantile(sign[:, None] * ill[:, :, struck].movedim(1, 0).flatten(1), OFTEN)
    whole = level.view(-1, *[1] * (change.ndim - 1)) - mean
    share = (change * whole).sum(0) / whole.square().sum(0).clamp_min(ALIKE)
    return Lesion(share.clamp(0, 1), level)


def _quantile(values: Tensor, share: float) -> Tensor:
    """Return the nearest value to a quantile, of more numbers than `torch.quantile` takes, too."""
    return values.kthvalue(1 + round(share * (values.shape[-1] - 1))).values


@torch.no_grad()
def mixed(images: Float[Tensor, "n c p"], looks: Float[Tensor, "n w"], kinds: int) -> Mixture:
    """Fit a mixture of so many kinds.

    Example:
        >>> dark, bright = torch.full((6, 1, 4), 0.1), torch.full((6, 1, 4), 0.8)
        >>> found = mixed(torch.cat([dark, bright], 2), torch.zeros(6, 0), kinds=2)
        >>> found.level.flatten().sort().values.mul(10).round()
        tensor([1., 8.])
    """
    design = torch.cat([looks.new_ones(len(looks), 1), looks], dim=1)
    mixture = _clustered(images, design, kinds)
    for _ in range(ROUNDS):
        mixture = _maximised(images, design, _shares(images, design, mixture))
    return mixture


def _clustered(images: Tensor, design: Tensor, kinds: int) -> Mixture:
    """Start from clusters of places."""
    from scipy.cluster.vq import kmeans2

    inverse = torch.linalg.pinv(design.double())
    of_place = torch.einsum("wn,ncp->pcw", inverse, images.double())
    size = design.double().square().mean(0).sqrt()  # so that coefficients are changes of level
    features = (of_place * size).flatten(1).cpu()
    # Places that are all alike, such as the ground, would leave nothing to choose centres from.
    features += ALIKE * torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    _, at = kmeans2(features.numpy(), kinds, minit="++", seed=0)
    one = torch.nn.functional.one_hot(torch.from_numpy(at).long(), kinds).T.to(images)
    share = (1 - START) / kinds + START * one
    return _maximised(images, design, share.expand(len(images), *share.shape))


def _shares(images: Tensor, design: Tensor, mixture: Mixture) -> Tensor:
    """Return how probable each kind is in each pixel, `(n, k, p)`."""
    level = torch.einsum("kcw,nw->nkc", mixture.level, design)[..., None]
    off = (images[:, None] - level) / mixture.deviation[..., None]
    odds = -0.5 * off.square().sum(2) - mixture.deviation.log().sum(1)[:, None]
    return (odds + mixture.share.clamp_min(1e-6).log()).softmax(1)


def _maximised(images: Tensor, design: Tensor, shares: Tensor) -> Mixture:
    """Return the kinds that fit best where these shares are known."""
    count = shares.sum(2)
    levels = torch.einsum("nkp,ncp->nkc", shares, images)
    squares = torch.einsum("nkp,ncp->kc", shares, images.square())
    gram = torch.einsum("nk,nw,nv->kwv", count, design, design)
    gram = gram + RIDGE * torch.eye(design.shape[1]).to(gram) * count.sum(0)[
        :, None, None
    ].clamp_min(1)
    moment = torch.einsum("nkc,nw->kwc", levels, design)
    level = torch.linalg.solve(gram, moment).transpose(1, 2)
    fitted = torch.einsum("kcw,nw->nkc", level, design)
    error = squares - (2 * fitted * levels - fitted.square() * count[..., None]).sum(0)
    variance = error / count.sum(0)[:, None].clamp_min(1)
    return Mixture(shares.mean(0), level, variance.clamp_min(LEAST_DEVIATION**2).sqrt())
