from __future__ import annotations

import csv
import math
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

import rung3
from rung3 import SCM, Binary, Continuous, Image, Rows, load
from rung3.data import split
from rung3.data.rows import Noise
from rung3.mechanisms import VAE, Equation, Flow
from rung3.mechanisms.base import Abduction, Mechanism, Parents
from rung3.training.options import History, Options

PLAIN: dict[str, Any] = {
    "lr": 1e-3, "schedule": "constant", "warmup": 0, "ema": None, "clip": None,
}  # fmt: skip
QUIET: dict[str, Any] = {"progress": False, "accelerator": "cpu"}
ALL: dict[str, Any] = QUIET | {"validation_share": 0}
DEFAULTS: dict[str, Any] = {
    "epochs": 1, "batch_size": 1, "lr": 1.0, "weight_decay": 0.0, "seed": 0, "patience": None,
    "ema": None, "clip": None, "skip": None, "schedule": "constant", "warmup": 0,
    "precision": "32-true",
    "devices": 1, "num_nodes": 1, "accelerator": "cpu", "logger": None, "checkpoints": None,
    "checkpoint_every": None, "resume": True, "progress": False, "max_seconds": None,
}  # fmt: skip


def fit(model: SCM, *rows: Any, **options: Any) -> History:
    """`rung3.fit` with a constant rate and nothing else, unless a test asks for it."""
    return rung3.fit(model, *rows, **PLAIN | options)


class Location(Mechanism):
    """`x = theta + u`; its loss has the gradient `theta - mean(x)`, whatever the parents."""

    abduction: ClassVar[Abduction] = "exact"
    assumption: str = "none"

    def __init__(self, start: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.start = start
        self.scale = scale

    def build(self) -> None:
        self.theta = nn.Parameter(torch.tensor(self.start))

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return torch.randn(n, generator=generator)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, Tensor)
        return self.theta + noise

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        return value - self.theta

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return -self.scale * 0.5 * (value - self.theta).square()


class Breaks(Location):
    """Its third loss is NaN."""

    calls = 0

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        self.calls += 1
        return super().loss(value, parents) + (math.nan if self.calls == 3 else 0)


class Kink(Location):
    """`|theta|` as a norm: at zero its loss is finite and its gradient NaN."""

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        return self.theta.square().sqrt()


def by_hand(mean: float, steps: int, clip: float = math.inf, **options: Any) -> list[float]:
    """Theta after each of so many steps of AdamW on `(theta - mean)^2 / 2`."""
    rate = options.pop("rate", lambda step: options["lr"])
    theta = nn.Parameter(torch.tensor(0.0))
    optimizer = torch.optim.AdamW([theta], **{"weight_decay": 0.0, "betas": (0.9, 0.99)} | options)
    path = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate(step)
        gradient = theta.item() - mean
        theta.grad = torch.tensor(math.copysign(min(abs(gradient), clip), gradient))
        optimizer.step()
        path.append(theta.item())
    return path


def locations(**mechanisms: Location) -> SCM:
    return SCM("; ".join(mechanisms), mechanisms=mechanisms)


def theta(model: SCM, name: str = "x") -> float:
    return model.mechanisms[name].state_dict()["theta"].item()


def linear(share: float = 1.0) -> tuple[SCM, SCM]:
    """A linear-Gaussian chain, and an SCM that can be it exactly; `share` of y is not missing."""
    world = SCM(x=Equation("2*u + 1"), y=Equation("3 - 0.5*x + 0.5*u"), z=Equation("x + y + 1.5*u"))
    flow = Flow(splines=0, hidden=())
    model = SCM(
        world.graph,
        variables={"y": Continuous(missing=share < 1)},
        mechanisms=dict.fromkeys(world.variables, flow),
    )
    return world, model


