"""Plausible mistakes, each caught by `check` before training, with the line and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import call
from flowers import flowers_study, write_flowers
from PIL import Image as Pictures

Change = Callable[[dict[str, Any]], None]


def put(*path: str, value: Any) -> Change:
    """Set a value of the study."""

    def change(study: dict[str, Any]) -> None:
        for key in path[:-1]:
            study = study[key]
        study[path[-1]] = value

    return change


def rows(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    folder = write_flowers(tmp_path_factory.mktemp("flowers"))
    labels = (folder / "labels.csv").read_text()
    (folder / "labels.txt").write_text(re.sub(r",(f\d)", r",pictures/\1", labels))
    Pictures.new("RGB", (20, 12)).save(folder / "pictures" / "wide.png")
    whole = (folder / "pictures" / "f07.png").read_bytes()
    (folder / "pictures" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return folder


def checked(folder: Path, change: Change | None = None, table: Any = None, text: Any = None) -> str:
    study = flowers_study(folder)
    if change:
        change(study)
    written = yaml.safe_dump(study, sort_keys=False)
    path = folder / "study.yaml"
    path.write_text(text(written) if text else written)
    labels = (folder / "labels.txt").read_text()
    (folder / "rows.csv").write_text(table(labels) if table else labels)
    result = call("check", path)
    assert result.exit_code in (0, 2), result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def usual(flowers) -> str:
    """What `check` says of the study as it should be."""
    return checked(flowers)


ASKED = ("evaluation", "interventions")

MISTAKES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # name: (what is wrong, the line that is named, what is said, what to do)
    "misspelt key": (
        {"change": put("training", "epoch", value=3)},
        "epoch:", "unknown key 'epoch'", "did you mean 'epochs'?",
    ),
    "misspelt variable in an intervention": (
        {"change": put(*ASKED, value={"radius": 3})},
        "radius:", "unknown variable 'radius'", "did you mean 'radius_px'?",
    ),
    "misspelt label in an intervention": (
        {"change": put(*ASKED, "colour", value="bleu")},
        "colour: bleu", "unknown category ['bleu']", "did you mean 'blue'?",
    ),
    "a label where a number is expected": (
        {"change": put("variables", "colour", value={"kind": "Continuous"})},
        "colour: blue", "'blue' is not a number and no variable", "declare colour as Categorical",
    ),
    "misspelt column in the graph": (
        {"change": put("graph", value="{color radius_px} -> file")},
        "colour:", "unknown variable 'colour'", "did you mean 'color'?",
    ),
    "a column that the table lacks": (
        {"change": put("graph", value="{colour radius_px noted} -> file")},
        "graph:", "no column 'noted'", "did you mean 'note'?",
    ),
    "a column under another name": (
        {"change": put("data", "columns", value={"colour": "color"})},
        "colour: color", "no column 'color'", "did you mean 'colour'?",
    ),
    "gap in a cause": (
        {"change": put("variables", "radius_px", value={"kind": "Continuous"})},
        "radius_px:", "2 values are NaN", "missing=True",
    ),
    "gap in a label": (
        {"table": rows(",blue,", ",,")},
        "colour:", "1 values are NaN", "missing=True",
    ),
    "a label written in two ways": (
        {"table": rows(",blue,", ",Blue,")},
        "colour:", "unknown category ['Blue']", "did you mean 'blue'?",
    ),
    "a word among numbers": (
        {"table": rows("red,", "red,about ")},
        "radius_px:", "expected numbers", "about ",
    ),
    "a value outside the support": (
        {"table": rows("red,", "red,-")},
        "radius_px:", "is outside its support", "[0, inf] px",
    ),
    "a target outside the support": (
        {"change": put(*ASKED, "radius_px", value=-3)},
        "radius_px: -3", "-3 is outside its support", "[0, inf] px",
    ),
    "an unknown name in an expression": (
        {"change": put(*ASKED, "radius_px", value="radius + 1")},
        "radius_px: radius + 1", "unknown variable 'radius'", "did you mean 'radius_px'?",
    ),
    "a cycle": (
        {"change": put("graph", value="colour -> radius_px -> colour; colour -> file")},
        "graph:", "the graph has a cycle", "no variable may cause itself",
    ),
    "a share in per cent": (
        {"change": put("data", "test", value=20)},
        "test:", "got 20", "between 0 and 1",
    ),
    "a table that is not there": (
        {"change": put("data", "path", value="row.csv")},
        "data:", "row.csv is missing", "expected a table, .csv or .parquet",
    ),
    "the mechanism of another kind": (
        {"change": put("mechanisms", "file", value={"kind": "Flow"})},
        "file:", "Flow models numbers", "VAE for images",
    ),
    "misspelt mechanism": (
        {"change": put("mechanisms", "file", value={"kind": "VEA"})},
        "kind: VEA", "unknown kind 'VEA'", "did you mean 'VAE'?",
    ),
    "misspelt field of a mechanism": (
        {"change": put("mechanisms", "file", value={"kind": "VAE", "latents": 4})},
        "latents: 4", "unknown field of VAE 'latents'", "did you mean 'latent'?",
    ),
    "a number in words": (
        {"change": put("training", "epochs", value="ten")},
        "epochs: ten", "got 'ten'", "a whole number of at least 1",
    ),
    "more test rows than there are": (
        {"change": put("evaluation", "n", value=5000)},
        "n: 5000", "n=5000", "there are only 8 test rows",
    ),
    "a picture that is not there": (
        {"table": rows("f07.png", "f77.png")},
        "file:", "f77.png is missing", "image file",
    ),
    "pictures of mixed sizes": (
        {"table": rows("f07.png", "wide.png")},
        "file:", "another aspect than 12x12", "declare fit='crop' or fit='pad'",
    ),
    "misspelt protocol": (
        {"change": put("evaluation", "protocol", value="melistas")},
        "protocol: melistas", "got 'melistas'", "did you mean 'melistas2024'?",
    ),
    "misspelt objective": (
        {"change": put("training", "objective", value="counterfactuals")},
        "objective:", "unknown objective", "did you mean 'counterfactual'?",
    ),
    "a key that is given twice": (
        {"text": lambda text: text + "\nseed: 1\nseed: 2\n"},
        "seed: 2", "'seed' is given twice", "first in line",
    ),
    "a tab": (
        {"text": lambda text: text.replace("  epochs", "\tepochs", 1)},
        "\tepochs", "not YAML", "indent with blanks, not tabs",
    ),
    "semicolons between columns": (
        {"table": lambda text: text.replace(",", ";")},
        "data:", "semicolons separate its columns", "save it with commas",
    ),
    "a decimal comma in the table": (
        {"table": lambda text: re.sub(r"(red|blue),(\d)\.(\d+)", r'\1,"\2,\3"', text)},
        "radius_px:", "expected numbers", "; write 3.",
    ),
    "a decimal comma in a target": (
        {"change": put(*ASKED, value={"radius_px": "3,5"})},
        "interventions:", "'3,5' is not allowed", "write 3.5",
    ),
    "a unit in a target": (
        {"change": put(*ASKED, value={"radius_px": "3 px"})},
        "interventions:", "'3 px'", "write 3, without the unit",
    ),
    "a folder where a table is expected": (
        {"change": put("data", "path", value="pictures")},
        "data:", "pictures is a folder", "`rung3 init` makes one",
    ),
    "misspelt logger": (
        {"change": put("training", "logger", value="tensorbord")},
        "logger:", "got 'tensorbord'", "must be 'csv', 'tensorboard' or 'wandb'",
    ),
    "a missing colon": (
        {"text": lambda text: text.replace("epochs:", "epochs", 1)},
        "batch_size:", "not YAML", "a colon is missing in the line before",
    ),
    "bounds the wrong way round": (
        {"change": put("variables", "radius_px", "upper", value=-1)},
        "radius_px:", "lower=0", "must be less than upper=-1",
    ),
    "a cause that shares a hidden cause with the image": (
        {"change": put("graph", value="{colour radius_px} -> file; colour <-> file")},
        "evaluation:", "the counterfactual is not identified: file", "(a hedge)",
    ),
    "a seed in words": (
        {"change": put("seed", value="one")},
        "seed: one", "seed: must be a whole number, got 'one'", "",
    ),
    "a slash in the name": (
        {"change": put("name", value="flowers/1")},
        "name:", "got 'flowers/1'", "may hold letters, digits, '.', '_' and '-'",
    ),
    "per cent in the table": (
        {"table": lambda text: re.sub(r"((?:red|blue),\d\.\d+)", r"\1%", text)},
        "radius_px:", "expected numbers", "without the unit",
    ),
    "a blank behind a label": (
        {"table": rows(",blue,", ",blue ,")},
        "colour:", "unknown category ['blue ']", "did you mean 'blue'?",
    ),
    "a blank in the header": (
        {"table": rows(",colour,", ", colour,")},
        "colour:", "no column 'colour'", "did you mean ' colour'?",
    ),
    "two columns of one name": (
        {"table": rows(",note", ",colour")},
        "colour:", "names 'colour' twice", "expected names that differ",
    ),
    "a table without rows": (
        {"table": lambda text: text.split("\n")[0]},
        "data:", "has no rows", "expected at least one",
    ),
    "a picture that is cut off": (
        {"table": rows("f07.png", "cut.png")},
        "file:", "cut.png cannot be read", "image file is truncated",
    ),
    "height and width that no picture has": (
        {"change": put("variables", "file", "width", value=24)},
        "file:", "another aspect than 12x24", "fit='crop'",
    ),
    "another arrow": (
        {"change": put("graph", value="{colour radius_px} => file")},
        "file:", "cannot read '=> file'", "arrows are ->, <- or <->",
    ),
    "an intervention on a column outside the graph": (
        {"change": put(*ASKED, value={"note": "x"})},
        "note: x", "unknown variable 'note'", "the variables are ['colour', 'radius_px', 'file']",
    ),
    "a target with an assignment": (
        {"change": put(*ASKED, "radius_px", value="radius_px = 3")},
        "radius_px: radius_px = 3", "not an arithmetic expression", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_what_to_do(flowers, name):
    given, line, text, cure = MISTAKES[name]
    output = checked(flowers, **given)
    assert text in output
    assert cure in output
    numbers = re.findall(r"study\.yaml:(\d+): ", output)
    assert len(numbers) == 1, output
    assert line in (flowers / "study.yaml").read_text().splitlines()[int(numbers[0]) - 1]


def test_trainings_that_are_too_short_are_told_with_longer_ones_and_their_time(flowers, usual):
    assert "file: 6 steps, too few to learn from (expected 1,000 at least)" in usual
    assert re.search(r"--set training.epochs=667 \(about \d+ (s|min)\)", usual)
    assert "the predictors: 2 steps" in usual
    long = put("training", value={"epochs": 700, "batch_size": 8})
    assert "file: 2" not in checked(flowers, long)


def test_a_table_in_another_encoding_is_told(flowers):
    labels = (flowers / "labels.txt").read_text().replace("free text", "größer")
    study = flowers_study(flowers)
    (flowers / "latin.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    (flowers / "rows.csv").write_bytes(labels.encode("latin-1"))
    result = call("check", flowers / "latin.yaml")
    assert result.exit_code == 2
    assert "it is not UTF-8; save it as UTF-8" in " ".join(result.output.split())


def test_a_mistake_on_the_command_line_names_its_key_once(flowers):
    study = flowers_study(flowers)
    (flowers / "rows.csv").write_text((flowers / "labels.txt").read_text())
    (flowers / "set.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    words = ("check", flowers / "set.yaml", "--set", "evaluation.interventions={colour: bleu}")
    output = " ".join(call(*words).output.split())
    assert "did you mean 'blue'?" in output
    assert output.count("evaluation") == 1


def test_values_that_no_training_row_has_are_told(flowers, usual):
    output = checked(flowers, table=lambda text: text.replace("blue", "red"))
    assert "colour: it is red in every training row" in output
    four = ["red", "blue", "green", "violet"]
    change = put("variables", "colour", value={"kind": "Categorical", "labels": four})
    assert "colour: no training row is green or violet" in checked(flowers, change)
    assert "no training row is" not in usual


UNLIKELY: dict[str, tuple[dict[str, Any], str]] = {
    "targets that no row is near": (
        {"change": put(*ASKED, "radius_px", value=40)},
        "do(radius_px): 100% of its targets lie outside the training data (radius_px: 2.05 to 4.99",
    ),
    "a code for a gap": (
        {"table": lambda text: re.sub(r"(f0[0-3].png,\w+),[\d.]+", r"\1,999", text)},
        "leave the cell empty if it stands for a gap",
    ),
    "pictures that are listed twice": (
        {"table": lambda text: text + text.split("\n", 1)[1]},
        "test rows are training rows too, image and all",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNLIKELY)
def test_what_looks_like_a_mistake_is_told_with_what_to_do(flowers, name):
    given, text = UNLIKELY[name]
    assert text in checked(flowers, **given)


def test_nothing_is_unusual_in_usual_rows(usual):
    assert "lies far from" not in usual
    assert "of its targets" not in usual


def test_an_intervention_from_which_nothing_follows_is_told(flowers):
    output = checked(flowers, put(*ASKED, value=["file", "colour"]))
    assert "do(file): nothing follows from it in the graph" in output
    assert "set a cause instead: colour, radius_px" in output
