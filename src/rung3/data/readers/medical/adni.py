"""ADNI: T1 scans of older people, followed over years, with diagnosis, APOE and volumes.

`ADNIMERGE.csv` has a row a visit. `AGE` is that at baseline, to which the visit's months are added;
volumes are in cubic millimetres. Source: adni.loni.usc.edu; ADNIMERGE's dictionary. With `slices`
each visit has several rows, which differ in where the scan is cut: `slice` is then a cause of the
image (as in the benchmark of Melistas et al. 2024, arXiv 2403.20287).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from rung3.data.readers.medical.cohort import YEARS, Cohort, LeftOut, find_image, ml, once
from rung3.data.readers.medical.sheet import Row, Sheet
from rung3.data.readers.scans import Slice
from rung3.data.variables import Binary, Continuous, Ordinal, Variable

__all__ = ["adni"]

DIAGNOSES = {"CN": "CN", "MCI": "MCI", "Dementia": "Dementia", "NL": "CN", "AD": "Dementia"}
"""What a diagnosis is called, today and before; of a change (`NL to MCI`) the last is meant."""

VARIABLES: dict[str, Variable] = {
    "age": Continuous(**YEARS),
    "sex": Binary(labels=("female", "male")),
    "apoe4": Ordinal(labels=("0", "1", "2")),
    "diagnosis": Ordinal(labels=("CN", "MCI", "Dementia")),
    "brain_volume": Continuous(unit="ml", lower=0),
    "ventricle_volume": Continuous(unit="ml", lower=0),
    "intracranial_volume": Continuous(unit="ml", lower=0),
}


def adni(
    root: str | Path,
    *,
    table: str = "ADNIMERGE.csv",
    images: str = "ADNI/{PTID}/*/{EXAMDATE}*/*/*.nii*",
    slices: Sequence[float] = (),
) -> Cohort:
    """Read a folder of ADNI: `ADNIMERGE.csv`, and scans as NIfTI.

    Args:
        root: The folder.
        table: The table.
        images: Where the scan of a visit is, by columns of the table; by default as LONI's archive
            unpacks it. Of several that fit, the first is taken.
        slices: Where each scan is cut, rising from 0 (feet, front, right) to 1: a row each, and the
            variable `slice`, whose labels are these numbers. The plane is that of `ScanOptions`.

    Returns:
        One row a visit with a scan, or a row a slice of it.

    Raises:
        ValueError: Naming file, column and row of what cannot be read; if slices are not rising
            numbers from 0 to 1.
    """
    root, out, labels = Path(root), LeftOut(), _labels(slices)
    records = []
    for row in Sheet.find(root, table):
        name = f"{row.identifier('PTID')} {row.text('VISCODE')}"
        if "{EXAMDATE}" in images:
            row.date("EXAMDATE")
        baseline, months = row.number("AGE"), _months(row)
        if out.age(baseline, name):
            continue
        record = {
            "subject": row.identifier("RID"), "visit": name, "age": (baseline or 0) + months / 12,
            "sex": row.choice("PTGENDER", {"Female": "female", "Male": "male"}),
            "apoe4": row.choice("APOE4", {"0": "0", "1": "1", "2": "2", "-4": None}),
            "diagnosis": _diagnosis(row),
            "brain_volume": ml(row.size("WholeBrain")),
            "ventricle_volume": ml(row.size("Ventricles")),
            "intracranial_volume": ml(row.size("ICV")),
        }  # fmt: skip
        if absent := [key for key in VARIABLES if record[key] is None]:
            out.add(f"{absent[0]} missing", name)
            continue
        image = find_image(root, row.fill(images))
        if image is None:
            out.add("no scan", name)
            continue
        records.append(record | {"image": image})
    visits = once(records, "visit", out)
    if not labels:
        return Cohort(root, visits, VARIABLES, out)
    cut = [
        visit | {"slice": label, "image": Slice(visit["image"], float(label))}
        for visit in visits
        for label in labels
    ]
    return Cohort(root, cut, VARIABLES | {"slice": Ordinal(labels=labels)}, out)


def _labels(slices: Sequence[float]) -> tuple[str, ...]:
    """Return places where scans are cut as labels, once they are checked."""
    places = [float(place) for place in slices]
    rising = all(a < b for a, b in itertools.pairwise(places))
    if len(places) == 1 or not rising or not all(0 <= place <= 1 for place in places):
        raise ValueError(
            f"slices={list(slices)}: expected two rising numbers or more, from 0 to 1, such as "
            "[0.5, 0.55, 0.6]"
        )
    return tuple(f"{place:g}" for place in places)


def _months(row: Row) -> int:
    """Return the months from baseline to a visit: `bl`, `m06`, `m120`."""
    code = row.text("VISCODE")
    if code in ("bl", "sc", "scmri"):
        return 0
    if match := re.fullmatch(r"m(\d+)", code):
        return int(match[1])
    raise row.fault("VISCODE", "is not a visit; expected bl, or m and months")


def _diagnosis(row: Row) -> str | None:
    text = row.text("DX").split(" to ")[-1]
    if not text:
        return None
    if text not in DIAGNOSES:
        raise row.fault("DX", f"is none of {', '.join(map(repr, DIAGNOSES))}")
    return DIAGNOSES[text]
