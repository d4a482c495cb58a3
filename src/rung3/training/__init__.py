"""Fit mechanisms to rows, choose their families, and diagnose the fit."""

from rung3.training.fitting import calibrate, fit
from rung3.training.incomplete import fit_incomplete
from rung3.training.options import History, Options
from rung3.training.rectification import rectify

__all__ = ["History", "Options", "calibrate", "fit", "fit_incomplete", "rectify"]