def weights(model: SCM) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether weights are equal bit for bit, NaN included."""
    return one.keys() == other.keys() and all(
        torch.equal(one[k].nan_to_num(-99.0), other[k].nan_to_num(-99.0)) for k in one
    )


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums come out the same bit for bit only with the same number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# What is learned ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> tuple[SCM, SCM, Rows, History]:
    torch.manual_seed(0)
    world, model = linear()
    train = world.sample(4000, seed=0)
    history = fit(model, train, epochs=12, batch_size=200, lr=0.1, schedule="cosine", **QUIET)
    return world, model, train, history


def test_a_learned_density_is_the_true_one(fitted: tuple[SCM, SCM, Rows, History]) -> None:
    world, model, _, _ = fitted
    test = world.sample(2000, seed=1)
    truth, learned = world.log_probs(test), model.log_probs(test)
    for name in truth:
        divergence = (truth[name] - learned[name]).mean()  # of the truth from what was learned
        assert abs(divergence) < 0.005, name
        assert (truth[name] - learned[name]).abs().mean() < 0.05, name


def test_a_learned_counterfactual_is_the_true_one(fitted: tuple[SCM, SCM, Rows, History]) -> None:
    world, model, _, _ = fitted
    test = world.sample(500, seed=1)
    for do in ({"x": 4.0}, {"y": lambda y: y - 2}, {"x": -1.0, "y": 0.0}):
        truth, learned = world.counterfactual(test, do=do), model.counterfactual(test, do=do)
        for name in truth:
            missed, moved = learned[name] - truth[name], truth[name] - test[name]
            assert missed.abs().mean() <= 0.03 * moved.abs().mean(), (do, name)


def test_history_has_a_loss_an_epoch_and_the_last_is_that_of_the_weights_kept(
    fitted: tuple[SCM, SCM, Rows, History],
) -> None:
    _, model, train, history = fitted
    _, held = split(train, 0.1, seed=0)
    assert held.n == 400
    for name, log_prob in model.log_probs(held).items():
        assert len(history.training[name]) == len(history.validation[name]) == 12
        assert history.validation[name][-1] == pytest.approx(-log_prob.mean().item(), abs=1e-5)
        assert history.training[name][0] > history.training[name][-1]
    assert len(history.seconds) == len(history.rows_per_second) == 12
    rows = np.multiply(history.seconds, history.rows_per_second)
    assert rows == pytest.approx(3600)  # of 4000, 400 are held out
    assert not model.training


def test_how_it_was_fitted_is_kept_by_mechanism(fitted: tuple[SCM, SCM, Rows, History]) -> None:
    _, model, _, history = fitted
    said = model.fitted["y"]
    assert (said["rows"], said["epochs"], said["lr"], said["seed"]) == (3600, 12, 0.1, 0)
    assert said["validation_loss"] == history.validation["y"][-1]


def test_history_comes_back_from_its_file_and_gives_its_curves(tmp_path: Path) -> None:
    history = History({"x": [2.0, 1.0], "y": [3.0]}, {"x": [2.5, 1.5]}, [0.5, 0.25], [10.0, 20.0])
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == history
    assert history.curves() == {
        "x": {"training": [2.0, 1.0], "validation": [2.5, 1.5]},
        "y": {"training": [3.0]},
    }


def test_fitting_again_goes_on_from_the_weights_that_there_are() -> None:
    chance = torch.arange(400) % 2 == 0
    sick = torch.where(torch.arange(400) % 20 < 18, chance, ~chance)
    rows = {"exposed": chance, "sick": sick}
    model = SCM("exposed -> sick", variables={"exposed": Binary(), "sick": Binary()})
    first = fit(model, rows, rows, epochs=2, lr=0.05, batch_size=16, schedule="cosine", **QUIET)
    again = fit(model, rows, rows, epochs=1, lr=1e-9, batch_size=400, **QUIET)
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert first.validation["sick"][-1] == pytest.approx(entropy, abs=5e-3)
    assert again.validation["sick"][-1] == pytest.approx(first.validation["sick"][-1], abs=1e-6)


def test_validation_rows_given_are_the_ones_used() -> None:
    held = {"x": [1.0, 3.0]}
    history = fit(
        locations(x=Location()), {"x": [5.0] * 4}, held, epochs=2, batch_size=4, lr=0.5, **QUIET
    )
    first, second = by_hand(5.0, 2, lr=0.5)
    assert history.training["x"] == pytest.approx([12.5, 0.5 * (5 - first) ** 2])
    expected = [0.25 * ((1 - at) ** 2 + (3 - at) ** 2) for at in (first, second)]
    assert history.validation["x"] == pytest.approx(expected)


def test_rows_that_a_model_drew_are_data() -> None:
    drawn = locations(x=Location(start=4.0)).sample(200, seed=0)
    assert drawn["x"].requires_grad
    found = []
    for rows in (drawn, {"x": drawn["x"].detach()}):
        model = locations(x=Location())
        fit(model, rows, epochs=2, batch_size=50, lr=0.1, **ALL)
        found.append(theta(model))
    assert found[0] == found[1] == pytest.approx(0.8, abs=0.05)  # eight steps of AdamW


# Which mechanisms, from which rows ---------------------------------------------------------------


def test_only_the_mechanisms_named_are_trained_and_need_no_other_columns() -> None:
    world, model = linear()
    before = {name: weights(m) for name, m in model.mechanisms.items()}
    train = {k: v for k, v in world.sample(200, seed=0).items() if k in ("x", "y")}
    history = fit(model, train, only=["y"], epochs=1, **QUIET)
    assert list(history.training) == list(history.validation) == list(model.fitted) == ["y"]
    changed = {n: not same(before[n], weights(m)) for n, m in model.mechanisms.items()}
    assert changed == {"x": False, "y": True, "z": False}


def test_trained_together_or_alone_a_mechanism_comes_out_the_same() -> None:
    _, together = linear()
    _, alone = linear()
    alone.load_state_dict(together.state_dict())
    train = linear()[0].sample(300, seed=0)
    options = {"epochs": 2, "clip": 1.0, "ema": 0.9, "lr": 0.01} | QUIET
    fit(together, train, **options)
    for name in ("z", "x", "y"):
        fit(alone, train, only=[name], **options)
    assert same(weights(together), weights(alone))


def test_a_row_without_y_trains_x_as_if_nothing_were_missing() -> None:
    world, model = linear(share=0.5)
    _, full = linear()
    full.load_state_dict(model.state_dict())
    train = dict(world.sample(4000, seed=0))
    options = {"epochs": 8, "batch_size": 400, "lr": 0.2, "schedule": "cosine"} | ALL
    fit(full, train, only=["x"], **options)
    train["y"] = train["y"].where(torch.rand(4000) < 0.5, torch.nan)
    with pytest.warns(UserWarning, match="rows with gaps train only"):
        fit(model, train, **options)

    assert same(weights(model.mechanisms["x"]), weights(full.mechanisms["x"]))
    rows = int(train["y"].isfinite().sum())
    assert {n: model.fitted[n]["rows"] for n in "xyz"} == {"x": 4000, "y": rows, "z": rows}
    test = world.sample(2000, seed=1)
    truth, learned = world.log_probs(test), model.log_probs(test)
    for name in "yz":
        assert abs((truth[name] - learned[name]).mean()) < 0.02, name


def test_batches_in_which_nothing_trains_a_mechanism_are_passed_over() -> None:
    variables = {"x": Continuous(missing=True)}
    model = SCM("x; y", variables, {"x": Location(), "y": Location()})
    rows = {"x": [math.nan] * 7 + [1.0], "y": [1.0] * 8}
    with pytest.warns(UserWarning, match=r"of 8 rows: x 1\)"):
        history = fit(model, rows, epochs=1, batch_size=1, lr=0.1, **ALL)
    assert theta(model) == pytest.approx(0.1, abs=1e-4)  # one step of AdamW
    assert theta(model, "y") > 0.5
    assert history.training["x"] == pytest.approx([0.5])


def test_a_mechanism_that_no_row_can_train_is_named() -> None:
    _, model = linear(share=0.5)
    rows = {"x": [1.0, 2.0], "y": [math.nan, math.nan], "z": [1.0, 2.0]}
    with pytest.raises(ValueError, match="y: none of the 2 rows has y and x"):
        fit(model, rows, **ALL)


def test_equations_need_no_training_but_learn_their_range() -> None:
    model = SCM(x=Equation("u"))
    history = fit(model, {"x": [1.0, 2.0, 5.0]}, **ALL)
    assert history == History()
    assert model.mechanisms["x"].observed.tolist() == [1.0, 5.0]


# How the weights move ----------------------------------------------------------------------------


def averaged(path: list[float], decay: float | None) -> float:
    """The moving average of a path, as it is documented; its end without a decay."""
    average = path[0]
    for n, now in enumerate(path[1:], start=1):
        kept = 0.0 if decay is None else min(decay, (1 + n) / (10 + n))
        average = kept * average + (1 - kept) * now
    return average


def trajectory(epochs: int, mean: float = 10.0, **options: Any) -> float:
    """Theta after so many full-batch steps of `fit`."""
    model = locations(x=Location())
    fit(model, {"x": [mean] * 4}, epochs=epochs, batch_size=4, **ALL | options)
    return theta(model)


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
    *found, skipped = spiky(ema=ema, clip=clip)
    assert skipped == {"x": 3}
    assert found == pytest.approx(expected, rel=1e-5)


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


# Random numbers ----------------------------------------------------------------------------------


def images(n: int = 60) -> tuple[SCM, dict[str, Tensor]]:
    """A model that draws noise in its loss, and rows for it."""
    sick = torch.arange(n) % 3 == 0
    draw = torch.Generator().manual_seed(0)
    scan = torch.randint(200, (n, 1, 8, 8), generator=draw) / 255 + 0.2 * sick[:, None, None, None]
    model = SCM(
        "age; sick; {age sick} -> scan",
        variables={"sick": Binary(), "scan": Image(1, 8, 8)},
        mechanisms={
            "age": Flow(splines=1, bins=4, hidden=(8,)),
            "scan": VAE(latent=2, width=2, depth=1, cooling=10),
        },
    )
    rows = {"age": torch.randn(n, generator=draw), "sick": sick, "scan": scan}
    return model, rows


def test_the_seed_decides_and_other_random_numbers_are_left_alone() -> None:
    def train(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(5)
        model, rows = images()
        state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        fit(model, rows, epochs=2, batch_size=20, seed=seed, **QUIET)
        assert torch.equal(torch.get_rng_state(), state[0])
        assert random.getstate() == state[1]
        assert np.random.get_state()[1].tolist() == state[2]  # noqa: NPY002
        return weights(model)

    assert same(train(1), train(1))
    assert not same(train(1), train(2))


def test_nothing_is_written_or_said_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trajectory(2)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, r"epochs=0 must be a whole number of at least 1"),
        ({"epochs": 1.5}, r"epochs=1.5 must be a whole number"),
        ({"epochs": True}, r"epochs=True must be a whole number"),
        ({"batch_size": 0}, r"batch_size=0 must be a whole number of at least 1"),
        ({"patience": 0}, r"patience=0 must be a whole number of at least 1"),
        ({"checkpoint_every": 0}, r"checkpoint_every=0 must be a whole number of at least 1"),
        ({"lr": 0.0}, r"lr=0.0 must be greater than 0"),
        ({"lr": math.nan}, r"lr=nan must be greater than 0"),
        ({"clip": -1.0}, r"clip=-1.0 must be greater than 0"),
        ({"max_seconds": 0}, r"max_seconds=0 must be greater than 0"),
        ({"weight_decay": -0.1}, r"weight_decay=-0.1 must be at least 0"),
        ({"epochs": None}, r"epochs=None must be a whole number of at least 1"),
        ({"warmup": -1}, r"warmup=-1 must be a whole number of at least 0"),
        ({"ema": 1.0}, r"ema=1.0 must be between 0 and 1, such as 0.999"),
        ({"schedule": "step"}, r"schedule='step' must be one of \('constant', 'cosine'\)"),
        ({"checkpoint_every": 5}, r"checkpoint_every: say the folder too, with checkpoints="),
        ({"seed": 0.5}, r"seed=0.5 must be an int, a torch.Generator or None"),
        ({"only": ["yy"]}, r"only: unknown variable 'yy'; the variables are \['x', 'y', 'z'\]"),
        ({"only": "xy"}, r"only='xy' must be a list of names, such as \['xy'\]"),
        ({"validation_share": 0, "patience": 2}, r"patience: needs validation rows"),
        (
            {"validation_share": 1.0},
            r"validation_share=1.0 must be at least 0 and less than 1",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    world, model = linear()
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        fit(model, world.sample(10, seed=0), **QUIET | options)
    assert same(weights(model), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": None}, r"z: not in the training rows, which have \['x', 'y'\]; give it, or say"),
        ({"y": [math.nan, 1.0]}, r"y: 1 values are NaN; declare the variable with missing=True"),
        ({"y": [1.0]}, r"variables differ in number of rows: \{'x': 2, 'y': 1, 'z': 2\}"),
        ({"w": [1.0, 2.0]}, r"unknown variable 'w'"),
        ({"x": 1.0, "y": 1.0, "z": 1.0}, r"the training rows: expected a batch of rows"),
        ({"x": [], "y": [], "z": []}, r"the training rows: expected a batch of rows"),
    ],
)
def test_rows_that_do_not_fit_the_model_are_refused(change: dict[str, Any], message: str) -> None:
    _, model = linear()
    rows = {"x": [1.0, 2.0], "y": [1.0, 2.0], "z": [1.0, 2.0]} | change
    with pytest.raises(ValueError, match=message):
        fit(model, {k: v for k, v in rows.items() if v is not None}, **ALL)


def test_validation_rows_are_checked_too() -> None:
    world, model = linear()
    with pytest.raises(ValueError, match="y: not in the validation rows, which have"):
        fit(model, world.sample(4, seed=0), {"x": [1.0], "z": [1.0]}, **QUIET)


def test_variables_that_hidden_causes_join_are_trained_as_one() -> None:
    model = SCM("x -> y; x <-> y; z -> x")
    rows = {name: torch.randn(64) for name in "xyz"}
    history = fit(model, rows, epochs=1, progress=False, validation_share=0)
    assert list(history.training) == ["z", "x <-> y"]
    assert model.fitted.keys() == {"x", "y", "z", "x <-> y"}
    assert not any(p.requires_grad for p in model.parameters())


def test_a_model_that_do_returned_is_refused() -> None:
    world, model = linear()
    with pytest.raises(ValueError, match=r"y: .*; fit the model before do\(y=\.\.\.\)"):
        fit(model.do(y=2.0), world.sample(10, seed=0), **ALL)


def test_a_loss_that_is_nan_stops_and_says_where_and_what_to_try() -> None:
    model = locations(x=Location(), y=Breaks())
    message = (
        r"y: its loss is nan at step 2; try a lower lr \(now 0.25\), a lower clip \(now 5.0\), "
        r"precision='32-true' \(now '32-true'\), or look for extreme values in y"
    )
    with pytest.raises(ValueError, match=message):
        fit(
            model,
            {"x": [1.0] * 4, "y": [1.0] * 4},
            epochs=9,
            batch_size=4,
            lr=0.25,
            clip=5.0,
            **ALL,
        )
    assert not model.training


def test_a_gradient_that_is_nan_is_not_kept_in_silence() -> None:
    model = locations(x=Kink())
    with pytest.raises(
        ValueError, match="x: its gradient diverged at every step, up to step 1; try"
    ):
        fit(model, {"x": [1.0] * 4}, epochs=1, batch_size=4, **ALL)


# Loggers -----------------------------------------------------------------------------------------


def test_a_logger_gets_the_losses_of_each_mechanism(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    world, model = linear()
    logger = CSVLogger(tmp_path)
    history = fit(model, world.sample(100, seed=0), epochs=3, lr=0.01, logger=logger, **QUIET)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    for split_name, curves in (("training", history.training), ("validation", history.validation)):
        for name, losses in curves.items():
            written = [line[f"{split_name}/{name}"] for line in lines]
            assert [float(value) for value in written if value] == pytest.approx(losses, rel=1e-5)


# Checkpoints -------------------------------------------------------------------------------------

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "averaged, patient": {"ema": 0.9, "patience": 2},
    "skipping": {"skip": 3.0, "ema": 0.9, "clip": 5.0},
    "by default": dict.fromkeys(PLAIN) | {"schedule": "cosine", "ema": 0.999, "clip": 1.0},
    "scheduled, clipped": {"schedule": "cosine", "warmup": 3, "clip": 0.5, "weight_decay": 0.1},
    "in double": {"precision": "64-true", "ema": 0.9, "patience": 2},
}
EPOCHS, STEPS = 4, 5  # of 10 rows each: 54 of 60 are left to train on


def train_images(folder: Path | None, variant: str, every: int | None = None) -> Any:
    """A run on images: weights and history."""
    torch.manual_seed(3)
    model, rows = images()
    options = {"lr": 0.02} | VARIANTS[variant] | QUIET
    where = {} if folder is None else {"checkpoints": folder, "checkpoint_every": every}
    history = fit(model, rows, epochs=EPOCHS, batch_size=10, seed=7, **options, **where)
    return weights(model), history


@pytest.fixture
def power_cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes training break off before a step."""
    from rung3.training.loop import Loop

    step = Loop.training_step

    def at(last: int) -> None:
        def training_step(self: Loop, *args: Any) -> Tensor:
            if self.trainer.global_step == last:
                raise InterruptedError("power cut")
            return step(self, *args)

        monkeypatch.setattr(Loop, "training_step", training_step)

    return at


