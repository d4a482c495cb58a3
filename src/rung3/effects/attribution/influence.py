r"""How strong causes are: by arrow, by noise, and by parent.

`arrow_strength`. Cut the arrow from a parent j, and feed its child an independent draw of j instead
(Janzing et al. 2013, *Quantifying causal influences*, Annals of Statistics 41). For numbers

    E[Var(Y | pa without j, j drawn)] - E[Var(Y | pa)],

and for categories the divergence `E KL(P(Y | pa) || E_j P(Y | pa without j, j))`, in nats. DoWhy
has the mean over j outside of the divergence, which is larger: `"kl by draw"`.

`intrinsic_causal_influence`. What the noise of each variable, new there, adds to the outcome: the
Shapley values of `v(S) = Var E[Y | U_S]`, for categories of `-E H(Y | U_S)` (Janzing et al. 2024,
*Quantifying intrinsic causal contributions via structure preserving interventions*, AISTATS).

`parent_relevance`. What each parent and the own noise of one mechanism add to `Var(Y)`: the Shapley
values of `v(S) = -E Var(f | inputs in S)`, the others drawn together (Janzing, Minorics and
Bloebaum 2020, *Feature relevance quantification in explainable AI*, AISTATS).

Names and definitions are those of DoWhy's gcm. Variances of conditional means need no inner loop:

    Var E[f | A] = Cov(f(A, B), f(A, B')),    E Var(f | A) = E[(f(A, B) - f(A, B'))^2] / 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rung3.data.rows import Noise, map_noise
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.variables import Categorical, Discrete, Variable
from rung3.effects.attribution.divergence import Difference, difference_of
from rung3.effects.attribution.forward import lineage, predict, prior
from rung3.effects.attribution.shapley import shapley
from rung3.mechanisms.base import Mechanism, Parents
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["Influence", "arrow_strength", "intrinsic_causal_influence", "parent_relevance"]

CONDITIONS = 500
"""Values of the causes at which conditional distributions are drawn."""

WITHIN = 500
"""Draws at each of them."""

BLOCKS = 5
"""Repetitions, whose spread is the standard error."""


@dataclass(frozen=True)
class Influence(Mapping[str, float]):
    """How strong each cause is; a mapping from its name to its share.

    Attributes:
        outcome: Name of the outcome.
        unit: What the shares are, such as `variance`.
        shares: The share of each cause.
        errors: Their standard errors, from the draws.
    """

    outcome: str
    unit: str
    shares: Mapping[str, float]
    errors: Mapping[str, float]

    def __getitem__(self, name: str) -> float:
        return self.shares[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shares)

    def __len__(self) -> int:
        return len(self.shares)

    def __str__(self) -> str:
        ranked = sorted(self.shares, key=lambda name: -abs(self.shares[name]))
        lines = [f"{self.outcome}: {self.unit} by cause"]
        return "\n".join(
            [*lines, *(f"    {k}: {self.shares[k]:.4g} +- {self.errors[k]:.2g}" for k in ranked)]
        )


@in_own_precision
@torch.no_grad()
def arrow_strength(
    model: SCM,
    outcome: str,
    *,
    measure: Difference | Literal["kl by draw"] | None = None,
    draws: int = 200_000,
    seed: Seed = 0,
) -> Influence:
    """Measure how strong each arrow into a variable is.

    Args:
        model: The model.
        outcome: Name of the variable.
        measure: How far draws with an arrow cut are from those without, at given values of the
            parents: `"variance"` (by default, for numbers), `"kl"` (by default, for categories),
            `"kl by draw"` (for categories, as DoWhy has it), `"mean"`, or a function of draws with
            the arrow and without, `(m,)` each.
        draws: Draws of the parents, for the variance.
        seed: Of the draws.

    Raises:
        ValueError: If the variable is unknown, has no parents or is not a scalar, or hidden causes
            join variables.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), y=Equation("x + 2*u"), z=Equation("y + u"))
        >>> round(arrow_strength(model, "y")["x"], 1), round(arrow_strength(model, "z")["y"], 1)
        (1.0, 5.0)
    """
    names = lineage(model, outcome)
    mechanism, base = model.mechanisms[outcome], base_seed(seed, "influence")
    kind = mechanism.variable
    if not mechanism.parents:
        raise ValueError(f"{outcome}: no arrow points at it; its causes are none")
    method = measure or ("kl" if isinstance(kind, Discrete) else "variance")
    noise = prior(model.mechanisms, names, draws, base, model.device)
    values = predict(model.mechanisms, names, noise)
    parents = {name: values[name] for name in mechanism.parents}
    parts: dict[str, Tensor] = {}
    for name in parents:
        if method == "variance":
            _refuse_categories(outcome, kind)
            parts[name] = _increase(mechanism, parents, name, base)
        elif method in ("kl", "kl by draw") and isinstance(kind, Discrete):
            by_draw = method == "kl by draw"
            parts[name] = _divergences(mechanism, parents, name, kind.classes, by_draw, base)
        elif method == "kl by draw":
            raise ValueError(f"{outcome}: measure={method!r} is for categories, and it is {kind}")
        else:
            difference = difference_of(method, kind)
            parts[name] = _differences(mechanism, parents, name, difference, base)
    unit = method if isinstance(method, str) else "measure"
    return averaged_shares(outcome, unit, parts, dict.fromkeys(parts, 0.0))


@in_own_precision
@torch.no_grad()
def intrinsic_causal_influence(
    model: SCM,
    outcome: str,
    *,
    measure: Callable[[Tensor], float] | None = None,
    draws: int = 100_000,
    seed: Seed = 0,
) -> Influence:
    """Share an outcome's variance, or another measure, among the noises of what causes it.

    Args:
        model: The model.
        outcome: Name of the outcome.
        measure: Of the conditional means `(m,)` that some of the noise gives (for categories, of
            their probabilities `(m, classes)`); by default their variance, for categories less the
            entropy that is left.
        draws: Draws of the noise, for the variance.
        seed: Of the draws.

    Raises:
        ValueError: If the outcome is unknown or no scalar, or hidden causes join variables.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), y=Equation("x + u"), z=Equation("y + u/2"))
        >>> print({k: round(v, 1) for k, v in intrinsic_causal_influence(model, "z").items()})
        {'x': 1.0, 'y': 1.0, 'z': 0.3}
    """
    names = lineage(model, outcome)
    base = base_seed(seed, "influence")
    mechanisms = model.mechanisms
    players = [name for name in names if mechanisms[name].wants_noise]
    kind = mechanisms[outcome].variable
    classes = kind.classes if isinstance(kind, Discrete) else 0
    if measure is None and not classes:
        covariance = _covariance(model, names, outcome, draws, base)
        return averaged_shares(outcome, "variance", *shapley(players, covariance, base))
    pairs = [
        [_draws(model, names, n, base, 2 * block + k) for k, n in enumerate((CONDITIONS, WITHIN))]
        for block in range(BLOCKS)
    ]
    function = measure or _less_entropy

    def value(team: frozenset[str]) -> Tensor:
        return torch.tensor(
            [
                float(function(_means(mechanisms, names, outcome, classes, team, *pair)))
                for pair in pairs
            ],
            dtype=torch.float64,
        )

    unit = "measure" if measure else "entropy in nats"
    return averaged_shares(outcome, unit, *shapley(players, value, base))


def _covariance(
    model: SCM, names: list[str], outcome: str, draws: int, base: int
) -> Callable[[frozenset[str]], Tensor]:
    """Return the products of outcomes that have a team's noise alone in common, `(draws,)`."""
    mechanisms = model.mechanisms
    first, second = (_draws(model, names, draws, base, which) for which in (0, 1))
    whole = predict(mechanisms, names, first)[outcome].double()
    centre = whole.mean()

    def covariance(team: frozenset[str]) -> Tensor:
        if not team:
            return torch.zeros_like(whole)
        mixed = {name: (first if name in team else second)[name] for name in names}
        other = predict(mechanisms, names, mixed)[outcome].double()
        return (whole - centre) * (other - centre)

    return covariance


