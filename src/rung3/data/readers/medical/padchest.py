"""PadChest: chest radiographs of a Spanish hospital, in 16 bits, with labels as a list in text.

`Labels` is a Python list written as text, which is read as a literal and never run; its words may
have blanks around them, and `nan` or nothing stands for no report. Ages are years from birth to the
study. Source: Bustos et al. 2020 (arXiv 1901.07441).
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from rung3.data.readers.medical.cohort import Cohort, LeftOut, find_image, once
from rung3.data.readers.medical.findings import disease_variable, radiograph
from rung3.data.readers.medical.sheet import Row, Sheet

__all__ = ["padchest"]

FRONTAL = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP"}
"""Projections that are frontal."""

SEX = {"F": "female", "M": "male", "O": None}


def padchest(
    root: str | Path,
    *,
    finding: str = "pleural effusion",
    table: str = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
) -> Cohort:
    """Read a folder of PadChest: its table, and images in folders that `ImageDir` numbers.

    Args:
        root: The folder; images lie in `{ImageDir}/` or beside the table.
        finding: The label that `disease` is about; the others are those labelled `normal`.
        table: The table, plain or `.gz`.

    Returns:
        One row a frontal image.

    Raises:
        ValueError: Naming file, column and row of what cannot be read.
    """
    root, out = Path(root), LeftOut()
    kind = disease_variable(finding)
    records = []
    for row in Sheet.find(root, table):
        name, labels = row.text("ImageID"), _labels(row)
        if row.text("Projection") not in FRONTAL:
            out.add("not frontal", name)
        elif labels is None:
            out.add("no labels", name)
        elif finding not in labels and set(labels) != {"normal"}:
            out.add("neither the finding nor normal", name)
        elif (record := _record(root, row, out)) is not None:
            records.append(record | {"disease": kind.label(finding in labels)})
    return Cohort(root, once(records, "id", out), radiograph(finding), out)


def _record(root: Path, row: Row, out: LeftOut) -> dict[str, Any] | None:
    """Return who an image is of, and where it is; `None` if it is left out."""
    name, sex = row.text("ImageID"), row.choice("PatientSex_DICOM", SEX)
    born, date = row.number("PatientBirth"), row.whole("StudyDate_DICOM")
    age = None if born is None or date is None else date // 10000 - born
    places = [find_image(root, f"{row.text('ImageDir')}/{name}"), find_image(root, name)]
    image = next((path for path in places if path is not None), None)
    if out.incomplete(sex, age, image, name):
        return None
    subject = {"id": name, "subject": row.identifier("PatientID"), "image": image}
    return subject | {"age": age, "sex": sex, "view": FRONTAL[row.text("Projection")]}


def _labels(row: Row) -> list[str] | None:
    """Return the labels; `None` if there are none."""
    text = row.text("Labels")
    if not text:
        return None
    try:
        labels = ast.literal_eval(re.sub(r"(?<![\w'])nan(?![\w'])", "None", text))
    except (ValueError, SyntaxError):
        raise row.fault("Labels", "is not a list of labels") from None
    if not isinstance(labels, list):
        raise row.fault("Labels", "is not a list of labels")
    return [str(label).strip() for label in labels if label is not None and str(label).strip()]
