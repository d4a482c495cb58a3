"""Readers of published medical data sets, on miniatures as irregular as the real ones."""

from __future__ import annotations

import gzip
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import cohorts
import pytest
import torch

import rung3
from rung3 import Continuous, Image
from rung3.data.readers.medical import LAYOUTS, Cohort
from rung3.data.readers.medical.sheet import Sheet
from rung3.data.readers.scans import ScanOptions
from rung3.data.splits import check_apart, divide

pytest.importorskip("nibabel")
import scans


def read(layout: str, root: Path, **options: Any) -> Cohort:
    """Read a folder; what is left out is in the counts, and the warning says it too."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cohort = LAYOUTS[layout](root, **options)
    assert bool(caught) == bool(cohort.left_out)
    for reason, count in cohort.left_out.items():
        assert f"{count} ({reason}" in str(caught[0].message)
    return cohort


def column(cohort: Cohort, name: str) -> list[Any]:
    return [record[name] for record in cohort.records]


# UK Biobank --------------------------------------------------------------------------------------


def test_ukbb_in_four_spellings_with_archives_and_folders(tmp_path: Path) -> None:
    cohort = read("ukbb", cohorts.ukbb(tmp_path, 3))
    assert len(cohort) == 6
    assert cohort.subjects == [str(1000001 + k) for k in (0, 0, 1, 1, 2, 2)]
    variables = cohort.variables | {"image": Image(1, 14, 12)}
    rows = cohort.rows(variables, scans=ScanOptions(0, 900, "axial"))
    assert rows["sex"].tolist() == [0, 0, 1, 1, 0, 0]
    assert rows["age"].tolist() == [50, 50, 51, 51, 52, 52]
    assert rows["brain_volume"][2].item() == pytest.approx(1109)
    assert rows["ventricle_volume"][5].item() == pytest.approx(26)
    assert rows["sequence"].tolist() == [0, 1] * 3
    assert rows["image"].shape == (6, 1, 14, 12)
    assert rows["image"][0].max() == 1
    assert rows["image"][1].max() == pytest.approx(0.5, abs=1 / 255)


def test_ukbb_thumbnails_and_what_is_missing(tmp_path: Path) -> None:
    cohorts.sheet(
        tmp_path / "participants.csv",
        """eid,sex,age,brain_volume,ventricle_volume,mri_seq
        1,0,60,1100,24,T1
        1,0,60,1100,24,T2_FLAIR
        2,1,0,1200,30,T1
        3,1,61,,30,T1
        4,,61,1200,30,T1
        5,1,62,1200,30,T1""",
    )
    for name in ("1_T1", "1_T2_FLAIR"):
        cohorts.picture(tmp_path / f"{name}_unbiased_brain_rigid_to_mni.png", 1)
    cohort = read("ukbb", tmp_path)
    assert column(cohort, "sequence") == ["T1", "T2_FLAIR"]
    assert cohort.left_out == {
        "age missing or 0": 1, "volumes missing": 1, "sex missing": 1, "no T1 scan": 1,
    }  # fmt: skip
    assert cohort.rows({"image": Image(1, 12, 12)})["image"].shape == (2, 1, 12, 12)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            ",51,",
            ",fifty,",
            r"participants\.csv, column 'p21003_i2', row 3: 'fifty' is not a number",
        ),
        ("1000002,1", "1000002,7", r"column '31-0\.0', row 3: '7' is none of '0', '1'"),
        ("p21003_i2", "p21003_i3", "no column of field 21003 at instance 2"),
        ("1000002,", "x,", r"column 'eid', row 3: 'x' is not a number"),
        ("\n1000002,", "\n,", r"column 'eid', row 3: '' does not say whom or what"),
        ("1109000", "-5", r"column 'f_25010_2_0', row 3: '-5' is not above 0"),
        ("23000", "0", r"column 'f\.25004\.2\.0', row 3: '0' is not above 0"),
        ("11025\n1000002", "11025,5\n1000002", r"row 2: 7 cells, and the header has 6"),
    ],
)
def test_ukbb_names_file_column_and_row(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    table = cohorts.ukbb(tmp_path, 2) / "participants.csv"
    table.write_text(table.read_text().replace(before, after))
    with pytest.raises(ValueError, match=message):
        LAYOUTS["ukbb"](tmp_path)


def test_people_who_are_there_twice_are_counted(tmp_path: Path) -> None:
    table = cohorts.ukbb(tmp_path, 3) / "participants.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1], lines[2].replace(",51,", ",52,")]))
    cohort = read("ukbb", tmp_path)
    assert set(cohort.subjects) == {"1000001", "1000003"}
    assert cohort.left_out == {
        "the same row again": 1, "several rows with one ID that disagree": 2,
    }  # fmt: skip


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    cohorts.ukbb(tmp_path, 2)
    archive = tmp_path / "1000001_20252_2_0.zip"
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"1000001_20252_2_0\.zip is damaged"):
        LAYOUTS["ukbb"](tmp_path)


# Chest radiographs -------------------------------------------------------------------------------


def test_mimic_cxr_as_published(tmp_path: Path) -> None:
    cohort = read("mimic-cxr", cohorts.mimic_cxr(tmp_path, 6))
    assert cohort.left_out == {}
    rows = cohort.rows(cohort.variables | {"image": Image(1, 12, 12)})
    assert rows["age"].tolist() == [40, 41, 43, 44, 46, 47, 49, 50, 52, 53, 55, 56]
    assert rows["race"].tolist() == [2, 2, 1, 1, 0, 0] * 2
    assert rows["disease"].tolist() == [0, 1, 1, 0] * 3
    assert [len(cohort.published(k)) for k in ("train", "validate", "test")] == [4, 4, 4]


def test_mimic_cxr_with_what_is_irregular(tmp_path: Path) -> None:
    root = cohorts.mimic_cxr(tmp_path, 8)

    def change(name: str, *pairs: tuple[str, str]) -> None:
        path = root / name
        text = path.read_text()
        for before, after in pairs:
            assert before in text
            text = text.replace(before, after)
        path.write_text(text)

    change(
        f"{cohorts.MIMIC}-metadata.csv",
        ("d0-0,10000010,50000000,PA", "d0-0,10000010,50000000,LATERAL"),
    )
    change(f"{cohorts.MIMIC}-chexpert.csv",
           ("10000011,50000002,,1.0", "10000011,50000002,,-1.0"),
           ("10000012,50000004,1.0,", "10000012,50000004,,"))  # fmt: skip
    change("admissions.csv", ("10000013,3,WHITE", "10000013,3,WHITE\n10000013,99,ASIAN"),
           ("10000014,4,BLACK/AFRICAN", "10000014,4,UNKNOWN"))  # fmt: skip
    change("patients.csv", ("10000015,M,55", "10000015,M,0"))
    (root / "files/p10/p10000016/s50000012/d6-0.jpg").unlink()
    content = (root / "patients.csv").read_bytes()
    (root / "patients.csv").unlink()
    (root / "patients.csv.gz").write_bytes(gzip.compress(content))
    cohort = read("mimic-cxr", root)
    assert cohort.left_out == {
        "view neither AP nor PA": 1,
        "label uncertain (-1)": 1,
        "neither the finding nor no finding": 1,
        "race inconsistent": 2,
        "race none of Asian, Black, White": 2,
        "age missing or 0": 1,
        "no image file": 1,
    }
    assert len(cohort) + sum(cohort.left_out.values()) == 16
    present = read("mimic-cxr", root, uncertain="present")
    assert len(present) == len(cohort) + 1
    change(f"{cohorts.MIMIC}-chexpert.csv", ("10000017,50000014,,1.0", "10000017,50000014,,2.0"))
    with pytest.raises(
        ValueError, match=r"chexpert\.csv, column 'Pleural Effusion', row 16: '2.0'"
    ):
        LAYOUTS["mimic-cxr"](root)
    (root / "patients.csv.gz").unlink()
    with pytest.raises(ValueError, match=r"patients\.csv is missing; expected it, plain or \.gz"):
        LAYOUTS["mimic-cxr"](root)


def test_chexpert(tmp_path: Path) -> None:
    head = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Pleural Effusion"
    name = "CheXpert-v1.0-small/train/patient0000{}/study1/view{}.jpg"
    lines = [
        f"{name.format(1, '1_frontal')},Female,68,Frontal,AP,1.0,",
        f"{name.format(1, '2_lateral')},Female,68,Lateral,,1.0,",
        f"{name.format(2, '1_frontal')},Male,90,Frontal,PA,,1.0",
        f"{name.format(3, '1_frontal')},Unknown,0,Frontal,AP,1.0,",
        f"{name.format(4, '1_frontal')},Male,0,Frontal,AP,1.0,",
        f"{name.format(5, '1_frontal')},Male,50,Frontal,AP,,-1.0",
        f"{name.format(6, '1_frontal')},Male,50,Frontal,AP,1.0,",
    ]
    cohorts.sheet(tmp_path / "train.csv", "\n".join([head, *lines]))
    for line in lines[:6]:
        cohorts.picture(tmp_path / line.partition("/")[2].partition(",")[0], 1)
    cohort = read("chexpert", tmp_path)
    assert column(cohort, "age") == [68, 90]
    assert cohort.subjects == ["patient00001", "patient00002"]
    assert column(cohort, "disease") == ["no finding", "pleural effusion"]
    assert cohort.left_out == {
        "not frontal": 1, "sex missing": 1, "age missing or 0": 1, "label uncertain (-1)": 1,
        "no image file": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="uncertain='ones': expected 'drop', 'present' or"):
        LAYOUTS["chexpert"](tmp_path, uncertain="ones")
    cohorts.sheet(tmp_path / "train.csv", f"{head}\nx/y.jpg,Male,50,Frontal,AP,1.0,")
    with pytest.raises(
        ValueError, match=r"train\.csv, column 'Path', row 2: 'x/y\.jpg' names no p"
    ):
        LAYOUTS["chexpert"](tmp_path)


def test_nih_with_commas_in_its_header(tmp_path: Path) -> None:
    cohorts.sheet(
        tmp_path / "Data_Entry_2017.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
        """
        1_000.png,Effusion|Mass,0,1,058Y,M,PA,2682,2749,0.143,0.143,
        1_001.png,No Finding,1,1,58,M,AP,2682,2749,0.143,0.143,
        2_000.png,No Finding,0,2,414,F,PA,2682,2749,0.143,0.143,
        3_000.png,Mass,0,3,40,F,PA,2682,2749,0.143,0.143,
        4_000.png,No Finding,0,4,006M,F,PA,2682,2749,0.143,0.143,
        5_000.png,No Finding,0,5,50,F,PA,2682,2749,0.143,0.143,""",
    )
    for k in ("1_000", "1_001", "2_000", "3_000", "4_000"):
        cohorts.picture(tmp_path / "images_001" / "images" / f"{k}.png", 1)
    cohort = read("nih", tmp_path)
    assert column(cohort, "age") == [58, 58, 0.5]
    assert column(cohort, "disease") == ["effusion", "no finding", "no finding"]
    assert cohort.left_out == {
        "age not between 0 and 120": 1, "neither the finding nor no finding": 1,
        "no image file": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="no split is published with it"):
        cohort.published("train")
    (tmp_path / "train_val_list.txt").write_text("1_000.png\n4_000.png")
    (tmp_path / "test_list.txt").write_text("1_001.png")
    torn = read("nih", tmp_path)
    assert [torn.published(k) for k in ("train", "test")] == [[0, 2], [1]]


def test_padchest(tmp_path: Path) -> None:
    table = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    head = (
        "ImageID,ImageDir,StudyDate_DICOM,PatientID,PatientBirth,PatientSex_DICOM,Projection,Labels"
    )
    cohorts.sheet(
        tmp_path / table,
        head
        + """
        a.png,0,20140915,p1,1938.0,F,PA,"[' pleural effusion', 'malignancy', nan]"
        b.png,0,20140915,p2,1950.0,M,AP_horizontal,['normal']
        c.png,1,20140915,p3,1950.0,O,PA,['normal']
        d.png,1,20140915,p4,2014.0,M,PA,['normal']
        e.png,1,20140915,p5,1950.0,M,L,['normal']
        f.png,1,20140915,p6,1950.0,M,PA,
        g.png,1,20140915,p7,1950.0,M,PA,['nodule']
        h.png,1,20140915,p8,1950.0,M,PA,['normal']""",
    )
    for name in ("0/a", "0/b", "1/c", "1/d"):
        cohorts.picture(tmp_path / f"{name}.png", 1, deep=True)
    cohort = read("padchest", tmp_path)
    assert column(cohort, "age") == [76, 64]
    assert column(cohort, "view") == ["PA", "AP"]
    assert cohort.left_out == {
        "sex missing": 1, "age missing or 0": 1, "not frontal": 1, "no labels": 1,
        "neither the finding nor normal": 1, "no image file": 1,
    }  # fmt: skip
    deep = cohort.rows({"image": Image(1, 12, 12)}, scans=ScanOptions(0, 4095))
    assert deep["image"].max() > 0.9  # 12 bits in 16
    path = tmp_path / table
    path.write_text(path.read_text().replace("['nodule']", "__import__('os')"))
    with pytest.raises(ValueError, match=r"column 'Labels', row 8: .* is not a list of labels"):
        LAYOUTS["padchest"](tmp_path)


# Brain -------------------------------------------------------------------------------------------


def test_adni_adds_the_months_of_the_visit(tmp_path: Path) -> None:
    root = cohorts.adni(tmp_path, 3)
    cohort = read("adni", root)
    assert column(cohort, "age") == pytest.approx([70.3, 70.8, 71.3, 71.8, 72.3, 72.8])
    rows = cohort.rows(
        cohort.variables | {"image": Image(1, 12, 14, 12)}, scans=ScanOptions(0, 900)
    )
    assert rows["ventricle_volume"].tolist() == pytest.approx([30, 30, 30.9, 30.9, 31.8, 31.8])
    assert rows["diagnosis"].tolist() == [0, 0, 1, 1, 2, 2]
    assert rows["image"].shape == (6, 1, 12, 14, 12)
    table = root / "ADNIMERGE.csv"
    text = table.read_text()
    table.write_text(
        text.replace("m06,2006-03-13,CN", "m06,2006-03-13,NL to MCI")
        .replace("MCI,71.3", "MCI,").replace("Dementia,72.3,Male,2", "Dementia,72.3,Male,-4")
        .replace("m06,2006-03-13,Dementia", "m06,2007-03-13,Dementia")
    )  # fmt: skip
    changed = read("adni", root)
    assert column(changed, "diagnosis") == ["CN", "MCI"]
    assert changed.left_out == {"age missing or 0": 2, "apoe4 missing": 2}
    table.write_text(text.replace(",m06,", ",soon,"))
    with pytest.raises(
        ValueError, match=r"ADNIMERGE\.csv, column 'VISCODE', row 3: 'soon' is not a v"
    ):
        LAYOUTS["adni"](root)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("2006-03-13", "13/03/2006", r"column 'EXAMDATE', row 3: '13/03/2006' is not a date"),
        ("2006-03-13", "2006-02-30", r"column 'EXAMDATE', row 3: '2006-02-30' is not a date"),
        ("1000000,", "-4,", r"column 'WholeBrain', row 2: '-4' is not above 0"),
        ("\n0,", "\n,", r"column 'RID', row 2: '' does not say whom or what the row is about"),
        ("Male,0,", "Male,5,", r"column 'APOE4', row 2: '5' is none of '0', '1', '2', '-4'"),
    ],
)
def test_adni_names_file_column_and_row(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    table = cohorts.adni(tmp_path, 1) / "ADNIMERGE.csv"
    table.write_text(table.read_text().replace(before, after))
    with pytest.raises(ValueError, match=rf"ADNIMERGE\.csv, {message}"):
        LAYOUTS["adni"](tmp_path)


def test_codes_may_be_written_as_numbers_with_a_point(tmp_path: Path) -> None:
    table = cohorts.adni(tmp_path, 2) / "ADNIMERGE.csv"
    table.write_text(table.read_text().replace("ale,0,", "ale,0.0,").replace("ale,1,", "ale,1.0,"))
    assert column(read("adni", tmp_path), "apoe4") == ["0", "0", "1", "1"]


def test_mimic_cxr_counts_images_of_no_split(tmp_path: Path) -> None:
    table = cohorts.mimic_cxr(tmp_path, 2) / f"{cohorts.MIMIC}-split.csv"
    table.write_text(table.read_text().replace("10000010,test", "10000010,", 1))
    assert read("mimic-cxr", tmp_path).left_out == {"in no split": 1}


def test_adni_cuts_each_scan_into_slices_that_are_rows(tmp_path: Path) -> None:
    root = cohorts.adni(tmp_path, 2)
    whole, cut = LAYOUTS["adni"](root), LAYOUTS["adni"](root, slices=[0.25, 0.5, 1])
    assert cut.subjects == [name for name in whole.subjects for _ in range(3)]
    assert column(cut, "slice") == ["0.25", "0.5", "1"] * 4
    axial = ScanOptions(0, 900, plane="axial")
    rows = cut.rows(cut.variables | {"image": Image(1, 14, 12)}, scans=axial)
    assert rows["slice"].tolist() == [0, 1, 2] * 4
    for k, at in enumerate((0.25, 0.5, 1)):
        one = whole.rows({"image": Image(1, 14, 12)}, scans=replace(axial, at=at))
        assert torch.equal(rows["image"][k::3], one["image"][:])
    with pytest.raises(ValueError, match=r"\.nii, cut at 0\.25: say in which plane, such as scans"):
        cut.rows({"image": Image(1, 14, 12)})


@pytest.mark.parametrize("slices", [[0.5], [0.5, 0.5], [0.6, 0.5], [0.5, 1.5]])
def test_slices_rise_from_the_feet_to_the_head(tmp_path: Path, slices: list[float]) -> None:
    with pytest.raises(ValueError, match=r"slices=\[.*expected two rising numbers or more, from"):
        LAYOUTS["adni"](tmp_path, slices=slices)


def test_oasis1(tmp_path: Path) -> None:
    cohorts.sheet(
        tmp_path / "oasis_cross-sectional.csv",
        """ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay
        OAS1_0001_MR1,F,R,74,2,3,29,0,1344,0.743,1.306,N/A
        OAS1_0002_MR1,M,R,20,,,,,1500,0.85,1.1,N/A
        OAS1_0002_MR2,M,R,20,,,,,1500,0.84,1.1,40
        OAS1_0003_MR1,F,R,74,2,3,29,0,1344,0.743,1.306,N/A""",
    )
    for name in ("OAS1_0001_MR1", "OAS1_0002_MR1", "OAS1_0002_MR2"):
        scans.write_nifti(tmp_path / f"disc1/{name}.nii.gz", cohorts.brain(1))
    cohort = read("oasis-1", tmp_path, images="*/{ID}.nii.gz")
    assert cohort.subjects == ["OAS1_0001", "OAS1_0002", "OAS1_0002"]
    rows = cohort.rows()
    assert rows["brain_volume"][0].item() == pytest.approx(0.743 * 1344)
    assert rows["cdr"].isnan().tolist() == [False, True, True]
    assert cohort.left_out == {"no scan": 1}
    table = tmp_path / "oasis_cross-sectional.csv"
    table.write_text(table.read_text().replace("0.743", "743"))
    with pytest.raises(ValueError, match=r"column 'nWBV', row 2: '743' is not a share"):
        LAYOUTS["oasis-1"](tmp_path, images="*/{ID}.nii.gz")


def test_oasis1_counts_what_it_leaves_out(tmp_path: Path) -> None:
    header = "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay"
    table = cohorts.sheet(
        tmp_path / "oasis_cross-sectional.csv",
        f"""{header}
        OAS1_0001_MR1,F,R,0,2,3,29,0,1344,0.743,1.306,N/A
        OAS1_0002_MR1,,R,20,,,,,1500,0.85,1.1,N/A
        OAS1_0003_MR1,M,R,20,,,,,,0.84,1.1,N/A
        OAS1_0004_MR1,F,R,74,2,3,29,0,1344,0.743,1.306,N/A""",
    )
    scans.write_nifti(tmp_path / "disc1/OAS1_0004_MR1.nii.gz", cohorts.brain(1))
    cohort = read("oasis-1", tmp_path, images="*/{ID}.nii.gz")
    assert cohort.subjects == ["OAS1_0004"]
    assert cohort.left_out == {"age missing or 0": 1, "volumes or sex missing": 2}
    table.write_text(f"{header}\nsubject 4,F,R,74,2,3,29,0,1344,0.743,1.306,N/A\n")
    with pytest.raises(ValueError, match=r"column 'ID', row 2: 'subject 4' is not a session"):
        LAYOUTS["oasis-1"](tmp_path)


def test_oasis1_in_analyze_format(tmp_path: Path) -> None:
    import nibabel

    cohorts.sheet(
        tmp_path / "oasis_cross-sectional.csv",
        """ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay
        OAS1_0001_MR1,F,R,74,2,3,29,0,1344,0.743,1.306,N/A""",
    )
    folder = tmp_path / "disc1/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111"
    folder.mkdir(parents=True)
    image = nibabel.AnalyzeImage(cohorts.brain(1), None)
    nibabel.save(image, folder / "OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.img")
    cohort = read("oasis-1", tmp_path)
    rows = cohort.rows({"image": Image(1, 14, 12, fit="crop")}, scans=ScanOptions(plane="axial"))
    middle = torch.from_numpy(cohorts.brain(1)[:, :, 6].T / 900.0)
    assert torch.equal(rows["image"][0, 0].double(), middle)


def test_ixi(tmp_path: Path) -> None:
    (tmp_path / "IXI.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(ValueError, match=r"IXI\.xls: save it as CSV, as .*IXI\.csv"):
        LAYOUTS["ixi"](tmp_path)
    cohorts.sheet(
        tmp_path / "IXI.csv",
        """IXI_ID,"SEX_ID (1=m, 2=f)",HEIGHT,AGE
        2,2,164,35.8
        12,1,175,38.78
        13,1,182,0
        14,2,163,
        15,1,170,50
        15,1,170,50
        16,1,170,50
        16,1,170,51
        18,1,170,50""",
    )
    for name in (
        "002-Guys-0828",
        "012-HH-1211",
        "013-HH-1212",
        "014-HH-1236",
        "015-IOP-1",
        "016-IOP-2",
        "017-IOP-3",
    ):
        scans.write_nifti(tmp_path / "T1" / f"IXI{name}-T1.nii.gz", cohorts.brain(1))
    scans.write_nifti(tmp_path / "T2" / "IXI002-Guys-0828-T2.nii.gz", cohorts.brain(1))
    cohort = read("ixi", tmp_path)
    assert column(cohort, "site") == ["Guys", "HH", "IOP"]
    assert column(cohort, "sex") == ["female", "male", "male"]
    assert cohort.left_out == {
        "the same row again": 1, "several rows with one ID that disagree": 2,
        "age missing or 0": 2, "not in the table, or there twice": 2, "no image file": 1,
    }  # fmt: skip


# What all share ----------------------------------------------------------------------------------


def test_a_sheet_names_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for text, message in (
        ("a,b\n", "has no rows"),
        ("a,a\n1,2\n", "names 'a' twice"),
        ("a,b\n1\n", r"row 2: 1 cells, and the header has 2"),
        ('a,b\n"1,2\n', r"row 2: unexpected end of data"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            Sheet(path)
    path.write_text("\ufeffage,sex\n1,f\ninf,g\n", encoding="utf-8")
    row = Sheet(path).rows[1]
    with pytest.raises(ValueError, match=r"t\.csv, column 'age', row 3: 'inf' is not a number"):
        row.number("age")
    with pytest.raises(ValueError, match=r"no column 'agee'.*did you mean 'age'"):
        row.number("agee")
    (tmp_path / "t.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"t\.csv\.gz cannot be read"):
        Sheet(tmp_path / "t.csv.gz")


def test_a_cohort_refuses_what_it_does_not_have(tmp_path: Path) -> None:
    cohort = read("adni", cohorts.adni(tmp_path, 2))
    with pytest.raises(ValueError, match=r"no variable 'agee'.*did you mean 'age'"):
        cohort.rows({"agee": cohort.variables["age"]})
    with pytest.raises(ValueError, match=r"age: .* outside its support"):
        cohort.rows({"age": Continuous(lower=0, upper=60)})
    with (
        pytest.raises(ValueError, match="no row is left"),
        pytest.warns(UserWarning, match="no scan"),
    ):
        LAYOUTS["adni"](tmp_path, images="nowhere/{PTID}.nii")


def test_subjects_are_never_torn_apart() -> None:
    subjects = [k // 3 for k in range(90)]
    for share in (0.05, 0.2, 0.5):
        train, held = divide(subjects, share, seed=1)
        assert not {subjects[k] for k in train} & {subjects[k] for k in held}
        assert len(held) == pytest.approx(90 * share, abs=3)
        assert torch.equal(torch.cat([train, held]).sort().values, torch.arange(90))
    with pytest.raises(ValueError, match="4 rows of 1 subjects leaves a part"):
        divide([1, 1, 1, 1], 0.5)
    check_apart({"training": [1, 2], "test": [3]})
    message = "subject 2 is in the training rows and in the test rows \\(2 subjects"
    with pytest.raises(ValueError, match=message):
        check_apart({"training": [1, 2, 4], "test": [2, 3, 4]})


def test_every_layout_is_named_in_its_own_file_and_the_registry_alone() -> None:
    package = Path(rung3.__file__).parent
    names = re.compile(r"\b(mimic|chexpert|padchest|adni|oasis|ixi|ukbb|uk biobank|chestx-ray)")
    named = {p.stem for p in package.rglob("*.py") if names.search(p.read_text("utf-8").lower())}
    assert named - {"registry"} == {name.replace("-", "_") for name in LAYOUTS} - {"oasis_1"} | {
        "oasis1"
    }


# What is there twice -----------------------------------------------------------------------------


def test_rows_that_are_there_twice_are_counted_once_each(tmp_path: Path) -> None:
    table = cohorts.sheet(
        tmp_path / "oasis_cross-sectional.csv",
        """ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay
        OAS1_0001_MR1,F,R,20,,,,,1344,0.743,1.306,N/A
        OAS1_0001_MR1,F,R,20,,,,,1344,0.743,1.306,N/A
        OAS1_0002_MR1,M,R,74,2,3,29,0,1500,0.85,1.1,N/A
        OAS1_0002_MR1,M,R,74,2,3,29,0,1500,0.85,1.1,N/A
        OAS1_0002_MR1,M,R,75,2,3,29,0,1500,0.85,1.1,N/A""",
    )
    for name in ("OAS1_0001_MR1", "OAS1_0002_MR1"):
        scans.write_nifti(tmp_path / f"disc1/{name}.nii.gz", cohorts.brain(1))
    cohort = read("oasis-1", tmp_path, images="*/{ID}.nii.gz")
    assert cohort.subjects == ["OAS1_0001"]
    assert cohort.left_out == {
        "the same row again": 1, "several rows with one ID that disagree": 3,
    }  # fmt: skip
    with pytest.raises(ValueError, match=rf"{table.name}: no column 'Session'"):
        LAYOUTS["oasis-1"](tmp_path, images="*/{Session}.nii.gz")


@pytest.mark.parametrize(
    ("name", "line"),
    [("patients.csv", "10000010,M,99,2110"), (f"{cohorts.MIMIC}-split.csv", "d0-0,9,9,test")],
)
def test_mimic_cxr_names_rows_with_one_id_that_differ(tmp_path: Path, name: str, line: str) -> None:
    table = cohorts.mimic_cxr(tmp_path, 2) / name
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1]]))
    assert len(read("mimic-cxr", tmp_path)) == 4
    table.write_text("\n".join([*lines, line + "," * (lines[0].count(",") - line.count(","))]))
    with pytest.raises(ValueError, match=rf"{re.escape(name)}, column .* is also in row 2, with"):
        LAYOUTS["mimic-cxr"](tmp_path)


def test_ukbb_numbers_of_participants_are_spelt_as_their_fields(tmp_path: Path) -> None:
    table = cohorts.ukbb(tmp_path, 2) / "participants.csv"
    text = table.read_text()
    for spelling in ("f.eid", "f_eid"):
        table.write_text(text.replace("eid", spelling, 1))
        assert len(read("ukbb", tmp_path)) == 4
