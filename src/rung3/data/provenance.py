"""Provenance: what an answer rests on, so that a reader can judge it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

__all__ = ["DRAWN_ANEW", "TRUSTED", "Provenance", "Status"]

Status = Literal["observed", "intervened", "propagated", "held", "sampled"]
Rung = Literal["seeing", "doing", "imagining"]

DRAWN_ANEW = "noise drawn anew"
"""Abduction of a mechanism that `do` put in, and whose noise is not that of the one it replaced."""

TRUSTED = 30.0
"""Effective sample size below which a row's answer is flagged."""


@dataclass(frozen=True)
class Provenance:
    """The origin of the answer to a query.

    Attributes:
        rung: Which rung of the ladder the query stood on (lecture, Figure 7).
        status: Of every variable: `observed` (evidence that nothing upstream changed),
            `intervened` (set by `do`), `propagated` (recomputed from its noise and its parents),
            `held` (kept at its factual value although something upstream changed) or `sampled`.
        interventions: What `do` set, as text.
        abductions: How the noise of each recomputed variable was found: `known` (a world's own),
            `exact`, `posterior` or `approximate`; `noise drawn anew` where `do` put in chance, or a
            mechanism with other noise.
        assumptions: What the counterfactual of each recomputed variable rests on; of rows that are
            drawn, what the form of hidden causes adds.
        undefined: Where a value is NaN or infinite, as text: computed beyond what floats can hold.
        backtracked: Of a backtracking counterfactual: which variables are antecedents, and what
            became of the noise above them, as text; see `rung3.scm.backtracking`.
        moved: Of a backtracking counterfactual: by how many standard deviations the noise of each
            variable above the antecedents moved, of each row, `(n,)`.
        seed: Of the streams that noise was abducted from; a question about these rows takes others.
        outside: Share of rows whose value lies outside the training data's range, where it is not
            zero; those answers are extrapolations.
        effective_sample_size: Where evidence was conditioned on by weighting.
        inferred: Share of the rows that lacked a variable, which was drawn given the rest.
        read: Share of the rows that lacked a variable, which a predictor read off an image.
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
    read: Mapping[str, float] = field(default_factory=dict)
    effective_sample_sizes: Tensor | None = None
    undefined: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    backtracked: Mapping[str, str] = field(default_factory=dict)
    moved: Mapping[str, Tensor] = field(default_factory=dict)

    def names(self, status: Status) -> list[str]:
        """Return the variables of one status."""
        return [name for name, value in self.status.items() if value == status]

    def __str__(self) -> str:
        way = ", by backtracking: mechanisms stay, noise moves" if self.backtracked else ""
        lines = [f"rung: {self.rung}{way}"]
        for name, status in self.status.items():
            details = [self.interventions.get(name, ""), self.backtracked.get(name, "")]
            if name in self.abductions:
                kind = self.abductions[name]
                details.append(kind if kind == DRAWN_ANEW else f"abduction {kind}")
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
        for name, share in self.read.items():
            lines.append(f"{name}: missing in {share:.0%} of rows, read off the image")
        if self.effective_sample_sizes is not None:
            doubtful = int((self.effective_sample_sizes < TRUSTED).sum())
            lines.append(
                f"effective sample size: {float(self.effective_sample_sizes.min()):.0f} in the "
                "worst row"
                + (
                    f"; below {TRUSTED:.0f} in {doubtful} rows: DO NOT TRUST THEM"
                    if doubtful
                    else ""
                )
            )
        return "\n".join(lines)
