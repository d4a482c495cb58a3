"""The command `rung3`: a tiny study from end to end, questions, and errors in one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from rung3 import Binary, Continuous
from rung3.cli.app import app
from rung3.cli.console import Plain
from rung3.cli.whatif import spell
from rung3.data.variables import Variable

DIGITS: dict[str, Any] = {
    "name": "tiny",
    "data": {"kind": "digits", "train": 300, "test": 40, "validation": 0.1},
    "graph": "thickness -> intensity; {digit thickness intensity} -> image",
    "variables": {
        "digit": {"kind": "Categorical", "classes": 10},
        "thickness": {"kind": "Continuous", "unit": "px", "lower": 0},
        "intensity": {"kind": "Continuous", "unit": "grey level", "lower": 0, "upper": 255},
        "image": {"kind": "Image", "channels": 1, "height": 32, "width": 32},
    },
    "mechanisms": {"image": {"kind": "VAE", "latent": 4}},
    "training": {"epochs": 1, "batch_size": 64},
    "evaluation": {
        "interventions": {"thickness": "thickness + 2", "digit": 3},
        "n": 24,
        "particles": 2,
        "bootstrap": 20,
        "oracles": {"epochs": 1, "rows": 128},
    },
}


def call(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def write(folder: Path, **parts: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(DIGITS | parts), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder that the tiny study was run in, and what was printed."""
    folder = tmp_path_factory.mktemp("cli")
    result = call("run", write(folder), "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run", result.output


def test_run_ends_with_its_tables_and_the_path_of_the_report(run: tuple[Path, str]) -> None:
    folder, printed = run
    assert printed.splitlines()[-1] == f"report: {folder / 'report.html'}"
    for word in ("VAE(latent=4)", "default of its kind", "composition", "effectiveness", "skill"):
        assert word in printed.lower() or word in printed
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["settings"]["rows"] == 24
    assert (folder / "model").is_dir()
    assert "data:image/png;base64" in (folder / "report.html").read_text()


def test_run_refuses_a_finished_run(run: tuple[Path, str]) -> None:
    folder, _ = run
    result = call("run", folder.parent / "tiny.yaml", "--out", folder)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr


def test_sample_draws_another_population(run: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = run
    words = ("sample", folder, "--do", "thickness=4", "--given", "digit=3", "-n", 20)
    result = call(*words, "--out", tmp_path / "means.png")
    assert result.exit_code == 0, result.output
    cells = [[cell.strip() for cell in line.split("│")] for line in result.output.splitlines()]
    asked = {line[1]: line[3] for line in cells if len(line) == 5}
    assert asked["thickness"] == "4 px"
    assert asked["digit"] == "3"
    assert (tmp_path / "means.png").is_file()
    refused = call("sample", folder, "--given", "thickness=thickness+1")
    assert "--given thickness: expected a value, such as thickness=4" in refused.stderr


def test_evaluate_asks_a_fitted_model_otherwise(run: tuple[Path, str]) -> None:
    folder, _ = run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = call("evaluate", folder, "--protocol", "ribeiro2023", "--set", "evaluation.n=10")
    assert result.exit_code == 0, result.output
    other = folder.with_name("run-ribeiro2023")
    assert result.output.splitlines()[-1] == f"report: {other / 'report.html'}"
    assert "fitting" not in result.output
    assert "training the oracles" not in result.output
    metrics = json.loads((other / "metrics.json").read_text())
    assert metrics["settings"]["rows"] == 10
    assert metrics["settings"]["targets"] == "marginal"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "--overwrite" in call("evaluate", folder, "--protocol", "ribeiro2023").stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs=2", "training: a fitted model can be asked otherwise (evaluation...)"),
        ("evaluation.protocol=lovelace1843", "expected one of monteiro2023, melistas2024"),
    ],
)
def test_evaluate_refuses_what_would_need_another_model(
    run: tuple[Path, str], tmp_path: Path, setting: str, message: str
) -> None:
    result = call("evaluate", run[0], "--set", setting, "--out", tmp_path / "again")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("particles", [None, 3])
def test_counterfactual_draws_and_explains(
    run: tuple[Path, str], tmp_path: Path, particles: int | None
) -> None:
    out = tmp_path / "cf.png"
    words = ["counterfactual", run[0], "--row", 2, "--do", "thickness=thickness+2", "--out", out]
    result = call(*words, "--hold", "intensity", *(["--particles", 3] if particles else []))
    assert result.exit_code == 0, result.output
    assert out.read_bytes().startswith(b"\x89PNG")
    lines = {name: line for line in result.stdout.splitlines() for name in line.split()[1:2]}
    was, became = (float(x) for x in re.findall(r"([\d.]+) px", lines["thickness"])[:2])
    assert became == pytest.approx(was + 2, abs=0.01)
    assert "intervened" in lines["thickness"]
    assert "held" in lines["intensity"]
    assert "propagated" in lines["image"]
    assert "rung: imagining" in result.stdout


def test_counterfactual_writes_into_the_run_where_nothing_is_said(run: tuple[Path, str]) -> None:
    result = call("counterfactual", run[0], "--do", "digit=3")
    assert result.exit_code == 0, result.output
    assert (run[0] / "image-row0-digit-3.png").is_file()


