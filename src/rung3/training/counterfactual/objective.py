"""`CounterfactualObjective`: train an image mechanism for its answers, not its likelihood alone.

An image mechanism may explain its data well and still not listen to its parents: what they say can
be read off the image, and then the latents carry it. So let the images that it imagines be judged
in training (De Sousa Ribeiro et al. 2023, arXiv 2306.15764, section 3.3). At every step variables
are set to other rows' values, `do(a := a')`, what lies below them follows by the model's other
mechanisms, which stay as they are, and with the imagined image x~ of the abducted noise under the
counterfactual parents pa~ and predictors q_k of the parents, frozen too,

    minimise  -sum_k log q_k(pa~_k | x~)   subject to   NELBO(x, pa) <= c,

c being what the mechanism came to before the first step. Or, from the start of training,

    minimise  NELBO(x, pa) - w sum_k log q_k(pa~_k | x~).

With *soft* targets a parent that is neither set nor below one that is should look as it did, and
not as its label says: `log q_k(pa~_k | x~)` is then its expectation under `q_k(. | x)`. That keeps
attributes from being amplified (Xia et al. 2024, arXiv 2403.09422). See
`rung3.training.counterfactual.loss` for the loss itself.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from rung3.data.rows import Rows, spell_unknown
from rung3.data.seeding import stream
from rung3.data.variables import Image
from rung3.mechanisms.base import Mechanism
from rung3.scm.interventions import Intervention
from rung3.scm.scm import SCM
from rung3.training.batches import Sweep, Table
from rung3.training.counterfactual.loss import CounterfactualLoss
from rung3.training.oracles.oracles import Oracle, Oracles, fit_oracles

__all__ = ["CounterfactualObjective", "fit_predictors"]

FINE = 1e-4
"""Learning rate of a mechanism that was fitted before."""

WIDTH = 16
"""Width of predictors that the objective trains: half of that of evaluation's oracles."""

READ = 20_000
"""Rows that such predictors are trained on, at most: three times, or oftener where there are fewer,
up to thirty times."""

LEGIBLE = 0.1
"""Least share of a parent's uncertainty that a predictor explains, for it to be a target."""

MEASURED = 2_000
"""Training rows that the constraint is measured on, at most."""

AT_ONCE = 200
"""Rows at once for that."""