@pytest.mark.parametrize(
    ("variant", "every", "cuts"),
    [
        ("plain", 3, [4]),
        ("plain", None, [11]),
        ("averaged, patient", 3, [8, 14]),
        ("averaged, patient", None, [6]),
        ("skipping", 3, [7, 11]),
        ("by default", 3, [7, 11]),
        ("scheduled, clipped", 1, [5, 12, 19]),
        ("in double", 3, [7, 11]),
    ],
)
def test_a_run_that_broke_off_ends_with_the_same_weights(
    tmp_path: Path,
    power_cut: Callable[[int], None],
    variant: str,
    every: int | None,
    cuts: list[int],
) -> None:
    expected, expected_history = train_images(None, variant)
    start = time.perf_counter()
    for cut in cuts:
        power_cut(cut)
        with pytest.raises(InterruptedError):
            train_images(tmp_path, variant, every)
    power_cut(-1)
    found, history = train_images(tmp_path, variant, every)
    assert same(found, expected)
    assert history.training == expected_history.training
    assert history.validation == expected_history.validation
    assert history.skipped == expected_history.skipped
    some = any(0 < n < EPOCHS * STEPS for n in history.skipped.values())
    assert some == (variant == "skipping")
    assert len(history.seconds) == EPOCHS
    assert sum(history.seconds) < time.perf_counter() - start


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[1])
import test_fitting
from rung3.training.loop import Loop
step = Loop.training_step
def slow(*args):
    time.sleep(0.03)
    return step(*args)
