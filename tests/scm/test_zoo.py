"""Models by name and address: found where their digest is right, and refused where it is not."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch

from rung3 import SCM, load
from rung3.data.files import sha256
from rung3.mechanisms import Equation
from rung3.scm import zoo
from rung3.study.folder import RunFolder


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A shelf that holds one model, named tiny."""
    monkeypatch.setenv("RUNG3_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "shelf"
    SCM(x=Equation("u"), y=Equation("2*x + u")).save(place / "tiny")
    entry = {"title": "two numbers", "digest": zoo.digest_of(place / "tiny")}
    (place / "models.json").write_text(json.dumps({"tiny": entry}))
    monkeypatch.setattr(zoo, "SHELF", place)
    return place


def packed(folder: Path, target: Path, inside: str = "") -> str:
    with zipfile.ZipFile(target, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, inside + file.relative_to(folder).as_posix())
    return sha256(target)


def answers(model: SCM) -> bool:
    answer = model.counterfactual({"x": 1.0, "y": 5.0}, {"x": 2.0})
    return torch.equal(answer["y"], torch.tensor(7.0))


def test_a_model_of_the_wheel_is_loaded_by_its_name(shelf):
    assert answers(load("rung3/tiny"))
    (model,) = zoo.models().values()
    assert (model.name, model.title, model.bytes > 100) == ("rung3/tiny", "two numbers", True)
    run = RunFolder("rung3/tiny")
    assert (run.path, run.held, run.answers_path) == (shelf / "tiny", True, Path.cwd())
    assert not RunFolder(shelf / "tiny").held


def test_an_unknown_name_is_told_the_right_one(shelf):
    with pytest.raises(ValueError, match=r"rung3/tny: no such model.*did you mean 'rung3/tiny'"):
        load("rung3/tny")


def test_an_altered_model_is_refused(shelf):
    with (shelf / "tiny" / "model.yaml").open("a") as file:
        file.write("# more\n")
    with pytest.raises(ValueError, match="are altered; install rung3 again"):
        load("rung3/tiny")


@pytest.mark.parametrize("inside", ["", "tiny/"])
def test_a_packed_model_is_fetched_once_and_checked(shelf, tmp_path, inside):
    archive = tmp_path / "tiny.zip"
    digest = packed(shelf / "tiny", archive, inside)
    address = f"{archive.as_uri()}#sha256={digest}"
    assert answers(load(address))
    archive.unlink()
    assert answers(load(Path(address)))  # from the cache; a path has lost slashes


def test_another_digest_none_and_no_file_are_refused(shelf, tmp_path):
    archive = tmp_path / "tiny.zip"
    digest = packed(shelf / "tiny", archive)
    url = archive.as_uri()
    with pytest.raises(ValueError, match=r"give the digest that it must have, .*#sha256="):
        load(url)
    with pytest.raises(ValueError, match=f"its digest is {digest}, not the one"):
        load(f"{url}#sha256={'0' * 64}")
    archive.write_text("no zip")
    with pytest.raises(ValueError, match="no zip file"):
        load(f"{url}#sha256={sha256(archive)}")
    with pytest.raises(ValueError, match="cannot be fetched"):
        load(f"{url}x#sha256={digest}")


def test_names_that_lead_out_of_the_folder_stay_in_it(shelf, tmp_path):
    archive = tmp_path / "tiny.zip"
    packed(shelf / "tiny", archive)
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("../../escaped", "x")
    assert answers(load(f"{archive.as_uri()}#sha256={sha256(archive)}"))
    assert not [*tmp_path.glob("escaped"), *(tmp_path / "cache").glob("escaped")]
