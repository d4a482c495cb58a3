"""Worlds: SCMs whose truth is known, so that answers can be checked."""

from rung3.worlds.digits import digits
from rung3.worlds.morphomnist import morphomnist
from rung3.worlds.textbook import lecture, uniform

__all__ = ["digits", "lecture", "morphomnist", "uniform"]
