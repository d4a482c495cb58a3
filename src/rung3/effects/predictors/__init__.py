"""Predictors in a causal model: whether they are fair, why they decide, and what would change it."""

from rung3.effects.predictors.fairness import Audit, Disparity, audit
from rung3.effects.predictors.predictor import PREDICTION, with_predictor

__all__ = ["PREDICTION", "Audit", "Disparity", "audit", "with_predictor"]
