"""Whether a study's mechanisms are chosen: of a table of which nothing is said but a graph."""

from __future__ import annotations

from rung3.data.rows import Rows
from rung3.scm.scm import SCM
from rung3.study.study import Study
from rung3.training.automatic import is_chosen

__all__ = ["chooses"]


def chooses(study: Study, model: SCM, train: Rows) -> bool:
    """Return whether mechanisms are chosen by the rows, as `rung3.fit` does where nothing is said.

    Args:
        study: The study.
        model: Its model, not fitted.
        train: Its training rows.
    """
    return study.training.silent and is_chosen(model, train)
