r"""Intervals that hold the learning: a fitted model is itself an estimate.

The model is fitted B times more, to resampled rows (`Model.relearn`), and every fit is asked the
same. With s the deviation of the B answers, and a the half-width of the interval for the drawing of
rows alone, the half-width is

    sqrt(a^2 + (t_{(1 + level) / 2, B - 1} s)^2).

What the fits hold is the learning of the mechanisms that were chosen, not the choice, and not that
all of them may be of the wrong form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rung3.data.seeding import Seed, base_seed
from rung3.effects.estimate import Estimate
from rung3.scm.scm import SCM

__all__ = ["REFITS", "hold_learning", "refits", "widened"]

REFITS = 30
"""Fits to resampled rows, unless told otherwise, of a model whose mechanisms are solved."""


def refits(
    model: SCM,
    count: int | None = None,
    *,
    names: Iterable[str] | None = None,
    seed: Seed = 0,
) -> list[SCM]:
    """Fit a model again, to resampled rows from those that it learned from.

    Args:
        model: A model of a table, after `fit` or `choose`.
        count: How many times; if not given 30 where that takes a moment (all mechanisms are
            solved), and none else.
        names: Variables whose mechanisms are fitted again; all if not given.
        seed: Of the rows.

    Returns:
        The models; none where the rows are not at hand and no number is given.

    Raises:
        ValueError: If a number is given and the rows are not at hand: after `load` or `do`, of
            images, or where hidden causes join variables.

    Example:
        >>> from rung3 import choose, worlds
        >>> from rung3.mechanisms import AdditiveNoise
        >>> rows = worlds.lecture().sample(400, seed=0)
        >>> among = {name: [AdditiveNoise(degree=1)] for name in ("x1", "x2")}
        >>> model = choose(SCM("x1 -> x2"), rows, among=among).model
        >>> slopes = [m.counterfactual({"x1": 0.0, "x2": 0.0}, do={"x1": 1.0})["x2"]
        ...     for m in refits(model, 5)]
        >>> bool(torch.stack(slopes).std() > 0)
        True
    """
    relearn = model.relearn
    if relearn is None:
        if count:
            raise ValueError(
                "refits: the rows that the model learned from are not at hand; ask the model that "
                "`fit` or `choose` gave, before `do`, and of a table"
            )
        return []
    if count is None:
        count = REFITS if relearn.cheap else 0
    if count == 1 or count < 0:
        raise ValueError(f"refits: expected 0, or at least 2, got {count}")
    base = base_seed(seed, "refits") if count else 0
    wanted = None if names is None else list(names)
    return [relearn((base + k) % 2**62, wanted) for k in range(count)]


def hold_learning(
    question: Callable[[SCM], Any],
    model: SCM,
    count: int | None = REFITS,
    *,
    level: float = 0.95,
    seed: Seed = 0,
) -> Estimate[Tensor]:
    """Ask a fitted model anything, with an interval that holds the learning.

    Args:
        question: From a model to an `Estimate`, a number or a tensor.
        model: The model.
        count: Number of refits, as of `refits`.
        level: Nominal coverage of the interval.
        seed: Of the refits.

    Raises:
        ValueError: As `refits`.

    Example:
        >>> from rung3 import choose, worlds
        >>> from rung3.mechanisms import AdditiveNoise
        >>> rows = worlds.lecture().sample(400, seed=0)
        >>> among = {name: [AdditiveNoise(degree=1)] for name in ("x1", "x2")}
        >>> model = choose(SCM("x1 -> x2"), rows, among=among).model
        >>> def slope(model):
        ...     return model.counterfactual({"x1": 0.0, "x2": 0.0}, do={"x1": 1.0})["x2"]
        >>> estimate = hold_learning(slope, model, 10)
        >>> bool(estimate.low < 3 < estimate.high)
        True
    """
    estimate = question(model.exchange({}))  # a copy without rows, which relearns nothing
    if not isinstance(estimate, Estimate):
        value = torch.as_tensor(estimate).double()
        estimate = Estimate(value, value, value, level=level, learned=bool(model.fitted))
    answers = [_value(question(one)) for one in refits(model, count, seed=seed)]
    return widened(estimate, answers, model)


def widened(
    estimate: Estimate[Tensor], answers: Sequence[Tensor], model: SCM | None = None
) -> Estimate[Tensor]:
    """Return an estimate whose interval holds the learning; as it is without answers of refits.

    Args:
        estimate: The estimate, with an interval for the drawing of rows alone.
        answers: What the refits answer, of the estimate's shape each.
        model: The model, which says what their deviations are multiplied by.
    """
    from scipy.special import stdtrit

    if not answers:
        return estimate
    scale = 1.0 if model is None or model.relearn is None else model.relearn.scale
    spread = scale * torch.stack([answer.double() for answer in answers]).std(0)
    half = float(stdtrit(len(answers) - 1, (1 + estimate.level) / 2)) * spread
    value = torch.as_tensor(estimate.effect)
    return replace(
        estimate,
        low=value - ((value - estimate.low).square() + half.square()).sqrt(),
        high=value + ((estimate.high - value).square() + half.square()).sqrt(),
        learned=False,
        refits=len(answers),
    )


def _value(answer: Any) -> Tensor:
    return torch.as_tensor(answer.effect if isinstance(answer, Estimate) else answer)
