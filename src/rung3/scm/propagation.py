"""Values from noise, noise from values, and densities: the loops over the graph behind queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Generator, Tensor

from rung3.data.rows import Exogenous, Noise, Rows, map_noise, noise_parts
from rung3.data.seeding import base_seed, seeded, stream
from rung3.mechanisms.base import ImpossibleError, Invertible, Mechanism, Parents, repeat_noise
from rung3.scm.interventions import Intervention, SetTo
from rung3.scm.model import Model
from rung3.scm.parts import blocks, in_parts, joined
from rung3.scm.query_options import as_queried

__all__ = [
    "Changes",
    "abduct",
    "check_lengths",
    "generate",
    "length",
    "log_probs",
    "predict",
]

SAME = 1e-4
"""Relative and absolute distance of two values that are the same but for rounding."""

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
"""Options of a query that leaves mechanisms as they are."""


def generate(
    model: Model,
    n: int,
    base: int,
    fixed: Mapping[str, Tensor] | None = None,
    only: Iterable[str] | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> tuple[dict[str, Tensor], dict[str, Noise]]:
    """Draw noise and values, `(n, ...)`.

    Args:
        model: The model to draw from.
        n: Number of rows.
        base: The seed; each variable has its own stream under it.
        fixed: Values `(n, ...)` that are left as they are.
        only: Names to draw; all if not given.
        options: Options of mechanisms, see `rung3.scm.query_options`.
    """
    hidden = model.confounding.sample(n, base, model.device)
    values: dict[str, Tensor] = hidden | dict(fixed or {})
    noise: dict[str, Noise] = {name: values[name] for name in hidden}
    wanted = set(model.graph.nodes if only is None else only)
    mechanisms, changed = model.mechanisms, _at_or_below(model, model.replaced)
    for name in model.graph.order:
        if name in values or name not in wanted:
            continue
        mechanism = as_queried(mechanisms[name], options, changed)
        parents = {parent: values[parent] for parent in mechanism.parents}
        generator = stream(base, name, model.device)
        noise[name] = mechanism.sample_noise(n, parents, generator)
        value = in_parts(mechanism, mechanism.predict, noise[name], parents)
        values[name] = _batch(name, value, n)
    return values, noise


def log_probs(
    model: Model, rows: Rows, base: int, options: Mapping[str, Any] = NO_OPTIONS
) -> dict[str, Tensor]:
    """Return `log p(x_k | pa_k)` of each variable in the rows; see `SCM.log_probs`."""
    mechanisms, values = model.mechanisms, dict(rows.batch)
    result = {}
    for name in rows:
        mechanism = as_queried(mechanisms[name], options)
        lacking = [p for p in mechanism.parents if p in model.variables and p not in rows]
        if lacking:
            raise ValueError(f"{name}: its parents {lacking} are not given")
        if model.confounding.members.keys().isdisjoint(mechanism.parents):
            parents = {parent: values[parent] for parent in mechanism.parents}
            result[name] = _log_prob(mechanism, values[name], parents, base)
    for district in model.confounding.districts(mechanisms):
        if not district.names.isdisjoint(values):
            with seeded(base, district.name, model.device):
                result |= district.log_probs(values)
    return {name: result[name] if rows.batched else result[name][0] for name in rows}


def abduct(
    model: Model,
    rows: Rows,
    wanted: Set[str],
    particles: int | None,
    base: int,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Exogenous:
    """Return the noise of the wanted variables, and of the hidden causes behind them."""
    known: Mapping[str, Noise] = {}
    mechanisms, batch = model.mechanisms, rows.batch
    if model.world is not None and rows.world == model.world:
        known = batch.noise or {}
    values = dict(batch)
    unknown = wanted - known.keys()
    hidden = model.confounding.abduct(mechanisms, values, unknown, particles, base)
    noise: dict[str, Noise] = dict(hidden)
    for name in (name for name in model.graph.order if name in wanted):
        if name in known:
            noise[name] = repeat_noise(known[name], particles)
            continue
        abduction = _Abduction(mechanisms[name], options, rows, values, hidden, particles, base)
        noise[name] = abduction.noise()
    return Exogenous(
        noise,
        n=rows.n,
        particles=particles,
        factual=rows,
        mechanisms=mechanisms,
        kinds={k: "known" if k in known else mechanisms[k].abduction for k in wanted},
        seed=base,
        options=options,
    )


@dataclass(frozen=True)
class _Abduction:
    """The abduction of one variable's noise, given values and draws of hidden causes."""

    of: Mechanism
    options: Mapping[str, Any]
    rows: Rows
    values: Parents
    hidden: Parents
    particles: int | None
    base: int

    def noise(self) -> Noise:
        """Return the noise; of an earlier query, if the rows keep it and nothing is drawn."""
        abductions = self.rows.abductions
        if abductions is None or not self.hidden.keys().isdisjoint(self.of.parents):
            return self._abduct()[0]
        given = {k: self.values[k] for k in (self.of.name, *self.of.parents) if k in self.values}
        key = self.of, self.particles, repr(sorted(self.options.items()))
        noise = abductions.find(key, given)
        if noise is None:
            noise, drawn = self._abduct()
            if not drawn:
                abductions.keep(key, given, noise)
        return noise

    def _abduct(self) -> tuple[Noise, bool]:
        """Return the noise, block by block, and whether random numbers were drawn for it."""
        mechanism = as_queried(self.of, self.options)
        device, parts, drawn = self.values[mechanism.name].device, [], False
        for at, source in _streams(mechanism, self.rows.n, self.base):
            if type(mechanism).abduct is Invertible.abduct:  # nothing is drawn
                parts.append(self._of_block(mechanism, at, None))
                continue
            generator = stream(source, mechanism.name, device)
            before = generator.get_state()
            parts.append(self._of_block(mechanism, at, generator))
            drawn |= not torch.equal(before, generator.get_state())
        return joined(parts, axis=0 if self.particles is None else 1), drawn

    def _of_block(self, mechanism: Mechanism, at: slice, generator: Generator | None) -> Noise:
        value = self.values[mechanism.name][at]
        parents = {p: self.values[p][at] for p in mechanism.parents if p in self.values}
        causes = {p: self.hidden[p][..., at] for p in mechanism.parents if p in self.hidden}
        try:
            if causes:
                return _abduct_member(mechanism, value, parents, causes, self.particles, generator)
            return mechanism.abduct(value, parents, self.particles, generator)
        except ImpossibleError as fault:
            row = at.start + fault.row % len(value)
            raise (fault.at(row) if self.rows.batched else fault) from None


