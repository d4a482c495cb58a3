"""Attributions by captum, beside the causal explanation: what a predictor's output is due to in it.

Integrated gradients (Sundararajan, Taly and Yan 2017, *Axiomatic attribution for deep networks*) go
from a baseline to the row, and share the difference of the outputs among what the predictor reads.
They tell which inputs the predictor uses, and nothing of what causes these inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rung3.data.rows import Values
from rung3.data.variables import Discrete
from rung3.effects.predictors.predictor import Predictor
from rung3.scm.scm import SCM

__all__ = ["attributions"]

STEPS = 50
"""Points between baseline and row, as captum takes by default."""


def attributions(
    model: SCM,
    predictor: Callable[..., Any],
    rows: Values,
    *,
    inputs: str | Sequence[str] | None = None,
    outcome: str | None = None,
    event: Any = None,
    decide: Callable[[Tensor], Any] | None = None,
    baseline: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Attribute what a differentiable predictor says of rows to the numbers and pixels it reads.

    Args:
        model: The model of the rows.
        predictor: The predictor, as `with_predictor` takes it.
        rows: One row or several.
        inputs: As of `with_predictor`.
        outcome: As of `with_predictor`.
        event: As of `with_predictor`.
        decide: As of `with_predictor`.
        baseline: Values to compare with, by variable; zero (black) where not given.

    Returns:
        By variable, attributions in the shape of its values, `(n, *shape)`. They add up to the
        output less that of the baseline. Categories are kept as they are, and have none.

    Raises:
        ValueError: If captum is not installed, or the predictor is refused.
    """
    try:
        from captum.attr import IntegratedGradients
    except ModuleNotFoundError:
        raise ValueError("attributions need captum: pip install 'rung3[attributions]'") from None
    wrapped = Predictor.of(
        model, predictor, inputs=inputs, outcome=outcome, event=event, decide=decide
    )
    given = model.read(rows).batch
    wrapped.check(given)
    names = [name for name in wrapped.inputs if not isinstance(model.variables[name], Discrete)]
    fixed = {name: given[name] for name in wrapped.inputs if name not in names}
    other = {} if baseline is None else dict(baseline)

    def score(*values: Tensor) -> Tensor:
        repeats = len(values[0]) // given.n
        repeated = {name: value.repeat(repeats) for name, value in fixed.items()}
        return wrapped.score(dict(zip(names, values, strict=True)) | repeated)

    start = tuple(
        torch.as_tensor(other.get(name, 0.0)).to(given[name]).expand_as(given[name])
        for name in names
    )
    shares = IntegratedGradients(score).attribute(
        tuple(given[name] for name in names), baselines=start, n_steps=STEPS
    )
    return {name: share.detach() for name, share in zip(names, shares, strict=True)}
