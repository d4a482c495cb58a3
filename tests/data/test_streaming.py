"""Tables that are read by batches: what they take, and what is wrong with a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rung3 import SCM, Categorical, Continuous, effect
from rung3.data import streamed, streaming
from rung3.training.by_batches import sample_of

LABELS = ["a", "b", "a", None, "b"]


class Handed:
    """Something that hands out Arrow batches, as often as it is asked, and is nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested)


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
)
def test_text_is_read_in_whatever_form(kind: Any) -> None:
    table = streamed(Handed(pa.table({"g": pa.array(LABELS, kind)})))
    kinds = {"g": Categorical(labels=("a", "b", "c"), missing=True)}
    codes = next(table.rows(kinds))["g"]
    assert np.array_equal(codes.numpy(), [0, 1, 0, np.nan, 1], equal_nan=True)
    assert table.sample()["g"].isna().tolist() == [False, False, False, True, False]


def test_a_file_at_an_address_is_read_there() -> None:
    files = fsspec.filesystem("memory")
    content = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1.0, 2.0]}), content)
    files.pipe("/bucket/rows.parquet", content.getvalue().to_pybytes())
    try:
        assert streamed("memory://bucket/rows.parquet").sample()["x"].tolist() == [1, 2]
        assert streamed("memory://bucket").n == 2
    finally:
        files.rm("/", recursive=True)


def test_polars_frames_are_read() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"t": [0, 1] * 100, "z": ["a", "a", "b", "b"] * 50})
    frame = frame.with_columns(y=polars.Series(np.arange(200.0)))
    answer = effect(streamed(frame), "t", "y", adjust=["z"])
    assert answer.effect.effect == pytest.approx(1)
    with pytest.raises(ValueError, match="collect"):
        streamed(frame.lazy())


def test_a_sample_is_of_all_rows_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ROWS", 70)
    table = streamed(Handed(pa.table({"x": np.arange(1_000)})))
    drawn = table.sample(300, seed=0)["x"]
    assert len(set(drawn)) == 300
    assert abs(drawn.mean() - 500) < 60
    assert drawn.tolist() == table.sample(300, seed=0)["x"].tolist() != sorted(range(300))
    assert table.sample(5_000)["x"].tolist() == list(range(1_000))


@pytest.fixture
def in_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Any]], streaming.Streamed]:
    """Stream columns from a file of row groups, of which small samples are drawn."""
    monkeypatch.setattr(streaming, "ROWS", 50)
    monkeypatch.setattr(streaming, "SAMPLE", 640)

    def stream(columns: dict[str, Any]) -> streaming.Streamed:
        path = tmp_path / "groups.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=2_000)
        return streamed(path)

    return stream


def test_a_sample_of_places_is_even_and_reads_a_part(
    in_groups: Callable[[dict[str, Any]], streaming.Streamed], monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 50_000
    table = in_groups({"x": np.arange(n), "y": np.zeros(n)})
    monkeypatch.setattr(streaming.Streamed, "batches", None)  # no pass over all rows
    means, counts = [], np.zeros(n)
    for seed in range(20):
        drawn = table.sample_of_places(seed, ["x"])["x"].to_numpy()
        assert len(drawn) == 640
        assert (np.diff(drawn) > 0).all()
        assert np.histogram(drawn, 64, (0, n))[0].max() <= 20  # of each part of the sorted table
        counts[drawn] += 1
        means.append(drawn.mean())
    assert abs(np.mean(means) / n - 0.5) < 1e-3
    assert counts.reshape(5, -1).mean(1) == pytest.approx(20 * 640 / n, rel=0.1)


def test_what_is_rare_and_lies_together_is_not_missed(
    in_groups: Callable[[dict[str, Any]], streaming.Streamed],
) -> None:
    n = 50_000
    rare = (np.arange(n) >= n - 300).astype(int)
    table, model = in_groups({"rare": rare, "x": np.arange(n) % 7}), SCM("rare; x")
    missed = [s for s in range(9) if not table.sample_of_places(s)["rare"].any()]
    assert missed
    assert sample_of(model, table, missed[0], by_places=True)["rare"].any()


def test_a_rare_category_that_lies_together_is_not_missed(
    in_groups: Callable[[dict[str, Any]], streaming.Streamed],
) -> None:
    n = 50_000
    site = np.where(np.arange(n) < n - 300, np.array(["a", "b"])[np.arange(n) % 2], "c")
    table, model = in_groups({"site": site, "x": np.linspace(0, 1, n)}), SCM("site -> x")
    missed = [s for s in range(9) if "c" not in set(table.sample_of_places(s)["site"])]
    assert missed
    assert "c" in set(sample_of(model, table, missed[0], by_places=True)["site"])


def test_small_tables_give_a_sample_of_places_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": np.arange(1_000)}), path)
    table = streamed(path)
    assert table.sample_of_places(3).equals(table.sample(seed=3))
    handed = streamed(Handed(pa.table({"x": np.arange(1_000)})))
    assert handed.sample_of_places(3).equals(handed.sample(seed=3))


def test_a_page_that_is_not_what_its_checksum_says_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table({"x": np.arange(2_000.0)})
    plain = {"compression": "none", "use_dictionary": False}
    pq.write_table(table, path, write_page_checksum=True, **plain)
    content = bytearray(path.read_bytes())
    content[5_000] ^= 1  # of one number, which is a number still
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rows\.parquet: truncated or altered"):
        list(streamed(path).rows({"x": Continuous()}))


def test_sources_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"x": np.arange(2_000.0)}), whole)
    content = whole.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[:-100])
    (tmp_path / "altered.parquet").write_bytes(content[:300] + bytes(900) + content[1_200:])
    (tmp_path / "empty").mkdir()
    for source, message in (
        (tmp_path / "cut.parquet", r"cut\.parquet: truncated or altered"),
        (tmp_path / "empty", "empty holds no Parquet file"),
        (tmp_path / "gone", "gone is missing"),
        ("foo://rows.parquet", "foo is read by a driver of fsspec that is not installed"),
        ("memory://nowhere.parquet", "memory://nowhere.parquet is missing"),
    ):
        with pytest.raises(ValueError, match=message):
            streamed(source)
    with pytest.raises(ValueError, match=r"altered\.parquet: truncated or altered"):
        list(streamed(tmp_path / "altered.parquet").rows({"x": Continuous()}))
    (tmp_path / "cut.parquet").rename(tmp_path / "whole2.parquet")  # read second
    (tmp_path / "altered.parquet").unlink()
    for read in (lambda table: table.n, lambda table: list(table.batches(["x"]))):
        with pytest.raises(ValueError, match=r"whole2\.parquet: truncated or altered"):
            read(streamed(tmp_path))
