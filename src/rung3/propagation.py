"""Values from noise, noise from values, and densities: the loops over the graph behind queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from torch import Generator, Tensor

from rung3.interventions import SetTo
from rung3.mechanisms.base import Mechanism, Parents, repeat_noise
from rung3.rows import Exogenous, Noise, Rows, map_noise
from rung3.seeding import seeded, stream

if TYPE_CHECKING:
    from rung3.scm import SCM

__all__ = [
    "abduct",
    "affected",
    "check_lengths",
    "check_present",
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
        values[name] = _batch(name, mechanism.predict(noise[name], parents), n)
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
            with seeded(base, name, model.device):
                result[name] = mechanism.log_prob(values[name], parents)
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
        mechanism, generator = mechanisms[name], stream(base, name, model.device)
        parents = {p: values[p] for p in mechanism.parents if p in values}
        heard = {p: hidden[p] for p in mechanism.parents if p in hidden}
        if heard:
            noise[name] = _abduct_member(
                mechanism, values[name], parents, heard, particles, generator
            )
        else:
            noise[name] = mechanism.abduct(values[name], parents, particles, generator)
    return Exogenous(
        noise,
        n=rows.n,
        particles=particles,
        factual=rows,
        mechanisms=mechanisms,
        kinds={k: "known" if k in known else mechanisms[k].abduction for k in wanted},
    )


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
        return tensor if k is None else tensor.reshape(rows, *tensor.shape[2:])

    def split(name: str, tensor: Tensor) -> Tensor:
        if k is None:
            return _batch(name, tensor, n)
        if len(tensor) == rows:
            return tensor.reshape(k, n, *tensor.shape[1:])
        return _batch(name, tensor, n).expand(k, n, *tensor.shape[1:])

    hidden = {k: noise[k] for k in model.confounding.members if k in noise}
    values: dict[str, Tensor] = {k: h for k, h in hidden.items() if isinstance(h, Tensor)}
    mechanisms = model.mechanisms
    for name in model.graph.order:
        mechanism = mechanisms[name]
        if name not in recomputed and noise.factual is not None:
            values[name] = split(name, unsqueeze(noise.factual, name))
            continue
        own: Noise = {}
        if mechanism.wants_noise:
            own = map_noise(merge, _temper(name, noise, mechanism.observation_noise, temperature))
        parents = {parent: merge(values[parent]) for parent in mechanism.parents}
        compute = mechanism.mean if name in mean else mechanism.predict
        values[name] = split(name, compute(own, parents))
    return values


def _temper(name: str, noise: Exogenous, keys: tuple[str, ...], temperature: float) -> Noise:
    """A variable's noise, with the part that is of observation scaled by the temperature."""
    if name not in noise:
        raise ValueError(f"{name}: its noise is needed, and was not abducted")
    own = noise[name]
    if isinstance(own, Tensor) or temperature == 1:
        return own
    return {key: part * temperature if key in keys else part for key, part in own.items()}


def check_lengths(model: SCM, n: int) -> None:
    """Refuse interventions with one value a row that do not fit `n` rows."""
    for name, mechanism in model.mechanisms.items():
        if isinstance(mechanism, SetTo) and len(mechanism.value) not in (1, n):
            raise ValueError(f"do({name}=...): {len(mechanism.value)} values for {n} rows")


def check_present(model: SCM, rows: Rows, purpose: str) -> None:
    """Refuse rows in which a variable that they have is missing (NaN)."""
    for name in rows:
        missing = model.variables[name].is_missing(unsqueeze(rows, name))
        if missing.any():
            raise ValueError(
                f"{name}: missing in {int(missing.sum())} rows (first: row "
                f"{int(missing.nonzero()[0])}); {purpose} needs its value; counterfactual(..., "
                "particles=) draws it given the rest, and so does rung3.missing.complete"
            )


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
