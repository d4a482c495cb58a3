"""What must hold of every mechanism `x := f(pa, u)`, as tests for ours and for yours.

    predict(abduct(x)) = x                        no intervention, no change
    int p(x | pa) dx = 1                          quadrature, or a sum over the categories
    x ~ f(pa, u), u' ~ P(U | x, pa)  =>  u' ~ P(U)        averaged over data, posterior is prior

The last two are asked of exact and posterior mechanisms, on data drawn from the mechanism itself;
of approximate ones it is reported how far they are from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor

from rung3.data.rows import Noise, map_noise, noise_parts
from rung3.data.variables import Continuous, Discrete, Image, Variable
from rung3.mechanisms.base import Mechanism
from rung3.testing.case import Subject, far, prepare
from rung3.testing.integration import integrate

__all__ = ["CHECKS", "MechanismError", "MechanismReport", "check_mechanism"]

SURPRISE = 1e-4
"""Probability below which two distributions count as different."""


class MechanismError(ValueError):
    """A mechanism breaks its contract."""


@dataclass(frozen=True)
class MechanismReport:
    """The result of `check_mechanism`: a line for each check that passed.

    Attributes:
        mechanism: The mechanism, as it would be written.
        passed: What was measured, by name of the check.
    """

    mechanism: str
    passed: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{name}: {measured}" for name, measured in self.passed.items()]
        return "\n  ".join([f"{self.mechanism} keeps the contract", *lines])


Check = Callable[[Subject], str]


def check_mechanism(
    mechanism: Mechanism,
    variable: Variable,
    parents: Mapping[str, Variable],
    *,
    values: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    tolerance: float = 1e-4,
) -> MechanismReport:
    """Check that a mechanism, of rung3 or your own, keeps the contract of `Mechanism`.

    Args:
        mechanism: The mechanism; a bound one is tested as it is, weights and all.
        variable: The variable that it models.
        parents: That variable's parents, by name.
        values: Values of the parents, `(n, ...)`, in their own units; a few thousand rows, where
            the variable is not an image. If not given, drawn over the parents' supports.
        seed: Seed of all that is drawn.
        tolerance: Greatest error of `predict(abduct(x))`, relative to `|x|` plus the deviation of
            x (discrete values must come back exactly).

    Returns:
        What each check measured, to be printed.

    Raises:
        MechanismError: Listing every check that failed.

    Example:
        >>> from rung3 import Categorical, Continuous
        >>> from rung3.mechanisms import GumbelMax
        >>> report = check_mechanism(GumbelMax(), Categorical(3), {"age": Continuous(lower=0)})
        >>> report.passed["density"]
        'sums to one within 0.01'
    """
    subject = prepare(mechanism, variable, parents, values=values, seed=seed, tolerance=tolerance)
    passed, failed = {}, {}
    for name, check in CHECKS.items():
        try:
            passed[name] = check(subject)
        except (ValueError, RuntimeError) as error:
            failed[name] = str(error)
    written = subject.mechanism.describe()
    if failed:
        lines = [f"{name}: {reason}" for name, reason in failed.items()]
        raise MechanismError("\n  ".join([f"{written} breaks the contract", *lines]))
    return MechanismReport(written, passed)


# The checks: each raises MechanismError, or says what it measured ---------------------------------


def check_shapes(subject: Subject) -> str:
    """Check shapes and types of all that a mechanism returns; predictions lie in the support."""
    m, n = subject.mechanism, subject.n
    _expect("predict", tuple(subject.value.shape), (n, *m.variable.shape))
    _expect("predict", subject.value.dtype, m.variable.dtype)
    m.variable.validate(m.name, subject.value.detach())
    _expect("mean", tuple(m.mean(subject.noise, subject.parents).shape), (n, *m.variable.shape))
    _expect("abduct", _shape_of(subject.abduct()), _shape_of(subject.noise))
    if m.has_density:
        _expect("log_prob", tuple(m.log_prob(subject.value, subject.parents).shape), (n,))
    _expect("loss", tuple(m.loss(subject.value, subject.parents).shape), ())
    for name, part in noise_parts(subject.noise).items():
        _expect(f"sample_noise{name}", len(part), n)
    return f"{n} rows"


def check_gradients(subject: Subject) -> str:
    """Check that the loss is finite, and so is its gradient in every parameter."""
    m = subject.mechanism
    m.zero_grad()
    parameters = dict(m.named_parameters())
    if not parameters:
        return "no parameters"
    loss = m.loss(subject.value, subject.parents)
    if not loss.isfinite():
        raise MechanismError(f"the loss is {loss.item()}")
    loss.backward()
    wrong = [k for k, p in parameters.items() if p.grad is None or not p.grad.isfinite().all()]
    m.zero_grad()
    if wrong:
        raise MechanismError(f"no finite gradient in {', '.join(wrong)}")
    return f"finite in {len(parameters)} parameters"


@torch.no_grad()
def check_round_trip(subject: Subject) -> str:
    """Check that `predict(abduct(x)) = x` for values that the mechanism draws."""
    return _round_trip(subject, subject.value, subject.parents)


@torch.no_grad()
def check_outside(subject: Subject) -> str:
    """Check that `predict(abduct(x)) = x` for values and parents up to 50 deviations away."""
    m = subject.mechanism
    if not isinstance(m.variable, Continuous):
        return "not checked: the support is all that there is"
    rows, parents = min(subject.n, 64), {}
    for name, variable in m.parents.items():
        parents[name] = far(variable, subject.parents[name])[:rows]
    value = far(m.variable, subject.value)[:rows]
    possible = m.log_prob(value, parents).isfinite()
    if not possible.any():
        return "not checked: no value that far has a density"
    return _round_trip(subject, value[possible], {k: v[possible] for k, v in parents.items()})


@torch.no_grad()
def check_particles(subject: Subject) -> str:
    """Check that abduction with K particles has a leading axis K, and each particle predicts x."""
    k = 3
    noise = subject.abduct(particles=k)
    axis = {name: (k, *shape) for name, shape in _shape_of(subject.noise).items()}
    _expect("abduct(particles=3)", _shape_of(noise), axis)
    for index in range(k):
        particle = map_noise(itemgetter(index), noise)
        _close(subject, subject.mechanism.predict(particle, subject.parents), subject.value)
    return f"{k} particles"


@torch.no_grad()
def check_rows(subject: Subject) -> str:
    """Check that a row's value does not depend on the rows beside it."""
    m, at = subject.mechanism, slice(1, 4)
    noise = map_noise(lambda part: part[at], subject.noise)
    parents = {name: value[at] for name, value in subject.parents.items()}
    expected = subject.value[at]
    alone = m.predict(noise, parents).expand_as(expected)  # one value may stand for all rows
    if isinstance(m.variable, Image) and m.variable.levels:
        # Between two levels that are equally near, the last digit decides: in few pixels, by one.
        level = 1.5 / m.variable.levels
        if (alone != expected).float().mean() < 0.01:
            alone = torch.where((alone - expected).abs() < level, expected, alone)
    _close(subject, alone, expected)
    return "independent"


