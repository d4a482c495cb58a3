"""Lists of runs, studies by name, and cards."""

from __future__ import annotations

import pytest
from command import call

from rung3.study.comparison import settings_apart
from rung3.study.folder import RunFolder
from rung3.study.packaged import study_file, study_names
from rung3.study.study import Study


def test_studies_come_with_rung3_by_name():
    assert {"digits", "colour-digits", "small-digits"} <= set(study_names())
    assert Study.load(study_file("digits")).name == "digits"
    assert str(study_file("my/digits.yaml")) == "my/digits.yaml"
    with pytest.raises(ValueError, match=r"digitz: no such file.*did you mean 'digits'"):
        study_file("digitz")


def test_runs_are_listed_with_their_states(tmp_path):
    (tmp_path / "a").mkdir()
    Study.load(study_file("digits")).save(tmp_path / "a" / "study.yaml")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "study.yaml").write_text("# sha256: 0\nname: x\n")
    result = call("runs", tmp_path)
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.output.splitlines() if line.strip()}
    assert lines["a"].split()[1:] == ["digits", "digits", "VAE", "begun"]
    assert "damaged" in lines["b"]
    assert "nowhere is not a folder" in call("runs", "nowhere").output
    (tmp_path / "empty").mkdir()
    assert "holds no run" in call("runs", tmp_path / "empty").output


def test_settings_in_which_studies_differ_are_named(tmp_path):
    folders = {}
    for name, settings in {
        "one": ["training.epochs=3"],
        "two": ["training.epochs=4", "seed=0"],
        "three": ["training.epochs=3", "mechanisms.image={kind: HVAE}"],
    }.items():
        folders[name] = RunFolder(tmp_path / name)
        Study.load(study_file("digits"), [*settings, f"name={name}"]).save(
            (tmp_path / name) / "study.yaml"
        )
    lines = settings_apart(folders)
    assert "The studies differ in training.epochs: one 3, two 4, three 3." in lines
    assert "The studies differ in mechanisms.image.kind: one VAE, two VAE, three HVAE." in lines
    for of_a_vae in ("latent: one 16, two 16", "pose: one True, two True"):
        line = f"The studies differ in mechanisms.image.{of_a_vae}, three as by default."
        assert line in lines
    assert len(lines) == 4
