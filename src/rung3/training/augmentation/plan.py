"""`Plan`: which variable is set to what in which rows, so that the rows have a joint that is asked.

With change s, other variables g, and cells (g, k) of their values (numbers fall into intervals),

    independent     q(g, k) = p(g) p(k)
    every value     q(g, k) = p(g) / K
    a joint         q(g, k) as stated.

A row of g is set to k in a share q(k | g) of its copies, and has the weight q(g, k) / n(g, k),
with n(g, k) the share of the rows of the answer: so the weighted joint is q, whatever is rejected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, Strict

from rung3.data.validation import Count, NonNegative, Share, Validated, expected

if TYPE_CHECKING:
    Names = str | Sequence[str]
    Values = Sequence[Any] | None
    Joint = Sequence[Mapping[str, Any]] | None
else:
    Names = Annotated[
        str | Annotated[tuple[str, ...], Strict(False)], expected("a name or a list of names")
    ]
    Values = Annotated[
        Annotated[tuple[Any, ...], Field(min_length=2), Strict(False)] | None,
        expected("a list of two values or more"),
    ]
    Joint = Annotated[
        Annotated[tuple[dict[str, Any], ...], Field(min_length=1), Strict(False)] | None,
        expected("a list of mappings from each variable to its value, and from share to a number"),
    ]

__all__ = ["Plan"]

SHARE = "share"
"""The key of a cell's share in a stated joint."""

SUM_TOLERANCE = 1e-6
"""How far the shares of a stated joint may be from one, together."""


@dataclass(frozen=True, kw_only=True)
class Plan(Validated):
    """What augmented rows should look like: `augment(model, rows, plan)`.

    Either `joint` says which joint is asked for, or `independent_of`, `every`, or both.

    Args:
        change: The variable that is set, such as `"site"`.
        independent_of: Variables that it should be independent of, such as `"disease"`. All keep
            their own distributions.
        every: Whether each row comes at every value of the variable: at its categories, or at
            `values`.
        joint: The shares of cells, as records: `{"disease": "ill", "site": "A", "share": 0.25}`;
            their variables must be discrete, and cells that are not named have none.
        values: With `every`: the values of a number that rows come at.
        copies: How often each row is used, without `every`.
        originals: Whether the rows themselves are kept besides; weights then make up for them.
        hold: Variables that keep their factual values although something upstream is set.
        bins: Intervals of equal frequency that numbers fall into.
        temperature: Factor on the noise of observation (a VAE's eps) of counterfactuals; with 0
            they are what the latents alone say, which is less sharp and obeys more.
        doubt: Share of real images that each predictor would reject, roughly.
        attempts: How often noise is redrawn for a counterfactual that is rejected, at most.

    Raises:
        ValueError: If an option is out of range, or no joint is asked for, or two.

    Example:
        >>> Plan(change="site", independent_of="disease").others
        ('disease',)
        >>> Plan(change="site")
        Traceback (most recent call last):
        ValueError: Plan(change='site'): give a joint, or independent_of, every or both
    """

    change: str
    independent_of: Names = ()
    every: bool = False
    joint: Joint = None
    values: Values = None
    copies: Count = 1
    originals: bool = False
    hold: Names = ()
    bins: Annotated[int, Field(ge=2), expected("a whole number of at least 2")] = 10
    temperature: NonNegative = 1.0
    doubt: Share = 0.05
    attempts: Count = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("independent_of", "hold"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        if (bool(self.independent_of) or self.every) == (self.joint is not None):
            raise ValueError(
                f"Plan(change={self.change!r}): give a joint, or independent_of, every or both"
            )
        if self.values is not None and not self.every:
            raise ValueError(f"values={self.values!r} are for every=True; leave them out")
        if self.every and self.copies > 1:
            raise ValueError(f"copies={self.copies}: with every=True each row comes once a value")
        if self.joint is not None:
            self._check_joint(self.joint)

    def _check_joint(self, joint: Sequence[Mapping[str, Any]]) -> None:
        names = set(joint[0])
        for cell in joint:
            if set(cell) != names or not {self.change, SHARE} < names:
                raise ValueError(
                    f"joint: {dict(cell)}: expected a value of {self.change} and of one other "
                    "variable at least, the same ones in every cell, and a share"
                )
            if isinstance(cell[SHARE], bool) or not isinstance(cell[SHARE], int | float):
                raise ValueError(f"joint: {dict(cell)}: its share is not a number")
        total = sum(cell[SHARE] for cell in joint)
        if min(cell[SHARE] for cell in joint) < 0 or abs(total - 1) > SUM_TOLERANCE:
            raise ValueError(
                f"joint: shares must be at least 0 and sum to 1; they sum to {total:g}"
            )

    @property
    def others(self) -> tuple[str, ...]:
        """The variables beside the one that is set whose joint with it is asked for."""
        if self.joint is not None:
            return tuple(name for name in self.joint[0] if name not in (self.change, SHARE))
        return tuple(self.independent_of)
