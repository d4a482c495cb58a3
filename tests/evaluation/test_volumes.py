"""Volumes in reports, figures and the explorer: three orthogonal slices, and every measure."""

from __future__ import annotations

import io
from pathlib import Path

import balls
import pytest
import torch
from PIL import Image as Pictures

from rung3 import SCM, Image, effects, evaluate
from rung3.data.pictures import picture, planar
from rung3.evaluation import Ceiling, Oracles, fit_oracles
from rung3.evaluation.figures import composition
from rung3.explorer import Opened, PageState, Session
from rung3.explorer import answers as view
from rung3.explorer.sweep import run_sweep
from rung3.explorer.uploads import add_image
from rung3.mechanisms import VAE


@pytest.fixture(scope="module")
def model() -> SCM:
    world = balls.world(8)
    torch.manual_seed(0)
    model = SCM(world.graph, world.variables, {"volume": VAE(latent=2, width=4, depth=1)})
    return model.eval().requires_grad_(False)


def test_slices_cut_depth_height_and_width_and_stand_upright() -> None:
    volume = torch.zeros(1, 4, 6, 5)
    volume[0, 3] = 0.2  # the top
    volume[0, :, 0] = 0.6  # the front
    volume[0, :, :, 4] = 0.9  # the last column
    flat = planar(volume, at=0.5)
    assert flat.shape == (1, 6, 5 + 5 + 6)
    axial, coronal, sagittal = flat[0].split([5, 5, 6], dim=1)
    assert torch.equal(axial, volume[0, 2])
    assert torch.equal(coronal[:4], volume[0, :, 2].flip(0))
    assert torch.equal(sagittal[:4], volume[0, :, :, 2].flip(0))
    assert coronal[0, 0] == sagittal[0, 3] == pytest.approx(0.2)
    assert not coronal[4:].any()
    assert torch.equal(planar(volume, at=1.0)[0, :, :5], volume[0, 3])
    image = torch.rand(1, 6, 5)
    assert planar(image) is image
    assert planar(volume[None].expand(3, 1, 4, 6, 5), leading=1).shape == (3, 1, 6, 16)


def test_a_report_on_volumes_has_every_part(model: SCM, tmp_path: Path) -> None:
    world = balls.world(8)
    train, test = world.sample(20, seed=0), world.sample(6, seed=1)
    torch.manual_seed(0)
    oracles = fit_oracles(model, train, epochs=1, width=4, progress=False)
    report = evaluate(
        model, test, world, train, protocol="complete", oracles=oracles, progress=False
    )
    truth = report.metrics["truth"]["do(radius)"]["volume"]
    assert truth["doing nothing"]["skill"]["mean"] == 0
    report.save(tmp_path)
    with Pictures.open(tmp_path / "strip-do-radius.png") as strip:
        assert strip.size[0] > 3 * 8 * 5


def test_oracles_read_volumes(model: SCM, tmp_path: Path) -> None:
    rows = balls.world(8).sample(30, seed=0)
    oracles = fit_oracles(model, rows, epochs=1, width=4, progress=False)
    oracles.save(tmp_path / "oracles")
    read = Oracles.load(tmp_path / "oracles")["volume", "radius"].read(rows["volume"])
    assert torch.equal(read, oracles["volume", "radius"].read(rows["volume"]))


def test_a_ceiling_takes_volumes() -> None:
    world = balls.world(8)
    rows = world.sample(3, seed=0)
    variable = world.variables["volume"]
    assert isinstance(variable, Image)
    ceiling = Ceiling(variable, {"radius": world.variables["radius"]}, width=8)
    parents = {"radius": rows["radius"]}
    assert torch.equal(ceiling(rows["volume"], parents, parents), rows["volume"])


def test_figures_show_slices_of_volumes(model: SCM) -> None:
    rows = balls.world(8).sample(3, seed=0)
    grid = effects.grid(model, rows, {"do(radius=5)": {"radius": 5.0}}, particles=2)
    shown = [axes.get_images()[0].get_array() for axes in grid.figure().axes if axes.get_images()]
    assert {image.shape[:2] for image in shown if image is not None} == {(8, 24)}
    comparison = composition({"model": model}, rows, shown=[0, 1], times=[1])
    cells = [
        axes.get_images()[0].get_array() for axes in comparison.figure().axes if axes.get_images()
    ]
    assert {image.shape for image in cells if image is not None} == {(8, 24)}
    figure = picture(rows["volume"][0], rows["volume"], title="balls")
    assert figure.axes[0].get_images()[0].get_array().shape == (8, 24)  # type: ignore[union-attr]


def test_the_explorer_cuts_volumes_where_its_slider_stands(model: SCM) -> None:
    rows = balls.world(8).sample(3, seed=0)
    session = Session([Opened("balls", model, rows, balls.world(8))])
    described = view.schema(session)["variables"]["volume"]
    assert (described["height"], described["width"], described["volume"]) == (8, 24, True)
    assert not view.schema(session)["uploads"]
    with pytest.raises(ValueError, match="not a volume"):
        add_image(session, b"")
    shown = []
    for at in (0.0, 0.5):
        query = PageState(do={"radius": 2.0}, slice=at)
        panel = view.answer(session, query)["models"][0]["images"]["volume"]
        truth = view.truth(session, query)["images"]["volume"]
        shown += [panel["before"], panel["after"], panel["change"], truth]
    assert len(set(shown)) == len(shown)
    strip = run_sweep(session, PageState(), "radius")
    assert Pictures.open(io.BytesIO(strip.gif("volume"))).size == (288, 96)
    with pytest.raises(ValueError, match="slice"):
        PageState.read({"slice": 1.5})
