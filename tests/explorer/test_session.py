"""The explorer's answers, without a browser: rungs, statuses, cache, checks, maps, code."""

from __future__ import annotations

import io
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from typer.testing import CliRunner

from rung3 import SCM, Binary, Continuous, Image, Rows, effects, worlds
from rung3.cli import app
from rung3.data import split as split_rows
from rung3.data.pictures import image_png
from rung3.explorer import Opened, PageState, Session, open_runs
from rung3.explorer import answers as view
from rung3.explorer.checks import densities, run_checks
from rung3.explorer.effects import mediators, split
from rung3.explorer.export import command, python
from rung3.explorer.png import signed_png
from rung3.explorer.sweep import run_sweep, span
from rung3.explorer.uploads import MAX_BYTES, add_image
from rung3.mechanisms import HVAE, VAE, Equation, Stage
from rung3.training.oracles.oracles import fit_oracles


@pytest.fixture(scope="module")
def digits() -> Session:
    world = worlds.digits()
    rows = world.sample(12, seed=1)
    torch.manual_seed(0)
    vae = SCM(world.graph, world.variables, {"image": VAE(latent=2, width=4, depth=1)}).eval()
    oracles = fit_oracles(vae, rows, epochs=1, width=4, progress=False)
    return Session([Opened("vae", vae, rows, world, oracles), Opened("world", world, rows, world)])


@pytest.fixture(scope="module")
def chain() -> Session:
    """A table whose every answer can be worked out by hand: x -> m -> y, x -> y."""
    model = SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("3*x + 5*m + u"))
    return Session([Opened("chain", model, model.sample(400, seed=0))])


# Queries -----------------------------------------------------------------------------------------


