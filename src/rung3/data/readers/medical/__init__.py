"""Readers of published medical data sets: each gives a `Cohort` of its layout on disk."""

from rung3.data.readers.medical.cohort import Cohort
from rung3.data.readers.medical.registry import LAYOUTS

__all__ = ["LAYOUTS", "Cohort"]
