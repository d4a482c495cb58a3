from __future__ import annotations

import math

import pytest
import torch

from rung3 import SCM, Continuous, Rows
from rung3.data.rows import as_rows
from rung3.training.batches import Batch, Shuffled, Sweep, Table


def scm() -> SCM:
    variables = {"y": Continuous(missing=True), "v": Continuous(dim=2, missing=True)}
    return SCM("x -> y -> z; v", variables)


def rows(n: int) -> Rows:
    count = torch.arange(float(n))
    values = {"x": count, "y": count + 100, "z": count + 200, "v": count[:, None] + torch.zeros(2)}
    return as_rows(values, scm().variables, torch.device("cpu"))


def table(n: int) -> Table:
    return Table(rows(n), scm().mechanisms.values())


def seen(batch: Batch) -> list[int]:
    return [int(x) for x in batch.values["x"]]


# Tables ------------------------------------------------------------------------------------------


def test_a_table_has_the_columns_of_its_mechanisms_alone() -> None:
    only = Table(rows(3), [scm().mechanisms["y"]])
    assert set(only.values) == {"x", "y"}
    assert only.complete == {}


def test_a_row_trains_the_mechanisms_whose_value_and_parents_it_has() -> None:
    model, given = scm(), dict(rows(4))
    given["y"] = torch.tensor([math.nan, 1.0, 2.0, math.nan])
    given["v"] = torch.tensor([[0.0, 1.0], [math.nan, 1.0], [2.0, 3.0], [4.0, math.nan]])
    batch = Table(Rows(given), model.mechanisms.values()).all()
    trained = {name: batch.of(mechanism) for name, mechanism in model.mechanisms.items()}
    assert trained["x"][0].tolist() == [0, 1, 2, 3]
    assert trained["y"][0].tolist() == [1, 2]
    assert trained["y"][1]["x"].tolist() == [1, 2]
    assert trained["z"][0].tolist() == [201, 202]
    assert trained["z"][1]["y"].tolist() == [1, 2]
    assert trained["v"][0].tolist() == [[0, 1], [2, 3]]


def test_a_part_of_a_table_keeps_to_its_rows() -> None:
    model, given = scm(), dict(rows(4))
    given["y"] = torch.tensor([math.nan, 1.0, 2.0, math.nan])
    part = Table(Rows(given), model.mechanisms.values())[torch.tensor([3, 2])]
    assert seen(part) == [3, 2]
    value, parents = part.of(model.mechanisms["z"])
    assert value.tolist() == [202]
    assert parents["y"].tolist() == [2]


def test_a_mechanism_without_a_single_row_is_named() -> None:
    given = dict(rows(2)) | {"y": torch.full((2,), math.nan)}
    with pytest.raises(ValueError, match="y: none of the 2 rows has y and x"):
        Table(Rows(given), scm().mechanisms.values())


def test_the_digest_tells_values_order_and_what_is_missing() -> None:
    def digest(y: list[float]) -> str:
        mechanism = scm().mechanisms["y"]
        return Table(Rows({"x": torch.zeros(3), "y": torch.tensor(y)}), [mechanism]).digest()

    assert digest([1.0, 2.0, 3.0]) == digest([1.0, 2.0, 3.0])
    others = [[2.0, 1.0, 3.0], [1.0, 2.0, 3.0 + 1e-6], [1.0, 2.0, math.nan], [math.nan, 2.0, 3.0]]
    assert len({digest(y) for y in [[1.0, 2.0, 3.0], *others]}) == 5


# Orders ------------------------------------------------------------------------------------------


def test_an_epoch_sees_every_row_once_and_the_next_in_another_order() -> None:
    batches = Shuffled(table(12), size=4, seed=0)
    assert len(batches) == 3
    epochs = [[x for _ in range(3) for x in seen(next(batches))] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0] != epochs[1] != list(range(12))


def test_batches_are_full_and_all_rows_have_their_turn() -> None:
    batches = Shuffled(table(11), size=4, seed=0)
    assert len(batches) == 2
    steps = [seen(next(batches)) for _ in range(60)]
    assert {len(step) for step in steps} == {4}
    assert all(
        len({*first, *second}) == 8 for first, second in zip(steps[::2], steps[1::2], strict=True)
    )
    assert {x for step in steps for x in step} == set(range(11))


def test_a_batch_is_never_larger_than_the_table() -> None:
    batches = Shuffled(table(3), size=128, seed=0)
    assert len(batches) == 1
    assert sorted(seen(next(batches))) == [0, 1, 2]


@pytest.mark.parametrize("start", range(8))
def test_which_rows_a_step_sees_depends_on_the_seed_and_the_step_alone(start: int) -> None:
    whole = Shuffled(table(11), size=4, seed=3)
    expected = [seen(next(whole)) for _ in range(10)]
    torch.manual_seed(start)
    late = Shuffled(table(11), size=4, seed=3)
    late.step = start
    assert [seen(next(late)) for _ in range(10 - start)] == expected[start:]
    assert whole.step == late.step == 10


def test_another_seed_gives_another_order() -> None:
    orders = [seen(next(Shuffled(table(50), size=50, seed=seed))) for seed in range(5)]
    assert len({tuple(order) for order in orders}) == 5


def test_devices_share_out_every_batch() -> None:
    whole = Shuffled(table(12), size=5, seed=0)
    parts = [Shuffled(table(12), size=5, seed=0, rank=rank, devices=2) for rank in (0, 1)]
    for _ in range(6):
        batch = seen(next(whole))
        assert [seen(next(part)) for part in parts] == [batch[::2], batch[1::2]]


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_a_sweep_sees_all_rows_once_over_all_devices(devices: int) -> None:
    sweeps = [Sweep(table(12), size=5, rank=rank, devices=devices) for rank in range(devices)]
    batches = [[seen(batch) for batch in sweep] for sweep in sweeps]
    assert [len(sweep) for sweep in sweeps] == [len(seen_rows) for seen_rows in batches]
    shares = [x for seen_rows in batches for batch in seen_rows[:2] for x in batch]
    assert sorted(shares) == list(range(10))
    assert batches[0][2] == [10, 11][::devices]
