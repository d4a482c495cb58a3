"""Discrete mechanisms: exact posteriors, against Bayes by hand and rejection from the prior."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from noises import whole
from scipy import stats
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Continuous, Image, Ordinal, choose, fit, load
from rung3.data.seeding import stream
from rung3.data.variables import Discrete, Variable
from rung3.mechanisms import GumbelMax, InverseCDF, default_mechanism
from rung3.mechanisms.base import Mechanism
from rung3.testing.contract import check_mechanism


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks run many times faster on one thread than on a busy machine's two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


FAMILIES = [GumbelMax, InverseCDF]

# Two worlds: the distribution over four categories under each value of one binary parent.
FACTUAL, OTHER = [0.1, 0.2, 0.3, 0.4], [0.45, 0.05, 0.3, 0.2]


def fixed(family: type[Mechanism], *probabilities: list[float]) -> Any:
    """A mechanism with these probabilities; of two, under the values of a binary parent."""
    variable = Categorical(len(probabilities[0]))
    logits = torch.tensor(probabilities).log()
    if len(probabilities) == 1:
        mechanism = family().bind("x", variable, {})
        mechanism.network.value.data = logits[0]  # type: ignore[union-attr]
        return mechanism.requires_grad_(False)
    mechanism = family(hidden=()).bind("x", variable, {"p": Binary()})
    last: Any = mechanism.network[0]  # type: ignore[index]
    last.bias.data, last.weight.data = logits.mean(0), (logits[1:] - logits[:1]).T / 2
    return mechanism.requires_grad_(False)


def parent(value: int, n: int) -> dict[str, Tensor]:
    return {"p": torch.full((n,), value)}


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_and_densities_have_the_probabilities_of_the_network(family: Any) -> None:
    """A base shared by the classes would always give the likeliest one."""
    mechanism, n = fixed(family, FACTUAL, OTHER), 40_000
    for value, probabilities in enumerate((FACTUAL, OTHER)):
        parents = parent(value, n)
        x = mechanism.predict(mechanism.sample_noise(n, parents, stream(value, "u")), parents)
        counts = torch.bincount(x, minlength=4)
        assert stats.chisquare(counts, n * np.array(probabilities)).pvalue > 1e-3
        density = mechanism.log_prob(torch.arange(4), parent(value, 4)).exp()
        torch.testing.assert_close(density, torch.tensor(probabilities))


# The posterior of the noise -----------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("k", range(4))
def test_the_posterior_is_the_prior_kept_where_it_gives_the_value(family: Any, k: int) -> None:
    """Abduction against rejection sampling, by each coordinate and all pairwise differences."""
    mechanism, n = fixed(family, FACTUAL), 40_000
    prior = mechanism.sample_noise(n, {}, stream(1, "prior"))
    accepted = prior[mechanism.predict(prior, {}) == k].reshape(-1, *prior.shape[1:])
    value = torch.full((len(accepted),), k)
    abducted = mechanism.abduct(value, {}, generator=stream(1, "found"))
    for mine, theirs in zip(columns(abducted), columns(accepted), strict=True):
        assert stats.ks_2samp(mine.numpy(), theirs.numpy()).pvalue > 1e-4


def columns(noise: Tensor) -> list[Tensor]:
    if noise.ndim == 1:
        return [noise]
    pairs = itertools.combinations(range(noise.shape[1]), 2)
    return [*noise.T, *(noise[:, a] - noise[:, b] for a, b in pairs)]


@pytest.mark.parametrize(("family", "law"), [(GumbelMax, "gumbel_r"), (InverseCDF, "uniform")])
def test_noise_abducted_over_data_of_the_model_follows_its_prior(family: Any, law: str) -> None:
    mechanism, n = fixed(family, FACTUAL, OTHER), 40_000
    parents = {"p": torch.randint(2, (n,))}
    x = mechanism.predict(mechanism.sample_noise(n, parents, stream(2, "prior")), parents)
    noise = mechanism.abduct(x, parents, generator=stream(2, "posterior"))
    for column in columns(noise)[: noise.shape[1] if noise.ndim > 1 else 1]:
        assert stats.kstest(column.numpy(), law).pvalue > 1e-4
    if family is GumbelMax:
        euler = torch.full((4,), 0.5772, dtype=noise.dtype)
        torch.testing.assert_close(noise.mean(0), euler, rtol=0, atol=0.03)
        correlation = torch.corrcoef(noise.T) - torch.eye(4)
        assert correlation.abs().max() < 0.025


def test_the_posterior_of_a_level_is_uniform_between_its_cumulative_probabilities() -> None:
    mechanism, n = fixed(InverseCDF, FACTUAL), 5000
    ends = np.cumsum([0.0, *FACTUAL])
    for k in range(4):
        u = mechanism.abduct(torch.full((n,), k), {}, generator=stream(k, "u"))
        law = stats.uniform(ends[k], ends[k + 1] - ends[k])
        assert stats.kstest(u.numpy(), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_particles_are_independent_draws_of_the_posterior(family: Any) -> None:
    mechanism = fixed(family, FACTUAL)
    noise = mechanism.abduct(torch.tensor([1, 3]), {}, particles=4000)
    assert noise.shape[:2] == (4000, 2)
    once = mechanism.abduct(torch.tensor([1] * 4000 + [3] * 4000), {})
    for row in range(2):
        mine, theirs = columns(noise[:, row]), columns(once[4000 * row : 4000 * (row + 1)])
        for a, b in zip(mine, theirs, strict=True):
            assert stats.ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-4


# A null intervention never changes a value --------------------------------------------------------


@pytest.mark.parametrize("variable", [Categorical(10), Ordinal(10), Binary()], ids=str)
@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0, 20.0, 200.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_value_flips_however_unlikely_it_was(
    family: Any, spread: float, variable: Discrete
) -> None:
    for _ in range(20):
        mechanism = family().bind("x", variable, {})
        mechanism.network.value.data = spread * torch.randn(variable.classes)
        x = torch.arange(variable.classes).repeat(500)
        noise = mechanism.abduct(x, {}, particles=2)
        for particle in noise:
            assert torch.equal(mechanism.predict(particle, {}), x)


def test_no_value_flips_among_levels_that_are_almost_impossible() -> None:
    """Their intervals of noise have no width in floating point, unless they are given one."""
    mechanism = InverseCDF().bind("x", Ordinal(5), {})
    x = torch.arange(5).repeat(1000)
    for likely in range(5):
        logits = torch.full((5,), -1000.0)
        logits[likely] = 0
        mechanism.network.value.data = logits
        assert torch.equal(mechanism.predict(mechanism.abduct(x, {}), {}), x)
        ends = mechanism.cumulative({}, 1)[0]
        assert (ends.diff() > 0).all()
        assert ends[[0, -1]].tolist() == [0, 1]


def test_an_unlikely_winner_is_not_lost_in_rounding() -> None:
    """In single precision, one in a million of these comes back as another category."""
    mechanism = GumbelMax().bind("x", Categorical(3), {})
    mechanism.network.value.data = torch.tensor([0.0, 0.0, -80.0])
    x = torch.full((1_000_000,), 2)
    for draw in range(2):
        noise = whole(mechanism.abduct(x, {}, generator=stream(draw, "u")))
        assert (mechanism.predict(noise, {}) == 2).all()
        assert noise.dtype == torch.float64


@pytest.mark.parametrize("family", FAMILIES)
def test_no_value_flips_under_parents_far_from_the_training_data(family: Any) -> None:
    parents: dict[str, Variable] = {"a": Continuous(), "b": Categorical(3)}
    mechanism = family().bind("x", Categorical(6), parents)
    for scale in (1.0, 50.0, 1e4):
        given = {"a": scale * torch.randn(3000), "b": torch.randint(3, (3000,))}
        x = torch.randint(6, (3000,))
        assert torch.equal(mechanism.predict(mechanism.abduct(x, given), given), x)


# Counterfactuals ----------------------------------------------------------------------------------


@lru_cache
def by_rejection(family: Any) -> Tensor:
    """`P(x' | x)`, `(4, 4)`: the prior's noise, kept where it gives x, under the other parent."""
    mechanism, n = fixed(family, FACTUAL, OTHER), 400_000
    noise = mechanism.sample_noise(n, {}, stream(5, "prior"))
    x, other = (mechanism.predict(noise, parent(value, n)) for value in (0, 1))
    counts = torch.bincount(4 * x + other, minlength=16).reshape(4, 4).double()
    return counts / counts.sum(1, keepdim=True)


