"""Attribution of an outlier, a change or a variance to mechanisms; of a prediction to causes."""

from rung3.effects.attribution.anomaly import Attribution, attribute_anomaly
from rung3.effects.attribution.average_change import Shift, attribute_change
from rung3.effects.attribution.distribution import distribution_change
from rung3.effects.attribution.explaining import explain
from rung3.effects.attribution.explanation import CauseEffect, Causes, Explanation
from rung3.effects.attribution.influence import (
    Influence,
    arrow_strength,
    intrinsic_causal_influence,
    parent_relevance,
)
from rung3.effects.attribution.mechanism_changes import Change, changes

__all__ = [
    "Attribution",
    "CauseEffect",
    "Causes",
    "Change",
    "Explanation",
    "Influence",
    "Shift",
    "arrow_strength",
    "attribute_anomaly",
    "attribute_change",
    "changes",
    "distribution_change",
    "explain",
    "intrinsic_causal_influence",
    "parent_relevance",
]
