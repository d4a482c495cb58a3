r"""The axioms of counterfactuals, checked exactly: every intervention, every unit.

In a causal model a unit u has one potential response `Y_x(u)` under every intervention x on every
set of variables. For variables Y and W, any set X of the others, and all values,

    effectiveness    X_{xw}(u) = x,
    composition      W_x(u) = w  =>  Y_{xw}(u) = Y_x(u),
    reversibility    Y_{xw}(u) = y  and  W_{xy}(u) = w  =>  Y_x(u) = y.

They hold in every model whose equations have one solution under every intervention (soundness,
Galles and Pearl 1998), and whatever obeys them, and has such an answer at all, is one
(completeness, Halpern 2000). In models without cycles the third follows from the first two. So a
table of answers that breaks one of them is not a causal model's, whatever the data.

Sources: Galles and Pearl 1998, Foundations of Science 3:151-182; Halpern 2000, Journal of
Artificial Intelligence Research 12:317-337; lecture 1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor

from rung3.data.rows import Exogenous, Noise, map_noise, noise_parts
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.variables import Variable
from rung3.scm.enumeration import shape_of
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["Answerer", "Axioms", "Verdict", "check_axioms", "units"]

Do: TypeAlias = Mapping[str, int]

Answerer: TypeAlias = Callable[[Do], Mapping[str, Tensor]]
"""Every variable's value `(units,)` under an intervention: a table of potential responses."""

MAX_ANSWERS = 2**24
"""Answers that are compared, at most: units times interventions."""

DRAWS = 4096
"""Draws of each mechanism's noise in which its response functions are sought."""


@dataclass(frozen=True)
class Verdict:
    """The answer whether an axiom holds.

    Attributes:
        cases: How often its premise held: units times interventions.
        broken: How often its conclusion then did not.
        counterexample: The first of these, as text; empty where there is none.
    """

    cases: int
    broken: int
    counterexample: str

    @property
    def holds(self) -> bool:
        """Whether there is no counterexample."""
        return self.broken == 0

    def __str__(self) -> str:
        if self.holds:
            return f"holds ({self.cases} cases)"
        return f"fails in {self.broken} of {self.cases} cases: {self.counterexample}"


@dataclass(frozen=True)
class Axioms:
    """The axioms that a table of potential responses obeys.

    Attributes:
        effectiveness: What is set takes that value.
        composition: Setting a variable to the value it has anyway changes nothing.
        reversibility: Two variables that each give the other's value when set have those values.
    """

    effectiveness: Verdict
    composition: Verdict
    reversibility: Verdict

    @property
    def hold(self) -> bool:
        """Whether all three do: whether the table is that of a causal model."""
        return all(verdict.holds for verdict in vars(self).values())

    def __str__(self) -> str:
        return "\n".join(f"{name}: {verdict}" for name, verdict in vars(self).items())


def check_axioms(
    source: SCM | Answerer, variables: Mapping[str, Variable] | None = None, seed: Seed = 0
) -> Axioms:
    """Check effectiveness, composition and reversibility by enumeration.

    Args:
        source: A model of discrete variables, asked in all of its `units`; or anything that answers
            for units: a function from an intervention, `{"x": 1}`, to the values of every variable,
            `(units,)` each.
        variables: The discrete variables that such a function answers for.
        seed: Of the search for a model's units.

    Raises:
        ValueError: If a variable is not discrete, there are too many cases, the answers lack a
            variable or units, or variables are given for a model.

    Example:
        >>> from rung3 import Binary, worlds
        >>> check_axioms(worlds.exam()).hold
        True
        >>> def undecided(do):  # x := y and y := x have two solutions: this takes the first
        ...     x = do.get("x", do.get("y", 0))
        ...     return {"x": torch.tensor([x]), "y": torch.tensor([do.get("y", x)])}
        >>> print(check_axioms(undecided, {"x": Binary(), "y": Binary()}))
        effectiveness: holds (12 cases)
        composition: holds (6 cases)
        reversibility: fails in 2 of 4 cases: unit 0: x = 1 under do(y=1), and y = 1 under
            do(x=1), but x is not 1 under do()
    """
    if isinstance(source, SCM):
        if variables is not None:
            raise ValueError("variables: a model has its own; give them for a function only")
        variables, ask = source.variables, _answers(source, seed)
    elif variables is None:
        raise ValueError('variables: expected what the function answers for, {"x": Binary(), ...}')
    else:
        ask = source
    table = _Table(ask, dict(zip(variables, shape_of(variables), strict=True)))
    return Axioms(*(_judge(axiom(table)) for axiom in (_effective, _composed, _reversed)))


