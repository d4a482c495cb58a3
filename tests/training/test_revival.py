"""Latents that collapse in training: networks start over, and a warning says so."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from fits import ALL, PLAIN

from rung3 import SCM, Image, Rows, fit
from rung3.mechanisms import VAE, Flow, autoencoder
from rung3.mechanisms.autoencoder import GRACE, LAST_LOOK, LOOK, REVIVAL
from rung3.training.options import History

SCAN = Image(1, 8, 8)
COOLING = 50


def stripes(n: int) -> Rows:
    """Images with noise and one of two faint patterns: log 2 nats that z should hold."""
    generator = torch.Generator().manual_seed(0)
    line = torch.arange(8).view(1, 8, 1).expand(1, 8, 8) % 4 < 2
    which = torch.randint(2, (n, 1, 1, 1), generator=generator).bool()
    pattern = torch.where(which, line, ~line).float()
    noise = 0.1 * torch.randn((n, *SCAN.shape), generator=generator)
    scans = (0.46 + 0.08 * pattern + noise).clamp(0, 1)
    return Rows({"scan": scans.mul(255).round() / 255})


def bound() -> VAE:
    return VAE(2, width=4, depth=1, cooling=COOLING).bind("scan", SCAN, {})


def trained(rows: Rows, epochs: int = 11) -> tuple[float, History, SCM]:
    """The nats that z holds after training, its history, and the model."""
    torch.manual_seed(0)
    mechanism = VAE(2, width=4, depth=1, cooling=COOLING)
    model = SCM("scan", {"scan": SCAN}, {"scan": mechanism})
    history = fit(
        model, rows, epochs=epochs, batch_size=32, **ALL | PLAIN | {"lr": 4e-3, "clip": 1.0}
    )
    mechanism = cast(VAE, model.mechanisms["scan"])
    with torch.no_grad():
        kl = mechanism.infer(rows["scan"][:200], {}).kl
    return float(kl["z"].mean()), history, model


@pytest.fixture
def rows() -> Rows:
    return stripes(1000)


def test_collapsed_latents_begin_anew_and_the_record_says_when(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, history, model = trained(rows)
    assert held > math.log(2)
    step = history.revived["scan"]
    assert COOLING + GRACE <= step <= COOLING + GRACE + 2 * LOOK
    assert model.fitted["scan"]["revived_at_step"] == step
    monkeypatch.setattr(autoencoder, "COLLAPSED", 0.0)
    held, history, model = trained(rows)
    assert held < 0.1
    assert history.revived == {}
    assert "revived_at_step" not in model.fitted["scan"]


@pytest.mark.parametrize("held", [0.0, 1.0])
def test_networks_begin_anew_once_and_only_if_the_latents_are_empty(held: float) -> None:
    mechanism = bound()
    for step, due in ((COOLING + GRACE - LOOK, False), (COOLING + GRACE, True), (400, False)):
        mechanism.steps.fill_(step)
        mechanism.held.fill_(held)
        before = mechanism.decoder.stem.weight.clone()
        mechanism.after_step(0, 0.5)
        assert torch.equal(mechanism.decoder.stem.weight, before) == (not due or held > 0)
    assert int(mechanism.revived) == (COOLING + GRACE if held == 0 else 0)


def test_nothing_begins_anew_in_the_second_half_of_training() -> None:
    mechanism = bound()
    mechanism.steps.fill_(COOLING + GRACE)
    mechanism.held.zero_()
    mechanism.after_step(0, LAST_LOOK + 0.01)
    assert int(mechanism.revived) == 0


@torch.no_grad()
def test_after_a_revival_the_weight_rises_from_nothing(rows: Rows) -> None:
    mechanism = bound().train()
    scans = rows["scan"][:4]
    inference = mechanism.infer(scans, {})
    mechanism.revived.fill_(200)

    def cost(kl: float) -> float:
        return float(
            mechanism.objective(scans, inference._replace(kl={"z": torch.full((4,), float(kl))}))
        )

    for since in (1, REVIVAL // 2, REVIVAL, 2 * REVIVAL):
        mechanism.steps.fill_(200 + since)
        less = cost(0)
        mechanism.steps.fill_(200 + since)
        assert 64 * (cost(64) - less) == pytest.approx(64 * min(1, since / REVIVAL), rel=1e-3)


def test_weights_saved_before_latents_could_be_revived_still_load() -> None:
    state = {k: v for k, v in bound().state_dict().items() if k != "revived"}
    mechanism = bound()
    mechanism.load_state_dict(state)
    assert int(mechanism.revived) == 0


def test_a_mechanism_is_told_the_share_of_steps_that_were_taken() -> None:
    told: list[float] = []

    class Noting(Flow):
        def after_step(self, seed: int, done: float) -> None:
            told.append(done)

    model = SCM("x -> y", {}, {"y": Noting()})
    rows = {"x": torch.arange(8.0), "y": torch.arange(8.0).sin()}
    fit(model, rows, only=["y"], epochs=2, batch_size=4, validation_share=0, progress=False)
    assert told == [0.25, 0.5, 0.75, 1.0]
