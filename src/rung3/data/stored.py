"""Columns of images as they are stored: whole levels of one or two bytes, in memory or on disk.

A pixel of `bits` bits is held as its level k, and is `k / L` with `L = 2**bits - 1` only in the
rows that are read: eight bits take a quarter of the memory of floats. To all code such a column is
a tensor of floats. Its rows are made as they are asked for:

    column[3], column[indices]     floats, of these rows alone
    column[10:20]                  a view: another `Stored` of the same numbers
    anything else                  floats of all rows, built each time
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

__all__ = [
    "Held",
    "Source",
    "Stored",
    "as_stored",
    "blocks",
    "moved",
    "pick",
    "rows_at_once",
    "storage_type",
]

Array = np.ndarray[Any, Any]

BLOCK = 2**25
"""Bytes of the floats of a block, where a column is gone through."""

FLOATS: dict[torch.dtype, type[Any]] = {torch.float32: np.float32, torch.float64: np.float64}


def storage_type(levels: int | None) -> np.dtype[Any]:
    """Return the type that holds levels from 0 to `levels`; a float's for real-valued pixels.

    Example:
        >>> storage_type(255), storage_type(4095)
        (dtype('uint8'), dtype('uint16'))
    """
    if levels is None:
        return np.dtype(FLOATS[torch.get_default_dtype()])
    return np.dtype(np.uint8 if levels <= np.iinfo(np.uint8).max else np.uint16)


class Source(Protocol):
    """Numbers of many rows, which can be read row by row."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one."""
        ...

    def read(self, at: Array) -> Array:
        """Return rows by their numbers, `(len(at), *shape)`, as they are stored."""
        ...


