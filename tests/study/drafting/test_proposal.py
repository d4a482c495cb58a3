"""First studies for tables and folders, which pass `check` as they are written."""

from __future__ import annotations

import numpy as np
import pytest
import scans
import yaml
from command import call
from flowers import GRAPH, write_flowers
from PIL import Image as Pictures

from rung3 import Image
from rung3.evaluation.verdict import LEAST_STEPS_IMAGE
from rung3.study.drafting.pictures import look_at
from rung3.study.drafting.sizes import LARGE, SMALL, side_that_fits, size_picture
from rung3.study.drafting.source import find_rows
from rung3.study.study import Study


@pytest.fixture
def flowers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_flowers(tmp_path / "flowers")


def test_a_folder_with_labels_gives_a_study_that_passes_check_unedited(flowers, tmp_path):
    words = ["init", flowers / "pictures", flowers / "labels.csv", "--name", "flowers"]
    result = call(*words, "--graph", GRAPH, "--minutes", 0.5)
    assert result.exit_code == 0, result.output
    for seen in ("numbers the rows", "12x12 (40)", "colour, 8 bits", "names the rows"):
        assert seen in result.output
    assert "placeholder" not in result.output
    settings = yaml.safe_load((tmp_path / "flowers.yaml").read_text())
    assert settings["variables"] == {
        "file": {"kind": "Image", "channels": 3, "height": 12, "width": 12},
        "colour": {"kind": "Binary", "labels": ["blue", "red"]},
        "radius_px": {"kind": "Continuous", "unit": "px", "lower": 0, "missing": True},
    }
    assert settings["evaluation"]["interventions"] == ["colour", "radius_px"]
    text = (tmp_path / "flowers.yaml").read_text()
    assert "# left out: id" in text
    checked = call("check", "flowers.yaml")
    assert checked.exit_code == 0, checked.output
    assert "warning" not in checked.output
    repeated = call(*words)
    assert repeated.exit_code == 2
    assert "flowers.yaml is there" in repeated.output


def test_without_a_graph_every_column_is_a_cause_and_it_says_so(flowers, tmp_path):
    result = call("init", flowers / "pictures", flowers / "labels.csv", "--out", "f.yaml")
    assert result.exit_code == 0, result.output
    assert "the graph is a placeholder ({colour radius_px} -> file)" in result.output
    assert "THE GRAPH IS YOURS TO DRAW" in (tmp_path / "f.yaml").read_text()
    assert Study.load(tmp_path / "f.yaml").graph == GRAPH


def test_subfolders_are_labels_where_there_is_no_table(flowers, tmp_path):
    (flowers / "labels.csv").unlink()
    for k, file in enumerate(sorted((flowers / "pictures").iterdir())):
        target = flowers / ("rose" if k % 2 else "daisy")
        target.mkdir(exist_ok=True)
        file.rename(target / file.name)
    result = call("init", flowers, "--graph", "folder -> image")
    assert result.exit_code == 0, result.output
    study = Study.load(tmp_path / "flowers.yaml")
    assert study.variables["folder"]["labels"] == ["daisy", "rose"]
    assert study.splits().train.n + study.splits().test.n <= 40


