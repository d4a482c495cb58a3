"""Variables of a model that were not declared: read off their columns when it is first fitted."""

from __future__ import annotations

import warnings

from rung3.data.columns import doubt, doubt_number, variable_of
from rung3.data.rows import Values, named
from rung3.data.variables import Continuous, Variable
from rung3.scm.model import Model

__all__ = ["infer"]


def infer(model: Model, rows: Values) -> dict[str, Variable]:
    """Read undeclared variables off their columns, as tables do, with a warning that names them.

    Only a model that was not fitted yet changes, in place. A variable whose mechanism was given
    stays the number that it was bound as.

    Args:
        model: The model.
        rows: A mapping from name to values, or a data frame.

    Returns:
        The variables that are no longer `Continuous()`, by name.

    Example:
        >>> from rung3 import SCM
        >>> model = SCM("drug -> cured")
        >>> with warnings.catch_warnings(action="ignore"):
        ...     print(infer(model, {"drug": [0, 1], "cured": ["no", "yes"]})["cured"])
        Binary(labels=('no', 'yes'))
    """
    if model.stated is None or model.fitted:
        return {}
    columns, (declared, given) = named(rows), model.stated
    silent = [name for name in model.graph.nodes if name in model.defaults - declared.keys()]
    kinds = {name: variable_of(name, columns[name]) for name in silent if name in columns}
    inferred = {name: kind for name, kind in kinds.items() if kind != Continuous()}
    if inferred:
        device = model.device
        model.declare(model.graph, {**declared, **inferred}, given)
        model.to(device)
    listed = ", ".join(f"{name}: {kind}" for name, kind in inferred.items())
    remarks = [f"not declared, and taken for what their values are: {listed}"] if inferred else []
    remarks += [text for name, kind in inferred.items() if (text := doubt(name, kind))]
    numbers = [name for name, kind in kinds.items() if kind == Continuous()]
    remarks += [text for name in numbers if (text := doubt_number(name, columns[name]))]
    if remarks:
        warnings.warn("; ".join(remarks), stacklevel=3)
    return inferred
