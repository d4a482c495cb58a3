"""UK Biobank brain MRI: T1 and T2-FLAIR scans, or thumbnails of them, and imaging measures.

A column is named by field, instance and array in four spellings, of which any may occur:
`31-0.0`, `f.31.0.0`, `p25004_i2`, `f_25003_2_0`. Volumes are in cubic millimetres.

| variable | field |
|---|---|
| `sex` | 31 |
| `age` | 21003, at the imaging visit |
| `brain_volume` | 25010, grey and white matter; else the sum of 25006 and 25008 |
| `ventricle_volume` | 25004, ventricular cerebrospinal fluid |
| `sequence` | which of the two scans the row is |

Source: UK Biobank showcase; the thumbnails' layout is that of De Sousa Ribeiro et al. 2023.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rung3.data.readers.medical.cohort import YEARS, Cohort, LeftOut, find_image, ml, once
from rung3.data.readers.medical.sheet import Row, Sheet
from rung3.data.variables import Binary, Continuous, Variable

__all__ = ["ukbb"]

VISIT = 2
"""The instance that is the first imaging visit."""

SCANS = {
    "T1": ("20252", "T1/T1_unbiased_brain"),
    "T2_FLAIR": ("20253", "T2_FLAIR/T2_FLAIR_unbiased_brain"),
}
"""Field and file, in its archive, of each sequence."""

EID = ("eid", "f.eid", "f_eid")
"""The column of the participant's number, in each spelling."""

SEX = {"0": "female", "1": "male", "Female": "female", "Male": "male"}

SPELLING = re.compile(r"(?:p|f[._])?(\d+)(?:[-._]i?(\d+))?(?:[._]a?(\d+))?")

VARIABLES: dict[str, Variable] = {
    "sex": Binary(labels=("female", "male")),
    "age": Continuous(**YEARS),
    "brain_volume": Continuous(unit="ml", lower=0),
    "ventricle_volume": Continuous(unit="ml", lower=0),
    "sequence": Binary(labels=("T1", "T2_FLAIR")),
}


def ukbb(root: str | Path, *, table: str = "participants.csv", file: str | None = None) -> Cohort:
    """Read a folder of UK Biobank: a table of participants, and scans or thumbnails.

    Args:
        root: The folder. Scans are archives `{eid}_20252_2_0.zip` and `{eid}_20253_2_0.zip`, or the
            folders that they unpack to; thumbnails `{eid}_T1_unbiased_brain_rigid_to_mni.png` and
            `{eid}_T2_FLAIR_...` of a table with the columns `eid, sex, age, brain_volume,
            ventricle_volume, mri_seq`.
        table: The CSV file, in that folder.
        file: Which T1 scan of an archive, such as `T1/T1_brain_to_MNI`; by default the unbiased
            brain.

    Returns:
        One row a scan.

    Raises:
        ValueError: Naming file, column and row of what cannot be read.
    """
    root, out = Path(root), LeftOut()
    sheet = Sheet.find(root, table)
    thumbnails = "mri_seq" in sheet.names
    people = [_thumbnail(row) if thumbnails else _person(row) for row in sheet]
    if not thumbnails:
        people = once(people, "subject", out)
    records = []
    for person in people:
        if out.age(person["age"], person["subject"]):
            continue
        if person["brain_volume"] is None or person["ventricle_volume"] is None:
            out.add("volumes missing", person["subject"])
        elif person["sex"] is None:
            out.add("sex missing", person["subject"])
        else:
            records += _scans(root, person, file, out)
    return Cohort(root, records, VARIABLES, out)


def _scans(
    root: Path, person: dict[str, Any], file: str | None, out: LeftOut
) -> list[dict[str, Any]]:
    """Return a record for each scan of a person that is there."""
    scans, eid = [], person["subject"]
    for sequence, (field, usual) in SCANS.items():
        if person.get("sequence", sequence) != sequence:
            continue
        inside = f"{file if file and sequence == 'T1' else usual}.nii.gz"
        archive = f"{eid}_{field}_{VISIT}_0"
        places = [f"{eid}_{sequence}_unbiased_brain_rigid_to_mni.png"]
        places += [f"{archive}.zip/{inside}", f"{archive}/{inside}"]
        at = [path for path in (find_image(root, place) for place in places) if path is not None]
        if at:
            scans.append(person | {"sequence": sequence, "image": at[0]})
        else:
            out.add(f"no {sequence} scan", eid)
    return scans


def _thumbnail(row: Row) -> dict[str, Any]:
    return {
        "subject": row.whole("eid", needed=True),
        "sex": row.choice("sex", SEX),
        "age": row.number("age"),
        "brain_volume": row.size("brain_volume"),
        "ventricle_volume": row.size("ventricle_volume"),
        "sequence": row.choice(
            "mri_seq", {"T1": "T1", "T2_FLAIR": "T2_FLAIR", "0": "T1", "1": "T2_FLAIR"}
        ),
    }


def _person(row: Row) -> dict[str, Any]:
    eid = next((name for name in EID if name in row.sheet.names), "eid")
    whole = _volume(row, "25010")
    if whole is None:
        grey, white = _volume(row, "25006"), _volume(row, "25008")
        whole = None if grey is None or white is None else grey + white
    return {
        "subject": row.whole(eid, needed=True),
        "sex": row.choice(_column(row.sheet, "31", 0), SEX),
        "age": row.number(_column(row.sheet, "21003", VISIT)),
        "brain_volume": ml(whole),
        "ventricle_volume": ml(_volume(row, "25004", needed=True)),
    }


def _volume(row: Row, field: str, needed: bool = False) -> float | None:
    try:
        column = _column(row.sheet, field, VISIT)
    except ValueError:
        if needed or field == "25006":
            raise
        return None
    return row.size(column)


def _column(sheet: Sheet, field: str, instance: int) -> str:
    """Return the column of a field at an instance, however it is spelt."""
    for name in sheet.names:
        match = SPELLING.fullmatch(name)
        if match and match[1] == field and match[2] in (None, str(instance)):
            return name
    raise ValueError(
        f"{sheet.path}: no column of field {field} at instance {instance}, such as "
        f"'{field}-{instance}.0' or 'p{field}_i{instance}'"
    )
