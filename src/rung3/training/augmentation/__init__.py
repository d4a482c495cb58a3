"""Counterfactual rows that balance or decorrelate: targeted augmentation."""

from rung3.training.augmentation.augmented import Augmented
from rung3.training.augmentation.augmenting import augment
from rung3.training.augmentation.confirmation import Confirmation, fit_confirmation
from rung3.training.augmentation.dataset import CounterfactualDataset
from rung3.training.augmentation.plan import Plan

__all__ = [
    "Augmented",
    "Confirmation",
    "CounterfactualDataset",
    "Plan",
    "augment",
    "fit_confirmation",
]
