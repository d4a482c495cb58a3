"""Pages to drive in headless Chromium: of digits, tables, colours, latents and hidden causes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import balls
import pytest
import torch
from driving import Driver, served

from rung3 import SCM, Binary, Continuous, Image, Rows, fit, worlds
from rung3.explorer import Consulted, Opened, Session
from rung3.mechanisms import HVAE, VAE, Equation, Stage
from rung3.training.oracles.oracles import fit_oracles

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("uvicorn", reason="needs rung3[web]")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs chromium", allow_module_level=True)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Driver]:
    driver = Driver(browser)
    yield driver
    driver.page.close()
    assert driver.faults == []


@pytest.fixture(scope="session")
def trained() -> Opened:
    """A small VAE that has seen enough digits to be looked at, and predictors."""
    world = worlds.digits()
    train, rows = world.sample(4_000, seed=0), world.sample(40, seed=1)
    torch.manual_seed(0)
    vae = SCM(world.graph, world.variables, {"image": VAE(latent=12, width=8, depth=1)})
    fit(vae, train, epochs=4, batch_size=64, seed=0, progress=False)
    oracles = fit_oracles(vae, train, epochs=2, width=8, progress=False)
    return Opened("vae", vae.eval().requires_grad_(False), rows, world, oracles)


@pytest.fixture(scope="session")
def learned(trained: Opened) -> Iterator[str]:
    """A model alone: a world does not know the noise of a user's own image."""
    with served(Session([trained])) as address:
        yield address


def bright(image: torch.Tensor) -> torch.Tensor:
    """A predictor: how bright an image is, as a probability."""
    return torch.sigmoid(40 * (image.flatten(1).mean(1) - 0.12))


@pytest.fixture(scope="session")
def judged(trained: Opened) -> Iterator[str]:
    """A model, and a predictor that is asked beside it."""
    with served(Session([trained], predictor=Consulted("models:bright", bright))) as address:
        yield address


@pytest.fixture(scope="session")
def drawn() -> Iterator[str]:
    """The world of digits alone, whose populations look like digits."""
    world = worlds.digits()
    with served(Session([Opened("world", world, world.sample(40, seed=1), world)])) as address:
        yield address


@pytest.fixture(scope="session")
def digits(trained: Opened) -> Iterator[str]:
    """A model beside the world, and a run that could not be opened."""
    world = Opened("world", worlds.digits(), trained.rows)
    broken = {"runs/lost": "could not be opened: it has no study.yaml"}
    with served(Session([trained, world], broken)) as address:
        yield address


@pytest.fixture(scope="session")
def table() -> Iterator[str]:
    kinds = {"dose": Continuous(unit="mg"), "recovered": Binary(labels=("no", "yes"))}
    equations = {
        "age": Equation("50 + 10*u"), "dose": Equation("age/10 + u"),
        "pressure": Equation("120 - 4*dose + age/5 + 3*u"),
    }  # fmt: skip
    graph = "age -> dose; {age dose} -> pressure; pressure -> recovered"
    model = SCM(graph, kinds, equations).eval().requires_grad_(False)
    with served(Session([Opened("trial", model, model.sample(400, seed=0))])) as address:
        yield address


@pytest.fixture(scope="session")
def colours() -> Iterator[str]:
    world = worlds.colour("digit-hue-saturation")
    with served(Session([Opened("colours", world, world.sample(30, seed=1), world)])) as address:
        yield address


@pytest.fixture(scope="session")
def scans() -> Iterator[str]:
    """Latents that the parents cause; the networks are perturbed, not trained."""
    stages = (Stage(16, 4, latents=2), Stage(8, 4, latents=2), Stage(4, 8, latents=2))
    image = HVAE(prior="conditional", stages=stages)
    equations = {"t": Equation("u"), "i": Equation("t + u")}
    model = SCM("t -> i; {t i} -> scan", {"scan": Image(1, 16, 16)}, {**equations, "scan": image})
    torch.manual_seed(0)
    for parameter in model.requires_grad_(False).parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.1)
    with served(Session([Opened("scans", model.eval(), model.sample(5, seed=0))])) as address:
        yield address


@pytest.fixture(scope="session")
def volumes() -> Iterator[str]:
    """The world of balls, in three dimensions."""
    world = balls.world()
    with served(Session([Opened("balls", world, world.sample(5, seed=1), world)])) as address:
        yield address


@pytest.fixture(scope="session")
def hidden() -> Iterator[str]:
    """A front door: x causes m causes y, and a hidden cause joins x and y."""
    model = SCM("x -> m -> y; x <-> y").eval().requires_grad_(False)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=torch.manual_seed(0))
        parameter.add_(noise, alpha=0.15)
    with served(Session([Opened("front door", model, model.sample(200, seed=0))])) as address:
        yield address


@pytest.fixture(scope="session")
def bow() -> Iterator[str]:
    """What x does to y cannot be told from what they share."""
    model = SCM("x -> y; x <-> y").eval().requires_grad_(False)
    rows = Rows({"x": torch.linspace(-1, 1, 9), "y": torch.linspace(0, 2, 9)})
    with served(Session([Opened("bow", model, rows)])) as address:
        yield address


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run: a study, and a model of it that has learned nothing."""
    from rung3.study.study import Study

    world = worlds.digits()
    image = VAE(latent=2, width=4, depth=1)
    described = {
        "name": "digits",
        "data": {"kind": "digits", "train": 50, "test": 8},
        "graph": str(world.graph),
        "variables": {name: variable.config() for name, variable in world.variables.items()},
        "mechanisms": {"image": {"kind": "VAE", **image.config()}},
    }
    folder = tmp_path / "digits"
    folder.mkdir()
    Study.model_validate(described).save(folder / "study.yaml")
    SCM(world.graph, world.variables, {"image": image}).save(folder / "model")
    return folder
