"""NIH ChestX-ray14: chest radiographs with findings that were read off their reports.

Two columns of the table, `OriginalImage[Width,Height]` and `OriginalImagePixelSpacing[x,y]`, have
commas in their names without quotes, and so are four. Some ages are mistakes, such as 414, and in
an early release they are written `058Y`. Source: Wang et al. 2017 (arXiv 1705.02315).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rung3.data.readers.medical.cohort import Cohort, LeftOut, once
from rung3.data.readers.medical.findings import disease_variable, radiograph
from rung3.data.readers.medical.sheet import Row, Sheet

__all__ = ["nih"]

UNITS = {"Y": 1.0, "M": 1 / 12, "D": 1 / 365.25}
"""Years in what an age is counted in."""


def nih(root: str | Path, *, finding: str = "Effusion") -> Cohort:
    """Read a folder of ChestX-ray14: `Data_Entry_2017.csv`, and images in folders below it.

    Args:
        root: The folder; with `train_val_list.txt` and `test_list.txt`, the split is read too.
        finding: The label that `disease` is about, as *Finding Labels* spells it.

    Returns:
        One row an image: those with the finding, among others or not, and those with none at all.

    Raises:
        ValueError: Naming file, column and row of what cannot be read.
    """
    root, out = Path(root), LeftOut()
    files = {path.name: path for path in sorted(root.rglob("*.png"))}
    splits = _splits(root)
    kind = disease_variable(finding)
    records = []
    for row in Sheet.find(root, "Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"):
        name, labels = row.text("Image Index"), row.text("Finding Labels").split("|")
        if finding not in labels and labels != ["No Finding"]:
            out.add("neither the finding nor no finding", name)
        elif (record := _record(files, row, out)) is not None:
            if splits and name not in splits:
                raise row.fault("Image Index", "is in neither list of the split")
            part = {"split": splits[name]} if splits else {}
            records.append(record | part | {"disease": kind.label(finding in labels)})
    return Cohort(root, once(records, "image", out), radiograph(finding), out)


def _record(files: dict[str, Path], row: Row, out: LeftOut) -> dict[str, Any] | None:
    """Return who an image is of, and where it is; `None` if it is left out."""
    name, age = row.text("Image Index"), _age(row)
    sex = row.choice("Patient Gender", {"F": "female", "M": "male"})
    view = row.choice("View Position", {"AP": "AP", "PA": "PA"})
    if sex is None or view is None:
        out.add("sex or view missing", name)
    elif out.age(age, name):
        return None
    elif name not in files:
        out.add("no image file", name)
    else:
        subject = {"subject": row.whole("Patient ID", needed=True), "image": files[name]}
        return subject | {"age": age, "sex": sex, "view": view}
    return None


def _age(row: Row) -> float | None:
    text = row.text("Patient Age")
    if text[-1:] in UNITS and text[:-1].isdigit():
        return int(text[:-1]) * UNITS[text[-1]]
    return row.number("Patient Age")


def _splits(root: Path) -> dict[str, str]:
    lists = {"train": root / "train_val_list.txt", "test": root / "test_list.txt"}
    if not all(path.is_file() for path in lists.values()):
        return {}
    return {name: part for part, path in lists.items() for name in path.read_text().split()}
