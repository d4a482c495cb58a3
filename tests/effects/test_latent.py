"""Effects through the latents of the outcome's own mechanism, against closed forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from chain import g, pixels, world, z_of
from torch import Tensor

from rung3 import SCM
from rung3.effects import mediate, natural, path_specific
from rung3.mechanisms import VAE, Equation


def by_hand(rows: Mapping[str, Tensor], t_: float) -> dict[str, Any]:
    """All that the closed forms need, in pixels."""
    parents = {"t": rows["t"], "i": rows["i"]}
    t, i = pixels(parents)
    z = ((rows["scan"] - 0.5) / 0.01 - 3 * i) / (1 + t)
    u = z - z_of(torch.zeros(()), t, i)
    new = torch.full_like(t, t_)
    return {"t": t, "i": i, "u": u, "z": z, "t_": new, "i_": i + 4 * (new - t)}


def close(value: Tensor, truth: Tensor) -> None:
    assert truth.abs().max() > 1e-3
    torch.testing.assert_close(value, truth.expand_as(value), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("particles", [None, 2])
def test_direct_and_indirect_effects_are_the_lectures(particles: int | None) -> None:
    model = world()
    rows = model.sample(8, seed=0)
    h = by_hand(rows, 0.9)
    z, z_ = h["z"], z_of(h["u"], h["t_"], h["i_"])
    base = g(z, h["t"], h["i"])
    effect = mediate(model, rows, {"t": 0.9}, "scan", "latent", particles=particles)
    close(effect.factual, base)
    close(effect.direct, g(z, h["t_"], h["i_"]) - base)
    close(effect.indirect, g(z_, h["t"], h["i"]) - base)
    close(effect.total, g(z_, h["t_"], h["i_"]) - base)
    close(effect.interaction, 0.01 * (z_ - z) * (h["t_"] - h["t"]))
    assert effect.total.shape == ((8, 1, 2, 3) if particles is None else (2, 8, 1, 2, 3))
    close(effect.total, model.counterfactual(rows, {"t": 0.9})["scan"] - rows["scan"])


def test_a_mediator_and_the_latents_together() -> None:
    model = world()
    rows = model.sample(8, seed=0)
    h = by_hand(rows, 0.9)
    z, z_ = h["z"], z_of(h["u"], h["t_"], h["i_"])
    base = g(z, h["t"], h["i"])
    both = mediate(model, rows, {"t": 0.9}, "scan", ["i", "latent"])
    close(both.direct, g(z, h["t_"], h["i"]) - base)
    close(both.indirect, g(z_, h["t"], h["i_"]) - base)
    alone = mediate(model, rows, {"t": 0.9}, "scan", "i")
    close(alone.direct, g(z_of(h["u"], h["t_"], h["i"]), h["t_"], h["i"]) - base)
    close(alone.indirect, g(z_of(h["u"], h["t"], h["i_"]), h["t"], h["i_"]) - base)
    torch.testing.assert_close(alone.total, both.total)


def test_paths_may_pass_through_the_latents() -> None:
    model = world()
    rows = model.sample(8, seed=0)
    h = by_hand(rows, 0.9)
    base = g(h["z"], h["t"], h["i"])
    along = path_specific(model, rows, {"t": 0.9}, "scan", ["t -> latent -> scan"])
    close(along, g(z_of(h["u"], h["t_"], h["i"]), h["t"], h["i"]) - base)
    split = mediate(model, rows, {"t": 0.9}, "scan", "latent")
    direct = ["t -> scan", "t -> i -> scan"]
    through = ["t -> latent -> scan", "t -> i -> latent -> scan"]
    with pytest.raises(ValueError, match="'i' is a recanting witness"):
        path_specific(model, rows, {"t": 0.9}, "scan", through)
    assert split.witnesses == ("i",)
    for paths, effect in ((through, split.indirect), (through + direct, split.total)):
        assert torch.equal(
            path_specific(model, rows, {"t": 0.9}, "scan", paths, recanting=True), effect
        )


def test_every_effect_of_a_null_intervention_is_exactly_zero() -> None:
    model = world()
    rows = model.sample(50, seed=0)
    for do in ({"t": rows["t"]}, {"t": lambda t: t}, {"t": rows["t"], "i": rows["i"]}):
        for particles in (None, 3):
            effect = mediate(model, rows, do, "scan", "latent", particles=particles)
            for part in (effect.direct, effect.indirect, effect.total, effect.interaction):
                assert not part.any()


def test_nothing_is_decoded_twice() -> None:
    model = world()
    rows = model.sample(4, seed=0)
    chain: Any = model.mechanisms["scan"]
    chain.calls.update(latents=0, outcome=0)
    mediate(model, rows, {"t": 0.9}, "scan", "latent")
    assert chain.calls == {"latents": 2, "outcome": 4}


def test_few_rows_at_a_time_give_the_same_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    model = world()
    rows = model.sample(130, seed=0)
    whole = mediate(model, rows, {"t": 0.9}, "scan", "latent")
    monkeypatch.setattr("rung3.scm.parts.MEMORY", 1)
    parts = mediate(model, rows, {"t": 0.9}, "scan", "latent")
    torch.testing.assert_close(whole.direct, parts.direct)
    torch.testing.assert_close(whole.indirect, parts.indirect)


def test_a_population_has_effects_through_latents() -> None:
    effect = natural(world(), {"t": 1.0}, "scan", "latent", versus={"t": 0.0}, n=4000, seed=0)
    # with t = 0, i ~ N(0, 1): z = i/2 + u; with t = 1, i + 4: z~ = z + 2 + 2
    direct = 0.01 * 3 * 4  # z t~ has mean zero
    for one, truth in ((effect.direct, direct), (effect.indirect, 0.04), (effect.total, 0.2)):
        assert one.effect.mean().item() == pytest.approx(truth, abs=2e-3)


def test_a_mechanism_without_such_latents_is_refused() -> None:
    model = world(VAE(2, "gaussian", width=4, depth=1))
    rows = {"t": [0.5], "i": [1.0], "scan": torch.full((1, 1, 2, 3), 0.5)}
    message = r"scan: its mechanism has no latent mediator; use HVAE\(prior='conditional'\)"
    for through in ("latent", ["i", "latent"]):
        with pytest.raises(ValueError, match=message):
            mediate(model, rows, {"t": 1.0}, "scan", through)
    for ask in (lambda m: m.latents({}, {}), lambda m: m.outcome({}, {})):
        with pytest.raises(ValueError, match=message):
            ask(model.mechanisms["scan"])


def test_a_variable_may_be_called_latent() -> None:
    model = SCM(x=Equation("u"), latent=Equation("2*x + u"), y=Equation("x + 5*latent + u"))
    row = {"x": 0.0, "latent": 0.0, "y": 0.0}
    assert mediate(model, row, {"x": 1.0}, "y", "latent").indirect.item() == 10
