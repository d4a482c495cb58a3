"""The grid of effects: its numbers, its picture, and the command that draws it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chain
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from typer.testing import CliRunner

from rung3 import SCM, Binary, Continuous, Image, Rows, worlds
from rung3.cli import app
from rung3.cli.arguments import indices
from rung3.cli.effects import grid_of_run
from rung3.effects import Grid, grid, mediate
from rung3.effects.image_grid import usual_settings
from rung3.mechanisms import VAE, Equation
from rung3.study.folder import RunFolder
from rung3.study.study import Study


@pytest.fixture(scope="module")
def digits() -> Grid:
    world = worlds.digits()
    return grid(world, world.sample(2, seed=0), typical=world.sample(200, seed=1))


def pixels(image: Any) -> np.ndarray:
    """What a picture shows."""
    return np.asarray(image.get_array())


def maps(figure: Any) -> list[Any]:
    """The signed maps, from left to right in each band, band by band."""
    drawn = [image for axes in figure.axes for image in axes.images]
    return [image for image in drawn if image.get_cmap().name == "RdBu_r"]


def texts(figure: Any) -> list[str]:
    """Everything that is written on a figure."""
    return [text.get_text() for text in figure.findobj(Text)]


def test_by_default_every_cause_is_set_to_two_values(digits: Grid) -> None:
    labels = [column.label for column in digits.columns]
    assert [label.split("=")[0] for label in labels] == [
        *["do(thickness"] * 2,
        *["do(intensity"] * 2,
        *["do(digit"] * 2,
    ]
    assert labels[-2:] == ["do(digit=3)", "do(digit=6)"]
    low, high = (column.imagined["thickness"] for column in digits.columns[:2])
    assert 1.2 < low[0] == low[1] < 2 < 3.2 < high[0] < 4.2  # 5 % and 95 % of 1/2 + Gamma(10, 5)
    assert [column.through for column in digits.columns] == [("intensity",)] * 2 + [()] * 4


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (Continuous(), torch.linspace(40, 80, 201), [42.0, 78.0]),
        (Continuous(), torch.linspace(0, 1, 400) + 1 / 3, [0.383, 1.28]),
        (Continuous(whole=True), torch.arange(30.0) % 7, [0.0, 6.0]),
        (Continuous(whole=True), torch.arange(12.0), [1.0, 10.0]),
        (Continuous(upper=1235.7), torch.linspace(1235.5, 1235.7, 21), [1235.51, 1235.69]),
        (Continuous(), torch.arange(2000.0, 2021.0), [2001.0, 2019.0]),
        (Continuous(), torch.full((5,), 12.345), [12.345, 12.345]),
    ],
)
def test_usual_values_are_values_of_the_variable(
    kind: Continuous, values: torch.Tensor, expected: list[float]
) -> None:
    model = SCM("x -> y", {"x": kind}, {"x": Equation("u"), "y": Equation("x + u")})
    rows = {"x": values, "y": values}
    found = [float(setting["x"]) for setting in usual_settings(model, "y", rows).values()]
    assert found == pytest.approx(expected[: len(found)], rel=1e-6)
    assert len(found) == len(set(expected))


def test_its_numbers_are_those_of_mediation_and_counterfactuals(digits: Grid) -> None:
    world, rows = worlds.digits(), worlds.digits().sample(2, seed=0)
    column = digits.columns[1]
    do = {"thickness": float(column.imagined["thickness"][0])}
    effect = mediate(world, rows, do, "image", "intensity")
    assert torch.equal(column.effect.indirect, effect.indirect)
    assert torch.equal(column.imagined["image"], world.counterfactual(rows, do)["image"])
    *_, direct, indirect, total, interaction = digits.table()[1]
    assert float(total) == pytest.approx(255 * effect.total.abs().mean().item(), abs=0.006)
    assert min(float(direct), float(indirect), float(interaction)) > 0
    assert digits.table()[4][1:] == ("nothing", *digits.table()[4][2:])
    assert digits.unit == "grey levels"


def test_every_map_has_one_scale_with_zero_in_its_middle(digits: Grid) -> None:
    figure = digits.figure()
    drawn = maps(figure)
    assert len(drawn) == 2 * (2 * 3 + 4 * 2)  # where there is no mediator, no indirect effect
    assert {image.get_clim() for image in drawn} == {(-255.0, 255.0)}
    assert {image.get_clim() for image in maps(digits.figure(scale=50))} == {(-50.0, 50.0)}
    words = texts(figure)
    assert words.count("no mediator") == 2 * 4
    assert words.count("direct") == words.count("total") == 2
    ticks = [text.get_text() for text in figure.axes[-1].get_yticklabels()]
    assert ticks == ["-255", "0", "+255"]
    assert figure.axes[-1].get_title("left") == "effect,\ngrey levels"


def test_the_maps_show_the_effects(digits: Grid) -> None:
    drawn = iter(maps(digits.figure()))
    for row in range(2):
        for column in digits.columns:
            effect = column.effect
            for part in (effect.direct, effect.indirect, effect.total):
                if part is effect.indirect and not column.through:
                    continue
                shown = np.asarray(next(drawn).get_array())
                np.testing.assert_allclose(shown, 255 * part[row, 0], rtol=1e-6)


def test_captions_say_what_the_causes_were_and_would_have_been(digits: Grid) -> None:
    words = texts(digits.figure())
    factual = digits.rows
    for row in range(2):
        t, i, d = (factual[name][row].item() for name in ("thickness", "intensity", "digit"))
        assert f"thickness {t:.4g}\nintensity {i:.4g}\ndigit {d}" in words
    imagined = digits.columns[0].imagined
    t, i = imagined["thickness"][1].item(), imagined["intensity"][1].item()
    assert f"thickness {t:.4g}\nintensity {i:.4g}\ndigit {factual['digit'][1]}" in words


def test_the_truth_stands_below_the_counterfactual_where_it_is_known() -> None:
    world = worlds.digits()
    rows, do = world.sample(2, seed=0), {"thickness": 2.0}
    settings: dict[str, Any] = {"thin": do, "same": {"digit": lambda digit: digit}}
    effect_grid = grid(world, rows, settings, truth=world)
    assert effect_grid.table()[0][-1] == "1.000"  # the world knows what it would have been
    assert effect_grid.table()[1][-1] == "not known"  # doing nothing is right already
    assert len(grid(world, rows, settings).table()[0]) == len(effect_grid.table()[0]) - 1
    axes = effect_grid.figure().axes
    shown = [pixels(ax.images[0]) for ax in axes if len(ax.images) and not ax.axison]
    true = world.counterfactual(rows, do)["image"]
    assert sum(np.array_equal(image, true[1, 0]) for image in shown) == 2  # imagined, and true


def test_where_the_world_does_not_know_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    world = worlds.digits()
    rows, ask = world.sample(2, seed=0), world.counterfactual

    def counterfactual(values: Any, do: dict[str, Any], **more: Any) -> Any:
        if "digit" in do:
            raise ValueError("image: nobody knows")
        return ask(values, do, **more)

    monkeypatch.setattr(world, "counterfactual", counterfactual)
    interventions: dict[str, Any] = {"thin": {"thickness": 2.0}, "three": {"digit": 3}}
    effect_grid = grid(worlds.digits(), rows, interventions, truth=world)
    assert [line[-1] for line in effect_grid.table()] == ["1.000", "not known"]
    words = texts(effect_grid.figure())
    assert words.count("not known") == 2
    assert not grid(worlds.digits(), rows, {"three": {"digit": 3}}, truth=world).known


def scans() -> SCM:
    model = SCM(
        graph="age -> sick -> size; {age sick size} -> scan",
        variables={
            "age": Continuous(unit="years"),
            "sick": Binary(labels=("no", "yes")),
            "size": Continuous(),
            "scan": Image(3, 8, 12),
        },
        mechanisms={
            "age": Equation("50 + 10*u"),
            "size": Equation("sick + u"),
            "scan": VAE(latent=2, width=4, depth=1),
        },
    )
    return model.eval()


def test_particles_are_averaged_and_their_spread_is_shown() -> None:
    model = scans()
    rows = model.sample(2, seed=0)
    effect_grid = grid(model, rows, {"older": {"age": 90.0}}, particles=4, labels=["a", "b"])
    assert effect_grid.columns[0].through == ("sick", "size")
    figure = effect_grid.figure()
    effect = effect_grid.columns[0].effect.total.mean(0)
    shown = np.asarray(maps(figure)[2].get_array())
    np.testing.assert_allclose(shown, 255 * np.hstack([*effect[0]]), atol=1e-3)
    drawn = [image for axes in figure.axes for image in axes.images]
    spread = [i for i in drawn if i.get_cmap().name == "viridis" and pixels(i).ndim == 2]
    scan = effect_grid.columns[0].imagined["scan"]
    np.testing.assert_allclose(pixels(spread[1]), 255 * scan[:, 1].std(0).mean(0), atol=1e-3)
    assert spread[1].get_clim() == (0, 255)
    assert dict(effect_grid.scalars(rows, 0))["sick"] in ("no", "yes")
    width, height = figure.axes[0].get_position().size * figure.get_size_inches()
    assert width / height == pytest.approx(12 / 8)


def test_latents_are_the_mediator_where_there_are_any() -> None:
    model = chain.world()
    rows = model.sample(3, seed=0)
    effect_grid = grid(model, rows, {"t": {"t": 0.9}, "i": {"i": 3.0}})
    assert [column.through for column in effect_grid.columns] == [("latent",)] * 2
    effect = mediate(model, rows, {"t": 0.9}, "scan", "latent")
    assert torch.equal(effect_grid.columns[0].effect.direct, effect.direct)
    both = grid(model, rows, {"t": {"t": 0.9}, "i": {"i": 3.0}}, through=["i", "latent"])
    assert [column.through for column in both.columns] == [("i", "latent"), ("latent",)]
    assert effect_grid.unit == "of the range"
    assert {image.get_clim() for image in maps(effect_grid.figure())} == {(-1.0, 1.0)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outcome": "size"}, "outcome: size is Continuous.*the picture is of images"),
        ({"outcome": "scam"}, "no variable 'scam'; did you mean 'scan'"),
        ({"through": "siz"}, "no variable 'siz'; did you mean 'size'"),
        ({"through": "latent"}, "scan: its mechanism has no latent mediator"),
        ({"columns": {"a": {"agee": 1.0}}}, "no variable 'agee'|unknown variable 'agee'"),
        ({"columns": {}}, "scan: nothing to set"),
    ],
)
def test_grids_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    model = scans()
    with pytest.raises(ValueError, match=message):
        grid(model, model.sample(2, seed=0), **options)


def test_a_scale_must_be_positive(digits: Grid) -> None:
    with pytest.raises(ValueError, match="scale: expected a positive number, got 0"):
        digits.figure(scale=0)


# Of a run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model was never trained: enough to ask and to draw."""
    folder = tmp_path_factory.mktemp("effects")
    study = Study.model_validate(
        {
            "name": "tiny",
            "data": {"kind": "digits", "train": 10, "test": 30},
            "graph": "thickness -> intensity; {digit thickness intensity} -> image",
            "variables": {
                "digit": {"kind": "Categorical", "classes": 10},
                "thickness": {"kind": "Continuous", "lower": 0},
                "intensity": {"kind": "Continuous", "lower": 0, "upper": 255},
                "image": {"kind": "Image", "channels": 1, "height": 32, "width": 32},
            },
            "mechanisms": {"image": {"kind": "VAE", "latent": 2, "width": 4, "depth": 1}},
        }
    )
    place = RunFolder(folder)
    study.save(place.study_path)
    study.model().save(place.model_path)
    return folder