def _log_prob(mechanism: Mechanism, value: Tensor, parents: Parents, base: int) -> Tensor:
    """Return `log p(x | pa)` of one variable, `(n,)`; a bound may draw random numbers."""
    parts = []
    for at, source in _streams(mechanism, len(value), base):
        with seeded(source, mechanism.name, value.device):
            block = {parent: column[at] for parent, column in parents.items()}
            parts.append(mechanism.log_prob(value[at], block))
    return joined(parts)


def _streams(mechanism: Mechanism, n: int, base: int) -> Iterator[tuple[slice, int]]:
    """Return blocks of rows, and the seed of each."""
    whole = [slice(0, n)] if not mechanism.by_row else blocks(mechanism.variable.shape, n)
    for at in whole:
        yield at, base_seed(base, f"from row {at.start}") if at.start else base


@dataclass(frozen=True)
class Changes:
    """The parts that a model recomputes when it predicts from another one's noise.

    Attributes:
        recomputed: Variables whose mechanism, or an ancestor's, is not the one of abduction; all,
            if there are no factual values.
        drawn: Those of them that have other noise than was abducted: it is redrawn.
        changed: Variables that were set, or descend from what was set; none that is held.
    """

    recomputed: frozenset[str]
    drawn: frozenset[str]
    changed: frozenset[str]

    @classmethod
    def of(cls, model: Model, before: Mapping[str, Any], factual: bool) -> Self:
        """Return the changes of a model.

        Args:
            model: The model that predicts.
            before: The mechanisms that noise was abducted with.
            factual: Whether factual values are known.
        """
        now, recomputed = model.mechanisms, set[str]()
        for name in model.graph.order:
            mechanism = now[name]
            changed = not factual or mechanism is not before.get(name)
            if changed or not recomputed.isdisjoint(mechanism.parents):
                recomputed.add(name)
        drawn = {k for k in recomputed if k in before and not now[k].takes(before[k])}
        new = {k for k in now if now[k] is not before.get(k)} if factual else model.replaced
        return cls(frozenset(recomputed), frozenset(drawn), _at_or_below(model, new))


