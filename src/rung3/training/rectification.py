"""Few steps: a flow-matching mechanism is fitted again, on pairs of its own.

A fitted mechanism knows which noise u goes with a row's value x, by abduction. On these pairs the
straight lines from u to x hardly cross, so that the velocity learned on them is nearly constant
along a path, and two to four steps give what many gave before (rectified flow: Liu, Gong and Liu
2023, arXiv 2209.03003). The pairs are the rows' own, not samples: what is imagined is of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rung3.data.rows import Rows, as_rows
from rung3.data.splits import split
from rung3.data.variables import Continuous, Variable
from rung3.mechanisms.base import Parents, Trainable
from rung3.mechanisms.flow_matching import FlowMatching
from rung3.scm.floating import in_own_precision
from rung3.scm.parts import in_parts
from rung3.scm.scm import SCM
from rung3.training.batches import Table
from rung3.training.options import History, Options

__all__ = ["rectify"]

PAIR = "noise of the pair"
"""Name of the column of noise beside a variable's own."""

CODE = "code of the pair"
"""Name of the column of codes, where the mechanism has a code beside the state."""


@in_own_precision
def rectify(
    model: SCM, train: Mapping[str, Any], name: str, *, steps: int | None = None, **options: Any
) -> History:
    """Fit a flow-matching mechanism again on its own pairs, in place, so that few steps suffice.

    Its noise stays what it was, up to errors: answers with few steps become those that it gave with
    many. Ask for few by `steps=` in a query, or build it with them.

    Args:
        model: The model, whose mechanism of the variable is fitted.
        train: Rows of the variable and of its parents.
        name: The variable.
        steps: Steps of the abduction that makes the pairs; the mechanism's own if not given.
        options: As for `fit`: see `rung3.training.Options`.

    Returns:
        Losses by epoch.

    Raises:
        ValueError: If the mechanism is no `FlowMatching` or was not fitted, or the rows do not fit.

    Example:
        >>> from rung3 import Continuous
        >>> model = SCM("a -> b", mechanisms={"b": FlowMatching(hidden=(16, 1))})
        >>> rows = {"a": torch.randn(64), "b": torch.randn(64)}
        >>> from rung3 import fit
        >>> _ = fit(model, rows, epochs=1, progress=False)
        >>> history = rectify(model, rows, "b", epochs=2, progress=False)
        >>> len(history.training["b"])
        2
    """
    settings = Options(**options)
    mechanism = model.mechanisms.get(name)
    if not isinstance(mechanism, FlowMatching):
        given = "no variable of the model" if mechanism is None else mechanism.describe()
        raise ValueError(f"{name}: expected a FlowMatching mechanism, got {given}")
    if name not in model.fitted:
        raise ValueError(f"{name}: is not fitted, and pairs are those of a fitted mechanism")
    rows = as_rows(train, model.variables, torch.device("cpu"))
    if lacking := [column for column in (name, *mechanism.parents) if column not in rows]:
        raise ValueError(f"{lacking[0]}: not in the rows, which have {list(rows)}")
    solver = mechanism if steps is None else mechanism.for_query(steps=steps)
    paired = _paired(solver, rows)
    share = settings.validation_share
    chosen, held = split(paired, share, settings.seed) if share else (paired, None)
    pairs = _Pairs(mechanism.requires_grad_(True))
    validated = None if held is None else Table(held, [pairs])
    from rung3.training.loop import run  # Lightning takes seconds to import

    try:
        history = run({name: pairs}, Table(chosen, [pairs]), validated, settings)
    finally:
        model.to(model.device, model.dtype).eval()
        mechanism.requires_grad_(False)
    record = {"rows": chosen.n, "epochs": len(history.training[name]), "steps": solver.steps}
    model.fitted = {**model.fitted, name: {**model.fitted[name], "rectified": record}}
    return history


@torch.no_grad()
def _paired(mechanism: FlowMatching, rows: Rows) -> Rows:
    """Return complete rows of a variable and its parents, with the noise of each."""
    schema = {mechanism.name: mechanism.variable, **mechanism.parents}
    missing = torch.stack([v.is_missing(rows[k]) for k, v in schema.items()]).any(0)
    complete = rows[~missing]
    device = mechanism.observed.device
    value = complete[mechanism.name].to(device)
    parents = {parent: complete[parent].to(device) for parent in mechanism.parents}
    noise = in_parts(mechanism, mechanism.abduct, value, parents)
    assert not isinstance(noise, Tensor)
    columns = {column: complete[column].detach() for column in schema}
    parts = {PAIR: noise["u"].cpu()} | ({CODE: noise["z"].cpu()} if "z" in noise else {})
    return Rows({**columns, **parts})


class _Pairs(Trainable):
    """A mechanism that is trained on pairs: the noise is a column beside its parents."""

    def __init__(self, mechanism: FlowMatching) -> None:
        super().__init__()
        self.mechanism = mechanism
        self.name, self.variable = mechanism.name, mechanism.variable
        self.parents: dict[str, Variable] = {**mechanism.parents, PAIR: mechanism.variable}
        if mechanism.latent:
            self.parents[CODE] = Continuous(dim=mechanism.latent)

    @property
    def learning_rate(self) -> float:
        return self.mechanism.learning_rate

    @property
    def betas(self) -> tuple[float, float]:
        return self.mechanism.betas

    def calibrate(self, value: Tensor, parents: Parents) -> None:
        """Do nothing: the mechanism has its scales."""

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        given = {name: parents[name] for name in self.mechanism.parents}
        x, _ = self.mechanism.space(value, given)
        return self.mechanism.matching_loss(x.detach(), parents[PAIR], given, parents.get(CODE))

    def describe(self) -> str:
        return f"{self.mechanism.describe()} on pairs of its own"

    def __repr__(self) -> str:
        return self.describe()
