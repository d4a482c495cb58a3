"""Counterfactual rows that balance or decorrelate: targeted augmentation."""

from rung3.training.augmentation.augmented import Augmented
from rung3.training.augmentation.augmenting import augment
from rung3.training.augmentation.confirmation import Confirmation, fit_confirmation
from rung3.training.augmentation.dataset import CounterfactualDataset
from rung3.training.augmentation.plan import Plan
from rung3.training.augmentation.sharded import augment_shards

__all__ = [
    "Augmented",
    "Confirmation",
    "CounterfactualDataset",
    "Plan",
    "augment",
    "augment_shards",
    "fit_confirmation",
]
