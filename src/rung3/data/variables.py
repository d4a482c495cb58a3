"""Variables: what values a node of the graph can take, in which unit, of which shape.

A variable is a schema and nothing else. Every value that enters the library passes through
`Variable.validate` once; every parent is encoded for a network from the same schema
(`rung3.mechanisms.networks.encoding`), so no mechanism knows more about a data set than this.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rung3.data.precision import held
from rung3.data.spelling import did_you_mean
from rung3.data.stored import Stored
from rung3.data.values import NUMBERS, array_of, is_coded, labels_of, objects, reading, to_tensor

__all__ = [
    "Binary", "Categorical", "CensoredTime", "Continuous", "Image", "Mask", "Ordinal", "Variable",
]  # fmt: skip

MOST_BITS = 16
"""Bits of a pixel whose levels single precision still tells apart with room to spare."""

MOST_KINDS = 256
"""Most kinds of a mask's pixels: as many as an image file of eight bits holds codes of."""

MOST_LISTED = 8
"""Labels that a message lists, at most."""

TOLERANCE = 0.02
"""How far a pixel may lie off its level by rounding, relative to the spacing of levels."""


@dataclass(frozen=True, kw_only=True)
class Variable(ABC):
    """A node's support, unit and shape.

    Args:
        unit: Unit of the values, for axes and messages; `""` for none.
        missing: Whether values may be missing (NaN). A discrete variable that may be missing is
            held as float.
    """

    unit: str = ""
    missing: bool = False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one value: `()`, `(d,)`, `(C, H, W)` or `(C, D, H, W)`."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Type in which values are held."""

    @abstractmethod
    def check_support(self, name: str, value: Tensor) -> None:
        """Raise a `ValueError` if any (finite) value lies outside the support."""

    @property
    def kind(self) -> str:
        """The name of the kind of variable, in lower case."""
        return type(self).__name__.lower()

    def validate(self, name: str, value: Any, exact: bool = False) -> Tensor:
        """Check a value, batched or not, and hold it in the variable's type.

        Args:
            name: The variable's name, for the errors.
            value: Array-like of shape `(*shape)` or `(n, *shape)`, in the variable's own units.
            exact: Whether numbers are held in double.

        Returns:
            The same values as a tensor, of the same shape.

        Raises:
            ValueError: On a wrong shape, NaN where `missing` is not declared, infinity, or values
                outside the support.

        Example:
            >>> Continuous(lower=0).validate("thickness", [1, 2.5])
            tensor([1.0000, 2.5000])
        """
        if isinstance(value, Stored) and self._holds(value):
            return value
        tensor = self.read(name, value)
        tail = tuple(tensor.shape[tensor.ndim - len(self.shape) :])
        if tensor.ndim not in (len(self.shape), len(self.shape) + 1) or tail != self.shape:
            one, batch = _spell(self.shape), _spell(("n", *self.shape))
            raise ValueError(
                f"{name}: expected shape {one} or {batch}, got {_spell(tuple(tensor.shape))}"
            )
        if tensor.is_floating_point():
            present = self._check_finite(name, tensor.detach())
        else:
            present = tensor
        self.check_support(name, present)
        return self.hold(tensor, exact)

    def _holds(self, value: Stored) -> bool:
        """Return whether stored images are values of this variable, without a look at them."""
        return False

    def hold(self, value: Tensor, exact: bool = False) -> Tensor:
        """Return values in the variable's type; in double what that would round too much."""
        return value.to(self.dtype)

    def read(self, name: str, value: Any) -> Tensor:
        """Read a value as a tensor, labels as their codes; its values are not checked."""
        return to_tensor(name, value)

    def _check_finite(self, name: str, tensor: Tensor) -> Tensor:
        held = torch.get_default_dtype()
        converted = tensor.to(held)
        if bool(converted.sum().isfinite()):  # so are all terms
            return tensor
        finite = converted.isfinite()
        if finite.all():
            return tensor
        if converted.isinf().any():
            raise ValueError(
                f"{name}: {int(converted.isinf().sum())} values are infinite, or beyond "
                f"{torch.finfo(held).max:.2g}, the largest of {held}{_first(converted.isinf())}"
            )
        if not self.missing:
            raise ValueError(
                f"{name}: {int((~finite).sum())} values are NaN; declare the variable with "
                "missing=True if its values may be missing"
            )
        return tensor[finite]

    def difference(self, x: Tensor, y: Tensor) -> Tensor:
        """Return `x - y`; on a circle the shorter way round."""
        return x - y

    def is_missing(self, value: Tensor) -> Tensor:
        """Return a mask `(n,)` of the rows of a batched value that are missing."""
        if isinstance(value, Stored):
            return value.without_image()
        if not value.is_floating_point():
            return torch.zeros(len(value), dtype=torch.bool, device=value.device)
        return value.isnan().flatten(1).any(1) if value.ndim > 1 else value.isnan()

    def config(self) -> dict[str, Any]:
        """Return the kind and the fields that differ from their defaults, for a model file."""
        fields = {
            name: getattr(self, name)
            for name, spec in self.__dataclass_fields__.items()
            if spec.init and getattr(self, name) != spec.default
        }
        return {"kind": type(self).__name__} | fields

    def __str__(self) -> str:
        fields = ", ".join(f"{k}={_short(v)}" for k, v in self.config().items() if k != "kind")
        return f"{type(self).__name__}({fields})"


