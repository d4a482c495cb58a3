"""Rows prepared on disk: what is damaged, changed or gone is never read unnoticed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from rung3 import Continuous, Image, data
from rung3.data import prepared
from rung3.data.gathering import FileReader
from rung3.data.images import Pictures as Reader
from rung3.data.inside import File
from rung3.data.prepared import Prepared, prepare
from rung3.data.readers.table import unread_table
from rung3.data.rows import Rows
from rung3.data.stored import Stored

KINDS: dict[str, Any] = {
    "age": Continuous(),
    "t1": Image(1, 6, 5, bits=12, missing=True),
    "mask": Image(1, 6, 5, bits=1),
    "colour": Image(3, 4, 4, bits=None),
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of ten rows, whose shards have three; row 4 has no scan."""
    monkeypatch.setattr(prepared, "SHARD", 3 * 6 * 5 * 2)
    draw, lines = np.random.default_rng(0), ["age,t1,mask,colour"]
    (tmp_path / "data").mkdir()
    for k in range(10):
        images = {
            "t1": draw.integers(0, 4096, (6, 5)).astype("u2"),
            "mask": 255 * draw.integers(0, 2, (6, 5)).astype("u1"),
            "colour": draw.integers(0, 256, (4, 4, 3)).astype("u1"),
        }
        for name, pixels in images.items():
            Pictures.fromarray(pixels).save(tmp_path / "data" / f"{name}{k}.png")
        lines.append(f"{k + 20},{'' if k == 4 else f't1{k}.png'},mask{k}.png,colour{k}.png")
    (tmp_path / "data" / "t.csv").write_text("\n".join(lines))
    return tmp_path / "data" / "t.csv"


def write(path: Path, folder: Path, **options: Any) -> Rows:
    unread = unread_table(path, variables=KINDS)
    prepare(unread, folder, [path], {"note": 1}, progress=False, **options)
    found = Prepared.open(folder)
    assert found is not None
    assert found.extra == {"note": 1}
    return found.rows


def same(one: Rows, other: Rows) -> bool:
    return list(one) == list(other) and all(
        torch.equal(one[k].nan_to_num(-1), other[k].nan_to_num(-1)) for k in one
    )


def shard(folder: Path, k: int = 1) -> Path:
    return next(folder.glob(f"t1-{k:06}-*.npy"))


def test_rows_on_disk_are_bit_for_bit_those_in_memory(path: Path, tmp_path: Path) -> None:
    rows, held = write(path, tmp_path / "p"), data.table(path, variables=KINDS)
    assert all(isinstance(rows[name], Stored) for name in ("t1", "mask", "colour"))
    assert same(rows, held)
    some = torch.tensor([9, 0, 4, 4, 3, 5])
    assert same(rows[some], held[some])
    assert same(rows[2:8], held[2:8])
    assert torch.equal(rows[7]["t1"], held[7]["t1"])
    assert KINDS["t1"].is_missing(rows["t1"]).nonzero().tolist() == [[4]]
    levels = (rows["t1"][3] * 4095).round().numpy()
    assert np.array_equal(np.load(shard(tmp_path / "p"))[0], levels)


def test_one_row_touches_one_shard(path: Path, tmp_path: Path) -> None:
    rows = Rows({"t1": write(path, tmp_path / "p")["t1"]})
    for file in tmp_path.glob("p/*-00000[02-9]-*"):
        file.unlink()
    for k in (3, 5):
        assert rows[k]["t1"].shape == (1, 6, 5)
    with pytest.raises(ValueError, match=r"t1-000000-.*npy, or the \.json beside it, is missing"):
        rows[0]


def read_row(folder: Path) -> None:
    found = Prepared.open(folder)
    assert found is not None
    found.rows[3:4]["t1"].clone()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut, alter])
def test_a_damaged_shard_is_never_read_and_written_anew(
    path: Path, tmp_path: Path, damage: Any
) -> None:
    folder = tmp_path / "p"
    write(path, folder)
    before = sorted(file.name for file in folder.iterdir())
    damage(shard(folder))
    with pytest.raises(ValueError, match=r"t1-000001-.* truncated or altered.*`rung3 prepare`"):
        read_row(folder)
    write(path, folder)
    assert sorted(file.name for file in folder.iterdir()) == before
    for name in ("manifest.json", "columns.safetensors", shard(folder).with_suffix(".json").name):
        damage(folder / name)
        with pytest.raises(ValueError, match=f"{name} is (truncated|damaged)"):
            read_row(folder)
        write(path, folder)


