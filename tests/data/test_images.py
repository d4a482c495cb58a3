"""What is read of image files: their levels, sizes and channels; and which are refused."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from rung3 import SCM, Binary, Continuous, Image, data
from rung3.explorer.uploads import decode
from rung3.mechanisms import VAE, Equation

Array = np.ndarray[Any, Any]


def numbers(most: int, size: tuple[int, ...] = (6, 8), dtype: str = "u1") -> Array:
    """Whole numbers from 0 to `most`, both among them."""
    drawn = np.random.default_rng(most).integers(0, most + 1, size)
    drawn.flat[:2] = 0, most
    return drawn.astype(dtype)


def read(folder: Path, image: Image | None, *files: str, **options: Any) -> Tensor:
    """The values of files that a table names."""
    path = folder / "table.csv"
    path.write_text("scan\n" + "\n".join(files) + "\n")
    variables = None if image is None else {"scan": image}
    return data.table(path, variables=variables, image_column="scan", **options)["scan"]


def save(folder: Path, pixels: Array, name: str = "scan.png", **options: Any) -> str:
    Pillow.fromarray(pixels).save(folder / name, **options)
    return name


@pytest.mark.parametrize(
    ("bits", "stored", "white"),
    [
        (8, numbers(255), 255),
        (16, numbers(65535, dtype="u2"), 65535),
        (12, numbers(4095, dtype="u2"), 4095),
        (12, numbers(1163, dtype="u2"), 4095),
        (12, numbers(4095, dtype="i4"), 4095),
        (10, numbers(1000, dtype="i4"), 1023),
        (8, numbers(255, dtype="u2"), 255),
        (16, numbers(255), 255),
        (8, 257 * numbers(255, dtype="u2"), 65535),
        (12, np.rint(numbers(4095, dtype="f8") / 4095 * 65535).astype("u2"), 65535),
        (1, numbers(1), 1),
        (1, 255 * numbers(1), 255),
        (1, numbers(1).astype(bool), 1),
        (2, 85 * numbers(3), 255),
        (2, numbers(3), 3),
        (8, (numbers(255) / 255).astype("f4"), 1),
        (None, np.random.default_rng(0).random((6, 8)).astype("f4"), 1),
        (None, numbers(255), 255),
        (None, numbers(65535, dtype="u2"), 65535),
    ],
)
def test_what_is_there_is_read_on_the_declared_levels(
    tmp_path: Path, bits: int | None, stored: Array, white: int
) -> None:
    image = Image(1, 6, 8, bits=bits)
    file = save(tmp_path, stored, "scan.tif")
    value = read(tmp_path, image, file)[0, 0]
    half = 0 if bits is None else 0.5 / (2**bits - 1)
    torch.testing.assert_close(
        value, torch.tensor(stored / white).float(), atol=half * 0.51 + 1e-7, rtol=0
    )
    assert torch.equal(image.nearest(value), value)


@pytest.mark.parametrize(
    ("bits", "stored", "message"),
    [
        (8, numbers(4095, dtype="u2"), "numbers up to 4095 that are not the levels of bits=8"),
        (1, numbers(254), "numbers up to 254 .*; declare the bits .* or bits=8"),
        (8, numbers(1000, dtype="i4"), "numbers up to 1000 .*; declare the bits it was stored"),
        (None, numbers(1000, dtype="i4"), "32-bit numbers up to 1000"),
        (8, numbers(1000, dtype="f4"), "numbers from 0 to 1000; expected 0 to 1: shift and scale"),
        (None, numbers(1000, dtype="f4"), "numbers from 0 to 1000; expected 0 to 1"),
        (12, numbers(3000, dtype="i4") - 1000, "numbers from -1000 to 2000; expected 0 to 4095"),
        (None, numbers(3000, dtype="f4") - 1000, "numbers from -1000 to 2000"),
        (None, np.full((6, 8), np.nan, "f4"), "numbers from nan to nan"),
        (
            8,
            np.random.default_rng(0).random((6, 8)).astype("f4"),
            "numbers that are not multiples of 1/255",
        ),
    ],
)
def test_what_has_no_place_on_the_declared_levels_is_refused_with_the_cure(
    tmp_path: Path, bits: int | None, stored: Array, message: str
) -> None:
    file = save(tmp_path, stored, "scan.tif")
    with pytest.raises(ValueError, match=rf"^scan: image file .*scan\.tif holds {message}"):
        read(tmp_path, Image(1, 6, 8, bits=bits), file)


def test_codes_and_the_whole_range_are_not_mixed(tmp_path: Path) -> None:
    codes = save(tmp_path, numbers(1), "codes.png")
    spread = save(tmp_path, 255 * numbers(1), "range.png")
    black = save(tmp_path, 0 * numbers(1), "black.png")
    mask = Image(1, 6, 8, bits=1)
    assert torch.equal(read(tmp_path, mask, codes, black), read(tmp_path, mask, spread, black))
    with pytest.raises(ValueError, match=r"codes\.png .* and those of .*range\.png go beyond"):
        read(tmp_path, mask, codes, spread)


def tiff(pixels: Array, order: str) -> bytes:
    """An uncompressed TIFF of unsigned 16-bit grey, in a byte order: `<` or `>`."""
    height, width = pixels.shape
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, height), (279, 2 * pixels.size)]
    body = pixels.astype(f"{order}u2").tobytes()
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body))
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags]
    return head + body + struct.pack(f"{order}H", len(tags)) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize("size", [(6, 8), (3, 4), (9, 12)])
def test_the_order_of_bytes_does_not_matter(tmp_path: Path, size: tuple[int, int]) -> None:
    for order in "<>":
        (tmp_path / f"{order}.tif").write_bytes(tiff(numbers(4095, dtype="u2"), order))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = read(tmp_path, Image(1, *size, bits=12), "<.tif", ">.tif")
    assert torch.equal(one, other)


@pytest.mark.parametrize("bits", [1, 3, 8, 12, None])
@pytest.mark.parametrize("size", [(4, 4), (7, 7), (16, 16), (16, 9)])
def test_resized_images_lie_on_their_levels_so_that_nothing_changes_them(
    tmp_path: Path, bits: int | None, size: tuple[int, int]
) -> None:
    file = save(
        tmp_path, numbers(2 ** (bits or 8) - 1, (12, 12), "u1" if (bits or 8) < 9 else "u2")
    )
    image = Image(1, *size, bits=bits, fit="pad")
    with pytest.warns(UserWarning, match=r"1 of 1 image files are not .*12x12, (padded and )?res"):
        value = read(tmp_path, image, file)
    assert torch.equal(image.validate("scan", value), image.nearest(value))
    if bits == 1:  # by nearest neighbour: nothing is between
        assert set(value.unique().tolist()) == {0, 1}


def test_a_null_intervention_changes_nothing_that_was_read(tmp_path: Path) -> None:
    files = [save(tmp_path, numbers(4095 - k, (8, 8), "u2"), f"{k}.png") for k in range(3)]
    image = Image(1, 8, 8, bits=12)
    model = SCM("t -> scan", {"scan": image}, {"scan": VAE(latent=2, width=4, depth=1)}).eval()
    rows = {"t": torch.arange(3.0), "scan": read(tmp_path, image, *files)}
    with torch.no_grad():
        assert torch.equal(model.counterfactual(rows, do={}, seed=0)["scan"], rows["scan"])
        unchanged = model.counterfactual(rows, do={"t": rows["t"]}, seed=0)["scan"]
    assert torch.equal(unchanged, rows["scan"])


def test_other_sizes_keep_their_aspect_as_the_variable_says(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8), "u1")
    pixels[:, 2:6] = 255
    file = save(tmp_path, pixels)
    with pytest.warns(UserWarning, match=r"scan: 1 of 1 .* not 4x4 .*4x8, cropped and resized"):
        assert (read(tmp_path, Image(1, 4, 4, fit="crop"), file) == 1).all()
    with pytest.warns(UserWarning, match="4x8, padded and resized"):
        padded = read(tmp_path, Image(1, 8, 8, fit="pad"), file)[0, 0]
    assert torch.equal(padded[2:6], torch.tensor(pixels / 255).float())
    assert padded[:2].max() == padded[6:].max() == 0
    with pytest.warns(UserWarning, match="4x8, resized"):
        read(tmp_path, Image(1, 2, 4), file)
    with pytest.raises(ValueError, match=r"has 4x8 pixels, another aspect than 4x4; declare fit='"):
        read(tmp_path, Image(1, 4, 4), file)
    with pytest.raises(ValueError, match="another aspect than 4x4"):
        read(tmp_path, None, file, size=(4, 4))
    with pytest.warns(UserWarning, match="cropped"):
        assert read(tmp_path, None, file, size=(4, 4), fit="crop").shape == (1, 1, 4, 4)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_images_are_turned_as_their_exif_orientation_says(
    tmp_path: Path, orientation: int, turns: int, dtype: str
) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    pixels = numbers(255 if dtype == "u1" else 65535, dtype=dtype)
    upright = np.rot90(pixels, turns)
    file = save(tmp_path, pixels, exif=exif)
    height, width = upright.shape
    value = read(tmp_path, Image(1, height, width, bits=8 if dtype == "u1" else 16), file)
    white = np.iinfo(dtype).max
    assert torch.equal((value[0, 0] * white).round(), torch.tensor(upright.astype("f4")))


def test_transparent_pixels_are_refused_and_opaque_ones_are_not(tmp_path: Path) -> None:
    drawing = Pillow.new("RGBA", (8, 6), (255, 255, 255, 0))
    for mode in ("RGBA", "LA"):
        drawing.convert(mode).save(tmp_path / "drawing.png")
        for image in (None, Image(1, 6, 8), Image(3, 6, 8)):
            with pytest.raises(
                ValueError, match=r"drawing\.png has transparent pixels; save it on"
            ):
                read(tmp_path, image, "drawing.png")
    drawing.putalpha(255)
    drawing.save(tmp_path / "drawing.png")
    assert (read(tmp_path, Image(1, 6, 8), "drawing.png") == 1).all()


def test_colours_become_grey_only_with_a_note(tmp_path: Path) -> None:
    grey = np.repeat(numbers(255)[..., None], 3, axis=2)
    coloured = grey.copy()
    coloured[0, 0] = 200, 0, 0
    files = [save(tmp_path, grey, "grey.png"), save(tmp_path, coloured, "red.png")]
    with pytest.warns(UserWarning, match=r"1 of 2 image files are in colour.*grey \(first: .*red"):
        one, other = read(tmp_path, Image(1, 6, 8), *files)
    assert torch.equal(one[0], torch.tensor(grey[..., 0] / 255).float())
    assert torch.equal(other[0, 1:], one[0, 1:])
    assert other[0, 0, 0].item() == pytest.approx(60 / 255)  # 0.299 x 200
    assert read(tmp_path, Image(3, 6, 8), "red.png")[0, :, 0, 0].mul(255).tolist() == [200, 0, 0]


def png(width: int, height: int, kind: int = 0, depth: int = 8) -> bytes:
    """The header of a PNG, and next to nothing after it."""

    def chunk(tag: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + tag
            + content
            + struct.pack(">I", zlib.crc32(tag + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(height * (1 + width * 6)) if width < 99 else b""))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def several() -> bytes:
    out = io.BytesIO()
    frames = [Pillow.fromarray(numbers(k)) for k in (9, 99)]
    frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def saved(form: str) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(numbers(255)).save(out, form)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(20_000, 20_000), r"cannot be read: .*400000000 pixels\) exceeds limit"),
        (png(10_000, 10_000), r"cannot be read: .*100000000 pixels\) exceeds limit"),
        (png(8, 6, kind=2, depth=16), "holds colours of 16 bits, of which 8 can be read"),
        (b"P6 1 1 1023 " + b"\x03\xff" * 3, "holds colours of 10 bits, of which 8 can be read"),
        (several(), "holds 2 pictures; expected one"),
        (b"", "cannot be read: not a PNG, JPEG, "),
        (saved("PNG")[:20], "cannot be read"),
        (saved("TIFF")[:9], "cannot be read"),
        (saved("JPEG")[:30], "cannot be read"),
        (saved("BMP")[:16], "cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "scan.png").write_bytes(content)
    for image in (None, Image(1, 6, 8)):
        with pytest.raises(ValueError, match=rf"^scan: image file .*scan\.png {message}"):
            read(tmp_path, image, "scan.png")


def test_damaged_files_are_refused_by_one_kind_of_error(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for form in ("PNG", "TIFF", "BMP", "GIF", "PPM", "WEBP", "JPEG"):
        whole = saved(form)
        for k in range(15):
            content = bytearray(whole[: draw.integers(1, len(whole))] if k % 2 else whole)
            for at in draw.integers(0, min(len(content), 60), 3):
                content[at] = draw.integers(256)
            (tmp_path / "scan.png").write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    read(tmp_path, Image(1, 6, 8), "scan.png")
                except ValueError as error:
                    assert str(error).startswith(f"scan: image file {tmp_path}/scan.png ")  # noqa: PT017


def test_no_other_program_is_started_whatever_a_file_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr("subprocess.Popen.__init__", started)
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\nshowpage\n"
    for name in ("scan.png", "scan.eps"):
        (tmp_path / name).write_bytes(drawing)
        with pytest.raises(ValueError, match=rf"{name} cannot be read: not a PNG, JPEG, "):
            read(tmp_path, Image(1, 6, 8), name)


@pytest.mark.parametrize("cell", ["", '""', "  "])
def test_a_row_without_a_file_is_refused_or_missing(tmp_path: Path, cell: str) -> None:
    save(tmp_path, numbers(255))
    path = tmp_path / "t.csv"
    path.write_text(f"age,scan\n1,scan.png\n2,{cell}\n")
    message = r"^scan: 1 of 2 rows name no image file, row 1 first; .* missing=True"
    for variables in ({"scan": Image(1, 6, 8)}, None):
        with pytest.raises(ValueError, match=message):
            data.table(path, variables=variables, image_column="scan", columns=["scan"])
    kinds = {"age": Continuous(), "scan": Image(1, 6, 8, missing=True)}
    rows = data.table(path, variables=kinds)
    assert kinds["scan"].is_missing(rows["scan"]).tolist() == [False, True]


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("age,scan\n")
    with pytest.raises(ValueError, match=r"t\.csv has no rows"):
        data.table(tmp_path / "t.csv", variables={"scan": Image(1, 6, 8)})


def test_several_image_columns_are_read_each_as_its_own(tmp_path: Path) -> None:
    for k in range(2):
        save(tmp_path, numbers(4095 - k, dtype="u2"), f"t1-{k}.png")
        save(tmp_path, numbers(255 - k, (3, 4)), f"t2-{k}.png")
        save(tmp_path, 255 * numbers(1), f"mask-{k}.png")
    lines = [f"t1-{k}.png,{k},t2-{k}.png,mask-{k}.png" for k in range(2)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["t1,sick,t2,mask", *lines]))
    kinds = {"t1": Image(1, 6, 8, bits=12), "mask": Image(1, 6, 8, bits=1), "t2": Image(1, 3, 4)}
    rows = data.table(path, variables={**kinds, "sick": Binary()})
    assert {name: rows[name].shape[1:] for name in kinds} == {k: v.shape for k, v in kinds.items()}
    assert torch.equal(rows["t1"][1, 0].mul(4095).round(), torch.tensor(numbers(4094, dtype="f4")))
    plain = data.table(path, columns=["sick"], image_column=["t1", "t2"])
    assert (plain["t1"].shape, plain["t2"].shape) == ((2, 1, 6, 8), (2, 1, 3, 4))


def test_a_column_that_is_declared_otherwise_is_no_image(tmp_path: Path) -> None:
    save(tmp_path, numbers(255))
    (tmp_path / "t.csv").write_text("scan\nscan.png\n")
    message = re.escape("scan is Continuous(), and an image_column; declare it an Image")
    with pytest.raises(ValueError, match=message):
        data.table(tmp_path / "t.csv", variables={"scan": Continuous()}, image_column="scan")
    with pytest.raises(ValueError, match="images of 2 channels have no file type"):
        data.table(tmp_path / "t.csv", variables={"scan": Image(2, 6, 8)})


def test_equations_of_images_answer_on_levels_or_are_told(tmp_path: Path) -> None:
    """Their answers come back as rows."""
    equation = Equation(lambda u: u.clamp(0, 1), noise="Uniform(0, 1)")
    rows = SCM("scan", {"scan": Image(1, 2, 2)}, {"scan": equation}).sample(3, seed=0)
    with pytest.raises(ValueError, match=r"scan: .* not multiples of 1/255, .* or declare other"):
        SCM("scan", {"scan": Image(1, 2, 2)}).counterfactual(rows, do={})


@pytest.mark.parametrize(
    ("bits", "stored"),
    [(12, numbers(4095, dtype="u2")), (8, numbers(255)), (1, 255 * numbers(1)), (1, numbers(1))],
)
def test_uploads_are_read_by_the_same_rules(tmp_path: Path, bits: int, stored: Array) -> None:
    image, file = Image(1, 6, 8, bits=bits), save(tmp_path, stored)
    given = decode((tmp_path / file).read_bytes(), "scan", image)
    assert torch.equal(given, read(tmp_path, image, file)[0])
    mask = Image(1, 6, 8, bits=1)
    with pytest.raises(ValueError, match=r"^scan: holds numbers .* declare the bits"):
        decode((tmp_path / save(tmp_path, numbers(201))).read_bytes(), "scan", mask)
