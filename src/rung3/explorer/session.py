"""Answers to queries; the noise of a row is abducted once and kept.

    seeing        x ~ p(x | e)                   against x ~ p(x)
    doing         x ~ p(x | do(a))               against x ~ p(x), with the same noise
    imagining     x~ = f_a(u),  u ~ p(u | row)   against the row
    backtracking  x~ = f(u*),  x~_A = a          against the row, u* the noise nearest to u

The noise `u` is cached by (model, row, draws, seed), so that moving a slider costs only a pass
through the decoder. A session has no current query, so that many visitors can ask at once.

Missing values of a row are drawn given the others (see `rung3.scm.imputation`), in each answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock, RLock
from typing import Any, TypeVar

import torch
from torch import Tensor

from rung3.data.provenance import Provenance
from rung3.data.rows import Exogenous, Rows
from rung3.data.variables import Discrete, Image
from rung3.explorer.consulted import Consulted
from rung3.explorer.query import PageState
from rung3.explorer.runs import Opened
from rung3.scm.imputation import whole
from rung3.scm.scm import SCM

__all__ = ["Answer", "Session"]

MAX_CACHED = 128
"""Abductions, populations and uploads that are kept; the least recently used go first."""

POPULATION_ROWS = 1000
"""Rows drawn from a population without images: enough for a histogram."""

POPULATION_IMAGES = 64
"""Rows drawn from a population with images: an image costs a pass through a decoder."""

T = TypeVar("T")


@dataclass(frozen=True)
class Reference:
    """Rows that answers are compared with.

    Attributes:
        rows: The rows.
        trained: Whether the model was trained on them; if not, they are the page's test rows.
    """

    rows: Rows
    trained: bool


@dataclass(frozen=True)
class Upload:
    """The row of an uploaded image, and which of its values were inferred."""

    row: Rows
    inferred: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The answer to a query.

    Attributes:
        before: The row; on the first two rungs, rows of the population as it is, `(n, ...)`.
        after: Its counterfactual, `(K, ...)` with K draws; or rows of the other population.
        provenance: Each variable's status, and what the answer rests on.
        imagined: Whether it is about one row.
    """

    before: Rows
    after: Rows
    provenance: Provenance
    imagined: bool

    def draws(self, name: str) -> Tensor:
        """Return a variable's new values, with the draws as first axis, `(k, ...)`."""
        return _draws(self.after, name)

    def old(self, name: str) -> Tensor:
        """Return a variable's old values, with the draws as first axis, `(k, ...)`."""
        return _draws(self.before, name)


