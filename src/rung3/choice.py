"""`choose`: the simplest mechanism that the rows do not speak against, and the reason why.

For each variable some mechanisms are tried, the simplest first. With l_c the log-likelihoods that
candidate c gives to rows, and b the best of them on average, c is *as good* if

    mean(l_b - l_c) <= min(2 sd(l_b - l_c) / sqrt(n), NATS / n),

no worse than by two standard errors, nor by more than some nats in all n rows. They are rows held
out; if it is known how many parameters each candidate took from the rows that it learned from, the
likelihood of these counts too, less that number (Akaike 1973), and tells so much finer differences.
Of those as good, the simplest whose noise is independent of the parents (`rung3.diagnosis`) is
chosen; if there is none, the best, and it says so.

Richer ones are tried while there is something left to explain: once a candidate's noise is
independent, no richer kind of noise (additive, with a spread, of any shape), and none of its kind
after the first that is no better. Mechanisms that are trained, not solved, are tried with half of
the steps; among these, up to `MARGIN` a row does not count, as it is of the training. The winner
goes on from its trial, on all rows, with the other half.

The likelihood tells a fit from a misfit, and of two mechanisms that fit alike the simpler one errs
less off the data: a counterfactual often asks there. Neither tells assumptions apart that fit the
same data (see the page on choosing).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rung3.batches import Table
from rung3.data.splits import split
from rung3.diagnosis import independence
from rung3.mechanisms import (
    AdditiveNoise,
    Flow,
    GumbelMax,
    InverseCDF,
    Mechanism,
    default_mechanism,
)
from rung3.mechanisms.encoding import ParentEncoder
from rung3.rows import Rows, as_rows, spell_unknown
from rung3.scm import SCM
from rung3.seeding import Seed, base_seed, stream
from rung3.training import calibrate, fit
from rung3.undeclared import infer
from rung3.variables import Categorical, Continuous, Discrete, Image, Variable

__all__ = ["Choice", "Trial", "choose"]

LEAST, TERMS, MARGIN, NATS = 50, 100, 0.03, 7
"""Rows that must be held out; most terms of a polynomial that is tried; nats that do not count, a
row, of mechanisms that are trained; and nats that count, in all rows, of those that are solved."""
MANY, POLISH = 65_536, 1e-4
"""Rows a step, and its learning rate, of mechanisms that are solved beforehand."""


@dataclass(frozen=True)
class Trial:
    """What rows say of one candidate.

    Attributes:
        mechanism: The candidate, as it would be written.
        log_prob: Mean log-likelihood in nats, less what its parameters took (see the module).
        behind: How much less that is than the best candidate's; and
        error: the standard error of that difference.
        independence: P-value that its noise and the parents are independent (NaN: no parents).
        level: What that is compared with.
        least: Nats that do not count, and
        most: nats that do, whatever the standard error.
    """

    mechanism: str
    log_prob: float
    behind: float
    error: float
    independence: float
    level: float
    least: float
    most: float

    @property
    def as_good(self) -> bool:
        """Whether it is as good as the best, as nearly as the rows can tell."""
        return self.behind <= max(self.least, min(2 * self.error, self.most))

    @property
    def independent(self) -> bool:
        """Whether nothing speaks against the independence of noise and parents."""
        return not self.independence <= self.level

    def __str__(self) -> str:
        apart = (
            "" if math.isnan(self.independence) else f", independence p = {self.independence:.2g}"
        )
        behind = f"{self.behind:.4f} +- {self.error:.4f} behind" if self.behind else "the best"
        return f"{self.mechanism}: log p = {self.log_prob:.4f}, {behind}{apart}"


@dataclass(frozen=True)
class Choice:
    """The mechanisms that were chosen, fitted, and why.

    Attributes:
        model: The model with the chosen mechanisms, fitted on all rows.
        chosen: The mechanism of each variable, as it would be written.
        reasons: Why, in one clause, by variable.
        trials: What was tried, the simplest first, by variable.
    """

    model: SCM
    chosen: Mapping[str, str]
    reasons: Mapping[str, str]
    trials: Mapping[str, list[Trial]]

    def __str__(self) -> str:
        lines = []
        for name, chosen in self.chosen.items():
            lines.append(f"{name}: {chosen}: {self.reasons[name]}")
            lines += [f"    {trial}" for trial in self.trials.get(name, ())]
        return "\n".join(lines)


def candidates(variable: Variable, parents: Mapping[str, Variable]) -> list[list[Mechanism]]:
    """What is tried for a variable: kinds, the simplest first, and of each kind some.

    Numbers: additive noise about a line, a parabola, a cubic, a network; then noise whose spread
    depends on the parents; then noise whose shape does. Categories: logistic, then networks.

    Example:
        >>> from rung3 import Continuous
        >>> candidates(Categorical(3), {"age": Continuous()})
        [[GumbelMax(hidden=()), GumbelMax()]]
    """
    if not parents or isinstance(variable, Image):
        return [[default_mechanism(variable)]]
    if isinstance(variable, Categorical) and type(default_mechanism(variable)) is GumbelMax:
        return [[GumbelMax(hidden=()), GumbelMax()]]
    if isinstance(variable, Discrete):
        return [[InverseCDF(hidden=()), InverseCDF()]]
    circular = isinstance(variable, Continuous) and variable.circular
    if circular or any(isinstance(kind, Image) for kind in parents.values()):
        return [[Flow(splines=0), Flow()]]
    width = ParentEncoder(parents).width
    polynomials = [AdditiveNoise(degree=k) for k in (1, 2, 3) if math.comb(width + k, k) <= TERMS]
    return [[*polynomials, AdditiveNoise()], [AdditiveNoise(spread=True)], [Flow()]]


def choose(
    model: SCM,
    rows: Mapping[str, Any],
    *,
    among: Mapping[str, Iterable[Mechanism]] | None = None,
    held_out: float = 0.2,
    level: float = 0.001,
    seed: Seed = 0,
    steps: int = 400,
    batch_size: int = 1_024,
    **options: Any,
) -> Choice:
    """Choose the mechanisms that a model's user did not name, by held-out rows, and fit them.

    Args:
        model: The model, whose named mechanisms are kept; it is left as it is.
        rows: Training rows; missing values as in `fit`.
        among: Candidates of a variable, the simplest first, all of them tried; `candidates` where
            not given. A variable named here is chosen for, also if its mechanism was.
        held_out: Share of the rows that judge the candidates.
        level: Of the test of independence, before Holm's correction for the candidates.
        seed: Of the split, of training and of what is drawn.
        steps: Of training, in whole epochs: half for every trial, half for the winner to go on.
            Mechanisms that are solved beforehand need none.
        batch_size: Rows a step, or an eighth of all if that is less.
        options: More options of `fit`.

    Returns:
        A fitted model with the mechanisms chosen, and the reasons, to be printed.

    Raises:
        ValueError: If fewer than 50 rows are held out for a variable, a variable is unknown, a
            column is lacking or has one value only, or hidden causes join variables.

    Example:
        >>> from rung3 import SCM, worlds
        >>> from rung3.mechanisms import AdditiveNoise, Flow
        >>> rows = worlds.lecture().sample(2_000, seed=0)
        >>> among = {"x2": [AdditiveNoise(degree=1), Flow(splines=0)]}
        >>> choice = choose(SCM("x1 -> x2"), rows, among=among, steps=400)
        >>> choice.chosen["x2"]
        'AdditiveNoise(degree=1)'
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out} must lie between 0 and 1")
    if model.confounding.members:
        raise ValueError("choose: hidden causes join variables; name their mechanisms and fit")
    given = {name: list(tried) for name, tried in (among or {}).items()}
    if unknown := [name for name in given if name not in model.variables]:
        raise ValueError(f"among: {spell_unknown(unknown, model.variables)}")
    if empty := [name for name, tried in given.items() if not tried]:
        raise ValueError(f"among: {empty[0]}: expected at least one mechanism")
    base = base_seed(seed)
    infer(model, rows)
    checked = as_rows(rows, model.variables, torch.device("cpu"))
    if lacking := [name for name in model.variables if name not in checked]:
        raise ValueError(f"{lacking[0]}: not among the rows' columns, which are {list(checked)}")
    table = Rows({name: value.detach() for name, value in checked.items()})
    _check_varied(table)
    train, held = split(table, held_out, base)
    if steps < 2 or batch_size < 1:
        raise ValueError(f"steps={steps} must be at least 2, and batch_size={batch_size} 1")
    options = {"progress": False, **options, "seed": base, "validation_share": 0}
    bound = model.mechanisms
    kinds = {
        name: [given[name]] if name in given else candidates(m.variable, m.parents)
        for name, m in bound.items()
        if name in given or name in model.defaults
    }
    lines = {name: list(itertools.chain(*found)) for name, found in kinds.items()}
    levels = {name: level / len(line) for name, line in lines.items() if len(line) > 1}
    fitting = _Fitting(steps, batch_size, options)
    judged: dict[str, list[_Judged]] = {name: [] for name in levels}
    while now := {
        name: lines[name][len(done)]
        for name, done in judged.items()
        if not _enough(kinds[name], done, levels[name], name in given)
    }:
        trial = SCM(model.graph, model.variables, now)
        fitting.trial(trial, train, now)
        for name in now:
            judged[name].append(_judge(trial.mechanisms[name], train, held, base))
    found = {name: line[0] for name, line in lines.items()}
    reasons = dict.fromkeys(found, "nothing simpler or richer to compare with")
    trials = {name: _compare(done, levels[name]) for name, done in judged.items()}
    begun = {}
    for name, told in trials.items():
        index, reasons[name] = _decide(told)
        found[name], begun[name] = lines[name][index], judged[name][index].mechanism
    kept = {name: m for name, m in bound.items() if name not in found}
    reasons |= dict.fromkeys(kept, "named by you")
    made = SCM(model.graph, model.variables, {name: m.again() for name, m in kept.items()} | found)
    for name, mechanism in begun.items():
        made.mechanisms[name].load_state_dict(mechanism.state_dict())
    fitting.final(made, table)
    chosen = {name: m.describe() for name, m in made.mechanisms.items()}
    return Choice(made, chosen, {name: reasons[name] for name in chosen}, trials)


