"""`Protocol`: what an evaluation asks, of how many rows, how often, and what it measures.

Numbers of two models compare only if they were asked the same. A protocol says all of it, and the
three presets ask what three papers asked, as far as it can be asked of any model and any data:

| | `monteiro2023` | `melistas2024` | `ribeiro2023` |
|---|---|---|---|
| interventions | each cause, alone | each cause, alone | each cause, alone |
| targets | training marginal | another bin, forced | training marginal |
| other parents | held | propagated | propagated |
| noise of observation | kept; z alone | kept; a tenth | kept; z alone |
| null interventions | 1, 10 | 1, 10 | 1, 10 |
| cycles there and back | 1, 5 | | 1 |
| of sets | | FID, CLD | |

Sources: Monteiro et al. 2023 (arXiv 2303.01274); Melistas et al. 2024 (arXiv 2403.20287) and its
code; De Sousa Ribeiro et al. 2023 (arXiv 2306.15764) and its code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from math import inf
from typing import Any, Literal, Self, get_args

from rung3.data.rows import spell_unknown
from rung3.data.spelling import did_you_mean
from rung3.evaluation.measures import registry

__all__ = ["PRESETS", "STANDARD", "Protocol", "Targets"]

Targets = Literal["permuted", "marginal", "forced", "grid"]
"""How values are drawn that a variable is set to; see `rung3.evaluation.plan`."""

STANDARD = frozenset(measure.name for measure in registry.MEASURES if measure.standard)
"""What is measured unless a protocol says otherwise; the rest takes more forward passes or rows."""


@dataclass(frozen=True)
class Protocol:
    """The questions and measures of an evaluation.

    Args:
        interventions: Names of variables, or a mapping as `evaluate` takes it; every cause of the
            images if not given, or of anything where there are none.
        targets: How values are drawn for names: `permuted` test values, the `marginal` of the
            training rows, `forced` into another bin than the row's own, or a `grid`.
        levels: Number of bins of `forced`, and of values of `grid`.
        propagate: Whether what is set changes the image's other parents; if not, they are held.
        n: Test rows that are asked; all if not given.
        truth_n: How many of them are compared with the truth and measured by morphometry, at the
            cost of one rendering each; all if not given.
        seeds: How many times everything is asked, each time with other targets and other abducted
            noise.
        bootstrap: Resamples, for intervals; 0 for none.
        particles: Draws of the noise, where more than one is needed.
        temperatures: Factors on the noise of observation (a VAE's eps) in answers: 1 keeps it as
            abducted, and must be among them; 0 predicts from z alone.
        composition: Numbers m of null interventions after which to look.
        reversibility: Numbers m of cycles after which to look.
        measures: Names of measures: `rung3.evaluation.measures.registry.optional()`.

    Raises:
        ValueError: If a field is out of its range.

    Example:
        >>> protocol = Protocol.melistas2024()
        >>> protocol.targets, protocol.temperatures
        ('forced', (1.0, 0.1))
        >>> Protocol(n=10_000, truth_n=1_000).propagate
        True
    """

    interventions: Mapping[str, Any] | Iterable[str] | None = None
    targets: Targets = "permuted"
    levels: int = 9
    propagate: bool = True
    n: int | None = None
    truth_n: int | None = None
    seeds: int = 1
    bootstrap: int = 1000
    particles: int = 8
    temperatures: tuple[float, ...] = (1.0, 0.0)
    composition: tuple[int, ...] = (1, 10)
    reversibility: tuple[int, ...] = (1, 5)
    measures: frozenset[str] = STANDARD

    def __post_init__(self) -> None:
        given = self.interventions
        if isinstance(given, str):
            given = (given,)
        elif given is not None and not isinstance(given, Mapping):
            given = tuple(given)
        object.__setattr__(self, "interventions", given)
        for name, kind in (("temperatures", float), ("composition", int), ("reversibility", int)):
            object.__setattr__(self, name, tuple(kind(value) for value in getattr(self, name)))
        object.__setattr__(self, "measures", _checked(self.measures))
        self._check()

    def _check(self) -> None:
        if self.targets not in get_args(Targets):
            raise ValueError(
                f"targets: expected one of {', '.join(get_args(Targets))}, got {self.targets!r}"
            )
        least = {
            "levels": 2, "n": 1, "truth_n": 0, "seeds": 1, "bootstrap": 0, "particles": 1,
        }  # fmt: skip
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or value < low):
                raise ValueError(f"{name}: expected at least {low}, got {value!r}")
        if self.n and self.truth_n and self.truth_n > self.n:
            raise ValueError(f"truth_n={self.truth_n}: more rows than are asked, n={self.n}")
        if 1.0 not in self.temperatures or not all(0 <= t < inf for t in self.temperatures):
            raise ValueError(
                "temperatures: expected numbers of at least 0, 1 (noise kept as abducted) among "
                f"them, got {self.temperatures}"
            )
        for name in ("composition", "reversibility"):
            if any(m < 1 for m in getattr(self, name)):
                raise ValueError(
                    f"{name}: expected numbers of at least 1, got {getattr(self, name)}"
                )

    @classmethod
    def named(cls, name: str, **changes: Any) -> Self:
        """Return a preset by its name, with some fields changed.

        Raises:
            ValueError: If there is no such preset or field.

        Example:
            >>> Protocol.named("ribeiro2023", n=1000).n
            1000
        """
        if name not in PRESETS:
            hint = did_you_mean(name, PRESETS)
            expected = f"expected one of {', '.join(PRESETS)}, got {name!r}"
            raise ValueError(f"protocol: {expected}{f'; {hint}' if hint else ''}")
        known = {field.name: None for field in fields(cls)}
        if unknown := [key for key in changes if key not in known]:
            raise ValueError(f"protocol: {spell_unknown(unknown, known)}")
        protocol: Self = getattr(cls, name)(**changes)
        return protocol

    @classmethod
    def complete(cls, **changes: Any) -> Self:
        """Return a protocol that measures everything."""
        return cls(**{"measures": frozenset(registry.optional())} | changes)

    @classmethod
    def monteiro2023(cls, **changes: Any) -> Self:
        """Ask as *Measuring axiomatic soundness of counterfactual image models* does.

        A counterfactual is there a function of the image, its parents and their counterfactual
        values: the image mechanism alone is asked, one parent at a time, its values drawn from the
        training marginal, and the other parents held. Composition, reversibility and effectiveness
        by pseudo-oracles, over several seeds.

        It departs in: distances, mean absolute grey levels here; three seeds of targets and
        abduction of one model, where the paper retrains models (their disagreement is of training,
        which `rung3 run --set seed=` and `rung3 compare` give); oracles trained on the training
        rows, where the paper has rows without confounding, which real data lack; composition from
        z alone beside it, as with eps kept it is exact by construction.
        """
        preset: dict[str, Any] = {
            "targets": "marginal",
            "propagate": False,
            "seeds": 3,
            "measures": frozenset({"composition", "reversibility", "cost"}),
        }
        return cls(**preset | changes)

    @classmethod
    def melistas2024(cls, **changes: Any) -> Self:
        """Ask as *Benchmarking counterfactual image generation* does.

        One cause at a time is forced to another of nine bins of its range, uniformly among the
        distinct values there, and its effects are propagated; eps is scaled by 0.1 in every answer.
        Composition in L1 after 1 and 10 null interventions, effectiveness by pseudo-oracles, FID,
        and CLD for minimality.

        It departs in: answers with eps kept too, so that pictures and skill compare with other
        protocols; FID and CLD on the features of our own oracle, not Inception's and a VAE's, as
        no weights are downloaded (so the values do not compare with the published ones, only their
        order does), and FID on as many real images as there are counterfactuals; bins of equal
        width in which both values are looked up alike (the code looks one of them up among the
        bins' means); distinct values of the training rows, not of the test rows; CLD with its
        published defects corrected; oracles that see the image alone (its thickness classifier is
        told the intensity). LPIPS is left out: its weights are not available offline.
        """
        preset: dict[str, Any] = {
            "targets": "forced",
            "levels": 9,
            "temperatures": (1.0, 0.1),
            "reversibility": (),
            "measures": frozenset({"composition", "realism", "minimality", "cost"}),
        }
        return cls(**preset | changes)

    @classmethod
    def ribeiro2023(cls, **changes: Any) -> Self:
        """Ask as *High fidelity image counterfactuals with probabilistic causal models* does.

        One cause at a time is set to values drawn from the training rows, and its effects are
        propagated by the model's own mechanisms. Effectiveness by predictors, composition, and
        reversibility after one cycle.

        It departs in: every cause for every row, where the code draws one cause a batch at random
        for its mixed figure; composition after ten null interventions beside one; oracles that no
        training has seen, where the paper judges by the predictors of the same kind that its
        counterfactual training pleases; grey levels for distances.
        """
        preset: dict[str, Any] = {
            "targets": "marginal",
            "reversibility": (1,),
            "measures": frozenset({"composition", "reversibility", "cost"}),
        }
        return cls(**preset | changes)


PRESETS = ("monteiro2023", "melistas2024", "ribeiro2023", "complete")
"""What `Protocol.named` knows."""


def _checked(names: Iterable[str]) -> frozenset[str]:
    names = [names] if isinstance(names, str) else list(names)
    known = registry.optional()
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"measures: unknown measure {unknown[0]!r}; expected some of {', '.join(known)}"
        )
    return frozenset(names)