def _at_or_below(model: Model, names: Iterable[str]) -> frozenset[str]:
    """Those of the names that were set, not held, and what descends from them."""
    mechanisms = model.mechanisms
    held = {k for k, m in mechanisms.items() if isinstance(m, Intervention) and m.held}
    top = [name for name in names if name not in held]
    return frozenset(top) | model.graph.descendants(top)


@dataclass(frozen=True)
class _Axes:
    """The leading axes of noise, `(n,)` or `(K, n)`, which mechanisms see as one axis of rows."""

    n: int
    particles: int | None

    @property
    def rows(self) -> int:
        """Length of that one axis: n, or K n."""
        return self.n if self.particles is None else self.n * self.particles

    def merge(self, tensor: Tensor) -> Tensor:
        """Merge particles and rows: `(n, ...)`, or `(K, n, ...)` as `(K n, ...)`."""
        return tensor if self.particles is None else tensor.reshape(self.rows, *tensor.shape[2:])

    def split(self, name: str, tensor: Tensor) -> Tensor:
        """Invert `merge`; one value, or one for each row, is that of every particle."""
        if self.particles is None:
            return _batch(name, tensor, self.n)
        if len(tensor) == self.rows:
            return tensor.reshape(self.particles, self.n, *tensor.shape[1:])
        return _batch(name, tensor, self.n).expand(self.particles, self.n, *tensor.shape[1:])


