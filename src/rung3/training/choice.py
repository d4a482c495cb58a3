"""`choose`: the simplest mechanism that the rows do not speak against, and the reason why.

For each variable some mechanisms are tried, the simplest first. With l_c the log-likelihoods that
candidate c gives to rows, and b the best of them on average, c is *as good* if

    mean(l_b - l_c) <= 2 sd(l_b - l_c) / sqrt(n),

no worse than by two standard errors. The rows are those held out; where it is known how many
parameters c and b took from the rows that they learned from, the likelihood of these counts too,
less that number (Akaike 1973), and tells finer differences. Of those as good, the simplest whose
noise is independent of the parents (`rung3.training.noise_test`, at coarse scale and at fine) is
chosen; if there is none, the best, and it says so. The noise is that of the rows held out, and of
mechanisms of few parameters that of all rows.

A curve is tried up to the first degree that is no better, and a network always once. Richer ones
(noise with a spread; trees, for steps; noise of any shape) are tried while none of those before is
as good as the best with noise that passes the test at the level `DOUBT`. Mechanisms that are
trained, not solved, are tried with half of the steps; the winner goes on from its trial, on all
rows, with the other half. A number that lies at a bound of its support in several rows is modelled
there by a probability, and by a candidate within (`AtBounds`).

The likelihood tells a fit from a misfit, and of two mechanisms that fit alike the simpler one errs
less off the data: a counterfactual often asks there. Neither tells assumptions apart that fit the
same data (see the page on choosing).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from rung3.data.printed import Printed
from rung3.data.rows import Rows, Values, as_rows, spell_unknown
from rung3.data.seeding import Seed, base_seed, seeded, stream
from rung3.data.splits import split
from rung3.data.streaming import Streamed
from rung3.mechanisms import Mechanism
from rung3.scm.scm import SCM
from rung3.scm.undeclared import infer
from rung3.training.batches import Table
from rung3.training.by_batches import sample_of
from rung3.training.candidates import candidates, suited
from rung3.training.fitting import calibrate, fit_mechanisms, learn, notes_of
from rung3.training.noise_test import independence
from rung3.training.options import History, Options
from rung3.training.relearning import relearning
from rung3.training.remarks import quiet, remark

__all__ = ["MIN_HELD_OUT", "Choice", "Fitting", "Trial", "candidates", "choose", "constants"]

MIN_HELD_OUT = 50
"""Rows that must be held out for a variable."""

DOUBT = 0.05
"""P-value of independence from which nothing richer is tried."""

ROWS_A_PARAMETER = 20
"""Rows for each parameter; with fewer, noise of rows that it learned from looks too independent."""

BATCH = 1_024
"""Rows a step of mechanisms that are trained, at least, by default."""

MOST_TRIED = 20_000
"""Rows that candidates are tried on, at most: a difference of .01 nats shows in as many."""


@dataclass(frozen=True)
class Trial:
    """The evidence of rows on one candidate.

    Attributes:
        mechanism: The candidate, as it would be written.
        log_prob: Mean log-likelihood in nats, less what its parameters took (see the module).
        behind: How much less that is than the best candidate's; and
        error: the standard error of that difference.
        independence: P-value that its noise and the parents are independent (NaN: no parents).
        level: What that is compared with.
    """

    mechanism: str
    log_prob: float
    behind: float
    error: float
    independence: float
    level: float

    @property
    def as_good(self) -> bool:
        """Whether it is as good as the best, as nearly as the rows can tell."""
        return self.behind <= 2 * self.error

    @property
    def independent(self) -> bool:
        """Whether nothing speaks against the independence of noise and parents."""
        return not self.independence <= self.level

    def __str__(self) -> str:
        p = "" if math.isnan(self.independence) else f", independence p = {self.independence:.2g}"
        behind = f"{self.behind:.4f} +- {self.error:.4f} behind" if self.behind else "the best"
        return f"{self.mechanism}: log p = {self.log_prob:.4f}, {behind}{p}"


@dataclass(frozen=True)
class Choice(Printed):
    """The mechanisms that were chosen, fitted, and why.

    Attributes:
        model: The model with the chosen mechanisms, fitted on all rows.
        chosen: The mechanism of each variable, as it would be written.
        reasons: Why, in one clause, by variable.
        trials: What was tried, the simplest first, by variable.
        history: Of the last fit, on all rows.
        sampled: Of a table that is read by batches, rows of the sample and of the table.
    """

    model: SCM
    chosen: Mapping[str, str]
    reasons: Mapping[str, str]
    trials: Mapping[str, list[Trial]]
    history: History = field(default_factory=History, repr=False)
    sampled: tuple[int, int] | None = None

    def __str__(self) -> str:
        lines = []
        if self.sampled is not None:
            lines.append("judged on a sample of {:,} of {:,} rows".format(*self.sampled))
        for name, chosen in self.chosen.items():
            lines.append(f"{name}: {chosen}: {self.reasons[name]}")
            lines += [f"    {trial}" for trial in self.trials.get(name, ())]
        return "\n".join(lines)


def choose(
    model: SCM,
    rows: Values | Streamed,
    *,
    among: Mapping[str, Iterable[Mechanism]] | None = None,
    held_out: float = 0.2,
    level: float = 0.001,
    seed: Seed = 0,
    steps: int = 400,
    batch_size: int | None = None,
    **options: Any,
) -> Choice:
    """Choose the mechanisms that a model's user did not name, by held-out rows, and fit them.

    Args:
        model: The model, whose named mechanisms are kept; it is left as it is.
        rows: Training rows; missing values as in `fit`. Of a table that is read by batches a sample
            of 262,144 rows is taken, and the choice is fitted to it: `fit` goes on with all rows.
        among: Candidates of a variable, the simplest first, all of them tried; `candidates` where
            not given. A variable named here is chosen for, also if its mechanism was.
        held_out: Share of the rows that judge the candidates.
        level: Of the test of independence, before Holm's correction for the candidates.
        seed: Of the split, of training and of what is drawn.
        steps: Of training, in whole epochs: half for every trial, half for the winner to go on.
            Mechanisms that are solved beforehand need none.
        batch_size: Rows a step, or an eighth of all if that is less; if not given 1,024, or more
            where an epoch would else be more than the steps.
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
    given = {name: list(tried) for name, tried in (among or {}).items()}
    _check(model, given, held_out, steps, batch_size)
    base, sampled = base_seed(seed), None
    if isinstance(rows, Streamed):
        of, rows = rows.n, sample_of(model, rows, base)
        sampled = (len(next(iter(rows.values()), ())), of)
    infer(model, rows)
    table = _table(model, rows)
    remark(model.mechanisms, table)
    searches = {
        name: _Search([given[name]] if name in given else suited(m, table), name in given)
        for name, m in model.mechanisms.items()
        if name in given or name in model.defaults
    }
    options = {"progress": False, **options, "seed": base, "validation_share": 0}
    fitting = Fitting(steps, batch_size, options)
    some = table[torch.randperm(table.n, generator=stream(base, "tried"))[:MOST_TRIED]]
    tried = table if table.n <= MOST_TRIED else some
    _search(model, searches, fitting, *split(tried, held_out, base))
    return replace(_conclude(model, searches, level, fitting, table), sampled=sampled)


