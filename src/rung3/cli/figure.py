"""The pictures of the axioms for the runs of studies: what the command `rung3 figure` draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from rung3.data.rows import Rows
from rung3.evaluation import Oracles
from rung3.evaluation.figures import (
    Comparison,
    Reader,
    composition,
    effectiveness,
    reversibility,
)
from rung3.scm.scm import SCM
from rung3.study.folder import RunFolder

__all__ = ["Kind", "of_runs"]

Kind = Literal["composition", "effectiveness", "reversibility"]


def of_runs(
    kind: str,
    runs: Sequence[RunFolder],
    *,
    change: str | None = None,
    rows: Sequence[int] = range(4),
    n: int = 200,
    temperature: float = 0.0,
    seed: int = 0,
) -> Comparison:
    """Compare the models of several runs, on the first run's test rows.

    Args:
        kind: `"composition"`, `"effectiveness"` or `"reversibility"`.
        runs: The folders.
        change: The cause that is set; the image's first, if not given.
        rows: Which test rows are drawn.
        n: Number of test rows that errors are means over.
        temperature: Factor on a VAE's noise of observation.
        seed: Of the abductions.

    Raises:
        ValueError: If there is no such kind of picture, a run has no fitted model, or the runs'
            models do not fit the rows.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"{kind}: expected one of {', '.join(get_args(Kind))}")
    if kind == "composition" and change is not None:
        raise ValueError(f"change={change!r}: a null intervention changes nothing")
    models: dict[str, SCM] = {}
    for run in runs:
        name = run.study().name
        models[name if name not in models else str(run.path)] = run.model()
    test, world = runs[0].test()
    if n < 1 or max(rows, default=0) >= test.n:
        raise ValueError(f"rows: n={n}, rows={list(rows)}; the test rows are 0 to {test.n - 1}")
    asked = test[: max(n, max(rows, default=0) + 1)]
    if kind == "composition":
        return composition(models, asked, shown=rows, temperature=temperature, seed=seed)
    if kind == "reversibility":
        return reversibility(models, asked, change, shown=rows, temperature=temperature, seed=seed)
    return effectiveness(
        models,
        asked,
        change,
        truth=_truth(world, asked, change, next(iter(models.values()))),
        readers=_readers(runs[0], world),
        shown=rows,
        temperature=temperature,
        seed=seed,
    )


def _truth(world: SCM | None, rows: Rows, change: str | None, model: SCM) -> SCM | None:
    """The world, unless it does not know what the rows would have been."""
    if world is None:
        return None
    try:
        effectiveness({"truth": world}, rows[:2], change, shown=[0])
    except ValueError:
        return None
    return world


def _readers(run: RunFolder, world: SCM | None) -> Mapping[str, Reader]:
    """What reads causes off images: the world's measures, and else the run's oracles."""
    found: dict[str, Reader] = {}
    if run.oracles_path.is_file():
        oracles = Oracles.load(run.oracles_path)
        found |= {name: oracle.read for (_, name), oracle in oracles.items()}
    return found | dict(world.measures if world is not None else {})
