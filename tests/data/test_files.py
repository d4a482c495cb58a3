"""Files are written whole or not at all, and one that is damaged is not read."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rung3.cli.console import save_pictures
from rung3.data import files
from rung3.data.names import LONGEST, slug, slugs


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_file_is_open_to_whom_the_umask_allows(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "new" / "a", "é")
        files.write_tensors(tmp_path / "b", {"x": torch.ones(2)}, "a pair")
    finally:
        os.umask(before)
    for path in (tmp_path / "new" / "a", tmp_path / "b"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert (tmp_path / "new" / "a").read_bytes() == "é".encode()


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_what_was_there_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    files.write(tmp_path / "a", b"old")

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(OSError, match="no space left"):
        files.write(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_full_disk_is_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*last\.ckpt'"):
        files.write(tmp_path / "last.ckpt", b"weights")
    assert not list(tmp_path.iterdir())


def test_a_figure_has_the_format_of_its_name(tmp_path: Path) -> None:
    for name, start in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")):
        files.save_figure(Figure(figsize=(1, 1)), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)


TENSORS = {
    "b": torch.arange(6.0).reshape(2, 3),
    "a": torch.tensor(3, dtype=torch.int64),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "none": torch.empty(0, 2),
}


def test_tensors_come_back_with_what_was_said(tmp_path: Path) -> None:
    files.write_tensors(tmp_path / "t", TENSORS, "all", {"ö": [1, None]})
    tensors, notes = files.read_tensors(tmp_path / "t", "all")
    assert list(tensors) == sorted(TENSORS)
    assert all(tensors[k].equal(v) and tensors[k].dtype == v.dtype for k, v in TENSORS.items())
    assert notes == {"ö": [1, None]}


@pytest.mark.parametrize("how", ["value", "name", "shape", "said", "unsealed", "short", "gone"])
def test_tensors_that_were_altered_are_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "t"
    files.write_tensors(path, TENSORS, "all", 1)
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    if how == "value":
        tensors["b"] = -tensors["b"]
    elif how == "name":
        tensors["c"] = tensors.pop("b")
    elif how == "shape":
        tensors["b"] = tensors["b"].reshape(3, 2)
    elif how == "said":
        metadata["said"] = '{"all": 2}'
    elif how == "unsealed":
        del metadata["sha256"]
    save_file(tensors, path, metadata)
    if how == "short":
        path.write_bytes(path.read_bytes()[:-1])
    elif how == "gone":
        path.unlink()
    with pytest.raises(ValueError, match=str(path)):
        files.read_tensors(path, "all")


def test_tensors_of_another_kind_are_refused(tmp_path: Path) -> None:
    files.write_tensors(tmp_path / "t", TENSORS, "oracles")
    with pytest.raises(ValueError, match="t: holds no scores, but oracles"):
        files.read_tensors(tmp_path / "t", "scores")


def test_a_list_says_that_all_is_there_and_old_files_go(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    files.publish(tmp_path, {"a.png": b"1", "b.png": b"2"})
    assert files.finished(tmp_path)
    files.publish(tmp_path, {"b.png": b"3"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.png", "files.json", "mine.png"]
    (tmp_path / "b.png").write_bytes(b"4")
    assert not files.finished(tmp_path)


@pytest.mark.parametrize("name", ["../out", "a/b", "..", "", "/etc/passwd"])
def test_a_list_names_no_file_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "files.json").write_text(json.dumps({"finished": True, "files": {name: "0"}}))
    assert files.listed(tmp_path) == {}


ALIASES = b"a: &a [x]\n" + b"".join(b"b%d: *a\n" % k for k in range(200))


@pytest.mark.parametrize(
    "text", [b"[" * 10_000, ALIASES, b"a: " + b"x" * (1 << 24), b"a: [", b"\xff"]
)
def test_yaml_that_would_hang_is_refused_at_once(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^model\.yaml"):
        files.parse_yaml(text, "model.yaml")


def test_a_picture_is_written_into_the_run_whatever_its_variable_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for name in ("../../ESCAPED", "x" * 300):
        save_pictures({name: Figure(figsize=(1, 1))}, folder, "row0-t=1", None)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(folder.iterdir())
    assert len(list(folder.iterdir())) == 2


# Names -------------------------------------------------------------------------------------------

TEXTS = ["t up!", "t up?", "T up", "do(t)", "do-t", "../../ESCAPED", "..", "", "/", "é" * 300]


def test_names_of_files_are_short_unlike_each_other_and_in_the_folder() -> None:
    names = slugs([*TEXTS, "é" * 299, "con/../.."])
    assert len({name.casefold() for name in names.values()}) == len(names)
    for name in names.values():
        assert Path(name).name == name
        assert not name.startswith((".", "-"))
        assert len(name.encode()) <= LONGEST
    assert slug("do(thickness)") == "do-thickness"
    assert slug("t=-1") != slug("t=1")
