"""Tables whose pictures lie inside shards: tar archives as of WebDataset, and Parquet files."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as Pictures

from rung3 import Categorical, Continuous, Image, data
from rung3.data.inside import is_shards
from rung3.data.prepared import Prepared, prepare
from rung3.data.readers.table import unread_table

KINDS: dict[str, Any] = {"age": Continuous(), "scan": Image(1, 6, 5)}
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 6, 5)).astype("u1")


def png(k: int) -> bytes:
    file = io.BytesIO()
    Pictures.fromarray(PIXELS[k]).save(file, "PNG")
    return file.getvalue()


def archive(path: Path, members: dict[str, bytes], mode: Any = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def tars(folder: Path) -> Path:
    """Seven samples in two archives, in a folder of theirs; the last has no picture."""
    for k, part in enumerate((range(4), range(4, 7))):
        members: dict[str, bytes] = {}
        for row in part:
            members[f"train/{row:03}.json"] = json.dumps({"age": 20 + row}).encode()
            members[f"train/{row:03}.cls"] = f"{row % 3}".encode()
            members[f"train/{row:03}.seg.txt.gz"] = b"of no use here"
            if row < 6:
                members[f"train/{row:03}.scan.png"] = png(row)
        archive(folder / f"shard-{k}.tar", members)
    return folder


def parquet(folder: Path) -> Path:
    """The same rows in two Parquet files, in groups of two rows."""
    folder.mkdir(parents=True)
    for k, part in enumerate((range(4), range(4, 7))):
        frame = pd.DataFrame({
            "age": [20 + row for row in part], "cls": [row % 3 for row in part],
            "scan": [png(row) if row < 6 else None for row in part],
        })  # fmt: skip
        frame.to_parquet(folder / f"part-{k}.parquet", row_group_size=2)
    return folder


@pytest.mark.parametrize("make", [tars, parquet])
def test_shards_are_read_as_a_table_of_files_is(tmp_path: Path, make: Any) -> None:
    folder = make(tmp_path / "shards")
    missing = {"scan": Image(1, 6, 5, missing=True), "cls": Categorical(3)}
    rows = data.table(folder, variables=KINDS | missing)
    assert rows["age"].tolist() == list(range(20, 27))
    assert rows["cls"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert torch.equal((rows["scan"][:6] * 255).round().byte()[:, 0], torch.from_numpy(PIXELS[:6]))
    assert missing["scan"].is_missing(rows["scan"]).nonzero().tolist() == [[6]]
    with pytest.raises(ValueError, match="scan: 1 of 7 rows name no image file, row 6 first"):
        data.table(folder, variables=KINDS)
    one = data.table(next(iter(sorted(folder.iterdir()))), variables=KINDS)
    assert torch.equal(one["scan"], rows["scan"][:4])


@pytest.mark.parametrize("make", [tars, parquet])
def test_shards_are_prepared_and_their_changes_noticed(tmp_path: Path, make: Any) -> None:
    folder = make(tmp_path / "shards")
    kinds = {"scan": Image(1, 6, 5, missing=True)}
    unread = unread_table(folder, variables=kinds)
    prepare(unread, tmp_path / "p", [folder], {}, progress=False, workers=1)
    found = Prepared.open(tmp_path / "p")
    assert found is not None
    held = unread.read()["scan"]
    assert torch.equal(found.rows["scan"].nan_to_num(-1), held.nan_to_num(-1))
    first = min(folder.iterdir())
    first.write_bytes(first.read_bytes() + b" ")
    with pytest.raises(ValueError, match="shards has changed since it was prepared"):
        Prepared.open(tmp_path / "p")


def test_faults_of_archives_are_named(tmp_path: Path) -> None:
    tar = archive(tmp_path / "a" / "x.tar", {"0.png": png(0), "0.json": b"{"})
    with pytest.raises(ValueError, match=r"x\.tar: 0\.json cannot be read"):
        data.table(tar)
    tar = archive(tmp_path / "b" / "x.tar", {"0.png": png(0), "0.PNG": png(0)})
    with pytest.raises(ValueError, match="sample 0 has 'png' twice"):
        data.table(tar)
    tar = archive(tmp_path / "c" / "x.tar", {"0.png": b"no picture", "1.png": png(1)})
    with pytest.raises(ValueError, match=r"image file .*x\.tar/0\.png cannot be read"):
        data.table(tar, image_column="png")
    squeezed = archive(tmp_path / "d" / "x.tar", {"0.png": png(0)}, "w:gz")
    with pytest.raises(ValueError, match=r"x\.tar is truncated, compressed, or no tar archive"):
        data.table(squeezed)
    tar = archive(tmp_path / "e" / "x.tar", {f"{k}.png": png(k) for k in range(7)})
    tar.write_bytes(tar.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"x\.tar is truncated"):
        data.table(tar, image_column="png")
    with pytest.raises(ValueError, match=r"gone\.tar is missing"):
        data.table(tmp_path / "gone.tar")
    assert not is_shards(tmp_path)


def test_an_archive_that_is_cut_short_after_it_was_listed_is_named(tmp_path: Path) -> None:
    tar = archive(tmp_path / "x.tar", {f"{k}.png": png(k) for k in range(7)})
    unread = unread_table(tar, image_column="png")
    tar.write_bytes(tar.read_bytes()[:3100])
    with pytest.raises(ValueError, match=r"x\.tar is truncated: \d\.png is not whole"):
        unread.read()
