"""`augment`: counterfactual rows that have the joint which a plan asks for.

Each row comes under do(s := k) for the values k that its plan assigns (`target`), and is rejected
where predictors do not read k, and the variables that should stay, off its image (`confirmation`).
What is rejected is tried again with other noise, and then left out; weights make up for it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.seeding import Seed, base_seed
from rung3.scm.scm import SCM
from rung3.training.augmentation.augmented import Augmented
from rung3.training.augmentation.confirmation import Confirmation, fit_confirmation
from rung3.training.augmentation.plan import Plan
from rung3.training.augmentation.target import Assignment, Target

if TYPE_CHECKING:
    from rung3.data.rows import Values

__all__ = ["answered", "augment", "prepared"]

AT_ONCE = 256
"""Rows that are answered at once."""


@torch.no_grad()
def augment(
    model: SCM,
    rows: Values,
    plan: Plan,
    *,
    confirmation: Confirmation | None = None,
    seed: Seed = 0,
    progress: bool = False,
) -> Augmented:
    """Make counterfactual rows that balance or decorrelate, each confirmed by predictors.

    Args:
        model: A fitted model, or a world.
        rows: Complete rows, those of training.
        plan: Which variable is set, and the joint asked for.
        confirmation: What accepts images; if not given, predictors are trained on the rows, which
            takes a quarter of a minute a variable for small images. They are not those that an
            evaluation uses.
        seed: Of values, noise, and the predictors.
        progress: Whether to show a progress bar.

    Returns:
        The rows that were accepted, with provenance and weights.

    Raises:
        ValueError: If the plan cannot be met, see `Target`; or if no row was accepted.

    Example:
        >>> from rung3 import SCM, Categorical, Continuous
        >>> from rung3.mechanisms import Equation, GumbelMax
        >>> model = SCM(
        ...     "disease -> site; {disease site} -> scan",
        ...     {"disease": Categorical(2), "site": Categorical(2), "scan": Continuous()},
        ...     {"disease": GumbelMax(table=[0.5, 0.5]),
        ...      "site": GumbelMax(table=[[0.9, 0.1], [0.1, 0.9]]),
        ...      "scan": Equation("disease + 2*site + u")},
        ... )
        >>> rows = model.sample(1000, seed=0)
        >>> made = augment(model, rows, Plan(change="site", independent_of="disease"))
        >>> before, after = (
        ...     torch.corrcoef(torch.stack([r["disease"], r["site"]]).double())[0, 1]
        ...     for r in (rows, made.rows)
        ... )
        >>> bool(before > 0.7), bool(after.abs() < 0.01)
        (True, True)
    """
    base = base_seed(seed, "augment")
    target = prepared(model, rows, plan)
    if confirmation is None:
        confirmation = fit_confirmation(model, target, base, progress)
    assignment = target.assign(base)
    answers = _Answers(model, target, assignment, confirmation, base)
    for attempt in range(plan.attempts):
        answers.attempt(attempt)
    return answers.collected()


def prepared(model: SCM, rows: Values, plan: Plan) -> Target:
    """Check a plan against a model and rows."""
    read = model.read(rows).batch
    model.check_given(read)
    return Target(model, read.to("cpu"), plan)


def answered(model: SCM, plan: Plan, rows: Rows, values: Tensor, seed: int) -> Rows:
    """Return what rows would have been, had the plan's variable had these values, `(n,)`."""
    answer = model.counterfactual(
        rows.to(model.device),
        {plan.change: values},
        hold=plan.hold,
        seed=seed,
        temperature=plan.temperature,
    )
    return Rows({name: value.cpu() for name, value in answer.items()})


class _Answers:
    """Rows as they are accepted: factual ones at once, counterfactuals attempt by attempt."""

    def __init__(
        self,
        model: SCM,
        target: Target,
        assignment: Assignment,
        confirmation: Confirmation,
        seed: int,
    ) -> None:
        self.model, self.target, self.assignment = model, target, assignment
        self.confirmation, self.base = confirmation, seed
        rows = target.rows[assignment.source]
        self.values = {name: value.clone() for name, value in rows.items()}
        self.accepted = assignment.factual.clone()
        self.seed = torch.full((rows.n,), -1)
        self.refused: dict[str, Tensor] = {}

    def attempt(self, number: int) -> None:
        """Answer what is not accepted yet."""
        for part in (~self.accepted).nonzero()[:, 0].split(AT_ONCE):
            if not len(part):
                continue
            seed = base_seed(self.base, f"attempt {number} from {int(part[0])}")
            answer = self._answer(part, seed)
            verdicts = self.confirmation.accepts(answer)
            passed = torch.stack([torch.ones(len(part), dtype=torch.bool), *verdicts.values()])
            right = passed.all(0)
            for name, verdict in verdicts.items():
                self.refused.setdefault(name, torch.zeros_like(self.accepted))[part] = ~verdict
            for name, value in answer.items():
                self.values[name][part[right]] = value[right].to(self.values[name].dtype)
            self.accepted[part[right]] = True
            self.seed[part[right]] = seed

    def _answer(self, part: Tensor, seed: int) -> Rows:
        rows = self.target.rows[self.assignment.source[part]]
        return answered(self.model, self.target.plan, rows, self.assignment.value[part], seed)

    def collected(self) -> Augmented:
        """Return what was accepted; warn of cells that are left without a row."""
        keep, chosen, target = self.accepted, self.assignment, self.target
        cells = target.cell(chosen.source[keep], chosen.value[keep])
        weight = target.weights(cells)
        if not weight.any():  # none is left, or originals alone that the joint does not ask for
            raise ValueError(
                f"none of {int((~chosen.factual).sum())} counterfactuals under "
                f"do({target.plan.change}) was confirmed; evaluate the model, and train it for "
                "longer"
            )
        if empty := target.empty(cells):
            warnings.warn(
                f"no row of {len(empty)} cells of the joint was confirmed, so the plan is not met "
                "there; print the answer to see what was not read off the images",
                stacklevel=4,  # past the decorator
            )
        lost = ~keep
        return Augmented(
            rows=Rows({name: value[keep] for name, value in self.values.items()}),
            source=chosen.source[keep],
            change=target.plan.change,
            factual=chosen.factual[keep],
            seed=self.seed[keep],
            weight=weight,
            attempted=int((~chosen.factual).sum()),
            rejected={name: int((no & lost).sum()) for name, no in self.refused.items()},
        )