def call(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def test_the_command_gives_the_whole_grid(run: Path) -> None:
    result = call("effects", run)
    assert result.exit_code == 0, result.output
    for word in ("do(thickness=", "do(intensity=", "do(digit=3)", "indirect", "grey levels"):
        assert word in result.stdout
    assert (run / "effects.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_takes_rows_columns_and_mediators(run: Path, tmp_path: Path) -> None:
    options = ["--rows", "3, 1", "--do", "thickness=thickness + 1", "--do", "digit=3; intensity=9"]
    more = ["--through", "intensity", "--scale", "90", "--particles", 2]
    result = call("effects", run, *options, *more, "--output", tmp_path / "figure.png")
    assert result.exit_code == 0, result.output
    assert "do(digit=3; intensity=9)" in result.stdout
    assert (tmp_path / "figure.png").is_file()


def test_rows_of_a_run_keep_their_numbers(run: Path) -> None:
    effect_grid = grid_of_run(RunFolder(run), [5, 2], ["thickness=2"])
    test, _ = RunFolder(run).test()
    assert effect_grid.labels == ("row 5", "row 2")
    assert torch.equal(effect_grid.rows["image"], test["image"][[5, 2]])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rows", "0,30"], "rows: [30]; the test rows are 0 to 29"),
        (["--rows", "a"], "rows: expected whole numbers such as 0,3,7, got 'a'"),
        (["--do", "thicknes=1"], "did you mean 'thickness'"),
        (["--do", "thickness=1", "--through", "latent"], "no latent mediator"),
        (["--outcome", "digit"], "the picture is of images"),
    ],
)
def test_errors_are_said_in_a_line(run: Path, words: list[str], message: str) -> None:
    result = call("effects", run, *words)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert message in result.stderr


def test_indices() -> None:
    assert indices("4") == [4]
    for wrong in ("", "1,,2", "-1", "1-3"):
        with pytest.raises(ValueError, match="rows: expected whole numbers"):
            indices(wrong)


def test_rows_with_gaps_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"dose": Continuous(missing=True), "scan": Image(1, 8, 8)}
    model = SCM("dose -> scan", kinds, {"scan": VAE(latent=2, width=4, depth=1)})
    dose = torch.tensor([float("nan"), 1.0, 2.0, float("nan"), 3.0, 4.0, 5.0])
    rows = Rows({"dose": dose, "scan": torch.zeros(7, 1, 8, 8)})
    place = RunFolder(tmp_path)
    monkeypatch.setattr(RunFolder, "model", lambda _: model)
    monkeypatch.setattr(RunFolder, "test", lambda _: (rows, None))
    effect_grid = grid_of_run(place)
    assert effect_grid.labels == ("row 1", "row 2", "row 4", "row 5")
    assert [column.label for column in effect_grid.columns] == ["do(dose=1.2)", "do(dose=4.8)"]
