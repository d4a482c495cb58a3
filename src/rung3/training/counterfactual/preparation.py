"""What training on counterfactuals needs first: checks of the model, predictors, the constraint."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch

from rung3.data.rows import Rows, spell_unknown
from rung3.data.seeding import number_of, stream
from rung3.data.variables import Image, Mask, Variable
from rung3.mechanisms.base import Mechanism
from rung3.scm.interventions import Intervention
from rung3.scm.scm import SCM
from rung3.training.batches import Sweep, Table
from rung3.training.counterfactual.loss import CounterfactualLoss
from rung3.training.counterfactual.objective import CounterfactualObjective
from rung3.training.counterfactual.segmentor import check_region, fit_segmentor
from rung3.training.oracles.oracles import Oracle, Oracles, fit_oracles
from rung3.training.oracles.predictor import Predictor

__all__ = [
    "columns", "fit_committee", "fit_predictors", "images_of", "prepare", "rehearsal", "settable",
    "with_predictors",
]  # fmt: skip

WIDTH = 16
"""Width of predictors that the objective trains: half of that of evaluation's oracles."""

READ = 20_000
"""Rows that such predictors are trained on, at most: for three epochs, or for more where there are
fewer rows, up to thirty."""

LEGIBLE = 0.1
"""Least share of a parent's uncertainty that a predictor explains, for it to be a target."""

MEASURED = 2_000
"""Training rows that the constraint is measured on, at most."""

AT_ONCE = 200
"""Rows at once for that."""


def images_of(model: SCM) -> list[str]:
    """Return the images that have causes.

    Raises:
        ValueError: If there is none.
    """
    graph, variables = model.graph, model.variables
    images = [k for k, v in variables.items() if _is_picture(v) and graph.parents(k)]
    if not images:
        raise ValueError("objective='counterfactual' needs an image with causes; there is none")
    return images


def _is_picture(variable: Variable) -> bool:
    """Return whether it is an image, and no mask: what a mask is of is told by its image."""
    return isinstance(variable, Image) and not isinstance(variable, Mask)


def columns(objective: CounterfactualObjective, model: SCM, images: Collection[str]) -> list[str]:
    """Check that these mechanisms can be trained so, before anything starts.

    Returns:
        Names of the variables whose values are needed beside the mechanisms' own.

    Raises:
        ValueError: If one is not of an image, was not fitted before although its likelihood is
            to be held, has no parents that can be set, or if what carries an intervention on to
            it is not fitted.
    """
    wanted: list[str] = []
    _check_paths(objective, model, images)
    for image in images:
        _check_seen(model, image)
        if not isinstance(model.variables[image], Image):
            raise ValueError(
                f"{image}: the counterfactual objective is for images, and {image} is "
                f"{model.variables[image]}; fit it by its likelihood"
            )
        _check_jitter(objective, model, image)
        if objective.weight is None and image not in model.fitted:
            raise ValueError(
                f"{image}: not fitted yet, and the constraint is measured on a fitted "
                "mechanism; fit it by its likelihood first, or give a weight= to train it "
                "counterfactually from the start"
            )
        chosen = settable(objective, model, image)
        for name in _between(model, chosen, image):
            _check_carrier(model, image, name, images)
            wanted += [name, *model.graph.parents(name)]
        wanted += chosen
        for parent, region in (objective.segment or {}).items():
            wanted += [parent, region[0]]
    return list(dict.fromkeys(wanted))


def _check_jitter(objective: CounterfactualObjective, model: SCM, image: str) -> None:
    """Refuse to move an image out of its frame: a predictor would read its edge."""
    variable = model.variables[image]
    assert isinstance(variable, Image)
    if 2 * objective.jitter >= min(variable.sizes):
        raise ValueError(
            f"jitter={objective.jitter} must be less than half of the shortest side of {image}, "
            f"{min(variable.sizes)} px; 2 is usual"
        )


