"""Widened posteriors: what is widened, and that draws then hold the truth at their rate."""

from __future__ import annotations

from typing import Any, cast

import halves
import pytest
import torch

from rung3 import SCM, Image, Rows, load
from rung3.effects import Coverage, Estimate, coverage
from rung3.evaluation import widen, widening
from rung3.mechanisms import HVAE, VAE, Stage

KINDS = [
    VAE(3, width=4, depth=1),
    HVAE(stages=[Stage(4, 6, latents=2), Stage(2, 6, latents=2)]),
    HVAE("conditional", [Stage(4, 6, latents=2)], mediator="mixture"),
]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return halves.world().sample(40, seed=0)


def model() -> SCM:
    torch.manual_seed(0)
    return halves.scm(VAE(2, width=2, depth=1))


@pytest.mark.parametrize("mechanism", KINDS, ids=["vae", "hvae", "mixture"])
@torch.no_grad()
def test_only_several_draws_are_wider_and_none_is_wider_than_the_prior(mechanism: Any) -> None:
    bound = mechanism.bind("image", Image(1, 8, 8), {"left": halves.world().variables["left"]})
    scans, parents = torch.rand(3, 1, 8, 8).mul(255).round() / 255, {"left": torch.rand(3)}
    first = next(iter(bound.abduct(scans, parents)))

    def drawn(widening: float, particles: int | None) -> Any:
        bound.widening = widening
        generator = torch.Generator().manual_seed(0)
        return bound.abduct(scans, parents, particles, generator)

    assert torch.equal(drawn(1.0, None)[first], drawn(9.0, None)[first])
    if mechanism is KINDS[2]:  # its first part is what the posterior's deviation is multiplied by
        first = f"{first} scale"
        narrow, wide = drawn(1.0, 2)[first], drawn(1.5, 2)[first]
        assert (wide / narrow).min() > 1
        return
    narrow, wide, widest = (drawn(w, 400)[first].std(0) for w in (1.0, 1.5, 1e6))
    assert (wide <= widest + 1e-6).all()
    torch.testing.assert_close(widest.clamp_max(1.2), torch.ones_like(widest), atol=0.2, rtol=0)
    expected = torch.minimum(1.5 * narrow, torch.maximum(narrow, torch.ones_like(narrow)))
    torch.testing.assert_close(wide, expected, atol=0.12, rtol=0)


class Covered:
    """In place of `coverage`: the share grows with the factor, as `1 - 1 / (1 + factor)`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(
        self, model: SCM, truth: SCM, rows: Rows, do: Any, outcome: str, **more: Any
    ) -> Any:
        mechanism: Any = model.mechanisms[outcome]
        self.asked += list(do)
        (level,) = more["levels"]
        share = Estimate(1 - 1 / (1 + mechanism.widening), 0.0, 1.0)
        return Coverage({level: share}, 0.0, outcome, more["particles"])


def test_the_least_factor_is_found_at_which_enough_is_covered(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    covered, model_ = Covered(), model()
    monkeypatch.setattr(widening, "coverage", covered)
    factors = widen(model_, rows, halves.world())
    assert factors["image"] == pytest.approx(9, rel=0.07)
    assert factors["image"] >= 9
    assert set(covered.asked) == {"left", "right"}
    mechanism = cast(VAE, model_.mechanisms["image"])
    assert mechanism.widening == factors["image"]
    model_.save(tmp_path)
    assert load(tmp_path).mechanisms["image"].config()["widening"] == factors["image"]
    assert widen(model_, rows, halves.world(), level=0.4) == {"image": 1.0}
    with pytest.warns(UserWarning, match="image: even 64 times as wide, its draws hold the truth"):
        assert widen(model_, rows, halves.world(), level=0.99) == {"image": 64.0}


def test_coverage_is_counted_under_the_factor_and_rises_with_it(rows: Rows) -> None:
    narrow, wide = (
        coverage(
            wider(factor), halves.world(), rows, {"left": rows["left"].roll(1)}, "image",
            particles=19, seed=1,
        ).shares[0.9].value
        for factor in (1.0, 64.0)
    )  # fmt: skip
    assert narrow is not None
    assert wide is not None
    assert float(narrow) < float(wide)


def wider(factor: float) -> SCM:
    """A model whose posterior is a tenth as wide as the prior, and that factor wider in draws."""
    widened = model()
    mechanism = cast(VAE, widened.mechanisms["image"])
    head: Any = mechanism.encoder.head[-1]
    head.bias.data[2:] = -2.3
    mechanism.decoder.stem.weight.data *= 30
    mechanism.widening = factor
    return widened


@pytest.mark.parametrize("factor", [0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [VAE, HVAE])
def test_factors_below_one_are_refused(kind: Any, factor: float) -> None:
    with pytest.raises(ValueError, match=r"widening=.* must be a number of at least 1"):
        kind(widening=factor)


def test_a_model_without_autoencoders_is_refused(rows: Rows) -> None:
    with pytest.raises(ValueError, match="change no image of a VAE or HVAE"):
        widen(halves.world(), rows[:10], halves.world())
