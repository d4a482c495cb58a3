from __future__ import annotations

import csv
import math
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fits import (
    ALL,
    QUIET,
    Breaks,
    Kink,
    Location,
    by_hand,
    fit,
    images,
    linear,
    locations,
    run,
    same,
    theta,
    trajectory,
    weights,
)
from noises import whole
from torch import Tensor

import rung3
from rung3 import SCM, Binary, Continuous, Rows, load
from rung3.data import split
from rung3.mechanisms import Equation, Flow
from rung3.training.loggers import logger_of
from rung3.training.options import History, Options


def numpys_state() -> list[int]:
    """The state of numpy's global random numbers."""
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    return list(state["state"]["key"])


# What is learned ----------------------------------------------------------------------------------


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
    record = model.fitted["y"]
    assert (record["rows"], record["epochs"], record["lr"], record["seed"]) == (3600, 12, 0.1, 0)
    assert record["validation_loss"] == history.validation["y"][-1]


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
    repeated = fit(model, rows, rows, epochs=1, lr=1e-9, batch_size=400, **QUIET)
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert first.validation["sick"][-1] == pytest.approx(entropy, abs=5e-3)
    assert repeated.validation["sick"][-1] == pytest.approx(first.validation["sick"][-1], abs=1e-6)


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
    models = []
    for rows in (drawn, {"x": drawn["x"].detach()}):
        model = locations(x=Location())
        fit(model, rows, epochs=2, batch_size=50, lr=0.1, **ALL)
        models.append(theta(model))
    assert models[0] == models[1] == pytest.approx(0.8, abs=0.05)  # eight steps of AdamW


# Which mechanisms, from which rows ----------------------------------------------------------------


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


# Random numbers -----------------------------------------------------------------------------------


def test_the_seed_decides_and_other_random_numbers_are_left_alone() -> None:
    def train(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(5)
        model, rows = images()
        state = torch.get_rng_state(), random.getstate(), numpys_state()
        fit(model, rows, epochs=2, batch_size=20, seed=seed, **QUIET)
        assert torch.equal(torch.get_rng_state(), state[0])
        assert random.getstate() == state[1]
        assert numpys_state() == state[2]
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


# What is refused ----------------------------------------------------------------------------------


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
        ({"checkpoint_every": 5}, r"checkpoint_every: give the folder as well, with checkpoints="),
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


# Loggers ------------------------------------------------------------------------------------------


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


def test_where_nobody_watches_each_epoch_is_a_line_with_its_losses(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rung3.training.lines.QUIET", 0.0)
    world, model = linear()
    options = {**QUIET, "progress": True}
    history = fit(model, world.sample(100, seed=0), epochs=3, lr=0.01, **options)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("epoch")]
    losses = history.validation["y"]
    assert [line.split(": ")[0] for line in lines] == [f"epoch {k} of 3" for k in (1, 2, 3)]
    for line, loss in zip(lines, losses, strict=True):
        assert f"y {loss:.4g}" in line
    history = fit(model, world.sample(100, seed=0), epochs=1, validation_share=0.0, **options)
    assert f"y {history.training['y'][0]:.4g}" in capfd.readouterr().err


def test_a_logger_is_named_and_writes_where_the_checkpoints_are(tmp_path: Path) -> None:
    world, model = linear()
    for start in range(2):
        options = {**QUIET, "checkpoints": tmp_path, "resume": False, "logger": "csv"}
        fit(model, world.sample(100, seed=0), epochs=2, lr=0.01, **options)
        with (tmp_path / f"csv/version_{start}/metrics.csv").open() as file:
            assert "training/y" in next(csv.reader(file))


@pytest.mark.parametrize(
    ("logger", "message"),
    [
        ("cvs", "logger='cvs' must be 'csv', 'tensorboard' or 'wandb'"),
        ("wandb", "logger='wandb' needs the package wandb: pip install wandb"),
    ],
)
def test_a_logger_that_cannot_be_had_is_refused(
    logger: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rung3.training.loggers.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=message):
        Options(logger=logger)


def test_a_run_of_wandb_is_named_by_the_folder_of_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger", lambda **options: options)
    folder = tmp_path / "runs" / "digits" / "checkpoints" / "image"
    assert logger_of("wandb", folder) == {
        "project": "rung3", "name": "digits/checkpoints/image", "save_dir": folder,
    }  # fmt: skip


# Checkpoints --------------------------------------------------------------------------------------


def test_a_fitted_model_keeps_no_graph_of_its_parameters_and_can_be_fitted_again(
    tmp_path: Path,
) -> None:
    model = SCM("x -> y")
    rows = {"x": torch.randn(64), "y": torch.randn(64)}
    fit(model, rows, epochs=1, only=["x"], **QUIET)
    assert not whole(model.mechanisms["x"].sample_noise(1, {})).requires_grad
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


def test_too_few_rows_to_validate_on_are_told_with_the_argument() -> None:
    message = r"validation_share=0.1 of 4 training rows .* validation_share=0 for none"
    with pytest.raises(ValueError, match=message):
        rung3.fit(SCM("x"), {"x": [1.0, 2.0, 3.0, 4.0]}, epochs=1, progress=False)


# What training came to ----------------------------------------------------------------------------


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
    messages = [str(one.message) for one in caught]
    assert any("y: its loss is " in text for text in messages) == (lr > 1)
    assert any("try a lower lr (now 1000)" in text for text in messages) == (lr > 1)
