"""Miniature folders of published medical data sets, with the irregularities of the real ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import scans
from PIL import Image as Pictures

Array = np.ndarray[Any, Any]


def sheet(path: Path, text: str) -> Path:
    """Write a CSV whose lines a test gives indented."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")
    return path


def brain(seed: int, size: tuple[int, int, int] = (12, 14, 12)) -> Array:
    """A ball with a hole, in grey levels of a scanner."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, k) for k in size), indexing="ij"))
    far = np.sqrt((grid**2).sum(0))
    hole = 0.2 + 0.02 * (seed % 10)
    tissue: Array = (900 * (far < 0.9) * (far > hole)).astype(np.int16)
    return tissue


def picture(path: Path, seed: int, size: tuple[int, int] = (12, 12), deep: bool = False) -> Path:
    numbers = np.random.default_rng(seed).integers(0, 4096 if deep else 256, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    Pictures.fromarray(numbers.astype(np.uint16 if deep else np.uint8)).save(path)
    return path


def ukbb(root: Path, n: int = 8) -> Path:
    """Archives of two sequences, and a table whose columns are spelt in several ways."""
    lines = ["eid,31-0.0,p21003_i2,f_25010_2_0,f.25004.2.0,54-2.0"]
    for k in range(n):
        eid = 1000001 + k
        lines.append(f"{eid},{k % 2},{50 + k},{1_100_000 + 9_000 * k},{20_000 + 3_000 * k},11025")
        folder = root / f"{eid}_20252_2_0"
        scans.write_nifti(folder / "T1" / "T1_unbiased_brain.nii.gz", brain(k))
        shutil.make_archive(str(folder), "zip", folder)
        shutil.rmtree(folder)
        folder = root / f"{eid}_20253_2_0"
        scans.write_nifti(folder / "T2_FLAIR" / "T2_FLAIR_unbiased_brain.nii.gz", brain(k) // 2)
    sheet(root / "participants.csv", "\n".join(lines))
    return root


MIMIC = "mimic-cxr-2.0.0"


def mimic_cxr(root: Path, n: int = 12) -> Path:
    """Patients with two studies each, of both labels, and the splits as published."""
    metadata = ["dicom_id,subject_id,study_id,ViewPosition,StudyDate"]
    labels = ["subject_id,study_id,No Finding,Pleural Effusion"]
    splits = ["dicom_id,study_id,subject_id,split"]
    patients = ["subject_id,gender,anchor_age,anchor_year"]
    admissions = ["subject_id,hadm_id,race"]
    for k in range(n):
        subject = 10000010 + k
        patients.append(f"{subject},{'FM'[k % 2]},{40 + 3 * k},2150")
        admissions.append(f"{subject},{k},{['WHITE', 'BLACK/AFRICAN', 'ASIAN - CHINESE'][k % 3]}")
        for j in range(2):
            study, name = 50000000 + 2 * k + j, f"d{k}-{j}"
            metadata.append(f"{name},{subject},{study},{'AP' if j else 'PA'},{2150 + j}0601")
            labels.append(f"{subject},{study}," + (",1.0" if (k + j) % 2 else "1.0,"))
            part = "train" if k < n - 4 else "validate" if k < n - 2 else "test"
            splits.append(f"{name},{study},{subject},{part}")
            picture(root / f"files/p10/p{subject}/s{study}/{name}.jpg", 2 * k + j)
    sheet(root / f"{MIMIC}-metadata.csv", "\n".join(metadata))
    sheet(root / f"{MIMIC}-chexpert.csv", "\n".join(labels))
    sheet(root / f"{MIMIC}-split.csv", "\n".join(splits))
    sheet(root / "patients.csv", "\n".join(patients))
    sheet(root / "admissions.csv", "\n".join(admissions))
    return root


def adni(root: Path, n: int = 8) -> Path:
    """Two visits of each participant, as LONI's archive unpacks the scans."""
    lines = ["RID,PTID,VISCODE,EXAMDATE,DX,AGE,PTGENDER,APOE4,Ventricles,WholeBrain,ICV"]
    for k in range(n):
        person = f"011_S_{k:04d}"
        for code, date in (("bl", "2005-09-08"), ("m06", "2006-03-13")):
            lines.append(
                f"{k},{person},{code},{date},{['CN', 'MCI', 'Dementia'][k % 3]},{70.3 + k},"
                f"{['Male', 'Female'][k % 2]},{k % 3},{30_000 + 900 * k},{1_000_000 + k},1500000"
            )
            name = f"ADNI/{person}/MPRAGE/{date}_09_11_20.0/I{k}/ADNI_{person}_{code}.nii"
            scans.write_nifti(root / name, brain(k))
    sheet(root / "ADNIMERGE.csv", "\n".join(lines))
    return root