def _check_paths(objective: CounterfactualObjective, model: SCM, images: Collection[str]) -> None:
    """Refuse to set what no image depends on."""
    above = frozenset().union(*(model.graph.ancestors(k) for k in images if k in model.variables))
    known = above.union(images, [k for k in objective.intervene or () if k not in model.variables])
    idle = [k for k in objective.intervene or () if k not in known]
    if idle:
        raise ValueError(
            f"intervene: {', '.join(idle)} has no path to {' or '.join(images)}, so nothing would "
            f"be learned; choose among {sorted(above)}"
        )


def settable(objective: CounterfactualObjective, model: SCM, image: str) -> list[str]:
    """Return the variables that may be set, for an image.

    Raises:
        ValueError: If there is none, or a name is unknown, or a region to measure is none.
    """
    for parent, region in (objective.segment or {}).items():
        check_region(model, image, parent, region)
    parents = model.graph.parents(image)
    plain = [name for name in parents if not isinstance(model.variables[name], Image)]
    if objective.intervene is None:
        chosen = plain
    else:
        unknown = [name for name in objective.intervene if name not in model.variables]
        if unknown:
            raise ValueError(f"intervene: {spell_unknown(unknown, model.variables)}")
        above = model.graph.ancestors(image)
        chosen = [name for name in objective.intervene if name in above]
    if not chosen or not plain:
        raise ValueError(
            f"{image}: has no cause that could be set and read off it; its parents are "
            f"{list(parents)}"
        )
    if objective.at_once > len(chosen):
        raise ValueError(f"at_once={objective.at_once}: {image} has only {chosen} to be set")
    return chosen


def prepare(
    objective: CounterfactualObjective,
    model: SCM,
    images: Mapping[str, Mechanism],
    rows: Rows,
    held: Rows | None,
    seed: int,
    progress: bool,
) -> dict[str, CounterfactualLoss]:
    """Get predictors ready, measure the constraint, and give the loss of each image.

    Args:
        objective: The objective.
        model: The model.
        images: The mechanisms that are trained, by name.
        rows: Training rows.
        held: Validation rows, to measure the predictors on; if there are none, predictors are
            trained on nine tenths of the training rows, and those given measured on all.
        seed: Of the predictors, and of the rows that the constraint is measured on.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If no predictor can read any of an image's parents off it.
    """
    committee = _committee(objective, model, rows, held, seed, progress)
    losses = {}
    for image, mechanism in images.items():
        members = [
            {parent: oracle for (of, parent), oracle in oracles.items() if of == image}
            | _segmentors(objective, model, image, _parted(rows, held, seed), (seed, k), progress)
            for k, oracles in enumerate(committee)
        ]
        losses[image] = _loss(objective, model, mechanism, members, rows, seed)
    return losses


def _segmentors(
    objective: CounterfactualObjective,
    model: SCM,
    image: str,
    parts: tuple[Rows, Rows],
    which: tuple[int, int],
    progress: bool,
) -> dict[str, Predictor]:
    """Return the segmentors of a member, which take the place of its oracles; by parent."""
    (rows, held), (seed, member) = parts, which
    base = number_of(f"{seed}/segmentor {member}")
    return {
        parent: fit_segmentor(model, image, parent, region, rows, held, base, progress)
        for parent, region in (objective.segment or {}).items()
    }


def rehearsal(
    objective: CounterfactualObjective, model: SCM, mechanism: Mechanism
) -> CounterfactualLoss:
    """Return the loss of an image with untrained predictors, to see what a step costs."""
    chosen = settable(objective, model, mechanism.name)
    carriers = [model.mechanisms[name] for name in _between(model, chosen, mechanism.name)]
    image = model.variables[mechanism.name]
    assert isinstance(image, Image)
    readers = {
        name: Oracle(image, variable, WIDTH).requires_grad_(False)
        for name, variable in mechanism.parents.items()
        if not isinstance(variable, Image)
    }
    committee = [readers] * objective.committee
    loss = CounterfactualLoss(objective, mechanism, chosen, carriers, committee)
    loss.bound.zero_()
    return loss