@in_own_precision
@torch.no_grad()
def parent_relevance(
    model: SCM, outcome: str, *, draws: int = 200_000, seed: Seed = 0
) -> Influence:
    """Share a variable's variance among its parents and its own noise.

    Args:
        model: The model.
        outcome: Name of the variable; of categories, the variance of their agreement is shared.
        draws: Draws of the parents.
        seed: Of the draws.

    Returns:
        The shares of the parents, and of the noise, which has the variable's own name.

    Raises:
        ValueError: If the variable is unknown, has no parents or is not a scalar, or hidden causes
            join variables.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), y=Equation("x + u"), z=Equation("2*x + y + u"))
        >>> print({k: round(v) for k, v in parent_relevance(model, "z").items()})
        {'x': 6, 'y': 4, 'z': 1}
    """
    names = lineage(model, outcome)
    mechanisms, base = model.mechanisms, base_seed(seed, "influence")
    mechanism = mechanisms[outcome]
    if not mechanism.parents:
        raise ValueError(f"{outcome}: no arrow points at it; its causes are none")
    inputs = []
    for which in range(3):
        noise = _draws(model, names, draws, base, which)
        values = predict(mechanisms, names, noise)
        inputs.append(({name: values[name] for name in mechanism.parents}, noise[outcome]))
    players = [*mechanism.parents, *([outcome] if mechanism.wants_noise else [])]
    fixed, *others = inputs
    seen = mechanism.predict(fixed[1], fixed[0])

    def value(team: frozenset[str]) -> Tensor:
        values = []
        for other in others:
            parents = {k: (fixed if k in team else other)[0][k] for k in mechanism.parents}
            drawn = mechanism.predict((fixed if outcome in team else other)[1], parents)
            apart = isinstance(mechanism.variable, Discrete)
            values.append((drawn == seen).double() if apart else drawn.double())
        return -(values[0] - values[1]).square() / 2

    return averaged_shares(outcome, "variance", *shapley(players, value, base))


