"""Values at bounds: the contract, probabilities that are known, and what is refused."""

from __future__ import annotations

import pytest
import torch

from rung3 import SCM, Binary, Categorical, Continuous, fit, load
from rung3.mechanisms import AdditiveNoise, AtBounds, Flow
from rung3.testing.contract import check_mechanism

MIXED = {"age": Continuous(), "ward": Categorical(3)}


@pytest.mark.parametrize("within", [None, AdditiveNoise(degree=1)], ids=str)
@pytest.mark.parametrize(
    "variable",
    [Continuous(lower=0), Continuous(lower=0, upper=1), Continuous(upper=3)],
    ids=str,
)
def test_the_contract(within: AdditiveNoise | None, variable: Continuous) -> None:
    torch.manual_seed(0)
    report = check_mechanism(AtBounds(within), variable, MIXED)
    assert "integrates to one" in report.passed["density"]


def test_zeros_keep_their_probability_and_are_told_apart() -> None:
    """A third is 0, and the rest exponential: mean 2, whatever t is."""
    g = torch.Generator().manual_seed(0)
    rows = {"t": torch.arange(3_000) % 2}
    drawn = torch.empty(3_000).exponential_(generator=g) * 3
    rows["y"] = torch.where(torch.arange(3_000) % 3 == 0, 0.0, drawn)
    kinds = {"t": Binary(), "y": Continuous(lower=0)}
    model = SCM("t -> y", kinds, {"y": AtBounds(Flow(hidden=()), hidden=())})
    fit(model, rows, epochs=10, progress=False)
    for t in (0, 1):
        y = model.do(t=t).sample(20_000, seed=1)["y"]
        assert (y == 0).double().mean().item() == pytest.approx(1 / 3, abs=0.03)
        assert y.mean().item() == pytest.approx(2, abs=0.15)
    at_zero = {"t": [0], "y": [0.0]}
    unchanged = model.counterfactual(at_zero, do={"t": 0}, particles=50, seed=0)["y"]
    assert not unchanged.any()
    log_p = model.mechanisms["y"].log_prob(torch.zeros(1), {"t": torch.tensor([1])})
    assert log_p.exp().item() == pytest.approx(1 / 3, abs=0.03)


def test_it_is_saved_with_the_mechanism_within(tmp_path: object) -> None:
    rows = {"x": torch.arange(60.0), "y": (torch.arange(60.0) - 20).clamp_min(0)}
    model = SCM(
        "x -> y", {"y": Continuous(lower=0)}, {"y": AtBounds(AdditiveNoise(degree=1), hidden=())}
    )
    fit(model, rows, epochs=1, progress=False)
    assert model.mechanisms["y"].describe() == "AtBounds(AdditiveNoise(degree=1))"
    loaded = load(model.save(f"{tmp_path}/model"))
    one, other = (m.counterfactual(rows, do={"x": 30.0}, seed=0)["y"] for m in (model, loaded))
    assert torch.equal(one, other)


def test_what_it_cannot_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"y: AtBounds models a number with a lower or an upper"):
        AtBounds().bind("y", Continuous(), {})
    with pytest.raises(ValueError, match="y: AtBounds models a number"):
        AtBounds().bind("y", Binary(), {})
    with pytest.raises(ValueError, match="expected a mechanism of rung3, or its fields"):
        AtBounds({"kind": "Nothing"})
    bound = AtBounds().bind("y", Continuous(lower=0), {})
    with pytest.raises(ValueError, match="y: no value lies within its bounds"):
        bound.calibrate(torch.zeros(9), {})