@in_own_precision
def units(model: SCM, seed: Seed = 0) -> Exogenous:
    """Return a draw of the noise for every way in which the model's variables may respond.

    All that noise can say of a discrete variable is which function of its parents it is: finitely
    many are possible. Among `DRAWS` draws of each mechanism's noise one of each function is kept,
    and combined with those of the others.

    Args:
        model: A model whose variables are all discrete, without hidden common causes.
        seed: Of the draws: functions much rarer than one in `DRAWS` are missed.

    Raises:
        ValueError: If a variable is not discrete, or there are too many combinations.

    Example:
        >>> from rung3 import worlds
        >>> units(worlds.hospital()).n  # 2 x 2 causes; admission is one of 4 functions of both
        16
    """
    shape_of(model.variables)
    if model.confounding.members:
        raise ValueError(
            f"{list(model.confounding.members)}: expected a model without hidden common causes"
        )
    base = base_seed(seed, "units")
    kinds = {name: _responses(model, name, base) for name in model.graph.nodes}
    counts = {k: len(next(iter(noise_parts(noise).values()))) for k, noise in kinds.items()}
    interventions = prod(size + 1 for size in shape_of(model.variables))
    if (total := prod(counts.values())) * interventions > MAX_ANSWERS:
        raise ValueError(f"{total:,} units, {counts}, under every intervention: too many to check")
    picks = torch.cartesian_prod(*(torch.arange(count) for count in counts.values()))
    columns = picks.reshape(total, -1).unbind(1)
    noise: dict[str, Noise] = {}
    for (name, kind), column in zip(kinds.items(), columns, strict=True):
        noise[name] = map_noise(lambda part, at=column: part[at], kind)  # type: ignore[misc]
    return Exogenous(noise, n=total)


def _responses(model: SCM, name: str, seed: int) -> Noise:
    """Return noise of a mechanism, one for each function of the parents that it can give."""
    mechanism = model.mechanisms[name]
    shape = shape_of({p: model.variables[p] for p in mechanism.parents}) or (1,)
    if DRAWS * prod(shape) > MAX_ANSWERS:
        raise ValueError(f"{name}: {prod(shape):,} values of its parents are too many to check")
    cells = torch.ones(shape).nonzero().unbind(1)
    first = {p: cell[:1].expand(DRAWS) for p, cell in zip(mechanism.parents, cells, strict=False)}
    noise = mechanism.sample_noise(DRAWS, first, stream(seed, name, model.device))
    answers = []
    for cell in zip(*(c.tolist() for c in cells), strict=True):
        parents = {
            p: torch.full((DRAWS,), v) for p, v in zip(mechanism.parents, cell, strict=False)
        }
        answers.append(mechanism.predict(noise, parents).expand(DRAWS))
    _, kind = torch.stack(answers, 1).unique(dim=0, return_inverse=True)
    draws = [int((kind == k).nonzero()[0]) for k in range(int(kind.max()) + 1)]
    return map_noise(lambda part: part[draws], noise)


def _answers(model: SCM, seed: Seed) -> Answerer:
    noise = units(model, seed)

    def ask(do: Do) -> Mapping[str, Tensor]:
        codes = {name: torch.tensor(code) for name, code in do.items()}  # not labels, if digits are
        return (model.do(codes) if do else model).predict(noise)

    return ask


