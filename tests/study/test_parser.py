"""Reading study files: YAML without surprises, environment, settings, faults with their line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from rung3.study.parser import FilePath, Part, read, validated


class Inner(Part):
    size: int = Field(default=1, ge=1)
    place: FilePath = Path("here")


class Outer(Part):
    name: str
    inner: Inner = Inner()
    labels: list[str] = Field(default_factory=list)
    rate: float = 0.0


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str, *settings: str) -> Outer:
    return validated(Outer, read(write(folder, text), settings))


def test_words_are_booleans_only_where_they_are_true_or_false(tmp_path: Path) -> None:
    source = read(write(tmp_path, "labels: [no, yes, on, off]\nflag: true\nother: false\n"))
    assert source.values == {"labels": ["no", "yes", "on", "off"], "flag": True, "other": False}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("2.5", 2.5),
        ("-.5", -0.5),
        ("3", 3),
        ("1.e2", 100.0),
        ("e3", "e3"),
        ("-7", -7),
        ("0", 0),
        ("0x1F", 31),
        ("1_000", 1000),
        ("12:30", "12:30"),
        ("1:30.5", "1:30.5"),
        ("01", "01"),
        ("010", "010"),
        ("0b11", "0b11"),
    ],
)
def test_numbers(tmp_path: Path, text: str, value: object) -> None:
    number = read(write(tmp_path, f"a: {text}\n")).values["a"]
    assert (number, type(number)) == (value, type(value))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    study = load(tmp_path, "name: a\ninner: {place: ../data}\n")
    assert study.inner.place == tmp_path.parent / "data"


def test_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNG3_TEST", raising=False)
    text = "name: a\ninner: {place: '${RUNG3_TEST:-/else}/x'}\n"
    assert load(tmp_path, text).inner.place == Path("/else/x")
    monkeypatch.setenv("RUNG3_TEST", "/set")
    assert load(tmp_path, text).inner.place == Path("/set/x")


def test_an_environment_variable_that_is_not_set_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"study.yaml:2: inner.place: .* RUNG3_NOT_SET is not set"):
        load(tmp_path, "name: a\ninner: {place: '${RUNG3_NOT_SET}/x'}\n")


def test_settings_override_the_file(tmp_path: Path) -> None:
    study = load(tmp_path, "name: a\n", "inner.size=3", "labels=[x, y]", "rate=1e-3")
    assert (study.inner.size, study.labels, study.rate) == (3, ["x", "y"], 1e-3)


@pytest.mark.parametrize("setting", ["inner.size", "=3", "inner..size=3", "name.deep=3"])
def test_settings_that_cannot_be_made(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ValueError, match="--set"):
        load(tmp_path, "name: a\n", setting)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: a\ninner:\n  siz: 3\n",
            r"study.yaml:3: inner.siz: unknown key 'siz'; did you mean 'size'\? allowed: size, pla",
        ),
        ("name: a\ninner: {size: 0}\n", r"study.yaml:2: inner.size: .*greater than or equal to 1"),
        ("inner: {size: 2}\n", r"name: missing"),
        ("name: a\nname: b\n", r"study.yaml:2: 'name' is given twice; first in line 1"),
        ("name: [a\n", r"study.yaml:2: not YAML"),
        ("- a\n", r"expected a study with keys"),
        ("", r"expected a study with keys"),
        ("name: a\nlabels: [[]]\n", r"study.yaml:2: labels.0: .*valid string"),
    ],
)
def test_faults_name_the_line_the_key_and_what_is_expected(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path, text)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        load(tmp_path, "inner: {size: 0}\nrate: fast\n")
    assert len(str(caught.value).splitlines()) == 3


def test_a_missing_file_and_one_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is missing; expected a study file"):
        read(tmp_path / "nowhere.yaml")
    (tmp_path / "image.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="is not text"):
        read(tmp_path / "image.yaml")