@lru_cache
def by_abduction(family: Any) -> Tensor:
    """`P(x' | x)`, `(4, 4)`: the noise of each x, abducted, under the other parent."""
    mechanism, n = fixed(family, FACTUAL, OTHER), 40_000
    table = []
    for k in range(4):
        noise = mechanism.abduct(torch.full((n,), k), parent(0, n), generator=stream(k, "u"))
        counts = torch.bincount(mechanism.predict(noise, parent(1, n)), minlength=4)
        table.append(counts.double() / n)
    return torch.stack(table)


@pytest.mark.parametrize("family", FAMILIES)
def test_counterfactuals_are_those_of_the_prior_kept_where_it_gives_the_fact(family: Any) -> None:
    torch.testing.assert_close(by_abduction(family), by_rejection(family), rtol=0, atol=0.015)


def test_counterfactuals_of_a_level_are_overlaps_of_intervals() -> None:
    """`P(x' = j | x = k) = |[F_{k-1}, F_k) n [F'_{j-1}, F'_j)| / P(x = k)`."""
    before, after = np.cumsum([0, *FACTUAL]), np.cumsum([0, *OTHER])
    low = np.maximum(before[:-1, None], after[None, :-1])
    overlap = (np.minimum(before[1:, None], after[None, 1:]) - low).clip(0)
    table = torch.from_numpy(overlap / np.array(FACTUAL)[:, None])
    torch.testing.assert_close(by_abduction(InverseCDF), table, rtol=0, atol=0.01)