@torch.no_grad()
def check_seed(subject: Subject) -> str:
    """Check that a generator fixes all that is random, and torch's own is left alone."""
    before = torch.random.get_rng_state()
    for name, drawn in {"sample_noise": subject.draw, "abduct": subject.abduct}.items():
        if not _same(drawn("again"), drawn("again")):
            raise MechanismError(f"{name} differs between two calls with one seed")
    if not torch.equal(before, torch.random.get_rng_state()):
        raise MechanismError("torch's own random state moved, although a generator was given")
    repeated = subject.mechanism.predict(subject.noise, subject.parents)
    if not torch.equal(repeated, subject.value):
        raise MechanismError("predict differs between two calls with the same noise and parents")
    if noise_parts(subject.noise) and _same(subject.draw("one"), subject.draw("two")):
        raise MechanismError("sample_noise is the same under two seeds")
    return "the same under one seed"


@torch.no_grad()
def check_saving(subject: Subject) -> str:
    """Check that `config()` and `state_dict()` make the same mechanism again."""
    from safetensors.torch import load, save

    m = subject.mechanism
    try:
        config = m.config()
    except ValueError as error:
        if m.name not in str(error):
            raise
        return f"refused: {error}"
    loaded = type(m)(**config).bind(m.name, m.variable, m.parents)
    loaded.load_state_dict(load(save({k: v.contiguous() for k, v in m.state_dict().items()})))
    _expect("config()", loaded.config(), config)
    if not torch.equal(loaded.predict(subject.noise, subject.parents), subject.value):
        raise MechanismError("predictions differ after saving and loading")
    return "the same after saving and loading"