def test_a_link_restores_the_whole_state() -> None:
    query = PageState(
        rung="imagining", row=3, do={"a b": -1.5, "ü": 2}, hold=("m",), particles=4, seed=9
    )
    link = query.link()
    assert "%" in link
    assert " " not in link
    assert PageState.of_link(link) == query


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"row": -1}, "row"),
        ({"rung": "dreaming"}, "rung"),
        ({"do": {"x": float("nan")}}, "do.x"),
        ({"particles": 10_000}, "particles"),
        ({"rows": 1}, "rows"),
        ("{", "query"),
    ],
)
def test_a_wrong_query_is_refused_by_name(given: Any, named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named}: .*got"):
        PageState.read(given)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (PageState(row=12), "test rows are 0 to 11"),
        (PageState(do={"thicknes": 1}), "thickness"),
        (PageState(do={"thickness": -1}), "outside its support"),
        (PageState(do={"digit": 2.5}), "not a category"),
        (PageState(do={"image": 0.5}), "only a variable with a single number"),
        (PageState(do={"thickness": 2}, hold=("thickness",)), "both be set and held"),
        (PageState(upload="nobody"), "upload it again"),
    ],
)
def test_what_is_not_there_cannot_be_asked(digits: Session, query: PageState, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        digits.answer(query)


# Rungs -------------------------------------------------------------------------------------------


def test_imagining_is_the_counterfactual_of_the_row(digits: Session) -> None:
    query = PageState(row=4, do={"thickness": 4.0}, hold=("intensity",), particles=3, seed=7)
    for opened, answer in zip(digits.models, digits.answer(query), strict=True):
        expected = opened.model.counterfactual(
            digits.rows[4], {"thickness": 4.0}, hold=["intensity"], particles=3, seed=7
        )
        assert torch.equal(answer.draws("image"), expected["image"])
        assert answer.provenance.status == {
            "thickness": "intervened",
            "intensity": "held",
            "digit": "observed",
            "image": "propagated",
        }


def test_noise_is_abducted_once_a_row(digits: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    digits.answer(PageState(row=5, do={"thickness": 3.0}))
    monkeypatch.setattr(SCM, "abduct", lambda *_, **__: pytest.fail("abducted again"))
    digits.answer(PageState(row=5, do={"thickness": 4.0}))
    digits.answer(PageState(row=5, do={"digit": 4}))


def test_seeing_and_doing_differ_where_there_is_a_confounder() -> None:
    model = SCM(z=Equation("u"), x=Equation("z + 0.1*u"), y=Equation("z + u"))
    session = Session([Opened("fork", model, model.sample(10, seed=0))])
    seen, done = (
        session.answer(PageState(rung=rung, do={"x": 2.0}))[0].draws("y").mean().item()
        for rung in ("seeing", "doing")
    )
    assert seen == pytest.approx(2 * 1 / 1.01, abs=0.15)  # E[z | x=2] = 2 / (1 + 0.01)
    assert done == pytest.approx(0, abs=0.15)


def test_the_truth_is_the_worlds(digits: Session) -> None:
    query = PageState(row=2, do={"thickness": 4.0})
    truth = digits.truth(query)
    assert truth is not None
    assert torch.equal(truth["image"], digits.answer(query)[1].draws("image")[0])
    assert digits.truth(PageState(rung="doing")) is None
    assert view.truth(digits, query)["errors"][1] == {"image": 0}


def test_models_of_other_variables_are_not_put_side_by_side(
    digits: Session, chain: Session
) -> None:
    with pytest.raises(ValueError, match="chain: its variables"):
        Session([*digits.models, *chain.models])


# Effects, sweeps, checks -------------------------------------------------------------------------


def test_effects_are_those_of_mediate_and_light_their_own_arrows(chain: Session) -> None:
    query = PageState(row=3, do={"x": 1.5})
    assert mediators(chain, query, "y") == ["m"]
    parts = split(chain, query, "y", "m")
    shift = 1.5 - chain.rows["x"][3].item()
    assert parts.effects.direct.item() == pytest.approx(3 * shift, abs=1e-4)
    assert parts.effects.indirect.item() == pytest.approx(10 * shift, abs=1e-4)
    assert parts.direct == [("x", "y")]
    assert parts.indirect == [("x", "m"), ("m", "y")]
    assert set(parts.total) == {("x", "y"), ("x", "m"), ("m", "y")}


def test_effect_maps_of_an_image(digits: Session) -> None:
    query = PageState(row=0, do={"thickness": 1.8})
    expected = effects.mediate(
        digits.models[1].model, digits.rows[0], {"thickness": 1.8}, "image", "intensity", seed=0
    )
    parts = split(digits, query, "image", "intensity", 1)
    assert torch.equal(parts.effects.indirect, expected.indirect)
    assert expected.indirect.abs().max() > 0.01
    shown = view.effects(digits, query, "image", None)
    assert shown["models"][1]["direct"]["edges"] == [["thickness", "image"]]


def test_an_effect_on_a_binary_variable_is_a_difference_of_shares() -> None:
    kinds = {"y": Binary()}
    model = SCM("x -> m -> y; x -> y", kinds, {"x": Equation("u"), "m": Equation("x + u")})
    session = Session([Opened("binary", model, model.requires_grad_(False).sample(5, seed=0))])
    for particles in (1, 8):
        answer = view.effects(session, PageState(do={"x": 1.0}, particles=particles), "y", None)
        assert -1 <= float(answer["models"][0]["total"]["text"]) <= 1


def test_a_held_mediator_carries_nothing(chain: Session) -> None:
    assert mediators(chain, PageState(do={"x": 1.0}, hold=("m",)), "y") == []
    with pytest.raises(ValueError, match="and set a variable"):
        split(chain, PageState(), "y", "m")


def test_a_sweep_asks_the_query_at_each_value(digits: Session) -> None:
    query = PageState(row=1, do={"digit": 3})
    strip = run_sweep(digits, query, "thickness", 1, steps=3)
    low, high = span(digits, "thickness")
    assert strip.values == pytest.approx([low, (low + high) / 2, high])
    middle = digits.answer(PageState(row=1, do={"digit": 3, "thickness": strip.values[1]}))[1]
    assert torch.equal(strip.images["image"][1], middle.draws("image")[0])
    film = Pictures.open(io.BytesIO(strip.gif("image")))
    assert (film.format, getattr(film, "n_frames", 0), film.size) == ("GIF", 4, (96, 96))
    still = Pictures.open(io.BytesIO(strip.png("image")))
    assert still.width > still.height


def test_checks_of_an_answer(digits: Session) -> None:
    query = PageState(row=6, do={"thickness": 4.0})
    exact = {(check.name, check.variable): check for check in run_checks(digits, query, 1)}
    assert exact["null intervention", "image"].value == 0
    assert exact["abduction", "image"].text.startswith("image: its noise is known")
    learned = run_checks(digits, query, 0)
    without = [check for check in learned if "without the noise of observation" in check.text]
    assert [check.variable for check in without] == ["image"]
    assert without[0].value is not None
    assert without[0].value > 1
    assert {check.variable for check in learned if check.name == "predictors"} == {
        "thickness",
        "intensity",
        "digit",
    }


def test_there_and_back_finds_a_way_that_does_not_lead_back() -> None:
    model = SCM(x=Equation("u"), y=Equation("x + u"))
    session = Session([Opened("line", model, model.sample(50, seed=0))])
    back = [
        check
        for check in run_checks(session, PageState(do={"x": 3.0}))
        if check.name == "there and back"
    ]
    assert back[0].value == pytest.approx(0, abs=1e-5)


def test_a_change_of_colour_shows_in_each_colour() -> None:
    red, green = torch.zeros(2, 3, 2, 2)
    red[0], green[1] = 0.5, 0.5
    shown = np.asarray(Pictures.open(io.BytesIO(signed_png(green - red)))).astype(int)
    assert shown.shape == (2, 6, 3)  # red, green and blue side by side
    less, more, none = shown[0, 0], shown[0, 2], shown[0, 4]
    assert less[2] > less[0] + 40
    assert more[0] > more[2] + 40
    assert none.min() > 240


def test_what_a_row_lacks_is_drawn_given_the_rest() -> None:
    kinds = {"x": Continuous(missing=True), "y": Continuous()}
    model = SCM(None, kinds, {"x": Equation("u"), "y": Equation("x + u")})
    rows = Rows({"x": torch.tensor([torch.nan, 1.0]), "y": torch.tensor([2.0, 1.0])})
    session = Session([Opened("gaps", model, rows)])
    query = PageState(do={"x": 3.0}, particles=32)
    assert session.missing(query) == ["x"]
    expected = model.counterfactual(rows[0], {"x": 3.0}, particles=32, seed=0)
    assert torch.equal(session.answer(query)[0].draws("y"), expected["y"])
    page = view.answer(session, query)
    assert page["missing"] == ["x"]
    assert page["models"][0]["values"]["x"]["old"] == "missing"
    assert session.missing(PageState(row=1)) == []
    assert "particles=1," in python(session, PageState(do={"x": 3.0}))


def test_hidden_causes_are_drawn_and_what_they_hide_is_refused() -> None:
    model = SCM("x -> y; x <-> y").requires_grad_(False).eval()
    session = Session([Opened("bow", model, Rows({"x": torch.zeros(3), "y": torch.ones(3)}))])
    assert view.schema(session)["graphs"][0]["bidirected"] == [["x", "y"]]
    assert view.answer(session, PageState())["models"][0]["values"]["y"]["new"] == "1"
    for rung in ("doing", "imagining"):
        with pytest.raises(ValueError, match="not identified"):
            session.answer(PageState(rung=rung, do={"x": 1.0}))


def test_effects_through_latents_carry_both_on_all_paths() -> None:
    stages = (Stage(8, 4, latents=2), Stage(4, 8, latents=2))
    scan = HVAE(prior="conditional", stages=stages)
    kinds = {"scan": Image(1, 16, 16)}
    model = SCM("t -> i; {t i} -> scan", kinds, {"scan": scan}).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    session = Session([Opened("scans", model, model.sample(3, seed=0))])
    query = PageState(do={"t": 2.0})
    assert mediators(session, query, "scan") == ["i", "latent"]
    parts = split(session, query, "scan", "latent")
    expected = effects.mediate(model, session.rows[0], {"t": 2.0}, "scan", "latent", seed=0)
    assert torch.equal(parts.effects.indirect, expected.indirect)
    assert expected.indirect.abs().max() > 1e-3
    assert parts.direct == parts.indirect
    assert set(parts.direct) == {("t", "scan"), ("t", "i"), ("i", "scan")}


def test_models_of_other_graphs_each_have_their_own() -> None:
    one = SCM(x=Equation("u"), m=Equation("x + u"), y=Equation("m + u"))
    other = SCM(x=Equation("u"), m=Equation("u"), y=Equation("x + m + u"))
    rows = one.sample(20, seed=0)
    session = Session([Opened("chain", one, rows), Opened("collider", other, rows)])
    query = PageState(do={"x": 1.0}, shown=1)
    assert [graph["levels"]["m"] for graph in view.schema(session)["graphs"]] == [1, 0]
    statuses = [model["status"]["m"] for model in view.answer(session, query)["models"]]
    assert statuses == ["propagated", "observed"]
    shown = view.effects(session, query, "y", None)
    assert shown["through"] == "m"
    assert shown["models"][1] == {"name": "collider", "none": "no path here is through m"}
    with pytest.raises(ValueError, match="the models are 0 to 1"):
        session.check(PageState(shown=2))


def test_in_a_population_what_follows_is_propagated(chain: Session) -> None:
    status = view.answer(chain, PageState(rung="doing", do={"m": 1.0}))["models"][0]["status"]
    assert status == {"x": "sampled", "m": "intervened", "y": "propagated"}
    status = view.answer(chain, PageState(rung="seeing", do={"m": 1.0}))["models"][0]["status"]
    assert status == {"x": "sampled", "m": "observed", "y": "sampled"}


def test_parents_far_from_all_rows_are_told(chain: Session) -> None:
    near, far = (
        [check for check in run_checks(chain, PageState(do={"x": x})) if check.name == "support"]
        for x in (0.1, 40.0)
    )
    assert all(check.good for check in near)
    assert any(check.good is False for check in far)
    by_name = {d.name: d for d in densities(chain, PageState(do={"x": 40.0}))}
    assert by_name["x"].new == 40
    assert by_name["x"].edges[-1] == pytest.approx(40)
    assert sum(by_name["x"].counts) == 400


# Pictures and own images -------------------------------------------------------------------------


def test_a_signed_map_is_centred_on_white() -> None:
    change = torch.tensor([[[0.0, 0.6, -0.6]]])
    none, more, less = np.asarray(Pictures.open(io.BytesIO(signed_png(change))))[0].astype(int)
    assert none.min() > 240
    assert more[0] > more[2] + 40  # red
    assert less[2] > less[0] + 40  # blue


def test_an_own_image_is_read_by_the_predictors_and_can_be_asked(digits: Session) -> None:
    image = digits.rows["image"][3]
    name, row, inferred = add_image(digits, image_png(image), {"digit": 7})
    assert inferred == ["thickness", "intensity"]
    assert torch.equal(row["image"], image)
    oracles = digits.models[0].oracles
    assert oracles is not None
    read = oracles["image", "thickness"].read(image[None])[0].clamp(min=0)
    assert row["thickness"] == read
    learned = Session(digits.models[:1])
    learned.add_upload(name, row)
    answer = learned.answer(PageState(upload=name, do={"digit": 2}))[0]
    assert answer.draws("image").shape == (1, 1, 32, 32)
    assert digits.inferred(PageState(upload=name)) == ("thickness", "intensity")
    assert digits.inferred(PageState(row=3)) == ()
    assert view.schema(digits)["readable"] == ["thickness", "intensity", "digit"]


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"thicknes": 3}, "thickness"),
        ({"thickness": -3}, "outside its support"),
        ({"thickness": [3, 4]}, "expected one value, got 2"),
        ({"digit": "seven"}, "digit"),
    ],
)
def test_wrong_known_values_are_refused(
    digits: Session, known: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        add_image(digits, image_png(digits.rows["image"][3]), known)


def test_what_no_predictor_reads_must_be_stated(digits: Session) -> None:
    opened = digits.models[0]
    blind = Session([Opened("blind", opened.model, opened.rows)])
    image = image_png(digits.rows["image"][3])
    with pytest.raises(ValueError, match="intensity, digit: no run has a predictor"):
        add_image(blind, image, {"thickness": 3})
    name, row, _ = add_image(blind, image, {"thickness": 3, "intensity": 200, "digit": 1})
    assert row["digit"] == 1
    assert blind.inferred(PageState(upload=name)) == ()


def _png(size: tuple[int, int], colour: tuple[int, ...], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Pictures.new("RGB" if len(colour) == 3 else "RGBA", size, colour).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_png((20, 20), (9, 9, 9)), "20x20 pixels, expected 32x32"),
        (_png((32, 32), (200, 0, 0)), "in colour"),
        (_png((32, 32), (9, 9, 9), "BMP"), "not a PNG or JPEG"),
        (_png((32, 32), (9, 9, 9))[:60], "not a PNG or JPEG"),
        (b"", "not a PNG or JPEG"),
        (_png((32, 32), (9, 9, 9, 0)), "has transparent pixels"),
        (b"0" * (MAX_BYTES + 1), "more than 2 MB"),
    ],
)
def test_bad_uploads_are_refused(digits: Session, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        add_image(digits, content)


# Taking it away ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run: a study, and a model of it that has learned nothing."""
    from rung3.study.study import Study

    folder = tmp_path_factory.mktemp("runs") / "digits"
    folder.mkdir()
    world = worlds.digits()
    described = {
        "name": "digits",
        "data": {"kind": "digits", "train": 50, "test": 8},
        "graph": str(world.graph),
        "variables": {name: variable.config() for name, variable in world.variables.items()},
        "mechanisms": {"image": {"kind": "VAE", "latent": 2, "width": 4, "depth": 1}},
    }
    study = Study.model_validate(described)
    study.save(folder / "study.yaml")
    torch.manual_seed(0)
    image = VAE(latent=2, width=4, depth=1)
    SCM(world.graph, world.variables, {"image": image}).save(folder / "model")
    return folder


def _run(code: str) -> dict[str, Any]:
    spaces: dict[str, Any] = {}
    exec(compile(code, "copied", "exec"), spaces)
    return spaces


@pytest.mark.parametrize(
    "query",
    [
        PageState(
            row=3, do={"thickness": 4.0, "digit": 2}, hold=("intensity",), particles=2, seed=5
        ),
        PageState(rung="doing", do={"thickness": 4.0}),
        PageState(rung="seeing", do={"thickness": 3.0}),
    ],
)
def test_copied_python_gives_the_same_picture(
    run: Path, query: PageState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = Session(*open_runs([run]))
    after: Rows = _run(python(session, query))["after"]
    assert torch.equal(after["image"], session.answer(query)[0].after["image"])
    assert (tmp_path / "image.png").is_file()


def test_copied_python_carries_an_own_image(
    digits: Session, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    opened = open_runs([run])[0][0]
    session = Session([Opened("own", opened.model, opened.rows, path=run)])
    known = {"digit": 1, "thickness": 2.1, "intensity": 200.3}
    name, _, inferred = add_image(session, image_png(digits.rows["image"][0]), known)
    assert inferred == []
    query = PageState(upload=name, do={"thickness": 4.0})
    after: Rows = _run(python(session, query))["after"]
    assert torch.equal(after["image"], session.answer(query)[0].after["image"])
    assert command(session, query).startswith("#")


def test_copied_command_gives_the_same_values(run: Path) -> None:
    session = Session(*open_runs([run]))
    query = PageState(row=3, do={"thickness": 4.0, "digit": 2}, hold=("intensity",), particles=2)
    words = shlex.split(command(session, query))
    assert words[0] == "rung3"
    picture = run / "copied.png"
    result = CliRunner().invoke(app, [*words[1:], "--out", str(picture)])
    assert result.exit_code == 0, result.output
    assert "held" in result.output
    from rung3.data.pictures import picture as drawn

    answer = session.answer(query)[0]
    expected = run / "expected.png"
    truth = session.truth(query)
    assert truth is not None
    title = "row 3: do(thickness=4.0, digit=2)"
    drawn(answer.before["image"], answer.after["image"], truth=truth["image"], title=title).savefig(
        expected, dpi=120
    )
    assert picture.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize(
    "query",
    [
        PageState(rung="doing", do={"thickness": 4.0, "digit": 2}, seed=3),
        PageState(rung="seeing", do={"digit": 2}),
    ],
)
def test_copied_command_draws_the_same_population(run: Path, query: PageState) -> None:
    from rung3.data.pictures import picture as drawn

    session = Session(*open_runs([run]))
    words = shlex.split(command(session, query))
    assert words[:2] == ["rung3", "sample"]
    result = CliRunner().invoke(app, [*words[1:], "--out", str(run / "copied.png")])
    assert result.exit_code == 0, result.output
    answer = session.answer(query)[0]
    call = "do(thickness=4.0), do(digit=2)" if query.rung == "doing" else "given digit=2"
    before, after = (rows["image"].mean(0) for rows in (answer.before, answer.after))
    figure = drawn(before, after, title=call, names=("mean as it is", "mean as asked"))
    figure.savefig(run / "expected.png", dpi=120)
    assert (run / "copied.png").read_bytes() == (run / "expected.png").read_bytes()


def test_answers_are_compared_with_training_rows(run: Path) -> None:
    session = Session(*open_runs([run]))
    reference = session.reference()
    train, _ = split_rows(worlds.digits().sample(50, seed=0), 0.05, 0)
    assert reference.trained
    assert set(reference.rows) == {"thickness", "intensity", "digit"}
    assert torch.equal(reference.rows["thickness"].sort().values, train["thickness"].sort().values)
    query = PageState(row=1, do={"thickness": 3.0})
    assert any("of the training data" in check.text for check in run_checks(session, query))
    results = densities(session, query)
    assert all(d.trained and sum(d.counts) == train.n for d in results)
    alone = Session([Opened("alone", session.models[0].model, session.rows)])
    assert not alone.reference().trained


def test_runs_of_one_name_are_told_apart(run: Path, tmp_path: Path) -> None:
    copies = [tmp_path / "a" / "digits", tmp_path / "b" / "digits"]
    for copy in copies:
        shutil.copytree(run, copy)
    opened_runs, broken = open_runs([*copies, copies[0]])
    assert [opened.name for opened in opened_runs] == ["a/digits", "b/digits"]
    assert broken == {}


def test_predictors_that_cannot_be_read_are_left_out_and_told(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "digits"
    shutil.copytree(run, copy)
    (copy / "oracles.safetensors").write_bytes(b"cut short")
    opened, broken = open_runs([copy])
    assert opened[0].oracles is None
    assert broken[str(copy)].startswith("its predictors are left out: ")


def test_a_broken_run_is_told_and_the_others_open(run: Path, tmp_path: Path) -> None:
    opened_runs, broken = open_runs([tmp_path / "nothing", run])
    assert [opened.name for opened in opened_runs] == ["digits"]
    assert "not the folder of a run" in broken[str(tmp_path / "nothing")]
    with pytest.raises(ValueError, match="not the folder of a run"):
        open_runs([tmp_path / "nothing"])


# What the page is told ---------------------------------------------------------------------------


def test_the_page_is_told_all_of_a_table(chain: Session) -> None:
    page = view.schema(chain)
    assert page["graphs"][0]["levels"] == {"x": 0, "m": 1, "y": 2}
    assert page["images"] == []
    answer = view.answer(chain, PageState(rung="doing", do={"x": 1.0}))["models"][0]
    plot = answer["values"]["y"]["populations"]
    assert len(plot["edges"]) == len(plot["before"]) + 1
    assert sum(plot["before"]) == pytest.approx(1, abs=0.02)
    assert view.sweep(chain, PageState(row=1), "x")["models"][0]["numbers"].keys() == {"m", "y"}


def test_particles_have_a_spread_and_draws(digits: Session) -> None:
    one = view.answer(digits, PageState(row=1, do={"digit": 3}))["models"][0]["images"]["image"]
    assert one["spread"] is None
    many = view.answer(digits, PageState(row=1, do={"digit": 3}, particles=4))["models"][0]
    assert many["images"]["image"]["spread"].startswith("data:image/png;base64,")
    assert len(many["images"]["image"]["draws"]) == 4


def test_arrows_of_effects_are_those_of_the_paths_and_not_listed_path_by_path() -> None:
    from itertools import combinations, islice, pairwise

    from rung3.explorer.effects import edges_by_path
    from rung3.graph import CausalGraph

    graph = CausalGraph("x -> m -> y; x -> y; x -> a -> m; m -> b -> y; a -> y; c -> y; m -> z")
    for through in ("m", "a", "b"):
        paths = [path.nodes for path in graph.causal_paths("x", "y")]
        along = {edge for nodes in paths if through in nodes for edge in pairwise(nodes)}
        past = {edge for nodes in paths if through not in nodes for edge in pairwise(nodes)}
        edges = edges_by_path(graph, ["x"], "y", through)
        assert (set(edges[0]), set(edges[1])) == (along, past)
    names = [f"v{k}" for k in range(22)]  # a million paths
    dense = CausalGraph("; ".join(f"{a} -> {b}" for a, b in combinations(names, 2)))
    along, past = map(set, edges_by_path(dense, ["v0"], "v21", "v10"))
    assert (len(along), len(past)) == (231 - 10 * 11, 231 - 21)  # all but those that jump over v10
    assert len(list(dense.causal_paths("v0", "v21", limit=5))) == 5
    assert str(next(islice(dense.paths("v0", "v21", limit=2), 1))) == "v0 -> v21"


def test_the_code_of_each_of_two_models_saves_pictures_of_its_own(digits: Session) -> None:
    assert len(digits.models) > 1
    scripts = [
        python(digits, PageState(do={"thickness": 3.0}), k) for k in range(len(digits.models))
    ]
    files = [re.findall(r"savefig\('([^']+)'\)", script) for script in scripts]
    assert all(len(one) == 1 for one in files)
    assert len({one[0] for one in files}) == len(files)


@pytest.mark.parametrize("rung", ["imagining", "doing"])
def test_an_answer_that_is_no_number_is_refused_in_words(rung: Any) -> None:
    model = SCM(t=Equation("u"), y=Equation(lambda t, u: u + 0 * (1e300 * t)))
    session = Session([Opened("far", model, model.sample(5, seed=0))], {})
    with pytest.raises(
        ValueError, match=r"y: not a number in .*, such as at t=1e.15; ask for values"
    ):
        view.answer(session, PageState(rung=rung, do={"t": 1e15}))


# Doing, and believing ----------------------------------------------------------------------------


def test_differences_of_populations_hold_the_truth_and_are_none_where_nothing_follows() -> None:
    equations = {"age": Equation("u"), "dose": Equation("age + u"), "pain": Equation("-2*dose + u")}
    model = SCM("age -> dose -> pain", mechanisms=equations)
    session = Session([Opened("trial", model, model.sample(9, seed=0))])
    (shown,) = view.answer(session, PageState(rung="doing", do={"dose": 3.0}))["models"]
    text = shown["values"]["pain"]["difference"]  # E[-2 (3 - dose)] = -6
    low, high = (float(part) for part in text.split("(")[1].rstrip(")").split(" to "))
    assert low < -6 < high
    assert high - low < 1
    assert shown["values"]["age"]["difference"] == "+0 (0 to 0)"
    (imagined,) = view.answer(session, PageState(do={"dose": 3.0}))["models"]
    assert "difference" not in imagined["values"]["pain"]


def test_trust_names_what_warns_and_counts_what_does_not() -> None:
    world = worlds.digits()
    session = Session([Opened("world", world, world.sample(60, seed=1), world)])
    near = float(session.rows["thickness"][0])
    (calm,) = view.trust(session, PageState(do={"thickness": near}))["models"]
    (far,) = view.trust(session, PageState(do={"thickness": 30.0}))["models"]
    assert calm["warnings"] == []
    assert calm["passed"] > 0
    assert any("thickness" in text for text in far["warnings"])
    assert view.trust(session, PageState())["models"][0]["passed"] == 0
