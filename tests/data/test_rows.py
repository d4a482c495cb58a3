"""Rows and exogenous noise: mappings whose leading axes mean rows and particles."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from noises import whole as whole_noise
from torch import Tensor

from rung3 import Binary, Categorical, Continuous, Image
from rung3.data.provenance import Provenance
from rung3.data.rows import Exogenous, Noise, Rows, as_rows, map_noise, spell_unknown
from rung3.data.variables import Variable

CPU = torch.device("cpu")
VARIABLES: dict[str, Variable] = {
    "size": Continuous(lower=0),
    "place": Continuous(dim=2),
    "kind": Categorical(3, labels=("a", "b", "c")),
    "image": Image(1, 2, 2),
}


def rows(n: int = 5, k: int | None = None) -> Rows:
    """Rows of a world whose values and noise tell which row they belong to."""
    lead = (n,) if k is None else (k, n)
    x = torch.arange(float(torch.tensor(lead).prod())).reshape(lead)
    noise: dict[str, Noise] = {"x": 10 * x, "v": {"z": x[..., None] + 1, "eps": -x}}
    return Rows({"x": x, "v": torch.stack([x, x], -1)}, noise=noise, world="w", particles=k)


def parts(values: Rows) -> dict[str, Any]:
    """All that a set of rows holds, as lists."""
    noise = {k: map_noise(Tensor.tolist, v) for k, v in (values.noise or {}).items()}  # type: ignore[arg-type]
    return {"values": {k: v.tolist() for k, v in values.items()}, "noise": noise}


def test_a_frame_keeps_units_beside_labels() -> None:
    rows = Rows({"age": torch.tensor([40.0, 61.0]), "sex": torch.tensor([1, 0])})
    kinds = {"age": Continuous(unit="years"), "sex": Binary(labels=("f", "m"))}
    frame = rows.to_frame(kinds)
    assert frame["sex"].tolist() == ["m", "f"]
    assert frame.attrs == {"units": {"age": "years"}}
    assert rows.to_frame().attrs == {}


def test_rows_are_a_mapping_from_variable_to_tensor() -> None:
    some = rows()
    assert list(some) == ["x", "v"]
    assert len(some) == 2
    assert "x" in some
    assert "y" not in some
    assert some["v"].shape == (5, 2)
    assert dict(some).keys() == {"x", "v"}
    with pytest.raises(KeyError, match="y"):
        some["y"]


@pytest.mark.parametrize("k", [None, 3])
def test_a_row_alone_is_a_batch_of_one(k: int | None) -> None:
    several = rows(5, k)
    assert several.batch is several
    alone = several[2]
    assert not alone.batched
    assert parts(alone.batch) == parts(several[2:3])
    assert (alone.batch.n, alone.batch.batched, alone.batch.particles) == (1, True, k)
    assert alone.batch.world == "w"


@pytest.mark.parametrize(
    ("index", "places"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None), [0, 1, 2, 3, 4]),
        (slice(None, None, 2), [0, 2, 4]),
        (slice(-2, None), [3, 4]),
        (slice(9, 12), []),
        (torch.tensor([4, 0, 0]), [4, 0, 0]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
    ],
)
@pytest.mark.parametrize("k", [None, 3])
def test_an_index_selects_rows_with_their_noise(
    k: int | None, index: slice | Tensor, places: list[int]
) -> None:
    whole, some = rows(5, k), rows(5, k)[index]
    assert (some.n, some.particles, some.batched, some.world) == (len(places), k, True, "w")
    assert some.noise is not None
    assert isinstance(some.noise["v"], dict)
    axis = 0 if k is None else 1
    chosen = torch.tensor(places, dtype=torch.long)
    assert torch.equal(some["v"], whole["v"].index_select(axis, chosen))
    assert torch.equal(whole_noise(some.noise["x"]), 10 * some["x"])
    assert torch.equal(some.noise["v"]["z"], some["x"][..., None] + 1)
    assert torch.equal(some.noise["v"]["eps"], -some["x"])


@pytest.mark.parametrize("k", [None, 3])
@pytest.mark.parametrize("index", [0, 3, -1, np.int64(2), torch.tensor(2)])
def test_one_index_gives_one_row_without_a_batch_axis(index: Any, k: int | None) -> None:
    one = rows(5, k)[index]
    lead = () if k is None else (k,)
    assert (one.n, one.batched) == (1, False)
    assert (one["x"].shape, one["v"].shape) == (lead, (*lead, 2))
    assert torch.equal(one["x"], rows(5, k)["x"][..., index])
    with pytest.raises(ValueError, match="a single row cannot be sliced"):
        one[0]


def test_an_index_beyond_the_rows_is_an_error() -> None:
    with pytest.raises(IndexError, match="5"):
        rows()[5]


def test_slices_of_slices_are_slices() -> None:
    assert parts(rows(9)[2:8][1:3]) == parts(rows(9)[3:5])


@pytest.mark.parametrize("n", [None, 2])
def test_repeat_lays_copies_one_after_the_other(n: int | None) -> None:
    some = rows(2) if n else rows(2)[1]
    thrice = some.repeat(3)
    assert thrice.n == 3 * (n or 1)
    assert thrice.batched
    assert thrice["x"].tolist() == ([0, 1] * 3 if n else [1] * 3)
    assert thrice["v"].shape == (thrice.n, 2)


def test_rows_of_data_have_no_provenance_and_answers_keep_theirs() -> None:
    with pytest.raises(ValueError, match="only answers to queries have a provenance"):
        rows().explain()
    provenance = Provenance(rung="seeing", status={"x": "sampled"})
    answer = Rows({"x": torch.zeros(3)}, provenance=provenance)
    for same in (answer, answer[:2], answer[0], answer.repeat(2), answer.to("cpu")):
        assert same.explain() is provenance


def test_rows_show_their_shapes_and_whether_their_noise_is_known() -> None:
    assert repr(rows(2)) == "Rows(x: (2,), v: (2, 2), noise of world 'w' known)"
    assert repr(Rows({"x": torch.zeros(3)})) == "Rows(x: (3,))"
    assert Rows({}).n == 0


def test_moving_rows_moves_the_noise_too() -> None:
    moved = rows(4, 2).to("meta")
    assert moved.noise is not None
    assert isinstance(moved.noise["v"], dict)
    held = [*moved.values(), whole_noise(moved.noise["x"]), *moved.noise["v"].values()]
    assert {tensor.device.type for tensor in held} == {"meta"}
    assert (moved.n, moved.particles, moved.world, moved.batched) == (4, 2, "w", True)


def test_particles_laid_flat_keep_their_rows_beside_them() -> None:
    factual = Rows({"x": torch.tensor([1.0, 2.0])})
    x = torch.tensor([[1.1, 2.1], [1.2, 2.2], [1.3, 2.3]])
    noise: dict[str, Noise] = {"x": x, "v": {"z": x[..., None]}}
    abductions = {"x": "posterior", "v": "approximate"}
    content: dict[str, Any] = {"x": 1}
    cloud = Exogenous(
        noise, n=2, particles=3, factual=factual, mechanisms=content, kinds=abductions
    )
    flat = cloud.flat()
    assert (flat.n, flat.particles) == (6, None)
    assert isinstance(flat["x"], Tensor)
    assert isinstance(flat["v"], dict)
    assert flat["v"]["z"].shape == (6, 1)
    assert flat.factual is not None
    torch.testing.assert_close(flat["x"].floor(), flat.factual["x"])
    assert (flat.mechanisms, flat.kinds) == (cloud.mechanisms, abductions)
    assert flat.flat() is flat
    assert repr(cloud) == "Exogenous(x, v; n=2, particles=3)"
    assert list(cloud) == ["x", "v"]
    assert len(cloud) == 2


def test_noise_is_mapped_part_by_part() -> None:
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    assert torch.equal(map_noise(torch.neg, one), -one)  # type: ignore[arg-type]
    mapped = map_noise(torch.neg, {"z": one, "eps": two})
    assert isinstance(mapped, dict)
    assert {k: v.item() for k, v in mapped.items()} == {"z": -1, "eps": -2}


# Reading rows from what users have


BATCH: dict[str, Any] = {"size": [1.0, 2.0], "place": np.zeros((2, 2)), "kind": ["c", "a"]}


def test_a_batch_and_a_single_row_are_told_apart() -> None:
    batch = as_rows(BATCH, VARIABLES, CPU)
    assert (batch.n, batch.batched) == (2, True)
    assert batch["kind"].tolist() == [2, 0]
    one = as_rows({k: v[0] for k, v in BATCH.items()}, VARIABLES, CPU)
    assert (one.n, one.batched) == (1, False)
    assert (one["size"].shape, one["place"].shape, one["kind"].item()) == ((), (2,), 2)
    assert as_rows({"size": []}, VARIABLES, CPU).n == 0


def test_a_data_frame_is_a_batch_whatever_its_index() -> None:
    frame: Any = pd.DataFrame({"size": [1.0, 2.0], "kind": ["c", "a"]}, index=[7, 3])
    read = as_rows(frame, VARIABLES, CPU)
    assert parts(read)["values"] == {"size": [1.0, 2.0], "kind": [2, 0]}


def test_rows_of_a_world_keep_their_noise() -> None:
    noise = {"size": torch.tensor([0.5, 0.6])}
    given = Rows({"size": torch.tensor([1.0, 2.0])}, noise=noise, world="w")
    read = as_rows(given, VARIABLES, CPU)
    assert read.world == "w"
    assert read.noise is not None
    assert read.noise["size"] is noise["size"]
    one = as_rows(given[1], VARIABLES, CPU)
    assert not one.batched
    assert one.noise is not None
    assert one.noise["size"] == 0.6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no values were given"),
        (3, "expected a mapping from variable to values, got int"),
        ({"sise": 1.0}, "unknown variable 'sise'; the variables are ['size', 'place', 'kind', 'im"),
        ({"sise": 1.0}, "; did you mean 'size'?"),
        ({"size": -1.0}, "size: -1 is outside its support [0, inf]"),
        ({"size": [[1.0]]}, "size: expected shape () or (n,), got (1, 1)"),
        ({"kind": "d"}, "kind: unknown category ['d']; expected ['a', 'b', 'c']"),
        (
            {"size": 1.0, "kind": ["a", "b"]},
            "['size'] are single values but ['kind'] are batches; give all alike",
        ),
        (
            {"size": [1.0], "kind": ["a", "b"]},
            "variables differ in number of rows: {'size': 1, 'kind': 2}",
        ),
    ],
)
def test_values_that_make_no_rows_are_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        as_rows(values, VARIABLES, CPU)


def test_the_nearest_name_is_offered_only_where_one_is_near() -> None:
    assert spell_unknown(["zzz"], VARIABLES).endswith("'image']")
    assert spell_unknown(["imge"], VARIABLES).endswith("did you mean 'image'?")


def test_rows_become_frames_with_labels_and_are_taken_back() -> None:
    kinds = {"ward": Categorical(labels=("a", "b", "c"), missing=True), "v": Continuous(dim=2)}
    rows = Rows({"ward": torch.tensor([2.0, torch.nan, 0.0]), "v": torch.arange(6.0).view(3, 2)})
    frame = rows.to_frame(kinds)
    assert frame["ward"].fillna("").tolist() == ["c", "", "a"]
    assert frame[["v[0]", "v[1]"]].to_numpy().tolist() == [[0, 1], [2, 3], [4, 5]]
    codes = kinds["ward"].validate("ward", frame["ward"])
    assert codes[0] == 2
    assert codes.isnan().tolist() == [False, True, False]
    assert rows.to_frame()["ward"].tolist()[2] == 0
    one = Rows({"x": torch.tensor(1.0)}, batched=False)
    assert one.to_frame()["x"].tolist() == [1.0]


def test_particles_are_the_first_level_and_images_are_refused() -> None:
    cloud = Rows({"x": torch.arange(6.0).view(2, 3)}, particles=2)
    frame = cloud.to_frame()
    assert frame.index.names == ["particle", "row"]
    assert frame.loc[(1, 2), "x"] == 5
    assert "<td>4.0</td>" in cloud._repr_html_()
    pictures = Rows({"image": torch.zeros(2, 1, 4, 4), "x": torch.ones(2)})
    with pytest.raises(ValueError, match=r"image: its values have shape \(1, 4, 4\)"):
        pictures.to_frame()
    assert "2 rows; image: (2, 1, 4, 4)" in pictures._repr_html_()
    assert Rows({"image": torch.zeros(2, 1, 4, 4)})._repr_html_().startswith("<p>2 rows")
