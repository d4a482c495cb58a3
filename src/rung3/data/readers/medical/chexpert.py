"""CheXpert: chest radiographs of a hospital, frontal views, labelled from their reports.

`Path` names the image and the patient, `Age` is cut at 90, and labels are 1, 0, -1 (uncertain) or
blank. Source: Irvin et al. 2019 (arXiv 1901.07031).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rung3.data.readers.medical.cohort import Cohort, LeftOut, find_image, once
from rung3.data.readers.medical.findings import Uncertain, disease_of, disease_variable, radiograph
from rung3.data.readers.medical.sheet import Row, Sheet

__all__ = ["chexpert"]


def chexpert(
    root: str | Path, *, finding: str = "Pleural Effusion", uncertain: Uncertain = "drop"
) -> Cohort:
    """Read a folder of CheXpert: `train.csv` and `valid.csv`, with the images that they name.

    Args:
        root: The folder that holds them, whose own name `Path` begins with.
        finding: The label that `disease` is about.
        uncertain: What becomes of labels that are uncertain (-1).

    Returns:
        One row a frontal image, with the published split.

    Raises:
        ValueError: Naming file, column and row of what cannot be read.
    """
    root, out = Path(root), LeftOut()
    sheets = [("train", Sheet.find(root, "train.csv"))]
    if (root / "valid.csv").is_file():
        sheets.append(("test", Sheet(root / "valid.csv")))
    kind = disease_variable(finding)
    records = []
    for split, sheet in sheets:
        for row in sheet:
            disease, why = disease_of(row, finding, uncertain)
            if row.text("Frontal/Lateral") != "Frontal":
                out.add("not frontal", row.text("Path"))
            elif disease is None:
                out.add(why, row.text("Path"))
            elif (record := _record(root, row, out)) is not None:
                records.append(record | {"split": split, "disease": kind.label(disease)})
    return Cohort(root, once(records, "image", out), radiograph(finding), out)


def _record(root: Path, row: Row, out: LeftOut) -> dict[str, Any] | None:
    """Return who an image is of, and where it is; `None` if it is left out."""
    name, age = row.text("Path"), row.number("Age")
    patient = re.search(r"patient\d+", name)
    if patient is None:
        raise row.fault("Path", "names no patient")
    sex = row.choice("Sex", {"Female": "female", "Male": "male", "Unknown": None})
    image = find_image(root, name.partition("/")[2])
    if out.incomplete(sex, age, image, name):
        return None
    view = row.text("AP/PA") or "AP"
    return {"subject": patient[0], "image": image, "age": age, "sex": sex, "view": view}