class _Table:
    """The potential responses of every unit under every intervention.

    Attributes:
        sizes: Number of values of each variable.
        names: Their names.
    """

    def __init__(self, ask: Answerer, sizes: Mapping[str, int]) -> None:
        self.sizes = dict(sizes)
        self.names = list(sizes)
        count = prod(size + 1 for size in sizes.values())
        self._rows: dict[frozenset[tuple[str, int]], Tensor] = {}
        for do in self.interventions():
            answer = ask(do)
            if lacking := [name for name in self.names if name not in answer]:
                raise ValueError(f"under {_spell(do)} there is no answer for {lacking}")
            row = torch.stack([torch.as_tensor(answer[name]).long() for name in self.names])
            first = next(iter(self._rows.values()), row)
            if row.shape != first.shape or row.ndim != 2:
                raise ValueError(
                    f"under {_spell(do)} the answers have the shape {tuple(row.shape[1:])}, "
                    f"expected one a unit, {tuple(first.shape[1:])}"
                )
            if row.shape[1] * count > MAX_ANSWERS:
                raise ValueError(
                    f"{row.shape[1]:,} units under {count:,} interventions are too many to check"
                )
            self._rows[frozenset(do.items())] = row

    def interventions(self, *without: str) -> Iterator[dict[str, int]]:
        """Yield every intervention on the variables that are not named."""
        names = [name for name in self.names if name not in without]
        for chosen in product(*([None, *range(self.sizes[name])] for name in names)):
            pairs = zip(names, chosen, strict=True)
            yield {name: value for name, value in pairs if value is not None}

    def __call__(self, name: str, do: Do) -> Tensor:
        """Return `Y_x(u)`, `(units,)`."""
        return self._rows[frozenset(do.items())][self.names.index(name)]


Case: TypeAlias = tuple[Tensor, Tensor, str]
"""Units in which an axiom's premise holds, and its conclusion; and what it means if not."""


def _effective(table: _Table) -> Iterator[Case]:
    for do in table.interventions():
        for name, value in do.items():
            values = table(name, do)
            broken = f"{name} is not {value} under {_spell(do)}"
            yield torch.ones_like(values, dtype=torch.bool), values == value, broken


def _composed(table: _Table) -> Iterator[Case]:
    for w in table.names:
        for do in table.interventions(w):
            for value in range(table.sizes[w]):
                premise, more = table(w, do) == value, do | {w: value}
                for y in (name for name in table.names if name != w):
                    broken = (
                        f"{w} = {value} under {_spell(do)}, but {y} differs between that and "
                        f"{_spell(more)}"
                    )
                    yield premise, table(y, more) == table(y, do), broken


def _reversed(table: _Table) -> Iterator[Case]:
    for y, w in product(table.names, repeat=2):
        if y == w:
            continue
        for do in table.interventions(y, w):
            for this, that in product(range(table.sizes[y]), range(table.sizes[w])):
                by_w, by_y = do | {w: that}, do | {y: this}
                premise = (table(y, by_w) == this) & (table(w, by_y) == that)
                broken = (
                    f"{y} = {this} under {_spell(by_w)}, and {w} = {that} under {_spell(by_y)}, "
                    f"but {y} is not {this} under {_spell(do)}"
                )
                yield premise, table(y, do) == this, broken


def _judge(cases: Iterator[Case]) -> Verdict:
    count = broken = 0
    example = ""
    for premise, conclusion, message in cases:
        wrong = premise & ~conclusion
        count += int(premise.sum())
        if wrong.any():
            broken += int(wrong.sum())
            example = example or f"unit {int(wrong.nonzero()[0])}: {message}"
    return Verdict(count, broken, example)


def _spell(do: Do) -> str:
    return f"do({', '.join(f'{name}={value}' for name, value in do.items())})"
