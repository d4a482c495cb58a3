"""Variables on a circle: held, encoded, learned and measured without a seam."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Categorical, Continuous, Image, fit, load, worlds
from rung3.data.display import centre
from rung3.data.distances import distance
from rung3.data.variables import Variable, from_config
from rung3.effects import average, mediate, path_specific, uncertainty
from rung3.evaluation.measures.calibration import crps
from rung3.evaluation.tasks import shifted
from rung3.mechanisms import Contaminated, Equation, Flow
from rung3.mechanisms.networks.encoding import ParentEncoder
from rung3.scm.propagation import generate
from rung3.testing import CHECKS, prepare
from rung3.training.oracles.oracles import Oracle

HUE = Continuous(lower=0, upper=1, circular=True)
ANGLE = Continuous(unit="degrees", lower=-180, upper=180, circular=True)


def test_every_number_is_a_point_of_it() -> None:
    values_on_circle = ANGLE.validate(
        "angle", torch.tensor([0.0, 180.0, -180.0, 190.0, -541.0, 3600.0])
    )
    assert values_on_circle.tolist() == [0, -180, -180, -170, 179, 0]
    assert HUE.validate("hue", torch.tensor(-1e-12)).item() == 0  # not 1, which is 0
    assert HUE.validate("hue", 0.3).item() == pytest.approx(0.3)
    inside = torch.rand(1000)
    assert torch.equal(HUE.validate("hue", inside), inside)
    missing = Continuous(lower=0, upper=1, circular=True, missing=True)
    assert missing.validate("hue", [1.25, math.nan])[0] == 0.25
    with pytest.raises(ValueError, match="hue: 1 values are infinite"):
        HUE.validate("hue", [math.inf])
    with pytest.raises(ValueError, match="hue: 1 values are NaN"):
        HUE.validate("hue", [math.nan])


def test_a_circle_must_close() -> None:
    with pytest.raises(ValueError, match="circular=True needs a finite lower and upper"):
        Continuous(lower=0, circular=True)


def test_differences_go_the_shorter_way_round() -> None:
    x, y = torch.tensor([0.1, 0.9, 0.25, 0.5]), torch.tensor([0.9, 0.1, 0.5, 0.25])
    expected = torch.tensor([0.2, -0.2, -0.25, 0.25])
    torch.testing.assert_close(HUE.difference(x, y), expected)
    torch.testing.assert_close(distance(HUE, x, y), expected.abs())
    real = Continuous(lower=0, upper=1)
    torch.testing.assert_close(distance(real, x, y), (x - y).abs())


def test_it_is_encoded_as_cosine_and_sine() -> None:
    encoder = ParentEncoder({"angle": ANGLE, "digit": Categorical(2)})
    values = {"angle": torch.tensor([-180.0, -90.0]), "digit": torch.tensor([1, 0])}
    encoder.calibrate(values)
    code = encoder(values, 2)
    expected = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]])
    torch.testing.assert_close(code, expected, atol=1e-6, rtol=0)
    assert encoder.width == 4
    vector = ParentEncoder({"where": Continuous(lower=0, upper=1, circular=True, dim=3)})
    assert vector({"where": torch.rand(5, 3)}, 5).shape == (5, vector.width) == (5, 6)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("dim", [None, 2])
def test_flows_keep_the_contract(check: str, dim: int | None) -> None:
    variable = Continuous(lower=-180, upper=180, circular=True, dim=dim)
    parents: dict[str, Variable] = {"digit": Categorical(10), "hue": HUE}
    CHECKS[check](prepare(Flow(), variable, parents))


def causes(n: int, seed: int) -> dict[str, Tensor]:
    """Digits and their hues, without outliers."""
    return generate(worlds.colour("digit-hue", outliers=0), n, seed, only=["digit", "hue"])[0]


def test_a_flow_learns_a_hue_that_straddles_the_seam_and_turns_with_the_digit() -> None:
    model = SCM("digit -> hue", {"digit": Categorical(10), "hue": HUE})
    fit(model, causes(6000, 0), epochs=8, seed=0, progress=False)
    test = causes(1000, 1)
    nats = model.log_probs(test)["hue"].mean().item()
    best = -0.5 * math.log(2 * math.pi * math.e * 0.05**2)
    assert nats == pytest.approx(best, abs=0.12)
    moved = model.counterfactual(test, {"digit": (test["digit"] + 4) % 10})["hue"]
    assert distance(HUE, moved, test["hue"] + 0.4).mean() < 0.015


def test_an_oracle_reads_a_circle() -> None:
    oracle = Oracle(Image(3, 8, 8), HUE, width=4)
    images = torch.rand(6, 3, 8, 8)
    assert oracle(images).shape == (6, 2)
    read = oracle.read(images)
    assert read.shape == (6,)
    assert ((read >= 0) & (read < 1)).all()
    near, far = oracle.goal(torch.tensor([0.999])), oracle.goal(torch.tensor([0.001]))
    assert (near - far).norm() < 0.02
    oracle.measure(images, torch.rand(6))
    assert oracle.log_loss(images, oracle.goal(torch.rand(6))).isfinite().all()


def test_functions_equations_and_shifts_go_round() -> None:
    model = SCM(
        variables={"hue": HUE},
        mechanisms={"hue": Equation("u", "Uniform(0, 1)", inverse="hue")},
    )
    rows = model.sample(50, seed=0)
    moved = model.counterfactual(rows, {"hue": lambda hue: hue + 0.75})["hue"]
    torch.testing.assert_close(moved, (rows["hue"] + 0.75) % 1)
    drawn = model.do(hue=Equation("0.9 + 0.5*u", "Uniform(0, 1)")).sample(200, seed=0)["hue"]
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert (drawn < 0.4).any()
    assert (drawn > 0.9).any()
    chain = SCM(
        "hue -> seen",
        {"hue": HUE},
        {"hue": Equation("u", "Uniform(0, 1)", inverse="hue"), "seen": Equation("hue + u")},
    )
    world = shifted(chain, "prevalence", "hue", "seen")
    hues = world.sample(200, seed=0)["hue"]
    assert ((hues >= 0) & (hues < 1)).all()


def test_it_is_kept_in_a_model_file(tmp_path: Any) -> None:
    assert from_config("hue", HUE.config()) == HUE
    model = SCM("digit -> hue", {"digit": Categorical(3), "hue": HUE})
    loaded = load(model.save(tmp_path / "model"))
    assert loaded.variables["hue"] == HUE
    assert torch.equal(loaded.sample(20, seed=0)["hue"], model.eval().sample(20, seed=0)["hue"])


# Effects


def clock() -> SCM:
    """`a` turns `b` by its half and `c` by its whole, and `b` turns `c` once more; in turns."""
    mechanisms = {
        "a": Equation("u"),
        "b": Contaminated("a/2", 0.1, outliers=0),
        "c": Contaminated("0.9 + a + b", 0.1, outliers=0),
    }
    return SCM("a -> b; {a b} -> c", {"b": HUE, "c": HUE}, mechanisms)


def test_effects_on_it_go_the_shorter_way_round() -> None:
    model = clock()
    rows = {
        "a": torch.tensor([0.0, 0.1]),
        "b": torch.tensor([0.9, 0.2]),
        "c": torch.tensor([0.75, 0.3]),
    }
    more = {"a": lambda a: a + 0.2}
    mediation = mediate(model, rows, more, "c", "b")
    for effect, turn in (
        (mediation.direct, 0.2),
        (mediation.indirect, 0.1),
        (mediation.total, 0.3),
    ):
        torch.testing.assert_close(effect, torch.full((2,), turn))
    assert mediation.interaction.abs().max() < 1e-6
    torch.testing.assert_close(path_specific(model, rows, more, "c", ["a -> c"]), mediation.direct)
    back = {"a": lambda a: a - 0.2}
    torch.testing.assert_close(mediate(model, rows, back, "c", "b").total, -mediation.total)
    assert mediate(model, rows, {"a": lambda a: a}, "c", "b").total.abs().max() == 0


def test_an_average_effect_on_it_counts_no_turn_of_the_seam() -> None:
    quarter = average(clock(), {"a": 0.1}, "c", versus={"a": 0.0}, n=200, seed=0)
    assert quarter.effect.item() == pytest.approx(0.15, abs=1e-6)
    assert quarter.high - quarter.low < 1e-6


def test_a_cloud_on_it_is_scored_the_same_wherever_it_lies() -> None:
    draws = 0.4 + 0.2 * torch.rand(9, 5)
    true, line = 0.4 + 0.2 * torch.rand(5), Continuous(lower=0, upper=1)
    expected = crps(line, draws, true)  # far from the seam a circle is a line
    for turn in (0.0, 0.5, 0.7):
        score = crps(HUE, HUE.wrap(draws + turn), HUE.wrap(true + turn))
        torch.testing.assert_close(score, expected, atol=1e-6, rtol=0)


def test_its_mean_and_spread_have_no_seam() -> None:
    around = torch.tensor([0.9, 0.95, 0.1, 0.05, 0.0])
    assert HUE.difference(centre(HUE, around), torch.zeros(())).abs() < 1e-6
    results = []
    for at in (0.45, 0.8):  # the same, turned: an outlier that stays, or a Gaussian that follows
        hue = Contaminated(f"{at} + turn", 0.05, outliers=0.5)
        model = SCM("turn -> hue", {"hue": HUE}, {"turn": Equation("u"), "hue": hue})
        row, levels = {"turn": 0.0, "hue": at + 0.1}, (0.05, 0.95)
        results.append(uncertainty(model, row, {"turn": 0.2}, "hue", quantiles=levels, seed=1))
    here, there = results
    assert here.std == pytest.approx(0.1, abs=0.02)
    assert there.std == pytest.approx(here.std.item(), abs=1e-6)
    assert HUE.difference(there.mean, here.mean) == pytest.approx(0.35, abs=1e-6)
    assert [q.item() for q in here.quantiles.values()] == pytest.approx([0.55, 0.75])
    assert [q.item() for q in there.quantiles.values()] == pytest.approx([0.9, 0.1])