class Held:
    """Numbers held in memory.

    Args:
        array: The numbers, `(n, *shape)`.
    """

    def __init__(self, array: Array) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one."""
        return tuple(self.array.shape)

    def read(self, at: Array) -> Array:
        """Return rows by their numbers."""
        chosen: Array = self.array[at]
        return chosen


class Stored(Tensor):
    """A column of images that are stored as levels: a tensor of floats that are made on demand.

    It cannot be changed in place: `clone()` gives a tensor that can.

    Args:
        source: The levels, none above `levels`; or, where that is `None`, pixels in [0, 1].
        levels: The number L that is white.
        missing: Which rows of the source have no image, `(rows of the source,)`; they read as NaN.
        at: Which rows of the source these are; all if not given.

    Example:
        >>> column = Stored(Held(np.array([[0, 51], [255, 0]], dtype=np.uint8)), levels=255)
        >>> column.shape, column[0], (column * 2)[1]
        (torch.Size([2, 2]), tensor([0.0000, 0.2000]), tensor([2., 0.]))
        >>> column[1:].rows(torch.tensor([0, 0])).tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """

    source: Source
    levels: int | None
    missing: Array | None
    at: Array | None

    @staticmethod
    def __new__(
        cls: type[Stored],
        source: Source,
        levels: int | None = None,
        missing: Array | None = None,
        at: Array | None = None,
    ) -> Stored:
        n = source.shape[0] if at is None else len(at)
        make: Any = Tensor._make_wrapper_subclass
        column: Stored = make(cls, (n, *source.shape[1:]), dtype=torch.get_default_dtype())
        column.source, column.levels, column.missing, column.at = source, levels, missing, at
        return column

    def rows(self, index: Any) -> Stored:
        """Select rows by a slice, numbers or a mask, without reading them."""
        at = self._numbers(index)
        return Stored(self.source, self.levels, self.missing, at)

    def floats(self, index: Any = slice(None)) -> Tensor:
        """Return rows as floats, `(k, *shape)`: all, or those of a slice, numbers or a mask."""
        at = self._numbers(index)
        floats = torch.from_numpy(self.source.read(at).astype(FLOATS[self.dtype]))
        if self.levels is not None:
            floats /= self.levels
        if self.missing is not None:
            floats[torch.from_numpy(self.missing[at])] = torch.nan
        return floats

    def without_image(self) -> Tensor:
        """Return a mask of the rows that have no image, `(n,)`."""
        if self.missing is None:
            return torch.zeros(len(self), dtype=torch.bool)
        return torch.from_numpy(self.missing[self._numbers(slice(None))])

    def _numbers(self, index: Any) -> Array:
        """Return the numbers of rows in the source."""
        every = np.arange(self.source.shape[0]) if self.at is None else self.at
        if isinstance(index, Tensor):
            mask = index.dtype == torch.uint8  # as torch takes it
            index = (index.bool() if mask else index).numpy(force=True)
        numbers: Array = every[index]
        return numbers

    def __iter__(self) -> Iterator[Tensor]:
        return (self[k] for k in range(len(self)))

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        kind = "floats" if self.levels is None else f"levels from 0 to {self.levels}"
        return f"Stored({kind}, shape={tuple(self.shape)})"

    def __deepcopy__(self, memo: Any) -> Stored:
        return self  # nothing can change it

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Stored, (self.source, self.levels, self.missing, self.at)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer what needs no pixels, and read the rows for everything else."""
        if func in OF_SHAPE:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        if func in LAZY and isinstance(args[0], Stored):
            return LAZY[func](*args, **(kwargs or {}))
        if _changes(func.__name__) and isinstance(args[0], Stored):
            raise ValueError(
                "images that are held as they are stored cannot be changed in place; "
                "change a copy, column.clone(), and make new Rows({**rows, name: copy})"
            )
        return func(*tree_map(_plain, tuple(args)), **tree_map(_plain, kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch calls it so
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Read the rows for what torch does without asking `__torch_function__`."""
        return func(*tree_map(_plain, tuple(args)), **tree_map(_plain, kwargs or {}))


def as_stored(images: Tensor, levels: int | None) -> Tensor:
    """Return images `(n, ...)` as they would be stored, if all are whole levels: bit for bit.

    Others, such as those with real-valued pixels or a gap, are returned as they are.

    Example:
        >>> as_stored(torch.tensor([[0.0, 0.2], [1.0, 0.4]]), levels=255)
        Stored(levels from 0 to 255, shape=(2, 2))
        >>> as_stored(torch.tensor([[0.0, 0.2001]]), levels=255)
        tensor([[0.0000, 0.2001]])
    """
    if levels is None or isinstance(images, Stored) or images.dtype != torch.get_default_dtype():
        return images
    stored = np.empty(tuple(images.shape), dtype=storage_type(levels))
    step = rows_at_once(images)
    for start in range(0, len(images), step):
        block = images[start : start + step].detach().cpu()
        whole = (block * levels).round()
        if not bool(((whole / levels == block) & (whole >= 0) & (whole <= levels)).all()):
            return images
        stored[start : start + step] = whole.numpy()
    return Stored(Held(stored), levels)


def rows_at_once(column: Tensor) -> int:
    """Return of how many rows the floats take some 32 MiB, one at least."""
    return max(1, BLOCK // max(1, column.nbytes // max(1, len(column))))


def blocks(column: Tensor, size: int | None = None) -> Iterator[Tensor]:
    """Yield a column block by block, as floats; one that is no `Stored` as it is.

    Example:
        >>> column = Stored(Held(np.zeros((5, 2), dtype=np.uint8)), levels=255)
        >>> [len(block) for block in blocks(column, 2)]
        [2, 2, 1]
    """
    if not isinstance(column, Stored):
        yield column
        return
    step = size or rows_at_once(column)
    for start in range(0, len(column), step):
        yield column.floats(slice(start, start + step))


def pick(column: Tensor, index: Any) -> Tensor:
    """Select rows of a column, without reading them where they are stored; one row is read."""
    if not isinstance(column, Stored) or isinstance(index, tuple):
        return column[index]
    axes = 1 if isinstance(index, slice) else np.ndim(index)
    if axes > 1:
        return column[index]
    return column.rows(index) if axes else column[int(index)]


def moved(column: Tensor, device: torch.device) -> Tensor:
    """Put a column on a device, as floats: one that is stored block by block."""
    if not isinstance(column, Stored):
        return column.to(device)
    whole, start = torch.empty(column.shape, dtype=column.dtype, device=device), 0
    for block in blocks(column):
        whole[start : start + len(block)] = block
        start += len(block)
    return whole


def _plain(value: Any) -> Any:
    return value.floats() if isinstance(value, Stored) else value


def _changes(name: str) -> bool:
    """Return whether a function of this name changes its first argument."""
    return name in IN_PLACE or (name.endswith("_") and not name.endswith("__"))


def _item(column: Stored, key: Any) -> Tensor:
    """Return what an index asks for; rows alone are read where it begins with some."""
    first, *rest = key if isinstance(key, tuple) else (key,)
    simple = all(isinstance(part, int | slice) or part is Ellipsis for part in rest)
    if isinstance(first, int) and simple:
        row: Tensor = column.floats([first])[0]
        return row[tuple(rest)] if rest else row
    if isinstance(first, slice) and not rest:
        return column.rows(first)
    by_rows = isinstance(first, slice | list) or (isinstance(first, Tensor) and first.ndim == 1)
    if by_rows and simple:
        chosen = column.floats(first)
        return chosen[(slice(None), *rest)] if rest else chosen
    return column.floats()[key]


def _split(column: Stored, size: int, dim: int = 0) -> Any:
    if dim or not isinstance(size, int):
        return column.floats().split(size, dim)
    return tuple(column.rows(slice(k, k + size)) for k in range(0, max(1, len(column)), size))


def _same(column: Stored, **options: Any) -> Tensor:
    return column.floats().contiguous(**options) if options else column


OF_SHAPE: frozenset[Any] = frozenset(
    [
        *(getattr(Tensor, name).__get__ for name in (
            "shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_leaf", "grad",
            "grad_fn", "is_cuda", "is_sparse", "is_quantized", "is_meta", "nbytes", "itemsize",
        )),
        Tensor.size, Tensor.dim, Tensor.ndimension, Tensor.numel, Tensor.nelement, Tensor.__len__,
        Tensor.is_floating_point, Tensor.is_complex, Tensor.element_size,
    ]
)  # fmt: skip
"""What is known of a column without a look at its pixels."""

LAZY: dict[Any, Callable[..., Any]] = {
    Tensor.__getitem__: _item,
    Tensor.split: _split,
    Tensor.detach: _same,
    Tensor.cpu: _same,
    Tensor.contiguous: _same,
}
"""What reads some of the rows, or none."""

IN_PLACE = frozenset(
    [
        "__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__",
        "__imod__", "__ipow__", "__iand__", "__ior__", "__ixor__",
    ]
)  # fmt: skip
"""Operators that change what stands on their left."""
