"""Answers in bulk: test rows and files, as a table and pictures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command import call
from PIL import Image as Pictures

from rung3.study.bulk import answer_rows, choose_rows
from rung3.study.folder import RunFolder


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "answers.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_test_rows_are_written_as_a_table_and_pictures(run, tmp_path):
    result = call("counterfactual", run[0], "--rows", "2:5", "--do", "thickness=thickness+2",
                  "--do", "digit=3", "--out", tmp_path)  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = lines(tmp_path)
    assert [line["row"] for line in rows] == ["row 2", "row 3", "row 4"]
    for line in rows:
        before, after = (float(line[f"thickness, {k}"]) for k in ("factual", "counterfactual"))
        assert after == pytest.approx(before + 2, abs=1e-4)
        assert line["digit, counterfactual"] == "3"
    folder = RunFolder(run[0])
    model, test = folder.model(), folder.test()[0][2:5]
    do = {"thickness": test["thickness"] + 2, "digit": 3}
    image = model.counterfactual(test, do, seed=0)["image"][1]
    with Pictures.open(tmp_path / rows[1]["image, counterfactual"]) as picture:
        stored = torch.from_numpy(np.array(picture)) / 255
    assert torch.allclose(stored, image[0].clamp(0, 1), atol=1 / 255)
    assert (tmp_path / rows[1]["image, truth"]).is_file()


def test_an_image_of_ones_own_is_read_and_answered(run, tmp_path):
    test, _ = RunFolder(run[0]).test()
    levels = (test["image"][7, 0] * 255).round().byte().numpy()
    Pictures.fromarray(levels).save(tmp_path / "mine.png")
    result = call("counterfactual", run[0], "--rows", tmp_path / "mine.png", "--do", "digit=3",
                  "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "thickness: missing in 1 of 1 rows, read off the image" in result.output
    (line,) = lines(tmp_path / "out")
    assert line["row"] == "mine"
    assert set(line["read off the image"].split()) == {"digit", "thickness", "intensity"}
    read = RunFolder(run[0]).model().readers["image", "thickness"].read(test["image"][7][None])
    assert float(line["thickness, factual"]) == pytest.approx(max(0.0, float(read)), abs=1e-4)


def test_a_table_may_lack_what_the_image_tells(run, tmp_path):
    folder = RunFolder(run[0])
    model, (test, _) = folder.model(), folder.test()
    Pictures.fromarray((test["image"][0, 0] * 255).round().byte().numpy()).save(tmp_path / "a.png")
    (tmp_path / "new.csv").write_text("image,digit,thickness\na.png,4,2.5\na.png,,3\n")
    chosen = choose_rows(folder, model, str(tmp_path / "new.csv"))
    assert chosen.rows["digit"][0] == 4
    assert chosen.rows["thickness"].tolist() == [2.5, 3.0]
    assert {name: mask.tolist() for name, mask in chosen.read.items()} == {
        "digit": [False, True], "intensity": [True, True],
    }  # fmt: skip
    answer_rows(model, chosen, ["thickness=4"], tmp_path / "out", particles=2)
    assert float(lines(tmp_path / "out")[0]["intensity, standard deviation"]) >= 0


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("0:99", r"--rows '0:99': \[40, 41, 42\]; the test rows are 0 to 39"),
        ("first", "expected all, a range such as 0:100"),
        ("5:5", "none; the test rows are 0 to 39"),
        ("nowhere.csv", "nowhere.csv is missing"),
        ("nowhere.png", "image file nowhere.png is missing"),
    ],
)
def test_rows_that_are_not_there_are_refused(run, text, match):
    folder = RunFolder(run[0])
    with pytest.raises(ValueError, match=match):
        choose_rows(folder, folder.model(), text)


def test_a_gap_that_nothing_tells_names_row_and_cure(run, tmp_path):
    folder = RunFolder(run[0])
    model = folder.model()
    model.readers = {}
    (tmp_path / "gap.csv").write_text("digit,thickness,intensity\n4,2.5,100\n")
    chosen = choose_rows(folder, model, str(tmp_path / "gap.csv"))
    with pytest.raises(ValueError, match=r"row 0: image is missing, and no predictor"):
        answer_rows(model, chosen, ["digit=1"], tmp_path)


def test_generate_writes_all_test_rows_as_shards_and_goes_on(run, tmp_path):
    words = ("generate", run[0], "--do", "thickness = thickness+2", "--rows", "all",
             "--shard-rows", 16, "--out", tmp_path)  # fmt: skip
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert "40 rows: do(thickness = thickness+2), shards: 3" in result.output
    table = pd.read_parquet(tmp_path)
    test, _ = RunFolder(run[0]).test()
    assert table["row"].tolist() == list(range(40))
    assert table["thickness"].tolist() == pytest.approx((test["thickness"] + 2).tolist(), abs=1e-4)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    next(iter(times)).unlink()
    assert call(*words).exit_code == 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    assert after.keys() == times.keys()
    assert sum(after[path] != times[path] for path in times) == 1
    other = call(*words[:3], "thickness=1", *words[4:])
    assert other.exit_code == 2
    assert "holds answers to another question" in other.output


def test_generate_reads_what_an_image_tells(run, tmp_path):
    test, _ = RunFolder(run[0]).test()
    (tmp_path / "mine").mkdir()
    for k in (0, 1):
        levels = (test["image"][k, 0] * 255).round().byte().numpy()
        Pictures.fromarray(levels).save(tmp_path / "mine" / f"{k}.png")
    result = call("generate", run[0], "--do", "digit=3", "--rows", tmp_path / "mine",
                  "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(tmp_path / "out")
    assert [set(names) for names in table["read"]] == [{"digit", "thickness", "intensity"}] * 2
    assert table["digit"].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("do", "match"),
    [("thickness", "expected name=value"), ("thickness=1", "is set twice"), ("a=1", "unknown")],
)
def test_generate_refuses_what_it_cannot_read(run, tmp_path, do, match):
    result = call("generate", run[0], "--do", "thickness=2", "--do", do, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert match in result.output
