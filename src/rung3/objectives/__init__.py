"""What `fit` may minimise beside the likelihood."""

from rung3.objectives.counterfactual import Counterfactual

__all__ = ["Counterfactual"]
