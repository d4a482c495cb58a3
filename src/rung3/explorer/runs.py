"""A run, opened to be explored: its model, the rows to look at, and who can judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rung3.data import split
from rung3.data.rows import Rows
from rung3.data.variables import Image
from rung3.scm.scm import SCM
from rung3.study.folder import RunFolder
from rung3.training.oracles.oracles import Oracles

__all__ = ["Opened", "open_runs"]

SAMPLE = 5_000
"""Training rows, at most, that answers are compared with."""


@dataclass(frozen=True)
class Opened:
    """A model and what is known of it.

    Attributes:
        name: What the page calls it.
        model: The model.
        rows: Rows that it was not trained on.
        world: The world that they come from, where it is known.
        oracles: Predictors of the image's causes, where the run trained any.
        path: The run's folder, if there is one.
        lacks: What of the run could not be read and is done without, in words.
    """

    name: str
    model: SCM
    rows: Rows
    world: SCM | None = None
    oracles: Oracles | None = None
    path: Path | None = None
    lacks: str = ""

    @classmethod
    def of_run(cls, path: str | Path, name: str = "") -> Opened:
        """Open the folder of a run.

        Args:
            path: The folder.
            name: What the page calls it; the folder's name, if not given.

        Raises:
            ValueError: If it is not one, training has not ended, or its model's files are altered.
        """
        run, place = RunFolder(path), Path(path).resolve()
        model = run.model().eval().requires_grad_(False)
        rows, world = run.test()
        oracles, lacks = None, ""
        try:
            oracles = Oracles.load(run.oracles_path) if run.oracles_path.is_file() else None
        except ValueError as error:
            lacks = f"its predictors are left out: {error}"
        return cls(name or place.name, model, rows, world, oracles, place, lacks)

    def trained_on(self) -> Rows | None:
        """A sample of the rows that the model was trained on, without images; `None` if not known.

        Raises:
            ValueError: If the data of the run's study cannot be read.
        """
        if self.path is None:
            return None
        study = RunFolder(self.path).study()
        read = study.data.train_rows(study.declared(), study.seed)
        kept = Rows({k: read[k] for k, v in self.model.variables.items() if not _image(v)})
        train, _ = split(kept, study.data.validation, study.seed)
        RunFolder(self.path).check_rows("train", train)
        order = torch.randperm(train.n, generator=torch.Generator().manual_seed(0))
        return train.select(order[:SAMPLE])


def open_runs(paths: Iterable[str | Path]) -> tuple[list[Opened], dict[str, str]]:
    """Open runs, each once, and say of those that cannot be opened, or not in full, why.

    They are called by their folders' names; where two agree, by as much of the paths as tells them
    apart.

    Raises:
        ValueError: If none can.
    """
    places = {Path(path).resolve(): str(path) for path in paths}
    found, broken = [], {}
    for (place, given), name in zip(places.items(), _names([*places]), strict=True):
        try:
            found.append(Opened.of_run(place, name))
        except (ValueError, OSError) as error:
            broken[given] = f"could not be opened: {error}"
            continue
        if found[-1].lacks:
            broken[given] = found[-1].lacks
    if not found:
        said = "; ".join(f"{given} {why}" for given, why in broken.items())
        raise ValueError(said or "no run was given")
    return found, broken


def _names(places: Sequence[Path]) -> list[str]:
    """The shortest ends of different paths that differ."""
    depth = 1
    while len({place.parts[-depth:] for place in places}) < len(places):
        depth += 1
    return [str(Path(*place.parts[-depth:])) for place in places]


def _image(variable: object) -> bool:
    return isinstance(variable, Image)
