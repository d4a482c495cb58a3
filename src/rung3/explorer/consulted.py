"""A predictor that the page asks beside the models: any callable, and how it is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rung3.data.rows import Rows
from rung3.effects.predictors.predictor import Predictor
from rung3.scm.scm import SCM

__all__ = ["Consulted"]


@dataclass(frozen=True)
class Consulted:
    """A predictor that was named when the page was started.

    Attributes:
        name: What the page calls it, such as `models:classifier`.
        function: The callable, as `rung3.effects.with_predictor` takes it.
        inputs: The variables that it reads; by default, its arguments say which.
        outcome: The variable that it predicts.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(age=Equation("u"), dose=Equation("age + u"))
        >>> Consulted("risk", lambda dose: dose.sigmoid()).of(model).inputs
        ('dose',)
    """

    name: str
    function: Callable[..., Any]
    inputs: str | Sequence[str] | None = None
    outcome: str | None = None

    def of(self, model: SCM) -> Predictor:
        """Return it as it reads a model's variables.

        Raises:
            ValueError: If what it reads or predicts is not a variable of the model.
        """
        if self.outcome is not None:
            model.graph.names([self.outcome])
        return Predictor.of(model, self.function, inputs=self.inputs, outcome=self.outcome)

    def check(self, model: SCM, rows: Rows) -> None:
        """Try it on rows in which nothing is missing.

        Raises:
            ValueError: If it gives another shape, no probabilities or NaN, or changes its input.
        """
        self.of(model).check(model.read(rows).batch)
