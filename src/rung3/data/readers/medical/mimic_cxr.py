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
from typing import Any, Literal, NamedTuple

from rung3.data.readers.medical.cohort import Cohort, LeftOut, find_image, once
from rung3.data.readers.medical.findings import Uncertain, disease_of, disease_variable, radiograph
from rung3.data.readers.medical.sheet import Row, Sheet
from rung3.data.variables import Categorical

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
    kind = disease_variable(finding)
    splits = Sheet.find(root, f"{VERSION}-split.csv").by("dicom_id", _picture)
    tables = _Tables(
        labels=Sheet.find(root, f"{VERSION}-{labeller}.csv").by("study_id", _study),
        patients=Sheet.find(root, "patients.csv").by("subject_id", _subject),
        races=_races(Sheet.find(root, "admissions.csv")),
    )
    records = []
    for row in Sheet.find(root, f"{VERSION}-metadata.csv"):
        name = row.identifier("dicom_id")
        person = _person(row, tables, out)
        if person is None:
            continue
        disease, why = disease_of(tables.labels[_study(row)], finding, uncertain)
        if disease is None:
            out.add(why, name)
            continue
        image = _image(root, row)
        if image is None:
            out.add("no image file", name)
            continue
        if name not in splits:
            raise row.fault("dicom_id", f"is not in {VERSION}-split.csv")
        split = splits[name].choice("split", {k: k for k in ("train", "validate", "test")})
        if split is None:
            out.add("in no split", name)
            continue
        records.append(person | {"disease": kind.label(disease), "image": image, "split": split})
    variables = radiograph(finding) | {"race": Categorical(labels=RACES)}
    return Cohort(root, once(records, "image", out), variables, out)


class _Tables(NamedTuple):
    """The labels of each study, and each patient's row and race."""

    labels: dict[int | None, Row]
    patients: dict[int | None, Row]
    races: dict[int | None, str]


def _person(row: Row, tables: _Tables, out: LeftOut) -> dict[str, Any] | None:
    """Return who a frontal image with labels is of; `None` if it is left out."""
    name, subject = row.text("dicom_id"), row.whole("subject_id")
    race = tables.races.get(subject, "race unknown")
    if row.text("ViewPosition") not in ("AP", "PA"):
        out.add("view neither AP nor PA", name)
    elif _study(row) not in tables.labels:
        out.add("no labels", name)
    elif race not in RACES:
        out.add(race, name)
    elif subject not in tables.patients:
        out.add("not among the patients", name)
    else:
        patient = tables.patients[subject]
        age = _age(row, patient)
        sex = patient.choice("gender", {"F": "female", "M": "male"})
        if sex is None:
            out.add("sex missing", name)
        elif not out.age(age, name):
            known = {"subject": subject, "age": age, "sex": sex, "race": race}
            return known | {"view": row.text("ViewPosition")}
    return None


def _picture(row: Row) -> str:
    return row.text("dicom_id")


def _subject(row: Row) -> int | None:
    return row.whole("subject_id")


def _study(row: Row) -> int | None:
    return row.whole("study_id")


def _age(row: Row, patient: Row) -> float | None:
    age, year = patient.number("anchor_age"), patient.number("anchor_year")
    date = row.whole("StudyDate")
    if age is None or year is None or date is None:
        return None
    return age + date // 10000 - year


def _image(root: Path, row: Row) -> Path | None:
    subject, study = str(row.whole("subject_id")), row.whole("study_id")
    place = f"files/p{subject[:2]}/p{subject}/s{study}/{row.text('dicom_id')}"
    files = [find_image(root, f"{place}{suffix}") for suffix in (".jpg", ".dcm")]
    return next((path for path in files if path is not None), None)


def _races(admissions: Sheet) -> dict[int | None, str]:
    """Return each patient's race, or why it is not known."""
    column = "race" if "race" in admissions.names else "ethnicity"
    by_subject: dict[int | None, set[str]] = {}
    for row in admissions:
        text = row.text(column).upper()
        named = [race for race in RACES if text.startswith(race.upper())]
        by_subject.setdefault(row.whole("subject_id"), set()).add(named[0] if named else "other")
    return {
        subject: "race inconsistent" if len(races) > 1
        else f"race none of {', '.join(RACES)}" if "other" in races
        else next(iter(races))
        for subject, races in by_subject.items()
    }  # fmt: skip
