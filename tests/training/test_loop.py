"""The loop of training: steps, rates, averages, clipping, skipping and patience, by hand."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from fits import (
    ALL,
    DEFAULTS,
    QUIET,
    Location,
    by_hand,
    fit,
    linear,
    locations,
    theta,
    trajectory,
    weights,
)
from torch import Tensor

import rung3
from rung3 import SCM, Image
from rung3.mechanisms import VAE
from rung3.mechanisms.base import Parents
from rung3.training.options import History, Options

# How the weights move -----------------------------------------------------------------------------


def averaged(path: list[float], decay: float | None) -> float:
    """The moving average of a path, as it is documented; its end without a decay."""
    average = path[0]
    for n, now in enumerate(path[1:], start=1):
        rate = 0.0 if decay is None else min(decay, (1 + n) / (10 + n))
        average = rate * average + (1 - rate) * now
    return average


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_steps_are_those_of_adamw(weight_decay: float) -> None:
    expected = by_hand(10.0, 7, lr=0.3, weight_decay=weight_decay)[-1]
    assert trajectory(7, lr=0.3, weight_decay=weight_decay) == pytest.approx(expected, rel=1e-5)


def test_rates_rise_through_the_warm_up_and_fall_as_a_cosine_to_zero() -> None:
    options = Options(**DEFAULTS | {"warmup": 4})
    assert [options.share(t, 8) for t in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    options = Options(**DEFAULTS | {"schedule": "cosine"})
    wanted = [1.0, 0.5 * (1 + math.sqrt(0.5)), 0.5, 0.5 * (1 - math.sqrt(0.5)), 0.0]
    assert [options.share(t, 8) for t in (0, 2, 4, 6, 8)] == pytest.approx(wanted)
    options = Options(**DEFAULTS | {"schedule": "cosine", "warmup": 4})
    assert options.share(0, 8) == pytest.approx(0.25)
    assert options.share(4, 8) == pytest.approx(0.5)


def test_a_warm_up_that_is_not_given_takes_a_tenth_of_a_short_run() -> None:
    options = Options(**DEFAULTS | {"warmup": None})
    assert [options.share(t, 20) for t in range(3)] == pytest.approx([0.5, 1, 1])
    assert options.share(99, 10_000) == pytest.approx(0.5)
    assert options.share(0, 5) == 1


def test_each_mechanism_has_its_own_learning_rate_unless_one_is_given() -> None:
    class Quick(Location):
        learning_rate: ClassVar[float] = 0.3

    model = locations(x=Location(), y=Quick())
    rows = {"x": [10.0] * 4, "y": [10.0] * 4}
    fit(model, rows, epochs=3, batch_size=4, **ALL | {"lr": None})
    assert theta(model, "x") == pytest.approx(by_hand(10.0, 3, lr=1e-3)[-1], rel=1e-5)
    assert theta(model, "y") == pytest.approx(by_hand(10.0, 3, lr=0.3)[-1], rel=1e-5)


def test_fit_follows_the_schedule() -> None:
    expected = by_hand(
        10.0,
        6,
        lr=0.3,
        rate=lambda t: 0.3 * min(1, (t + 1) / 2) * (1 + math.cos(t / 6 * math.pi)) / 2,
    )[-1]
    assert trajectory(6, lr=0.3, schedule="cosine", warmup=2) == pytest.approx(expected, rel=1e-5)


def test_the_average_is_the_one_that_is_documented() -> None:
    expected = averaged(by_hand(10.0, 12, lr=0.3), 0.4)
    assert trajectory(12, lr=0.3, ema=0.4) == pytest.approx(expected, rel=1e-5)


def test_what_is_not_said_is_a_cosine_a_short_warm_up_a_clip_and_an_average() -> None:
    path = by_hand(
        10.0,
        30,
        clip=1.0,
        lr=1e-3,
        rate=lambda t: 1e-3 * min(1, (t + 1) / 3) * (1 + math.cos(t / 30 * math.pi)) / 2,
    )
    model = locations(x=Location())
    rung3.fit(model, {"x": [10.0] * 4}, epochs=30, batch_size=4, **ALL)
    assert theta(model) == pytest.approx(averaged(path, 0.999), rel=1e-5)


class Quick(Location):
    betas: ClassVar[tuple[float, float]] = (0.5, 0.9)


def test_each_mechanism_has_its_own_betas() -> None:
    model = locations(x=Location(), y=Quick())
    rows = {"x": [10.0, 8.0, -5.0, 3.0], "y": [10.0, 8.0, -5.0, 3.0]}
    fit(model, rows, epochs=7, batch_size=4, lr=0.3, **ALL)
    assert theta(model) == pytest.approx(by_hand(4.0, 7, lr=0.3)[-1], rel=1e-5)
    expected = by_hand(4.0, 7, lr=0.3, betas=(0.5, 0.9))[-1]
    assert theta(model, "y") == pytest.approx(expected, rel=1e-5)


class Jumps(Location):
    """Its third loss is a million times too large."""

    calls = 0

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        self.calls += 1
        return super().loss(value, parents) * (1e6 if self.calls == 3 else 1)


def test_steps_that_diverge_are_skipped_and_counted() -> None:
    model = locations(x=Location(), y=Jumps())
    rows = {"x": [10.0] * 4, "y": [10.0] * 4}
    history = fit(model, rows, epochs=5, batch_size=4, lr=0.3, skip=1000.0, **ALL)
    assert history.skipped == {"y": 1}
    assert theta(model, "x") == pytest.approx(by_hand(10.0, 5, lr=0.3)[-1], rel=1e-5)
    assert theta(model, "y") == pytest.approx(by_hand(10.0, 4, lr=0.3)[-1], rel=1e-5)
    assert model.fitted["y"]["skipped_steps"] == 1
    assert "skipped_steps" not in model.fitted["x"]


def spiky(devices: int = 1, **options: Any) -> tuple[float, float, dict[str, int]]:
    """Twelve steps of a mechanism that diverges beside one that does not: thetas, and skips."""
    model = locations(x=Spiky(), y=Location())
    rows = {name: [10.0, 12.0, 8.0, 10.0] for name in "xy"}
    options = ALL | {"ema": 0.4, "clip": 0.5, "skip": 50.0, "devices": devices} | options
    history = fit(model, rows, epochs=12, batch_size=4, lr=0.3, **options)
    return theta(model), theta(model, "y"), history.skipped


class Spiky(Location):
    """At steps 3 and 5 its gradient is a thousand times as large; at step 7 it is NaN."""

    calls = 0

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        self.calls += 1
        if self.calls == 8:
            return (0 * self.theta).square().sqrt()
        return super().loss(value, parents) * (1000 if self.calls in (4, 6) else 1)


@pytest.mark.parametrize(("ema", "clip"), [(None, None), (0.4, 0.5)])
def test_a_skipped_step_leaves_weights_and_adamw_as_they_were(
    ema: float | None, clip: float | None
) -> None:
    steps = iter(by_hand(10.0, 9, clip or math.inf, lr=0.3))
    path = [next(steps)]
    for step in range(1, 12):
        path.append(path[-1] if step in (3, 5, 7) else next(steps))
    untouched = by_hand(10.0, 12, clip or math.inf, lr=0.3)
    expected = averaged(path, ema), averaged(untouched, ema)
    *weights, skipped = spiky(ema=ema, clip=clip)
    assert skipped == {"x": 3}
    assert weights == pytest.approx(expected, rel=1e-5)


def test_a_gradient_that_is_not_finite_is_skipped_whatever_the_threshold() -> None:
    x, _, skipped = spiky(skip=None)
    assert skipped == {"x": 1}
    assert math.isfinite(x)


@pytest.mark.slow
def test_two_devices_train_and_skip_as_one(tmp_path: Path) -> None:
    script = tmp_path / "two.py"  # Lightning starts the second process from it
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_fitting; test_fitting.torch.set_num_threads(1)\n"
        "print(repr(test_fitting.spiky(2)))\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    one = spiky()
    assert one[2] == {"x": 3}
    assert run.stdout.count(repr(one)) == 2, run.stderr  # each says it, perhaps on one line


def test_what_is_validated_is_the_average() -> None:
    model = locations(x=Location())
    rows = {"x": [10.0] * 4}
    history = fit(model, rows, rows, epochs=5, batch_size=4, lr=0.3, ema=0.9, **QUIET)
    assert history.validation["x"][-1] == pytest.approx(0.5 * (theta(model) - 10) ** 2, rel=1e-5)


def test_the_average_keeps_the_counts_of_a_mechanism_up_to_date() -> None:
    model = SCM("scan", {"scan": Image(1, 8, 8)}, {"scan": VAE(latent=1, width=1, depth=1)})
    scan = torch.randint(256, (4, 1, 8, 8)) / 255
    fit(model, {"scan": scan}, epochs=3, batch_size=4, ema=0.9, **ALL)
    assert int(model.mechanisms["scan"].state_dict()["steps"]) == 3


def test_each_mechanism_is_clipped_by_itself() -> None:
    model = locations(x=Location(), y=Location())
    rows = {"x": [10.0] * 4, "y": [3000.0] * 4}
    fit(model, rows, epochs=60, batch_size=4, lr=0.5, clip=4.0, **ALL)
    expected = by_hand(10.0, 60, lr=0.5, clip=4.0)[-1]
    assert abs(expected - by_hand(10.0, 60, lr=0.5)[-1]) > 0.01
    assert theta(model) == pytest.approx(expected, rel=1e-4)
    assert theta(model, "y") == pytest.approx(by_hand(3000.0, 60, lr=0.5, clip=4.0)[-1], rel=1e-4)


@pytest.mark.parametrize("ema", [None, 0.2])
def test_patience_keeps_the_best_weights_of_each_mechanism(ema: float | None) -> None:
    def train(epochs: int, **more: Any) -> tuple[SCM, History]:
        model = locations(x=Location(), y=Location())
        rows, held = {"x": [9.0] * 4, "y": [9.0] * 4}, {"x": [3.0] * 4, "y": [9.0] * 4}
        options = {"epochs": epochs, "batch_size": 4, "lr": 0.5, "ema": ema} | QUIET | more
        return model, fit(model, rows, held, **options)

    _, plain = train(20)
    losses = plain.validation["x"]
    best = losses.index(min(losses))
    assert 3 < best < 15
    model, history = train(20, patience=4)
    assert history.validation["x"][: best + 5] == losses[: best + 5]
    assert history.training["x"] == plain.training["x"][: best + 5]
    assert theta(model) == theta(train(best + 1)[0])
    # The other one goes on improving, and is not held up.
    assert history.validation["y"] == plain.validation["y"]
    assert theta(model, "y") == theta(train(20)[0], "y")


def test_training_ends_when_no_mechanism_improves_any_more() -> None:
    model = locations(x=Location(), y=Location())
    rows, held = {"x": [9.0] * 4, "y": [9.0] * 4}, {"x": [-1.0] * 4, "y": [2.0] * 4}
    history = fit(model, rows, held, epochs=50, batch_size=4, lr=0.5, patience=3, **QUIET)
    assert [len(history.training[name]) for name in "xy"] == [4, 7]
    assert theta(model) == pytest.approx(0.5, abs=1e-3)
    assert theta(model, "y") == pytest.approx(2.0, abs=0.1)


def test_training_ends_when_its_time_is_up() -> None:
    model = locations(x=Location())
    start = time.perf_counter()
    history = fit(
        model, {"x": [1.0] * 100_000}, epochs=9, batch_size=1, lr=1e-5, max_seconds=0.5, **ALL
    )
    assert time.perf_counter() - start < 20
    assert len(history.seconds) == len(history.training["x"]) == 1
    rows = history.seconds[0] * history.rows_per_second[0]
    # AdamW moves by lr a step.
    assert rows == pytest.approx(theta(model) / 1e-5, rel=0.01)
    assert rows < 100_000


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_any_precision_leaves_the_model_in_its_own(precision: str) -> None:
    world, model = linear()
    fit(model, world.sample(300, seed=0), epochs=2, lr=0.01, precision=precision, **QUIET)
    rows = model.sample(5, seed=0)
    assert {tensor.dtype for tensor in weights(model).values()} == {torch.float32}
    assert model.counterfactual(rows, do={"x": 1.0})["z"].dtype == torch.float32
