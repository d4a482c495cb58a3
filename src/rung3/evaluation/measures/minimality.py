"""Minimality: whether an image changed by no more than the intervention asked for.

Counterfactual latent divergence. With `d` a distance of features, x an image, x~ its counterfactual
and `delta = d(x, x~)`, among reference images

    too far    p_1 = share of {r : parent as x~'s} with d(x, r) <= delta
    too near   p_2 = share of {r : parent as x's}  with d(x, r) >= delta
    CLD        log(w_1 e^{p_1} + w_2 e^{p_2}),                  w = (0.8, 0.2)

It lies between 0 and 1, and less is better: a counterfactual should be nearer to its factual than
others that have the new value, yet farther than others that have the old one.

The published code departs from this in ways that are put right here:

1. it draws one intervention a batch at random, keeps of each image only the value of *its own*
   batch's variable, and then compares images across batches: a digit with a thickness. Here every
   image is compared in the variable that was set;
2. its Gaussian divergence takes the mean in place of the log-deviation, in both distributions, and
   its encoder gives a log-variance;
3. its reference images are the factuals, each among its own references at distance zero; here they
   are others, training images say, the same for every model;
4. it bins numbers at the means of bins, by two functions that treat an edge differently; here bins
   hold equal shares of the reference;
5. images without a reference are left out with a printed warning; here they are NaN, and counted;
6. it is not seeded.

One defect is of the measure itself: doing nothing has delta = 0, so p = (0, 1) and CLD = 0.30
whatever is asked, which is better than many a right answer where the variable explains little of
the distance between images. Never read it without effectiveness.

Sources: Sanchez and Tsaftaris 2022 (arXiv 2202.10166), section 4; Melistas et al. 2024
(arXiv 2403.20287), section 3.4.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.variables import Discrete, Variable
from rung3.evaluation.measures.amplification import DRIFT, score_drift
from rung3.evaluation.measures.base import (
    FACTUAL,
    Answers,
    Examination,
    Measure,
    Readings,
    Section,
    features_of,
)

__all__ = [
    "MINIMALITY",
    "REFERENCES",
    "LatentDivergence",
    "alike",
    "latent_divergence",
]

REFERENCES = 1_000
"""Real rows that counterfactuals are compared with, at most."""

WEIGHTS = (0.8, 0.2)
"""Weights of too far and of too near."""

BINS = 10
"""Bins of equal shares that numbers are compared in."""


class LatentDivergence(NamedTuple):
    """One score a row, `(n,)` each; NaN for a row without a reference.

    Attributes:
        cld: Counterfactual latent divergence, 0 to 1; the lower the better.
        too_far: Share p_1 of images with the new value that are as near as the counterfactual.
        too_near: Share p_2 of images with the old value that are as far as the counterfactual.
    """

    cld: Tensor
    too_far: Tensor
    too_near: Tensor


def latent_divergence(
    delta: Float[Tensor, " n"],
    distances: Float[Tensor, "n m"],
    before: Bool[Tensor, "n m"],
    after: Bool[Tensor, "n m"],
    weights: tuple[float, float] = WEIGHTS,
) -> LatentDivergence:
    """Return the counterfactual latent divergence of each row.

    Args:
        delta: Distance of each counterfactual from its factual, `(n,)`.
        distances: Distance of each factual from each reference, `(n, m)`, by the same measure:
            `torch.cdist` of features, or `torch.distributions.kl_divergence` of posteriors.
        before: Whether the reference has the factual's value of what was set, `(n, m)`: `alike`.
        after: Whether it has the counterfactual's, `(n, m)`.
        weights: Of too far and of too near, with sum 1.

    Raises:
        ValueError: If the weights are negative or their sum is not 1.

    Example:
        >>> one = torch.ones(1, 2, dtype=torch.bool)
        >>> far = torch.tensor([[3.0, 4.0]])
        >>> latent_divergence(torch.tensor([0.0]), far, one, one).cld  # nothing was done
        tensor([0.2954])
    """
    if min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise ValueError(f"weights: expected two of sum 1, not negative, got {weights}")
    near, far = distances <= delta[:, None], distances >= delta[:, None]
    too_far, too_near = _share(near, after), _share(far, before)
    cld = (weights[0] * too_far.exp() + weights[1] * too_near.exp()).log()
    return LatentDivergence(cld, too_far, too_near)


def alike(variable: Variable, values: Tensor, reference: Tensor) -> Bool[Tensor, "n m"]:
    """Return whether rows have a reference's value: its class, or its bin of numbers.

    Args:
        variable: The variable, of single values.
        values: Its values `(n,)`.
        reference: Its values in the references, `(m,)`.

    Raises:
        ValueError: If the variable is not of single values.

    Example:
        >>> from rung3 import Categorical
        >>> alike(Categorical(3), torch.tensor([2]), torch.tensor([0, 2, 2]))
        tensor([[False,  True,  True]])
    """
    if variable.shape:
        raise ValueError(f"minimality: expected single values, got a variable of {variable.shape}")
    if not isinstance(variable, Discrete):
        inner = torch.linspace(0, 1, BINS + 1, device=reference.device, dtype=reference.dtype)[1:-1]
        edges = torch.quantile(reference, inner)
        values, reference = torch.bucketize(values, edges), torch.bucketize(reference, edges)
    return values[:, None] == reference[None]


def _share(hits: Tensor, among: Tensor) -> Tensor:
    """Return the share of hits among those that count, `(n,)`; NaN where there are none."""
    kind = torch.get_default_dtype()
    return (hits & among).sum(1).to(kind) / among.sum(1).to(kind)


def _on_answers(exam: Examination, answers: Answers) -> None:
    if exam.reference is not None:
        for image in exam.images(answers.query):
            for mode in answers.by_mode:
                _diverge(exam, answers, image, mode, *exam.reference)
    score_drift(exam, answers)


def _diverge(
    exam: Examination, answers: Answers, image: str, mode: str, reference: Rows, readings: Readings
) -> None:
    label = answers.query.label
    paths = [("minimality", image, label, mode, k) for k in ("cld", "too far", "too near")]
    with exam.flagged(paths):
        others = features_of(readings, image)
        before, after = (features_of(answers.readings[k], image) for k in (FACTUAL, mode))
        old = _alike_in_all(exam, answers, answers.rows, reference)
        new = _alike_in_all(exam, answers, answers.by_mode[mode], reference)
        delta = (before - after).square().sum(1).sqrt()
        divergence = latent_divergence(delta, torch.cdist(before, others), old, new)
        for path, values in zip(paths, divergence, strict=True):
            exam.scores.add(path, values, "", partial=True)


def _alike_in_all(
    exam: Examination, answers: Answers, rows: Rows, reference: Rows
) -> Bool[Tensor, "n m"]:
    """Return whether references have the same values of all that was set, `(n, m)`."""
    each = [alike(exam.model.variables[k], rows[k], reference[k]) for k in answers.query.do]
    return torch.stack(each).all(0)


MINIMALITY = Measure(
    name="minimality",
    about="CLD, and drift of what is not a descendant",
    sections=(
        Section(
            "minimality",
            "Minimality: counterfactual latent divergence",
            "From 0 to 1, the lower the better, of two shares of real images: those with the new "
            "value that are as near, and those with the old one that are as far. Doing nothing "
            "scores 0.30: read it beside effectiveness.",
            better={"cld": "lower"},
        ),
        DRIFT,
    ),
    references=REFERENCES,
    on_answers=_on_answers,
)
