"""Rows with gaps: what is missing is drawn from its posterior given what is there.

With o the values that a row has and m those that it lacks, proposals are drawn in the graph's order
with o in place, and weighted by the likelihood of o (likelihood weighting: Fung and Chang 1990),

    m_s ~ prod_{k in m} p(m_k | pa_k),    w_s = prod_{k in o} p(o_k | pa_k),

and K of them are kept, drawn in proportion to w (sampling importance resampling: Rubin 1987), which
approaches `P(m | o)` as the proposals grow in number. Given the completed row, noise is abducted as
usual. Each row's effective sample size, `(sum w)^2 / sum w^2`, says how far this can be trusted;
below `TRUSTED` it is flagged. If every proposal has weight zero, so has the evidence as far as can
be seen, and that is an error: nothing falls back to the prior.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from rung3.data.provenance import TRUSTED
from rung3.data.rows import Rows, Values, as_rows
from rung3.data.seeding import Seed, base_seed, seeded, stream
from rung3.data.variables import Image
from rung3.scm.floating import in_own_precision
from rung3.scm.model import Model

__all__ = [
    "Completion", "check_present", "complete", "cure", "gaps", "refuse_gaps", "repeated", "whole",
]  # fmt: skip

PROPOSALS = 2_000
"""Proposals for a row, if not given."""

AT_ONCE = 1_000_000
"""Values of a variable that are held at once."""


@dataclass(frozen=True)
class Completion:
    """Rows whose gaps were filled, K times.

    Attributes:
        rows: The completed rows, `(K n, ...)`, particle by particle: `(K, n)` flattened.
        particles: K.
        sizes: Effective sample size of each row, `(n,)`; infinite where nothing was missing.
        shares: Share of the rows that lacked a variable, by its name, where it is not zero.
    """

    rows: Rows
    particles: int
    sizes: Tensor
    shares: Mapping[str, float]

    @property
    def trusted(self) -> Tensor:
        """Mask `(n,)` of the rows whose effective sample size is at least `TRUSTED`."""
        return self.sizes >= TRUSTED

    def fold(self, answer: Rows, batched: bool, read: Mapping[str, float] | None = None) -> Rows:
        """Give the answer for the completed rows the particles as a leading axis.

        Args:
            answer: Values `(K n, ...)`.
            batched: Whether the rows had a batch axis; the answer then is `(K, n, ...)`.
            read: Share of the rows that lacked a variable, which was read off an image.
        """
        folded = {k: v.unflatten(0, (self.particles, -1)) for k, v in answer.items()}
        return Rows(
            folded if batched else {k: v.squeeze(1) for k, v in folded.items()},
            batched=batched,
            particles=self.particles,
            provenance=replace(
                answer.explain(),
                inferred=self.shares,
                read=read or {},
                effective_sample_sizes=self.sizes,
            ),
        )


def gaps(model: Model, rows: Rows) -> dict[str, Tensor]:
    """Mask `(n,)` where a variable is missing, for those that are missing anywhere."""
    masks = {name: model.variables[name].is_missing(v) for name, v in rows.batch.items()}
    return {name: mask for name, mask in masks.items() if mask.any()}


def whole(model: Model, rows: Rows) -> Tensor:
    """Mask `(n,)` the rows in which nothing is missing."""
    missing = torch.zeros(rows.batch.n, dtype=torch.bool)
    for mask in gaps(model, rows).values():
        missing |= mask.cpu()
    return ~missing


def cure(model: Model, masks: Mapping[str, Tensor], n: int) -> str:
    """Say what to do about n rows with gaps: draw what they lack, or why that is not possible."""
    try:
        _check(model, masks, n)
    except ValueError as error:
        return f"it cannot be drawn given the rest: {error}{_readable(model, masks)}"
    return (
        "counterfactual(..., particles=) draws it given the rest, and so does "
        "rung3.scm.imputation.complete"
    )


def _readable(model: Model, masks: Mapping[str, Tensor]) -> str:
    """Say that a missing cause of an image can be read off it."""
    for name, variable in model.variables.items():
        lacking = [k for k in model.graph.parents(name) if k in masks]
        if isinstance(variable, Image) and lacking and name not in masks:
            return (
                f"; or let predictors read {lacking} off {name}: model.readers = "
                "fit_oracles(model, train); those of a run, RunFolder(...).model(), are there"
            )
    return ""


def check_present(model: Model, rows: Rows, purpose: str) -> None:
    """Refuse rows in which a variable that they have is missing (NaN).

    Raises:
        ValueError: Naming the first such variable and row, and the cure.
    """
    if masks := gaps(model, rows):
        refuse_gaps(model, masks, rows.n, purpose)


def refuse_gaps(model: Model, masks: Mapping[str, Tensor], n: int, purpose: str) -> NoReturn:
    """Refuse n rows, given the masks of their gaps."""
    name, mask = next(iter(masks.items()))
    raise ValueError(
        f"{name}: missing in {int(mask.sum())} rows (first: row {int(mask.nonzero()[0])}); "
        f"{purpose} needs its value; {cure(model, masks, n)}"
    )


@in_own_precision
@torch.no_grad()
def complete(
    model: Model,
    values: Values,
    particles: int = 16,
    *,
    proposals: int | None = None,
    seed: Seed = None,
) -> Completion:
    """Draw what rows lack from its posterior given what they have.

    Args:
        model: The model.
        values: A value of every variable, NaN where it is missing.
        particles: Number K of draws a row.
        proposals: Draws that are weighted, a row: 2,000, or 20 K if that is more.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Returns:
        K completed rows for each, and how far they can be trusted.

    Raises:
        ValueError: If a row has no value at all, its values have probability zero, hidden causes
            join variables, or a likelihood that is needed is only a bound.

    Example:
        >>> from rung3 import SCM, Continuous
        >>> from rung3.mechanisms import Equation
        >>> kinds = {"x": Continuous(missing=True), "y": Continuous()}
        >>> model = SCM(None, kinds, x=Equation("u"), y=Equation("x + u"))
        >>> completion = complete(model, {"x": [float("nan")], "y": [2.0]}, 1000, seed=0)
        >>> round(completion.rows["x"].mean().item(), 1)  # E[x | y = 2] = 1
        1.0
    """
    rows = as_rows(values, model.variables, model.device)
    if not rows.batched:
        raise ValueError("complete: expected a batch of rows, got a single one")
    model.check_given(rows)
    count = max(PROPOSALS, 20 * particles) if proposals is None else proposals
    if particles < 1 or count < particles:
        raise ValueError(f"proposals={count} must be at least particles={particles}, and that 1")
    masks = gaps(model, rows)
    filled = {k: v.expand(particles, *v.shape).clone() for k, v in rows.items()}
    sizes = torch.full((rows.n,), math.inf, device=model.device)
    if masks:
        _check(model, masks, rows.n)
        lacking = torch.stack(list(masks.values())).any(0).nonzero()[:, 0]
        base = base_seed(seed, "complete")
        for part, at in enumerate(lacking.split(max(1, AT_ONCE // count))):
            _fill(model, rows, masks, at, count, base_seed(base, f"part {part}"), filled, sizes)
    flat = Rows({k: v.flatten(0, 1) for k, v in filled.items()})
    shares = {k: float(mask.float().mean()) for k, mask in masks.items()}
    return Completion(flat, particles, sizes, shares)


def _fill(
    model: Model,
    rows: Rows,
    masks: Mapping[str, Tensor],
    at: Tensor,
    count: int,
    base: int,
    filled: Mapping[str, Tensor],
    sizes: Tensor,
) -> None:
    """Fill the rows at some places, `(K, n, ...)`, and their effective sample sizes, in place."""
    part = {k: v[at] for k, v in rows.items()}
    missing = {k: mask[at] for k, mask in masks.items()}
    drawn, log_weights = _propose(model, part, missing, count, base)
    best = log_weights.amax(0)
    if (best == -math.inf).any() or best.isnan().any():
        row = int(at[int((~best.isfinite()).nonzero()[0])])
        lack = [k for k, mask in masks.items() if mask[row]]
        raise ValueError(
            f"row {row}: its values have probability zero whatever {' and '.join(lack)} "
            f"may be, in {count} draws; correct the row, or give more proposals="
        )
    weights = (log_weights - best).exp().double()
    sizes[at] = (weights.sum(0).square() / weights.square().sum(0)).to(sizes)
    generator = stream(base, "resampling", model.device)
    particles = len(next(iter(filled.values())))
    draws = max(2, particles)  # torch takes ten times as long for one draw as for two
    chosen = torch.multinomial(weights.T, draws, replacement=True, generator=generator).T
    chosen = chosen[:particles]
    column = torch.arange(len(at), device=model.device)
    for k in masks:
        filled[k][:, at] = drawn[k][chosen, column]


def repeated(model: Model, name: str, value: Any, particles: int, n: int) -> Any:
    """Repeat an intervention with one value a row for every particle; leave others as they are."""
    if name not in model.variables or (callable(value) and not isinstance(value, Tensor)):
        return value
    valid = model.variables[name].validate(name, value)
    if valid.ndim == len(model.variables[name].shape):
        return valid
    if len(valid) not in (1, n):
        raise ValueError(f"do({name}=...): {len(valid)} values for {n} rows")
    return valid.expand(n, *valid.shape[1:]).repeat(particles, *[1] * (valid.ndim - 1))


def _check(model: Model, masks: Mapping[str, Tensor], n: int) -> None:
    """Refuse what cannot be completed."""
    if model.confounding.members:
        raise ValueError("rows with gaps: hidden causes join variables; give complete rows")
    if len(masks) == len(model.variables):
        empty = torch.stack(list(masks.values())).all(0)
        if empty.any():
            raise ValueError(
                f"row {int(empty.nonzero()[0])}: all its values are missing; leave it out, or "
                "sample from the model"
            )
    for name, mechanism in model.mechanisms.items():
        lacking = [parent for parent in mechanism.parents if parent in masks]
        whole = name not in masks or not masks[name].all()
        if lacking and whole and mechanism.abduction == "approximate":
            raise ValueError(
                f"{name}: it would weigh what is missing above it by its likelihood, of which "
                f"{mechanism.describe()} has only a bound; give {lacking}, or leave such rows out"
            )


def _propose(
    model: Model, rows: Mapping[str, Tensor], masks: Mapping[str, Tensor], count: int, base: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Draw what is missing anywhere, `(count, n, ...)`, and log-weights `(count, n)`."""
    n = len(next(iter(rows.values())))
    total = count * n
    log_weights = torch.zeros(count, n, device=model.device)
    values: dict[str, Tensor] = {}
    for name in model.graph.order:
        mechanism = model.mechanisms[name]
        given = rows[name].repeat(count, *[1] * (rows[name].ndim - 1))
        parents = {parent: values[parent] for parent in mechanism.parents}
        missing = masks.get(name)
        value = given
        if missing is not None:
            noise = mechanism.sample_noise(total, parents, stream(base, name, model.device))
            drawn = mechanism.predict(noise, parents).to(given).expand(total, *given.shape[1:])
            gap = missing.repeat(count).reshape(total, *[1] * (given.ndim - 1))
            value = torch.where(gap, drawn, given)
        values[name] = value
        unsure = torch.zeros(n, dtype=torch.bool, device=model.device)
        for parent in mechanism.parents:
            unsure |= masks.get(parent, unsure)
        weighing = unsure if missing is None else unsure & ~missing
        if weighing.any():
            at = weighing.repeat(count)
            with seeded(base_seed(base, "weights"), name, model.device):
                log_prob = mechanism.log_prob(value[at], {k: v[at] for k, v in parents.items()})
            log_weights[:, weighing] += log_prob.reshape(count, -1).to(log_weights)
    return {k: values[k].reshape(count, n, *values[k].shape[1:]) for k in masks}, log_weights
