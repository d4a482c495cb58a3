"""Hidden common causes: densities and posteriors by hand, learned effects against the truth."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor

from rung3 import SCM, Binary, Categorical, CausalGraph, Continuous, effects, fit, load, worlds
from rung3.effects.bounds import bounds
from rung3.mechanisms import Equation, Flow, InverseCDF
from rung3.scm.districts.loaded import Loaded
from rung3.scm.enumeration import joint, probability
from rung3.training.diagnosis import diagnose
from rung3.training.plug_in import beside
from rung3.worlds.confounded import CASES, Case


def gaussian(first: float = 2.0, second: float = -1.0) -> SCM:
    """`x := u_x`, `y := 2 x + u_y`, the noises joined with these weights."""
    model = SCM("x -> y; x <-> y", mechanisms={"x": Equation("u"), "y": Equation("2*x + u")})
    for mechanism, weight in zip(model.mechanisms.values(), (first, second), strict=True):
        assert isinstance(mechanism, Loaded)
        mechanism.weights.data.fill_(weight)
    model.unidentified = "allow"
    return model.requires_grad_(False)


RHO = 2 / 5**0.5 * -1 / 2**0.5


def discrete(text: str, **kinds: Categorical) -> SCM:
    graph = CausalGraph(text)
    observed = dict.fromkeys(graph.nodes, Binary())
    model = SCM(graph, {**observed, **kinds})
    for parameter in model.parameters():  # away from the symmetric start
        parameter.data += 0.5 * torch.randn(parameter.shape)
    model.unidentified = "allow"
    return model.requires_grad_(False)


def test_joined_gaussian_noises_have_the_density_of_their_covariance() -> None:
    rows = {"x": torch.randn(20), "y": torch.randn(20)}
    cov = [[1, 2 + RHO], [2 + RHO, 5 + 4 * RHO]]
    both = torch.stack([rows["x"], rows["y"]], 1).numpy()
    truth = stats.multivariate_normal([0, 0], cov).logpdf(both)
    model = gaussian()
    assert model.log_prob(rows).tolist() == pytest.approx(truth.tolist(), abs=1e-4)
    parts = model.log_probs(rows)
    assert parts["x"].tolist() == pytest.approx(stats.norm.logpdf(both[:, 0]).tolist(), abs=1e-4)
    alone = model.log_probs({"x": rows["x"]})["x"]
    torch.testing.assert_close(alone, parts["x"])


def test_joined_gaussian_noises_are_sampled_with_their_correlation() -> None:
    rows = gaussian().sample(50_000, seed=0)
    noise = torch.stack([rows["x"], rows["y"] - 2 * rows["x"]])
    assert noise.cov().flatten().tolist() == pytest.approx([1, RHO, RHO, 1], abs=0.03)


def test_the_posterior_of_a_gaussian_cause_averages_to_its_prior() -> None:
    model = gaussian()
    rows = model.sample(20_000, seed=0)
    noise = model.abduct(rows, seed=1)
    h, e, f = (torch.as_tensor(noise[name]) for name in ("x <-> y", "x", "y"))
    assert torch.stack([h, e, f]).cov().flatten().tolist() == pytest.approx(
        torch.eye(3).flatten().tolist(), abs=0.03
    )
    mean = torch.as_tensor(model.abduct(rows[:5], particles=20_000, seed=1)["x <-> y"]).mean(0)
    u = torch.stack([rows["x"], rows["y"] - 2 * rows["x"]], 1)[:5]
    loading = torch.tensor([2 / 5**0.5, -1 / 2**0.5])
    gain = torch.linalg.solve(torch.tensor([[1, RHO], [RHO, 1]]), loading)
    torch.testing.assert_close(mean, u @ gain, atol=0.03, rtol=0)


@pytest.mark.parametrize("signs", [(0.6, 0.6, -0.2), (0.5, -0.5, -0.5), (-0.4, -0.4, -0.4)])
def test_three_joined_noises_may_have_any_correlations(signs: tuple[float, float, float]) -> None:
    """One cause of all three makes the product of the correlations positive; two do not."""
    a, b, c = signs
    truth = torch.tensor([[1, a, b], [a, 1, c], [b, c, 1]])
    model = SCM("x <-> y; y <-> z; x <-> z", mechanisms=dict.fromkeys("xyz", Equation("u")))
    assert list(model.confounding.members) == ["x <-> y <-> z", "y <-> z"]
    drawn = torch.randn(4_000, 3, generator=torch.Generator().manual_seed(0))
    white = (drawn - drawn.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(drawn.T.cov())).T
    rows = dict(zip("xyz", (white @ torch.linalg.cholesky(truth).T).unbind(1), strict=True))
    search = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = -model.log_prob(rows).mean()
        value.backward()
        return value

    search.step(loss)
    sample = model.sample(40_000, seed=0)
    correlations = torch.stack([sample[k] for k in "xyz"]).corrcoef()
    torch.testing.assert_close(correlations, truth, atol=0.02, rtol=0)


def test_counterfactuals_keep_the_joined_noise_whole() -> None:
    model = gaussian()
    rows = model.sample(30, seed=0)
    imagined = model.counterfactual(rows, do={"x": rows["x"] + 1}, seed=0)
    torch.testing.assert_close(imagined["y"], rows["y"] + 2, atol=1e-4, rtol=1e-4)
    repeated = model.predict(model.abduct(rows, particles=3, seed=0))
    torch.testing.assert_close(repeated["y"], rows["y"].expand(3, 30))


def by_hand(model: SCM, values: dict[str, int]) -> float:
    """`sum_h p(h) prod_k p(x_k | pa_k, h)`, one term after the other."""
    causes = model.confounding.mechanisms
    total = 0.0
    sizes = [cause.variable.classes for cause in causes.values()]  # type: ignore[attr-defined]
    for classes in itertools.product(*map(range, sizes)):
        known = {**values, **dict(zip(causes, classes, strict=True))}
        rows = {name: torch.tensor([value]) for name, value in known.items()}
        term = sum(cause.log_prob(rows[name], {}) for name, cause in causes.items())
        for name, mechanism in model.mechanisms.items():
            term = term + mechanism.log_prob(rows[name], {p: rows[p] for p in mechanism.parents})
        total += torch.as_tensor(term).exp().item()
    return total


@pytest.mark.parametrize(
    ("text", "causes"),
    [
        ("x -> m -> y; x <-> y", ["x <-> y"]),
        ("a -> b -> c; a <-> b; b <-> c", ["a <-> b", "b <-> c"]),
        ("a -> b -> c; a <-> b; b <-> c; a <-> c", ["a <-> b <-> c"]),
        ("a -> b; a <-> b; c -> d; c <-> d", ["a <-> b", "c <-> d"]),
    ],
)
def test_the_density_is_a_sum_over_latent_classes(text: str, causes: list[str]) -> None:
    model = discrete(text, **{name: Categorical(3) for name in causes})
    assert list(model.confounding.members) == causes
    table = joint(model)
    assert table.sum().item() == pytest.approx(1, abs=1e-5)
    for cell in itertools.product((0, 1), repeat=table.ndim):
        values = dict(zip(model.graph.nodes, cell, strict=True))
        assert table[cell].item() == pytest.approx(by_hand(model, values), rel=1e-4)


def test_ends_of_a_chain_of_hidden_causes_are_independent() -> None:
    model = discrete("a <-> b; b <-> c")
    table = joint(model)
    ends = table.sum(1)
    assert (ends - ends.sum(1, keepdim=True) * ends.sum(0)).abs().max() < 1e-6
    pair = table.sum(2)
    assert (pair - pair.sum(1, keepdim=True) * pair.sum(0)).abs().max() > 1e-4


def test_what_is_done_cuts_the_hidden_cause_and_what_is_seen_tells_of_it() -> None:
    model = discrete("x -> y; x <-> y", **{"x <-> y": Categorical(3)})
    cause, y = model.confounding.mechanisms["x <-> y"], model.mechanisms["y"]
    h = torch.arange(3)
    prior = cause.log_prob(h, {}).exp()
    given = {"x": torch.ones(3, dtype=torch.long), "x <-> y": h}
    done = (prior * y.log_prob(torch.ones(3), given).exp()).sum().item()
    rows = model.do(x=1).sample(40_000, seed=0)
    assert rows["y"].float().mean().item() == pytest.approx(done, abs=0.01)
    assert probability(model.do(x=1), {"y": 1}) == pytest.approx(done, abs=1e-5)
    seen = probability(model, {"y": 1}, {"x": 1})
    assert abs(seen - done) > 0.01
    weighted = model.sample(40_000, given={"x": 1}, seed=0)["y"].float().mean().item()
    assert weighted == pytest.approx(seen, abs=0.02)


def test_the_posterior_of_classes_is_bayes() -> None:
    model = discrete("x -> y; x <-> y", **{"x <-> y": Categorical(3)})
    rows = {"x": torch.tensor([0, 1, 1]), "y": torch.tensor([1, 0, 1])}
    h = torch.as_tensor(model.abduct(rows, particles=20_000, seed=0)["x <-> y"])
    for i in range(3):
        values = {name: int(column[i]) for name, column in rows.items()}
        terms = []
        for code in range(3):
            known = {k: torch.tensor([v]) for k, v in {**values, "x <-> y": code}.items()}
            parts = [model.confounding.mechanisms["x <-> y"].log_prob(known["x <-> y"], {})]
            parts += [
                m.log_prob(known[k], {p: known[p] for p in m.parents})
                for k, m in model.mechanisms.items()
            ]
            terms.append(torch.stack(parts).sum().exp())
        expected = torch.stack(terms) / torch.stack(terms).sum()
        shares = torch.bincount(h[:, i], minlength=3) / 20_000
        torch.testing.assert_close(shares, expected, atol=0.015, rtol=0)


def test_a_null_intervention_changes_nothing() -> None:
    model = discrete("x -> m -> y; x <-> y")
    rows = model.sample(200, seed=0)
    for particles in (None, 4):
        back = model.counterfactual(rows, do={"x": rows["x"]}, particles=particles, seed=0)
        assert all(bool((back[name] == rows[name]).all()) for name in rows)
    one = model.counterfactual({"x": 1, "m": 0, "y": 1}, do={"x": 1}, particles=5, seed=0)
    assert one["y"].tolist() == [1] * 5


def test_effects_are_had_under_joined_noise() -> None:
    """`m := 2 x + u`, `y := 3 x + 5 m + u`: 3 directly, 10 by way of m, whatever x and y share."""
    texts = {"x": "u", "m": "2*x + u", "y": "3*x + 5*m + u"}
    model = SCM(
        "x -> m -> y; x -> y; x <-> y", mechanisms={k: Equation(v) for k, v in texts.items()}
    )
    model.unidentified = "allow"
    rows = model.requires_grad_(False).sample(20, seed=0)
    for particles in (None, 3):
        effect = effects.mediate(
            model, rows, {"x": rows["x"] + 1}, "y", through="m", particles=particles, seed=0
        )
        parts = effect.direct, effect.indirect, effect.total
        for part, truth in zip(parts, (3.0, 10.0, 13.0), strict=True):
            torch.testing.assert_close(part, torch.full_like(part, truth), atol=1e-3, rtol=0)
    mean = effects.average(model, do={"x": 1.0}, versus={"x": 0.0}, outcome="y", n=500, seed=0)
    assert mean.effect.item() == pytest.approx(13, abs=1e-3)


def test_mixed_districts_have_latent_classes() -> None:
    model = SCM("x -> y; x <-> y", {"x": Binary(), "y": Continuous()})
    assert model.confounding.variables == {"x <-> y": Categorical(8)}
    rows = model.sample(10, seed=0)
    assert model.log_prob(rows).isfinite().all()


@pytest.mark.parametrize("kinds", [{}, {"x": Binary(), "y": Binary()}])
def test_what_is_saved_comes_back(kinds: dict[str, Binary], tmp_path: Path) -> None:
    chosen = {"x <-> y": Categorical(3)} if kinds else {}
    model = SCM("z -> x -> y; x <-> y", {**kinds, **chosen})
    rows = model.sample(100, seed=0)
    fit(model, rows, epochs=1, progress=False)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    torch.testing.assert_close(loaded.log_prob(rows), model.log_prob(rows))
    assert torch.equal(loaded.sample(5, seed=0)["y"], model.sample(5, seed=0)["y"])
    assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize(
    ("variables", "mechanisms", "message"),
    [
        ({"x <-> z": Categorical(3)}, {}, "the graph lacks it: unknown variable 'x <-> z'"),
        ({"x <-> y": Binary()}, {}, "x <-> y: a hidden cause is Categorical"),
        ({"y": Binary()}, {"y": Equation("u > x", "Uniform(0, 1)")},
         "y: an equation listens to no hidden cause"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_refused(
    variables: dict[str, Categorical], mechanisms: dict[str, Equation], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SCM("x -> y; x <-> y", variables, mechanisms)


def test_hidden_causes_of_too_many_joint_classes_are_refused_by_name() -> None:
    graph = CausalGraph("a <-> b; b <-> c; c <-> d; d <-> e; e <-> f")
    with pytest.raises(ValueError, match=r"a <-> b and .*: 32,768 joint classes are too many"):
        SCM(graph, dict.fromkeys("abcdef", Binary()))
    classes = {f"{a} <-> {b}": Categorical(2) for a, b in graph.bidirected}
    assert SCM(graph, {**dict.fromkeys("abcdef", Binary()), **classes}).sample(2, seed=0).n == 2


def observed(case: Case, numbers: bool, n: int) -> tuple[SCM, dict[str, Tensor]]:
    world = worlds.hidden_cause(case, numbers)
    rows = world.sample(n, seed=0)
    return world, {name: rows[name] for name in CausalGraph(CASES[case]).nodes}


def learned(case: Case, numbers: bool) -> tuple[SCM, SCM]:
    """A world, and a model fitted to what is seen of it."""
    world, rows = observed(case, numbers, 20_000)
    kinds = {} if numbers else dict.fromkeys(rows, Binary())
    family = Flow(splines=0, hidden=()) if numbers else InverseCDF(hidden=(16,))
    model = SCM(CASES[case], kinds, dict.fromkeys(rows, family))
    options = (
        (60, 1000, 0.05) if numbers else (24, 500, 0.02)
    )  # slopes and loadings trade: a valley
    epochs, size, lr = options
    fit(model, rows, epochs=epochs, batch_size=size, lr=lr, seed=0, progress=False)
    model.unidentified = "allow"
    return world, model


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("case", ["back door", "front door"])
def test_identified_effects_are_learned_through_hidden_causes(case: Case, numbers: bool) -> None:
    """20,000 rows tell a difference of probabilities to 0.007, a product of slopes to 0.016."""
    world, model = learned(case, numbers)
    effects = []
    for one in (world, model):
        means = [one.do(x=x).sample(100_000, seed=0)["y"].double().mean() for x in (0, 1)]
        effects.append((means[1] - means[0]).item())
    assert effects[1] == pytest.approx(effects[0], abs=0.05 if numbers else 0.025)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["instrument", "bow-arc"])
def test_what_is_not_identified_is_learned_to_within_the_bounds(case: Case) -> None:
    """Bounds contain the truth; a model that fits the data may say anything else within them."""
    world, model = learned(case, numbers=False)
    _, rows = observed(case, False, 20_000)
    graph = CausalGraph(CASES[case])
    for x in (0, 1):
        limits = bounds(rows, graph, {"y": 1}, do={"x": x}, slack=0.01)
        assert probability(world.do(x=x), {"y": 1}) in limits
        expected = probability(model.do(x=x), {"y": 1})
        assert limits.low - 0.03 <= expected <= limits.high + 0.03


@pytest.mark.slow
def test_a_linear_instrument_identifies_what_an_instrument_alone_does_not() -> None:
    world, model = learned("instrument", numbers=True)
    slopes = []
    for one in (world, model):
        means = [one.do(x=x).sample(50_000, seed=0)["y"].double().mean() for x in (0.0, 1.0)]
        slopes.append((means[1] - means[0]).item())
    assert slopes[1] == pytest.approx(slopes[0], abs=0.1)


def test_effects_that_are_not_identified_are_refused_unless_told_to() -> None:
    model = SCM(CASES["bow-arc"], dict.fromkeys("xy", Binary()))
    with pytest.raises(ValueError, match="not identified"):
        model.do(x=1).sample(5, seed=0)
    model.unidentified = "allow"
    assert model.do(x=1).sample(5, seed=0).n == 5


@pytest.mark.parametrize("case", CASES)
def test_the_worlds_are_of_their_graph_and_their_bounds_hold_the_truth(case: Case) -> None:
    world = worlds.hidden_cause(case)
    graph = CausalGraph(CASES[case])
    limits = bounds(world, graph, {"y": 1}, do={"x": 1}, versus={"x": 0})
    truth = [probability(world.do(x=x), {"y": 1}) for x in (0, 1)]
    assert truth[1] - truth[0] in limits
    assert limits.identified is (case in ("back door", "front door"))
    seen = [probability(world, {"y": 1}, {"x": x}) for x in (0, 1)]
    assert abs(seen[1] - seen[0] - truth[1] + truth[0]) > 0.05  # seeing is not doing
    rows = worlds.hidden_cause(case, numbers=True).sample(10, seed=0)
    assert set(rows) == {"h", *graph.nodes}


def test_an_unknown_case_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*'bow-arc'.*got 'napkin'"):
        worlds.hidden_cause("napkin")  # type: ignore[arg-type]


def hidden_slope(n: int, seed: int = 0, slope: bool = True) -> dict[str, Tensor]:
    """`h; x = h + e/2; m = x + e; y = m + 2 h m + .3 e`, or `y = m + 2 h + .3 e`."""
    generator = torch.Generator().manual_seed(seed)
    h, *e = torch.randn(4, n, generator=generator).unbind(0)
    x = h + e[0] / 2
    m = x + e[1]
    y = m + (2 * h * m if slope else 2 * h) + 0.3 * e[2]
    return {"x": x, "m": m, "y": y}


def test_a_cause_that_does_not_act_by_constant_loadings_is_warned_of_and_diagnosed() -> None:
    """`E[y | do(x)] = x`; the Gaussian cause makes it 1.7 x, or worse."""
    generator = torch.manual_seed(0)
    assert generator is not None
    linear = dict.fromkeys("xmy", Flow(0, hidden=()))
    model = SCM("x -> m -> y; x <-> y", mechanisms=linear)
    rows = hidden_slope(3_000)
    with pytest.warns(
        UserWarning, match=r"by the model, and by .* by the back-door formula.*latent"
    ):
        fit(model, rows, epochs=10, progress=False)
    by_pair = {(one.cause, one.outcome): one for one in beside(model, rows)}
    front = by_pair["x", "y"]
    assert front.method == "front-door"
    low, high = front.levels
    truth = high - low
    assert front.by_formula == pytest.approx(truth, abs=4 * front.error)
    by_name = {d.variable: d for d in diagnose(model, hidden_slope(3_000, seed=1))}
    assert set(by_name) == {"x", "m", "y"}
    assert not by_name["y"].independent
    assert "constant loadings" in str(model.do(x=1.0).sample(3, seed=0).explain())


def test_a_cause_that_adds_is_not_warned_of_and_passes_its_diagnosis() -> None:
    generator = torch.manual_seed(0)
    assert generator is not None
    model = SCM("x -> m -> y; x <-> y", mechanisms=dict.fromkeys("xmy", Flow(0, hidden=())))
    rows = hidden_slope(3_000, slope=False)
    fit(model, rows, epochs=20, progress=False)
    by_pair = {(one.cause, one.outcome): one for one in beside(model, rows)}
    assert by_pair.keys() == {("x", "y"), ("m", "y")}
    for one in by_pair.values():
        low, high = one.levels
        assert one.by_formula == pytest.approx(high - low, abs=4 * one.error)
        assert one.agree
    by_name = {d.variable: d for d in diagnose(model, hidden_slope(3_000, seed=1, slope=False))}
    assert all(d.independent and d.calibrated for d in by_name.values())


def test_latent_classes_are_left_out_of_a_diagnosis() -> None:
    model = discrete("x -> m -> y; x <-> y")
    rows = model.sample(500, seed=0)
    assert [d.variable for d in diagnose(model, rows)] == ["m"]
