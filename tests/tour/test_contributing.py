"""The toy mechanism and the toy measure of CONTRIBUTING.md, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from rung3 import Binary, Continuous, evaluate, worlds
from rung3.evaluation import Oracles, Protocol
from rung3.evaluation.measures import registry
from rung3.testing import check_mechanism

ROOT = Path(__file__).resolve().parents[2]
DIFFS = re.findall(
    r"^--- (\S+)\n\+\+\+ b/(\S+)\n@@.*?@@\n(.*?)(?=^---|^```)",
    (ROOT / "CONTRIBUTING.md").read_text("utf-8"),
    re.MULTILINE | re.DOTALL,
)


def written(name: str) -> ModuleType:
    """The module that a diff writes."""
    (lines,) = (lines for _, path, lines in DIFFS if Path(path).name == f"{name}.py")
    module = ModuleType(name)
    exec(compile(re.sub(r"^\+", "", lines, flags=re.MULTILINE), name, "exec"), vars(module))
    return module


@pytest.mark.parametrize(("old", "path", "lines"), DIFFS)
def test_a_diff_fits_the_file_that_it_changes(old: str, path: str, lines: str) -> None:
    file = ROOT / path
    assert (old == "/dev/null") != file.exists()
    if file.exists():
        before = "".join(line[1:] + "\n" for line in lines.splitlines() if line[0] == " ")
        assert before in file.read_text("utf-8")
    else:
        assert file.parent.is_dir()


def test_the_toy_mechanism_keeps_the_contract() -> None:
    laplace = written("laplace").Laplace
    report = check_mechanism(laplace(), Continuous(), {"a": Continuous(), "b": Binary()})
    assert {"density", "round trip"} <= {name.split(",")[0] for name in report.passed}
    with pytest.raises(ValueError, match="without bounds"):
        laplace().bind("x", Continuous(lower=0), {})


def test_the_toy_measure_is_the_change_of_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    brightness = written("brightness").BRIGHTNESS
    monkeypatch.setattr(registry, "MEASURES", (*registry.MEASURES, brightness))
    world = worlds.digits()
    rows = world.sample(6, seed=0)
    query = Protocol(
        interventions={"intensity": 250.0}, measures=frozenset({"brightness"}), bootstrap=0
    )
    report = evaluate(
        world, rows, protocol=query, oracles=Oracles({}), baselines={}, progress=False
    )
    expected = (
        255 * (world.counterfactual(rows, {"intensity": 250.0})["image"] - rows["image"]).mean()
    )
    (means,) = report.metrics["brightness"].values()
    assert means["image"]["kept"]["mean"] == pytest.approx(float(expected), rel=1e-5)
    assert expected > 1