@dataclass(frozen=True, kw_only=True)
class CounterfactualObjective:
    """The counterfactual objective of image mechanisms: `fit(model, rows, objective=...)`.

    Without a `weight` it is for a mechanism that was fitted by its likelihood before: the
    likelihood is held, and the learning rate is 1e-4 if `fit` is not told. With one, it is there
    from the start of training. The mechanisms that carry an intervention on to the image must be
    fitted.

    Args:
        intervene: Variables that are set, causes of the image; by default every parent of it, but
            for images and what the predictors cannot read.
        at_once: How many of them are set together, drawn anew at every step.
        soft: Whether parents that are neither set nor below one that is should look as they did,
            rather than as their labels say.
        kept: Share of rows whose noise of observation (eps) is kept; the others are predicted from
            the latents alone.
        share: Share of a batch's rows that counterfactuals are made of.
        weight: Of the predictors' log-loss, a nat of it against a nat of the likelihood; if not
            given, the likelihood is a constraint instead.
        after: With a weight: steps by likelihood alone, to begin with.
        ramp: With a weight: steps in which it then rises from 0.
        margin: Of the constraint: what the loss may rise by, as a share of what it was.
        rate: Of the constraint: rate of the multiplier's ascent, times the damping.
        damping: Of the constraint: what a loss above it costs at once, see
        `rung3.training.counterfactual.loss`.
        predictors: Oracles of the parents (`rung3.evaluation.fit_oracles`), not those that will
            judge the model; if not given, the objective trains its own.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> CounterfactualObjective(weight=1.0, soft=True)
        CounterfactualObjective(soft=True, weight=1.0)
    """

    intervene: Collection[str] | None = None
    at_once: int = 1
    soft: bool = False
    kept: float = 1.0
    share: float = 0.5
    weight: float | None = None
    after: int = 300
    ramp: int = 300
    margin: float = 0.0
    rate: float = 1e-2
    damping: float = 100.0
    predictors: Oracles | None = None

    def __post_init__(self) -> None:
        if isinstance(self.intervene, str) or (self.intervene is not None and not self.intervene):
            raise ValueError(f"intervene={self.intervene!r} must be a list of names")
        if self.at_once < 1 or (self.intervene and self.at_once > len(self.intervene)):
            raise ValueError(
                f"at_once={self.at_once} must be at least 1, and at most the number of variables "
                "that are set"
            )
        for name in ("kept", "share"):
            value = getattr(self, name)
            if not (0 if name == "kept" else 1e-9) <= value <= 1:
                raise ValueError(f"{name}={value} must be a share between 0 and 1")
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise ValueError(f"weight={self.weight} must be greater than 0")
        for name in ("after", "ramp", "margin", "rate", "damping"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0")
        if self.predictors is not None and not isinstance(self.predictors, Oracles):
            raise ValueError(
                f"predictors: expected Oracles, as fit_oracles gives them, got {self.predictors!r}"
            )

    @property
    def lr(self) -> float | None:
        """The learning rate where none is given; none of its own with a weight."""
        return FINE if self.weight is None else None

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"CounterfactualObjective({said})"

    def config(self) -> dict[str, Any]:
        """The options that differ from their defaults, the predictors aside."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "predictors"}
        defaults = {f.name: f.default for f in fields(self)}
        return {
            name: list(value) if name == "intervene" else value
            for name, value in found.items()
            if value != defaults[name]
        }

    def images(self, model: SCM) -> list[str]:
        """The images that have causes.

        Raises:
            ValueError: If there is none.
        """
        graph, variables = model.graph, model.variables
        found = [k for k, v in variables.items() if isinstance(v, Image) and graph.parents(k)]
        if not found:
            raise ValueError("objective='counterfactual' needs an image with causes; there is none")
        return found

    def columns(self, model: SCM, images: Collection[str]) -> list[str]:
        """Check that these mechanisms can be trained so, before anything starts.

        Returns:
            Names of the variables whose values are needed beside the mechanisms' own.

        Raises:
            ValueError: If one is not of an image, was not fitted before although its likelihood is
                to be held, has no parents that can be set, or if what carries an intervention on to
                it is not fitted.
        """
        wanted: list[str] = []
        for image in images:
            _check_seen(model, image)
            if not isinstance(model.variables[image], Image):
                raise ValueError(
                    f"{image}: the counterfactual objective is for images, and {image} is "
                    f"{model.variables[image]}; fit it by its likelihood"
                )
            if self.weight is None and image not in model.fitted:
                raise ValueError(
                    f"{image}: not fitted yet, and the constraint is measured on a fitted "
                    "mechanism; fit it by its likelihood first, or give a weight= to train it "
                    "counterfactually from the start"
                )
            chosen = self.settable(model, image)
            for name in _between(model, chosen, image):
                _check_carrier(model, image, name, images)
                wanted += [name, *model.graph.parents(name)]
            wanted += chosen
        return list(dict.fromkeys(wanted))

    def settable(self, model: SCM, image: str) -> list[str]:
        """The variables that may be set, for an image.

        Raises:
            ValueError: If there is none, or a name is unknown.
        """
        parents = model.graph.parents(image)
        plain = [name for name in parents if not isinstance(model.variables[name], Image)]
        if self.intervene is None:
            chosen = plain
        else:
            unknown = [name for name in self.intervene if name not in model.variables]
            if unknown:
                raise ValueError(f"intervene: {spell_unknown(unknown, model.variables)}")
            above = model.graph.ancestors(image)
            chosen = [name for name in self.intervene if name in above]
        if not chosen or not plain:
            raise ValueError(
                f"{image}: has no cause that could be set and read off it; its parents are "
                f"{list(parents)}"
            )
        if self.at_once > len(chosen):
            raise ValueError(f"at_once={self.at_once}: {image} has only {chosen} to be set")
        return chosen

    def prepare(
        self,
        model: SCM,
        images: Mapping[str, Mechanism],
        rows: Rows,
        held: Rows | None,
        seed: int,
        progress: bool,
    ) -> dict[str, CounterfactualLoss]:
        """Get predictors ready, measure the constraint, and give the loss of each image.

        Args:
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
        predictors = self._predictors(model, rows, held, seed, progress)
        return {
            image: self._loss(model, mechanism, predictors, rows, seed)
            for image, mechanism in images.items()
        }

    def rehearsal(self, model: SCM, mechanism: Mechanism) -> CounterfactualLoss:
        """The loss of an image with predictors that know nothing: to see what a step costs."""
        chosen = self.settable(model, mechanism.name)
        carriers = [model.mechanisms[name] for name in _between(model, chosen, mechanism.name)]
        image = model.variables[mechanism.name]
        assert isinstance(image, Image)
        readers = {
            name: Oracle(image, variable, WIDTH).requires_grad_(False)
            for name, variable in mechanism.parents.items()
            if not isinstance(variable, Image)
        }
        loss = CounterfactualLoss(self, mechanism, chosen, carriers, readers)
        loss.bound.zero_()
        return loss

    def _predictors(
        self, model: SCM, rows: Rows, held: Rows | None, seed: int, progress: bool
    ) -> Oracles:
        if self.predictors is not None:
            given = copy.deepcopy(self.predictors).to(model.device)
            given.freeze()
            if any(oracle.explained.isnan() for oracle in given.values()):
                given.measure(model, rows if held is None else held)
            return given
        return fit_predictors(model, rows, held, seed, progress)

    def _loss(
        self, model: SCM, mechanism: Mechanism, predictors: Oracles, rows: Rows, seed: int
    ) -> CounterfactualLoss:
        image = mechanism.name
        readers = {name: oracle for (of, name), oracle in predictors.items() if of == image}
        for name, oracle in readers.items():
            _check_predictor(model, image, name, oracle)
        legible = {name: o for name, o in readers.items() if o.explained >= LEGIBLE}
        blind = [name for name in readers if name not in legible]
        said = ", ".join(f"{float(o.explained):.0%} of {name}" for name, o in readers.items())
        if not legible:
            raise ValueError(
                f"{image}: no predictor can read a parent off it; on rows that they were not "
                f"trained on they explain {said or 'nothing: there are none'}"
            )
        if blind:
            warnings.warn(
                f"{image}: {' and '.join(blind)} cannot be read off it, and is not asked for; on "
                f"rows that they were not trained on the predictors explain {said}",
                stacklevel=4,
            )
        chosen = self.settable(model, image)
        if self.intervene is None:
            chosen = [name for name in chosen if name in legible]
        carriers = [model.mechanisms[name] for name in _between(model, chosen, image)]
        loss = CounterfactualLoss(self, mechanism, chosen, carriers, legible)
        if self.weight is None:
            own = _own_loss(mechanism, rows, seed)
            loss.bound.fill_(own + self.margin * abs(own))
        return loss.to(model.device)


def fit_predictors(
    model: SCM, rows: Rows, held: Rows | None = None, seed: int = 0, progress: bool = True
) -> Oracles:
    """Oracles to train with: measured, and not those that evaluation trains with the same seed.

    Args:
        model: Whose variables and graph are meant.
        rows: Training rows.
        held: Rows to measure them on; a tenth of the training rows if not given.
        seed: Of the choice of rows, the weights and the order.
        progress: Whether to show a progress bar.
    """
    generator = stream(seed, "predictors")
    order = torch.randperm(rows.n, generator=generator)
    if held is None:
        cut = max(1, rows.n // 10)
        held, order = rows[order[:cut]], order[cut:]
    base, some = generator.initial_seed(), rows[order[:READ]]
    epochs = min(max(3, 3 * READ // some.n), 30)
    return fit_oracles(model, some, held, epochs=epochs, width=WIDTH, seed=base, progress=progress)


def _between(model: SCM, chosen: Iterable[str], image: str) -> list[str]:
    """What lies below variables that are set and above the image, in topological order."""
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


def _check_predictor(model: SCM, image: str, name: str, oracle: Oracle) -> None:
    expected = model.variables[image], model.variables.get(name)
    if (oracle.image, oracle.target) != expected or name not in model.graph.parents(image):
        raise ValueError(
            f"predictors: the one of {name} off {image} reads {oracle.target} off {oracle.image}, "
            f"expected {expected[1]} off {expected[0]}, a parent of it"
        )


def _own_loss(mechanism: Mechanism, rows: Rows, seed: int) -> float:
    """The loss that training would begin with, over training rows."""
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
