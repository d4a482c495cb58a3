"""Values from noise, noise from values, and densities: the loops over the graph behind queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from rung3.data.rows import Exogenous, Noise, Rows, map_noise
from rung3.data.seeding import base_seed, seeded, stream
from rung3.mechanisms.base import ImpossibleError, Mechanism, Parents, repeat_noise
from rung3.scm.interventions import SetTo
from rung3.scm.parts import blocks, in_parts, joined

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = [
    "abduct",
    "affected",
    "check_lengths",
    "drawn_anew",
    "generate",
    "length",
    "log_probs",
    "predict",
    "unsqueeze",
]


def generate(
    model: SCM,
    n: int,
    base: int,
    fixed: Mapping[str, Tensor] | None = None,
    only: Iterable[str] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Noise]]:
    """Draw noise and values, `(n, ...)`.

    Args:
        model: The model to draw from.
        n: Number of rows.
        base: The seed; each variable has its own stream under it.
        fixed: Values `(n, ...)` that are left as they are.
        only: Names to draw; all if not given.
    """
    hidden = model.confounding.sample(n, base, model.device)
    values: dict[str, Tensor] = hidden | dict(fixed or {})
    noise: dict[str, Noise] = {name: values[name] for name in hidden}
    wanted = set(model.graph.nodes if only is None else only)
    mechanisms = model.mechanisms
    for name in model.graph.order:
        if name in values or name not in wanted:
            continue
        mechanism = mechanisms[name]
        parents = {parent: values[parent] for parent in mechanism.parents}
        generator = stream(base, name, model.device)
        noise[name] = mechanism.sample_noise(n, parents, generator)
        value = in_parts(mechanism, mechanism.predict, noise[name], parents)
        values[name] = _batch(name, value, n)
    return values, noise


def log_probs(model: SCM, rows: Rows, base: int) -> dict[str, Tensor]:
    """`log p(x_k | pa_k)` of each variable in the rows; see `SCM.log_probs`."""
    mechanisms = model.mechanisms
    values = {name: unsqueeze(rows, name) for name in rows}
    result = {}
    for name in rows:
        mechanism = mechanisms[name]
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


def abduct(model: SCM, rows: Rows, wanted: set[str], particles: int | None, base: int) -> Exogenous:
    """The noise of the wanted variables, and of the hidden causes behind them."""
    known: Mapping[str, Noise] = {}
    if model.world is not None and rows.world == model.world:
        known = rows.noise or {}
    mechanisms = model.mechanisms
    values = {name: unsqueeze(rows, name) for name in rows}
    unknown = wanted - known.keys()
    hidden = model.confounding.abduct(mechanisms, values, unknown, particles, base)
    noise: dict[str, Noise] = dict(hidden)
    for name in (name for name in model.graph.order if name in wanted):
        if name in known:
            own = known[name] if rows.batched else map_noise(lambda t: t[None], known[name])
            noise[name] = repeat_noise(own, particles)
            continue
        noise[name] = _abduct(mechanisms[name], rows, values, hidden, particles, base)
    return Exogenous(
        noise,
        n=rows.n,
        particles=particles,
        factual=rows,
        mechanisms=mechanisms,
        kinds={k: "known" if k in known else mechanisms[k].abduction for k in wanted},
        seed=base,
    )


def _abduct(
    mechanism: Mechanism,
    rows: Rows,
    values: Parents,
    hidden: Parents,
    particles: int | None,
    base: int,
) -> Noise:
    """One variable's noise, block by block, given values and draws of hidden causes."""
    name = mechanism.name
    heard = {p: hidden[p] for p in mechanism.parents if p in hidden}
    found = []
    for at, source in _streams(mechanism, rows.n, base):
        parents = {p: values[p][at] for p in mechanism.parents if p in values}
        told, value = {p: h[..., at] for p, h in heard.items()}, values[name][at]
        generator = stream(source, name, value.device)
        try:
            if heard:
                own = _abduct_member(mechanism, value, parents, told, particles, generator)
            else:
                own = mechanism.abduct(value, parents, particles, generator)
        except ImpossibleError as fault:
            raise (fault.at(at.start + fault.row % len(value)) if rows.batched else fault) from None
        found.append(own)
    return joined(found, axis=0 if particles is None else 1)


def _log_prob(mechanism: Mechanism, value: Tensor, parents: Parents, base: int) -> Tensor:
    """`log p(x | pa)` of one variable, `(n,)`; a bound may draw random numbers."""
    found = []
    for at, source in _streams(mechanism, len(value), base):
        with seeded(source, mechanism.name, value.device):
            some = {parent: column[at] for parent, column in parents.items()}
            found.append(mechanism.log_prob(value[at], some))
    return joined(found)


def _streams(mechanism: Mechanism, n: int, base: int) -> Iterator[tuple[slice, int]]:
    """Blocks of rows, and the seed of each."""
    whole = [slice(0, n)] if not mechanism.by_row else blocks(mechanism.variable.shape, n)
    for at in whole:
        yield at, base_seed(base, f"from row {at.start}") if at.start else base


def drawn_anew(model: SCM, noise: Exogenous, recomputed: Iterable[str]) -> set[str]:
    """The recomputed variables that have other noise than was abducted: theirs is drawn anew."""
    was, now = noise.mechanisms, model.mechanisms
    return {k for k in recomputed if k in was and not now[k].takes(was[k])}