@dataclass(frozen=True)
class _Judged:
    """A candidate, fitted, and what rows say of it.

    Attributes:
        mechanism: The candidate.
        learned: Log-likelihoods of the rows that it learned from, each less its share of the
            parameters; of none, where these are not known.
        held: Log-likelihoods of the rows held out.
        apart: How independent its noise is.
    """

    mechanism: Mechanism
    learned: torch.Tensor
    held: torch.Tensor
    apart: float


@dataclass(frozen=True)
class _Fitting:
    """How mechanisms are trained: those that are solved beforehand, hardly."""

    steps: int
    batch_size: int
    options: Mapping[str, Any]

    def trial(self, model: SCM, rows: Rows, names: Iterable[str]) -> None:
        """Fit some mechanisms, for half of the steps."""
        solved = {name: model.mechanisms[name] for name in names if model.mechanisms[name].solved}
        calibrate(model, solved, rows, self.options["seed"])
        model.requires_grad_(False)
        self._train(model, rows, [name for name in names if name not in solved])

    def final(self, model: SCM, rows: Rows) -> None:
        """Fit all of them, as far as they still are to be."""
        solved = [name for name, m in model.mechanisms.items() if m.solved]
        once = {"epochs": 1, "batch_size": MANY, "lr": POLISH}
        fit(model, rows, only=solved, **{**self.options, **once})
        self._train(model, rows, [n for n in model.variables if n not in solved])

    def _train(self, model: SCM, rows: Rows, names: list[str]) -> None:
        if names:
            size = max(1, min(self.batch_size, rows.n // 8))
            epochs = math.ceil(self.steps / 2 / max(1, rows.n // size))
            for name in names:
                model.mechanisms[name].requires_grad_(True)
            fit(model, rows, only=names, epochs=epochs, batch_size=size, **self.options)


def _check_varied(rows: Rows) -> None:
    """Refuse a column of one value: it causes nothing, and nothing could be said of its causes."""
    for name, column in rows.items():
        present = column[~column.isnan()] if column.is_floating_point() else column
        if present.ndim == 1 and len(present) and (present == present[0]).all():
            raise ValueError(
                f"{name}: all its values are {present[0].item():g}; leave the column out of the "
                "graph, or name its mechanism and use fit"
            )


@torch.no_grad()
def _judge(mechanism: Mechanism, train: Rows, held: Rows, seed: int) -> _Judged:
    """What rows say of a mechanism."""
    value, parents = Table(held, [mechanism]).all().of(mechanism)
    if len(value) < LEAST:
        raise ValueError(
            f"{mechanism.name}: {len(value)} rows are held out; at least {LEAST} are needed"
        )
    noise = mechanism.abduct(value, parents, None, stream(seed, f"abduct {mechanism.name}"))
    apart = math.nan
    if mechanism.parents:
        apart = independence(mechanism.name, noise, parents, mechanism, seed)
    scores = mechanism.log_prob(value, parents).double()
    learned = scores[:0]
    if not math.isnan(mechanism.determined()):
        learned = mechanism.log_prob(*Table(train, [mechanism]).all().of(mechanism)).double()
        learned = learned - mechanism.determined() / len(learned)
    return _Judged(mechanism, learned, scores, apart)


def _scores(judged: list[_Judged]) -> list[torch.Tensor]:
    """Log-likelihoods of rows held out, and, if known of all, of those that they learned from."""
    known = all(len(one.learned) for one in judged)
    return [torch.cat([one.learned, one.held]) if known else one.held for one in judged]


def _enough(kinds: list[list[Mechanism]], judged: list[_Judged], level: float, every: bool) -> bool:
    """Whether nothing richer has to be tried."""
    ends = list(itertools.accumulate(len(kind) for kind in kinds))
    if len(judged) in (0, ends[-1]) or every:
        return len(judged) == ends[-1]
    means = [float(some.mean()) for some in _scores(judged)]
    settled = len(judged) in ends or means[-1] < max(means)
    return settled and any(one.apart > level for one in judged)


def _compare(judged: list[_Judged], level: float) -> list[Trial]:
    scores = _scores(judged)
    best = max(scores, key=lambda some: float(some.mean()))
    solved = all(one.mechanism.solved for one in judged)
    limits = (0.0, NATS / len(best)) if solved else (MARGIN, 1.0)
    found = []
    for one, own in zip(judged, scores, strict=True):
        behind = best - own
        error = float(behind.std() / math.sqrt(len(behind)))
        told = float(own.mean()), float(behind.mean()), error
        found.append(Trial(one.mechanism.describe(), *told, one.apart, level, *limits))
    return found


def _decide(trials: list[Trial]) -> tuple[int, str]:
    """Which trial, and why."""
    good = [k for k, trial in enumerate(trials) if trial.as_good]
    clean = [k for k in good if trials[k].independent]
    best = next(k for k, trial in enumerate(trials) if trial.behind == 0)
    if not clean:
        reason = "the best likelihood; but its noise depends on the parents: look for a "
        return best, reason + "richer mechanism, or for causes that are not in the graph"
    index = clean[0]
    if index != best:
        reason = "the simplest as good as the best, noise independent of parents"
    elif good[0] != index:
        reason = "the best likelihood; simpler ones' noise depends on the parents"
    else:
        reason = "the best likelihood, and nothing simpler is as good"
    return index, reason