def test_a_shard_that_is_cut_short_while_in_use_is_no_crash(path: Path, tmp_path: Path) -> None:
    rows = write(path, tmp_path / "p")
    assert rows[3]["t1"].shape == (1, 6, 5)
    os.truncate(shard(tmp_path / "p"), 150)
    with pytest.raises(ValueError, match="was cut short while it was in use"):
        rows[5]


def test_a_source_that_has_changed_is_named_and_one_that_is_gone_is_not_needed(
    path: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    rows, held = write(path, folder), data.table(path, variables=KINDS)
    (path.parent / "t14.png").unlink()
    (path.parent / "mask2.png").unlink()
    assert same(rows, held)
    os.utime(path.parent / "t15.png", ns=(0, 0))
    found = Prepared.open(folder)
    assert found is not None
    with pytest.raises(ValueError, match=r"t15\.png has changed since it was prepared"):
        found.rows[3]
    assert found.rows[0]["t1"].shape == (1, 6, 5)  # its shard has not
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ValueError, match=r"t\.csv has changed since it was prepared"):
        Prepared.open(folder)


def test_what_was_killed_goes_on_and_only_what_changed_is_read_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read, files = tmp_path / "p", Reader.read, []

    def counted(self: Reader, file: Path) -> Any:
        files.append(file.name)
        if file.name == "t17.png" and len(files) < 10:
            raise KeyboardInterrupt
        return read(self, file)

    monkeypatch.setattr(Reader, "read", counted)
    with pytest.raises(KeyboardInterrupt):
        write(path, folder)
    assert Prepared.open(folder) is None
    (folder / ".rung3-0.part").write_bytes(b"half a shard")
    files.clear()
    files += ["t1"] * 10
    write(path, folder)
    scans = [name for name in files[10:] if name.startswith("t1")]
    assert scans == ["t16.png", "t17.png", "t18.png", "t19.png"]
    assert not list(folder.glob(".rung3-*"))
    files.clear()
    Pictures.fromarray(np.zeros((6, 5), "u2")).save(path.parent / "t10.png")
    rows = write(path, folder)
    assert files == ["t10.png", "t11.png", "t12.png"]
    assert rows[0]["t1"].max() == 0
    assert len(list(folder.glob("t1-*.npy"))) == 4


@pytest.mark.slow
def test_several_processes_write_the_same_bytes(path: Path, tmp_path: Path) -> None:
    write(path, tmp_path / "one")
    write(path, tmp_path / "two", workers=2)
    one, two = (
        {file.name: file.read_bytes() for file in (tmp_path / name).glob("*-*")}
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) == 2 * (4 + 2 + 10)


class Deadly(Reader):
    """A reader whose process dies."""

    def read(self, file: File) -> Any:
        os._exit(9)


def test_a_worker_that_dies_is_told(path: Path, tmp_path: Path) -> None:
    unread = unread_table(path, variables=KINDS)
    reader: FileReader = Deadly("t1", KINDS["t1"])
    images = {"t1": (reader, unread.images["t1"][1])}
    unread = type(unread)(["age", "t1"], unread.values, images, unread.n)
    with pytest.raises(ChildProcessError, match=r"a worker died .* while shards 0, 1, 2, 3 of"):
        prepare(unread, tmp_path / "p", [path], {}, workers=2, progress=False)
    assert Prepared.open(tmp_path / "p") is None


def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    told = r"t1-000000-.*npy cannot be written: No space left on device; once that is fixed"
    with pytest.raises(OSError, match=told):
        write(path, tmp_path / "p")
    assert list((tmp_path / "p").iterdir()) == []


def test_what_was_done_to_files_is_told_once_also_after_a_kill(path: Path, tmp_path: Path) -> None:
    kinds = {"t1": Image(1, 3, 5, bits=12, fit="crop", missing=True)}
    told = r"^t1: 9 of 10 image files are not 3x5 \(first: .*t10\.png, 6x5, cropped"
    for _ in range(2):
        with pytest.warns(UserWarning, match=told) as warned:
            prepare(unread_table(path, variables=kinds), tmp_path / "p", [], {}, progress=False)
        assert len(warned) == 1
