"""The provenance of an answer, built from the model that gave it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from torch import Tensor

from rung3.data.provenance import DRAWN_ANEW, Provenance, Status
from rung3.data.rows import Exogenous
from rung3.scm.interventions import Intervention
from rung3.scm.model import Model
from rung3.scm.propagation import Changes
from rung3.scm.query_options import as_queried

__all__ = ["of_prediction", "of_sample"]


def of_sample(
    model: Model, values: Mapping[str, Tensor], given: Iterable[str], size: float | None
) -> Provenance:
    """Describe rows drawn from a model, with evidence on the names in `given`."""
    evidence = set(given)
    status: dict[str, Status] = {}
    for name, mechanism in model.mechanisms.items():
        status[name] = "intervened" if isinstance(mechanism, Intervention) else "sampled"
        status[name] = "observed" if name in evidence else status[name]
    interventions = _interventions(model)
    return Provenance(
        rung="doing" if interventions else "seeing",
        status=status,
        interventions=interventions,
        assumptions={
            name: mechanism.assumption
            for name, mechanism in model.mechanisms.items()
            if not model.confounding.members.keys().isdisjoint(mechanism.parents)
        },
        outside=_outside(model, values, {*interventions, *evidence}),
        effective_sample_size=size,
        undefined=_undefined(model, values, set(model.graph.nodes)),
    )


def of_prediction(
    model: Model,
    values: Mapping[str, Tensor],
    noise: Exogenous,
    changes: Changes,
    options: Mapping[str, Any],
) -> Provenance:
    """Describe rows predicted from noise, with options of mechanisms."""
    recomputed, mechanisms = changes.recomputed, model.mechanisms
    queried = {k: as_queried(m, options, changes.changed) for k, m in mechanisms.items()}
    status: dict[str, Status] = {}
    for name, mechanism in mechanisms.items():
        if name not in recomputed:
            status[name] = "observed"
        elif isinstance(mechanism, Intervention):
            status[name] = "held" if mechanism.held else "intervened"
        else:
            status[name] = "propagated"
    kinds = {**noise.kinds, **dict.fromkeys(changes.drawn, DRAWN_ANEW)}
    used = [name for name, m in mechanisms.items() if name in recomputed and m.wants_noise]
    return Provenance(
        rung="doing" if noise.factual is None else "imagining",
        status=status,
        interventions=_interventions(model),
        abductions={name: kinds[name] for name in used if name in kinds},
        assumptions={name: queried[name].assumption for name in used},
        outside=_outside(model, values, recomputed),
        read=noise.read,
        undefined=_undefined(model, values, recomputed),
        seed=noise.seed if noise.kinds else None,
    )


def _interventions(model: Model) -> dict[str, str]:
    return {k: m.describe() for k, m in model.mechanisms.items() if isinstance(m, Intervention)}


def _outside(model: Model, values: Mapping[str, Tensor], names: Set[str]) -> dict[str, float]:
    shares = {}
    for name, mechanism in model.mechanisms.items():
        if name in names:
            flat = values[name].detach().reshape(-1, *mechanism.variable.shape)
            if (outside := mechanism.out_of_range(flat)).any():
                shares[name] = float(outside.float().mean())
    return shares


def _undefined(model: Model, values: Mapping[str, Tensor], names: Set[str]) -> dict[str, str]:
    """Count rows in which variables are not numbers, and say at which values of their parents."""
    undefined = {}
    for name, mechanism in model.mechanisms.items():
        if name not in names or bool(values[name].detach().sum().isfinite()):  # so are all terms
            continue
        flat = values[name].detach().reshape(-1, *mechanism.variable.shape)
        wrong = ~flat.isfinite().reshape(len(flat), -1).all(1)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            at = [
                f"{parent}={float(values[parent].detach().reshape(-1)[row]):.4g}"
                for parent in mechanism.parents
                if parent in values and values[parent].numel() == len(flat)
            ]
            where = f", such as at {', '.join(at)}" if at else ""
            undefined[name] = f"{int(wrong.sum())} of {len(flat)} rows{where}"
    return undefined
