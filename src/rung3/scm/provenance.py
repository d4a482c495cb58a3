"""Provenance: what an answer rests on, so that a reader can judge it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from rung3.data.rows import Exogenous
from rung3.scm.interventions import Intervention
from rung3.scm.propagation import drawn_anew

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["Provenance", "Status", "of_prediction", "of_sample"]

Status = Literal["observed", "intervened", "propagated", "held", "sampled"]
Rung = Literal["seeing", "doing", "imagining"]

ANEW = "noise drawn anew"
"""How the noise was found of a mechanism that was put in, and has other noise than the old."""

TRUSTED = 30.0
"""Effective sample size below which a row's answer is flagged."""


@dataclass(frozen=True)
class Provenance:
    """How the answer to a query came about.

    Attributes:
        rung: Which rung of the ladder the query stood on (lecture, Figure 7).
        status: Of every variable: `observed` (evidence that nothing upstream changed),
            `intervened` (set by `do`), `propagated` (recomputed from its noise and its parents),
            `held` (kept at its factual value although something upstream changed) or `sampled`.
        interventions: What `do` set, in words.
        abductions: How the noise of each recomputed variable was found: `known` (a world's own),
            `exact`, `posterior` or `approximate`; `noise drawn anew` where `do` put in chance, or a
            mechanism with other noise.
        assumptions: What the counterfactual of each recomputed variable rests on; of rows that are
            drawn, what the form of hidden causes adds.
        undefined: Where a value is NaN or infinite, in words: computed beyond what floats can hold.
        seed: Of the streams that noise was abducted from; a question about these rows takes others.
        outside: Share of rows whose value lies outside the training data's range, where it is not
            zero; those answers are extrapolations.
        effective_sample_size: Where evidence was conditioned on by weighting.
        inferred: Share of the rows that lacked a variable, which was drawn given the rest.
        effective_sample_sizes: Of each row, `(n,)`, where something was; infinite if it was whole.
    """

    rung: Rung
    status: Mapping[str, Status]
    interventions: Mapping[str, str] = field(default_factory=dict)
    abductions: Mapping[str, str] = field(default_factory=dict)
    assumptions: Mapping[str, str] = field(default_factory=dict)
    outside: Mapping[str, float] = field(default_factory=dict)
    effective_sample_size: float | None = None
    inferred: Mapping[str, float] = field(default_factory=dict)
    effective_sample_sizes: Tensor | None = None
    undefined: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None

    def names(self, status: Status) -> list[str]:
        """The variables of one status."""
        return [name for name, value in self.status.items() if value == status]

    def __str__(self) -> str:
        lines = [f"rung: {self.rung}"]
        for name, status in self.status.items():
            details = [self.interventions.get(name, "")]
            if name in self.abductions:
                found = self.abductions[name]
                details.append(found if found == ANEW else f"abduction {found}")
            details.append(self.assumptions.get(name, ""))
            if name in self.outside:
                details.append(f"outside the training range in {self.outside[name]:.0%} of rows")
            if name in self.undefined:
                details.append(f"NOT A NUMBER in {self.undefined[name]}")
            lines.append(f"  {name}: {status}" + "".join(f"; {d}" for d in details if d))
        if self.effective_sample_size is not None:
            flag = ": DO NOT TRUST THEM" if self.effective_sample_size < TRUSTED else ""
            lines.append(f"effective sample size: {self.effective_sample_size:.0f}{flag}")
        for name, share in self.inferred.items():
            lines.append(f"{name}: missing in {share:.0%} of rows, drawn given the rest")
        if self.effective_sample_sizes is not None:
            few = int((self.effective_sample_sizes < TRUSTED).sum())
            lines.append(
                f"effective sample size: {float(self.effective_sample_sizes.min()):.0f} in the "
                "worst row"
                + (f"; below {TRUSTED:.0f} in {few} rows: DO NOT TRUST THEM" if few else "")
            )
        return "\n".join(lines)


def of_sample(
    model: SCM, values: Mapping[str, Tensor], given: Iterable[str], size: float | None
) -> Provenance:
    """The provenance of rows drawn from a model, with evidence on the names in `given`."""
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
    model: SCM, values: Mapping[str, Tensor], noise: Exogenous, recomputed: set[str]
) -> Provenance:
    """The provenance of rows predicted from noise."""
    status: dict[str, Status] = {}
    for name, mechanism in model.mechanisms.items():
        if name not in recomputed:
            status[name] = "observed"
        elif isinstance(mechanism, Intervention):
            status[name] = "held" if mechanism.held else "intervened"
        else:
            status[name] = "propagated"
    anew = drawn_anew(model, noise, recomputed)
    used = [n for n in model.graph.nodes if n in recomputed and model.mechanisms[n].wants_noise]
    return Provenance(
        rung="doing" if noise.factual is None else "imagining",
        status=status,
        interventions=_interventions(model),
        abductions={
            name: ANEW if name in anew else noise.kinds[name]
            for name in used
            if name in anew or name in noise.kinds
        },
        assumptions={name: model.mechanisms[name].assumption for name in used},
        outside=_outside(model, values, recomputed),
        undefined=_undefined(model, values, recomputed),
        seed=noise.seed if noise.kinds else None,
    )


def _interventions(model: SCM) -> dict[str, str]:
    found = {k: m for k, m in model.mechanisms.items() if isinstance(m, Intervention)}
    return {name: mechanism.describe() for name, mechanism in found.items()}


def _outside(model: SCM, values: Mapping[str, Tensor], names: set[str]) -> dict[str, float]:
    shares = {}
    for name in (name for name in model.graph.nodes if name in names):
        flat = values[name].detach().reshape(-1, *model.variables[name].shape)
        shares[name] = float(model.mechanisms[name].out_of_range(flat).float().mean())
    return {name: share for name, share in shares.items() if share > 0}


def _undefined(model: SCM, values: Mapping[str, Tensor], names: set[str]) -> dict[str, str]:
    """In how many rows variables are no numbers, and at which values of their parents."""
    found = {}
    for name in (name for name in model.graph.nodes if name in names):
        flat = values[name].detach().reshape(-1, *model.variables[name].shape)
        wrong = ~flat.isfinite().reshape(len(flat), -1).all(1)
        if wrong.any():
            row, parents = int(wrong.nonzero()[0]), model.mechanisms[name].parents
            at = [
                f"{parent}={float(values[parent].detach().reshape(-1)[row]):.4g}"
                for parent in parents
                if parent in values and values[parent].numel() == len(flat)
            ]
            where = f", such as at {', '.join(at)}" if at else ""
            found[name] = f"{int(wrong.sum())} of {len(flat)} rows{where}"
    return found
