"""IXI: T1, T2 and other scans of nearly 600 healthy people, at three hospitals of London.

The table comes as an Excel file and is read as CSV; an age of 0 or nothing stands for missing, and
some IDs are there twice. The hospital is part of a scan's name: `IXI002-Guys-0828-T1.nii.gz`.
Source: brain-development.org.
"""

from __future__ import annotations

import re
from pathlib import Path

from rung3.data.readers.medical.cohort import YEARS, Cohort, LeftOut, once
from rung3.data.readers.medical.sheet import Sheet
from rung3.data.variables import Binary, Categorical, Continuous, Variable

__all__ = ["ixi"]

SEX = "SEX_ID (1=m, 2=f)"

SITES = ("Guys", "HH", "IOP")

NAME = re.compile(r"IXI(\d+)-(\w+)-(\d+)-(\w+)\.nii(\.gz)?")

VARIABLES: dict[str, Variable] = {
    "age": Continuous(**YEARS),
    "sex": Binary(labels=("female", "male")),
    "site": Categorical(labels=SITES),
}


def ixi(root: str | Path, *, table: str = "IXI.csv", sequence: str = "T1") -> Cohort:
    """Read a folder of IXI: its table as CSV, and scans as NIfTI, anywhere below the folder.

    Args:
        root: The folder.
        table: The table.
        sequence: Which scans, such as `T1` or `T2`.

    Returns:
        One row a scan.

    Raises:
        ValueError: Naming file, column and row of what cannot be read; if the table is still an
            Excel file.
    """
    root, out = Path(root), LeftOut()
    if not (root / table).exists() and (excel := sorted(root.glob("IXI.xls*"))):
        raise ValueError(f"{excel[0]}: save it as CSV, as {root / table}")
    people = [
        {
            "subject": row.whole("IXI_ID", needed=True),
            "age": row.number("AGE"),
            "sex": row.choice(SEX, {"1": "male", "2": "female"}),
        }
        for row in Sheet.find(root, table)
    ]
    known = {person["subject"]: person for person in once(people, "subject", out)}
    records, scanned = [], set()
    for path in sorted(root.rglob("IXI*.nii*")):
        match = NAME.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path}: is named like no scan of IXI: IXI002-Guys-0828-T1.nii.gz")
        subject, site, kind = int(match[1]), match[2], match[4]
        if kind != sequence:
            continue
        scanned.add(subject)
        if site not in SITES:
            raise ValueError(f"{path}: its hospital {site!r} is none of {', '.join(SITES)}")
        if subject not in known:
            out.add("not in the table, or there twice", path.name)
        elif known[subject]["sex"] is None:
            out.add("sex missing", path.name)
        elif not out.age(known[subject]["age"], path.name):
            records.append(known[subject] | {"site": site, "image": path})
    for subject in sorted(known.keys() - scanned):
        out.add("no image file", subject)
    return Cohort(root, records, VARIABLES, out)
