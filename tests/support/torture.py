"""Ways to break runs, models and checkpoints, and what must be right afterwards.

Each function tries some number of cases and gives how many were tried and what was wrong. The tests
try a few, `benchmarks/check_torture.py` many.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml
from safetensors.torch import load as unpacked
from safetensors.torch import load_file
from safetensors.torch import save as packed
from torch import Tensor

from rung3 import SCM, Binary, Continuous, Image, fit, load
from rung3.data.files import sealed, unsealed
from rung3.evaluation import Oracles, Report
from rung3.mechanisms import VAE, Equation, Flow, InverseCDF
from rung3.study.folder import RunFolder
from rung3.study.run import run_study
from rung3.study.study import Study

PATIENCE = 60.0
"""Seconds after which a case counts as hanging."""


@dataclass
class Tally:
    """What was tried, and what of it was wrong."""

    tried: int = 0
    wrong: list[str] = field(default_factory=list)

    def note(self, fault: str | None) -> None:
        self.tried += 1
        if fault:
            self.wrong.append(fault)

    @property
    def right(self) -> int:
        return self.tried - len(self.wrong)


# Studies -----------------------------------------------------------------------------------------

TABLE: dict[str, Any] = {
    "name": "table",
    "data": {"kind": "table", "path": "rows.csv", "test": 0.3, "validation": 0.2},
    "graph": "x -> y; {x y} -> group",
    "variables": {"group": {"kind": "Binary", "labels": ["no", "yes"]}},
    "mechanisms": {"x": {"kind": "Flow", "splines": 0, "hidden": []}, "y": "2*x + u"},
    "training": {"epochs": 2, "batch_size": 32, "mechanisms": {"group": {"epochs": 1}}},
    "evaluation": {"interventions": {"t up!": {"x": 1}, "t up?": {"x": 2}}, "n": 5,
                   "particles": 1, "bootstrap": 0},
}  # fmt: skip

IMAGES: dict[str, Any] = {
    "name": "images",
    "data": {"kind": "digits", "train": 80, "test": 10, "validation": 0.2},
    "graph": "thickness -> intensity; {digit thickness intensity} -> image",
    "variables": {
        "digit": {"kind": "Categorical", "classes": 10},
        "thickness": {"kind": "Continuous", "lower": 0},
        "intensity": {"kind": "Continuous", "lower": 0, "upper": 255},
        "image": {"kind": "Image", "channels": 1, "height": 32, "width": 32},
    },
    "mechanisms": {"image": {"kind": "VAE", "latent": 2, "width": 2, "depth": 1}},
    "training": {"epochs": 1, "batch_size": 32,
                 "objective": {"kind": "counterfactual", "epochs": 1}},
    "evaluation": {"interventions": ["intensity"], "n": 4, "particles": 1, "bootstrap": 0,
                   "oracles": {"epochs": 1}},
}  # fmt: skip


def write_study(folder: Path, settings: dict[str, Any]) -> Path:
    """A study file, and the table that it may read."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, generator=generator)
    y = 2 * x + torch.randn(120, generator=generator)
    lines = [f"{a:.5f},{b:.5f},{'yes' if a + b > 0 else 'no'}" for a, b in zip(x, y, strict=True)]
    (folder / "rows.csv").write_text("\n".join(["x,y,group", *lines]))
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    return path


