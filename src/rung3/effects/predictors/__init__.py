"""Predictors in a causal model: whether they are fair, and what would change their decision."""

from rung3.effects.predictors.cheapest import Action, recourse
from rung3.effects.predictors.fairness import Audit, Disparity, audit
from rung3.effects.predictors.predictor import PREDICTION, with_predictor

__all__ = ["PREDICTION", "Action", "Audit", "Disparity", "audit", "recourse", "with_predictor"]
