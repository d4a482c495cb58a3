"""CheXpert: chest radiographs of a hospital, frontal views, labelled from their reports.

`Path` names the image and the patient, `Age` is cut at 90, and labels are 1, 0, -1 (uncertain) or
blank. Source: Irvin et al. 2019 (arXiv 1901.07031).
"""

from __future__ import annotations

import re
from pathlib import Path

from rung3.data.readers.medical.cohort import YEARS, Cohort, LeftOut, find_image
from rung3.data.readers.medical.findings import Uncertain, disease_of, disease_variable
from rung3.data.readers.medical.sheet import Sheet
from rung3.data.variables import Binary, Continuous, Variable

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
    variables: dict[str, Variable] = {
        "age": Continuous(**YEARS),
        "sex": Binary(labels=("female", "male")),
        "disease": kind,
        "view": Binary(labels=("AP", "PA")),
    }
    records = []
    for split, sheet in sheets:
        for row in sheet:
            name = row.text("Path")
            patient = re.search(r"patient\d+", name)
            if patient is None:
                raise row.fault("Path", "names no patient")
            if row.text("Frontal/Lateral") != "Frontal":
                out.add("not frontal", name)
                continue
            disease, why = disease_of(row, finding, uncertain)
            if disease is None:
                out.add(why, name)
                continue
            sex = row.choice("Sex", {"Female": "female", "Male": "male", "Unknown": None})
            if sex is None:
                out.add("sex missing", name)
                continue
            age = row.number("Age")
            if out.age(age, name):
                continue
            image = find_image(root, name.partition("/")[2])
            if image is None:
                out.add("no image file", name)
                continue
            records.append(
                {"subject": patient[0], "split": split, "image": image, "age": age, "sex": sex}
                | {"disease": kind.label(disease), "view": row.text("AP/PA") or "AP"}
            )
    return Cohort(root, records, variables, out)
