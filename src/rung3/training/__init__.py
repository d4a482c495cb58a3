"""Fit mechanisms to rows, choose their families, and diagnose the fit."""

from typing import TYPE_CHECKING

from rung3.imports import lazily

if TYPE_CHECKING:
    from rung3.training.automatic import fit
    from rung3.training.fitting import calibrate
    from rung3.training.incomplete import fit_incomplete
    from rung3.training.options import History, Options
    from rung3.training.rectification import rectify

__all__ = ["History", "Options", "calibrate", "fit", "fit_incomplete", "rectify"]

if not TYPE_CHECKING:  # so that a name that is not there is still found by a type checker
    __getattr__ = lazily(__spec__)
