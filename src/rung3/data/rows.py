"""Rows and exogenous noise: what every query takes and gives.

`Rows` is a mapping from variable name to tensor. `Exogenous` is the same for the noise, one entry a
variable, and remembers the rows that it was abducted from. Leading axes are `(n, ...)`, or
`(K, n, ...)` with K particles; a row given without its batch axis is answered without it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, overload

import torch
from torch import Tensor

from rung3.data.abductions import Abductions, Noise
from rung3.data.provenance import Provenance
from rung3.data.spelling import suggest
from rung3.data.stored import Stored, pick
from rung3.data.variables import Variable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Exogenous", "Noise", "Rows", "Values"]

SHOWN_ROWS = 10
"""Rows that a notebook shows."""

Index: TypeAlias = int | slice | Tensor


class Values(Protocol):
    """Columns by name: a mapping from name to array-likes, `Rows`, or a pandas data frame."""

    def keys(self) -> Iterable[Any]:
        """Return the names."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Run over the names."""
        ...

    def __contains__(self, name: object, /) -> bool:
        """Return whether there is such a column."""
        ...

    def __getitem__(self, name: str, /) -> Any:
        """Return a column."""
        ...


def noise_parts(noise: Noise) -> dict[str, Tensor]:
    """Return the tensors of a mechanism's noise by name; a single one has none."""
    return {"": noise} if isinstance(noise, Tensor) else noise


def map_noise(function: Callable[[Tensor], Tensor], noise: Noise) -> Noise:
    """Apply a function to every tensor of a mechanism's noise."""
    if isinstance(noise, Tensor):
        return function(noise)
    return {key: function(value) for key, value in noise.items()}


