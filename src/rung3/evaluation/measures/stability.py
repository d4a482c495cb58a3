"""Stability: whether models that should agree do.

Of models i, j = 1 ... M of one kind (seeds, folds, checkpoints) and the same rows,

    disagreement = 2/(M (M - 1)) sum_{i < j} d(x~_i, x~_j)

in the outcome's unit, the mean over i of how far model i is from the others (`apart`). It is a
floor of their mean error: with `x*` the truth, `d(x~_i, x~_j) <= d(x~_i, x*) + d(x~_j, x*)`, so at
least one of two that disagree is wrong by half of it. It is not a ceiling: models may agree and all
be wrong; doing nothing never disagrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.data.seeding import Seed, base_seed
from rung3.evaluation.measures.base import KEPT, Answers, Examination, Measure, Section

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["STABILITY", "apart", "disagreement"]


def disagreement(
    models: Sequence[SCM],
    rows: Rows,
    do: Mapping[str, Any],
    names: Iterable[str],
    *,
    temperature: float = 1.0,
    seed: Seed = None,
) -> dict[str, Tensor]:
    """Return the mean distance between models' counterfactuals, of each row.

    Args:
        models: Two or more models of the same variables.
        rows: A batch of rows.
        do: The intervention, as `SCM.do` takes it.
        names: Variables to compare.
        temperature: Factor on the noise of observation.
        seed: Of abduction, the same for all models.

    Returns:
        By name, the mean distance over pairs of models, `(n,)`.

    Raises:
        ValueError: If there are fewer than two models, or they differ in variables.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> disagreement([world, world], world.sample(2, seed=0), {"x1": 1.0}, ["x2"])
        {'x2': tensor([0., 0.])}
    """
    distances = apart(models, rows, do, names, temperature=temperature, seed=seed)
    return {name: values.mean(0) for name, values in distances.items()}


def apart(
    models: Sequence[SCM],
    rows: Rows,
    do: Mapping[str, Any],
    names: Iterable[str],
    *,
    hold: Iterable[str] = (),
    temperature: float = 1.0,
    seed: Seed = None,
) -> dict[str, Tensor]:
    """Return the mean distance of each model's counterfactuals from the others', of each row.

    Args:
        models: As `disagreement`.
        rows: A batch of rows.
        do: The intervention, as `SCM.do` takes it.
        names: Variables to compare.
        hold: Variables that are kept as they were.
        temperature: Factor on the noise of observation.
        seed: Of abduction, the same for all models.

    Returns:
        By name, the mean distances `(M, n)`.

    Raises:
        ValueError: As `disagreement`.
    """
    if len(models) < 2:
        raise ValueError(f"disagreement: expected two or more models, got {len(models)}")
    variables = models[0].variables
    if any(set(model.variables) != set(variables) for model in models):
        raise ValueError("disagreement: the models differ in their variables")
    base = base_seed(seed, "stability")
    answers = [
        model.counterfactual(rows, do, hold=hold, seed=base, temperature=temperature)
        for model in models
    ]

    def far(name: str, k: int) -> Tensor:
        others = [other for other in answers if other is not answers[k]]
        gaps = [distance(variables[name], answers[k][name], other[name]) for other in others]
        return torch.stack(gaps).mean(0)

    return {name: torch.stack([far(name, k) for k in range(len(models))]) for name in names}


def _on_answers(exam: Examination, answers: Answers) -> None:
    names, label = answers.query.affected(exam.model), answers.query.label
    second = exam.model.counterfactual(
        answers.rows, answers.do, hold=answers.query.hold, seed=exam.generator
    )
    for name in names:
        gap = distance(exam.model.variables[name], answers.by_mode[KEPT][name], second[name])
        exam.add(("stability", label, name, "abductions"), name, gap)
    if exam.peers and not answers.query.hold:
        models = [exam.model, *exam.peers]
        for name, gap in disagreement(models, answers.rows, answers.do, names, seed=0).items():
            exam.add(("stability", label, name, "peers"), name, gap)


STABILITY = Measure(
    name="stability",
    about="disagreement of answers between seeds",
    sections=(
        Section(
            "stability",
            "Stability: would it answer the same again?",
            "Distance between answers to two draws of the abducted noise, and between models of "
            "other seeds. Doing nothing never disagrees.",
            better={"": "lower"},
        ),
    ),
    on_answers=_on_answers,
)
