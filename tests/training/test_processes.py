"""Several processes train as one does: the same losses and the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from rung3 import SCM, Binary, Continuous, Image, fit
from rung3.data.rows import as_rows
from rung3.data.shared_batch import even_draws, shared_places
from rung3.mechanisms import VAE, AdditiveNoise, autoencoder
from rung3.training import sharding
from rung3.training.batches import Batch, Shuffled, Sweep, Table
from rung3.training.counterfactual import CounterfactualObjective
from rung3.training.loop import Loop
from rung3.training.processes import DrawnAsOne

N, BATCH, VALIDATED = 24, 8, 3
CPU = torch.device("cpu")


def data(n: int, seed: int) -> dict[str, Tensor]:
    """Rows with gaps: of some batches one process has no row of `rare`, of some none has one."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, n, generator=generator)
    y[::5] = torch.nan
    rare = torch.full((n,), torch.nan)
    rare[:2] = x[:2]
    label = torch.randint(2, (n,), generator=generator)
    image = torch.randint(256, (n, 1, 8, 8), generator=generator) / 255
    return {"x": x, "y": y, "rare": rare, "label": label, "image": image}


def train(
    devices: int,
    objective: bool = False,
    folder: str | None = None,
    dies: int = 0,
    strategy: str = "auto",
) -> dict[str, Any]:
    """Losses and weights of a small model after three epochs; process 1 may die on the way.

    After some steps the latents of the image are taken for collapsed, and revived.
    """
    if dies and os.environ.get("LOCAL_RANK") == "1":
        die_at(dies)
    torch.manual_seed(0)
    kinds = {
        "y": Continuous(missing=True), "rare": Continuous(missing=True),
        "label": Binary(), "image": Image(1, 8, 8),
    }  # fmt: skip
    graph = "x -> y -> image; label -> image; rare"
    vae = VAE(latent=2, width=2, depth=1, cooling=0)
    model = SCM(graph, kinds, {"image": vae, "rare": Single()})
    options: dict[str, Any] = {
        "epochs": 3, "batch_size": BATCH, "lr": 0.01, "warmup": 0, "ema": 0.9, "weight_decay": 0.1,
        "devices": devices, "accelerator": "cpu", "progress": False, "precision": "64-true",
        "checkpoints": folder, "checkpoint_every": folder and 2, "strategy": strategy,
    }  # fmt: skip
    rows, held = data(N, 0), data(VALIDATED, 1)
    if objective:
        fit(model, rows, held, **options | {"devices": 1, "epochs": 1})
        aim = CounterfactualObjective(intervene=["y", "label"], kept=0.5, rate=0.1)
        history = fit(model, rows, held, **options, objective=aim)
    else:
        revival = patch.multiple(autoencoder, GRACE=2, COLLAPSED=torch.inf)
        with revival, patch.object(sharding, "LARGE", 64):
            history = fit(model, rows, held, **options, patience=2)
    weights = {name: value.double().flatten().tolist() for name, value in model.named_parameters()}
    return {
        "training": history.training, "validation": history.validation,
        "counterfactual": history.counterfactual, "weights": weights, "revived": history.revived,
    }  # fmt: skip


class Single(AdditiveNoise):
    """A mechanism with a parameter that is a single number, which has no parts."""

    closed_form = False

    def build(self) -> None:
        super().build()
        self.shift = torch.nn.Parameter(torch.zeros(()))

    def loss(self, value: Tensor, parents: Any) -> Tensor:
        return (value - self.shift).square().mean()


def by_each_strategy(folder: str) -> dict[str, Any]:
    """What two processes find by each strategy, and the greatest share of weights that one had."""
    shares = []
    step = Loop.training_step

    def training_step(self: Loop, batch: Batch, index: int) -> Tensor:
        image = self.trained[self.names.index("image")]
        own = sum(p.to_local().numel() for p in image.parameters() if isinstance(p, DTensor))
        shares.append(own / sum(p.numel() for p in image.parameters()))
        return step(self, batch, index)

    whole = train(2)
    with patch.object(Loop, "training_step", training_step):
        parts = train(2, folder=folder, strategy="fsdp2")
    return {"ddp": whole, "fsdp2": parts, "share": max(shares)}


