"""Studies whose images are prepared on disk: the same rows, and files that may go."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command import call
from PIL import Image as Pictures

from rung3.data.stored import Held, Stored
from rung3.explorer.runs import Opened
from rung3.study import listings
from rung3.study.folder import RunFolder
from rung3.study.preparing import prepare_study
from rung3.study.row_source import Splits
from rung3.study.run import run_study
from rung3.study.study import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    draw, lines = np.random.default_rng(0), ["age,file,who"]
    (tmp_path / "data").mkdir()
    for k in range(40):
        pixels = draw.integers(0, 256, (8, 8)).astype("u1")
        Pictures.fromarray(pixels).save(tmp_path / "data" / f"{k}.png")
        lines.append(f"{20 + k},{k}.png,{k // 2}")
    (tmp_path / "data" / "rows.csv").write_text("\n".join(lines))
    values: dict[str, Any] = {
        "name": "scans",
        "data": {"kind": "table", "path": "data/rows.csv", "columns": {"scan": "file"},
                 "subject": "who", "test": 0.25, "prepared": "prepared"},
        "graph": "age -> scan",
        "variables": {"scan": {"kind": "Image", "channels": 1, "height": 8, "width": 8}},
        "mechanisms": {"scan": {"kind": "VAE", "latent": 2, "width": 4, "depth": 1}},
        "training": {"epochs": 1},
        "evaluation": {"n": 2, "bootstrap": 0, "oracles": {"epochs": 1}},
    }  # fmt: skip
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return Study.load(path)


def in_memory(study: Study) -> Study:
    data = study.data.model_copy(update={"prepared": None})
    return study.model_copy(update={"data": data})


def alike(one: Splits, other: Splits) -> bool:
    return all(
        torch.equal(getattr(one, part)[name], getattr(other, part)[name])
        for part in ("train", "validation", "test")
        for name in ("age", "scan")
    )


def test_prepared_rows_are_those_of_the_files(study: Study) -> None:
    held = in_memory(study).splits()
    (folder,) = prepare_study(study, progress=False)
    assert folder.parent.name == "prepared"
    heard: list[str] = []
    found = study.splits(heard.append)
    assert alike(held, found)
    assert isinstance(found.train["scan"], Stored)
    assert not isinstance(found.train["scan"].source, Held)
    assert heard == [f"40 rows as they were prepared on disk, in {folder}"]


def test_size_and_free_memory_decide_and_the_choice_is_told(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUNG3_CACHE", str(tmp_path / "cache"))
    free, plain, heard = 2.0 * 40 * 64, in_memory(study), list[str]()
    for least in (0, 1):
        monkeypatch.setattr(listings, "available", lambda least=least: free - least)
        splits = plain.splits(heard.append)
        assert isinstance(splits.test["scan"], Stored)
        assert isinstance(splits.test["scan"].source, Held) == (least == 0)
    memory, disk = heard
    assert re.fullmatch(r"0\.00 GiB of images in memory, of which 0\.0 GiB are free", memory)
    assert re.fullmatch(rf"0\.00 GiB of images on disk, in {tmp_path}/cache/prepared/\w+: .*", disk)
    monkeypatch.setenv("RANK", "1")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ValueError, match="prepare them before several processes are started"):
        plain.splits()


def test_a_finished_run_answers_when_its_files_are_gone(study: Study, tmp_path: Path) -> None:
    run_study(study, tmp_path / "run")  # which prepares, as the study says where
    run = RunFolder(tmp_path / "run")
    before = run.test()[0]
    shutil.rmtree(tmp_path / "data")
    assert torch.equal(run.test(3)[0]["scan"], before["scan"][3])
    opened = Opened.of_run(run.path)
    assert (opened.rows.n, opened.trained_on() is None) == (before.n, False)
    asked = "counterfactual", run.path, "--row", "3", "--do", "age=30", "--out", tmp_path / "a.png"
    assert call(*asked).exit_code == 0
    assert call("prepare", run.path / "study.yaml").exit_code == 2  # nothing to prepare it from


def test_one_row_of_a_prepared_run_reads_that_row_alone(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(study, tmp_path / "run")
    read, counts = Stored.floats, []

    def floats(self: Stored, index: Any = slice(None)) -> torch.Tensor:
        chosen = read(self, index)
        counts.append(len(chosen))
        return chosen

    monkeypatch.setattr(Stored, "floats", floats)
    RunFolder(tmp_path / "run").test(3)
    assert counts == [1]


def test_files_that_change_under_a_prepared_run_are_named(study: Study, tmp_path: Path) -> None:
    run_study(study, tmp_path / "run")
    number = int(RunFolder(tmp_path / "run").test(0)[0]["age"]) - 20
    Pictures.fromarray(np.zeros((8, 8), "u1")).save(tmp_path / "data" / f"{number}.png")
    with pytest.raises(ValueError, match=rf"/{number}\.png has changed since it was prepared in"):
        RunFolder(tmp_path / "run").test(0)
    prepare_study(study, progress=False)  # again: the data are others, and the run says so
    with pytest.raises(ValueError, match=r"scan: the data of .* have changed since it was begun"):
        RunFolder(tmp_path / "run").test()


def test_the_command_prepares_elsewhere_and_goes_on(study: Study, tmp_path: Path) -> None:
    done = call("prepare", tmp_path / "study.yaml", "--out", tmp_path / "there")
    assert done.exit_code == 0, done.output
    assert f"data.prepared={tmp_path / 'there'}" in done.output.replace("\n", "")
    (shard,) = (tmp_path / "there").glob("*/file-000000-*.npy")
    before = shard.stat().st_mtime_ns
    assert call("prepare", tmp_path / "study.yaml", "--out", tmp_path / "there").exit_code == 0
    assert shard.stat().st_mtime_ns == before
    other = Study.load(tmp_path / "study.yaml", [f"data.prepared={tmp_path / 'there'}"])
    assert alike(in_memory(study).splits(), other.splits())


def test_rows_that_a_world_draws_are_not_prepared() -> None:
    with pytest.raises(ValueError, match="data: rows of kind 'digits' are not read from files"):
        prepare_study(Study.load(Path(__file__).parents[2] / "studies" / "digits.yaml"))