def outcome(run: Path) -> dict[str, Any]:
    """What a run came to, without what depends on the clock."""
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    page = (run / "report.html").read_text("utf-8")
    content: dict[str, Any] = {path.name: path.read_bytes() for path in run.glob("*.png")}
    content |= {"metrics": {k: v for k, v in metrics.items() if k not in ("speed", "cost", "run")}}
    page = re.sub(r'<p class="soft made">.*?</p>', "", page.replace(str(run), ""))
    content |= {"page": re.sub(r"[\d,.]+ counterfactuals a second", "", page)}
    content |= {"history": json.loads((run / "history.json").read_text("utf-8"))}
    content |= {"scores": (run / "scores.safetensors").stat().st_size}
    weights = next((run / "model").glob("weights*"))
    return content | {k: v.tolist() for k, v in load_file(weights).items()}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Parts of two outcomes that differ; NaN is NaN."""
    return [k for k in {*one, *other} if repr(one.get(k)) != repr(other.get(k))]


@contextmanager
def cache(folder: Path) -> Iterator[None]:
    with patch.dict(os.environ, {"RUNG3_CACHE": str(folder)}):
        yield


def crashes(
    settings: dict[str, Any], root: Path, chosen: Callable[[int], Iterable[int]] = range
) -> Tally:
    """Kill a run before and after each file is written whole, with half a draft, and go on.

    A run is made once, and copied at each of these moments: a copy is what a kill would leave.

    Args:
        said: The study.
        root: Where to.
        chosen: Which moments to go on from, of so many.
    """
    study = Study.load(write_study(root / "study", settings))
    live = root / "live"
    copies: list[tuple[str, Path]] = []
    replace = os.replace

    def snapshot(text: str, draft: bytes | None = None, beside: Path | None = None) -> None:
        place = root / f"copy-{len(copies)}"
        shutil.copytree(live, place)
        if beside is not None and draft is not None:
            where = place / beside.parent.relative_to(live)
            (where / ".rung3-0123456789abcdef.part").write_bytes(draft)
        copies.append((text, place))

    def noted(source: Any, target: Any) -> None:
        inside = Path(target).is_relative_to(live)
        if inside:
            content = Path(source).read_bytes()
            name = str(Path(target).relative_to(live))
            snapshot(f"half of {name}", content[: len(content) // 2], Path(target))
        replace(source, target)
        if inside:
            snapshot(f"all of {name}")

    with patch.object(os, "replace", noted), cache(live / "cache"):
        run_study(study, live / "run")
    expected, tally = outcome(live / "run"), Tally()
    for k in chosen(len(copies)):
        text, place = copies[k]
        tally.note(_resumed(study, text, place, expected))
    return tally


def _resumed(study: Study, text: str, place: Path, expected: dict[str, Any]) -> str | None:
    """What is wrong with a run that goes on from a copy, if anything is."""
    run = place / "run"
    try:
        with cache(place / "cache"):
            if not RunFolder(run).finished:
                run_study(study, run)
        if wrong := differences(outcome(run), expected):
            return f"{text}: {', '.join(wrong)} differ"
        if left := [str(path) for path in run.rglob(".rung3-*")]:
            return f"{text}: {left} is left"
    except Exception as error:
        return f"{text}: {type(error).__name__}: {error}"
    finally:
        shutil.rmtree(place)
    return None


def kills(study: dict[str, Any], root: Path, n: int, seed: int = 0) -> Tally:
    """Kill the command at some moment, n times one run after the other; each must end alike."""
    path, rng, tally = write_study(root / "study", study), random.Random(seed), Tally()
    command = [sys.executable, "-c", "from rung3.cli import app; app()", "run", str(path), "--out"]

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | {"RUNG3_CACHE": str(out.parent / "cache"), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    began = time.monotonic()
    whole = start(root / "whole" / "run")
    assert whole.wait() == 0, whole.communicate()[0]
    lasted, expected = time.monotonic() - began, outcome(root / "whole" / "run")
    for k in range(n):
        run = root / f"killed-{k}" / "run"
        process = start(run)
        after = rng.uniform(0.2, 1) * lasted
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        second = start(run)
        output = second.communicate()[0].decode()
        finished = second.returncode == 0 or "this run, finished" in output
        wrong = differences(outcome(run), expected) if finished else [output[-300:]]
        tally.note(f"killed after {after:.1f} s: {wrong}" if wrong else None)
        shutil.rmtree(run.parent)
    return tally


# Models ------------------------------------------------------------------------------------------


def small_model() -> SCM:
    """A model with a mechanism of several kinds."""
    variables = {"i": Image(1, 8, 8), "s": Binary(labels=("no", "yes")), "t": Continuous(lower=0)}
    mechanisms = {
        "t": Flow(splines=1, bins=4, hidden=(4,)),
        "s": InverseCDF(hidden=(4,)),
        "y": Equation("2*t + u"),
        "i": VAE(latent=2, width=2, depth=1),
    }
    torch.manual_seed(0)
    return SCM("t -> {s y}; {t s} -> i", variables, mechanisms).eval()


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """The content with bits flipped, or a part cut, doubled, or replaced."""
    changed = bytearray(content)
    at = rng.randrange(len(changed))
    count = rng.choice([1, 1, 4, 64, 1024])
    match rng.randrange(5):
        case 0:
            changed[at] ^= 1 << rng.randrange(8)
        case 1:
            del changed[at:]
        case 2:
            del changed[at : at + count]
        case 3:
            changed[at:at] = changed[at : at + count]
        case 4:
            changed[at : at + count] = rng.randbytes(min(count, len(changed) - at))
    return bytes(changed)


JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 3, 10**6, 10**9, 10**13, 10**40, 1e308, -1e308, float("nan"), float("inf"),
    "", "x", "é" * 300, "../../x", "10", "1e5", [], [1], [[]], [10**9, 10**9], {},
    {"kind": "Flow"}, {"a": {"b": [1]}},
)  # fmt: skip


def mutated_values(content: Any, rng: random.Random) -> Any:
    """Nested values with one of them replaced, removed, or added."""
    content = copy.deepcopy(content)
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in list(pairs):
            places.append((value, key))
            if isinstance(item, dict | list):
                collect(item)

    collect(content)
    holder, key = rng.choice(places)
    match rng.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(["x", 1, "kind", "latent"])] = rng.choice(JUNK)
        case _:
            holder[key] = rng.choice(JUNK)
    return content


def mutated_tensors(tensors: dict[str, Tensor], rng: random.Random) -> dict[str, Tensor]:
    """Tensors of which one is lost, renamed, or of another shape or type."""
    changed = dict(tensors)
    name = rng.choice(list(changed))
    value = changed.pop(name)
    match rng.randrange(5):
        case 0:
            pass
        case 1:
            changed[rng.choice([f"{name}x", "x", f"9{name}"])] = value
        case 2:
            changed[name] = value.reshape(-1)[: rng.randrange(3)].clone()
        case 3:
            changed[name] = value.to(rng.choice([torch.float64, torch.int32, torch.bool]))
        case 4:
            changed[name] = torch.full_like(value, float("nan") if value.is_floating_point() else 1)
    return changed


def seal_model(place: Path, content: Any, weights: bytes) -> None:
    """Write a model's files as `save` would, whatever they say."""
    name = "weights.safetensors"
    if isinstance(content, dict) and isinstance(content.get("weights"), dict):
        content["weights"]["sha256"] = hashlib.sha256(weights).hexdigest()
        name = str(content["weights"].get("file", name))
    place.mkdir(exist_ok=True)
    (place / "weights.safetensors").write_bytes(weights)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()
    (place / "model.yaml").write_bytes(sealed(text))