def _check(
    model: SCM,
    among: Mapping[str, list[Mechanism]],
    held_out: float,
    steps: int,
    batch_size: int | None,
) -> None:
    """Refuse options out of range, and a model or candidates that there is no choice for."""
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out} must lie between 0 and 1")
    if steps < 2 or (batch_size is not None and batch_size < 1):
        raise ValueError(f"steps={steps} must be at least 2, and batch_size={batch_size} 1")
    if model.confounding.members:
        raise ValueError("choose: hidden causes join variables; name their mechanisms and fit")
    if unknown := [name for name in among if name not in model.variables]:
        raise ValueError(f"among: {spell_unknown(unknown, model.variables)}")
    if empty := [name for name, tried in among.items() if not tried]:
        raise ValueError(f"among: {empty[0]}: expected at least one mechanism")


def _table(model: SCM, rows: Values) -> Rows:
    """Check the rows: every variable has a column, and every column several values."""
    checked = as_rows(rows, model.variables, torch.device("cpu"))
    if lacking := [name for name in model.variables if name not in checked]:
        raise ValueError(f"{lacking[0]}: not among the rows' columns, which are {list(checked)}")
    table = Rows({name: value.detach() for name, value in checked.items()})
    _check_varied(table)
    return table


def _search(
    model: SCM, searches: Mapping[str, _Search], fitting: Fitting, train: Rows, held: Rows
) -> None:
    """Try candidates, those of different variables together, until each variable has enough."""
    while now := {
        name: index for name, search in searches.items() if (index := search.next()) is not None
    }:
        tried = {name: searches[name].line[index] for name, index in now.items()}
        trial = SCM(model.graph, model.variables, tried)
        fitting.trial(trial, train, now)
        for name, index in now.items():
            judged = _judge(trial.mechanisms[name], train, held, fitting.seed)
            searches[name].judged[index] = judged


