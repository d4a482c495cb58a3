"""What `fit` may minimise beside the likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rung3.training.counterfactual.loss import CounterfactualLoss
from rung3.training.counterfactual.objective import CounterfactualObjective, fit_predictors

__all__ = ["CounterfactualObjective", "as_objective", "fit_predictors", "remembered"]


def as_objective(given: Any, patience: int | None) -> CounterfactualObjective | None:
    """The objective that `fit` was given, where it is not the likelihood.

    Raises:
        ValueError: If it is none, or there is to be patience with it.
    """
    if given == "likelihood":
        return None
    made = CounterfactualObjective() if given == "counterfactual" else given
    if not isinstance(made, CounterfactualObjective):
        raise ValueError(
            f"objective={given!r} must be 'likelihood', 'counterfactual' or a "
            "CounterfactualObjective(...)"
        )
    if patience is not None:
        raise ValueError("patience: goes by the likelihood alone; leave it out with this objective")
    return made


def remembered(
    before: Mapping[str, Any],
    fitted: Mapping[str, dict[str, Any]],
    losses: Mapping[str, CounterfactualLoss],
) -> dict[str, dict[str, Any]]:
    """How mechanisms were fitted, with every predictor that ever had a say in it.

    Args:
        before: `SCM.fitted` before this fit, which went on from there.
        fitted: How they were fitted now.
        losses: The counterfactual losses, by image.
    """
    found = {}
    for name, said in fitted.items():
        predictors = dict.fromkeys(before.get(name, {}).get("predictors", ()))
        found[name] = dict(said)
        if name in losses:
            found[name]["objective"] = losses[name].provenance()
            predictors |= dict.fromkeys(losses[name].digests().values())
        if predictors:
            found[name]["predictors"] = list(predictors)
    return found
