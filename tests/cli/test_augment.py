"""Counterfactual rows of a run, as a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from command import call

from rung3 import data
from rung3.training.augmentation import confirmation


def written(folder: Path, **plan: object) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan), encoding="utf-8")
    return path


def test_a_folder_of_rows_and_images(
    run: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "IMAGES", 500)
    plan = written(tmp_path, change="intensity", independent_of=["digit"], bins=3)
    result = call("augment", run[0], plan, "--out", tmp_path / "rows")
    assert result.exit_code == 0, result.output
    assert "under do(intensity)" in result.stdout
    table = tmp_path / "rows" / "rows.csv"
    read = data.table(table, columns=["digit", "source", "weight"], image_column="image")
    assert read.n > 0
    assert read["image"].shape[1:] == (1, 32, 32)
    assert read["source"].max() < 270


def test_a_plan_with_a_wrong_key_or_variable_is_refused(
    run: tuple[Path, str], tmp_path: Path
) -> None:
    for plan, message in (
        ({"chnage": "intensity", "every": True}, "change"),
        (
            {"change": "brightness", "every": True, "values": [1, 2]},
            "unknown variable 'brightness'",
        ),
    ):
        result = call("augment", run[0], written(tmp_path, **plan), "--out", tmp_path / "rows")
        assert result.exit_code != 0
        assert message in result.output
        assert not (tmp_path / "rows").exists()


def test_a_figure_of_augmentation_needs_a_label(run: tuple[Path, str]) -> None:
    result = call("figure", "augmentation", run[0], "--change", "intensity")
    assert result.exit_code != 0
    assert "give one RUN, --label and --change" in result.output
