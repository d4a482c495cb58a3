"""Signals: what a run that is stopped says, ends with, and resumes from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rung3 import SCM, fit
from rung3.cli import app
from rung3.training.stopping import Stopped, stoppable

STUDY = """
name: chain
data: {kind: table, path: rows.csv, test: 0.2}
graph: x -> y
training: {epochs: 2, batch_size: 32, ema: null}
evaluation: {interventions: {x: 1}, bootstrap: 0, particles: 1}
"""

RUN = """
import importlib, os, signal
module = importlib.import_module("rung3.{module}")

whole, calls = module.{name}, []

def stopped(*args, **options):
    calls.append(None)
    if len(calls) == {at}:
        os.kill(os.getpid(), signal.{signal})
        for _ in range(1000):  # it comes between two lines of Python
            pass
    return whole(*args, **options)

module.{name} = stopped
from rung3.cli import app
app(["run", "study.yaml"])
"""

STAGES = {
    "data": ("study.sources.TableData", "splits", 1, "while reading the data"),
    "fit": ("training.loop.Loop", "training_step", 6, "at step 5 of fitting x, y"),
    "validation": ("training.loop.Loop", "validation_step", 2, "of fitting x, y"),
    "oracles": ("study.run", "fit_oracles", 1, "while training the oracles"),
    "evaluation": ("study.run", "evaluate", 1, "while evaluating"),
    "report": ("evaluation.report.report.Report", "save", 1, "while writing the report"),
}


@pytest.fixture(autouse=True)
def let_through() -> Iterator[None]:
    """Let signals through, which a shell ignores for what it runs in the background."""
    handlers: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {one: signal.signal(one, handler) for one, handler in handlers.items()}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).tolist()
    (tmp_path / "rows.csv").write_text("\n".join(["x,y", *(f"{a},{b}" for a, b in rows)]))
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_stopped(status: int, output: str, number: int, where: str) -> None:
    assert status == 128 + number, output
    last = output.strip().splitlines()[-1]
    assert last.startswith("stopped ")
    assert last.endswith(f"{where}; run the same command again to resume")
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("data", "SIGTERM"),
        ("fit", "SIGINT"),
        ("validation", "SIGHUP"),
        ("oracles", "SIGHUP"),
        ("evaluation", "SIGINT"),
        ("report", "SIGTERM"),
    ],
)
def test_a_stopped_run_says_where_and_the_same_command_goes_on(
    folder: Path, stage: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, method, at, where = STAGES[stage]
    module, owner = path.rsplit(".", 1)
    whole = getattr(getattr(import_module(f"rung3.{module}"), owner), method)
    calls: list[None] = []

    def stopped(*args: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == at:
            signal.raise_signal(getattr(signal, name))
        return whole(*args, **options)

    number = getattr(signal, name)
    with monkeypatch.context() as patch:
        patch.setattr(getattr(import_module(f"rung3.{module}"), owner), method, stopped)
        done = CliRunner().invoke(app, ["run", "study.yaml"])
    check_stopped(done.exit_code, done.stderr, number, where)
    if stage not in ("data", "fit", "report"):
        return
    repeated = CliRunner().invoke(app, ["run", "study.yaml"])
    assert repeated.exit_code == 0, repeated.stderr
    assert ("resuming from there" in repeated.stdout) == (stage != "data")


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("fit", "SIGTERM"),
        *(
            pytest.param(stage, name, marks=pytest.mark.slow)
            for stage in STAGES
            for name in ("SIGTERM", "SIGINT", "SIGHUP")
            if (stage, name) != ("fit", "SIGTERM")
        ),
    ],
)
def test_the_process_of_a_stopped_run_ends_with_the_signals_status(
    folder: Path, stage: str, name: str
) -> None:
    path, method, at, where = STAGES[stage]
    module, owner = path.rsplit(".", 1)
    code = RUN.format(module=module, name=f"{owner}.{method}", at=at, signal=name)

    def default() -> None:  # a runner in the background has Ctrl-C ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False,
        timeout=120, preexec_fn=default, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    check_stopped(done.returncode, done.stderr, getattr(signal, name), where)


def stop_at(step: int, number: int) -> Any:
    """A logger that sends a signal at a step: it is called from the middle of training."""
    from lightning.pytorch.loggers.logger import DummyLogger

    class Sends(DummyLogger):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            if step is not None and step >= stop:
                signal.raise_signal(number)

    stop = step
    return Sends()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_fit_tells_a_signal_and_goes_on_to_the_same_weights(tmp_path: Path, number: int) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    train = {"x": torch.randn(120, generator=torch.Generator().manual_seed(0))}
    options: dict[str, Any] = {"epochs": 4, "batch_size": 30, "progress": False}

    def fitted(**more: Any) -> SCM:
        torch.manual_seed(0)
        model = SCM("x")
        fit(model, train, **options, **more)
        return model

    whole = fitted()
    with pytest.raises(Stopped, match=r"at step \d+ of fitting x; the same call resumes") as caught:
        fitted(checkpoints=tmp_path, logger=stop_at(8, number))
    assert caught.value.signal == number
    assert caught.value.status == 128 + number
    assert isinstance(caught.value, KeyboardInterrupt)
    after = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    assert after == before
    repeated = fitted(checkpoints=tmp_path)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, repeated.state_dict()[name]) or value.isnan().all()
    with pytest.raises(Stopped, match="with checkpoints= it could resume"):
        fitted(logger=stop_at(2, number))


def test_a_handler_of_the_callers_and_an_ignored_signal_are_left_alone() -> None:
    signals: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, hangup)
    assert signals == [signal.SIGTERM]


def test_a_signal_that_python_drops_is_told_at_the_end_of_the_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Dropped:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    dropped: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)
    with pytest.raises(Stopped) as caught, stoppable("while tidying up"):
        Dropped()
    assert len(dropped) == 1
    assert str(caught.value) == "stopped by SIGTERM while tidying up"


def test_the_innermost_block_tells_and_errors_pass() -> None:
    with pytest.raises(Stopped, match="at step 3"), stoppable("outside"), stoppable("at step 3"):
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), stoppable("outside"):
        raise ZeroDivisionError
    with stoppable("outside"):  # nothing is left over
        pass


def test_another_thread_is_not_stopped() -> None:
    results: list[bool] = []

    def work() -> None:
        with stoppable():
            results.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [True]