@dataclass(frozen=True, kw_only=True)
class Continuous(Variable):
    """A real number, or a vector of `dim` of them, between `lower` and `upper`.

    On a circle (an angle, an hour, a hue) `upper` is `lower` again: every number is a point of it,
    held as its equal in [lower, upper).

    Args:
        lower: Least value, in the variable's unit.
        upper: Greatest value.
        dim: Length of the vector; `None` for a scalar.
        circular: Whether the values lie on a circle.
        whole: Whether they are whole numbers, such as counts.

    Raises:
        ValueError: If lower is not less than upper, dim less than 1, a circle has an end that is
            infinite, or whole numbers lie on a circle.

    Example:
        >>> print(Continuous(unit="px", lower=0))
        Continuous(unit='px', lower=0)
        >>> hour = Continuous(unit="h", lower=0, upper=24, circular=True)
        >>> hour.validate("hour", [23.5, 25, -1])
        tensor([23.5000,  1.0000, 23.0000])
        >>> hour.difference(torch.tensor(23.0), torch.tensor(1.0))
        tensor(-2.)
    """

    lower: float = -math.inf
    upper: float = math.inf
    dim: int | None = None
    circular: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if self.whole and self.circular:
            raise ValueError("whole=True: whole numbers do not lie on a circle; use Categorical")
        if not self.lower < self.upper:
            raise ValueError(f"lower={self.lower} must be less than upper={self.upper}")
        if self.circular and math.isinf(self.upper - self.lower):
            raise ValueError(
                f"circular=True needs a finite lower and upper, where the circle closes; got "
                f"lower={self.lower} and upper={self.upper}"
            )
        if self.dim is not None and self.dim < 1:
            raise ValueError(f"dim={self.dim} must be at least 1, or None for a scalar")

    @property
    def shape(self) -> tuple[int, ...]:
        return () if self.dim is None else (self.dim,)

    @property
    def dtype(self) -> torch.dtype:
        return torch.get_default_dtype()

    def hold(self, value: Tensor, exact: bool = False) -> Tensor:
        return self.wrap(value.double() if exact else held(value, len(self.shape)))

    def check_support(self, name: str, value: Tensor) -> None:
        if not self.circular:
            _check_range(name, value, self.lower, self.upper, self.unit)
        if self.whole and (off := value != value.round()).any():
            raise ValueError(
                f"{name}: {value[off].reshape(-1)[0].item():g} is not a whole number, and the "
                "variable is declared with whole=True"
            )

    @property
    def censored(self) -> bool:
        """Whether values may be known to be longer than they say."""
        return False

    def wrap(self, value: Tensor) -> Tensor:
        """Map points of a circle to their equals in [lower, upper); other values stay."""
        if not self.circular:
            return value
        inside = (value >= self.lower) & (value < self.upper)
        moved = self.lower + torch.remainder(value - self.lower, self.upper - self.lower)
        moved = torch.where(moved < self.upper, moved, self.lower)
        return torch.where(inside | value.isnan(), value, moved)

    def difference(self, x: Tensor, y: Tensor) -> Tensor:
        """Return `x - y`; on a circle the shorter way round, in [-h, h) with h half its length."""
        if not self.circular:
            return x - y
        half = (self.upper - self.lower) / 2
        return torch.remainder(x - y + half, 2 * half) - half


