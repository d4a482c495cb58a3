"""Tables at an address, read by fsspec."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest

from rung3 import data, worlds
from rung3.scm import generate
from rung3.study.study import Study


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file system that is nowhere on disk, and a cache of the test's own."""
    monkeypatch.setenv("RUNG3_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


def test_a_table_at_an_address_is_fetched_once_and_again_when_it_changes(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/bucket/rows.csv", b"x\n1\n2\n")
    assert data.table("memory://bucket/rows.csv")["x"].tolist() == [1, 2]
    (copy,) = (tmp_path / "cache" / "remote").glob("*/rows.csv")
    copy.write_bytes(b"x\n7\n")
    assert data.table(Path("memory://bucket/rows.csv"))["x"].tolist() == [7]  # not fetched
    memory.pipe("/bucket/rows.csv", b"x\n3\n")
    assert data.table("memory://bucket/rows.csv")["x"].tolist() == [3]


def test_a_folder_of_shards_at_an_address_is_a_table(memory: Any) -> None:
    for k in range(2):
        file = io.BytesIO()
        pd.DataFrame({"x": [k, k + 10]}).to_parquet(file)
        memory.pipe(f"/bucket/part-{k}.parquet", file.getvalue())
    assert data.table("memory://bucket")["x"].tolist() == [0, 10, 1, 11]


def test_a_study_names_an_address(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/bucket/rows.csv", b"x,y\n" + b"1,2\n3,5\n" * 20)
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: far\ngraph: x -> y\ndata: {kind: table, path: 'memory://bucket/rows.csv'}"
    )
    assert Study.load(path).splits().train["x"].unique().tolist() == [1, 3]


def test_what_cannot_be_read_or_written_there_is_told(memory: Any) -> None:
    with pytest.raises(ValueError, match=r"memory://bucket/no\.csv cannot be read: there is no"):
        data.table("memory://bucket/no.csv")
    with pytest.raises(ValueError, match=r"nope://b/x\.csv: nope is read by a driver of fsspec"):
        data.table("nope://b/x.csv")
    world = worlds.lecture()
    with pytest.raises(ValueError, match=r"out: s3://b/answers is an address"):
        generate(world, world.sample(2, seed=0), {"x1": 1}, "s3://b/answers", progress=False)