def die_at(step: int) -> None:
    """Let this process be killed, as by a machine without memory, before a step."""
    steps = Loop.training_step

    def training_step(self: Loop, batch: Batch, index: int) -> Tensor:
        if self.trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return steps(self, batch, index)

    Loop.training_step = training_step  # type: ignore[method-assign]


def in_two(tmp_path: Path, call: str, error: str = "") -> list[dict[str, Any]]:
    """What each of two processes finds, which Lightning starts from a script; or how they end."""
    script = tmp_path / "two.py"
    script.write_text(
        f"import sys, warnings; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "warnings.simplefilter('ignore')\n"
        "import json, os, test_processes; test_processes.torch.set_num_threads(1)\n"
        f"found = test_processes.{call}\n"
        f"name = {str(tmp_path)!r} + '/' + os.environ.get('LOCAL_RANK', '0') + '.json'\n"
        "open(name, 'w').write(json.dumps(found))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    if error:
        assert done.returncode == 1, done.stderr
        assert error in done.stderr.splitlines()[-1]
        return []
    assert done.returncode == 0, done.stderr
    return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]


def flat(content: Any) -> list[float]:
    if isinstance(content, dict):
        return [x for part in content.values() for x in flat(part)]
    return [x for part in content for x in flat(part)] if isinstance(content, list) else [content]


@pytest.mark.filterwarnings("ignore")
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    expected, folder = train(1), tmp_path / "checkpoints"
    assert expected["revived"]
    for results in in_two(tmp_path, f"by_each_strategy({str(folder)!r})"):
        assert 0.4 < results.pop("share") < 0.6
        for result in results.values():
            assert result.keys() == expected.keys()
            assert flat(result) == pytest.approx(flat(expected), rel=1e-6, abs=1e-7)
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]
    loaded = train(1, folder=str(folder))  # without parts: what parts of the weights wrote
    assert flat(loaded) == pytest.approx(flat(expected), rel=1e-6, abs=1e-7)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_processes_train_counterfactually_as_one_does(tmp_path: Path) -> None:
    expected = train(1, objective=True)
    assert expected["counterfactual"]["image"]
    for result in in_two(tmp_path, "train(2, objective=True)"):
        assert flat(result) == pytest.approx(flat(expected), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp2", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_a_process_that_dies_ends_the_others_and_one_process_goes_on(
    tmp_path: Path, strategy: str
) -> None:
    folder = tmp_path / "checkpoints"
    message = "another process has ended, or cannot be reached, at step 5 of fitting"
    in_two(tmp_path, f"train(2, folder={str(folder)!r}, dies=5, strategy={strategy!r})", message)
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 4
    result, expected = train(1, folder=str(folder)), train(1)
    assert flat(result) == pytest.approx(flat(expected), rel=1e-6, abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.filterwarnings("ignore")
def test_two_processes_go_on_from_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    folder, step = str(tmp_path / "checkpoints"), Loop.training_step

    def cut(self: Loop, *arguments: Any) -> Tensor:
        if self.trainer.global_step == 5:
            raise InterruptedError
        return step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "training_step", cut)
        with pytest.raises(InterruptedError):
            train(1, folder=folder)
    expected = train(1)
    for result in in_two(tmp_path, f"train(2, folder={folder!r}, strategy={strategy!r})"):
        assert flat(result) == pytest.approx(flat(expected), rel=1e-6, abs=1e-7)


# Rows and their noise ----------------------------------------------------------------------------


