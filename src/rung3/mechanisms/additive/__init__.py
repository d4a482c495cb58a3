"""Additive noise around a regression."""