class Session:
    """Models over the same variables, side by side, and rows to ask them about.

    Args:
        models: The models; rows and world are those of the first.
        broken: Why runs could not be opened, by path.
        predictor: A predictor that is asked beside them.

    Raises:
        ValueError: If there is no model, the variables of two differ, or the predictor reads what
            is not a variable or fails on the first rows (see `Consulted.check`).

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> session = Session([Opened("lecture", world, world.sample(5, seed=0), world)])
        >>> answer = session.answer(PageState(row=2, do={"x1": 5.0}))[0]
        >>> answer.provenance.status
        {'x1': 'intervened', 'x2': 'propagated'}
    """

    def __init__(
        self,
        models: Sequence[Opened],
        broken: Mapping[str, str] | None = None,
        predictor: Consulted | None = None,
    ) -> None:
        if not models:
            raise ValueError("no model was given")
        self.models = tuple(models)
        self.broken = dict(broken or {})
        self.rows, self.world = models[0].rows, models[0].world
        self.variables = models[0].model.variables
        for other in models[1:]:
            if other.model.variables != self.variables:
                raise ValueError(
                    f"{other.name}: its variables are not those of {models[0].name}; only runs "
                    "with the same variables can answer the same question"
                )
        self.images = [k for k, variable in self.variables.items() if isinstance(variable, Image)]
        self.lock = RLock()
        self._cache: OrderedDict[Hashable, Any] = OrderedDict()
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._references: dict[int, Reference] = {}
        self._reading = Lock()
        self.predictor = predictor
        if predictor is not None:
            predictor.check(models[0].model, self.complete)

    @cached_property
    def complete(self) -> Rows:
        """The test rows in which nothing is missing."""
        there = whole(self.models[0].model, self.rows)
        if not there.any():
            raise ValueError("rows: every test row lacks a value, and a predictor reads whole ones")
        return self.rows[there]

    # Queries -------------------------------------------------------------------------------------

    def answer(self, query: PageState) -> list[Answer]:
        """Return the answer of each model.

        Raises:
            ValueError: If there is no such row or variable, or a value is outside its support.
        """
        return [self.answer_of(query, k) for k in range(len(self.models))]

    def answer_of(self, query: PageState, k: int) -> Answer:
        """Return the answer of model k.

        Raises:
            ValueError: If there is no such row or variable, or a value is outside its support.
        """
        self.check(query)
        with self.lock, torch.no_grad():
            return self._answer(k, query)

    def truth(self, query: PageState) -> Rows | None:
        """Return the true counterfactual, where the world knows it."""
        self.check(query)
        if self.world is None or not query.about_row or query.upload is not None:
            return None
        row, values = self.factual(query), self.settings(query)
        with self.lock, torch.no_grad():
            try:
                if query.rung == "backtracking" and values:
                    return None if query.draws else self.world.backtrack(row, values)
                return self.world.counterfactual(row, values, hold=query.hold)
            except ValueError:  # a world need not know every counterfactual
                return None

    def factual(self, query: PageState) -> Rows:
        """Return the row that the query is about, unbatched; absent causes are read off it."""
        if query.upload is None:
            return self._filled(query.row)[0]
        return self._uploads[query.upload].row

    def _filled(self, row: int) -> tuple[Rows, tuple[str, ...]]:
        """Return a test row, and what of it a predictor read off the image."""

        def compute() -> tuple[Rows, tuple[str, ...]]:
            filled, read = self.models[0].model.fill(self.rows[row])
            return (filled if read else self.rows[row]), tuple(read)

        return self.cached(("row", row), compute)

    def inferred(self, query: PageState) -> tuple[str, ...]:
        """Return the variables that were read off the image: nobody stated their value."""
        if query.upload is None:
            return self._filled(query.row)[1]
        return self._uploads[query.upload].inferred

    def reference(self, k: int = 0) -> Reference:
        """Return rows that model k was trained on, or else the test rows; read once."""
        with self._reading:  # not the session's lock: others are answered meanwhile
            if k not in self._references:
                try:
                    rows = self.models[k].trained_on()
                except (ValueError, OSError):
                    rows = None
                self._references[k] = Reference(
                    self.rows if rows is None else rows, rows is not None
                )
            return self._references[k]

    def missing(self, query: PageState) -> list[str]:
        """Return the variables whose value is missing in the row."""
        row = self.factual(query)
        return [k for k, v in self.variables.items() if bool(v.is_missing(row[k][None]).any())]

    def settings(self, query: PageState) -> dict[str, Any]:
        """Return the values that are set, as `SCM.do` takes them."""
        return {k: self.value(k, v) for k, v in query.do.items()}

    def value(self, name: str, code: float) -> Any:
        """Return a number from the page, where categories are codes, as the library takes it."""
        variable = self.variables[name]
        if not isinstance(variable, Discrete) or code not in range(variable.classes):
            return code
        return variable.label(int(code)) if variable.labels else int(code)

    def noise(self, query: PageState, k: int = 0) -> Exogenous:
        """Abduct the noise of the row by model k, once."""
        model, row = self.models[k].model, self.factual(query)
        return self.cached(
            ("noise", k, query.upload, query.row, query.draws, query.seed),
            lambda: model.abduct(row, particles=query.draws, seed=query.seed),
        )

    def intervened(
        self, query: PageState, model: SCM, values: Mapping[str, Any] | None = None
    ) -> SCM:
        """Return the model in which the query's variables are set and held.

        Args:
            query: The query.
            model: The model.
            values: Values to set, where they are not those of the query.
        """
        acted = model.do(self.settings(query) if values is None else values)
        row = self.factual(query)
        below = set(query.hold) & set(acted.graph.descendants(list(query.do)))
        return acted.hold({name: row[name] for name in below}) if below else acted

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` returns, computed once for a key."""
        with self.lock:
            if key not in self._cache:
                with torch.no_grad():
                    self._cache[key] = compute()
            self._cache.move_to_end(key)
            while len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
            value: T = self._cache[key]
            return value

    def add_upload(self, key: str, row: Rows, inferred: Sequence[str] = ()) -> None:
        """Keep the row of an uploaded image under a key that queries can name."""
        with self.lock:
            self._uploads[key] = Upload(row, tuple(inferred))
            while len(self._uploads) > MAX_CACHED:
                self._uploads.popitem(last=False)

    def check(self, query: PageState) -> None:
        """Check that the row, the variables and the values of a query exist.

        Raises:
            ValueError: Naming what is wrong, and what there is.
        """
        if query.upload is None and query.row >= self.rows.n:
            raise ValueError(f"row: {query.row}; the test rows are 0 to {self.rows.n - 1}")
        if query.upload is not None and query.upload not in self._uploads:
            raise ValueError("the server no longer has this image; upload it again")
        if query.shown >= len(self.models):
            raise ValueError(f"shown: {query.shown}; the models are 0 to {len(self.models) - 1}")
        self.models[0].model.graph.names((*query.do, *query.hold))
        if both := [name for name in query.do if name in query.hold]:
            raise ValueError(f"{both[0]}: cannot both be set and held")
        if query.hold and query.rung == "backtracking":
            raise ValueError(
                f"{query.hold[0]}: cannot be held, as backtracking keeps every mechanism; choose "
                "'imagine' to hold it"
            )
        for name, value in self.settings(query).items():
            if self.variables[name].shape:
                raise ValueError(
                    f"{name}: only a variable with a single number can be set on the page"
                )
            self.variables[name].validate(name, value)

    # The three rungs -----------------------------------------------------------------------------

    def _answer(self, k: int, query: PageState) -> Answer:
        model = self.models[k].model
        if query.about_row:
            row = self.factual(query)
            if query.rung == "backtracking" and query.do:
                after = self._backtracked(k, query)
            elif self.missing(query):
                after = model.counterfactual(
                    row, self.settings(query), hold=query.hold, particles=query.particles,
                    seed=query.seed,
                )  # fmt: skip
            else:
                after = self.intervened(query, model).predict(self.noise(query, k))
            _check_numbers(after)
            return Answer(row, after, after.explain(), imagined=True)
        n = POPULATION_IMAGES if self.images else POPULATION_ROWS
        before = self.cached(
            ("population", k, query.seed, n), lambda: model.sample(n, seed=query.seed)
        )
        values = self.settings(query)
        if query.rung == "doing":
            after = model.do(values).sample(n, seed=query.seed)
        else:
            after = model.sample(n, given=values or None, seed=query.seed)
        _check_numbers(after)
        return Answer(before, after, after.explain(), imagined=False)

    def _backtracked(self, k: int, query: PageState) -> Rows:
        """Move the noise of the row by model k, once for each query: it takes many gradients."""
        return self.cached(
            ("backtracked", k, query.model_copy(update={"shown": 0, "slice": 0.0}).link()),
            lambda: self.models[k].model.backtrack(
                self.factual(query),
                self.settings(query),
                solutions=query.draws,
                seed=query.seed,
            ),
        )


def _check_numbers(rows: Rows) -> None:
    """Refuse an answer with infinite or undefined values, which no picture can show."""
    for name, where in rows.explain().undefined.items():
        raise ValueError(f"{name}: not a number in {where}; ask for values nearer to the data")


def _draws(rows: Rows, name: str) -> Tensor:
    single = not rows.batched and rows.particles is None
    return rows[name][None] if single else rows[name]