def _conclude(
    model: SCM, searches: Mapping[str, _Search], level: float, fitting: Fitting, rows: Rows
) -> Choice:
    """Build the model of the mechanisms that did best, and fit it on all rows."""
    trials = {name: search.trials(level) for name, search in searches.items() if search.judged}
    mechanisms = {name: m.clone() for name, m in model.mechanisms.items() if name not in searches}
    reasons = dict.fromkeys(mechanisms, "named by you")
    weights = {}
    for name, search in searches.items():
        index, reasons[name] = 0, "nothing simpler or richer to compare with"
        if name in trials:
            place, reasons[name] = _decide(trials[name])
            index = list(search.judged)[place]
            weights[name] = search.judged[index].mechanism.state_dict()
        mechanisms[name] = search.line[index]
    best = SCM(model.graph, model.variables, mechanisms)
    for name, state in weights.items():
        best.mechanisms[name].load_state_dict(state)
    history = fitting.final(best, rows)
    best.relearn = relearning(best, rows, partial(learn, options=fitting.training(rows)))
    chosen = {name: m.describe() for name, m in best.mechanisms.items()}
    return Choice(best, chosen, {name: reasons[name] for name in chosen}, trials, history)


@dataclass(frozen=True)
class _Judged:
    """A candidate, fitted, and what rows say of it.

    Attributes:
        mechanism: The candidate.
        learned: Log-likelihoods of the rows that it learned from, each less its share of the
            parameters; of none, where these are not known.
        held: Log-likelihoods of the rows held out.
        independence: P-value that its noise and the parents are independent.
    """

    mechanism: Mechanism
    learned: torch.Tensor
    held: torch.Tensor
    independence: float


@dataclass
class _Search:
    """The search for the mechanism of one variable.

    Attributes:
        groups: Candidates, the simplest first.
        every: Whether all of them are tried.
        judged: What rows say of those that were tried, by their place among all candidates.
    """

    groups: list[list[Mechanism]]
    every: bool
    judged: dict[int, _Judged] = field(default_factory=dict)

    @property
    def line(self) -> list[Mechanism]:
        """All candidates, the simplest first."""
        return list(itertools.chain(*self.groups))

    def trials(self, level: float) -> list[Trial]:
        """Compare what was tried, at a level that is corrected for the number of candidates."""
        return _compare(list(self.judged.values()), level / len(self.line))

    def next(self) -> int | None:
        """Return which candidate is tried next; none, if what was tried is enough."""
        if len(self.line) == 1:
            return None
        first = 0
        for group in self.groups:
            last = first + len(group) - 1
            if last not in self.judged:
                tried = [index for index in self.judged if index >= first]
                if self.every or len(tried) < 2:
                    return first + len(tried)
                *_, newest = trials = _compare([self.judged[k] for k in tried], 0.0)
                better = newest.log_prob >= max(one.log_prob for one in trials)
                return first + len(tried) if better else last
            first = last + 1
            trials = _compare(list(self.judged.values()), DOUBT)
            if not self.every and any(t.as_good and t.independent for t in trials):
                return None
        return None


