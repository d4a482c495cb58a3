"""Networks that start over in the middle of training train as if it were the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fits import QUIET, Location, fit, locations, theta
from torch import Tensor

from rung3.training.loop import Loop
from rung3.training.options import History, Options
from rung3.training.restarts import Restarts

STEPS = 4
"""Of an epoch."""

AT = 6
"""The step at which networks start over: one and a half epochs."""

MORE = 2 * STEPS
"""Steps that are added for these."""

DEFAULT: dict[str, Any] = {"lr": 0.3, "schedule": "cosine", "warmup": None, "ema": 0.9} | QUIET


class Anew(Location):
    """It starts over after so many steps."""

    count: Tensor

    def build(self) -> None:
        super().build()
        self.register_buffer("count", torch.tensor(0))

    def after_step(self, seed: int, done: float) -> str | None:
        self.count += 1
        if self.count != AT:
            return None
        self.theta.data.fill_(self.start)
        return "it started over"


def rows(steps: int) -> dict[str, list[float]]:
    return {name: [10.0] * (2 * steps) for name in ("x", "y")}


def trained(epochs: int = 3, **more: Any) -> tuple[float, float, History]:
    """X, which starts over, and y beside it, which does not."""
    model = locations(x=Anew(), y=Location())
    with pytest.warns(UserWarning, match=r"x: it started over, with 2 epochs more$"):
        history = fit(model, rows(STEPS), epochs=epochs, batch_size=2, **DEFAULT | more)
    return theta(model, "x"), theta(model, "y"), history


def alone(steps: int, **more: Any) -> float:
    """What comes out of so many steps from the first."""
    model = locations(x=Location())
    fit(model, {"x": rows(steps)["x"]}, epochs=1, batch_size=2, **DEFAULT | more)
    return theta(model, "x")


ALL_ROWS: dict[str, Any] = {"validation_share": 0}


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_rate_optimizer_and_average_begin_anew_and_lost_epochs_are_added(schedule: str) -> None:
    options: dict[str, Any] = ALL_ROWS | {"schedule": schedule}
    x, y, history = trained(**options)
    assert x == pytest.approx(alone(3 * STEPS + MORE - AT, **options), rel=1e-6)
    assert y == pytest.approx(alone(3 * STEPS, **options), rel=1e-6)  # it ends as if it were alone
    assert history.revived == {"x": AT}
    assert history.restarted == {"x": "it started over, with 2 epochs more"}
    assert [len(history.training[name]) for name in ("x", "y")] == [5, 3]


def test_a_long_training_gets_no_epoch_more() -> None:
    restarts = Restarts(Options(epochs=2), steps=1_000)
    restarts.began["x"] = 400
    assert restarts.epochs == 2
    assert restarts.done("x", 1_200) == pytest.approx(0.5)
    assert restarts.ended(["x", "y"], 2_000) == {"x", "y"}


def test_weights_of_before_are_not_the_best() -> None:
    held = {"x": [0.0, 0.0], "y": [0.0, 0.0]}  # the start is best, so that patience runs out
    model = locations(x=Anew(), y=Location())
    options = DEFAULT | {"ema": None, "schedule": "constant", "patience": 3}
    with pytest.warns(UserWarning, match="x: it started over"):
        history = fit(model, rows(STEPS), held, epochs=9, batch_size=2, **options)
    x, first = history.validation["x"], 1 + AT // STEPS
    assert min(x) == x[first - 1]  # the first epoch after it
    assert len(history.training["x"]) == first + 3
    assert len(history.training["y"]) == 1 + 3


@pytest.mark.filterwarnings("ignore:x. it started over")
@pytest.mark.parametrize("cut", [AT - 1, AT + 1, 3 * STEPS + 1])
def test_a_training_that_broke_off_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    expected = trained(**ALL_ROWS)
    step = Loop.training_step

    def broken(self: Loop, *args: Any) -> Tensor:
        if self.trainer.global_step == cut:
            raise InterruptedError
        return step(self, *args)

    saved = ALL_ROWS | {"checkpoints": tmp_path, "checkpoint_every": 1}
    monkeypatch.setattr(Loop, "training_step", broken)
    model = locations(x=Anew(), y=Location())
    with pytest.raises(InterruptedError):
        fit(model, rows(STEPS), epochs=3, batch_size=2, **DEFAULT | saved)
    monkeypatch.setattr(Loop, "training_step", step)
    model = locations(x=Anew(), y=Location())
    history = fit(model, rows(STEPS), epochs=3, batch_size=2, **DEFAULT | saved)
    assert (theta(model, "x"), theta(model, "y")) == expected[:2]
    assert history.restarted == expected[2].restarted
    assert history.training == expected[2].training
    with pytest.warns(UserWarning, match="holds this training, finished"):
        fit(model, rows(STEPS), epochs=3, batch_size=2, **DEFAULT | saved)
