"""Predictors of a variable from an image."""
