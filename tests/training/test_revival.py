"""Latents that collapse in training: networks start over, and a warning says so."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from fits import ALL, PLAIN

from rung3 import SCM, Image, Rows, fit
from rung3.mechanisms import VAE, Flow, autoencoder
from rung3.mechanisms.autoencoder import COLLAPSED, DRAWS, GRACE, LOOK, LOOKING, REVIVAL
from rung3.training.options import History

SCAN = Image(1, 8, 8)
COOLING = 50
EPOCHS = 8


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


def trained(rows: Rows, epochs: int = EPOCHS) -> tuple[float, History, SCM]:
    """The nats that z holds after training, its history, and the model."""
    torch.manual_seed(0)
    mechanism = VAE(2, width=4, depth=1, cooling=COOLING)
    model = SCM("scan", {"scan": SCAN}, {"scan": mechanism})
    options = ALL | PLAIN | {"lr": 4e-3, "clip": 1.0, "ema": 0.99}
    history = fit(model, rows, epochs=epochs, batch_size=32, **options)
    mechanism = cast(VAE, model.mechanisms["scan"])
    with torch.no_grad():
        kl = mechanism.infer(rows["scan"][:200], {}).kl
    return float(kl["z"].mean()), history, model


@pytest.fixture
def rows() -> Rows:
    return stripes(1000)


def test_collapsed_latents_begin_anew_and_the_record_says_how(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoencoder, "GRACE", 50)  # soon, as the test should be
    with pytest.warns(
        UserWarning, match="scan: its latents held 0.[0-9] nats a row after 100 step"
    ):
        held, history, model = trained(rows)
    assert held > math.log(2)
    assert history.revived["scan"] == 100
    assert len(history.training["scan"]) == EPOCHS + 3
    record = model.fitted["scan"]
    assert record["revived_at_step"] == 100
    assert record["restarted"].endswith("that rises from 0, with 3 epochs more")
    monkeypatch.setattr(autoencoder, "COLLAPSED", 0.0)
    held, history, model = trained(rows, EPOCHS + 3)
    assert held < 0.1
    assert not history.revived
    assert not history.restarted
    assert not {"revived_at_step", "restarted"} & model.fitted["scan"].keys()


@pytest.mark.parametrize("held", [0.0, 0.9 * COLLAPSED, 1.1 * COLLAPSED])
def test_networks_begin_anew_a_few_times_and_only_if_the_latents_are_empty(held: float) -> None:
    mechanism = bound()
    starts = []
    for step in range(1, 2500):
        mechanism.steps.fill_(step)
        mechanism.held.fill_(held)
        before = mechanism.decoder.stem.weight.clone()
        if mechanism.after_step(0, 0.5):
            starts.append(step)
        assert torch.equal(mechanism.decoder.stem.weight, before) == (step not in starts)
    first, again = COOLING + GRACE, REVIVAL + GRACE
    empty = held < COLLAPSED
    assert starts == [first + k * again for k in range(DRAWS)] * empty


def test_networks_that_were_fitted_before_are_kept() -> None:
    """Or a model of images with little to tell would be lost when its training goes on."""
    mechanism = bound()
    mechanism.held.zero_()
    last = COOLING + GRACE + LOOKING
    for step in range(last + LOOK, last + 10 * LOOK, LOOK):
        mechanism.steps.fill_(step)
        assert mechanism.after_step(0, 0.1) is None


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
    state = {k: v for k, v in bound().state_dict().items() if not k.startswith("reviv")}
    mechanism = bound()
    mechanism.load_state_dict(state)
    assert int(mechanism.revived) == int(mechanism.revivals) == 0


def test_a_mechanism_is_told_the_share_of_steps_that_were_taken() -> None:
    shares: list[float] = []

    class Noting(Flow):
        def after_step(self, seed: int, done: float) -> None:
            shares.append(done)

    model = SCM("x -> y", {}, {"y": Noting()})
    rows = {"x": torch.arange(8.0), "y": torch.arange(8.0).sin()}
    fit(model, rows, only=["y"], epochs=2, batch_size=4, validation_share=0, progress=False)
    assert shares == [0.25, 0.5, 0.75, 1.0]
