"""OASIS-1: T1 scans of 416 people from 18 to 96 years, some of whom were scanned twice.

The table has `eTIV` in millilitres and `nWBV` as a share of it. `CDR`, `MMSE`, `Educ` and `SES` are
blank for the young, and so may be missing; the second scans (`_MR2`) repeat a subject within days.
Source: Marcus et al. 2007 (J. Cognitive Neuroscience 19:9).
"""

from __future__ import annotations

import math
from pathlib import Path

from rung3.data.readers.medical.cohort import YEARS, Cohort, LeftOut, find_image, once
from rung3.data.readers.medical.sheet import Sheet
from rung3.data.variables import Binary, Continuous, Variable

__all__ = ["oasis1"]

VARIABLES: dict[str, Variable] = {
    "age": Continuous(**YEARS),
    "sex": Binary(labels=("female", "male")),
    "education": Continuous(unit="level", lower=1, upper=5, missing=True),
    "social_status": Continuous(unit="level", lower=1, upper=5, missing=True),
    "mmse": Continuous(unit="points", lower=0, upper=30, missing=True),
    "cdr": Continuous(unit="rating", lower=0, upper=3, missing=True),
    "intracranial_volume": Continuous(unit="ml", lower=0),
    "brain_volume": Continuous(unit="ml", lower=0),
}

MAYBE = {"education": "Educ", "social_status": "SES", "mmse": "MMSE", "cdr": "CDR"}
"""Columns of what may be missing."""


def oasis1(
    root: str | Path,
    *,
    table: str = "oasis_cross-sectional.csv",
    images: str = "*/{ID}/PROCESSED/MPRAGE/T88_111/*_masked_gfc.img",
) -> Cohort:
    """Read a folder of OASIS-1: its table, exported as CSV, and the discs' folders.

    Args:
        root: The folder.
        table: The table.
        images: Where the scan of a session is, by columns of the table; by default the atlas-
            registered, masked one of the discs, in Analyze format.

    Returns:
        One row a session; both sessions of a subject are the same subject's.

    Raises:
        ValueError: Naming file, column and row of what cannot be read.
    """
    root, out = Path(root), LeftOut()
    records = []
    for row in Sheet.find(root, table):
        name = row.text("ID")
        subject, _, session = name.rpartition("_MR")
        if not (subject and session.isdigit()):
            raise row.fault("ID", "is not a session; expected one such as OAS1_0001_MR1")
        age = row.number("Age")
        if out.age(age, name):
            continue
        etiv, nwbv = row.size("eTIV"), row.number("nWBV")
        sex = row.choice("M/F", {"F": "female", "M": "male"})
        if etiv is None or nwbv is None or sex is None:
            out.add("volumes or sex missing", name)
            continue
        if not 0 < nwbv < 1:
            raise row.fault("nWBV", "is not a share; expected a number between 0 and 1")
        image = find_image(root, row.fill(images))
        if image is None:
            out.add("no scan", name)
            continue
        maybe = {key: row.number(column) for key, column in MAYBE.items()}
        records.append(
            {"id": name, "subject": subject, "image": image, "age": age, "sex": sex}
            | {key: math.nan if value is None else value for key, value in maybe.items()}
            | {"intracranial_volume": etiv, "brain_volume": nwbv * etiv}
        )
    return Cohort(root, once(records, "id", out), VARIABLES, out)