@torch.no_grad()
def check_density(subject: Subject) -> str:
    """Check that the density integrates to one; over the categories, that it sums to one."""
    m = subject.mechanism
    if m.abduction == "approximate":
        return "not checked: approximate"
    if isinstance(m.variable, Image) or not m.wants_noise:
        return "not checked: there is no density to integrate"
    masses = [_mass(subject, row) for row in range(min(4, subject.n))]
    worst = max(masses, key=lambda mass: abs(mass - 1))
    if not abs(worst - 1) <= 0.01:
        raise MechanismError(f"the density integrates to {worst:.4f}")
    return f"{'sums' if isinstance(m.variable, Discrete) else 'integrates'} to one within 0.01"


@torch.no_grad()
def check_noise(subject: Subject) -> str:
    """Check that noise abducted over data drawn from the mechanism follows its prior."""
    from scipy.stats import ks_2samp

    abducted, prior = _columns(subject.abduct("posterior")), _columns(subject.draw("prior"))
    if not abducted:
        return "not checked: no noise"
    tests = {k: ks_2samp(abducted[k].numpy(), prior[k].numpy()) for k in abducted}
    worst = min(tests, key=lambda k: float(tests[k].pvalue))
    measured = f"distance to the prior {tests[worst].statistic:.3f} (Kolmogorov-Smirnov, {worst})"
    if subject.mechanism.abduction == "approximate":
        return measured
    if tests[worst].pvalue < SURPRISE / len(tests):
        raise MechanismError(f"abducted noise does not follow its prior: {measured}")
    return measured


CHECKS: dict[str, Check] = {
    "shapes": check_shapes,
    "gradients": check_gradients,
    "round trip": check_round_trip,
    "outside the training range": check_outside,
    "particles": check_particles,
    "rows": check_rows,
    "seed": check_seed,
    "saving": check_saving,
    "density": check_density,
    "noise": check_noise,
}
"""Every check by its name: parametrise your tests over it, with `prepare`."""


# What the checks share ----------------------------------------------------------------------------


def _round_trip(subject: Subject, value: Tensor, parents: Mapping[str, Tensor]) -> str:
    m = subject.mechanism
    noise = m.abduct(value, parents, None, subject.generator("abduct"))
    return f"error {_close(subject, m.predict(noise, parents), value):.1e}"


def _close(subject: Subject, value: Tensor, expected: Tensor) -> float:
    error = subject.error(value, expected)
    if not error <= subject.tolerance:
        raise MechanismError(f"off by {error:.2g}, and {subject.tolerance:g} is tolerated")
    return error


def _mass(subject: Subject, row: int) -> float:
    """Return the integral of `p(x | pa)` under the parents of one row."""
    m = subject.mechanism

    def density(value: Tensor) -> Tensor:
        n = len(value)
        parents = {k: v[row : row + 1].expand(n, *v.shape[1:]) for k, v in subject.parents.items()}
        return m.log_prob(value, parents).double().exp()

    if isinstance(m.variable, Discrete):
        return float(density(torch.arange(m.variable.classes).to(m.variable.dtype)).sum())
    n = subject.n
    parents = {k: v[row : row + 1].expand(n, *v.shape[1:]) for k, v in subject.parents.items()}
    drawn = m.predict(m.sample_noise(n, parents, subject.generator("density")), parents)
    assert isinstance(m.variable, Continuous)
    atoms = torch.tensor(m.atoms).to(m.variable.dtype)
    inner = drawn[~torch.isin(drawn, atoms)] if m.atoms else drawn
    return integrate(density, inner, m.variable) + float(density(atoms).sum() if m.atoms else 0)


def _columns(noise: Noise) -> dict[str, Tensor]:
    """Return each coordinate of noise `(n, ...)`, and sums that tell dependence."""
    columns = {}
    for name, part in noise_parts(noise).items():
        flat = part.reshape(len(part), -1).double().cpu()
        if flat.shape[1] > 64:  # an image's: all pixels as one
            columns[name or "u"] = flat.flatten()
            continue
        columns |= {f"{name or 'u'}[{i}]": flat[:, i] for i in range(flat.shape[1])}
        if flat.shape[1] > 1:
            columns[f"sum of {name or 'u'}"] = flat.sum(1)
    return columns


def _shape_of(noise: Noise) -> dict[str, tuple[int, ...]]:
    return {name: tuple(part.shape) for name, part in noise_parts(noise).items()}


def _same(one: Noise, other: Noise) -> bool:
    pairs = zip(noise_parts(one).values(), noise_parts(other).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _expect(what: str, given: object, expected: object) -> None:
    if given != expected:
        raise MechanismError(f"{what}: expected {expected}, got {given}")