@dataclass(frozen=True)
class Fitting:
    """The training of mechanisms that are not solved beforehand."""

    steps: int
    batch_size: int | None
    options: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """The seed of training and of what is drawn."""
        return int(self.options["seed"])

    def trial(self, model: SCM, rows: Rows, names: Iterable[str]) -> None:
        """Fit some mechanisms, for half of the steps."""
        solved = {
            name: model.mechanisms[name] for name in names if model.mechanisms[name].closed_form
        }
        calibrate(model, solved, rows, self.seed)
        model.requires_grad_(False)
        self._train(model, rows, [name for name in names if name not in solved])

    def final(self, model: SCM, rows: Rows) -> History:
        """Fit all of them, as far as they still are to be."""
        solved = {name: m for name, m in model.mechanisms.items() if m.closed_form}
        calibrate(model, solved, rows, self.seed)
        noted = self._note(model, rows, solved)
        model.requires_grad_(False)
        trained = self._train(model, rows, [n for n in model.variables if n not in solved])
        model.eval()
        return noted if trained is None else trained.beside(noted)

    def _note(self, model: SCM, rows: Rows, solved: Mapping[str, Mechanism]) -> History:
        """Note when mechanisms were solved, of how many rows, and their loss on some of these."""
        counts = dict.fromkeys(solved, rows.n)
        order = torch.randperm(rows.n, generator=stream(self.seed, "noted"))[:MOST_TRIED]
        table, losses = Table(rows[order], solved.values()), {}
        for name, complete in Table(rows, solved.values()).complete.items():
            counts[name] = int(complete.sum())
        for name, mechanism in solved.items():
            with seeded(self.seed, name, model.device), torch.no_grad():
                losses[name] = [float(mechanism.loss(*table.all().of(mechanism)).mean())]
        history = History(training=losses)
        model.fitted = notes_of(solved, counts, history, Options(**self.options))
        return history

    def training(self, rows: Rows, part: float = 1.0) -> dict[str, Any]:
        """Return the options of `fit` for so large a part of the steps."""
        growing = max(BATCH, math.ceil(rows.n / (part * self.steps)))
        size = max(1, min(self.batch_size or growing, rows.n // 8))
        epochs = math.ceil(part * self.steps / max(1, rows.n // size))
        return {**self.options, "epochs": epochs, "batch_size": size}

    def _train(self, model: SCM, rows: Rows, names: list[str]) -> History | None:
        if not names:
            return None
        for name in names:
            model.mechanisms[name].requires_grad_(True)
        with quiet():
            return fit_mechanisms(model, rows, only=names, **self.training(rows, 0.5))


def _check_varied(rows: Rows) -> None:
    """Refuse a column of one value: it causes nothing, and nothing could be said of its causes."""
    for name, value in constants(rows).items():
        raise ValueError(
            f"{name}: all its values are {value:g}; leave the column out of the graph, or name its "
            "mechanism and use fit"
        )


def constants(rows: Rows) -> dict[str, float]:
    """Return the columns of one value, and it."""
    values = {}
    for name, column in rows.items():
        present = column[~column.isnan()] if column.is_floating_point() else column
        if present.ndim == 1 and len(present) and (present == present[0]).all():
            values[name] = present[0].item()
    return values


@torch.no_grad()
def _judge(mechanism: Mechanism, train: Rows, held: Rows, seed: int) -> _Judged:
    """Let rows judge a mechanism."""
    value, parents = Table(held, [mechanism]).all().of(mechanism)
    if len(value) < MIN_HELD_OUT:
        raise ValueError(
            f"{mechanism.name}: {len(value)} rows are held out; at least {MIN_HELD_OUT} are needed"
        )
    scores = mechanism.log_prob(value, parents).double()
    before, causes = Table(train, [mechanism]).all().of(mechanism)
    learned, determined = scores[:0], mechanism.effective_parameters()
    if math.isfinite(determined):
        learned = mechanism.log_prob(before, causes).double() - determined / len(before)
    elif math.isnan(determined):
        determined = sum(parameter.numel() for parameter in mechanism.parameters())
    p = math.nan
    if mechanism.parents:
        if ROWS_A_PARAMETER * determined <= len(before):
            value = torch.cat([before, value])
            parents = {k: torch.cat([causes[k], parents[k]]) for k in parents}
        noise = mechanism.abduct(value, parents, None, stream(seed, f"abduct {mechanism.name}"))
        p = independence(noise, parents, mechanism.parents, seed)
    return _Judged(mechanism, learned, scores, p)


def _compare(judged: list[_Judged], level: float) -> list[Trial]:
    """Compare each candidate with the best; on all rows, where both tell what they took."""

    def scores(one: _Judged, other: _Judged) -> torch.Tensor:
        both = len(one.learned) and len(other.learned)
        return torch.cat([one.learned, one.held]) if both else one.held

    def behind(one: _Judged, other: _Judged) -> torch.Tensor:
        return scores(other, one) - scores(one, other)

    best = judged[0]
    for one in judged[1:]:
        if float(behind(best, one).mean()) > 0:
            best = one
    trials = []
    for one in judged:
        gaps = behind(one, best)
        error = float(gaps.std() / math.sqrt(len(gaps)))
        mean, gap = float(scores(one, one).mean()), float(gaps.mean())
        trials.append(Trial(one.mechanism.describe(), mean, gap, error, one.independence, level))
    return trials


def _decide(trials: list[Trial]) -> tuple[int, str]:
    """Decide for a trial, and say why."""
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
