"""Opened runs: model, test rows, and where known the world and the oracles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rung3.data.rows import Rows
from rung3.data.variables import Image
from rung3.evaluation.verdict import Verdict
from rung3.scm.scm import SCM
from rung3.scm.zoo import find_model
from rung3.study.folder import RunFolder
from rung3.training.oracles.oracles import Oracles

__all__ = ["Opened", "open_runs"]

MAX_ROWS = 5_000
"""Training rows, at most, that answers are compared with: enough for histograms, and quick."""


@dataclass(frozen=True)
class Opened:
    """A model and what is known about it.

    Attributes:
        name: What the page calls it.
        model: The model.
        rows: Rows that it was not trained on.
        world: The world that they come from, where it is known.
        oracles: Predictors of the image's causes, where the run trained any.
        path: The run's folder, or the name of a model of the zoo, if there is one.
        verdict: What the run's report says of the model, if there is one.
        problem: What could not be read of the run and is left out, as text; empty for nothing.
    """

    name: str
    model: SCM
    rows: Rows
    world: SCM | None = None
    oracles: Oracles | None = None
    path: Path | None = None
    problem: str = ""
    verdict: Verdict | None = None

    @classmethod
    def of_run(cls, path: str | Path, name: str = "") -> Opened:
        """Open the folder of a run.

        Args:
            path: The folder.
            name: What the page calls it; by default, the folder's name.

        Raises:
            ValueError: If it is not one, training has not ended, or its model's files are altered.
        """
        run = RunFolder(path)
        place = Path(path) if run.held else run.path.resolve()
        model = run.model().eval().requires_grad_(False)
        rows, world = run.test()
        oracles, problem = None, ""
        try:
            oracles = Oracles.load(run.oracles_path) if run.oracles_path.is_file() else None
        except ValueError as error:
            problem = f"its predictors are left out: {error}"
        verdict = run.verdict()
        return cls(name or place.name, model, rows, world, oracles, place, problem, verdict)

    def trained_on(self) -> Rows | None:
        """Return some of the rows that the model was trained on, without images.

        Returns:
            At most 5,000 rows, or `None` if there is no folder of a run to read them from.

        Raises:
            ValueError: If the data of the run's study cannot be read.
        """
        if self.path is None:
            return None
        rows = RunFolder(self.path).study().splits().train
        variables = self.model.variables.items()
        train = Rows({name: rows[name] for name, v in variables if not isinstance(v, Image)})
        RunFolder(self.path).check_rows("train", train)
        order = torch.randperm(train.n, generator=torch.Generator().manual_seed(0))
        return train.select(order[:MAX_ROWS])


def open_runs(paths: Iterable[str | Path]) -> tuple[list[Opened], dict[str, str]]:
    """Open runs, each once: folders, or models by name as `rung3.scm.zoo` finds them.

    Each is named after its folder; where two names agree, by as much of the paths as differs.

    Returns:
        The opened runs; and by path, why a run could not be opened, or not in full.

    Raises:
        ValueError: If none can be opened.
    """
    broken: dict[str, str] = {}
    places = {}
    for path in map(str, paths):
        try:
            places[find_model(path).resolve()] = path
        except ValueError as error:
            broken[path] = f"could not be opened: {error}"
    opened = []
    for given, name in zip(places.values(), _names([*places]), strict=True):
        try:
            opened.append(Opened.of_run(given, name))
        except (ValueError, OSError) as error:
            broken[given] = f"could not be opened: {error}"
            continue
        if opened[-1].problem:
            broken[given] = opened[-1].problem
    if not opened:
        reasons = "; ".join(f"{given} {why}" for given, why in broken.items())
        raise ValueError(reasons or "no run was given")
    return opened, broken


def _names(places: Sequence[Path]) -> list[str]:
    """Return the shortest ends of different paths that differ."""
    depth = 1
    while len({place.parts[-depth:] for place in places}) < len(places):
        depth += 1
    return [str(Path(*place.parts[-depth:])) for place in places]