def test_check_says_what_would_be_done_and_trains_nothing(tmp_path: Path) -> None:
    result = call("check", write(tmp_path), "--set", "data.train=500")
    assert result.exit_code == 0, result.output
    for word in ("grey level", "VAE(latent=4)", "default of its kind", "450", "positivity"):
        assert word in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_graph_answers_and_draws(tmp_path: Path) -> None:
    words = ["graph", "size -> treatment; size -> recovery; treatment -> recovery"]
    asked = ["--separated", "treatment", "recovery", "--given", "size"]
    result = call(*words, *asked, "--adjustment", "treatment", "recovery")
    assert result.stdout.splitlines() == [
        "treatment and recovery d-separated given size: no",
        "adjustment sets for treatment on recovery: {size}",
    ]
    result = call("graph", write(tmp_path), "--out", tmp_path / "graph.png")
    assert "thickness, intensity, digit" in result.stdout
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


FRONT_DOOR = "x -> m -> y; x <-> y; z -> x"
MERMAID = ["flowchart LR", '    n0["a"]', '    n1["b"]', "    n0 --> n1"]


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ["u -> {x c}; v -> {c y}", "--adjustment", "x", "y", "--given", "c", "--why"],
            [
                "adjustment sets for x on y: {}",
                "adjusting for c does not give the effect of x on y:",
                "  it opens the path x <- u -> c <- v -> y, by the collider c",
            ],
        ),
        (
            ["a -> c <- b", "--separated", "a", "b", "--given", "c", "--why"],
            [
                "a and b are not separated given c",
                "  open: a -> c <- b, for c (a collider) is given",
            ],
        ),
        (
            [FRONT_DOOR, "--effect", "x", "y"],
            [
                "mediator: m",
                "instrument: z",
                "hidden confounder: x <-> y",
                "front-door sets: {m}",
                "instruments: z",
            ],
        ),
        (
            [FRONT_DOOR, "--identify", "P(y | do(x))"],
            [
                "P(y | do(x)) is identified: front-door (m)",
                "  = Σ_m P(m | x) Σ_x' P(y | x', m) P(x')",
            ],
        ),
        ([FRONT_DOOR, "--implied"], ["m ⊥ z | x"]),
        (["a -> b", "--structures", "--equivalent"], ["a -- b"]),
        (["dag { u [latent] u -> {x y} }", "--write", "text"], ["x <-> y"]),
        (["a -> b", "--write", "dagitty"], ["dag {", "a", "b", "a -> b", "}"]),
        (["a -> b", "--write", "mermaid"], MERMAID),
    ],
)
def test_graph_says_why(words: list[str], lines: list[str]) -> None:
    assert call("graph", *words).stdout.splitlines() == lines


def test_graph_is_tested_against_a_table(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n" + "\n".join(f"{k % 2},{k % 3}" for k in range(60)))
    result = call("graph", "a; b", "--data", table)
    assert result.stdout.startswith("0 of 1 implied independencies are rejected at 0.05 (holm)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml is missing"),
        (["check", "{study}", "--set", "training.epcohs=1"], "did you mean 'epochs'"),
        (["run", "{study}", "--out", "{folder}"], "is not the folder of a run"),
        (["counterfactual", "{folder}", "--do", "a=1"], "is not the folder of a run"),
        (["counterfactual", "{run}", "--do", "thicknes=1"], "did you mean 'thickness'"),
        (["counterfactual", "{run}", "--do", "thickness=1", "--row", "99"], "rows are 0 to 39"),
        (["counterfactual", "{run}", "--do", "thickness=-1"], "outside its support"),
        (["counterfactual", "{run}", "--do", "digit=3", "--hold", "digit"], "both be set and held"),
        (["graph", "a -> b -> a"], "a -> b -> a"),
        (["graph", "a -> b", "--separated", "a", "c"], "no variable 'c'"),
        (["graph", "a -> b", "--identify", "P(b | do(c))"], "no variable 'c'"),
        (["graph", "a -> b", "--identify", "b"], "it does not start with P("),
        (["graph", "a -> b", "--write", "dot"], "expected one of dagitty, mermaid, text"),
        (["graph", "dag {{ a -> b -> a }}"], "cycle: a -> b -> a"),
        (["graph", "a <-> b", "--equivalent"], "this one has a <-> b"),
    ],
)
def test_errors_are_said_without_a_traceback(
    run: tuple[Path, str], tmp_path: Path, words: list[str], message: str
) -> None:
    names = {"study": write(tmp_path), "folder": tmp_path, "run": run[0]}
    result = call(*(word.format(**names) for word in words))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.filterwarnings("default")
def test_warnings_are_said_in_a_line() -> None:
    group = typer.Typer(cls=Plain)
    group.callback()(lambda: None)
    group.command("go")(lambda: warnings.warn("rows [with] gaps", stacklevel=1))
    result = CliRunner().invoke(group, ["go"])
    assert (result.exit_code, result.stderr) == (0, "warning: rows [with] gaps\n")


NAN = float("nan")


@pytest.mark.parametrize(
    ("variable", "values", "text"),
    [
        (Binary(labels=("no", "yes"), missing=True), NAN, "missing"),
        (Binary(labels=("no", "yes"), missing=True), 1.0, "yes"),
        (Binary(labels=("no", "yes"), missing=True), [1.0, 1.0, 0.0, 1.0], "yes in 75% of draws"),
        (Continuous(unit="px", missing=True), NAN, "missing"),
        (Continuous(unit="px"), [1.0, 3.0], "2 ± 1 px"),
        (Continuous(unit="h", lower=0, upper=24, circular=True), [22.0, 4.0], "1 h"),
    ],
)
def test_a_value_in_words(variable: Variable, values: Any, text: str) -> None:
    assert spell(variable, torch.tensor(values)) == text


def test_traceback_shows_where_an_error_came_from() -> None:
    result = call("--traceback", "run", "nowhere.yaml")
    assert isinstance(result.exception, ValueError)


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_starting_does_not_load_torch(word: str) -> None:
    code = (
        "import sys\nfrom rung3.cli import app\n"
        f"try:\n    app([{word!r}])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
