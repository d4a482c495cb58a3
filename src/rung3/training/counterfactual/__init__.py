"""What `fit` may minimise beside the likelihood."""

from typing import TYPE_CHECKING

from rung3.imports import lazily

if TYPE_CHECKING:
    from rung3.training.counterfactual.objective import CounterfactualObjective
    from rung3.training.counterfactual.preparation import fit_predictors

__all__ = ["CounterfactualObjective", "fit_predictors"]

if not TYPE_CHECKING:  # so that a name that is not there is still found by a type checker
    __getattr__ = lazily(__spec__)
