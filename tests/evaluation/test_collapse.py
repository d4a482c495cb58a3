from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from noises import levels
from torch import Tensor, nn

from rung3 import SCM, Image, evaluate
from rung3.data.rows import Rows, as_rows
from rung3.evaluation import Oracles, Report
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.collapse import divergences
from rung3.evaluation.report.tables import tables
from rung3.mechanisms import HVAE, VAE, Equation, Mechanism, Stage
from rung3.mechanisms.autoencoder import UNUSED
from rung3.mechanisms.networks.hierarchy import Latent

STAGES = (Stage(4, 6, latents=1), Stage(2, 6, layers=2, latents=3))


def model_of(mechanism: Mechanism) -> SCM:
    variables = {"scan": Image(1, 8, 12)}
    return SCM("s -> scan", variables, {"s": Equation("u"), "scan": mechanism}).eval()


def rows_of(model: SCM, n: int = 12) -> Rows:
    scans = torch.randint(256, (n, 1, 8, 12)) / 255
    return as_rows({"s": torch.randn(n), "scan": scans}, model.variables, torch.device("cpu"))


def collapse(latent: Latent, shift: float = 0.0) -> None:
    """Make the posterior N(shift, 1) in every dimension, whatever the image is."""
    for parameter in (*latent.mean.parameters(), *latent.log_scale.parameters()):
        nn.init.zeros_(parameter)
    assert latent.mean.bias is not None
    nn.init.constant_(latent.mean.bias, shift)


def layer(model: SCM, k: int) -> Latent:
    """A layer of the image's latents."""
    decoder: Any = model.mechanisms["scan"].decoder
    latent = decoder.latents[k]
    assert isinstance(latent, Latent)
    return latent


@pytest.fixture
def collapsed() -> SCM:
    """Of three layers, the middle one tells nothing."""
    model = model_of(HVAE("conditional", STAGES))
    collapse(layer(model, 1))
    return model


@torch.no_grad()
def divergences_of(model: SCM, rows: Rows, batch_size: int = 5) -> dict[str, dict[str, Any]]:
    return divergences(model, rows, batch_size, Bootstrap(rows.n, 50), seed=0)["scan"]


def test_a_collapsed_layer_is_called_unused_and_the_others_are_not(collapsed: SCM) -> None:
    layers = divergences_of(collapsed, rows_of(collapsed))
    assert {name: layer["unused"] for name, layer in layers.items()} == {
        "u1": False, "u2": True, "u3": False,
    }  # fmt: skip
    assert {name: layer["dimensions"] for name, layer in layers.items()} == {
        "u1": 3 * 2 * 3, "u2": 3 * 2 * 3, "u3": 4 * 6,
    }  # fmt: skip
    assert layers["u2"]["mean"] == pytest.approx(0, abs=1e-6)
    assert layers["u1"]["low"] < layers["u1"]["mean"] < layers["u1"]["high"]


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_the_threshold_is_of_a_row_and_a_layer(collapsed: SCM, factor: float) -> None:
    """18 dimensions whose posterior is N(t, 1) have a divergence of `18 t^2 / 2` nats."""
    collapse(layer(collapsed, 1), shift=math.sqrt(2 * factor * UNUSED / 18))
    middle = divergences_of(collapsed, rows_of(collapsed))["u2"]
    assert middle["mean"] == pytest.approx(factor * UNUSED, rel=1e-4)
    assert middle["unused"] == (factor < 1)


def test_batches_make_no_difference_to_what_needs_no_draw(collapsed: SCM) -> None:
    rows = rows_of(collapsed)
    one, other = divergences_of(collapsed, rows, 12), divergences_of(collapsed, rows, 5)
    assert one["u1"]["mean"] == pytest.approx(other["u1"]["mean"], rel=1e-5)
    state = torch.random.get_rng_state()
    divergences_of(collapsed, rows)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_vae_has_one_layer_and_a_table_has_none() -> None:
    model = model_of(VAE(latent=3, width=4, depth=1))
    encoder: Any = model.mechanisms["scan"].encoder
    head = encoder.head[-1]
    nn.init.ones_(head.bias)
    assert not divergences_of(model, rows_of(model))["z"]["unused"]
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    layers = divergences_of(model, rows_of(model))
    assert list(layers) == ["z"]
    assert (layers["z"]["unused"], layers["z"]["dimensions"]) == (True, 3)
    numbers = SCM(a=Equation("u"), b=Equation("a + u"))
    assert divergences(numbers, numbers.sample(5, seed=0), 5, Bootstrap(5, 0), seed=0) == {}


def report_of(model: SCM, **options: Any) -> Report:
    options = {"bootstrap": 20, "particles": 2} | options
    return evaluate(model, rows_of(model), oracles=Oracles({}), progress=False, **options)


def test_the_report_shows_the_divergences_and_flags_what_is_unused(
    collapsed: SCM, tmp_path: Path
) -> None:
    report = report_of(collapsed)
    assert report.metrics["divergence"]["scan"]["u2"]["unused"] is True
    (table,) = (table for table in tables(report.metrics) if table.title.startswith("Latents"))
    assert f"Below {UNUSED} nats" in table.note
    assert [name for name, _ in table.rows] == ["scan: u1", "scan: u2", "scan: u3"]
    assert [cells[2].value for _, cells in table.rows] == ["", "unused", ""]
    printed = [line for line in str(report).splitlines() if line.lstrip().startswith("scan: u")]
    assert ["unused" in line for line in printed] == [False, True, False]
    page = report.save(tmp_path).read_text()
    assert page.count('<td class="flag">unused</td>') == 1
    divergences = json.loads((tmp_path / "metrics.json").read_text())["divergence"]["scan"]
    assert divergences == report.metrics["divergence"]["scan"]


def test_a_model_without_latents_has_no_such_table() -> None:
    numbers = SCM(a=Equation("u"), b=Equation("a + u"))
    report = evaluate(numbers, numbers.sample(10, seed=0), bootstrap=0, progress=False)
    assert report.metrics["divergence"] == {}
    assert not any(table.title.startswith("Latents") for table in tables(report.metrics))


def test_divergence_bounds_what_a_layer_tells(collapsed: SCM) -> None:
    """Abduction from a collapsed layer is a draw from the prior, whatever the image is."""
    mechanism = collapsed.mechanisms["scan"]
    rows = rows_of(collapsed)

    def drawn(scans: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return levels(mechanism.abduct(scans, {"s": rows["s"]}, generator=generator))["u2"]

    assert torch.equal(drawn(rows["scan"]), drawn(rows["scan"].flip(0)))
