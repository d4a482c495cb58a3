"""What a study would stumble on only after training: it is looked for before.

Nothing is trained. The questions of the evaluation are made and put to the untrained model, and
everything that the oracles and the evaluation need is looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rung3.data.memory import Bounded, require, row_bytes
from rung3.data.rows import Rows
from rung3.evaluation.assessment import evaluate, prepared
from rung3.evaluation.plan import planned
from rung3.scm.identifiability import require_imaginable
from rung3.scm.interventions import Apply
from rung3.scm.query import Query
from rung3.scm.scm import SCM
from rung3.study.folder import RunFolder
from rung3.study.row_source import Splits
from rung3.study.study import Study
from rung3.training.options import Options
from rung3.training.oracles.oracles import oracle_pairs

__all__ = ["batch_size_of", "preflight", "values_set"]

LESS = "ask for less"


def preflight(study: Study, model: SCM, splits: Splits) -> list[tuple[Query, Rows]]:
    """Return the questions that a study asks, each with its rows as set, if all can be answered.

    Args:
        study: The study.
        model: Its model, trained or not.
        splits: Its rows.

    Raises:
        ValueError: Naming the part of the study that cannot be done, and why.
    """
    _check_devices(study)
    for name, mechanism in model.mechanisms.items():
        causes = [cause for cause in mechanism.parents if cause in model.variables]  # none hidden
        _check_seen(f"training: {name}", splits.train, model, [name, *causes], 1)
    _check_oracles(study, model, splits.train)
    _check_peers(study, model)
    protocol = study.evaluation.protocol_of(model.variables)
    try:
        rows, _, n = prepared(model, splits.test, splits.truth, protocol)
        size = min(batch_size_of(study), n) * row_bytes(model.variables)
        draws = f"{protocol.particles:,} particles of a batch of rows"
        require(draws, protocol.particles * size, LESS)
        resamples = f"{protocol.bootstrap:,} resamples of {rows.n} rows"
        require(resamples, protocol.bootstrap * rows.n, LESS)
        with Bounded("what is asked", LESS):
            queries = planned(model, rows, n, splits.train, protocol, study.seed)
        for query in queries:
            require_imaginable(model, query.affected(model))
        return [(query, values_set(query, model, rows[:n])) for query in queries]
    except ValueError as error:
        raise ValueError(f"evaluation: {error}") from None


def batch_size_of(study: Study) -> int:
    """Return the rows that `evaluate` asks at once."""
    default: int = inspect.signature(evaluate).parameters["batch_size"].default
    return study.evaluation.batch_size or default


def values_set(query: Query, model: SCM, rows: Rows) -> Rows:
    """Return the rows with what a question sets, all else as it was.

    Args:
        query: The question.
        model: The model, trained or not.
        rows: The first rows that are asked.

    Raises:
        ValueError: If a value is none of its variable, or a function names what it may not. That of
            a function of what itself follows from another intervention is not known yet.
    """
    given = query.at(slice(rows.n), torch.device("cpu"))
    acted = model.do(given)
    values: dict[str, Tensor] = dict(rows)
    for name in (name for name in model.graph.order if name in given):
        variable, mechanism = model.variables[name], acted.mechanisms[name]
        value = given[name]
        if isinstance(mechanism, Apply):
            moved = model.graph.descendants([other for other in given if other != name])
            used = [*mechanism.parents, *([name] if mechanism.natural else [])]
            known = not any(a in moved and (a == name or a not in given) for a in used)
            value = _result(mechanism, values, used, rows.n)
            if known:
                try:
                    variable.validate(name, value)
                except ValueError as error:
                    raise ValueError(f"{query.label}: {error}, in some of the test rows") from None
        value = variable.read(name, value).to(rows[name].dtype)
        values[name] = value.expand(rows.n, *variable.shape)
    return Rows(values)


def _result(mechanism: Apply, values: Mapping[str, Tensor], used: list[str], n: int) -> Any:
    chance = torch.rand(n, generator=torch.Generator().manual_seed(0))
    given = {name: values[name] for name in used}
    return mechanism.function(given, **({"u": chance} if mechanism.random else {}))


def _check_seen(what: str, rows: Rows, model: SCM, names: list[str], least: int) -> None:
    """Refuse rows of which too few have a value of all these variables."""
    there = torch.ones(rows.n, dtype=torch.bool)
    for name in names:
        there &= ~model.variables[name].is_missing(rows[name])
    if int(there.sum()) < least:
        raise ValueError(
            f"{what}: needs at least {least} training rows with a value of {', '.join(names)}, and "
            f"there are {int(there.sum())}"
        )


def _check_oracles(study: Study, model: SCM, train: Rows) -> None:
    seen, others = study.halves(train)
    for pair in oracle_pairs(model):
        _check_seen("evaluation.oracles", seen[: study.evaluation.oracles.rows], model, [*pair], 2)
        if others.n:
            _check_seen("training.objective: predictors", others, model, [*pair], 2)


def _check_peers(study: Study, model: SCM) -> None:
    """Refuse peers that are not models of the same variables."""
    for path in study.evaluation.peers:
        try:
            variables = RunFolder(path).model().variables
        except ValueError as error:
            raise ValueError(f"evaluation.peers: {error}") from None
        if variables != model.variables:
            raise ValueError(f"evaluation.peers: {path} is a model of other variables")


def _check_devices(study: Study) -> None:
    """Refuse a precision, an accelerator or devices that Lightning would refuse."""
    names = ("accelerator", "devices", "num_nodes", "precision", "strategy")
    combinations = {
        repr(options): options
        for group in study.groups()
        if (options := {k: group.options[k] for k in names if k in group.options})
    }
    if not combinations:
        return
    from rung3.training.loop import check_devices  # Lightning takes seconds to import

    for options in combinations.values():
        try:
            check_devices(Options(**options))
        except ValueError as error:
            raise ValueError(f"training.{error}") from None