def predict(
    model: Model,
    noise: Exogenous,
    changes: Changes,
    temperature: float = 1.0,
    mean: frozenset[str] = frozenset(),
    options: Mapping[str, Any] = NO_OPTIONS,
) -> dict[str, Tensor]:
    """Predict every variable, `(n, ...)` or `(K, n, ...)`; those not recomputed are factual."""
    axes, own_type = _Axes(noise.n, noise.particles), torch.get_default_dtype()
    factual = None if noise.factual is None else noise.factual.batch

    def merge(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():  # the model may have another precision than at abduction
            tensor = tensor.to(torch.promote_types(tensor.dtype, own_type))
        return axes.merge(tensor)

    causes = {name: noise[name] for name in model.confounding.members if name in noise}
    values = {name: cause for name, cause in causes.items() if isinstance(cause, Tensor)}
    mechanisms = model.mechanisms
    for name in model.graph.order:
        mechanism = as_queried(mechanisms[name], options, changes.changed)
        if factual is not None and name not in changes.recomputed:
            values[name] = axes.split(name, _as_held(factual[name], model.variables[name].dtype))
            continue
        used: Noise = {}
        parents = {parent: merge(values[parent]) for parent in mechanism.parents}
        if name in changes.drawn:
            abducted = map_noise(merge, noise.get(name, {}))
            generator = stream(base_seed(noise.seed, "anew"), name, model.device)
            before = noise.mechanisms[name]
            used = mechanism.renew(abducted, before, parents, axes.rows, generator)
        elif mechanism.wants_noise:
            used = map_noise(merge, _named(name, noise))
        used = _temper(used, mechanism.observation_noise, temperature)
        method = "mean" if name in mean else "predict"
        plain, moved = mechanism, None
        if mechanism.is_guided and factual is not None:
            plain = as_queried(mechanisms[name], options)
            moved = _moved(axes, {p: values[p] for p in mechanism.parents}, factual)
        answer = _answer(mechanism, plain, moved, method, used, parents)
        values[name] = axes.split(name, answer)
    return values


def _answer(
    mechanism: Mechanism,
    plain: Mechanism,
    moved: Tensor | None,
    method: str,
    noise: Noise,
    parents: Parents,
) -> Tensor:
    """Predict, `(n, ...)`; rows whose parents are as they were have nothing to be guided by."""

    def by(mechanism: Mechanism) -> Tensor:
        value: Tensor = in_parts(mechanism, getattr(mechanism, method), noise, parents)
        return value

    if moved is None or moved.all():
        return by(mechanism)
    if not moved.any():
        return by(plain)
    guided = by(mechanism)
    return torch.where(moved.view(-1, *[1] * (guided.ndim - 1)), guided, by(plain))


def _moved(axes: _Axes, values: Parents, factual: Parents) -> Tensor:
    """Return in which rows a value is not the factual one, `(n,)` or `(K n,)`."""
    device = next((value.device for value in values.values()), None)
    moved = torch.zeros(axes.rows, dtype=torch.bool, device=device)
    for name, value in values.items():
        if name in factual:
            before = factual[name].double()
            near = torch.isclose(
                value.double(), before.expand_as(value), SAME, SAME, equal_nan=True
            )
            same = near.reshape(*value.shape[: value.ndim - before.ndim + 1], -1).all(-1)
            moved |= ~axes.merge(same)
    return moved


def _as_held(factual: Tensor, kind: torch.dtype) -> Tensor:
    """Hold a factual value in its variable's type; in double it stays as exact as it is."""
    if factual.is_floating_point():
        kind = torch.promote_types(factual.dtype, kind)
    return factual.to(kind)


def _named(name: str, noise: Exogenous) -> Noise:
    if name not in noise:
        raise ValueError(f"{name}: its noise is needed, and was not abducted")
    return noise[name]


def _temper(noise: Noise, keys: tuple[str, ...], temperature: float) -> Noise:
    """Scale a variable's noise of observation by the temperature."""
    if isinstance(noise, Tensor) or temperature == 1:
        return noise
    return {key: part * temperature if key in keys else part for key, part in noise.items()}


def check_lengths(model: Model, n: int) -> None:
    """Refuse interventions with one value a row that do not fit `n` rows."""
    for name, mechanism in model.mechanisms.items():
        if isinstance(mechanism, SetTo) and len(mechanism.value) not in (1, n):
            raise ValueError(f"do({name}=...): {len(mechanism.value)} values for {n} rows")


def length(noise: Mapping[str, Noise]) -> int:
    """Return the number of rows of noise without particles."""
    return next((len(t) for part in noise.values() for t in noise_parts(part).values()), 1)


def _batch(name: str, value: Tensor, n: int) -> Tensor:
    """Give one value for all rows, or one a row, as `(n, ...)`."""
    if len(value) not in (1, n):
        raise ValueError(f"{name}: {len(value)} values for {n} rows")
    return value.expand(n, *value.shape[1:]) if len(value) == 1 else value


def _abduct_member(
    mechanism: Mechanism,
    value: Tensor,
    parents: Parents,
    hidden: Parents,
    particles: int | None,
    generator: Generator | None,
) -> Noise:
    """Return a member's noise given draws of its hidden causes, `(n,)` or `(K, n)` each."""
    if particles is None:
        return mechanism.abduct(value, {**parents, **hidden}, None, generator)
    repeated_parents = {k: v.repeat(particles, *[1] * (v.ndim - 1)) for k, v in parents.items()}
    repeated_parents |= {k: v.flatten() for k, v in hidden.items()}
    repeated = value.repeat(particles, *[1] * (value.ndim - 1))
    noise = mechanism.abduct(repeated, repeated_parents, None, generator)
    return map_noise(lambda t: t.reshape(particles, len(value), *t.shape[1:]), noise)