class Rows(Mapping[str, Tensor]):
    """Values of named variables, one entry a row.

    Args:
        values: Tensor of each variable, `(n, ...)`; without the batch axis if not `batched`, with
            a leading axis K if `particles` is K.
        noise: The exogenous noise that made the rows, where it is known.
        world: Name of the world that the noise belongs to.
        batched: Whether values have a batch axis.
        particles: Number K of particles, or `None`.
        provenance: How the values came about.
        abductions: Noise that models abducted from the rows, if they keep it; a selection, a copy
            on another device and the like keep none.

    Example:
        >>> rows = Rows({"x": torch.arange(5.0)})
        >>> rows[1:3]["x"], rows.n
        (tensor([1., 2.]), 5)
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        *,
        noise: Mapping[str, Noise] | None = None,
        world: str | None = None,
        batched: bool = True,
        particles: int | None = None,
        provenance: Provenance | None = None,
        abductions: Abductions | None = None,
    ) -> None:
        self._values = dict(values)
        self.noise = None if noise is None else dict(noise)
        self.world = world
        self.batched = batched
        self.particles = particles
        self.provenance = provenance
        self.abductions = abductions

    @property
    def n(self) -> int:
        """Number of rows (1 for a single, unbatched one)."""
        if not self.batched:
            return 1
        axis = 0 if self.particles is None else 1
        return next((value.shape[axis] for value in self._values.values()), 0)

    @overload
    def __getitem__(self, key: str) -> Tensor: ...
    @overload
    def __getitem__(self, key: Index) -> Rows: ...
    def __getitem__(self, key: str | Index) -> Tensor | Rows:
        if isinstance(key, str):
            return self._values[key]
        return self.select(key)

    def select(self, index: Index) -> Rows:
        """Select rows by an index, a slice or a mask, with their noise; one index gives one row.

        Images that are held as they are stored (`rung3.data.stored`) are not read for that.
        """
        if not self.batched:
            raise ValueError("a single row cannot be sliced")
        at: Any = index if self.particles is None else (slice(None), index)
        batched = isinstance(index, slice) or torch.as_tensor(index).ndim > 0
        return self._map(lambda t: pick(t, at), batched)

    @property
    def batch(self) -> Rows:
        """The same rows with a batch axis, whether or not they had one."""
        if self.batched:
            return self
        axis = 0 if self.particles is None else 1
        return self._map(lambda t: t.unsqueeze(axis), batched=True)

    def repeat(self, times: int) -> Rows:
        """Repeat the rows as one batch, `(times n, ...)`."""
        axis = 1 if self.batched else 0
        return self._map(lambda t: t.expand(times, *t.shape).flatten(0, axis), batched=True)

    def to(self, device: torch.device | str) -> Rows:
        """Move the rows to another device; images held as they are stored become floats."""
        return self._map(lambda t: t.to(device), self.batched)

    def _map(self, function: Callable[[Tensor], Tensor], batched: bool) -> Rows:
        """Apply a function to all values, and to their noise."""
        noise = None
        if self.noise is not None:
            noise = {name: map_noise(function, value) for name, value in self.noise.items()}
        return Rows(
            {name: function(value) for name, value in self._values.items()},
            noise=noise,
            world=self.world,
            batched=batched,
            particles=self.particles,
            provenance=self.provenance,
        )

    def explain(self) -> Provenance:
        """Say where the values come from: see `rung3.data.provenance.Provenance`.

        Raises:
            ValueError: If the rows are data, not the answer to a query.
        """
        if self.provenance is None:
            raise ValueError("these rows are data: only answers to queries have a provenance")
        return self.provenance

    def to_frame(self, variables: Mapping[str, Variable] | None = None) -> pd.DataFrame:
        """Return the rows as a data frame, which may be given back wherever values are.

        A vector has a column for each number, `name[0]` and so on; particles are the first level of
        the index.

        Args:
            variables: The variables, such as `model.variables`: codes become their labels, and
                units stand in the frame's `attrs["units"]`, by name.

        Raises:
            ValueError: If a variable is an image.

        Example:
            >>> from rung3 import Binary
            >>> rows = Rows({"age": torch.tensor([40.0, 61.0]), "sex": torch.tensor([1, 0])})
            >>> rows.to_frame({"sex": Binary(labels=("f", "m"))})
                age sex
            0  40.0   m
            1  61.0   f
        """
        frame = _frame(self, variables or {})
        if units := {k: v.unit for k, v in (variables or {}).items() if k in self and v.unit}:
            frame.attrs["units"] = units
        return frame

    def _repr_html_(self) -> str:
        """Return the first rows as a table for a notebook; images by their shape."""
        shown = {name: v for name, v in self.batch.items() if self._axes(v) <= 1}
        rest = [f"{k}: {tuple(v.shape)}" for k, v in self.batch.items() if k not in shown]
        table = Rows(shown, particles=self.particles) if shown else None
        head = "" if table is None else _frame(table, {}).head(SHOWN_ROWS).to_html()
        more = f"; {', '.join(rest)}" if rest else ""
        return f"{head}<p>{self.n:,} row{'s' * (self.n != 1)}{more}</p>"

    def _axes(self, value: Tensor) -> int:
        """Return the number of axes of one value, in a batch."""
        return value.ndim - (1 if self.particles is None else 2)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {tuple(v.shape)}" for name, v in self._values.items())
        known = "" if self.noise is None else f", noise of world {self.world!r} known"
        return f"Rows({shapes}{known})"


def _frame(rows: Rows, variables: Mapping[str, Variable]) -> pd.DataFrame:
    import pandas as pd

    batch, columns = rows.batch, dict[str, Any]()
    for name, value in batch.items():
        axes = batch._axes(value)
        if axes > 1:
            raise ValueError(
                f"{name}: its values have shape {tuple(value.shape[-axes:])}; a frame holds "
                "numbers, categories and vectors"
            )
        flat = value.detach().cpu()
        flat = flat if rows.particles is None else flat.flatten(0, 1)
        if axes:
            columns |= {f"{name}[{k}]": part.numpy() for k, part in enumerate(flat.unbind(1))}
        else:
            columns[name] = _labelled(flat, variables.get(name))
    index = None
    if rows.particles is not None:
        index = pd.MultiIndex.from_product(
            [range(rows.particles), range(batch.n)], names=["particle", "row"]
        )
    return pd.DataFrame(columns, index=index)


def _labelled(codes: Tensor, variable: Variable | None) -> Any:
    """Return the labels of codes; numbers, and codes without labels, as they are."""
    labels = getattr(variable, "labels", ())
    if not labels:
        return codes.numpy()
    return [None if code != code else labels[int(code)] for code in codes.tolist()]


class Exogenous(Mapping[str, Noise]):
    """Exogenous noise of every variable, P(U | rows): what `SCM.abduct` gives and `predict` takes.

    Args:
        noise: Noise of each variable, `(n, ...)`, or `(K, n, ...)` with particles.
        n: Number of rows.
        particles: Number K of particles, or `None`.
        factual: The rows it was abducted from; `None` for noise drawn from the prior.
        mechanisms: The mechanism of each variable that it was abducted with. A variable whose
            mechanism and ancestors' mechanisms are the same at prediction keeps its factual value.
        kinds: Of each variable, whether its abduction was `exact`, `posterior`, `approximate`, or
            its noise `known`.
        seed: Of what a model redraws, where its mechanisms have other noise.
        options: Options of mechanisms that it was abducted with; prediction takes the same.

    Attributes:
        read: Share of the rows that lacked a variable, which was read off an image.
    """

    def __init__(
        self,
        noise: Mapping[str, Noise],
        *,
        n: int,
        particles: int | None = None,
        factual: Rows | None = None,
        mechanisms: Mapping[str, Any] | None = None,
        kinds: Mapping[str, str] | None = None,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._noise = dict(noise)
        self.n = n
        self.particles = particles
        self.factual = factual
        self.mechanisms = dict(mechanisms or {})
        self.kinds = dict(kinds or {})
        self.seed = seed
        self.read: dict[str, float] = {}
        self.options = dict(options or {})

    def __getitem__(self, name: str) -> Noise:
        return self._noise[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._noise)

    def __len__(self) -> int:
        return len(self._noise)

    def flat(self) -> Exogenous:
        """Make the particles rows, `(K n, ...)`, particle by particle."""
        if self.particles is None:
            return self
        k = self.particles
        noise = {name: map_noise(lambda t: t.flatten(0, 1), part) for name, part in self.items()}
        return Exogenous(
            noise,
            n=k * self.n,
            factual=None if self.factual is None else self.factual.repeat(k),
            mechanisms=self.mechanisms,
            kinds=self.kinds,
            seed=self.seed,
            options=self.options,
        )

    def __repr__(self) -> str:
        return f"Exogenous({', '.join(self._noise)}; n={self.n}, particles={self.particles})"


def as_rows(
    values: Values,
    variables: Mapping[str, Variable],
    device: torch.device,
    exact: Container[str] = (),
    *,
    read: bool = False,
) -> Rows:
    """Check values against the variables, and give them as `Rows`, batched as they came.

    Args:
        values: A mapping or data frame of array-likes; names that are not variables are refused.
        variables: The variables of the model.
        device: Where the tensors lie.
        exact: Names of numbers that are always held in double.
        read: Whether images that are held as they are stored are read, and become floats.

    Raises:
        ValueError: Naming the variable, what was given and what was expected.
    """
    given = named(values)
    unknown = [name for name in given if name not in variables]
    if unknown:
        raise ValueError(f"{spell_unknown(unknown, variables)}")
    checked = {k: variables[k].validate(k, v, k in exact) for k, v in given.items()}
    stays = {k for k, v in checked.items() if isinstance(v, Stored) and not read}
    checked = {k: v if k in stays else v.to(device) for k, v in checked.items()}
    if not checked:
        raise ValueError("no values were given")
    batched = {name: v.ndim > len(variables[name].shape) for name, v in checked.items()}
    if len(set(batched.values())) > 1:
        one = [name for name, b in batched.items() if not b]
        batches = [name for name, b in batched.items() if b]
        raise ValueError(f"{one} are single values but {batches} are batches; give all alike")
    sizes = {name: len(v) for name, v in checked.items() if batched[name]}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"variables differ in number of rows: {sizes}")
    if isinstance(values, Rows) and values.particles is None:
        return Rows(
            checked,
            noise=values.noise,
            world=values.world,
            batched=values.batched,
            provenance=values.provenance,
            abductions=values.abductions,
        )
    return Rows(checked, batched=all(batched.values()))


def named(values: Values) -> dict[str, Any]:
    """Name columns by text: the names in a frame may be whole numbers.

    Tables of Arrow and of polars are taken as pandas reads them.

    Raises:
        ValueError: If it is not a mapping or frame.
    """
    if not isinstance(values, Mapping) and hasattr(values, "to_pandas"):
        values = values.to_pandas()
    try:
        return {str(name): column for name, column in dict(values).items()}
    except (TypeError, ValueError):
        raise ValueError(
            f"expected a mapping from variable to values, got {type(values).__name__}"
        ) from None


def spell_unknown(unknown: Sequence[object], known: Iterable[object]) -> str:
    """Say which name is unknown, and which known ones are near."""
    return f"unknown variable {unknown[0]!r}; {suggest(unknown[0], known, 'the variables')}"