def _committee(
    objective: CounterfactualObjective,
    model: SCM,
    rows: Rows,
    held: Rows | None,
    seed: int,
    progress: bool,
) -> list[Oracles]:
    """Return the members' predictors, measured: those given, or new ones."""
    if objective.predictors is None:
        return fit_committee(objective.committee, model, rows, held, seed, progress)
    members = copy.deepcopy(objective.members)
    for member in members:
        member.to(model.device).freeze()
        if any(oracle.explained.isnan() for oracle in member.values()):
            member.measure(model, rows if held is None else held)
    return members


def _loss(
    objective: CounterfactualObjective,
    model: SCM,
    mechanism: Mechanism,
    members: Sequence[Mapping[str, Predictor]],
    rows: Rows,
    seed: int,
) -> CounterfactualLoss:
    image = mechanism.name
    _check_members(image, members)
    explained: dict[str, float] = {}
    for name, oracle in itertools.chain.from_iterable(member.items() for member in members):
        _check_predictor(model, image, name, oracle)
        explained[name] = min(float(oracle.explained), explained.get(name, 1.0))
    legible = [name for name, share in explained.items() if share >= LEGIBLE]
    blind = [name for name in explained if name not in legible]
    shares = ", ".join(f"{share:.0%} of {name}" for name, share in explained.items())
    if not legible:
        raise ValueError(
            f"{image}: no predictor can read a parent off it; on rows that they were not "
            f"trained on they explain {shares or 'nothing: there are none'}"
        )
    if blind:
        warnings.warn(
            f"{image}: {' and '.join(blind)} cannot be read off it, and is not asked for; on "
            f"rows that they were not trained on the predictors explain {shares}",
            stacklevel=4,
        )
    chosen = settable(objective, model, image)
    if objective.intervene is None:
        chosen = [name for name in chosen if name in legible]
    carriers = [model.mechanisms[name] for name in _between(model, chosen, image)]
    readers = [{name: member[name] for name in legible} for member in members]
    loss = CounterfactualLoss(objective, mechanism, chosen, carriers, readers)
    if objective.weight is None:
        mean = _own_loss(mechanism, rows, seed)
        loss.bound.fill_(mean + objective.margin * abs(mean))
    return loss.to(model.device)


