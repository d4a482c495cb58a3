"""Rung two: how far the model's distribution under an intervention is from the world's.

    D(P_model(x | do), P_world(x | do)),      D: squared MMD, or energy distance

between fresh samples of both, drawn independently. All variables that were not set are compared
jointly, so that a wrong dependence shows as a wrong mean does. Numbers are standardised by the
world's sample, categories are one-hot, and images are seen through their oracles' features.

A model may be right here and wrong on rung three: noise that is shuffled among rows changes no
distribution. Beside each value stands what chance gives at this n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.variables import Image
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.base import Examination, Measure, Section, or_why
from rung3.evaluation.measures.realism import features
from rung3.evaluation.two_sample import Apart, compare, energy, gaussian
from rung3.mechanisms.networks.encoding import ParentEncoder, deviation
from rung3.scm.query import Query
from rung3.training.oracles.oracles import Oracles

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["DISTANCE", "interventional"]

SAMPLE = 500
"""Rows of an interventional distribution, at most."""


@torch.no_grad()
def interventional(
    model: SCM,
    world: SCM,
    do: Mapping[str, Any],
    *,
    names: Iterable[str] | None = None,
    oracles: Oracles | None = None,
    n: int = 500,
    deals: int = 200,
    seed: Seed = None,
) -> dict[str, Apart]:
    """Measure the distance of the model's interventional distribution from the world's.

    Args:
        model: The model.
        world: The world.
        do: The intervention, as `SCM.do` takes it.
        names: Variables to compare; if not given, all that are not set.
        oracles: Oracles of the images among them.
        n: Rows drawn from each.
        deals: Random deals, for what chance gives.
        seed: Of the samples, which share no noise, and of the deals.

    Returns:
        By measure, `mmd` and `energy`: the unbiased value, and what chance gives.

    Raises:
        ValueError: If nothing is left to compare, or an image has no oracle.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> found = interventional(world, world, {"x1": 2.0}, n=100, seed=0)["energy"]
        >>> found.value < found.chance
        True
    """
    wanted = [k for k in model.variables if (k not in do if names is None else k in set(names))]
    if not wanted:
        raise ValueError("interventional: every variable is set; there is nothing to compare")
    base = base_seed(seed)
    true = world.do(do).sample(n, seed=stream(base, "world")).to(model.device)
    imagined = model.do(do).sample(n, seed=stream(base, "model"))
    x, y = _encoded(model, [imagined, true], wanted, oracles)
    generator = stream(base, "deals")
    kernels = {"mmd": gaussian(y), "energy": energy}
    return {name: compare(x, y, kernel, deals, generator) for name, kernel in kernels.items()}


def _encoded(
    model: SCM, samples: list[Rows], names: list[str], oracles: Oracles | None
) -> list[Tensor]:
    """Return samples as vectors `(n, d)`, standardised by the last one."""
    plain = {k: model.variables[k] for k in names if not isinstance(model.variables[k], Image)}
    encoder = ParentEncoder(plain).to(model.device)
    columns = [[encoder(rows, rows.n)] for rows in samples]
    for image in (k for k in names if k not in plain):
        of_image = [oracle for (of, _), oracle in (oracles or {}).items() if of == image]
        if not of_image:
            raise ValueError(f"interventional: {image} is an image, and has no oracle")
        for column, rows in zip(columns, samples, strict=True):
            column.append(features(of_image, rows[image]))
    vectors = [torch.cat(column, dim=1).double() for column in columns]
    last = vectors[-1]
    return [(v - last.mean(0)) / deviation(last) for v in vectors]


def _compute(
    exam: Examination, rows: Rows, queries: Sequence[Query], known: int, bootstrap: Bootstrap
) -> dict[str, Any]:
    return {"distance": {query.label: _apart(exam, query, known) for query in queries}}


def _apart(exam: Examination, query: Query, known: int) -> Mapping[str, Any]:
    if exam.truth is None:
        return {"undefined": "the world is not known"}
    if query.hold:
        return {"undefined": "other parents are held, which is not an intervention"}
    n = min(known, SAMPLE)
    do, world = query.at(slice(0, n), exam.model.device), exam.truth

    def measure() -> dict[str, Any]:
        read = {image for image, _ in exam.oracles}
        names = [
            name
            for name, variable in exam.model.variables.items()
            if name not in do and (not isinstance(variable, Image) or name in read)
        ]
        distances = interventional(
            exam.model, world, do, names=names, oracles=exam.oracles, n=n, seed=exam.seed
        )
        return {name: value._asdict() for name, value in distances.items()}

    return or_why(measure)


DISTANCE = Measure(
    name="distance",
    about="energy distance of counterfactuals from the world's interventional rows",
    sections=(
        Section(
            "distance",
            "Rung two: distance from the world's interventional distribution",
            "Fresh samples of both, compared jointly; below chance they cannot be distinguished.",
            plain=True,
        ),
    ),
    rung=2,
    compute=_compute,
)
