"""`fit` to a table that is read by batches: memory that of a sample and a few batches.

Every mechanism takes its scales, and a first fit, from a sample of the rows, for which files
without categories but 0 and 1 are read in part. What sums over rows determine is then fitted to all
of them, in a few passes: polynomials of `AdditiveNoise`, counted tables, and logistic lines
(`GumbelMax` and `InverseCDF` with `hidden=()`), see `Mechanism.calibrate_by_batches`. What is
trained by steps (flows, networks) takes minibatches of rows that are read in random order
(`rung3.training.windows`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rung3.data.columns import variable_of
from rung3.data.rows import Rows, Values
from rung3.data.seeding import base_seed, seeded
from rung3.data.streaming import Streamed
from rung3.data.variables import Binary, Discrete, Variable
from rung3.mechanisms.base import Mechanism, Parents
from rung3.scm.scm import SCM
from rung3.scm.undeclared import infer
from rung3.training.batches import Table
from rung3.training.fitting import calibrate, checked, mechanisms_of, notes_of, train_on
from rung3.training.options import History, Options
from rung3.training.relearning import is_solved
from rung3.training.remarks import remark
from rung3.training.windows import WindowedTable

__all__ = ["fit_by_batches", "sample_of"]

Take = Callable[[Tensor, Parents], None]
"""Takes values and parents of some rows."""

DEFAULTS = {"epochs": 1, "batch_size": 1024}
"""Options of `fit` that differ where rows are very many."""


def sample_of(model: SCM, table: Streamed, seed: int, by_places: bool = False) -> dict[str, Any]:
    """Draw a sample of the columns of a model's variables.

    Args:
        model: The model.
        table: The table.
        seed: Of the draw.
        by_places: Whether rows may lie together at places that are spread over the table, which
            reads less, if no column holds categories but 0 and 1; see `Streamed.sample_of_places`.

    Raises:
        ValueError: If a variable is an image or a vector, which such tables do not have.
    """
    for name, kind in model.variables.items():
        if kind.shape:
            raise ValueError(
                f"{name}: is {kind}; a table that is read by batches has numbers and categories "
                "alone; images are prepared on disk by rung3 prepare"
            )
    names = [name for name in table.names if name in model.variables]
    if not names:
        return {}
    if by_places:
        frame = table.sample_of_places(seed, names)
        if not any(_is_of_few(name, frame[name]) for name in names):
            return dict(frame)
    return dict(table.sample(seed=seed, names=names))


def _is_of_few(name: str, column: Any) -> bool:
    """Whether a column holds categories, or one value: rare ones may lie where no row is read.

    One of both 0 and 1 has no others.
    """
    if (column == column.iloc[0]).all():
        return True
    kind = variable_of(name, column)
    return isinstance(kind, Discrete) and kind != Binary()


def fit_by_batches(
    model: SCM,
    table: Streamed,
    validation: Values | None = None,
    *,
    only: Iterable[str] | None = None,
    **options: Any,
) -> History:
    """Fit mechanisms of a model to a table that is read by batches, as `rung3.fit` does.

    Mechanisms that are solved, rather than trained by steps, are fitted in passes whatever the
    options. Of the others an epoch is one pass, in steps of 1,024 rows if `batch_size` is not
    given; one epoch is trained if `epochs` is not.

    Raises:
        ValueError: As `rung3.fit`; if hidden causes join variables, or an option needs all rows in
            memory.
    """
    settings = Options(**{**DEFAULTS, "validation_share": 0, **options})
    _refuse(model, settings, validation)
    sample = sample_of(model, table, settings.seed, by_places=True)
    infer(model, sample)
    chosen = _mechanisms(model, only)
    rows = checked(model, sample, chosen, (), "training")
    held = None if validation is None else checked(model, validation, chosen, (), "validation")
    remark(chosen, rows)
    calibrate(model, chosen, rows, settings.seed)
    used = dict.fromkeys(name for m in chosen.values() for name in (m.name, *m.parents))
    reading = _Reading(model, table, {name: model.variables[name] for name in used}, rows)
    counts = _solve(chosen, reading, settings.seed)
    learned = {name: m for name, m in chosen.items() if not is_solved(m) and m.learns}
    history = History()
    if learned:
        training = WindowedTable(table, reading.kinds, reading.exact, learned.values())
        validating = None if held is None else Table(held, learned.values())
        history = train_on(model, learned, training, validating, settings, {})
    model.eval()
    for mechanism in chosen.values():
        mechanism.requires_grad_(False)
    model.fitted = {**model.fitted, **notes_of(chosen, counts, history, settings)}
    model.relearn = None  # rows drawn anew would have to be read anew
    return history


def _mechanisms(model: SCM, only: Iterable[str] | None) -> dict[str, Mechanism]:
    """Return the mechanisms to fit, by name; no hidden causes join any."""
    return {name: model.mechanisms[name] for name in mechanisms_of(model, only)}


@torch.no_grad()
def _solve(mechanisms: Mapping[str, Mechanism], reading: _Reading, seed: int) -> dict[str, int]:
    """Fit what sums over rows determine, and freeze it; a pass serves all that want one.

    The first pass also sees the range of all rows, and returns how many each mechanism has.
    """
    ranges = {name: _Range(mechanism) for name, mechanism in mechanisms.items()}
    takers: dict[str, list[Take]] = {name: [seen.take] for name, seen in ranges.items()}
    solving = {
        name: mechanism.requires_grad_(True).calibrate_by_batches(*reading.sampled(mechanism))
        for name, mechanism in mechanisms.items()
    }
    while True:
        for name, passes in list(solving.items()):
            with seeded(base_seed(seed, "passes"), name, reading.device):
                take = next(passes, None)
            if take is None:
                del solving[name]
            else:
                takers.setdefault(name, []).append(take)
        if not takers:
            break
        reading.run({mechanisms[name]: takes for name, takes in takers.items()})
        takers = {}
    for name, seen in ranges.items():
        mechanisms[name].observe(seen.values.to(reading.device))
    return {name: seen.n for name, seen in ranges.items()}


def _refuse(model: SCM, options: Options, validation: Values | None) -> None:
    """Refuse what needs all rows at hand."""
    cure = "fit a sample, such as table.sample(200_000)"
    if model.confounding.members:
        raise ValueError(
            f"fit: hidden causes join {sorted(model.confounding.members)}, which takes rows in "
            f"memory; {cure}"
        )
    if options.counterfactual:
        raise ValueError(f"objective: counterfactual losses take rows in memory; {cure}")
    if validation is None and (options.patience is not None or options.validation_share):
        raise ValueError(
            "patience and validation_share: of a table that is read by batches no rows are set "
            "aside; give validation rows, such as a sample of another file"
        )


class _Reading:
    """The rows of a table, as some mechanisms see them.

    Args:
        model: The model.
        table: The table.
        kinds: The variables that are read.
        sample: A sample of them, checked: numbers that are in double there are in double.
    """

    def __init__(
        self, model: SCM, table: Streamed, kinds: Mapping[str, Variable], sample: Rows
    ) -> None:
        self.device, self.table, self.kinds, self.sample = model.device, table, kinds, sample
        self.exact = [name for name in kinds if sample[name].dtype == torch.float64]

    def sampled(self, mechanism: Mechanism) -> tuple[Tensor, Parents]:
        """Return the sample's values of a mechanism and its parents, where it has them all."""
        return self._complete(mechanism, self.sample)

    def run(self, takers: Mapping[Mechanism, Sequence[Take]]) -> None:
        """Read all rows once, and give each mechanism's values and parents to what takes them."""
        used = dict.fromkeys(name for m in takers for name in (m.name, *m.parents))
        for rows in self.table.rows({name: self.kinds[name] for name in used}, self.exact):
            for mechanism, takes in takers.items():
                columns = self._complete(mechanism, rows)
                for take in takes:
                    take(*columns)

    def _complete(self, mechanism: Mechanism, rows: Rows) -> tuple[Tensor, Parents]:
        if any(one.missing for one in (mechanism.variable, *mechanism.parents.values())):
            value, parents = Table(rows, [mechanism], sparse=True).all().of(mechanism)
        else:
            value, parents = rows[mechanism.name], {k: rows[k] for k in mechanism.parents}
        moved = {name: parent.to(self.device) for name, parent in parents.items()}
        return value.to(self.device), moved


class _Range:
    """The least and the greatest value of a mechanism's variable, or its categories."""

    def __init__(self, mechanism: Mechanism) -> None:
        self.kind, self.n, self.values = mechanism.variable, 0, torch.zeros(0)

    def take(self, value: Tensor, parents: Parents) -> None:
        """See further values."""
        if not len(value):
            return
        discrete = isinstance(self.kind, Discrete)
        seen = value.long().bincount().nonzero()[:, 0] if discrete else _ends(value)
        known = torch.cat([self.values, seen]) if self.n else seen
        self.values = known.unique() if discrete else _ends(known)
        self.n += len(value)


def _ends(value: Tensor) -> Tensor:
    """Return the least and the greatest of numbers `(n,)`, `(2,)`."""
    return torch.stack(value.aminmax())
