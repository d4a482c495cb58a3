"""Fit mechanisms to rows, choose their families, and diagnose the fit."""

from rung3.training.fitting import History, Options, calibrate, fit

__all__ = ["History", "Options", "calibrate", "fit"]
