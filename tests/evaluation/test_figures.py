"""The pictures of the axioms: what they show, what they count, and the command that draws them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from rung3 import SCM, Continuous, Rows, worlds
from rung3.cli import app
from rung3.evaluation.figures import Comparison, composition, effectiveness, reversibility
from rung3.evaluation.intervened import interventions
from rung3.evaluation.measures.axioms import composition as drift
from rung3.mechanisms import VAE, Equation
from rung3.study.folder import RunFolder
from rung3.study.study import Study


@pytest.fixture(scope="module")
def world() -> SCM:
    return worlds.colour("digit-hue")


@pytest.fixture(scope="module")
def rows(world: SCM) -> Rows:
    return world.sample(6, seed=0)


@pytest.fixture(scope="module")
def untrained(world: SCM) -> SCM:
    torch.manual_seed(0)
    image = VAE(latent=2, width=4, depth=1)
    return SCM(world.graph, world.variables, {"image": image}).eval()


def test_composition_shows_every_answer_and_counts_its_drift(
    world: SCM, untrained: SCM, rows: Rows
) -> None:
    comparison = composition({"world": world, "vae": untrained}, rows, shown=[1, 4], times=[1, 3])
    assert comparison.heads == ("factual", "1", "3")
    assert [panel.title for panel in comparison.panels] == ["world", "vae"]
    true, bad = comparison.panels
    assert true.images.shape == bad.images.shape == (3, 2, 3, 32, 32)
    for panel in comparison.panels:
        assert torch.equal(panel.images[0], rows["image"][[1, 4]])
    assert torch.equal(true.images[2], rows["image"][[1, 4]])
    assert true.errors == (None, 0, 0)
    expected = drift(untrained, rows, "image", [1], temperature=0, seed=1)[1].mean().item()
    assert bad.errors[1] == pytest.approx(expected, rel=0.05)
    assert comparison.error == "mean drift,\ngrey levels"
    hue = rows["hue"][1].item()
    assert comparison.labels[0] == f"digit {rows['digit'][1]}\nhue {hue:.4g}"


def test_effectiveness_sets_one_cause_and_holds_the_others(
    world: SCM, untrained: SCM, rows: Rows
) -> None:
    comparison = effectiveness(
        {"vae": untrained}, rows, truth=world, readers=world.measures, shown=[0]
    )
    assert comparison.title == "do(digit), hue held"
    assert comparison.heads == ("factual", *map(str, range(10)))
    true, bad = comparison.panels
    assert true.title == "truth"
    held = world.counterfactual(rows, {"digit": 4}, hold=["hue"])
    assert torch.equal(true.images[5][0], held["image"][0])
    assert set(true.errors) == {None}
    assert true.note.startswith("hue off by 0.0001")
    assert min(e for e in bad.errors if e is not None) > 5
    assert bad.errors[0] is None


def test_effectiveness_of_a_number_sets_it_over_its_range(world: SCM, rows: Rows) -> None:
    comparison = effectiveness({"a": world}, rows, "hue", shown=[0])
    assert comparison.heads == ("factual", "0", "0.1667", "0.3333", "0.5", "0.6667", "0.8333")
    thick = worlds.colour("digit-thickness")
    other = effectiveness({"a": thick}, thick.sample(40, seed=0), "thickness", shown=[0])
    values = [float(head) for head in other.heads[1:]]
    assert values == sorted(values)
    assert 1 < values[0] < 2.3 < 4.8 < values[-1] < 6.5


def test_reversibility_goes_there_and_back(world: SCM, untrained: SCM, rows: Rows) -> None:
    comparison = reversibility({"world": world, "vae": untrained}, rows, shown=[0, 1], times=[1, 2])
    assert comparison.heads == ("factual", "there\n1", "back\n1", "there\n2", "back\n2")
    true, bad = comparison.panels
    there = (rows["digit"] + 5) % 10
    away = world.counterfactual(rows, {"digit": there}, hold=["hue"])
    assert torch.equal(true.images[1], away["image"][:2])
    assert torch.equal(true.images[4], rows["image"][:2])
    assert true.errors == (None, None, 0, None, 0)
    assert bad.errors[2] is not None
    assert bad.errors[2] > 1
    turned = reversibility({"world": world}, rows, "hue", shown=[0], times=[1]).panels[0]
    opposite = world.counterfactual(rows, {"hue": lambda hue: hue + 0.5})
    torch.testing.assert_close(turned.images[1], opposite["image"][:1], atol=2 / 255, rtol=0)


@pytest.fixture(scope="module", params=[composition, effectiveness, reversibility])
def three(request: pytest.FixtureRequest, world: SCM, rows: Rows) -> Comparison:
    """Three models beside each other."""
    comparison: Comparison = request.param(
        {f"a model with a long name {k}": world for k in range(3)}, rows, shown=[0, 1]
    )
    return comparison


@pytest.mark.parametrize("panels", [1, 2, 3])
def test_nothing_is_written_over_the_images(panels: int, three: Comparison) -> None:
    figure = replace(three, panels=three.panels[:panels]).figure()
    figure.draw_without_rendering()
    images = [axes.get_window_extent() for axes in figure.axes]
    assert len(images) == panels * 2 * len(three.heads)
    words = [text.get_window_extent() for text in figure.texts]
    page = figure.bbox
    for word in words:
        assert not any(word.overlaps(image) for image in images)
        assert page.x0 <= word.x0 < word.x1 <= page.x1
        assert page.y0 <= word.y0 < word.y1 <= page.y1
    for k, word in enumerate(words):
        assert not any(word.overlaps(other) for other in words[k + 1 :])


def test_bad_questions_are_refused(world: SCM, rows: Rows) -> None:
    with pytest.raises(ValueError, match="models: expected at least one"):
        composition({}, rows)
    with pytest.raises(ValueError, match="did you mean 'digit'"):
        effectiveness({"a": world}, rows, "digits")
    with pytest.raises(ValueError, match=r"shown: \[6\]; the rows are 0 to 5"):
        composition({"a": world}, rows, shown=[6])
    with pytest.raises(ValueError, match="b: its variables are"):
        composition({"a": world, "b": worlds.colour("thickness-hue")}, rows)
    numbers = SCM(x=Equation("u"), y=Equation("x + u"))
    with pytest.raises(ValueError, match="expected an image with causes"):
        composition({"a": numbers}, numbers.sample(3, seed=0))
    assert isinstance(world.variables["hue"], Continuous)


# The command --------------------------------------------------------------------------------------

STUDY = Path(__file__).resolve().parents[2] / "studies" / "colour-digits.yaml"


def call(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A tiny run of the study of colour digits, and the same under another name."""
    folder = tmp_path_factory.mktemp("figures")
    settings = yaml.safe_load(STUDY.read_text("utf-8"))
    settings["data"] |= {"train": 64, "test": 20}
    settings["mechanisms"]["image"] |= {"latent": 2, "width": 4, "depth": 1}
    settings["training"] = {"epochs": 1}
    one, two = folder / "one", folder / "two"
    model = Study.model_validate(settings).model().eval()
    place = RunFolder(one)
    place.claim(Study.model_validate(settings))
    model.save(place.model_path)
    shutil.copytree(one, two)
    (two / "study.yaml").write_text(yaml.safe_dump(settings | {"name": "other"}), "utf-8")
    return [one, two]


