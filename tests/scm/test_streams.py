"""Random numbers of one seed: no two verbs share any, over every family of mechanisms."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from rung3 import (
    SCM,
    Binary,
    Categorical,
    Continuous,
    Image,
    Ordinal,
    Rows,
    effects,
    evaluate,
    worlds,
)
from rung3.data import seeding
from rung3.data.abductions import Abductions
from rung3.data.rows import Noise, map_noise
from rung3.data.variables import Variable
from rung3.effects import Estimate
from rung3.effects.attribution import attribute_anomaly
from rung3.effects.bounds import probabilities_of_causation, sensitivity
from rung3.effects.bounds.sensitivity_analysis import MODELLED
from rung3.effects.formulas import Formulas
from rung3.effects.potential import Drawn
from rung3.evaluation import Oracles, composition, reversibility
from rung3.evaluation.exact_axioms import check_axioms
from rung3.evaluation.measures.commutativity import commutativity
from rung3.evaluation.measures.stability import disagreement
from rung3.evaluation.tasks import stress
from rung3.explorer import Opened, PageState, Session
from rung3.explorer.checks import run_checks
from rung3.mechanisms import (
    HVAE,
    VAE,
    AdditiveNoise,
    Contaminated,
    Equation,
    Flow,
    GumbelMax,
    InverseCDF,
    Mechanism,
    Stage,
)
from rung3.scm.imputation import complete
from rung3.scm.truth import true_counterfactual

N = 3000
SEED = 7

TABLE = [[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]
FAMILIES: dict[str, tuple[Variable, Callable[[], Mechanism], int]] = {
    "equation": (Continuous(), lambda: Equation("c + u"), N),
    "uniform equation": (Continuous(), lambda: Equation("c + u", noise="Uniform(0, 1)"), N),
    "flow": (Continuous(), lambda: Flow(hidden=(8,)), N),
    "additive noise": (Continuous(), AdditiveNoise, N),
    "contaminated": (
        Continuous(lower=-5, upper=5),
        lambda: Contaminated("c", 0.2, 0.5, (-5, 5)),
        N,
    ),
    "gumbel-max": (Categorical(3), lambda: GumbelMax(table=TABLE), N),
    "inverse CDF": (Ordinal(3), lambda: InverseCDF(table=TABLE), N),
    "binary": (Binary(), lambda: InverseCDF(table=[[0.5, 0.5], [0.2, 0.8]]), N),
    "VAE": (Image(1, 4, 4), lambda: VAE(2, width=4, depth=1), 600),
    "HVAE": (Image(1, 8, 8), lambda: HVAE(stages=(Stage(8, 4, 1), Stage(4, 4, 1, latents=2))), 300),
}


def world(kind: Variable, make: Callable[[], Mechanism]) -> SCM:
    """`c -> y`, c binary."""
    torch.manual_seed(0)
    variables = {"c": Binary(missing=True), "y": kind}
    mechanisms = {"c": InverseCDF(table=[0.5, 0.5]), "y": make()}
    return SCM("c -> y", variables, mechanisms, world="world").requires_grad_(False).eval()


def columns(noise: Noise) -> Tensor:
    """The first few numbers of the noise, as normal scores `(n, d)`."""
    parts = [noise] if isinstance(noise, Tensor) else list(noise.values())
    numbers = torch.cat([part.double().reshape(len(part), -1)[:, :4] for part in parts], 1)
    ranks = numbers.argsort(0).argsort(0)
    constant = numbers.std(0) == 0
    return torch.special.ndtri((ranks + 0.5) / len(numbers))[:, ~constant]


def verbs(model: SCM, n: int) -> dict[str, Tensor]:
    """What each verb draws for y under one seed, in rows that have nothing else in common."""

    def rows(seed: int) -> Rows:
        return Rows(dict(model.sample(n, seed=1000 + seed)))

    values: dict[str, Noise] = {}
    mechanism = model.mechanisms["y"]
    noise = model.sample(n, seed=SEED).noise
    assert noise is not None
    values["sample"] = noise["y"]
    values["abduct"] = model.abduct(rows(0), seed=SEED)["y"]
    several = model.abduct(rows(1), particles=2, seed=SEED)["y"]
    values["particles"] = map_noise(lambda part: part[0], several)
    held = model.sample(n, given={"c": 1}, seed=SEED)
    quiet = torch.Generator().manual_seed(2)
    values["condition"] = mechanism.abduct(held["y"], {"c": held["c"]}, None, quiet)
    if not isinstance(model.variables["y"], Categorical):
        formulas = Formulas(model, {"c": 1}, None, "y", observed=False)
        values["effects"] = Drawn(formulas, [], n, SEED).noise_of("y")
    return {name: columns(part) for name, part in values.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_two_verbs_are_correlated_under_one_seed(family: str) -> None:
    kind, make, n = FAMILIES[family]
    for (one, a), (other, b) in combinations(verbs(world(kind, make), n).items(), 2):
        a, b = ((part - part.mean(0)) / part.std(0) for part in (a, b))
        worst = float((a.T @ b / n).abs().max())
        assert worst < 5 / math.sqrt(n), f"{one} and {other}: {worst:.2f}"


# Streams ------------------------------------------------------------------------------------------


def exam_rows() -> Rows:
    return Rows(dict(worlds.exam().sample(20, seed=1)))


def gaps() -> dict[str, Tensor]:
    rows = world(*FAMILIES["binary"][:2]).sample(20, seed=1)
    return {"c": torch.full((20,), torch.nan), "y": rows["y"]}


def there_and_back() -> None:
    model = SCM(worlds.exam().graph, worlds.exam().variables, worlds.exam().mechanisms)
    session = Session([Opened("exam", model, exam_rows())])
    run_checks(
        session, PageState(rung="imagining", row=0, do={"studied": 1}, particles=3, seed=SEED)
    )


def environments() -> None:
    here, other = worlds.scans(), {"other": worlds.scans().do(disease=1)}
    stress(
        here,
        lambda rows: rows["scan"] > 1.8,
        "disease",
        "scan",
        environments=other,
        n=20,
        seed=SEED,
    )


UP = {"studied": 1}
VERBS: dict[str, Callable[[], Any]] = {
    "sample": lambda: worlds.exam().sample(5, seed=SEED),
    "condition": lambda: worlds.exam().sample(5, given={"passed": 1}, seed=SEED),
    "log_prob": lambda: worlds.exam().log_prob(exam_rows(), seed=SEED),
    "abduct": lambda: worlds.exam().abduct(exam_rows(), seed=SEED),
    "particles": lambda: worlds.exam().counterfactual(exam_rows(), UP, particles=2, seed=SEED),
    "complete": lambda: complete(world(*FAMILIES["binary"][:2]), gaps(), 4, seed=SEED),
    "average": lambda: effects.average(worlds.exam(), UP, "passed", n=20, seed=SEED),
    "mediate": lambda: effects.mediate(worlds.exam(), exam_rows(), UP, "passed", [], seed=SEED),
    "coverage": lambda: effects.coverage(
        worlds.lecture(), worlds.lecture(), worlds.lecture().sample(5, seed=1), {"x1": 1.0}, "x2",
        seed=SEED,
    ),
    "causation": lambda: probabilities_of_causation(
        worlds.exam(), "studied", "passed", n=20, seed=SEED
    ),
    "sensitivity": lambda: sensitivity(worlds.exam(), exam_rows(), UP, "passed", seed=SEED),
    "attribution": lambda: attribute_anomaly(
        worlds.exam(), exam_rows()[:1], "passed", draws=200, seed=SEED
    ),
    "axioms": lambda: check_axioms(worlds.exam(), seed=SEED),
    "composition": lambda: composition(worlds.exam(), exam_rows(), "passed", seed=SEED),
    "reversibility": lambda: reversibility(worlds.exam(), exam_rows(), UP, ["passed"], seed=SEED),
    "commutativity": lambda: commutativity(
        worlds.exam(), exam_rows(), ("studied", 1), ("interested", 1), "passed", seed=SEED
    ),
    "disagreement": lambda: disagreement(
        [worlds.exam()] * 2, exam_rows(), UP, ["passed"], seed=SEED
    ),
    "truth": lambda: true_counterfactual(worlds.exam(), exam_rows(), UP, torch.device("cpu")),
    "there and back": there_and_back,
    "stress": environments,
    "evaluate": lambda: evaluate(
        worlds.exam(), exam_rows()[:6], oracles=Oracles({}), seed=SEED, particles=2, bootstrap=10,
        progress=False,
    ),
}  # fmt: skip
CHAINS = ("composition", "reversibility", "commutativity")


def streams(monkeypatch: pytest.MonkeyPatch, verb: Callable[[], Any]) -> list[str]:
    """The streams that a verb draws from, and how often."""
    seen: list[str] = []
    number = seeding.number_of

    def spy(key: str) -> int:
        seen.append(key)
        return number(key)

    with monkeypatch.context() as patched:
        patched.setattr(seeding, "number_of", spy)
        verb()
    ours = [key for key in seen if "/" in key]
    return [key for key in ours if not key.startswith(("1/", "1001/"))]  # rows asked about


def test_no_two_verbs_draw_from_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    streams_by_verb = {name: streams(monkeypatch, verb) for name, verb in VERBS.items()}
    silent = {name for name, keys in streams_by_verb.items() if not keys}
    assert silent <= {"condition"}
    streams_by_verb["there and back"] = [
        k for k in streams_by_verb["there and back"] if k not in streams_by_verb["particles"]
    ]
    assert streams_by_verb["there and back"]  # it begins with the very particles of the answer
    for one, other in combinations(streams_by_verb, 2):
        assert not set(streams_by_verb[one]) & set(streams_by_verb[other]), f"{one} and {other}"
    for name in CHAINS:
        assert len(streams_by_verb[name]) == len(set(streams_by_verb[name])), (
            f"{name} draws twice from one stream"
        )


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"evaluate"}))
def test_a_seed_gives_the_same_streams_again(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert streams(monkeypatch, VERBS[verb]) == streams(monkeypatch, VERBS[verb])


# Values: each of them was too good when one stream served twice -----------------------------------


def coin() -> SCM:
    """`P(y = 1 | x)` is .3 and .6, and y the quantile of one uniform number: x never hurts."""
    tables = {"x": [0.5, 0.5], "y": [[0.7, 0.3], [0.4, 0.6]]}
    mechanisms = {name: InverseCDF(table=table) for name, table in tables.items()}
    return SCM("x -> y", {"x": Binary(), "y": Binary()}, mechanisms)


def failed(n: int = 20_000, seed: int = 0) -> Rows:
    """Rows in which x and y are both 0: 3 in 7 would have y = 1 under x = 1."""
    rows = coin().sample(n, seed=seed)
    return rows[(rows["x"] == 0) & (rows["y"] == 0)]


@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_of_causation(seed: int) -> None:
    causation = probabilities_of_causation(coin(), "x", "y", seed=seed)
    for share, exact in (
        (causation.necessity, 0.5),
        (causation.sufficiency, 3 / 7),
        (causation.both, 0.3),
    ):
        assert isinstance(share, Estimate)
        assert share.value == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("particles", [None, 3])
def test_counterfactuals_of_sampled_rows(particles: int | None) -> None:
    answer = coin().counterfactual(failed(), {"x": 1}, particles=particles, seed=0)
    assert answer["y"].float().mean().item() == pytest.approx(3 / 7, abs=0.02)


def test_effects_on_sampled_rows() -> None:
    effect = effects.mediate(coin(), failed(), {"x": 1}, "y", [], seed=0)
    assert effect.direct.float().mean().item() == pytest.approx(3 / 7, abs=0.02)


def test_sensitivity_at_its_default_seed() -> None:
    alternatives = sensitivity(coin(), failed(4000), {"x": 1}, "y", particles=2)
    assert alternatives.answers[MODELLED].mean().item() == pytest.approx(3 / 7, abs=0.03)


@pytest.mark.parametrize("generator", [False, True])
def test_rows_that_do_not_come_back(generator: bool) -> None:
    rows = Rows(dict(coin().sample(20_000, seed=0)))
    turned = {"x": 1 - rows["x"]}
    seed = torch.Generator().manual_seed(0) if generator else 0
    drift = reversibility(coin(), rows, turned, ["y"], [1], seed=seed)[1]["y"]
    from_x0 = 0.7 * 3 / 7 / 2 + 0.3 / 2  # y = 0 turned 1, then half turn on; y = 1 stays, half turn
    from_x1 = 0.4 * 3 / 7 + 0.6 / 2 * 4 / 7
    assert drift.mean().item() == pytest.approx((from_x0 + from_x1) / 2, abs=0.015)


class Forgetful(Equation):
    """`y := x + u`, whose u is told up to a tenth."""

    def abduct(self, value: Any, parents: Any, particles: Any = None, generator: Any = None) -> Any:
        return value - parents["x"] + torch.randn(len(value), generator=generator) / 10


def test_null_interventions_drift_as_a_random_walk() -> None:
    model = SCM(x=Equation("u"), y=Forgetful("x + u"))
    rows = model.sample(4000, seed=0)
    for seed in (0, torch.Generator().manual_seed(0)):
        drift = composition(model, rows, "y", [1, 10], seed=seed)
        for m in (1, 10):
            walk = math.sqrt(2 * m / math.pi) / 10
            assert drift[m].mean().item() == pytest.approx(walk, rel=0.05)


def test_a_world_still_abducts_exactly_from_the_noise_it_remembers() -> None:
    rows = worlds.exam().sample(500, seed=0)
    same = worlds.exam().counterfactual(rows, {"studied": rows["studied"]}, seed=0)
    assert torch.equal(same["passed"], rows["passed"])
    known, noise = rows.noise, worlds.exam().abduct(rows, seed=0)
    assert known is not None
    for name in rows:
        assert torch.equal(torch.as_tensor(noise[name]), torch.as_tensor(known[name]))


@pytest.mark.parametrize("generator", [False, True])
def test_a_chain_of_answers_under_one_seed_draws_every_link_anew(generator: bool) -> None:
    """There and back by hand: y = 0 turns 1 in 3 of 7 rows, and of those 3 in 6 turn back."""
    rows = coin().do(x=0).sample(20_000, seed=3)
    there = coin().counterfactual(rows, {"x": 1}, seed=0)
    seed = torch.Generator().manual_seed(0) if generator else 0
    back = coin().counterfactual(there, {"x": 0}, seed=seed)
    assert (back["y"] != rows["y"]).float().mean().item() == pytest.approx(0.3, abs=0.015)
    repeated = coin().counterfactual(there, {"x": 0}, seed=0)
    assert generator or torch.equal(repeated["y"], back["y"])


def test_rows_keep_noise_that_nothing_was_drawn_for_and_no_other():
    variables = {"a": Continuous(), "c": Categorical(3), "x": Continuous()}
    model = SCM("a -> {c x}", variables, {"a": Equation("u"), "x": Equation("a + u")})
    rows = model.sample(200, seed=0)
    rows.abductions = Abductions()
    first, second = (model.abduct(rows, seed=seed) for seed in (1, 2))
    assert first["x"] is second["x"]
    assert not torch.equal(torch.as_tensor(first["c"]), torch.as_tensor(second["c"]))
    moved = Rows({**rows, "x": rows["x"] + 1}, abductions=rows.abductions)
    torch.testing.assert_close(model.abduct(moved)["x"], torch.as_tensor(first["x"]) + 1)
    assert model.abduct(rows[:])["x"] is not first["x"]