def test_gumbel_max_is_counterfactually_stable_and_the_inverse_cdf_is_not() -> None:
    """x = k becomes j only if the odds of j against k rose (Oberst and Sontag 2019, def. 3)."""
    rise = torch.tensor(OTHER) / torch.tensor(FACTUAL)
    forbidden = rise[None, :] < rise[:, None]
    table = by_abduction(GumbelMax)
    assert forbidden.sum() == 6
    assert (table[forbidden] == 0).all()
    assert (by_abduction(InverseCDF)[forbidden] > 0.05).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_counterfactuals_averaged_over_the_facts_are_the_interventional_distribution(
    family: Any,
) -> None:
    average = torch.tensor(FACTUAL).double() @ by_abduction(family)
    torch.testing.assert_close(average, torch.tensor(OTHER).double(), rtol=0, atol=0.01)


def test_the_families_agree_on_two_rungs_and_differ_on_the_third() -> None:
    assert (by_abduction(GumbelMax) - by_abduction(InverseCDF)).abs().max() > 0.2


# Learning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_without_parents_calibration_is_all_the_training_that_there_is(family: Any) -> None:
    """Frequencies with one half added to each count."""
    mechanism = family().bind("x", Categorical(4), {})
    mechanism.calibrate(torch.tensor([0, 0, 0, 1, 1, 3]), {})
    expected = torch.tensor([3.5, 2.5, 0.5, 1.5]) / 8
    torch.testing.assert_close(mechanism.log_prob(torch.arange(4), {}).exp(), expected)
    assert mechanism.observed.tolist() == [True, True, False, True]
    assert mechanism.out_of_range(torch.tensor([2, 3])).tolist() == [True, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_conditional_distribution_is_learned(family: Any) -> None:
    """Logistic in one parent, by class in another: the truth to 0.01 nats of divergence."""

    def truth(parents: dict[str, Tensor]) -> torch.distributions.Categorical:
        age, group = (parents["age"] - 50) / 10, parents["group"]
        table = torch.stack([age, 0.5 * group, -age * (group == 1)], dim=1)
        return torch.distributions.Categorical(logits=table)

    def parents(n: int) -> dict[str, Tensor]:
        return {"age": 50 + 10 * torch.randn(n), "group": torch.randint(3, (n,))}

    given = parents(20_000)
    x = truth(given).sample()
    variables: dict[str, Variable] = {"age": Continuous(), "group": Categorical(3)}
    mechanism = family().bind("x", Categorical(3), variables)
    mechanism.calibrate(x, given)
    optimiser = torch.optim.Adam(mechanism.parameters(), lr=1e-2)
    for _ in range(300):
        rows = torch.randint(len(x), (512,))
        optimiser.zero_grad()
        mechanism.loss(x[rows], {k: v[rows] for k, v in given.items()}).backward()
        optimiser.step()
    given = parents(20_000)
    probabilities = truth(given).probs
    divergence = (probabilities * (probabilities.log() - mechanism.log_probs(given, 20_000))).sum(1)
    assert 0 <= divergence.mean() < 0.01


# Binding ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("variable", [Continuous(lower=0), Image(1, 4, 4)], ids=str)
def test_what_is_no_category_is_refused(family: Any, variable: Variable) -> None:
    message = f"x: {family.__name__} models categories, and x is {variable}; use Flow for numbers"
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        family().bind("x", variable, {})


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_in_parts_is_refused(family: Any) -> None:
    mechanism = family().bind("x", Binary(), {})
    with pytest.raises(ValueError, match=re.escape("x: expected noise as one tensor, got the par")):
        mechanism.predict({"z": torch.zeros(1)}, {})


def test_gumbel_max_is_the_default_for_categories_and_the_inverse_cdf_for_levels() -> None:
    assert isinstance(default_mechanism(Categorical(3)), GumbelMax)
    assert isinstance(default_mechanism(Ordinal(3)), InverseCDF)
    assert isinstance(default_mechanism(Binary()), InverseCDF)
    assert repr(GumbelMax(hidden=[8])) == "GumbelMax(hidden=(8,))"  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_variable_that_may_be_missing_is_held_as_float_and_comes_back_so(family: Any) -> None:
    mechanism = family().bind("x", Ordinal(3, missing=True), {})
    x = torch.tensor([0.0, 2.0, 1.0])
    assert torch.equal(mechanism.predict(mechanism.abduct(x, {}), {}), x)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_is_the_conditional_distribution(family: Any) -> None:
    table = torch.tensor([[[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]], [[0.9, 0.1]] * 3])
    parents = {"a": Binary(), "b": Categorical(3)}
    mechanism = family(table=table).bind("x", Binary(), parents)
    n = 20_000
    for a, b in [(0, 0), (0, 2), (1, 1)]:
        given = {"a": torch.full((n,), a), "b": torch.full((n,), b)}
        value = mechanism.predict(mechanism.sample_noise(n, given), given)
        assert value.float().mean().item() == pytest.approx(table[a, b, 1].item(), abs=0.012)
        one = {name: column[:2] for name, column in given.items()}
        probabilities = mechanism.log_prob(torch.tensor([0, 1]), one).exp()
        torch.testing.assert_close(probabilities, table[a, b])
        possible = value[:50]
        repeated = mechanism.abduct(possible, {k: v[:50] for k, v in given.items()})
        back = mechanism.predict(repeated, {k: v[:50] for k, v in given.items()})
        assert torch.equal(back, possible)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_is_kept_as_it_was_written(family: Any) -> None:
    mechanism = family(table=[0.25, 0.75])
    assert mechanism.config() == {"table": [0.25, 0.75]}
    assert not list(mechanism.bind("x", Binary(), {}).parameters())


@pytest.mark.parametrize(
    ("table", "parents", "message"),
    [
        ([0.2, 0.3, 0.5], {}, r"x: expected a table of shape \(2,\), with the axes \(x\)"),
        ([0.5, 0.5], {"a": Binary()}, r"shape \(2, 2\), with the axes \(a, x\), got \(2,\)"),
        ([0.5, 0.6], {}, r"sum to 1, got \[0.5, 0.6\]"),
        ([1.5, -0.5], {}, "must be at least 0"),
        ([0.5, 0.5], {"a": Continuous()}, "needs discrete parents, and a is Continuous"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    table: list[float], parents: dict[str, Variable], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        InverseCDF(table=table).bind("x", Binary(), parents)


# Counted tables


DISCRETE = {"ward": Categorical(3), "sex": Binary()}


@pytest.mark.parametrize("family", [GumbelMax, InverseCDF])
def test_counted_tables_keep_the_contract(family: type[GumbelMax | InverseCDF]) -> None:
    report = check_mechanism(family(prior=0.5), Ordinal(4), DISCRETE)
    assert "sums to one" in report.passed["density"]


def test_a_counted_table_is_the_posterior_mean() -> None:
    """Two rows of class 1 and one of class 0 under ward 0; none under ward 1: the prior alone."""
    rows = {"ward": torch.tensor([0, 0, 0, 2]), "sick": torch.tensor([1, 1, 0, 1])}
    kinds = {"ward": Categorical(3), "sick": Binary()}
    model = SCM("ward -> sick", kinds, {"sick": InverseCDF(prior=1)})
    fit(model, rows, epochs=3, progress=False, validation_share=0)
    learned: Any = model.mechanisms["sick"]
    table = learned.log_probs({"ward": torch.arange(3)}, 3).exp()
    expected = torch.tensor([[2, 3], [2.5, 2.5], [5 / 3, 10 / 3]]) / 5
    assert torch.allclose(table, expected, atol=1e-6)
    assert learned.clone().describe() == "InverseCDF(prior=1)"


def test_a_counted_table_is_saved_and_has_an_alternative(tmp_path: object) -> None:
    g = torch.Generator().manual_seed(0)
    rows = {
        "ward": torch.randint(3, (300,), generator=g),
        "y": torch.randint(4, (300,), generator=g),
    }
    kinds = {"ward": Categorical(3), "y": Categorical(4)}
    model = SCM("ward -> y", kinds, {"y": GumbelMax(prior=0.5)})
    fit(model, rows, epochs=1, progress=False)
    restored = load(model.save(f"{tmp_path}/model"))
    learned: Any = model.mechanisms["y"]
    loaded: Any = restored.mechanisms["y"]
    table = learned.log_probs({"ward": torch.arange(3)}, 3)
    assert torch.equal(loaded.log_probs({"ward": torch.arange(3)}, 3), table)
    other = loaded.alternatives()[0]
    assert torch.equal(other.log_probs({"ward": torch.arange(3)}, 3), table)


def test_choose_counts_where_a_line_does_not_fit() -> None:
    """An interaction without main effects: a logistic regression sees nothing in it."""
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randint(2, (4_000,), generator=g) for _ in range(2))
    y = (torch.rand(4_000, generator=g) < torch.where(a == b, 0.8, 0.2)).long()
    kinds = dict.fromkeys("aby", Binary())
    choice = choose(SCM("a -> y; b -> y", kinds), {"a": a, "b": b, "y": y}, seed=0, steps=50)
    assert choice.chosen["y"] == "InverseCDF(prior=0.5)", str(choice)


def test_counts_need_discrete_parents_and_a_prior_above_zero() -> None:
    with pytest.raises(ValueError, match="y: counting needs discrete parents, and x is Continuous"):
        SCM("x -> y", {"y": Binary()}, {"y": InverseCDF(prior=1)})
    wrong: list[dict[str, Any]] = [{"prior": 0}, {"prior": 1, "table": [0.5, 0.5]}]
    for arguments in wrong:
        with pytest.raises(ValueError, match="expected a number of rows above 0, and no table="):
            GumbelMax(**arguments)
