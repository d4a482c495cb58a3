"""What `fit` may minimise beside the likelihood."""

from rung3.training.counterfactual.objective import CounterfactualObjective
from rung3.training.counterfactual.preparation import fit_predictors

__all__ = ["CounterfactualObjective", "fit_predictors"]
