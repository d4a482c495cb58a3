"""Studies of scans and of published medical data sets: parts by subject, counts, dry runs."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pytest
import torch
import yaml
from command import call

from rung3 import Image, Rows
from rung3.data import column
from rung3.data.readers.scans import open_scan
from rung3.evaluation.report.page import summary
from rung3.study.check import Check
from rung3.study.drawn_sources import DigitsData
from rung3.study.folder import RunFolder
from rung3.study.medical_source import MedicalData
from rung3.study.preflight import preflight
from rung3.study.study import Study
from rung3.training.fitting import calibrate

pytest.importorskip("nibabel")
import scans

STUDIES = Path(__file__).resolve().parents[2] / "studies"

MINIATURES: dict[str, Callable[[Path], Path]] = {
    "ukbb": cohorts.ukbb, "mimic-cxr": cohorts.mimic_cxr, "adni": cohorts.adni,
}  # fmt: skip


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNG3_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.mark.parametrize("name", MINIATURES)
def test_the_studies_of_real_data_read_a_miniature(name: str, data_folder: Path) -> None:
    MINIATURES[name](data_folder / name)
    study = Study.load(STUDIES / f"{name}.yaml", ["evaluation.n=1"])
    with pytest.warns(UserWarning, match="are not 192x192"):
        splits = study.splits()
    assert splits.train["image"].shape[1:] == (1, 192, 192)
    assert min(splits.train.n, splits.validation.n, splits.test.n) >= 1
    model = study.model()
    assert preflight(study, model, splits)
    if name != "adni":  # the published hierarchy
        assert len(model.mechanisms["image"].stages or ()) == 7  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", MINIATURES)
def test_a_dry_run_of_the_studies_of_real_data(name: str, data_folder: Path) -> None:
    MINIATURES[name](data_folder / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        quick = ("--set", "evaluation.n=1", "--set", "training.mechanisms.image.batch_size=1")
        done = call("check", STUDIES / f"{name}.yaml", *quick)
    assert done.exit_code == 0, done.output
    assert "HVAE" in done.output


def tiny(tmp_path: Path, **data: Any) -> Study:
    """A study of a table of scans, small enough to run."""
    study = {
        "name": "tiny", "graph": "age -> scan", "data": data,
        "variables": {
            "age": {"kind": "Continuous", "unit": "years", "lower": 0},
            "scan": {"kind": "Image", "channels": 1, "height": 14, "width": 12},
        },
        "mechanisms": {"scan": {"kind": "VAE", "latent": 2, "width": 4, "depth": 1}},
        "training": {"epochs": 1}, "evaluation": {"n": 2, "bootstrap": 0},
    }  # fmt: skip
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return Study.load(path)


def folder_of_scans(tmp_path: Path, n: int = 30, each: int = 3) -> Path:
    """A folder with several scans of each subject, and the table that names them."""
    lines = ["id,age,scan"]
    for k in range(n):
        scans.write_nifti(tmp_path / "scans" / f"{k}.nii.gz", cohorts.brain(k))
        lines.append(f"s{k // each},{50 + k},scans/{k}.nii.gz")
    return cohorts.sheet(tmp_path / "subjects.csv", "\n".join(lines))


CUT = {"scan": {"plane": "axial", "black": 0, "white": 900}}


def test_a_study_points_at_scans_and_keeps_subjects_together(tmp_path: Path) -> None:
    folder_of_scans(tmp_path)
    study = tiny(tmp_path, kind="table", path="subjects.csv", scans=CUT, subject="id", test=0.2,
                 validation=0.25)  # fmt: skip
    splits = study.splits()
    people = [{int(age - 50) // 3 for age in part["age"]} for part in [*splits][:3]]
    assert [len(part) for part in people] == [6, 2, 2]
    assert len(set.union(*people)) == 10
    assert study.data.train_rows(study.declared(), study.seed).n == 24
    row = study.data.test_rows(study.declared(), study.seed, at=1)
    assert torch.equal(row["scan"], splits.test["scan"][1])
    assert set(splits.train["scan"].unique().tolist()) == {0.0, 1.0}


def test_a_subject_in_two_tables_is_refused(tmp_path: Path) -> None:
    table = folder_of_scans(tmp_path, 6, each=2)
    lines = table.read_text().splitlines()
    cohorts.sheet(tmp_path / "test.csv", "\n".join([lines[0], lines[3]]))
    settings = {"kind": "table", "path": "subjects.csv", "scans": CUT, "test": "test.csv"}
    message = r"data: subject 's1' is in the training rows and in the test rows \(1 subjects"
    with pytest.raises(ValueError, match=message):
        tiny(tmp_path, **settings, subject="id").splits()
    assert tiny(tmp_path, **settings, validation=0.3).splits().test.n == 1
    cohorts.sheet(tmp_path / "test.csv", "id,age,scan\n7.0,70,scans/0.nii.gz\n8,70,scans/0.nii.gz")
    assert column(tmp_path / "test.csv", "id") == ["7", "8"]
    cohorts.sheet(tmp_path / "test.csv", "id,age,scan\ns1 ,70,scans/0.nii.gz")
    with pytest.raises(ValueError, match=message):  # a blank makes nobody another person
        tiny(tmp_path, **settings, subject="id").splits()
    with pytest.raises(ValueError, match="no column 'person'"):
        tiny(tmp_path, **settings, subject="person").splits()
    cohorts.sheet(tmp_path / "test.csv", f"{lines[0]}\n,70,scans/0.nii.gz")
    with pytest.raises(ValueError, match="column 'id' is empty in row 0; every row needs"):
        tiny(tmp_path, **settings, subject="id").splits()


def test_a_scan_of_two_subjects_is_refused(tmp_path: Path) -> None:
    table = folder_of_scans(tmp_path, 8, each=2)
    settings = {"kind": "table", "path": "subjects.csv", "scans": CUT, "validation": 0.3}
    whole = table.read_text()
    cohorts.sheet(table, f"{whole}\ns9,70,scans/../scans/1.nii.gz")
    message = r"data: scan: .*1\.nii\.gz is of subject 's0' in row 1 of subjects\.csv and of "
    with pytest.raises(
        ValueError, match=message + r"subject 's9' in row 8 of subjects\.csv; expected one"
    ):
        tiny(tmp_path, **settings, subject="id").splits()
    cohorts.sheet(table, f"{whole}\ns0,51,scans/1.nii.gz")  # the same subject's twice is no leak
    tiny(tmp_path, **settings, subject="id").splits()
    cohorts.sheet(table, whole)
    cohorts.sheet(tmp_path / "test.csv", "id,age,scan\ns9,70,scans/1.nii.gz")
    with pytest.raises(ValueError, match=message + r"subject 's9' in row 0 of test\.csv"):
        tiny(tmp_path, **settings, subject="id", test="test.csv").splits()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scans": {"scan": {"plane": "oblique"}}}, "plane.*'axial', 'coronal' or 'sagittal'"),
        ({"scans": {"scan": {"plan": "axial"}}}, "unknown key 'plan'; did you mean 'plane'"),
        ({"scans": {"scan": {"black": 3}}}, "expected two different numbers, or neither"),
        ({"scans": {"age": {}}}, "data.scans: age is not an image variable"),
    ],
)
def test_wrong_options_of_scans_are_named(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    folder_of_scans(tmp_path, 2)
    with pytest.raises(ValueError, match=message):
        tiny(tmp_path, kind="table", path="subjects.csv", **settings).splits()


def medical(tmp_path: Path, name: str, **data: Any) -> Study:
    study = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())
    study["data"] |= data
    size = {"height": 14} if name == "adni" else {"height": 12}  # as the miniature has
    study["variables"]["image"] |= size | {"width": 12}
    study["mechanisms"]["image"] = {"kind": "VAE", "latent": 2, "width": 4, "depth": 1}
    study["training"] = {"epochs": 1}
    study["evaluation"] = {"n": 1, "bootstrap": 0, "interventions": ["age"]}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return Study.load(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_data_set_is_prepared_on_disk_with_its_subjects_and_splits(
    tmp_path: Path, data_folder: Path
) -> None:
    cohorts.mimic_cxr(data_folder / "mimic-cxr")
    study = medical(tmp_path, "mimic-cxr")
    assert isinstance(study.data, MedicalData)
    for test in ("published", 0.3):
        data = study.data.model_copy(update={"test": test})
        source = data.model_copy(update={"prepared": tmp_path / "prepared"})
        held, seed = data.splits(study.declared(), 1), 1
        if test == "published":
            source.listings(study.declared())[0].prepare(progress=False)
        else:
            shutil.rmtree(data_folder)  # what is prepared is enough
        found = source.splits(study.declared(), seed)
        for part in ("train", "validation", "test"):
            one, other = getattr(held, part), getattr(found, part)
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)
        assert found.left_out == held.left_out
        assert found.prepared


def test_what_a_reader_leaves_out_is_in_the_record(tmp_path: Path, data_folder: Path) -> None:
    root = cohorts.adni(data_folder / "adni")
    table = root / "ADNIMERGE.csv"
    table.write_text(table.read_text().replace("MCI,71.3", "MCI,0"))
    study = medical(tmp_path, "adni")
    with pytest.warns(UserWarning, match=r"rows left out: 2 \(age missing or 0; first: 011_S_0001"):
        splits = study.splits()
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.remember(splits)
    noted = json.loads(run.data_path.read_text())
    assert noted["rows left out"] == {"age missing or 0": 2}
    model = study.model()
    none = dict.fromkeys(model.variables, 0)
    dry = Check(model, splits, [], none, dict.fromkeys(none, 0.0), {}, [], [])
    _, columns, lines = next(table for table in dry.tables() if table[0] == "rows")
    assert columns[-1] == "left out"
    assert lines[0][-1] == "2: age missing or 0"
    settings = {"rows": 1, "rows left out for missing values": 0, "resamples": 0, "world": None}
    metrics = {"settings": settings, "speed": {"per second": None}}
    of_run = metrics | {"run": {"rows left out": noted["rows left out"]}}
    assert summary(metrics) == "1 test rows"
    assert summary(of_run) == "1 test rows · 2 rows of the data left out: age missing or 0"
    with_gap = metrics | {"run": {"training rows with a gap": {"age": 1}}}
    assert summary(with_gap) == "1 test rows · 1 training row without age"


def test_a_published_split_that_tears_a_patient_apart_is_refused(
    tmp_path: Path, data_folder: Path
) -> None:
    root = cohorts.mimic_cxr(data_folder / "mimic-cxr")
    study = medical(tmp_path, "mimic-cxr")
    assert study.data.train_rows(study.declared(), 0).n == 20
    splits = root / f"{cohorts.MIMIC}-split.csv"
    splits.write_text(
        splits.read_text().replace("d0-1,50000001,10000010,train", "d0-1,50000001,10000010,test")
    )
    message = r"data: subject '10000010' is in the training rows and in the test rows"
    with pytest.raises(ValueError, match=message):
        study.splits()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "mimik"}, "unknown layout 'mimik'; .*allowed: adni, chexpert"),
        ({"options": {"findings": "x"}}, "unknown option of mimic-cxr 'findings'; did you mean"),
        ({"options": {"labeller": "us"}}, "mimic-cxr-2.0.0-us.csv is missing"),
        ({"test": 1.5}, "data.test"),
    ],
)
def test_wrong_options_of_a_layout_are_named(
    tmp_path: Path, data_folder: Path, settings: dict[str, Any], message: str
) -> None:
    cohorts.mimic_cxr(data_folder / "mimic-cxr", 4)
    with pytest.raises(ValueError, match=message):
        medical(tmp_path, "mimic-cxr", **settings).splits()


def _header(file: Path) -> Any:
    import nibabel

    return nibabel.load(file).header


def _array(file: Path) -> Any:
    import nibabel

    opened: Any = nibabel.load(file)
    return np.asanyarray(opened.dataobj)


def test_the_counterfactual_of_a_test_row_is_written_like_its_own_scan(tmp_path: Path) -> None:
    folder_of_scans(tmp_path)
    study = tiny(tmp_path, kind="table", path="subjects.csv", scans=CUT, subject="id", test=0.2)
    rows = study.data.test_rows(study.declared(), study.seed)
    ages = [int(age) for age in rows["age"]]
    files = [study.data.test_scan("scan", study.seed, k)[0] for k in range(rows.n)]
    assert [file.name for file in files] == [f"{age - 50}.nii.gz" for age in ages]
    run = RunFolder(tmp_path / "run")
    run.claim(study)
    white = Rows({"age": rows["age"][0], "scan": torch.ones(1, 14, 12)}, batched=False)
    out = run.write_scan(tmp_path / "out.nii.gz", 0, rows[0], white, "do(age=60)")
    assert _header(out)["descrip"].item() == b"rung3: do(age=60)"
    written, before = (_array(file) for file in (out, files[0]))
    changed = (written != before).any((0, 1))
    assert changed.sum() == 1  # the slice that was cut
    assert (written[:, :, changed] == 900).all()
    with pytest.raises(ValueError, match="the test rows are 0 to"):
        study.data.test_scan("scan", study.seed, 99)


def test_the_command_writes_a_scan(tmp_path: Path) -> None:
    folder_of_scans(tmp_path, 10)
    study = tiny(tmp_path, kind="table", path="subjects.csv", scans=CUT, test=0.2)
    run, out = RunFolder(tmp_path / "run"), tmp_path / "out.nii.gz"
    run.claim(study)
    model = study.model()
    rows = study.data.train_rows(study.declared(), study.seed)
    calibrate(model, model.mechanisms, rows, 0)
    model.save(run.model_path)
    words = ["counterfactual", run.path, "--do", "age=70", "--out", tmp_path / "a.png"]
    for more in ([], ["--particles", 2]):
        done = call(*words, *more, "--scan", out)
        assert done.exit_code == 0, done.output
        assert _header(out)["descrip"].item() == b"rung3: do(age=70)"
        out.unlink()
    refused = call(*words, "--scan", tmp_path / "out.dcm")
    assert refused.exit_code != 0
    assert "expected a name like that of" in refused.output


def test_the_scan_of_a_published_data_set_is_known_too(tmp_path: Path, data_folder: Path) -> None:
    cohorts.adni(data_folder / "adni")
    study = medical(tmp_path, "adni")
    rows = study.data.test_rows(study.declared(), study.seed)
    path, options = study.data.test_scan("image", study.seed, 1)
    assert options.plane == "axial"
    image = study.declared()["image"]
    assert isinstance(image, Image)
    assert torch.equal(open_scan(path, options).value(image)[0], rows["image"][1])
    with pytest.raises(ValueError, match="image: its rows are not read from scans"):
        DigitsData(kind="digits").test_scan("image", 0, 0)