def test_usable_rows_are_dealt_out_evenly_whatever_is_missing() -> None:
    model = SCM("x -> y", {"y": Continuous(missing=True)})
    y = torch.tensor([torch.nan, 1, torch.nan, 3, torch.nan, 5, torch.nan, 7])
    table = Table(
        as_rows({"x": torch.arange(8.0), "y": y}, model.variables, CPU), model.mechanisms.values()
    )
    parts = [next(Shuffled(table, 8, 0, rank, 2)) for rank in (0, 1)]
    mechanism = model.mechanisms["y"]
    values = [part.of(mechanism)[0].tolist() for part in parts]
    assert [len(part) for part in values] == [2, 2]
    assert sorted(values[0] + values[1]) == [1, 3, 5, 7]
    assert [part.weight(mechanism) for part in parts] == [1.0, 1.0]


def test_a_process_without_a_row_borrows_one_that_counts_for_nothing() -> None:
    model = SCM("y", {"y": Continuous(missing=True)})
    y = torch.full((4,), torch.nan)
    y[2] = 5.0
    table = Table(as_rows({"y": y}, model.variables, CPU), model.mechanisms.values())
    mechanism = model.mechanisms["y"]
    first, second = (next(Shuffled(table, 4, 0, rank, 2)) for rank in (0, 1))
    assert first.of(mechanism)[0].tolist() == second.of(mechanism)[0].tolist() == [5.0]
    assert (first.weight(mechanism), second.weight(mechanism)) == (2.0, 0.0)


def test_validation_batches_are_dealt_out_too() -> None:
    model = SCM("x")
    table = Table(
        as_rows({"x": torch.arange(3.0)}, model.variables, CPU), model.mechanisms.values()
    )
    mechanism = model.mechanisms["x"]
    sweeps = [list(Sweep(table, 2, rank, 3)) for rank in range(3)]
    assert [[b.count(mechanism) for b in sweep] for sweep in sweeps] == [[1, 1], [1, 0], [0, 0]]
    assert [[b.total(mechanism) for b in sweep] for sweep in sweeps] == 3 * [[2, 1]]
    assert sweeps[1][0].of(mechanism)[0].tolist() == [1.0]


@pytest.mark.parametrize(
    "draw",
    [
        lambda n: torch.randn(n, 3),
        lambda n: torch.rand((n, 3)),
        lambda n: torch.randn(torch.Size((n, 3))),
        lambda n: torch.randn_like(torch.zeros(n, 3)),
        lambda n: torch.empty(n, 3).exponential_(),
        lambda n: even_draws(n, CPU),
    ],
)
def test_noise_is_that_of_one_process(draw: Any) -> None:
    torch.manual_seed(0)
    whole = draw(7)
    for rank in (0, 1):
        rows = torch.arange(7)[rank::2]
        torch.manual_seed(0)
        with DrawnAsOne(len(rows), 7, rows), shared_places(7, rows):
            assert torch.equal(draw(len(rows)), whole[rows])


# What a machine cannot do ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 0}, "devices=0 must be a number of at least 1, a list"),
        ({"devices": []}, r"devices=\[\] must be"),
        ({"strategy": "fsdp"}, r"strategy='fsdp' must be one of \('auto', 'ddp', 'fsdp2'\)"),
        (
            {"strategy": "fsdp2", "objective": "counterfactual"},
            "strategy='fsdp2': only losses are computed by weights in parts",
        ),
        (
            {"strategy": "fsdp2", "precision": "16-mixed"},
            "strategy='fsdp2': precision='16-mixed' scales losses",
        ),
        ({"num_nodes": 0}, "num_nodes=0 must be a whole number of at least 1"),
        (
            {"num_nodes": 2},
            "num_nodes=2: the address of the others is unknown; start the same",
        ),
        ({"devices": 10**4}, "devices: 10000; this machine has"),
        ({"accelerator": "cuda"}, "accelerator='cuda' cannot be used here: .*"),
        ({"accelerator": "abacus"}, "accelerator='abacus' cannot be used here: .*"),
    ],
)
def test_what_this_machine_cannot_do_is_said_in_one_line(
    options: dict[str, Any], message: str
) -> None:
    if options.get("accelerator") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    assert "MASTER_ADDR" not in os.environ
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        fit(SCM("x"), {"x": torch.arange(20.0)}, epochs=1, progress=False, **options)