def _increase(mechanism: Mechanism, parents: Parents, cut: str, base: int) -> Tensor:
    """Return draws of the increase of the conditional variance when an arrow is cut, `(n,)`."""
    n = len(parents[cut])
    drawn: dict[bool, list[Tensor]] = {False: [], True: []}
    for which in (0, 1):
        generator = stream(base, f"arrow {cut} {which}", parents[cut].device)
        noise = mechanism.sample_noise(n, parents, generator)
        other = parents[cut][torch.randperm(n, generator=generator, device=parents[cut].device)]
        drawn[False].append(mechanism.predict(noise, parents).double())
        drawn[True].append(mechanism.predict(noise, {**parents, cut: other}).double())
    within, without = ((first - second).square() / 2 for first, second in drawn.values())
    return without - within


def _divergences(
    mechanism: Mechanism, parents: Parents, cut: str, classes: int, by_draw: bool, base: int
) -> Tensor:
    """Return `KL(P(Y | pa) || P(Y | pa, the arrow cut))` at some values of the parents, `(n,)`."""
    at, other = _apart(parents, cut, base)
    p = _probabilities(mechanism, at, classes)
    q = _probabilities(mechanism, _crossed(at, {cut: other}), classes)
    each = q.reshape(len(p), len(other), classes)
    log_q = each.log().mean(1) if by_draw else each.mean(1).log()
    divergence: Tensor = torch.special.xlogy(p, p) - torch.where(p > 0, p * log_q, 0.0)
    return divergence.sum(1)