@pytest.mark.parametrize("kind", ["composition", "effectiveness", "reversibility"])
def test_figure_draws_runs_beside_each_other(runs: list[Path], kind: str, tmp_path: Path) -> None:
    result = call("figure", kind, *runs, "--rows", "0,3", "-n", 8, "--out", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert f"picture: {tmp_path / 'a.png'}" in result.output.replace("\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["beauty"], "beauty: expected one of composition, effectiveness, reversibility"),
        (["composition", "--rows", "99"], "the test rows are 0 to 19"),
        (["composition", "--change", "hue"], "a null intervention changes nothing"),
        (["effectiveness", "--change", "size"], "unknown variable 'size'"),
    ],
)
def test_figure_says_what_is_wrong(runs: list[Path], words: list[str], message: str) -> None:
    result = call("figure", words[0], runs[0], *words[1:])
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")


def test_interventions_have_a_column_each_and_a_null_one() -> None:
    world = worlds.chest(16)
    rows = world.sample(20, seed=0)
    comparison = interventions(world, rows, truth=world, shown=[1, 4], particles=2)
    assert [len(columns) for columns in comparison.columns] == [5, 5]
    for number, columns in zip([1, 4], comparison.columns, strict=True):
        assert columns[-1].title == "null"
        assert torch.equal(columns[-1].draws[0], rows["image"][number])
        assert all(column.error == pytest.approx(0, abs=0.01) for column in columns)
    comparison.figure()
    with pytest.raises(ValueError, match="do: no scalar cause of image"):
        interventions(world, rows, do={"image": 0.0})
    with pytest.raises(ValueError, match="shown"):
        interventions(world, rows, shown=[20])
