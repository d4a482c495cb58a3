"""The published layouts by name, for study files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from rung3.data.readers.medical.adni import adni
from rung3.data.readers.medical.chexpert import chexpert
from rung3.data.readers.medical.cohort import Cohort
from rung3.data.readers.medical.ixi import ixi
from rung3.data.readers.medical.mimic_cxr import mimic_cxr
from rung3.data.readers.medical.nih import nih
from rung3.data.readers.medical.oasis1 import oasis1
from rung3.data.readers.medical.padchest import padchest
from rung3.data.readers.medical.ukbb import ukbb

__all__ = ["LAYOUTS"]

LAYOUTS: Mapping[str, Callable[..., Cohort]] = MappingProxyType(
    {
        "adni": adni,
        "chexpert": chexpert,
        "ixi": ixi,
        "mimic-cxr": mimic_cxr,
        "nih": nih,
        "oasis-1": oasis1,
        "padchest": padchest,
        "ukbb": ukbb,
    }
)
"""The reader of each layout: it takes the folder, and options of its own."""
