"""Values from noise, down the graph in topological order: the loop behind every query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from rung3.interventions import SetTo
from rung3.rows import Exogenous, Noise, Rows, map_noise
from rung3.seeding import stream

if TYPE_CHECKING:
    from rung3.scm import SCM

__all__ = [
    "affected",
    "check_lengths",
    "check_present",
    "generate",
    "length",
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
    values: dict[str, Tensor] = dict(fixed or {})
    noise: dict[str, Noise] = {}
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

    values: dict[str, Tensor] = {}
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
                f"{int(missing.nonzero()[0])}); {purpose} needs its value"
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
