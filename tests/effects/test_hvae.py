"""Effects through the latents of an HVAE whose parents cause them; its network is perturbed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rung3 import SCM, Image
from rung3.data.seeding import base_seed
from rung3.effects import grid, mediate
from rung3.mechanisms import HVAE, Equation, Stage

STAGES = (Stage(8, 4, latents=2), Stage(4, 8, latents=2))


def scans(prior: Any = "conditional") -> SCM:
    model = SCM(
        graph="t -> i; {t i} -> scan",
        variables={"scan": Image(1, 16, 16)},
        mechanisms={
            "t": Equation("u"),
            "i": Equation("t + u"),
            "scan": HVAE(prior=prior, stages=STAGES),
        },
    )
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("particles", [None, 3])
@pytest.mark.parametrize("through", ["latent", ["i", "latent"], "i"])
def test_every_effect_of_a_null_intervention_is_exactly_zero(
    particles: int | None, through: Any
) -> None:
    model = scans()
    rows = model.sample(4, seed=0)
    nulls: list[dict[str, Any]] = [{"t": rows["t"]}, {"t": lambda t: t}]
    for do in nulls:
        effect = mediate(model, rows, do, "scan", through, particles=particles, seed=1)
        for part in (effect.direct, effect.indirect, effect.total, effect.interaction):
            assert not part.any()


def test_effects_are_the_lectures() -> None:
    model = scans()
    rows = model.sample(4, seed=0)
    scan: Any = model.mechanisms["scan"]
    noise = model.abduct(rows, seed=base_seed(2, "effects"))["scan"]
    pa = {"t": rows["t"], "i": rows["i"]}
    new = {"t": torch.full((4,), 2.0), "i": rows["i"] + 2 - rows["t"]}
    z, z_ = scan.latents(noise, pa), scan.latents(noise, new)
    assert max(float((z[k] - z_[k]).abs().max()) for k in z) > 1e-2
    base = scan.outcome(z, pa)
    effect = mediate(model, rows, {"t": 2.0}, "scan", "latent", seed=2)
    for part, truth in (
        (effect.factual, scan.mean(noise, pa)),
        (effect.direct, scan.outcome(z, new) - base),
        (effect.indirect, scan.outcome(z_, pa) - base),
        (effect.total, scan.mean(noise, new) - base),
    ):
        assert truth.abs().max() > 1e-3
        torch.testing.assert_close(part, truth, atol=1e-5, rtol=0)


def test_the_grid_goes_through_the_latents() -> None:
    model = scans()
    effect_grid = grid(model, model.sample(2, seed=0), {"t": {"t": 1.0}})
    assert effect_grid.columns[0].through == ("latent",)
    assert effect_grid.columns[0].effect.indirect.any()


def test_latents_that_are_noise_mediate_nothing() -> None:
    model = scans("exogenous")
    with pytest.raises(ValueError, match="scan: its mechanism has no latent mediator"):
        mediate(model, model.sample(2, seed=0), {"t": 1.0}, "scan", "latent")
    assert grid(model, model.sample(2, seed=0), {"t": {"t": 1.0}}).columns[0].through == ("i",)