@pytest.fixture
def beds(flowers):
    """The flowers in four folders, by month and colour, with two labels."""
    lines = ["file,sick,dyed"]
    for k, file in enumerate(sorted((flowers / "pictures").iterdir())):
        colour, month = ("red", "blue")[k % 2], ("may", "june")[k // 2 % 2]
        target = flowers / month / colour / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
        lines.append(f"{month}/{colour}/{file.name},{k // 3 % 2},{colour}")
    (flowers / "pictures").rmdir()
    (flowers / "labels.csv").write_text("\n".join(lines) + "\n")
    return flowers


def test_subfolders_beside_a_table_are_labels_where_they_tell_more(beds, tmp_path):
    result = call("init", beds, "--graph", "{sick dyed folder} -> file")
    assert result.exit_code == 0, result.output
    assert "names of subfolders are column 'folder': 2 different" in result.output
    assert "names of subfolders are left out: 'dyed' says the same" in result.output
    study = Study.load(tmp_path / "flowers.yaml")
    assert study.variables["folder"] == {"kind": "Binary", "labels": ["june", "may"]}
    assert study.splits().test["folder"].unique().tolist() == [0, 1]


def test_every_level_of_subfolders_is_a_label_where_there_is_no_table(beds, tmp_path):
    (beds / "labels.csv").unlink()
    result = call("init", beds)
    assert "labels are names of subfolders: folder (2 names), folder_2 (2 names)" in result.output
    assert set(Study.load(tmp_path / "flowers.yaml").variables) == {"image", "folder", "folder_2"}
    loose = next(beds.rglob("*.png"))
    loose.rename(beds / loose.name)
    assert "1 of them lie in no subfolder" in call("init", beds, "--overwrite").output


def test_a_name_that_several_images_have_is_refused(beds):
    (beds / "may" / "red" / "twin.png").write_bytes(next(beds.rglob("*.png")).read_bytes())
    (beds / "june" / "red" / "twin.png").write_bytes(next(beds.rglob("*.png")).read_bytes())
    names = "".join(f"{file.name},1\n" for file in sorted(beds.rglob("*.png")))
    (beds / "labels.csv").write_text(f"file,sick\n{names}")
    result = call("init", beds)
    assert result.exit_code == 2
    assert "'twin.png' names 2 images" in result.output
    assert "june/red/twin.png and may/red/twin.png; write the subfolder" in result.output


def test_a_table_without_images_passes_check_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    age, smokes = draw.integers(20, 80, 60), draw.integers(0, 2, 60)
    lines = [
        f"{a},{'yes' if s else 'no'},{80 + a / 2 + 9 * s:.1f}"
        for a, s in zip(age, smokes, strict=True)
    ]
    (tmp_path / "p.csv").write_text("\n".join(["age,smokes,pressure_mmHg", *lines]))
    result = call("init", "p.csv", "--graph", "age -> smokes; {age smokes} -> pressure_mmHg")
    assert result.exit_code == 0, result.output
    assert Study.load("p.yaml").variables["pressure_mmHg"]["unit"] == "mmHg"
    checked = call("check", "p.yaml")
    assert checked.exit_code == 0, checked.output
    assert "warning" not in checked.output


def test_rows_held_out_end_a_training_where_there_are_enough_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for rows, patience in ((100, None), (400, 40)):
        lines = [f"{a:.2f},{b:.2f}" for a, b in draw.normal(size=(rows, 2))]
        (tmp_path / "p.csv").write_text("\n".join(["a,b", *lines]))
        assert call("init", "p.csv", "--graph", "a -> b", "--overwrite").exit_code == 0
        assert Study.load("p.yaml").training.patience == patience


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["nowhere"], "nowhere is missing"),
        (["flowers/labels.csv", "--graph", "hue -> file"], "unknown variable 'hue'"),
        (["flowers/labels.csv", "--graph", "id -> colour"], "id was left out: it numbers the rows"),
        (["flowers/pictures"], "says nothing of them; give a table"),
        (["flowers/pictures", "other.csv"], "no column names the images"),
    ],
)
def test_what_cannot_be_proposed_says_why(flowers, tmp_path, words, match):
    (tmp_path / "other.csv").write_text("a,b\n" + "1,2\n" * 30)
    result = call("init", *words)
    assert result.exit_code == 2
    assert match in result.output