Loop.training_step = slow
test_fitting.torch.set_num_threads(1)
test_fitting.train_images(test_fitting.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]) or None)
"""


@pytest.mark.parametrize(("variant", "every"), [("plain", None), ("averaged, patient", 3)])
def test_a_run_that_was_killed_ends_with_the_same_weights(
    tmp_path: Path, variant: str, every: int | None
) -> None:
    here = str(Path(__file__).parent)
    arguments = [sys.executable, "-c", KILLED, here, str(tmp_path), variant, str(every or 0)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    file = tmp_path / "last.ckpt"
    while process.poll() is None and not file.is_file():
        time.sleep(0.002)
    process.kill()
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()
    step = torch.load(file, weights_only=True)["global_step"]
    assert 0 < step < EPOCHS * STEPS

    found, history = train_images(tmp_path, variant, every)
    expected, expected_history = train_images(None, variant)
    assert same(found, expected)
    assert history.validation == expected_history.validation


def run(folder: Path, **changes: Any) -> tuple[float, History]:
    """A run that one may start again; `rows` and `held` among the changes."""
    rows, held = changes.pop("rows", [9.0, 8.0, 7.0]), changes.pop("held", [3.0])
    model = changes.pop("model", locations(x=Location()))
    columns = [dict.fromkeys(model.variables, values) for values in (rows, held)]
    options = {"epochs": 6, "batch_size": 1, "lr": 0.5, "checkpoints": folder} | QUIET | changes
    history = fit(model, *columns, **options)
    return theta(model), history


@pytest.mark.parametrize("patience", [None, 2])
def test_a_run_that_had_ended_is_not_run_again(tmp_path: Path, patience: int | None) -> None:
    first = run(tmp_path, patience=patience)
    with pytest.warns(UserWarning, match="finished: nothing was trained"):
        again = run(tmp_path, patience=patience)
    assert first == again
    assert len(first[1].seconds) == (6 if patience is None else 4)


def test_a_run_that_had_ended_can_be_prolonged(tmp_path: Path) -> None:
    run(tmp_path / "short", epochs=3)
    prolonged, history = run(tmp_path / "short")
    at_once, expected = run(tmp_path / "long")
    assert prolonged == at_once
    assert (history.training, history.validation) == (expected.training, expected.validation)


def test_a_run_cut_short_by_its_time_can_go_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {"rows": [9.0] * 100, "lr": 1e-3, "epochs": 2}
    _, cut = run(tmp_path, max_seconds=1e-3, **options)
    assert len(cut.seconds) == 1
    _, whole = run(tmp_path, **options)
    assert len(whole.seconds) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.25}, r"lr was 0.5 and is 0.25; or|lr was 0.5 and is 0.25\)"),
        ({"ema": 0.9, "seed": 1}, r"seed was 0 and is 1; ema was None and is 0.9"),
        ({"batch_size": 3}, r"batch_size was 1 and is 3"),
        (
            {"schedule": "cosine"},
            r"schedule was 'constant' and is 'cosine'; epochs was None and is",
        ),
        ({"warmup": None}, r"warmup was 0 and is None; epochs was None and is 1"),
        ({"rows": [9.0, 8.0, 7.0 + 1e-6]}, r"the training rows was \w+ and is \w+"),
        ({"rows": [8.0, 9.0, 7.0]}, r"the training rows was \w+ and is \w+"),
        ({"held": [2.0]}, r"the validation rows was \w+ and is \w+"),
        (
            {"model": locations(x=Location(start=1.0))},
            r"the mechanism of x was Location\(\) .* and is Location\(start=1.0\) ",
        ),
        (
            {"model": SCM("x", {"x": Continuous(lower=0)}, {"x": Location()})},
            r"the mechanism of x was .*x: Continuous\(\)\) and is .*x: Continuous\(lower=0\)\)",
        ),
        (
            {"model": SCM("y -> x", mechanisms={"x": Location(), "y": Location()})},
            r"the mechanism of x was .* and is .*x: Continuous\(\), y: Continuous\(\)\)",
        ),
    ],
)
def test_the_checkpoint_of_another_run_is_refused_and_the_difference_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    run(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=rf"{tmp_path} holds another run \(.*({message})"):
        run(tmp_path, epochs=1, **changes)


def test_without_resume_a_run_starts_anew(tmp_path: Path) -> None:
    run(tmp_path, epochs=1, lr=0.1)
    anew, history = run(tmp_path, resume=False)
    assert anew == run(tmp_path / "empty")[0]
    assert len(history.seconds) == 6


@pytest.mark.parametrize("content", [{"epoch": 1}, b"half a fi", None])
def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path: Path, content: Any) -> None:
    file = tmp_path / "last.ckpt"
    if content is None:
        run(tmp_path, epochs=1)
        file.write_bytes(file.read_bytes()[:-100])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=r"last.ckpt is not a checkpoint of fit, or is truncated"):
        run(tmp_path)


def test_a_checkpoint_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch import Trainer

    run(tmp_path, epochs=1)
    before = (tmp_path / "last.ckpt").read_bytes()

    def half(self: Trainer, path: Path, **_: Any) -> None:
        Path(path).write_bytes(b"half a fi")
        raise InterruptedError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_checkpoint", half)
        with pytest.raises(InterruptedError):
            run(tmp_path)
    assert (tmp_path / "last.ckpt").read_bytes() == before
    assert run(tmp_path)[0] == run(tmp_path / "empty")[0]


def test_a_fitted_model_keeps_no_graph_of_its_parameters_and_can_be_fitted_again(
    tmp_path: Path,
) -> None:
    model = SCM("x -> y")
    rows = {"x": torch.randn(64), "y": torch.randn(64)}
    fit(model, rows, epochs=1, only=["x"], **QUIET)
    assert not model.mechanisms["x"].sample_noise(1, {}).requires_grad
    assert not model.log_probs({"x": rows["x"]})["x"].requires_grad
    assert model.log_probs(rows)["y"].requires_grad
    fit(model, rows, epochs=1, **QUIET)
    assert not model.counterfactual(rows, {"x": 1.0})["y"].requires_grad
    assert (
        not load(model.save(tmp_path / "model")).counterfactual(rows, {"x": 1.0})["y"].requires_grad
    )
    before = [p.clone() for p in model.parameters()]
    fit(model, rows, epochs=1, **QUIET)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_finished_training_that_is_started_again_says_that_nothing_is_trained(
    tmp_path: Path,
) -> None:
    rows = {"x": torch.randn(60, generator=torch.Generator().manual_seed(0))}
    torch.manual_seed(0)
    model = SCM("x")
    options: dict[str, Any] = {"checkpoints": tmp_path, "batch_size": 30, "progress": False}
    first = rung3.fit(model, rows, epochs=2, **options)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.warns(UserWarning, match=r"finished: nothing was trained.*resume=False"):
        again = rung3.fit(model, rows, epochs=2, **options)
    assert again.training == first.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anew = rung3.fit(model, rows, epochs=2, resume=False, **options)
    assert anew.training != first.training  # from the weights that it has


def test_too_few_rows_to_validate_on_are_told_with_the_argument() -> None:
    message = r"validation_share=0.1 of 4 training rows .* validation_share=0 for none"
    with pytest.raises(ValueError, match=message):
        rung3.fit(SCM("x"), {"x": [1.0, 2.0, 3.0, 4.0]}, epochs=1, progress=False)


# What training came to ---------------------------------------------------------------------------


def test_no_step_at_all_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no step was taken: max_seconds=1e-09 were over at once"):
        run(tmp_path, max_seconds=1e-9)


@pytest.mark.parametrize("lr", [1e3, 0.01])
def test_a_loss_that_exploded_is_said(lr: float) -> None:
    rows = {"x": torch.randn(200), "y": torch.randn(200)}
    model = SCM("x -> y", mechanisms={k: Flow(splines=0, hidden=(4,)) for k in "xy"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, rows, epochs=2, lr=lr, **QUIET)
    said = [str(one.message) for one in caught]
    assert any("y: its loss is " in text for text in said) == (lr > 1)
    assert any("try a lower lr (now 1000)" in text for text in said) == (lr > 1)


def test_a_checkpoint_of_one_other_bit_is_refused(tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    file = tmp_path / "last.ckpt"
    whole = file.read_bytes()
    for at in range(40, len(whole), len(whole) // 9):
        content = bytearray(whole)
        content[at] ^= 1
        file.write_bytes(content)
        with pytest.raises(ValueError, match="is truncated or damaged; delete it, give another"):
            run(tmp_path)
    file.write_bytes(whole)
    assert run(tmp_path)[0] == run(tmp_path / "empty")[0]


def test_checkpoints_are_drafted_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: Any, **__: Any) -> None:
        raise OSError("no space left in the temporary folder")

    for name in ("mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile"):
        monkeypatch.setattr(tempfile, name, nowhere)
    run(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.ckpt"]