@dataclass(frozen=True, kw_only=True)
class CensoredTime(Continuous):
    """A time to an event, above 0, perhaps longer than the follow-up.

    It is held as one number: t where the event was seen, and -t where all that is known is that it
    came later than t. `code` makes these of two columns. It has an effect on nothing.

    Raises:
        ValueError: On any field but `unit` and `missing`.

    Example:
        >>> CensoredTime(unit="days").code([10, 30], seen=[True, False])
        tensor([ 10., -30.])
    """

    lower: float = 0.0

    def __post_init__(self) -> None:
        others = {name for name in self.config() if name not in ("kind", "unit", "missing")}
        if others:
            raise ValueError(f"CensoredTime: expected unit and missing alone, got {sorted(others)}")

    @property
    def censored(self) -> bool:
        return True

    def code(self, times: Any, seen: Any) -> Tensor:
        """Return times as they are held.

        Args:
            times: Times to the event, or to the end of follow-up, `(n,)`.
            seen: Whether the event was seen, `(n,)`: 1 or 0.

        Raises:
            ValueError: If a time is not above 0, or `seen` holds anything but 0 and 1.
        """
        end, known = to_tensor("times", times), to_tensor("seen", seen).double()
        if not bool((end > 0).all()):
            raise ValueError(f"times: {float(end.min()):g} is not a time; expected numbers above 0")
        if not bool(((known == 0) | (known == 1)).all()):
            raise ValueError("seen: expected 1 where the event was seen, and 0 where it was not")
        return self.validate("times", torch.where(known == 1, end, -end.double()))

    def check_support(self, name: str, value: Tensor) -> None:
        if bool((value == 0).any()):
            raise ValueError(
                f"{name}: 0 is not a time; expected t above 0, or -t where it came later than t"
            )

    def difference(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the difference of the times, whether or not they were seen to their end."""
        return x.abs() - y.abs()


@dataclass(frozen=True)
class Discrete(Variable):
    """One of finitely many values, coded 0, 1, ..., `classes - 1`; by name where it has labels.

    Tensors hold codes, as all answers do. Any other value (text, a number, NumPy, pandas) is a
    label where there are labels: a number or a boolean is the label that reads like it. Where
    numbers are meant as codes, say so: once and for all with `coded`, or by `codes`, which makes a
    tensor of them.
    """

    classes: int = None  # type: ignore[assignment]  # as many as there are labels
    labels: tuple[str, ...] = ()
    coded: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", labels_of(self.labels))
        if self.classes is None:
            if not self.labels:
                raise TypeError("expected the number of classes, or their labels")
            object.__setattr__(self, "classes", len(self.labels))
        if isinstance(self.classes, bool) or not isinstance(self.classes, int | np.integer):
            raise ValueError(
                f"classes={self.classes!r} is not a whole number; names go in labels=(...)"
            )
        object.__setattr__(self, "classes", int(self.classes))
        if self.classes < 2:
            raise ValueError(f"classes={self.classes} must be at least 2")
        if self.labels and len(self.labels) != self.classes:
            raise ValueError(f"{self.classes} classes, but {len(self.labels)} labels")

    def label(self, code: int) -> str:
        """Return the name of a category, or its code where they have none.

        Example:
            >>> Categorical(3).label(2), Binary(labels=("no", "yes")).label(1)
            ('2', 'yes')
        """
        return self.labels[code] if self.labels else str(code)

    def codes(self, values: Any) -> Tensor:
        """Return values that are meant as codes, whatever the labels: whole numbers in a tensor.

        Example:
            >>> education = Categorical(labels=("1", "2", "3"))
            >>> education.validate("education", [1, 2]), education.codes([1, 2])
            (tensor([0, 1]), tensor([1, 2]))

        Raises:
            ValueError: If a value is not a whole number from 0 to `classes - 1`.
        """
        return self.validate(self.kind, to_tensor(self.kind, values))

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> torch.dtype:
        return torch.get_default_dtype() if self.missing else torch.int64

    def read(self, name: str, value: Any) -> Tensor:
        if not self.labels or is_coded(value):
            return to_tensor(name, value)
        import pandas as pd

        at, given = pd.factorize(objects(name, value))  # -1 where it is absent
        codes = [self._code(one) for one in given]
        if unknown := [one for one, code in zip(given, codes, strict=True) if code is None]:
            raise ValueError(f"{name}: unknown category {unknown[:3]}; {self._cure(unknown[0])}")
        table = torch.tensor([*codes, math.nan], dtype=torch.float64)
        return table[torch.from_numpy(at)].reshape(array_of(name, value).shape)

    def _code(self, value: Any) -> float | None:
        """Return the code of the label that a value is, or of one that is a code."""
        if self.coded and isinstance(value, NUMBERS):
            return float(value)
        if str(value) in self.labels:
            return self.labels.index(str(value))
        number = float(value) if isinstance(value, NUMBERS) else math.nan
        return next((k for k, label in enumerate(self.labels) if reading(label) == number), None)

    def _cure(self, value: Any) -> str:
        """Say what was expected instead of an unknown category."""
        if isinstance(value, NUMBERS):
            cure = "if codes are meant, declare it with coded=True, or use its codes(...)"
        else:
            cure = did_you_mean(value, self.labels)
        return f"expected {_short(list(self.labels))}" + (f"; {cure}" if cure else "")

    def check_support(self, name: str, value: Tensor) -> None:
        value = value.double()  # booleans do not round
        wrong = (value < 0) | (value >= self.classes) | (value != value.round())
        if wrong.any():
            raise ValueError(
                f"{name}: {value[wrong].reshape(-1)[0].item():g} is not a category; "
                f"expected a whole number from 0 to {self.classes - 1}"
            )


@dataclass(frozen=True)
class Categorical(Discrete):
    """One of `classes` unordered categories, coded 0, 1, ..., `classes - 1`.

    Args:
        classes: Number of categories; as many as there are labels, if not given.
        labels: Their names, in the order of the codes; values are then given by name.
        coded: Whether given numbers are codes all the same, and only text is read as labels.

    Raises:
        ValueError: If there are less than two, or labels are missing, twice, or another number.

    Example:
        >>> Categorical(labels=("small", "large")).validate("size", ["large", "small"])
        tensor([1, 0])
    """


@dataclass(frozen=True)
class Ordinal(Discrete):
    """One of `classes` ordered levels, coded 0 < 1 < ... < `classes - 1`.

    Args:
        classes: Number of levels; as many as there are labels, if not given.
        labels: Their names, lowest first.
        coded: As for `Categorical`.
    """


@dataclass(frozen=True)
class Binary(Discrete):
    """A no or yes, coded 0 and 1 (booleans are accepted where it has no labels).

    Args:
        labels: Names of 0 and 1.
        coded: As for `Categorical`.
    """

    classes: int = field(default=2, init=False)


@dataclass(frozen=True, init=False)
class Image(Variable):
    """An image, or a volume, of `channels` x its sizes, as floats in [0, 1].

    Args:
        channels: 1 for grey, 3 for colour, any number for other modalities.
        sizes: `height, width` of an image, or `depth, height, width` of a volume.
        depth: Slices of a volume, by name; `None` for an image.
        height: Rows of pixels.
        width: Columns of pixels.
        bits: Bits that a pixel was stored with, from 1 (a mask) to 16: pixels are whole levels
            `k / levels`, k from 0 to `levels = 2**bits - 1`. `None` for real-valued pixels.
        fit: What to do with image files of another aspect ratio: `"crop"` to the middle, or `"pad"`
            with black; `None` refuses them.
        unit: As for every variable.
        missing: As for every variable.

    Raises:
        ValueError: If a size is not a whole number of at least 1, or `bits` or `fit` none of these.

    Example:
        >>> Image(1, 1, 3, bits=2).validate("mask", [[[0, 1 / 3, 1.0]]])
        tensor([[[0.0000, 0.3333, 1.0000]]])
        >>> Image(1, 48, 64, 64).depth, Image(channels=1, height=64, width=64).depth
        (48, None)
    """

    channels: int
    height: int
    width: int
    depth: int | None = None
    bits: int | None = 8
    fit: Literal["crop", "pad"] | None = None

    def __init__(
        self,
        channels: int,
        *sizes: int,
        depth: int | None = None,
        height: int | None = None,
        width: int | None = None,
        bits: int | None = 8,
        fit: Literal["crop", "pad"] | None = None,
        unit: str = "",
        missing: bool = False,
    ) -> None:
        named = (depth, height, width)
        complete = len(sizes) in (2, 3) if sizes else None not in (height, width)
        if not complete or (sizes and named != (None, None, None)):
            raise ValueError(
                "expected height and width of an image, or depth, height and width of a volume, "
                f"got {sizes or named}"
            )
        if sizes:
            depth, height, width = (None, *sizes)[-3:]
        lengths = {"channels": channels, "height": height, "width": width, "depth": depth}
        shared = {"bits": bits, "fit": fit, "unit": unit, "missing": missing}
        for name, value in (lengths | shared).items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        if not all(_whole(size) for size in self.shape):
            what = "channels, height" if self.depth is None else "channels, depth, height"
            raise ValueError(
                f"{what} and width are whole numbers and must be at least 1, got {self.shape}"
            )
        if self.bits is not None and not (_whole(self.bits) and self.bits <= MOST_BITS):
            raise ValueError(
                f"bits={self.bits!r} must be a whole number from 1 (a mask) to {MOST_BITS}, or "
                "None for real-valued pixels"
            )
        if self.fit not in (None, "crop", "pad"):
            raise ValueError(f"fit={self.fit!r}: expected 'crop', 'pad', or None to refuse")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Height and width of an image; depth, height and width of a volume."""
        return self.shape[1:]

    @property
    def levels(self) -> int | None:
        """The number L of the levels `k / L`, `k = 0, ..., L`; `None` for real-valued pixels."""
        return None if self.bits is None else levels_of(self.bits)

    def nearest(self, value: Tensor) -> Tensor:
        """Round each pixel to the nearest level; real-valued pixels stay."""
        return value if self.levels is None else (value * self.levels).round() / self.levels

    def dequantised(self, value: Tensor) -> Tensor:
        """Add uniform noise within their level to pixels; real-valued pixels stay."""
        if self.levels is None:
            return value
        return value + (torch.rand_like(value) - 0.5) / self.levels

    @property
    def shape(self) -> tuple[int, ...]:
        if self.depth is None:
            return (self.channels, self.height, self.width)
        return (self.channels, self.depth, self.height, self.width)

    @property
    def dtype(self) -> torch.dtype:
        return torch.get_default_dtype()

    def _holds(self, value: Stored) -> bool:
        held = (tuple(value.shape[1:]), value.dtype, value.levels)
        alike = held == (self.shape, self.dtype, self.levels)
        return alike and (self.missing or not bool(value.without_image().any()))

    def check_support(self, name: str, value: Tensor) -> None:
        if not value.is_floating_point():
            raise ValueError(
                f"{name}: expected an image of floats in [0, 1], got {value.dtype}; "
                "divide 8-bit images by 255"
            )
        _check_range(name, value, 0, 1, self.unit)
        if self.levels is None:
            return  # any number of the range
        level = value.to(self.dtype) * self.levels
        off = (level - level.round()).abs() > TOLERANCE
        if off.any():
            raise ValueError(
                f"{name}: {int(off.sum())} of {value.numel()} pixels, such as "
                f"{value[off][0].item():g}, are not multiples of 1/{self.levels}, the levels of "
                f"bits={self.bits}; round them, (x * {self.levels}).round() / {self.levels}, or "
                "declare other bits, bits=None for real-valued pixels"
            )


@dataclass(frozen=True, init=False)
class Mask(Image):
    """A segmentation: which of a few kinds each pixel or voxel of an image is.

    The kinds are coded 0, 1, ..., K - 1, and a value is held as an image of one channel whose
    pixels are the levels `k / (K - 1)`, so that it can be drawn. Whole numbers that are given are
    codes.

    Args:
        classes: Number of kinds K; as many as there are labels, if not given, or else 2.
        sizes: `height, width` of an image, or `depth, height, width` of a volume.
        depth: Slices of a volume, by name; `None` for an image.
        height: Rows of pixels.
        width: Columns of pixels.
        labels: Names of the kinds, in the order of their codes.
        missing: As for every variable.

    Raises:
        ValueError: If there are less than 2 kinds or more than 256, labels are twice or another
            number, or a size is not a whole number of at least 1.

    Example:
        >>> mask = Mask(3, 1, 4, labels=("ground", "grey", "white"))
        >>> value = mask.validate("tissue", [[[0, 1, 2, 2]]])
        >>> value, mask.codes(value), mask.share(value, "white")
        (tensor([[[0.0000, 0.5000, 1.0000, 1.0000]]]), tensor([[0, 1, 2, 2]]), tensor(0.5000))
    """

    classes: int = 2
    labels: tuple[str, ...] = ()
    channels: int = field(default=1, init=False)
    bits: int | None = field(default=None, init=False)
    fit: Literal["crop", "pad"] | None = field(default=None, init=False)
    unit: str = field(default="", init=False)

    def __init__(
        self,
        classes: int | None = None,
        *sizes: int,
        depth: int | None = None,
        height: int | None = None,
        width: int | None = None,
        labels: Sequence[str] = (),
        missing: bool = False,
    ) -> None:
        names = tuple(map(str, labels))
        kinds = classes if classes is not None else len(names) or 2
        if not _whole(kinds) or not 2 <= kinds <= MOST_KINDS:
            raise ValueError(f"classes={kinds!r}: expected a whole number from 2 to {MOST_KINDS}")
        if names and (len(names) != kinds or len(set(names)) < kinds):
            raise ValueError(f"labels={names}: expected {kinds} different ones, one a kind")
        object.__setattr__(self, "classes", int(kinds))
        object.__setattr__(self, "labels", names)
        super().__init__(
            1, *sizes, depth=depth, height=height, width=width, bits=None, missing=missing
        )

    @property
    def levels(self) -> int:
        """The number L of the levels `k / L`, `k = 0, ..., L`: one less than the kinds."""
        return self.classes - 1

    def read(self, name: str, value: Any) -> Tensor:
        tensor = super().read(name, value)
        if tensor.is_floating_point() or tensor.is_complex():
            return tensor
        if ((tensor < 0) | (tensor >= self.classes)).any():
            raise ValueError(
                f"{name}: a mask of {self.classes} kinds has the codes 0 to {self.classes - 1}, "
                f"got {int(tensor.min())} to {int(tensor.max())}"
            )
        return tensor.to(self.dtype) / self.levels

    def check_support(self, name: str, value: Tensor) -> None:
        _check_range(name, value, 0, 1, "")
        level = value * self.levels
        off = (level - level.round()).abs() > TOLERANCE
        if off.any():
            raise ValueError(
                f"{name}: {int(off.sum())} of {value.numel()} pixels, such as "
                f"{value[off][0].item():g}, are not kinds; expected the codes 0 to {self.levels} "
                f"as whole numbers, or these divided by {self.levels}"
            )

    def codes(self, value: Tensor) -> Tensor:
        """Return the kind of each pixel of masks `(..., 1, H, W)`, `(..., H, W)`."""
        return (value * self.levels).round().long().squeeze(-1 - len(self.sizes))

    def share(self, value: Tensor, kind: int | str) -> Tensor:
        """Return the share of the pixels that are of a kind, `(...)`: the size of a region.

        Args:
            value: Masks `(..., 1, H, W)`.
            kind: A code, or a label.

        Raises:
            ValueError: If there is no such kind.
        """
        region = (self.codes(value) == self.code(kind)).to(self.dtype)
        return region.mean(tuple(range(-len(self.sizes), 0)))

    def code(self, kind: int | str) -> int:
        """Return the code of a kind, given by its label or code.

        Raises:
            ValueError: If there is no such kind.
        """
        known: tuple[Any, ...] = self.labels or tuple(range(self.classes))
        if kind not in known and kind not in range(self.classes):
            raise ValueError(f"{kind!r}: no kind of this mask; expected one of {known}")
        return self.labels.index(kind) if isinstance(kind, str) else kind


def levels_of(bits: int) -> int:
    """Return the number L of the levels `k / L`, `k = 0, ..., L`, of pixels of so many bits."""
    return (1 << bits) - 1


KINDS: Mapping[str, type[Variable]] = {
    kind.__name__: kind
    for kind in (Continuous, Binary, Categorical, Ordinal, CensoredTime, Image, Mask)
}


def from_config(name: str, config: Mapping[str, Any]) -> Variable:
    """Make the variable that `Variable.config` described."""
    fields = dict(config)
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"{name}: unknown kind of variable {kind!r}; expected {list(KINDS)}")
    try:
        return KINDS[kind](**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {kind}: {error}") from None


def _check_range(name: str, value: Tensor, lower: float, upper: float, unit: str) -> None:
    if value.numel() == 0 or (lower, upper) == (-math.inf, math.inf):
        return
    held = value.dtype if value.is_floating_point() else torch.float64  # 0.1 in float is above 0.1
    least, most = torch.tensor([lower, upper], dtype=held).tolist()
    low, high = (float(v) for v in torch.aminmax(value))
    if low < least or high > most:
        worst = low if low < least else high
        raise ValueError(
            f"{name}: {worst:g} is outside its support [{lower:g}, {upper:g}]"
            + (f" {unit}" if unit else "")
        )


def _whole(size: object) -> bool:
    """Return whether it is a whole number of at least 1; `True` and 1.0 are not."""
    return isinstance(size, Integral) and not isinstance(size, bool) and int(size) >= 1


def _short(value: Any) -> str:
    """Return a field as it would be written; of many labels, the first and the last."""
    if not isinstance(value, tuple | list) or len(value) <= MOST_LISTED:
        return repr(value)
    head = ", ".join(map(repr, value[: MOST_LISTED - 1]))
    left, right = "()" if isinstance(value, tuple) else "[]"
    return f"{left}{head}, ..., {value[-1]!r}{right}"


def _first(mask: Tensor) -> str:
    """Say in which row a mask of a batch is first set, at the end of an error."""
    return f" (first: row {int(mask.nonzero()[0, 0])})" if mask.ndim and len(mask) > 1 else ""


def _spell(shape: tuple[int | str, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
