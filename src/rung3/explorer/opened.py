"""A run, opened to be explored: its model, the rows to look at, and who can judge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rung3.evaluation.oracles import Oracles
from rung3.rows import Rows
from rung3.runs import RunFolder
from rung3.scm import SCM

__all__ = ["Opened", "open_runs"]


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
    """

    name: str
    model: SCM
    rows: Rows
    world: SCM | None = None
    oracles: Oracles | None = None
    path: Path | None = None

    @classmethod
    def of_run(cls, path: str | Path) -> Opened:
        """Open the folder of a run.

        Raises:
            ValueError: If it is not one, training has not ended, or its files are altered.
        """
        run = RunFolder(path)
        model = run.model().eval().requires_grad_(False)
        rows, world = run.test()
        oracles = Oracles.load(run.oracles_path) if run.oracles_path.is_file() else None
        return cls(Path(path).resolve().name, model, rows, world, oracles, Path(path).resolve())


def open_runs(paths: Iterable[str | Path]) -> tuple[list[Opened], dict[str, str]]:
    """Open runs, and say of those that cannot be opened why.

    Raises:
        ValueError: If none can.
    """
    found, broken = [], {}
    for path in paths:
        try:
            found.append(Opened.of_run(path))
        except (ValueError, OSError) as error:
            broken[str(path)] = str(error)
    if not found:
        raise ValueError("; ".join(broken.values()) or "no run was given")
    return found, broken
