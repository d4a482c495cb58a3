"""Attribution of an outlier, or of a change, to the mechanisms behind it."""

from rung3.effects.attribution.anomaly import Attribution, attribute_anomaly
from rung3.effects.attribution.average_change import Shift, attribute_change
from rung3.effects.attribution.mechanism_changes import Change, changes

__all__ = ["Attribution", "Change", "Shift", "attribute_anomaly", "attribute_change", "changes"]