def test_pictures_are_read_at_a_size_that_fits_all(tmp_path):
    def write(name, shape, level=200):
        pixels = np.full(shape, level, np.uint8)
        pixels[0, 0] = 0 if len(shape) == 2 else (0, 9, 90)
        Pictures.fromarray(pixels).save(tmp_path / name)
        return tmp_path / name

    grey = [write("a.png", (20, 10)), write("b.png", (40, 20))]
    assert look_at("x", grey).fields == {"kind": "Image", "channels": 1, "height": 20, "width": 10}
    large = [write("c.png", (256, 128, 3))]
    assert look_at("x", large).fields == {"kind": "Image", "channels": 3, "height": 64, "width": 32}
    mixed = look_at("x", [*grey, *large, write("d.png", (30, 40))])
    assert (mixed.fields["fit"], mixed.fields["channels"]) == ("crop", 3)
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5] = 255
    Pictures.fromarray(mask).save(tmp_path / "m.png")
    assert look_at("x", [tmp_path / "m.png"]).fields["bits"] == 1
    deep = np.full((8, 8), 60_000, np.uint16)
    Pictures.fromarray(deep).save(tmp_path / "e.png")
    assert look_at("x", [tmp_path / "e.png"]).fields["bits"] == 16
    with pytest.raises(ValueError, match=r"none\.png is missing"):
        look_at("x", [tmp_path / "none.png"])


def test_the_training_fits_the_minutes_but_is_never_too_short():
    image = Image(1, 12, 12)
    short, long = (size_picture(image, 200, minutes) for minutes in (0.001, 6000.0))
    assert LEAST_STEPS_IMAGE < SMALL.least <= short.steps < SMALL.least + 10
    assert SMALL.most <= long.steps < SMALL.most + 10
    assert (short.network, size_picture(image, 5_000, 1.0).network) == (SMALL, LARGE)


def test_pictures_are_made_smaller_where_the_machine_is_too_slow_for_them():
    image = Image(1, 96, 48)
    assert side_that_fits(image, 200, 1e-6) == 48
    assert side_that_fits(Image(1, 40, 40), 200, 1e-6) is None  # no less than 32
    assert side_that_fits(image, 200, 1e6) is None


def test_scans_are_proposed_by_the_middle_slice_and_split_by_subject(tmp_path, monkeypatch):
    pytest.importorskip("nibabel")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = ["patient_id,age,scan"]
    for k in range(20):
        volume = rng.integers(0, 900, (8, 6, 12)).astype(np.int16)
        scans.write_nifti(tmp_path / f"{k}.nii.gz", volume)
        lines.append(f"p{k // 2},{50 + k**1.1:.1f},{k}.nii.gz")
    (tmp_path / "people.csv").write_text("\n".join(lines))
    result = call("init", "people.csv", "--graph", "age -> scan", "--minutes", 0.5)
    assert result.exit_code == 0, result.output
    settings = yaml.safe_load((tmp_path / "people.yaml").read_text())
    assert settings["data"]["scans"] == {"scan": {"plane": "axial", "at": 0.5}}
    assert settings["data"]["subject"] == "patient_id"
    assert "patient_id" not in settings["variables"]
    scan = settings["variables"]["scan"]
    assert (scan["channels"], scan["height"], scan["width"]) == (1, 6, 8)


def test_a_folder_of_scans_is_joined_with_its_table(tmp_path):
    pytest.importorskip("pydicom")
    lines = ["scan,dose_mg"]
    for k in range(3):
        slices = np.full((2, 4, 4), k, dtype=np.uint16)
        scans.write_series(tmp_path / "ct" / f"s{k}", slices, [0, 1])
        scans.write_dicom(tmp_path / "ct" / f"IM{k}", slices[0], SeriesInstanceUID=f"9.{k}")
        lines.append(f"s{k},{k}.5")
    labels = tmp_path / "doses.csv"
    labels.write_text("\n".join(lines))
    rows = find_rows(tmp_path / "ct", labels, tmp_path / "rows.csv")
    assert rows.frame["scan"].tolist() == ["ct/s0", "ct/s1", "ct/s2"]  # a series is its folder
    labels.write_text("\n".join(["file,dose_mg", "IM0,1.5", "IM2,2.5"]))
    rows = find_rows(tmp_path / "ct", labels, tmp_path / "rows.csv")
    assert rows.frame["file"].tolist() == ["ct/IM0", "ct/IM2"]
    assert "4 of 6 images have no row, and are left out" in rows.notes
