"""Answers to queries, with abduction done once a row.

    seeing     x ~ p(x | e)                      against x ~ p(x)
    doing      x ~ p(x | do(a))                  against x ~ p(x), with the same noise
    imagining  x~ = f_a(u),  u ~ p(u | row)      against the row

The noise `u` is kept by (model, row, draws, seed), so that a slider that moves costs the decoder
alone. Everything of a query is in the query: a session has no current one, and many can ask.

What a row lacks is drawn given the rest (see `rung3.scm.imputation`), each time anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock, RLock
from typing import Any, TypeVar

import torch
from torch import Tensor

from rung3.data.provenance import Provenance
from rung3.data.rows import Exogenous, Rows
from rung3.data.variables import Discrete, Image
from rung3.explorer.query import PageState
from rung3.explorer.runs import Opened
from rung3.scm.scm import SCM

__all__ = ["Answer", "Session"]

KEPT = 128
"""Abductions and populations that are kept, the last used ones."""

DRAWN, DRAWN_IMAGES = 1000, 64
"""Rows that a population is drawn with: of numbers alone, and where there are images."""

T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """Rows that answers are compared with.

    Attributes:
        rows: The rows.
        trained: Whether the model was trained on them; if not, they are those of the page.
    """

    rows: Rows
    trained: bool


@dataclass(frozen=True)
class Own:
    """A row of the user's own, and which of its values were inferred."""

    row: Rows
    inferred: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a query gives.

    Attributes:
        before: The row; on the first two rungs, rows of the population as it is, `(n, ...)`.
        after: What it would have been, `(K, ...)` with K draws; or rows of the other population.
        provenance: Each variable's status, and what the answer rests on.
        imagined: Whether it is of one row.
    """

    before: Rows
    after: Rows
    provenance: Provenance
    imagined: bool

    def draws(self, name: str) -> Tensor:
        """What a variable would be, with its draws as first axis, `(k, ...)`."""
        return _draws(self.after, name)

    def old(self, name: str) -> Tensor:
        """What a variable was, likewise."""
        return _draws(self.before, name)


class Session:
    """Models over the same variables, side by side, and rows to ask them about.

    Args:
        models: The models; rows and world are those of the first.
        broken: Of runs that could not be opened, why.

    Raises:
        ValueError: If there is no model, or the variables of two differ.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> session = Session([Opened("lecture", world, world.sample(5, seed=0), world)])
        >>> answer = session.answer(PageState(row=2, do={"x1": 5.0}))[0]
        >>> answer.provenance.status
        {'x1': 'intervened', 'x2': 'propagated'}
    """

    def __init__(self, models: Sequence[Opened], broken: Mapping[str, str] | None = None) -> None:
        if not models:
            raise ValueError("no model was given")
        self.models = tuple(models)
        self.broken = dict(broken or {})
        self.rows, self.world = models[0].rows, models[0].world
        self.variables = models[0].model.variables
        for other in models[1:]:
            if other.model.variables != self.variables:
                raise ValueError(
                    f"{other.name}: its variables are not those of {models[0].name}; runs side by "
                    "side are asked the same question"
                )
        self.images = [k for k, variable in self.variables.items() if isinstance(variable, Image)]
        self.lock = RLock()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._own: OrderedDict[str, Own] = OrderedDict()
        self._seen: dict[int, Seen] = {}
        self._reading = Lock()

    # Asking --------------------------------------------------------------------------------------

    def answer(self, query: PageState) -> list[Answer]:
        """The answer of each model.

        Raises:
            ValueError: If there is no such row or variable, or a value is outside its support.
        """
        return [self.answer_of(query, k) for k in range(len(self.models))]

    def answer_of(self, query: PageState, k: int) -> Answer:
        """The answer of model k.

        Raises:
            ValueError: As `answer`.
        """
        self.check(query)
        with self.lock, torch.no_grad():
            return self._answer(k, query)

    def truth(self, query: PageState) -> Rows | None:
        """The true counterfactual, where the world knows it."""
        self.check(query)
        if self.world is None or query.rung != "imagining" or query.own is not None:
            return None
        with self.lock, torch.no_grad():
            try:
                return self.world.counterfactual(
                    self.factual(query), self.settings(query), hold=query.hold
                )
            except ValueError:  # a world need not know every counterfactual
                return None

    def factual(self, query: PageState) -> Rows:
        """The row that is asked about, without a batch axis."""
        if query.own is None:
            return self.rows[query.row]
        return self._own[query.own].row

    def inferred(self, query: PageState) -> tuple[str, ...]:
        """What of the row was inferred, and not stated by the user."""
        return () if query.own is None else self._own[query.own].inferred

    def seen(self, k: int = 0) -> Seen:
        """Rows that model k was trained on, where its run knows them; read once."""
        with self._reading:  # not the session's lock: meanwhile the others are answered
            if k not in self._seen:
                try:
                    rows = self.models[k].trained_on()
                except (ValueError, OSError):
                    rows = None
                self._seen[k] = Seen(self.rows if rows is None else rows, rows is not None)
            return self._seen[k]

    def lacking(self, query: PageState) -> list[str]:
        """The variables that the row has no value of."""
        row = self.factual(query)
        return [k for k, v in self.variables.items() if bool(v.is_missing(row[k][None]).any())]

    def settings(self, query: PageState) -> dict[str, Any]:
        """The values that are set, as `SCM.do` takes them."""
        return {k: self.value(k, v) for k, v in query.do.items()}

    def value(self, name: str, code: float) -> Any:
        """A number of the page, which knows categories by their codes, as the library takes it."""
        variable = self.variables[name]
        if not isinstance(variable, Discrete) or code not in range(variable.classes):
            return code
        return variable.label(int(code)) if variable.labels else int(code)

    def noise(self, query: PageState, k: int = 0) -> Exogenous:
        """The noise behind the row, by model k; abducted once."""
        model, row = self.models[k].model, self.factual(query)
        return self.once(
            ("noise", k, query.own, query.row, query.draws, query.seed),
            lambda: model.abduct(row, particles=query.draws, seed=query.seed),
        )

    def acted(self, query: PageState, model: SCM, values: Mapping[str, Any] | None = None) -> SCM:
        """The model in which the query's values (or others, of the same variables) are set.

        What the query holds is held.
        """
        acted = model.do(self.settings(query) if values is None else values)
        row = self.factual(query)
        below = set(query.hold) & set(acted.graph.descendants(list(query.do)))
        return acted.hold({name: row[name] for name in below}) if below else acted

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, kept under a key."""
        with self.lock:
            if key not in self._kept:
                with torch.no_grad():
                    self._kept[key] = make()
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            found: T = self._kept[key]
            return found

    def adopt(self, name: str, row: Rows, inferred: Sequence[str] = ()) -> None:
        """Take a row of the user's own, to be asked about under a name."""
        with self.lock:
            self._own[name] = Own(row, tuple(inferred))
            while len(self._own) > KEPT:
                self._own.popitem(last=False)

    def check(self, query: PageState) -> None:
        """Refuse a query that asks for what is not there."""
        if query.own is None and query.row >= self.rows.n:
            raise ValueError(f"row: {query.row}; the test rows are 0 to {self.rows.n - 1}")
        if query.own is not None and query.own not in self._own:
            raise ValueError("this image is not known here any more; upload it again")
        if query.shown >= len(self.models):
            raise ValueError(f"shown: {query.shown}; the models are 0 to {len(self.models) - 1}")
        self.models[0].model.graph.names((*query.do, *query.hold))
        if both := [name for name in query.do if name in query.hold]:
            raise ValueError(f"{both[0]}: cannot both be set and held")
        for name, value in self.settings(query).items():
            if self.variables[name].shape:
                raise ValueError(f"{name}: only variables of one number can be set on the page")
            self.variables[name].validate(name, value)

    # The three rungs -----------------------------------------------------------------------------

    def _answer(self, k: int, query: PageState) -> Answer:
        model = self.models[k].model
        if query.rung == "imagining":
            row = self.factual(query)
            if self.lacking(query):
                after = model.counterfactual(
                    row, self.settings(query), hold=query.hold, particles=query.particles,
                    seed=query.seed,
                )  # fmt: skip
            else:
                after = self.acted(query, model).predict(self.noise(query, k))
            _check_numbers(after)
            return Answer(row, after, after.explain(), imagined=True)
        n = DRAWN_IMAGES if self.images else DRAWN
        before = self.once(("drawn", k, query.seed, n), lambda: model.sample(n, seed=query.seed))
        values = self.settings(query)
        if query.rung == "doing":
            after = model.do(values).sample(n, seed=query.seed)
        else:
            after = model.sample(n, given=values or None, seed=query.seed)
        _check_numbers(after)
        return Answer(before, after, after.explain(), imagined=False)


def _check_numbers(rows: Rows) -> None:
    """Refuse an answer that no picture can show."""
    for name, where in rows.explain().undefined.items():
        raise ValueError(f"{name}: not a number in {where}; ask for values nearer to the data")


def _draws(rows: Rows, name: str) -> Tensor:
    single = not rows.batched and rows.particles is None
    return rows[name][None] if single else rows[name]