def _differences(
    mechanism: Mechanism,
    parents: Parents,
    cut: str,
    difference: Callable[[Tensor, Tensor], float],
    base: int,
) -> Tensor:
    """Return how far draws with an arrow cut are from those without, at some values, `(n,)`."""
    at, other = _apart(parents, cut, base)
    generator = stream(base, f"arrow {cut} within", other.device)
    samples = []
    for crossed in (_crossed(at, {}, len(other)), _crossed(at, {cut: other})):
        noise = mechanism.sample_noise(len(crossed[cut]), crossed, generator)
        samples.append(mechanism.predict(noise, crossed).reshape(-1, len(other)))
    old, new = samples
    apart = [difference(*pair) for pair in zip(old, new, strict=True)]
    return torch.tensor(apart, dtype=torch.float64)


def _apart(parents: Parents, cut: str, base: int) -> tuple[Parents, Tensor]:
    """Return values of the parents to condition on, and other draws of one of them."""
    n = len(parents[cut])
    order = torch.randperm(n, generator=stream(base, f"arrow {cut}")).to(parents[cut].device)
    at, other = order[:CONDITIONS], order[-WITHIN:]
    return {name: value[at] for name, value in parents.items()}, parents[cut][other]


def _crossed(parents: Parents, others: Parents, times: int = 0) -> dict[str, Tensor]:
    """Repeat each row of parents for each draw of some others, flattened."""
    inner = next((len(value) for value in others.values()), times)
    repeated = {name: value.repeat_interleave(inner, 0) for name, value in parents.items()}
    outer = len(next(iter(parents.values())))
    tiled = {k: v.repeat(outer, *[1] * (v.ndim - 1)) for k, v in others.items()}
    return repeated | tiled


def _probabilities(mechanism: Mechanism, parents: Parents, classes: int) -> Tensor:
    """Return the probability of each category, `(n, classes)`."""
    n = len(next(iter(parents.values())))
    device = next(iter(parents.values())).device
    codes = [torch.full((n,), code, device=device) for code in range(classes)]
    return torch.stack([mechanism.log_prob(code, parents).double().exp() for code in codes], 1)


def _draws(model: SCM, names: Sequence[str], n: int, base: int, which: int) -> dict[str, Noise]:
    """Draw noise `(n, ...)`; another `which` is independent."""
    seed = base_seed(base, f"influence {which}")
    return prior(model.mechanisms, list(names), n, seed, model.device)


def _means(
    mechanisms: Mapping[str, Mechanism],
    names: list[str],
    outcome: str,
    classes: int,
    team: frozenset[str],
    fixed: Mapping[str, Noise],
    others: Mapping[str, Noise],
) -> Tensor:
    """Return the outcome's mean, or its categories' probabilities, given the noise of a team."""

    def spread(name: str) -> Noise:
        if name in team:
            return map_noise(lambda u: u.repeat_interleave(WITHIN, 0), fixed[name])
        return map_noise(lambda u: u.repeat(CONDITIONS, *[1] * (u.ndim - 1)), others[name])

    drawn = predict(mechanisms, names, {name: spread(name) for name in names})[outcome]
    if classes:
        one_hot = torch.nn.functional.one_hot(drawn.long(), classes).double()
        return one_hot.reshape(CONDITIONS, WITHIN, classes).mean(1)
    return drawn.double().reshape(CONDITIONS, WITHIN).mean(1)


def _less_entropy(probabilities: Tensor) -> float:
    return -float(torch.special.entr(probabilities).sum(1).mean())


def _refuse_categories(name: str, kind: Variable) -> None:
    if isinstance(kind, Categorical) and kind.classes > 2:
        raise ValueError(f"{name}: {kind} has no variance; use measure='kl'")


def averaged_shares(
    outcome: str, unit: str, shares: Mapping[str, Tensor], order: Mapping[str, Tensor | float]
) -> Influence:
    """Average draws of shares, `(n,)` each; their spread, and that of orders, is the error."""
    errors = {
        k: float((v.var() / len(v) + torch.as_tensor(order[k]).double().mean() ** 2).sqrt())
        for k, v in shares.items()
    }
    return Influence(outcome, unit, {k: float(v.mean()) for k, v in shares.items()}, errors)