def affected(model: SCM, noise: Exogenous) -> set[str]:
    """Variables whose mechanism, or an ancestor's, differs from the one of abduction."""
    if noise.factual is None:
        return set(model.graph.nodes)
    mechanisms = model.mechanisms
    found: set[str] = set()
    for name in model.graph.order:
        mechanism = mechanisms[name]
        changed = mechanism is not noise.mechanisms.get(name)
        if changed or not found.isdisjoint(mechanism.parents):
            found.add(name)
    return found


def predict(
    model: SCM,
    noise: Exogenous,
    recomputed: set[str],
    temperature: float = 1.0,
    mean: frozenset[str] = frozenset(),
) -> dict[str, Tensor]:
    """Every variable's value, `(n, ...)` or `(K, n, ...)`; those not recomputed are factual."""
    check_lengths(model, noise.n)
    n, k = noise.n, noise.particles
    rows = n if k is None else n * k

    def merge(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():  # the model may have another precision than at abduction
            tensor = tensor.to(torch.promote_types(tensor.dtype, model.dtype))
        return tensor if k is None else tensor.reshape(rows, *tensor.shape[2:])

    def split(name: str, tensor: Tensor) -> Tensor:
        if k is None:
            return _batch(name, tensor, n)
        if len(tensor) == rows:
            return tensor.reshape(k, n, *tensor.shape[1:])
        return _batch(name, tensor, n).expand(k, n, *tensor.shape[1:])

    hidden = {k: noise[k] for k in model.confounding.members if k in noise}
    values: dict[str, Tensor] = {k: h for k, h in hidden.items() if isinstance(h, Tensor)}
    mechanisms, anew = model.mechanisms, drawn_anew(model, noise, recomputed)
    for name in model.graph.order:
        mechanism = mechanisms[name]
        if name not in recomputed and noise.factual is not None:
            factual, kind = unsqueeze(noise.factual, name), model.variables[name].dtype
            if factual.is_floating_point():  # values in double stay as exact as they are
                kind = torch.promote_types(factual.dtype, kind)
            values[name] = split(name, factual.to(kind))
            continue
        own: Noise = {}
        parents = {parent: merge(values[parent]) for parent in mechanism.parents}
        if name in anew:
            own = map_noise(merge, noise.get(name, {}))
            was, source = noise.mechanisms[name], base_seed(noise.seed, "anew")
            own = mechanism.renew(own, was, parents, rows, stream(source, name, model.device))
        elif mechanism.wants_noise:
            own = map_noise(merge, _named(name, noise))
        own = _temper(own, mechanism.observation_noise, temperature)
        compute = mechanism.mean if name in mean else mechanism.predict
        values[name] = split(name, in_parts(mechanism, compute, own, parents))
    return values


def _named(name: str, noise: Exogenous) -> Noise:
    if name not in noise:
        raise ValueError(f"{name}: its noise is needed, and was not abducted")
    return noise[name]


def _temper(own: Noise, keys: tuple[str, ...], temperature: float) -> Noise:
    """A variable's noise, with the part that is of observation scaled by the temperature."""
    if isinstance(own, Tensor) or temperature == 1:
        return own
    return {key: part * temperature if key in keys else part for key, part in own.items()}


def check_lengths(model: SCM, n: int) -> None:
    """Refuse interventions with one value a row that do not fit `n` rows."""
    for name, mechanism in model.mechanisms.items():
        if isinstance(mechanism, SetTo) and len(mechanism.value) not in (1, n):
            raise ValueError(f"do({name}=...): {len(mechanism.value)} values for {n} rows")


def unsqueeze(rows: Rows, name: str) -> Tensor:
    """A variable's values with their batch axis."""
    return rows[name] if rows.batched else rows[name].unsqueeze(0)


def length(noise: Mapping[str, Noise]) -> int:
    """Number of rows of noise without particles."""
    for part in noise.values():
        for tensor in [part] if isinstance(part, Tensor) else part.values():
            return len(tensor)
    return 1


def _batch(name: str, value: Tensor, n: int) -> Tensor:
    """One value for all rows, or one a row, as `(n, ...)`."""
    if len(value) not in (1, n):
        raise ValueError(f"{name}: {len(value)} values for {n} rows")
    return value.expand(n, *value.shape[1:]) if len(value) == 1 else value


def _abduct_member(
    mechanism: Mechanism,
    value: Tensor,
    parents: Parents,
    hidden: Parents,
    particles: int | None,
    generator: Generator,
) -> Noise:
    """A member's noise given draws of its hidden causes, `(n,)` or `(K, n)` each."""
    if particles is None:
        return mechanism.abduct(value, {**parents, **hidden}, None, generator)
    many = {k: v.repeat(particles, *[1] * (v.ndim - 1)) for k, v in parents.items()}
    many |= {k: v.flatten() for k, v in hidden.items()}
    repeated = value.repeat(particles, *[1] * (value.ndim - 1))
    noise = mechanism.abduct(repeated, many, None, generator)
    return map_noise(lambda t: t.reshape(particles, len(value), *t.shape[1:]), noise)