def models(root: Path, n: int, seed: int = 0) -> tuple[Tally, Tally]:
    """Mutate model folders: as damage does, and with their seals rewritten."""
    rng, damaged, resealed = random.Random(seed), Tally(), Tally()
    place = small_model().save(root / "model")
    files = {path.name: path.read_bytes() for path in place.iterdir()}
    text = unsealed(files["model.yaml"])
    assert text is not None
    saved, weights = yaml.safe_load(text), files["weights.safetensors"]
    for _ in range(n):
        name = rng.choice(list(files))
        content = mutated_bytes(files[name], rng)
        for other, whole in files.items():
            (place / other).write_bytes(content if other == name else whole)
        fault = refused(lambda: load(place), str(place))
        damaged.note("loaded" if fault is None and content != files[name] else fault)
    for _ in range(n):
        match rng.randrange(4):
            case 0:
                seal_model(place, copy.deepcopy(saved), mutated_bytes(weights, rng))
            case 1:
                mutated = packed(mutated_tensors(unpacked(weights), rng))
                seal_model(place, copy.deepcopy(saved), mutated)
            case _:
                seal_model(place, mutated_values(saved, rng), weights)
        resealed.note(refused(lambda: load(place), str(place)))
    return damaged, resealed


def refused(call: Callable[[], Any], name: str) -> str | None:
    """Nothing if a call gives an answer, `""` if one clear error; else what is wrong."""
    began = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
        fault = None
    except ValueError as error:
        fault = "" if name in str(error) else f"does not name the file: {error}"
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    if (lasted := time.monotonic() - began) > PATIENCE:
        return f"took {lasted:.0f} s"
    return fault


