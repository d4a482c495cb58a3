"""Columns of images as they are stored: tensors of floats that are made on demand."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from rung3 import SCM, Continuous, Image, Rows, data, evaluate, fit, worlds
from rung3.data.files import digest
from rung3.data.rows import as_rows
from rung3.data.splits import split
from rung3.data.stored import Held, Stored, as_stored, blocks, moved, pick, storage_type
from rung3.mechanisms import VAE


def levels(bits: int, n: int = 6) -> Any:
    draw = np.random.default_rng(bits)
    return draw.integers(0, 2**bits, (n, 1, 4, 5)).astype(storage_type(2**bits - 1))


def column(bits: int = 8, n: int = 6) -> Stored:
    return Stored(Held(levels(bits, n)), 2**bits - 1)


@pytest.mark.parametrize("bits", [1, 5, 8, 12, 16])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_scaled_levels_are_bit_for_bit_those_of_readers_and_worlds(
    bits: int, kind: torch.dtype
) -> None:
    most = 2**bits - 1
    every = np.arange(most + 1).astype(storage_type(most))[:, None]
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(kind)
        floats = Stored(Held(every), most).floats()
        assert floats.dtype == kind
        assert torch.equal(floats, torch.from_numpy(every.astype(float)).to(kind) / most)
        assert torch.equal(floats, Image(1, 1, 1, bits=bits).nearest(floats))
    finally:
        torch.set_default_dtype(before)


INDICES: list[Any] = [
    3, -1, slice(1, 4), slice(None, None, 2), [0, 5, 0], torch.tensor([4, 2]),
    torch.tensor([True, False] * 3), torch.tensor(2), (2, 0, 1), (slice(2), 0), (..., 0),
    (torch.tensor([1, 2]), 0, 3), (torch.tensor([1, 2]), 0, torch.tensor([3, 0])), None,
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES)
def test_any_index_gives_what_it_gives_of_floats(index: Any) -> None:
    stored = column()
    assert torch.equal(stored[index], stored.floats()[index])


def test_to_all_code_it_is_a_tensor_of_floats() -> None:
    stored, floats = column(), column().floats()
    assert (stored.shape, stored.dtype) == ((6, 1, 4, 5), torch.float32)
    assert (stored.ndim, len(stored)) == (4, 6)
    assert torch.equal(stored * 2 + 1, floats * 2 + 1)
    assert torch.equal(torch.cat([stored, floats]), torch.cat([floats, floats]))
    assert torch.equal(torch.as_tensor(stored), floats)
    assert torch.equal(stored.expand(2, *stored.shape), floats.expand(2, *floats.shape))
    assert torch.equal(stored.double(), floats.double())
    assert np.array_equal(np.asarray(stored), floats.numpy())
    assert stored.tolist() == floats.tolist()
    assert all(torch.equal(a, b) for a, b in zip(stored, floats, strict=True))
    assert [len(part) for part in stored.split(4)] == [4, 2]
    assert torch.equal(torch.cat(stored.split(4)), floats)
    assert torch.equal(torch.cat(stored.split(1, dim=2), dim=2), floats)
    again = pickle.loads(pickle.dumps(stored[1:]))  # noqa: S301  # our own
    assert torch.equal(again, floats[1:])
    assert copy.deepcopy(stored) is stored
    assert "levels from 0 to 255" in repr(stored)


def test_it_is_never_changed_in_place_unnoticed() -> None:
    stored = column()

    def added(to: Any) -> None:
        to += 1

    def set_first(to: Any) -> None:
        to[0] = 0

    for change in (added, set_first, lambda to: to.clamp_(0, 1), lambda to: to.mul_(2)):
        with pytest.raises(ValueError, match=r"cannot be changed in place.*column\.clone\(\)"):
            change(stored)
    changed = stored.clone()
    changed[0] = 0
    assert stored[0].sum() > 0


def test_rows_without_an_image_read_as_missing() -> None:
    gone = np.array([False, True, False])
    stored = Stored(Held(levels(8, 3)), 255, gone)
    variable = Image(1, 4, 5, missing=True)
    assert variable.is_missing(stored).tolist() == gone.tolist()
    assert stored.isnan().flatten(1).all(1).tolist() == gone.tolist()
    assert variable.is_missing(stored.rows([1, 0])).tolist() == [True, False]
    with pytest.raises(ValueError, match="scan: 20 values are NaN"):
        Image(1, 4, 5).validate("scan", stored)


def test_rows_are_selected_split_and_checked_without_reading_an_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(self: Held, at: Any) -> Any:
        raise AssertionError(f"read {at}")

    rows = Rows({"x": torch.arange(6.0), "scan": column()})
    monkeypatch.setattr(Held, "read", read)
    train, held = split(rows, 0.5)
    kinds = {"x": Continuous(), "scan": Image(1, 4, 5)}
    checked = as_rows(train[1:][torch.tensor([0, 1])], kinds, torch.device("cpu"))
    assert isinstance(checked["scan"], Stored)
    assert (checked.n, held.n) == (2, 3)
    with pytest.raises(AssertionError, match="read"):
        held[0]


def test_levels_of_another_variable_are_checked_as_floats() -> None:
    with pytest.raises(ValueError, match=r"not multiples of 1/15, the levels of bits=4"):
        Image(1, 4, 5, bits=4).validate("scan", column())
    held = Image(1, 4, 5, bits=16).validate("scan", column())  # 255 divides 65535
    assert torch.equal(held, column().floats())
    assert not isinstance(held, Stored)


def test_digest_blocks_and_moves_are_those_of_floats() -> None:
    stored, floats = column(n=5), column(n=5).floats()
    assert digest({"x": stored}) == digest({"x": floats})
    assert torch.equal(torch.cat(list(blocks(stored, 2))), floats)
    assert list(blocks(floats, 2)) == [floats] or next(blocks(floats, 2)) is floats
    assert torch.equal(moved(stored, torch.device("cpu")), floats)
    assert torch.equal(pick(stored, torch.tensor(3)), floats[3])


def pictures(folder: Path, n: int, size: int = 8) -> tuple[Path, Any]:
    """Write a table of pictures whose brightness is a function of `x`."""
    draw, lines, drawn = np.random.default_rng(0), ["x,scan"], []
    for k in range(n):
        x = draw.normal()
        drawn.append(np.clip(draw.normal(120 + 30 * x, 9, (size, size)), 0, 255).astype(np.uint8))
        Pictures.fromarray(drawn[-1]).save(folder / f"{k}.png")
        lines.append(f"{x:.4f},{k}.png")
    (folder / "rows.csv").write_text("\n".join(lines))
    return folder / "rows.csv", np.stack(drawn)


def test_a_table_holds_images_in_a_byte_a_pixel_whatever_the_threads(tmp_path: Path) -> None:
    path, drawn = pictures(tmp_path, 150)
    for workers in (1, 3):
        scan = data.table(path, image_column="scan", workers=workers)["scan"]
        assert isinstance(scan, Stored)
        assert isinstance(scan.source, Held)
        assert scan.source.array.dtype == np.uint8
        assert np.array_equal(scan.source.array[:, 0], drawn)
    (tmp_path / "140.png").write_bytes(b"no picture")
    (tmp_path / "149.png").unlink()
    with pytest.raises(ValueError, match=r"140\.png cannot be read"):  # the first of two faults
        data.table(path, image_column="scan", workers=3)


@pytest.mark.slow
def test_fit_and_evaluate_give_the_same_and_never_read_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = pictures(tmp_path, 90)
    rows = data.table(path, variables={"x": Continuous(), "scan": Image(1, 8, 8)})
    plain = Rows({"x": rows["x"], "scan": rows["scan"].clone()})

    def figures(rows: Rows) -> tuple[Any, Any]:
        torch.manual_seed(0)
        kinds = {"scan": Image(1, 8, 8)}
        model = SCM("x -> scan", kinds, {"scan": VAE(latent=2, width=4)})
        quick: dict[str, Any] = {"progress": False, "batch_size": 8}
        history = fit(model, rows[:60], epochs=1, patience=1, checkpoints=tmp_path / "k",
                      resume=False, **quick)  # fmt: skip
        report = evaluate(model, rows[60:], train=rows[:60], bootstrap=0, **quick)
        return history.training, report.metrics["effectiveness"]

    monkeypatch.setattr("rung3.data.stored.BLOCK", 8 * 8 * 8 * 4)
    monkeypatch.setattr("rung3.training.oracles.oracles.BATCH", 8)
    expected = figures(plain)
    most, read = 0, Stored.floats

    def floats(self: Stored, index: Any = slice(None)) -> torch.Tensor:
        nonlocal most
        chosen = read(self, index)
        most = max(most, len(chosen))
        return chosen

    monkeypatch.setattr(Stored, "floats", floats)
    assert figures(rows) == expected
    assert 0 < most < 16


@pytest.mark.parametrize(
    "index",
    [np.int64(2), np.array([3, 1]), [2, 0], torch.tensor([[0, 1], [2, 3]]), range(2),
     torch.tensor([1, 0, 1, 0, 0, 0], dtype=torch.bool)],
)  # fmt: skip
def test_rows_are_selected_as_those_of_a_plain_column_are(index: Any) -> None:
    stored = column()
    chosen, plain = (Rows({"i": held})[index] for held in (stored, stored.floats()))
    assert chosen["i"].shape == plain["i"].shape
    assert torch.equal(chosen["i"] + 0, plain["i"])
    assert (chosen.n, chosen.batched) == (plain.n, plain.batched)


def test_other_layouts_in_memory_are_made() -> None:
    grouped = column().contiguous(memory_format=torch.channels_last)
    assert torch.equal(grouped, column().floats())
    assert grouped.is_contiguous(memory_format=torch.channels_last)


def test_drawn_images_are_held_as_levels_bit_for_bit() -> None:
    drawn = worlds.digits().sample(40, seed=0)
    held = as_stored(drawn["image"], 255)
    assert isinstance(held, Stored)
    assert torch.equal(held.floats(), drawn["image"])
    off = drawn["image"].clone()
    off[3, 0, 1, 1] = 0.5001
    assert as_stored(off, 255) is off
    off[3, 0, 1, 1] = torch.nan
    assert as_stored(off, 255) is off
    assert as_stored(drawn["image"], None) is drawn["image"]
