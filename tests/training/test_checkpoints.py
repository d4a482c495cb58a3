"""Checkpoints: a run that broke off ends with the weights of one that did not."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fits import (
    PLAIN,
    QUIET,
    Location,
    fit,
    images,
    locations,
    run,
    same,
    weights,
)
from torch import Tensor

import rung3
from rung3 import SCM, Continuous

# Checkpoints --------------------------------------------------------------------------------------

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
    weights, history = train_images(tmp_path, variant, every)
    assert same(weights, expected)
    assert history.training == expected_history.training
    assert history.validation == expected_history.validation
    assert history.skipped == expected_history.skipped
    some = any(0 < n < EPOCHS * STEPS for n in history.skipped.values())
    assert some == (variant == "skipping")
    assert len(history.seconds) == EPOCHS
    assert sum(history.seconds) < time.perf_counter() - start


KILLED = """
import sys, time
sys.path[:0] = sys.argv[1].split(":")
import test_checkpoints as own
from rung3.training.loop import Loop
step = Loop.training_step
def slow(*args):
    time.sleep(0.03)
    return step(*args)
Loop.training_step = slow
own.torch.set_num_threads(1)
own.train_images(own.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]) or None)
"""


@pytest.mark.parametrize(
    ("variant", "every"),
    [("plain", None), pytest.param("averaged, patient", 3, marks=pytest.mark.slow)],
)
def test_a_run_that_was_killed_ends_with_the_same_weights(
    tmp_path: Path, variant: str, every: int | None
) -> None:
    folder = Path(__file__).parent
    here = f"{folder}:{folder.parent / 'support'}"
    arguments = [sys.executable, "-c", KILLED, here, str(tmp_path), variant, str(every or 0)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    file = tmp_path / "last.ckpt"
    while process.poll() is None and not file.is_file():
        time.sleep(0.002)
    process.kill()
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    step = torch.load(file, weights_only=True)["global_step"]
    assert 0 < step < EPOCHS * STEPS

    weights, history = train_images(tmp_path, variant, every)
    expected, expected_history = train_images(None, variant)
    assert same(weights, expected)
    assert history.validation == expected_history.validation


@pytest.mark.parametrize("patience", [None, 2])
def test_a_run_that_had_ended_is_not_run_again(tmp_path: Path, patience: int | None) -> None:
    first = run(tmp_path, patience=patience)
    with pytest.warns(UserWarning, match="finished: nothing was trained"):
        repeated = run(tmp_path, patience=patience)
    assert first == repeated
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
        repeated = rung3.fit(model, rows, epochs=2, **options)
    assert repeated.training == first.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anew = rung3.fit(model, rows, epochs=2, resume=False, **options)
    assert anew.training != first.training  # from the weights that it has


# What training came to ----------------------------------------------------------------------------


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