def polled(root: Path, saves: int) -> Tally:
    """Load a model over and over while it is replaced: each time the one or the other."""
    mechanisms = {"b": Flow(splines=0, hidden=())}
    old, new = (SCM("a; b", mechanisms={"a": Equation(f"u + {k}"), **mechanisms}) for k in (1, 2))
    place, tally, over = old.save(root / "polled"), Tally(), threading.Event()

    def read() -> None:
        while not over.is_set():
            tally.note(refused(lambda: load(place), ""))

    thread = threading.Thread(target=read)
    thread.start()
    for k in range(saves):
        (new, old)[k % 2].save(place)
    over.set()
    thread.join()
    return tally


# Checkpoints, and what is kept beside them -------------------------------------------------------


def checkpoints(root: Path, n: int, seed: int = 0) -> tuple[Tally, Tally]:
    """Mutate a checkpoint: as damage does, and with its seal rewritten; then go on."""
    rng, damaged, resealed = random.Random(seed), Tally(), Tally()
    generator = torch.Generator().manual_seed(0)
    rows = {name: torch.randn(40, generator=generator) for name in "xy"}
    options: dict[str, Any] = {
        "epochs": 2, "batch_size": 20, "progress": False, "accelerator": "cpu", "warmup": 0,
        "schedule": "constant", "checkpoints": root / "run", "validation_share": 0.2,
    }  # fmt: skip

    def trained(epochs: int) -> list[Tensor]:
        torch.manual_seed(0)
        model = SCM("x -> y", mechanisms={k: Flow(splines=0, hidden=(2,)) for k in "xy"})
        fit(model, rows, **options | {"epochs": epochs})
        return [parameter.clone() for parameter in model.parameters()]

    trained(1)
    file = root / "run" / "last.ckpt"
    whole = file.read_bytes()
    body = unsealed(whole)
    assert body is not None
    expected = trained(2)
    for k in range(2 * n):
        content = mutated_bytes(whole if k < n else body, rng)
        file.write_bytes(content if k < n else sealed(content))
        outcomes: list[list[Tensor]] = []
        fault = refused(lambda: outcomes.append(trained(2)), str(file.parent))  # noqa: B023
        if k < n and fault is None:
            same = all(torch.equal(a, b) for a, b in zip(outcomes[0], expected, strict=True))
            fault = None if same and content == whole else "went on, to other weights"
        (damaged if k < n else resealed).note(fault)
    return damaged, resealed


def damaged_runs(root: Path, n: int, seed: int = 0) -> Tally:
    """Damage what a finished run of images keeps: each file is refused, or rebuilt."""
    rng, tally = random.Random(seed), Tally()
    settings = copy.deepcopy(IMAGES)
    study = Study.load(write_study(root / "study", settings))
    run = root / "run"
    with cache(root / "cache"):
        run_study(study, run)
    reads: dict[str, Callable[[Path], Any]] = {
        "oracles.safetensors": Oracles.load,
        "predictors.safetensors": Oracles.load,
        "scores.safetensors": lambda path: Report.load(path.parent),
        "examples.safetensors": lambda path: Report.load(path.parent),
        "metrics.json": lambda path: Report.load(path.parent),
        "study.yaml": lambda path: RunFolder(path.parent).study(),
    }
    for _ in range(n):
        name = rng.choice(list(reads))
        file = run / name
        whole = file.read_bytes()
        content = mutated_bytes(whole, rng)
        file.write_bytes(content)
        fault = refused(lambda: reads[name](file), str(run))  # noqa: B023
        if content != whole and fault is None:
            fault = f"{name}: read as if nothing had happened"
        if content != whole and name in ("scores.safetensors", "metrics.json"):
            fault = "still called finished" if RunFolder(run).finished else fault
        tally.note(fault)
        file.write_bytes(whole)
    return tally
