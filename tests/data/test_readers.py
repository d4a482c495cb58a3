"""The readers of real data: what they give, and what bad files get."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from noises import whole
from PIL import Image as Pillow

from rung3 import Binary, Categorical, Continuous, Image, Rows, data
from rung3.data.columns import read
from rung3.data.readers.idx import read_idx
from rung3.data.readers.mnist import FILES


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_digits(root: Path, n: int = 6, zipped: bool = True) -> Path:
    """A folder in the format of Morpho-MNIST: image k is all k, of class k, thickness k + 1."""
    root.mkdir(parents=True, exist_ok=True)
    images = np.broadcast_to(np.arange(n)[:, None, None], (n, 28, 28))
    for prefix in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(n))):
            content = idx(array)
            path = root / f"{prefix}-{name}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(content) if zipped else content)
        table = pd.DataFrame({"thickness": np.arange(n) + 1.0, "intensity": 100.0})
        table.to_csv(root / f"{prefix}-morpho.csv", index_label="index")
    return root


@pytest.mark.parametrize("zipped", [True, False])
def test_morphomnist_reads_plain_and_compressed_files(tmp_path: Path, zipped: bool) -> None:
    rows = data.morphomnist(write_digits(tmp_path, zipped=zipped), "test")
    assert list(rows) == ["digit", "thickness", "intensity", "image"]
    assert rows["digit"].tolist() == [0, 1, 2, 3, 4, 5]
    assert rows["thickness"].tolist() == [1, 2, 3, 4, 5, 6]
    assert rows["image"].shape == (6, 1, 32, 32)
    assert rows["image"][:, 0, 16, 16].mul(255).round().tolist() == [0, 1, 2, 3, 4, 5]
    assert rows["image"][..., :2].max() == 0
    assert rows["image"][..., -2:].max() == 0
    assert rows.noise is None


def test_morphomnist_attaches_the_raw_digits(tmp_path: Path) -> None:
    folder = write_digits(tmp_path)
    rows = data.morphomnist(folder, "train", mnist=folder)[2:4]
    assert rows.world == "morphomnist"
    assert rows.noise is not None
    noise = rows.noise["image"]
    assert isinstance(noise, dict)
    assert noise["raw"].shape == (2, 1, 28, 28)
    assert noise["label"].tolist() == [2, 3]


def test_morphomnist_refuses_raw_digits_of_other_rows(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "morpho", n=6)
    other = write_digits(tmp_path / "raw", n=5)
    with pytest.raises(ValueError, match="rows must correspond"):
        data.morphomnist(folder, mnist=other)


def test_real_morphomnist(morphomnist_root: Path, mnist_root: Path) -> None:
    rows = data.morphomnist(morphomnist_root, "test", mnist=mnist_root)
    assert rows.n == 10_000
    assert rows["thickness"][0].item() == pytest.approx(2.2673757)
    assert rows["intensity"][0].item() == pytest.approx(145.269)
    assert rows["digit"][:5].tolist() == [7, 2, 1, 0, 4]
    assert rows["image"].dtype == torch.float32
    assert 0.99 < rows["image"].max() <= 1


def test_real_mnist_is_the_one_that_would_be_downloaded(mnist_root: Path) -> None:
    rows = data.mnist(mnist_root, "test")
    assert rows["digit"][:5].tolist() == [7, 2, 1, 0, 4]
    name = "t10k-images-idx3-ubyte"
    content = gzip.decompress((mnist_root / f"{name}.gz").read_bytes())
    assert hashlib.sha256(content).hexdigest() == FILES[name]


def test_mnist_pads_to_the_size_asked_for(tmp_path: Path) -> None:
    folder = write_digits(tmp_path)
    levels = torch.arange(6.0).view(6, 1, 1, 1) / 255  # image k is all k
    for size, border in ((28, 0), (32, 2), (40, 6)):
        images = data.mnist(folder, size=size)["image"]
        padded = torch.nn.functional.pad(levels.expand(6, 1, 28, 28), [border] * 4)
        assert torch.equal(images, padded)
    with pytest.raises(ValueError, match=r"size=20: the images are larger, \(28, 28\)"):
        data.mnist(folder, size=20)


def test_validation_is_no_split_of_the_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'validation'.*rung3\.data\.split"):
        data.mnist(write_digits(tmp_path), "validation")  # type: ignore[arg-type]


def test_missing_folder_and_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        data.mnist(tmp_path / "nowhere")
    folder = write_digits(tmp_path)
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match="neither train-labels-idx1-ubyte nor"):
        data.mnist(folder)
    (folder / "t10k-morpho.csv").unlink()
    with pytest.raises(ValueError, match=r"t10k-morpho\.csv is missing"):
        data.morphomnist(folder, "test")


def test_truncated_gzip_is_refused(tmp_path: Path) -> None:
    path = write_digits(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: truncated or altered"):
        data.mnist(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(np.zeros((3, 4, 4)))[:-5], r"truncated or altered.*\(3, 4, 4\), 48 bytes, and 43"),
        (idx(np.zeros((3, 4, 4))) + b"more", "48 bytes, and 52 follow"),
        (idx(np.zeros(3)), "begins with 00 00 08 01, expected 00 00 08 03"),
        (b"\x89PNG, not IDX at all", "not an IDX file"),
        (b"", "begins with nothing"),
        (bytes([0, 0, 8, 3, 0]), "not an IDX file"),
    ],
)
def test_altered_idx_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(path, axes=3)


def test_images_and_labels_must_be_as_many(tmp_path: Path) -> None:
    folder = write_digits(tmp_path)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(5))))
    with pytest.raises(ValueError, match=r"has 6 images, but .* has 5 labels"):
        data.mnist(folder)


def test_labels_must_be_digits(tmp_path: Path) -> None:
    folder = write_digits(tmp_path)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(6) + 7)))
    with pytest.raises(ValueError, match="expected digits from 0 to 9, got 12"):
        data.mnist(folder)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"index": range(6), "thickness": 1.0}, "no column 'intensity'; it has"),
        ({"thickness": [1.0] * 5, "intensity": [1.0] * 5}, "has 5 rows, but there are 6 images"),
        ({"index": [0, 2, 1, 3, 4, 5], "thickness": 1.0, "intensity": 1.0}, "its index must run"),
        ({"thickness": ["thin"] * 6, "intensity": [1.0] * 6}, "'thickness' has values that are"),
        ({"thickness": [1.0] * 6, "intensity": [1.0] * 5 + [None]}, "'intensity' has values"),
    ],
)
def test_wrong_csv_is_refused(tmp_path: Path, table: dict[str, object], message: str) -> None:
    folder = write_digits(tmp_path)
    pd.DataFrame(table).to_csv(folder / "train-morpho.csv", index=False)
    with pytest.raises(ValueError, match=message):
        data.morphomnist(folder)


def write_table(root: Path, suffix: str = ".csv") -> Path:
    (root / "scans").mkdir()
    for k in range(3):
        pixels = np.full((6, 8), 50 * k, dtype=np.uint8)
        Pillow.fromarray(pixels).save(root / "scans" / f"{k}.png")
    frame = pd.DataFrame(
        {
            "age": [31.5, 42.0, 53.5],
            "visits": [1, 2, 3],
            "sex": ["f", "m", "f"],
            "scan": [f"scans/{k}.png" for k in range(3)],
        }
    )
    path = root / f"subjects{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_reads_numbers_categories_and_images(tmp_path: Path, suffix: str) -> None:
    rows = data.table(
        write_table(tmp_path, suffix),
        variables={
            "age": Continuous(unit="years", lower=0),
            "sex": Categorical(2, labels=("f", "m")),
            "scan": Image(1, 6, 8),
        },
    )
    assert list(rows) == ["age", "sex", "scan"]
    assert rows["age"].tolist() == [31.5, 42.0, 53.5]
    assert rows["sex"].tolist() == [0, 1, 0]
    assert rows["scan"].shape == (3, 1, 6, 8)
    assert rows["scan"][:, 0, 0, 0].mul(255).round().tolist() == [0, 50, 100]


def test_table_without_variables(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    with pytest.warns(UserWarning, match="3 of 3 image files are not 4x4"):
        rows = data.table(
            path, columns=["age", "visits"], image_column="scan", size=(4, 4), fit="crop"
        )
    assert rows["visits"].dtype == torch.int64
    assert rows["scan"].shape == (3, 1, 4, 4)


def test_table_keeps_missing_values_where_they_are_declared(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("age\n1\n\n3\n".replace("\n\n", "\nnan\n"))
    assert data.table(path)["age"].isnan().tolist() == [False, True, False]
    declared = data.table(path, variables={"age": Continuous(missing=True)})
    assert declared["age"].isnan().tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"t\.csv: age: 1 values are NaN"):
        data.table(path, variables={"age": Continuous()})


def test_table_reads_colour_and_deep_images(tmp_path: Path) -> None:
    Pillow.fromarray(np.full((4, 4, 3), (255, 0, 51), dtype=np.uint8)).save(tmp_path / "c.png")
    Pillow.fromarray(np.full((4, 4), 13107, dtype=np.uint16)).save(tmp_path / "d.png")
    for file, expected in (("c.png", [1.0, 0.0, 0.2]), ("d.png", [0.2])):
        path = tmp_path / "t.csv"
        path.write_text(f"picture\n{file}\n")
        image = data.table(path, image_column="picture")["picture"]
        assert image[0, :, 0, 0].tolist() == pytest.approx(expected)


def test_wrong_tables_are_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    with pytest.raises(ValueError, match=r"none\.csv is missing"):
        data.table(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"expected a \.csv or \.parquet file, or a \.tar"):
        data.table(tmp_path / "scans" / "0.png")
    with pytest.raises(ValueError, match="no column 'weight'; it has"):
        data.table(path, columns=["age", "weight"])
    with pytest.raises(ValueError, match="column 'sex' has values that are not numbers"):
        data.table(path, columns=["sex"])
    with pytest.raises(ValueError, match=r"sex: unknown category \['m'\]"):
        data.table(path, variables={"sex": Categorical(2, labels=("f", "x"))})
    with pytest.raises(ValueError, match=r"age: 31\.5 is outside its support"):
        data.table(path, variables={"age": Continuous(lower=40)})
    (tmp_path / "broken.parquet").write_bytes(b"not a table")
    with pytest.raises(ValueError, match=r"broken\.parquet cannot be read"):
        data.table(tmp_path / "broken.parquet")


def test_wrong_image_files_are_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    Pillow.fromarray(np.zeros((5, 5), dtype=np.uint8)).save(tmp_path / "scans" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png is \(1, 5, 5\), but .*give size="):
        data.table(path, columns=["age"], image_column="scan")
    Pillow.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(tmp_path / "scans" / "1.png")
    (tmp_path / "scans" / "2.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"2\.png cannot be read"):
        data.table(path, columns=["age"], image_column="scan")
    (tmp_path / "scans" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"scan: image file .*0\.png is missing"):
        data.table(path, columns=["age"], image_column="scan")


def test_split_divides_the_rows() -> None:
    rows = Rows({"x": torch.arange(100)}, noise={"x": torch.arange(100)}, world="w")
    train, validation = data.split(rows, validation=0.2, seed=0)
    assert (train.n, validation.n) == (80, 20)
    assert sorted([*train["x"].tolist(), *validation["x"].tolist()]) == list(range(100))
    assert train.noise is not None
    assert torch.equal(train["x"], whole(train.noise["x"]))
    assert validation.world == "w"
    repeated = data.split(rows, validation=0.2, seed=0)[1]
    other = data.split(rows, validation=0.2, seed=1)[1]
    assert torch.equal(repeated["x"], validation["x"])
    assert not torch.equal(other["x"], validation["x"])


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, 0.001])
def test_split_refuses_empty_parts(share: float) -> None:
    with pytest.raises(ValueError, match="leaves a part empty"):
        data.split(Rows({"x": torch.arange(100)}), validation=share)


def test_download_checks_what_it_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_digits(tmp_path / "mirror")
    url = source.as_uri()
    with pytest.raises(ValueError, match=r"SHA-256 of its content is .*, expected"):
        data.download_mnist(tmp_path / "mnist", url=url)
    assert list((tmp_path / "mnist").iterdir()) == []
    for name in FILES:
        content = gzip.decompress((source / f"{name}.gz").read_bytes())
        monkeypatch.setitem(FILES, name, hashlib.sha256(content).hexdigest())
    folder = data.download_mnist(tmp_path / "mnist", url=url)
    assert data.mnist(folder, "test").n == 6


def test_download_keeps_what_is_there_and_says_what_cannot_be_had(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "mnist")
    before = (folder / "train-images-idx3-ubyte.gz").read_bytes()
    data.download_mnist(folder, url=(tmp_path / "nowhere").as_uri())
    assert (folder / "train-images-idx3-ubyte.gz").read_bytes() == before
    with pytest.raises(ValueError, match=r"cannot be downloaded.*yourself"):
        data.download_mnist(tmp_path / "empty", url=(tmp_path / "nowhere").as_uri())


# What a table says, and what is read -------------------------------------------------------------


def csv(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


@pytest.mark.parametrize(
    ("labels", "cells", "codes"),
    [
        (("False", "True"), ["True", "False"], [1, 0]),
        (("NA", "None"), ["NA", "None", "NA"], [0, 1, 0]),
        (("01", "1"), ["01", "1"], [0, 1]),
        (("1", "2", "3"), ["1", "2"], [0, 1]),
        (("1.0", "1"), ["1", "1.0"], [1, 0]),
        (("yes", "no"), ["yes", "no"], [0, 1]),
    ],
)
def test_labels_are_the_text_that_the_table_holds(
    tmp_path: Path, labels: tuple[str, ...], cells: list[str], codes: list[int]
) -> None:
    path = csv(tmp_path, "\n".join(["a,x", *(f"{cell},1" for cell in cells)]))
    kinds = {"a": Categorical(len(labels), labels), "x": Continuous()}
    assert data.table(path, variables=kinds)["a"].tolist() == codes


def test_a_word_for_nothing_is_missing_where_it_is_no_label(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,x\nNA,1\nn/a,NA\nno,\n")
    kinds = {"a": Binary(labels=("no", "NA"), missing=True), "x": Continuous(missing=True)}
    rows = data.table(path, variables=kinds)
    assert rows["a"].nan_to_num(9).tolist() == [1, 9, 0]
    assert rows["x"].nan_to_num(9).tolist() == [1, 9, 9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2,3\n4,5,6\n", "Expected 2 fields in line 2, saw 3"),
        ("x,y\n1,2\n4,5,6\n", "Expected 2 fields in line 3, saw 3"),
        ("x,y\n1,2,\n4,5,\n", "Expected 2 fields in line 2, saw 3"),
        ("x,y,x\n1,2,3\n", "its header names 'x' twice"),
        ('"x,y\n' + "1,2\n" * 33_000, "its first line opens a quotation that does not end"),
        ("x,y\n1,2\n1e39,5\n", "x: 1 values are infinite, or beyond 3.4e.38, the largest of"),
        ("x,y\n1,2\n-1e300,5\n", "x: 1 values are infinite, or beyond 3.4e.38, the largest of"),
    ],
)
def test_a_table_that_would_be_read_as_another_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=f"t.csv.*{message}"):
        data.table(csv(tmp_path, text), variables={"x": Continuous(), "y": Continuous()})


def test_a_number_too_large_for_any_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x: 1e\+39 is too large for torch.float32"):
        data.table(csv(tmp_path, "x\n1e39\n0.5\n"))


def test_whole_numbers_that_are_rounded_are_named(tmp_path: Path) -> None:
    path = csv(tmp_path, "x\n16777217\n-50000000\n12\n")
    with pytest.warns(UserWarning, match=r"x: held as .*, 16777217 becomes 16777216 \(1 values\)"):
        rows = data.table(path, variables={"x": Continuous()})
    assert rows["x"].tolist() == [16777216, -50000000, 12]
    assert data.table(path)["x"].tolist() == [16777217, -50000000, 12]


def test_the_value_that_is_no_number_is_the_one_that_is_shown(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x\n1\n2\n3 mg\n")
    for variables in (None, {"x": Continuous()}):
        with pytest.raises(ValueError, match=r"'3 mg'[\])]"):
            data.table(tmp_path / "t.csv", variables=variables)


def test_whole_numbers_beyond_63_bits_do_not_turn_negative(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x\n9223372036854775808\n2\n")
    assert data.table(tmp_path / "t.csv")["x"].tolist() == [2.0**63, 2.0]
    (tmp_path / "t.csv").write_text("x\n9007199254740993\n2\n")
    with pytest.warns(UserWarning, match="9007199254740993 becomes 9007199254740992"):
        data.table(tmp_path / "t.csv", variables={"x": Continuous()})
    for other in ("", "-1"):  # a gap, a sign
        (tmp_path / "t.csv").write_text(f'x\n9223372036854775808\n"{other}"\n')
        assert data.table(tmp_path / "t.csv")["x"][0] == 2.0**63
    (tmp_path / "t.csv").write_text("x\n1e400\n2\n")
    with pytest.raises(ValueError, match=r"x: inf is too large|first: '1e400'"):  # by pandas 3, 2
        data.table(tmp_path / "t.csv")


def test_whole_numbers_beyond_63_bits_beside_gaps_stay_what_they_are() -> None:
    rows, _ = read({"x": pd.array([2**63, None, 5], dtype="UInt64")})
    assert rows["x"].tolist() == [2.0**63, 5.0]


def test_truth_values_with_gaps_are_numbers(tmp_path: Path) -> None:
    pd.DataFrame({"x": [True, None, False]}).to_parquet(tmp_path / "t.parquet")
    values = data.table(tmp_path / "t.parquet")["x"]
    torch.testing.assert_close(values, torch.tensor([1.0, torch.nan, 0.0]), equal_nan=True)


def test_dates_of_a_csv_are_days_and_their_order_must_be_clear(tmp_path: Path) -> None:
    path = csv(tmp_path, "seen,x\n1970-01-03,1\n,2\n1970-01-02T12:00+02:00,3\n")
    days = Continuous(missing=True)
    assert data.table(path, variables={"seen": days})["seen"].tolist() == pytest.approx(
        [2, float("nan"), 1 + 10 / 24], nan_ok=True
    )
    with pytest.raises(ValueError, match=r"expected numbers.*3\.1\.1970"):
        data.table(csv(tmp_path, "seen\n3.1.1970\n"), variables={"seen": days})
    with pytest.raises(ValueError, match=r"1970-02-30"):
        data.table(csv(tmp_path, "seen\n1970-01-03\n1970-02-30\n"), variables={"seen": days})