def fit_predictors(
    model: SCM, rows: Rows, held: Rows | None = None, seed: int = 0, progress: bool = True
) -> Oracles:
    """Fit oracles to train with: measured, and not those that evaluation trains with this seed.

    Args:
        model: Whose variables and graph are meant.
        rows: Training rows.
        held: Rows to measure them on; a tenth of the training rows if not given.
        seed: Of the choice of rows, the weights and the order.
        progress: Whether to show a progress bar.
    """
    some, held = _parted(rows, held, seed)
    base = stream(seed, "predictors").initial_seed()
    epochs = min(max(3, 3 * READ // some.n), 30)
    return fit_oracles(model, some, held, epochs=epochs, width=WIDTH, seed=base, progress=progress)


def _parted(rows: Rows, held: Rows | None, seed: int) -> tuple[Rows, Rows]:
    """Return rows to train predictors on, and those to measure them on: a tenth if not given."""
    order = torch.randperm(rows.n, generator=stream(seed, "predictors"))
    if held is None:
        cut = max(1, rows.n // 10)
        held, order = rows[order[:cut]], order[cut:]
    return rows[order[:READ]], held


def _check_members(image: str, members: Sequence[Collection[str]]) -> None:
    """Refuse members that do not read the same parents."""
    for k, member in enumerate(members):
        if set(member) != set(members[0]):
            raise ValueError(
                f"predictors: of {image}, member {k + 1} reads {sorted(member)} and the first "
                f"{sorted(members[0])}; every member must read the same parents"
            )


def fit_committee(
    members: int, model: SCM, rows: Rows, held: Rows | None, seed: int, progress: bool
) -> list[Oracles]:
    """Train predictors several times; the first are those of `fit_predictors`."""
    seeds = [seed, *(number_of(f"{seed}/member {k}") for k in range(1, members))]
    return [fit_predictors(model, rows, held, each, progress) for each in seeds]


def _between(model: SCM, chosen: Iterable[str], image: str) -> list[str]:
    """Return what lies below variables that are set and above the image, in topological order."""
    below = frozenset().union(*(model.graph.descendants(name) for name in chosen))
    between = below & model.graph.ancestors(image)
    return [name for name in model.graph.order if name in between]


def _check_seen(model: SCM, name: str) -> None:
    hidden = model.confounding.members.keys()
    # A district, which is trained as one, goes by the name of its hidden causes.
    if name not in model.variables or not hidden.isdisjoint(model.mechanisms[name].parents):
        raise ValueError(
            f"{name}: the counterfactual objective needs causes that are seen, and hidden ones "
            f"({', '.join(hidden)}) play a part; fit it by its likelihood"
        )


def _check_carrier(model: SCM, image: str, name: str, trained: Collection[str]) -> None:
    _check_seen(model, name)
    mechanism = model.mechanisms[name]
    if isinstance(mechanism, Intervention):
        raise ValueError(f"{name}: {mechanism.describe()}; fit the model before do({name}=...)")
    learned = any(True for _ in mechanism.parameters())
    if name in trained or (learned and name not in model.fitted):
        raise ValueError(
            f"{name}: lies between variables that are set and {image}, and is not fitted yet; fit "
            f"it first, by its likelihood: fit(model, rows, only=[{name!r}])"
        )


def _check_predictor(model: SCM, image: str, name: str, oracle: Predictor) -> None:
    expected = model.variables[image], model.variables.get(name)
    if (oracle.image, oracle.target) != expected or name not in model.graph.parents(image):
        raise ValueError(
            f"predictors: the one of {name} off {image} reads {oracle.target} off {oracle.image}, "
            f"expected {expected[1]} off {expected[0]}, a parent of it"
        )


def _own_loss(mechanism: Mechanism, rows: Rows, seed: int) -> float:
    """Return the loss that training would begin with, over training rows."""
    some = rows[torch.randperm(rows.n, generator=stream(seed, "constraint"))[:MEASURED]]
    table = Table(some, [mechanism])
    base = copy.deepcopy(mechanism).train()  # a copy, since schedules go on with every call
    device, total, n = mechanism.observed.device, 0.0, 0
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(stream(seed, f"{mechanism.name}/constraint").initial_seed())
        for batch in Sweep(table, AT_ONCE):
            value, parents = batch.of(mechanism)
            if len(value):
                parents = {name: column.to(device) for name, column in parents.items()}
                total += float(base.loss(value.to(device), parents)) * len(value)
                n += len(value)
    return total / n


def with_predictors(
    before: Mapping[str, Any],
    fitted: Mapping[str, dict[str, Any]],
    losses: Mapping[str, CounterfactualLoss],
) -> dict[str, dict[str, Any]]:
    """Return how mechanisms were fitted, with every predictor that any of them was trained by.

    Args:
        before: `SCM.fitted` before this fit, which went on from there.
        fitted: How they were fitted now.
        losses: The counterfactual losses, by image.
    """
    records = {}
    for name, record in fitted.items():
        predictors = dict.fromkeys(before.get(name, {}).get("predictors", ()))
        records[name] = dict(record)
        if name in losses:
            records[name]["objective"] = losses[name].provenance()
            predictors |= dict.fromkeys(losses[name].digests().values())
        if predictors:
            records[name]["predictors"] = list(predictors)
    return records
