"""Conditioning on evidence: `p(x | e)` for `SCM.sample(given=)`.

Where everything upstream of the evidence is given as well, forward sampling is exact. Otherwise
everything upstream of the evidence is drawn forward with the evidence clamped, each draw is
weighted by `prod_{k in e} p(e_k | pa_k)`, and rows are resampled in proportion (likelihood
weighting; Fung and Chang 1990). How far that can be trusted is the effective sample size
`(sum w)^2 / sum w^2`. Where it is below `ENOUGH`, because evidence is rare or tells much, rows are

- drawn from the exact posterior, summed over all combinations, if all are categories;
- else moved there by tempering, if all are numbers and categories (see `rung3.scm.tempering`).

If the size is still below `TRUSTED`, a warning says so.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from rung3.data.provenance import TRUSTED
from rung3.data.seeding import seeded, stream
from rung3.data.variables import Discrete
from rung3.mechanisms.base import Mechanism
from rung3.scm import propagation
from rung3.scm.model import Model
from rung3.scm.tempering import Tempered, can_be_tempered

__all__ = ["condition"]

PROPOSALS = 10_000
"""Draws that are weighted."""

ENOUGH = 1_000
"""Effective sample size below which a better, slower way is taken."""

TEMPERED = 4_000
"""Draws that are tempered."""

MOST_CELLS = 2**20
"""Most combinations of categories that are summed over."""


def condition(
    model: Model, evidence: Mapping[str, Tensor], n: int, base: int
) -> tuple[dict[str, Tensor], float | None]:
    """Draw the evidence and all upstream of it, `(n, ...)`, given the evidence.

    Args:
        model: The model.
        evidence: One value a variable.
        n: Number of rows.
        base: The seed.

    Returns:
        The values, and the effective sample size unless they are exact.

    Raises:
        ValueError: If the evidence has probability zero, or would weigh what is not known above it
            by a likelihood of which there is only a bound.
    """
    for name, value in evidence.items():
        if model.variables[name].is_missing(value.unsqueeze(0)).any():
            raise ValueError(f"given: {name} is NaN; leave out what is not known")
    mechanisms = {**model.confounding.mechanisms, **model.mechanisms}
    upstream, unknown = _upstream(model, mechanisms, evidence)
    weighing = {k: mechanisms[k] for k in evidence if unknown.keys() & mechanisms[k].parents.keys()}
    _check(weighing, unknown)
    whole = {k: mechanisms[k] for k in evidence if k not in weighing}
    if _log_weights(whole, _clamp(evidence, 1), base, model.device).isneginf().any():
        _refuse(evidence)
    if not weighing:
        return _clamp(evidence, n), None
    m = max(PROPOSALS, 10 * n)
    values, _ = propagation.generate(model, m, base, _clamp(evidence, m), upstream)
    log_weights = _log_weights(weighing, values, base, model.device)
    weights = (log_weights - log_weights.max()).exp().double().nan_to_num(0)
    size = float(weights.sum() ** 2 / weights.square().sum().clamp_min(1e-300))
    generator = stream(base, "resampling", model.device)
    if size < ENOUGH and (cells := _cells(unknown)) <= MOST_CELLS:
        return _exact(unknown, weighing, evidence, cells, n, generator), None
    if size == 0:
        _refuse(evidence, f", as far as {m:,} draws can tell; give more of what is upstream of it")
    if size < ENOUGH and can_be_tempered(unknown):
        first = {name: values[name][: max(TEMPERED, n)] for name in upstream}
        draws = Tempered(unknown, weighing, first, generator)
        size, values = draws.run(), draws.values
        chosen = torch.randperm(len(draws.lineage), generator=generator, device=model.device)[:n]
    else:
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
    if size < TRUSTED:
        warnings.warn(
            f"given: evidence on {list(evidence)} is so rare that these rows are worth only "
            f"{size:.0f} independent ones: do not trust them; give less, or more of what is "
            f"upstream of it ({', '.join(name for name in unknown if name in model.variables)})",
            stacklevel=3,
        )
    return {name: values[name][chosen] for name in upstream}, size


def _upstream(
    model: Model, mechanisms: Mapping[str, Mechanism], evidence: Mapping[str, Tensor]
) -> tuple[set[str], dict[str, Mechanism]]:
    """Return the evidence and all that acts on it, and the mechanisms of what is not given."""
    upstream = set(model.graph.ancestors(list(evidence))) | set(evidence)
    causes = {p for name in upstream for p in mechanisms[name].parents}
    upstream |= causes & model.confounding.members.keys()
    order = (*model.confounding.members, *model.graph.order)
    unknown = {k: mechanisms[k] for k in order if k in upstream and k not in evidence}
    return upstream, unknown


def _cells(unknown: Mapping[str, Mechanism]) -> float:
    """Count the combinations of what is unknown; infinite if not all are categories."""
    kinds = [mechanism.variable for mechanism in unknown.values() if mechanism.wants_noise]
    return math.prod(kind.classes if isinstance(kind, Discrete) else math.inf for kind in kinds)


def _exact(
    unknown: Mapping[str, Mechanism],
    weighing: Mapping[str, Mechanism],
    evidence: Mapping[str, Tensor],
    cells: float,
    n: int,
    generator: Generator,
) -> dict[str, Tensor]:
    """Draw from the exact posterior, by the probability of every combination of categories."""
    values = _clamp(evidence, int(cells))
    at = torch.arange(int(cells), device=generator.device)
    for name, mechanism in unknown.items():
        kind = mechanism.variable
        values[name] = torch.zeros(len(at), *kind.shape, dtype=kind.dtype, device=at.device)
        if mechanism.wants_noise and isinstance(kind, Discrete):
            values[name], at = (at % kind.classes).to(kind.dtype), at // kind.classes
    every = Tempered(unknown, weighing, values, generator)
    log_probs = every.prior + every.likelihood
    if log_probs.isneginf().all():
        _refuse(evidence)
    chosen = torch.multinomial(log_probs.softmax(0), n, replacement=True, generator=generator)
    return {name: value[chosen] for name, value in every.values.items()}


def _check(weighing: Mapping[str, Mechanism], unknown: Mapping[str, Mechanism]) -> None:
    """Refuse evidence that would weigh unknown causes by a bound."""
    for name, mechanism in weighing.items():
        if mechanism.abduction == "approximate":
            lacking = [parent for parent in mechanism.parents if parent in unknown]
            raise ValueError(
                f"given: {name} would weigh {' and '.join(lacking)} by its likelihood, of which "
                f"{mechanism.describe()} has only a bound; give {lacking} too"
            )


def _refuse(evidence: Mapping[str, Tensor], how: str = "") -> None:
    raise ValueError(
        f"given: the evidence on {list(evidence)} has probability zero in this model{how}"
    )


def _clamp(evidence: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    return {name: value.expand(n, *value.shape) for name, value in evidence.items()}


def _log_weights(
    evidence: Mapping[str, Mechanism], values: Mapping[str, Tensor], base: int, device: torch.device
) -> Tensor:
    """Compute `sum log p(e_k | pa_k)` of each draw, `(m,)`."""
    total = torch.zeros((), device=device)
    with torch.no_grad(), seeded(base, "weights", device):  # a bound may be a random one
        for name, mechanism in evidence.items():
            parents = {parent: values[parent] for parent in mechanism.parents}
            total = total + mechanism.log_prob(values[name], parents)
    return total
