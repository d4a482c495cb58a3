"""The query on the page, which is its whole state: a link with it restores the page.

seeing        p(x | e)             e: values that are observed
doing         p(x | do(a))         a: values that are set, in the population
imagining     p(x_a | row)         a: values that are set, for this one row
backtracking  x under u*, x_A = a  a: values that hold for this one row; u*: the nearest noise
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["PageState"]

MAX_PARTICLES = 32
"""Draws of the noise in one answer, so that it stays quick."""


class PageState(BaseModel):
    """One query to the models.

    Attributes:
        rung: The rung of the ladder of causation; on the third, whether mechanisms are broken
            (`imagining`) or noise is moved (`backtracking`).
        row: Which test row the query is about, from 0, on the third rung.
        upload: Key of an uploaded image in the place of a test row; see `Session.add_upload`.
        do: Values that are set, on the first rung observed, or by backtracking arrived at, in the
            variables' units; of a category, its code.
        hold: Variables kept at their factual values.
        particles: Number of draws of the noise.
        seed: Seed of the draws.
        shown: Which model's values the graph shows, from 0.
        slice: Where volumes are cut, from 0, the first slice of each axis, to 1, the last.

    Example:
        >>> query = PageState(row=3, do={"thickness": 4})
        >>> PageState.of_link(query.link()) == query
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rung: Literal["seeing", "doing", "imagining", "backtracking"] = "imagining"
    row: Annotated[int, Field(ge=0)] = 0
    upload: str | None = None
    do: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)
    hold: tuple[str, ...] = ()
    particles: Annotated[int, Field(ge=1, le=MAX_PARTICLES)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    shown: Annotated[int, Field(ge=0)] = 0
    slice: Annotated[float, Field(ge=0, le=1)] = 0.5

    @property
    def draws(self) -> int | None:
        """The number of particles as `SCM.abduct` takes it: `None` for one."""
        return self.particles if self.particles > 1 else None

    @property
    def about_row(self) -> bool:
        """Whether the query is about one row, and not about a population."""
        return self.rung in ("imagining", "backtracking")

    def link(self) -> str:
        """Return the query as the fragment of a link."""
        return quote(self.model_dump_json(exclude_defaults=True), safe="")

    @classmethod
    def of_link(cls, text: str) -> PageState:
        """Read the query of a link's fragment.

        Raises:
            ValueError: If it holds no query.
        """
        return cls.read(unquote(text))

    @classmethod
    def read(cls, given: str | bytes | dict[str, Any]) -> PageState:
        """Read a query from JSON text, or from its fields.

        Raises:
            ValueError: Naming the field that is wrong, what was given and what was expected.
        """
        try:
            if isinstance(given, dict):
                return cls.model_validate(given)
            return cls.model_validate_json(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "query"
            raise ValueError(f"{place}: {first['msg']}; got {first['input']!r:.80}") from None
