"""Effects do not depend on units, on offsets, or on how a column is held; limits are said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from effect_studies import FRONT, INSTRUMENT, dose, front_door_amount, instrument, linear

from rung3 import effect

SIZES = [1e-30, 1e-12, 1e30]


def rows(draw: Any, n: int = 300) -> dict[str, Any]:
    table: dict[str, Any] = draw(np.random.default_rng(0), n)
    return table


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("draw", "options", "moved", "power"),
    [
        (linear, {"adjust": ["z", "w"]}, "y", 1),
        (linear, {"adjust": ["z", "w"], "method": "ipw"}, "y", 1),
        (linear, {"adjust": ["z", "w"], "terms": ["z**2"]}, "z", 0),
        (dose, {"adjust": ["z"]}, "t", -1),
        (front_door_amount, FRONT, "m", 0),
        (front_door_amount, FRONT, "y", 1),
        (instrument(0.5), INSTRUMENT, "z0", 0),
        (instrument(0.5), INSTRUMENT, "t", -1),
        (instrument(0.1), INSTRUMENT, "y", 1),
    ],
)
def test_an_effect_follows_the_units(
    draw: Any, options: dict[str, Any], moved: str, power: int, size: float
) -> None:
    table = rows(draw)
    own = effect(table, "t", "y", **options).effect
    other = effect(table | {moved: table[moved] * size}, "t", "y", **options).effect
    for one, two in zip((own.effect, own.low, own.high), (other.effect, other.low, other.high),
                        strict=True):  # fmt: skip
        assert two / size**power == pytest.approx(one, rel=1e-6)


def test_where_a_double_has_too_few_digits_it_is_said() -> None:
    table = rows(linear)
    far = np.round(1e17 + 1000 * table["y"]).astype(np.int64)
    with pytest.raises(ValueError, match=r"y: its values differ by .* subtract a constant first"):
        effect(table | {"y": far}, "t", "y", adjust=["z"])
    with pytest.raises(ValueError, match=r"z: no value is further from zero than .*e-60"):
        effect(table | {"z": 1e-60 * table["z"]}, "t", "y", adjust=["z"])
    own = effect(table, "t", "y", adjust=["z"]).effect
    moved = effect({**table, "y": table["y"] + 1e9}, "t", "y", adjust=["z"]).effect
    assert moved.effect == pytest.approx(own.effect, abs=1e-5)
    assert moved.low == pytest.approx(own.low, abs=1e-5)


@pytest.mark.parametrize(
    "held",
    [
        pa.Table.from_pandas,
        lambda frame: frame.convert_dtypes(),
        lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
        lambda frame: frame.assign(t=frame.t.astype(bool)),
        lambda frame: frame.assign(t=pd.Categorical(frame.t.map({0: "none", 1: "some"}),
                                                    categories=["none", "some"])),
        lambda frame: frame.assign(z=frame.z.astype("float64[pyarrow]"), t=frame.t.astype("Int8")),
        lambda frame: frame.set_index("w", drop=False),
    ],
)  # fmt: skip
def test_it_does_not_matter_how_a_table_is_held(held: Any) -> None:
    frame = pd.DataFrame(rows(linear))
    own = effect(frame, "t", "y", adjust=["z", "w"])
    assert effect(held(frame), "t", "y", adjust=["z", "w"]).effect == own.effect


def test_dates_divide_rows_with_their_names() -> None:
    table = rows(linear)
    start = pd.Timestamp("2020-01-01", tz="Europe/Berlin")
    day = start + pd.to_timedelta(np.arange(300), unit="D")
    groups = effect(table | {"day": day}, "t", "y", adjust=["z"], by="day", bins=2).groups
    assert list(groups) == ["day 2019-12-31 to 2020-05-29", "day 2020-05-29 to 2020-10-25"]
