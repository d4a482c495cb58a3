"""Rows that a world draws."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field

from rung3 import worlds
from rung3.data.readers.mnist import Split
from rung3.data.rows import Rows, map_noise
from rung3.data.seeding import stream
from rung3.data.stored import as_stored
from rung3.data.variables import Image
from rung3.scm.propagation import generate
from rung3.scm.scm import SCM
from rung3.study.parser import FilePath
from rung3.study.row_source import Count, RowSource, Variables, check_row
from rung3.worlds.strokes.scenarios import Scenario

__all__ = ["BrainData", "ChestData", "ColourData", "DigitsData"]


def _draw_row(world: SCM, n: int, seed: int, at: int) -> Rows:
    """Draw one of the rows that `world.sample(n, seed=seed)` gives, and only its image.

    Noise comes in one stream for all rows; what takes time is to render it.
    """
    images = [name for name, kind in world.variables.items() if isinstance(kind, Image)]
    if any(world.graph.descendants([name]) - set(images) for name in images):
        return world.sample(n, seed=seed)[at]
    causes = [name for name in world.variables if name not in images]
    values, noise = generate(world, n, seed, only=causes)
    row = {name: column[at : at + 1] for name, column in values.items()}
    for name in (name for name in world.graph.order if name in images):
        mechanism = world.mechanisms[name]
        every = {parent: values[parent] for parent in mechanism.parents if parent in values}
        if len(every) < len(mechanism.parents):  # an image of an image
            return world.sample(n, seed=seed)[at]
        noise[name] = mechanism.sample_noise(n, every, stream(seed, name, world.device))
        part_noise = map_noise(lambda part: part[at : at + 1], noise[name])
        row[name] = mechanism.predict(part_noise, {parent: row[parent] for parent in every})
    own_noise = {k: map_noise(lambda part: part[at : at + 1], u) for k, u in noise.items()}
    return Rows(
        {name: row[name] for name in world.graph.nodes}, noise=own_noise, world=world.world
    )[0]


def _held(world: SCM, rows: Rows) -> Rows:
    """Return drawn rows with the images held as levels, as those that are read from files."""
    kinds = world.variables
    images = {k: kind.levels for k, kind in kinds.items() if isinstance(kind, Image)}
    values = {k: as_stored(v, images[k]) if k in images else v for k, v in rows.items()}
    return Rows(values, noise=rows.noise, world=rows.world, provenance=rows.provenance)


class _Drawn(RowSource):
    """Rows that a world draws."""

    train: Count = 20_000
    test: Count = 1_000

    @abstractmethod
    def world(self, split: Split) -> SCM:
        """Return the world that the rows come from."""

    def drawn(self) -> dict[str, int]:
        return {"train": self.train, "test": self.test}

    @property
    def is_read(self) -> bool:
        return False

    def train_rows(self, variables: Variables, seed: int) -> Rows:
        world = self.world("train")
        return _held(world, world.sample(self.train, seed=2 * seed))

    def test_rows(self, variables: Variables, seed: int, at: int | None = None) -> Rows:
        world, seed = self.world("test"), 2 * seed + 1
        if at is None:
            return _held(world, world.sample(self.test, seed=seed))
        check_row(at, self.test)
        return _draw_row(world, self.test, seed, at)

    def truth(self) -> SCM | None:
        return self.world("test")


class DigitsData(_Drawn):
    """Rows drawn from `rung3.worlds.digits`.

    Args:
        train: Number of rows to train on.
        test: Number of rows to test on.
        validation: Share of the training rows set aside.
    """

    kind: Literal["digits"]

    def world(self, split: Split) -> SCM:
        return worlds.digits()


class BrainData(_Drawn):
    """Rows drawn from `rung3.worlds.brain`.

    Args:
        size: Pixels per side.
        volume: Whether images are volumes, and not slices.
        site: Whether the scan's site is a cause of the image.
        template: Whether the anatomy is the template's or a phantom's; by default the template's,
            if it is installed.
        train: Number of rows to train on.
        test: Number of rows to test on.
        validation: Share of the training rows set aside.
    """

    kind: Literal["brain"]
    size: Count = 64
    volume: bool = False
    site: bool = False
    template: bool | None = None

    def world(self, split: Split) -> SCM:
        return worlds.brain(self.size, volume=self.volume, site=self.site, template=self.template)


class ChestData(_Drawn):
    """Rows drawn from `rung3.worlds.chest`.

    Args:
        size: Pixels per side.
        site: Whether the radiograph's site is a cause of the image.
        referral: Share of patients whose disease decides the site.
        train: Number of rows to train on.
        test: Number of rows to test on.
        validation: Share of the training rows set aside.
    """

    kind: Literal["chest"]
    size: Count = 64
    site: bool = False
    referral: Annotated[float, Field(ge=0, le=1)] = 0.0

    def world(self, split: Split) -> SCM:
        return worlds.chest(self.size, site=self.site, referral=self.referral)


class ColourData(_Drawn):
    """Rows drawn from `rung3.worlds.colour`.

    Args:
        scenario: Which causes the image has.
        outliers: Probability that a confounded value is an outlier; 0 for no full support.
        confounded: Whether the causes depend on each other.
        mnist: Folder of the raw MNIST files, to paint those digits; drawn ones, if not given.
        train: Number of rows to train on.
        test: Number of rows to test on.
        validation: Share of the training rows set aside.
    """

    kind: Literal["colour"]
    scenario: Scenario
    outliers: Annotated[float, Field(ge=0, lt=1)] = 0.05
    confounded: bool = True
    mnist: FilePath | None = None

    def world(self, split: Split) -> SCM:
        return worlds.colour(
            self.scenario,
            outliers=self.outliers,
            confounded=self.confounded,
            root=self.mnist,
            split=split,
        )
