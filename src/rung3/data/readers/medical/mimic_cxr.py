"""MIMIC-CXR and MIMIC-CXR-JPG: chest radiographs of an emergency department, and who they are of.

| variable | from |
|---|---|
| `age` | `anchor_age` of the patient, moved by the years from `anchor_year` to the study |
| `sex` | `gender` of the patient |
| `race` | `race`, or `ethnicity` in version 1, of all admissions of the patient, which must agree |
| `disease` | the finding's label, against *No Finding* |
| `view` | AP or PA; others are left out |

As published: people whose admissions disagree on race, and all but White, Black and Asian, are left
out; splits are by patient. Source: De Sousa Ribeiro et al. 2023, appendix; PhysioNet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from rung3.data.readers.medical.cohort import YEARS, Cohort, LeftOut, find_image
from rung3.data.readers.medical.findings import Uncertain, disease_of, disease_variable
from rung3.data.readers.medical.sheet import Row, Sheet
from rung3.data.variables import Binary, Categorical, Continuous, Variable

__all__ = ["mimic_cxr"]

RACES = ("Asian", "Black", "White")

VERSION = "mimic-cxr-2.0.0"


def mimic_cxr(
    root: str | Path,
    *,
    finding: str = "Pleural Effusion",
    labeller: Literal["chexpert", "negbio"] = "chexpert",
    uncertain: Uncertain = "drop",
) -> Cohort:
    """Read a folder of MIMIC-CXR: `files/`, the tables beside it, and those of MIMIC-IV.

    Args:
        root: The folder, with `mimic-cxr-2.0.0-metadata.csv`, `-split.csv`, the labels, and
            `patients.csv` and `admissions.csv` of MIMIC-IV; all plain or `.gz`. Images are `.jpg`
            or `.dcm`.
        finding: The label that `disease` is about.
        labeller: Whose labels.
        uncertain: What becomes of labels that are uncertain (-1).

    Returns:
        One row an image, with the published split.

    Raises:
        ValueError: Naming file, column and row of what cannot be read.
    """
    root, out = Path(root), LeftOut()
    labels = {_study(row): row for row in Sheet.find(root, f"{VERSION}-{labeller}.csv")}
    splits = {row.text("dicom_id"): row for row in Sheet.find(root, f"{VERSION}-split.csv")}
    patients = {row.whole("subject_id"): row for row in Sheet.find(root, "patients.csv")}
    races = _races(Sheet.find(root, "admissions.csv"))
    kind = disease_variable(finding)
    variables: dict[str, Variable] = {
        "age": Continuous(**YEARS),
        "sex": Binary(labels=("female", "male")),
        "race": Categorical(labels=RACES),
        "disease": kind,
        "view": Binary(labels=("AP", "PA")),
    }
    records = []
    for row in Sheet.find(root, f"{VERSION}-metadata.csv"):
        name, subject = row.text("dicom_id"), row.whole("subject_id")
        study = _study(row)
        if row.text("ViewPosition") not in ("AP", "PA"):
            out.add("view neither AP nor PA", name)
            continue
        if study not in labels:
            out.add("no labels", name)
            continue
        disease, why = disease_of(labels[study], finding, uncertain)
        if disease is None:
            out.add(why, name)
            continue
        race = races.get(subject, "race unknown")
        if race not in RACES:
            out.add(race, name)
            continue
        if subject not in patients:
            out.add("not among the patients", name)
            continue
        record = _person(row, patients[subject])
        if record["sex"] is None:
            out.add("sex missing", name)
            continue
        if out.age(record["age"], name):
            continue
        folder = f"files/p{str(subject)[:2]}/p{subject}/s{study}/{name}"
        found = [find_image(root, f"{folder}{suffix}") for suffix in (".jpg", ".dcm")]
        image = next((path for path in found if path is not None), None)
        if image is None:
            out.add("no image file", name)
            continue
        if name not in splits:
            raise row.fault("dicom_id", f"is not in {VERSION}-split.csv")
        record |= {"race": race, "disease": kind.label(disease), "view": row.text("ViewPosition")}
        split = splits[name].choice("split", {k: k for k in ("train", "validate", "test")})
        records.append(record | {"image": image, "subject": subject, "split": split})
    return Cohort(root, records, variables, out)


def _study(row: Row) -> int | None:
    return row.whole("study_id")


def _person(row: Row, patient: Row) -> dict[str, Any]:
    age, year, date = (
        patient.number("anchor_age"), patient.number("anchor_year"), row.whole("StudyDate"),
    )  # fmt: skip
    known = age is not None and year is not None and date is not None
    return {
        "age": age + date // 10000 - year if known else None,  # type: ignore[operator]
        "sex": patient.choice("gender", {"F": "female", "M": "male"}),
    }


def _races(admissions: Sheet) -> dict[int | None, str]:
    """Return each patient's race, or why it is not known."""
    column = "race" if "race" in admissions.names else "ethnicity"
    told: dict[int | None, set[str]] = {}
    for row in admissions:
        text = row.text(column).upper()
        named = [race for race in RACES if text.startswith(race.upper())]
        told.setdefault(row.whole("subject_id"), set()).add(named[0] if named else "other")
    return {
        subject: "race inconsistent" if len(races) > 1
        else f"race none of {', '.join(RACES)}" if "other" in races
        else next(iter(races))
        for subject, races in told.items()
    }  # fmt: skip
