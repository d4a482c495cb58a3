"""Floors and ceilings that a model is compared with."""
