"""NIfTI and DICOM: what they hold, as pixels, and counterfactuals written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from rung3 import Image, data
from rung3.data.readers.dicom import read_dicom
from rung3.data.readers.nifti import read_nifti
from rung3.data.readers.scans import ScanOptions, open_scan, write_scan

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")
import scans  # noqa: E402

VOLUME = Image(1, 4, 6, 5)
RAW = ScanOptions(black=0, white=255)


def numbers(*shape: int, most: int = 256, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, most, shape)


def shipped(name: str) -> Path:
    """A file that nibabel or pydicom ships for tests."""
    if name.endswith(".dcm"):
        return Path(str(pydicom.__file__)).parent / "data" / "test_files" / name
    return Path(str(nibabel.__file__)).parent / "tests" / "data" / name


# NIfTI -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PSR", "IAR"])
def test_a_nifti_volume_is_turned_to_feet_front_right_first(tmp_path: Path, codes: str) -> None:
    ras = numbers(5, 6, 4).astype(np.uint8)  # x to the right, y to the front, z to the head
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    file = nibabel.Nifti1Image(ras, affine)
    orientation = nibabel.orientations.axcodes2ornt(tuple(codes))
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), orientation)
    turned = file.as_reoriented(turn)
    nibabel.save(turned, tmp_path / "scan.nii.gz")
    scan = read_nifti(tmp_path / "scan.nii.gz", RAW)
    assert np.array_equal(scan.voxels, ras.transpose(2, 1, 0)[:, ::-1, ::-1])
    assert scan.spacing.tolist() == [4, 3, 2]


def test_levels_are_given_or_percentiles(tmp_path: Path) -> None:
    array = np.arange(120).reshape(5, 6, 4).astype(np.int16) - 20
    array[0, 0, 0] = 30_000  # a vessel
    path = scans.write_nifti(tmp_path / "scan.nii", array)
    assert read_nifti(path, ScanOptions(black=-20, white=99)).levels == (-20, 99)
    black, white = read_nifti(path).levels
    assert -21 < black < -18
    assert white < 30_000
    value, how = read_nifti(path, ScanOptions(black=-19, white=99)).value(
        Image(1, 4, 6, 5, bits=None)
    )
    assert (float(value.min()), float(value.max()), how) == (0.0, 1.0, "")


def test_a_scaled_nifti_is_read_in_its_unit(tmp_path: Path) -> None:
    file = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    file.header.set_slope_inter(2.0, -10.0)
    nibabel.save(file, tmp_path / "scan.nii")
    assert read_nifti(tmp_path / "scan.nii").array.ravel()[:3].tolist() == [-10, -8, -6]


def test_the_files_that_nibabel_ships() -> None:
    anatomical = read_nifti(shipped("anatomical.nii"))
    assert anatomical.voxels.shape == (25, 41, 33)
    fourth = read_nifti(shipped("example4d.nii.gz"), ScanOptions(index=1))
    raw = np.asanyarray(nibabel.load(shipped("example4d.nii.gz")).dataobj)[..., 1]
    assert sorted(fourth.voxels.ravel()) == sorted(raw.ravel())
    with pytest.raises(ValueError, match=r"holds 2 volumes .* choose one with index, from 0 to 1"):
        open_scan(shipped("example4d.nii.gz"))
    with pytest.raises(ValueError, match="index=2 is none"):
        open_scan(shipped("example4d.nii.gz"), ScanOptions(index=2))
    with pytest.raises(ValueError, match="153 voxels that are NaN"):
        open_scan(shipped("resampled_anat_moved.nii"))


def _damage(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged, encrypted, or no NIfTI file"),
        (b"Salted__" + bytes(400), "damaged, encrypted, or no NIfTI file"),
        (b"\x1f\x8b" + bytes(50), "damaged, encrypted"),
    ],
)
def test_what_is_no_nifti_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = _damage(tmp_path / "a.nii.gz", content)
    with pytest.raises(ValueError, match=rf"a\.nii\.gz: .*{message}"):
        open_scan(path)


@pytest.mark.parametrize(
    ("at", "numbers_there", "message"),
    [
        (40, np.array([3, 4, -5, 6], "<i2"), r"has axes of \(4, -5, 6\) voxels"),
        (280, np.array([np.nan], "<f4"), "affine without a direction for every axis"),
        (280, np.zeros(12, "<f4"), "affine without a direction for every axis"),
    ],
)
def test_a_header_of_no_volume_is_named(
    tmp_path: Path, at: int, numbers_there: Any, message: str
) -> None:
    volume = numbers(4, 5, 6).astype(np.int16)
    content = bytearray(scans.write_nifti(tmp_path / "a.nii", volume).read_bytes())
    content[at : at + numbers_there.nbytes] = numbers_there.tobytes()
    with pytest.raises(ValueError, match=rf"b\.nii: .*{message}"):
        open_scan(_damage(tmp_path / "b.nii", bytes(content)))


def test_a_byte_that_turned_in_a_compressed_nifti_is_named(tmp_path: Path) -> None:
    path = scans.write_nifti(tmp_path / "a.nii.gz", numbers(20, 20, 20).astype(np.int16))
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of the check sum
    with pytest.raises(ValueError, match=r"a\.nii\.gz: .*truncated or damaged: CRC check failed"):
        open_scan(_damage(path, bytes(content)))


def test_a_truncated_nifti_is_named(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz"):
        path = scans.write_nifti(tmp_path / name, numbers(20, 20, 20).astype(np.int16))
        _damage(path, path.read_bytes()[:-3000])
        with pytest.raises(ValueError, match="truncated or damaged"):
            open_scan(path)
    with pytest.raises(ValueError, match=r"none\.nii is missing"):
        open_scan(tmp_path / "none.nii")
    with pytest.raises(ValueError, match=r"a\.txt: is named like no scan"):
        open_scan(_damage(tmp_path / "a.txt", b"x"))


# Slices, sizes, and back -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plane", "shape"), [("axial", (6, 5)), ("coronal", (4, 5)), ("sagittal", (4, 6))]
)
def test_a_slice_stands_upright(tmp_path: Path, plane: Any, shape: tuple[int, int]) -> None:
    array = numbers(5, 6, 4).astype(np.uint8)
    path = scans.write_nifti(tmp_path / "scan.nii", array)
    oriented = array.transpose(2, 1, 0)[:, ::-1, ::-1]
    options = ScanOptions(0, 255, plane, at=0.5)
    value, how = open_scan(path, options).value(Image(1, *shape))
    cut = {"axial": oriented[2], "coronal": oriented[::-1, 2], "sagittal": oriented[::-1, :, 2]}
    assert torch.equal(value[0], torch.from_numpy(cut[plane] / 255).float())
    assert how == ""
    last = open_scan(path, ScanOptions(0, 255, "axial", at=1.0)).value(Image(1, 6, 5))[0]
    assert torch.equal(last[0], torch.from_numpy(oriented[3] / 255).float())


def test_millimetres_keep_the_aspect(tmp_path: Path) -> None:
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    path = scans.write_nifti(tmp_path / "scan.nii", np.full((4, 8, 8), 7.0, np.float32), affine)
    value, how = open_scan(path, ScanOptions(0, 7)).value(Image(1, 8, 8, 8))  # 8 x 8 x 8 mm
    assert value.min() == 1
    assert how == "8x8x4, resized"
    with pytest.raises(ValueError, match=r"another aspect than 8x8x4; declare fit='crop' or fit"):
        open_scan(path, ScanOptions(0, 7)).value(Image(1, 8, 8, 4))
    padded, how = open_scan(path, ScanOptions(0, 7)).value(Image(1, 8, 8, 16, fit="pad"))
    assert how == "8x8x4, padded and resized"
    assert padded[0, 0, 0].tolist() == [0] * 4 + [1] * 8 + [0] * 4
    cropped, _ = open_scan(path, ScanOptions(0, 7)).value(Image(1, 8, 8, 4, fit="crop"))
    assert cropped.min() == 1


def test_masks_are_resized_to_labels(tmp_path: Path) -> None:
    mask = (numbers(9, 9, 9, most=2)).astype(np.uint8)
    path = scans.write_nifti(tmp_path / "mask.nii", mask)
    value, _ = open_scan(path, ScanOptions(0, 1)).value(Image(1, 6, 6, 6, bits=1))
    assert set(value.unique().tolist()) == {0.0, 1.0}


def test_a_null_counterfactual_writes_the_same_file_back(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 2.0, -9], [-1.5, 0, 0, 3], [0, 1, 0, 7], [0, 0, 0, 1]])
    array = numbers(11, 9, 10, most=3000).astype(np.int16)
    path = scans.write_nifti(tmp_path / "scan.nii.gz", array, affine, xyzt_units=10)
    image = Image(1, 6, 6, 6, fit="crop")
    value = open_scan(path).value(image)[0]
    out = write_scan(tmp_path / "out" / "same.nii.gz", path, value, value, image, note="nothing")
    written, before = nibabel.load(out), nibabel.load(path)
    assert np.array_equal(np.asanyarray(written.dataobj), array)
    assert np.allclose(written.affine, affine)
    assert written.header["descrip"].item() == b"rung3: nothing"
    assert written.get_data_dtype() == np.int16
    for field in ("xyzt_units", "pixdim", "sform_code", "qform_code"):
        assert np.array_equal(written.header[field], before.header[field])


def test_a_counterfactual_is_written_on_the_grid_of_its_scan(tmp_path: Path) -> None:
    array = np.full((8, 12, 8), 100.0, np.float32)
    path = scans.write_nifti(tmp_path / "scan.nii", array)
    image, options = Image(1, 4, 4, 4, fit="crop"), ScanOptions(0, 200)
    before = open_scan(path, options).value(image)[0]
    after = before.clone()
    after[:, 2:] = 1.0  # the upper half: white
    write_scan(tmp_path / "out.nii", path, before, after, image, options, "do(v=1)")
    written = np.asanyarray(nibabel.load(tmp_path / "out.nii").dataobj)
    assert np.allclose(written[:, 2:10, 6:], 200, atol=1)
    assert np.allclose(written[:, 2:10, :2], 100)
    assert np.array_equal(written[:, :2], array[:, :2])  # cropped away
    cut = ScanOptions(0, 200, "axial", at=0.0)
    flat = Image(1, 12, 8)
    before = open_scan(path, cut).value(flat)[0]
    write_scan(tmp_path / "cut.nii", path, before, before - before, flat, cut)
    written = np.asanyarray(nibabel.load(tmp_path / "cut.nii").dataobj)
    assert np.allclose(written[..., 0], 0, atol=0.5)
    assert np.array_equal(written[..., 1:], array[..., 1:])
    with pytest.raises(ValueError, match="is the scan itself"):
        write_scan(path, path, before, before, flat, cut)


def test_scaled_numbers_and_4d_files_are_written_as_they_were(tmp_path: Path) -> None:
    options = ScanOptions(index=1)
    image = Image(1, 12, 48, 64, bits=None, fit="crop")
    value = open_scan(shipped("example4d.nii.gz"), options).value(image)[0]
    out = write_scan(
        tmp_path / "a.nii.gz", shipped("example4d.nii.gz"), value, value, image, options
    )
    before, after = nibabel.load(shipped("example4d.nii.gz")), nibabel.load(out)
    assert np.allclose(before.get_fdata(), after.get_fdata())
    assert after.header.extensions == before.header.extensions
    file = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    file.header.set_slope_inter(0.5, 100.0)
    nibabel.save(file, tmp_path / "scaled.nii")
    image, options = Image(1, 4, 3, 2, bits=None), ScanOptions(100, 200)
    value = open_scan(tmp_path / "scaled.nii", options).value(image)[0]
    write_scan(tmp_path / "b.nii", tmp_path / "scaled.nii", value, value + 0.1, image, options)
    written = nibabel.load(tmp_path / "b.nii")
    assert np.allclose(written.get_fdata(), np.arange(24).reshape(2, 3, 4) * 0.5 + 110)
    assert (written.dataobj.slope, written.dataobj.inter) == (0.5, 100.0)


# DICOM -------------------------------------------------------------------------------------------


def test_a_radiograph_is_read_through_slope_intercept_and_window(tmp_path: Path) -> None:
    stored = np.array([[0, 100, 200], [300, 400, 4095]])
    path = scans.write_dicom(
        tmp_path / "a.dcm", stored, RescaleSlope=2, RescaleIntercept=-100,
        WindowCenter=[300.5, 1], WindowWidth=[401, 1],
    )  # fmt: skip
    scan = read_dicom(path)
    assert scan.array[0].tolist() == [[-100, 100, 300], [500, 700, 8090]]
    assert scan.levels == (100, 500)
    value, _ = scan.value(Image(1, 2, 3, bits=None))
    assert value[0].tolist() == [[0, 0, 0.5], [1, 1, 1]]


def test_inverted_pixels_are_turned(tmp_path: Path) -> None:
    stored = np.array([[0, 4095], [1000, 3095]])
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    for more, options in ((window, None), ({}, ScanOptions(0, 4095)), ({}, None)):
        path = scans.write_dicom(
            tmp_path / "IM0001", stored, PhotometricInterpretation="MONOCHROME1", **more
        )
        value, _ = open_scan(path, options).value(Image(1, 2, 2, bits=None))
        near = 0.02 if not more and options is None else 1e-6  # percentiles
        assert value[0].numpy() == pytest.approx(1 - stored / 4095, abs=near)


def test_a_series_is_sorted_by_position_into_a_volume(tmp_path: Path) -> None:
    volume = numbers(5, 6, 4, most=4096)
    at = [-3.0 + 2.5 * k for k in range(5)]
    scan = open_scan(scans.write_series(tmp_path / "s", volume, at))
    assert np.array_equal(scan.voxels, volume)  # axial DICOM lies as our volumes do
    assert scan.spacing.tolist() == [2.5, 1, 1]
    down = open_scan(scans.write_series(tmp_path / "down", volume[::-1], at[::-1]))
    assert np.array_equal(down.voxels, volume)
    sagittal = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    for k, plane in enumerate(volume):
        scans.write_dicom(
            tmp_path / "x" / f"{k}.dcm", plane, ImagePositionPatient=[3.0 * k, 0, 0], **sagittal
        )
    turned = open_scan(tmp_path / "x")  # slices to the left, rows to the feet, columns to the back
    assert np.array_equal(turned.voxels, volume.transpose(1, 2, 0)[::-1])
    assert turned.spacing.tolist() == [1, 1, 3]


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([0, 1, 3, 4], r"lacks 1 of its slices between 07\.dcm, at 1 mm, and 14\.dcm: 2 mm are 2"),
        ([0, 1, 5, 6, 7], r"lacks 3 of its slices between 07\.dcm"),
        ([0, 1, 2, 3.4], r"mixed spacings: 1\.4 mm between 14\.dcm, at 2 mm, and 21\.dcm, where 1"),
        ([0, 1, 1, 2], r"two slices at one position: 07\.dcm and 14\.dcm, at 1 mm"),
        ([0], r"holds one slice, 00\.dcm"),
    ],
)
def test_gaps_of_a_series_are_named(tmp_path: Path, positions: list[float], message: str) -> None:
    folder = scans.write_series(tmp_path / "s", numbers(len(positions), 4, 4), positions)
    with pytest.raises(ValueError, match=message):
        open_scan(folder)


def test_slices_of_another_kind_are_named(tmp_path: Path) -> None:
    def folder(name: str, **other: Any) -> Path:
        paths = scans.write_series(tmp_path / name, numbers(3, 4, 4), [0, 1, 2])
        where = {"ImagePositionPatient": [0, 0, 3.0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        scans.write_dicom(paths / "zz.dcm", numbers(4, 4), **(where | other))
        return paths

    for name, other, message in (
        ("uid", {"SeriesInstanceUID": "9.9"}, r"holds 2 series, 1\.2\.3 \(3 files\), 9\.9"),
        ("person", {"PatientID": "p2"}, r"holds 2 patients, p1 \(3 files\), p2 \(1 files\); put"),
        ("spacing", {"PixelSpacing": [2, 2]}, r"zz\.dcm: its PixelSpacing is \[2"),
        ("turned", {"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, r"ImageOrientationPatient is"),
        ("place", {"ImagePositionPatient": None}, r"zz\.dcm has no ImagePositionPatient"),
        ("slope", {"RescaleSlope": 0}, r"zz\.dcm has the RescaleSlope 0 .* correct its header"),
    ):
        with pytest.raises(ValueError, match=message):
            open_scan(folder(name, **other))
    note = tmp_path / "uid" / "notes.txt"
    note.write_text("x")
    with pytest.raises(ValueError, match=r"notes\.txt is damaged, encrypted, or no DICOM"):
        open_scan(tmp_path / "uid")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no files"):
        open_scan(tmp_path / "empty")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, "PhotometricInterpretation is MONOCHROME1"),
        ({"RescaleType": "HU"}, "RescaleType is HU, and that of 00.dcm None"),
        ({"ImagePositionPatient": [0.5, 0, 1]}, "07.dcm by 0.5 mm against 00.dcm, 1 mm away"),
        ({"PixelSpacing": [1, 0]}, "PixelSpacing"),
    ],
)
def test_slices_that_do_not_belong_together_are_named(
    tmp_path: Path, tags: dict[str, Any], message: str
) -> None:
    paths = scans.write_series(tmp_path / "s", numbers(3, 4, 4), [0, 1, 2])
    part = pydicom.dcmread(paths / "07.dcm")
    for key, value in tags.items():
        setattr(part, key, value)
    part.save_as(paths / "07.dcm")
    with pytest.raises(ValueError, match=message):
        open_scan(paths)


def test_slices_that_ask_for_windows_of_their_own_share_the_widest(tmp_path: Path) -> None:
    folder = scans.write_series(tmp_path / "s", numbers(3, 4, 4), [0, 1, 2])
    for k in range(3):
        part = pydicom.dcmread(folder / f"{7 * k:02d}.dcm")
        part.WindowCenter, part.WindowWidth = 100 + 10 * k, 51
        part.save_as(folder / f"{7 * k:02d}.dcm")
    (folder / ".DS_Store").write_bytes(b"not a slice")
    assert open_scan(folder).levels == (74.5, 144.5)


def test_empty_numbers_of_a_header_are_as_if_they_were_absent(tmp_path: Path) -> None:
    path = scans.write_dicom(tmp_path / "a.dcm", numbers(4, 4), PixelSpacing=None)
    part = pydicom.dcmread(path)
    part.add_new("RescaleSlope", "DS", "")
    part.add_new("RescaleIntercept", "DS", "")
    part.save_as(path)
    scan = open_scan(path)
    assert np.array_equal(scan.array[0], numbers(4, 4))
    assert scan.spacing.tolist() == [1, 1]


def test_compressed_files_are_read_or_say_what_to_install(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import MPEG2MPML, JPEGLSLossless, RLELossless

    path = scans.write_dicom(tmp_path / "a.dcm", numbers(8, 8))
    part = pydicom.dcmread(path)
    part.compress(RLELossless)
    part.save_as(tmp_path / "rle.dcm")
    assert np.array_equal(open_scan(tmp_path / "rle.dcm").array[0], numbers(8, 8))
    for syntax, cure in ((JPEGLSLossless, "pip install 'pylibjpeg"), (MPEG2MPML, "; decompress")):
        part = pydicom.dcmread(path)
        part.file_meta.TransferSyntaxUID = syntax
        part.PixelData = encapsulate([b"none of these"])
        part["PixelData"].is_undefined_length = True
        part.save_as(tmp_path / "b.dcm")
        with pytest.raises(ValueError, match=rf"b\.dcm is compressed as {syntax.name}") as caught:
            open_scan(tmp_path / "b.dcm")
        assert cure in str(caught.value)
        assert "\n" not in str(caught.value)


def test_tables_of_levels_and_real_numbers_are_refused(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    path = scans.write_dicom(tmp_path / "a.dcm", numbers(4, 4))
    part = pydicom.dcmread(path)
    part.ModalityLUTSequence = [Dataset()]
    part.save_as(tmp_path / "b.dcm")
    with pytest.raises(ValueError, match="ModalityLUTSequence"):
        open_scan(tmp_path / "b.dcm")
    part = pydicom.dcmread(path)
    del part.PixelData
    part.FloatPixelData = numbers(4, 4).astype(np.float32).tobytes()
    part.save_as(tmp_path / "c.dcm")
    with pytest.raises(ValueError, match="real numbers as pixels"):
        open_scan(tmp_path / "c.dcm")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "compressed as JPEG-LS Lossless .* cannot be decoded"),
        ("MR_truncated.dcm", r"MR_truncated\.dcm has damaged or missing pixels"),
        ("rtplan.dcm", r"holds no pixels \(RT Plan Storage\)"),
        ("examples_rgb_color.dcm", "is in colour"),
        ("no_meta.dcm", "damaged, encrypted, or no DICOM file"),
        ("rtdose.dcm", "holds 15 frames; choose one with index, from 0 to 14"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_scan(shipped(name))


def test_compressed_pictures_are_those_that_were_compressed() -> None:
    plain = open_scan(shipped("MR_small.dcm"))
    for name in ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_bigendian.dcm"):
        assert np.array_equal(open_scan(shipped(name)).array, plain.array)


def test_a_derived_picture_says_so(tmp_path: Path) -> None:
    source = shipped("CT_small.dcm")
    image, options = Image(1, 64, 64), ScanOptions(-1000, 1000)
    before = open_scan(source, options).value(image)[0]
    same = pydicom.dcmread(
        write_scan(tmp_path / "same.dcm", source, before, before, image, options)
    )
    original = pydicom.dcmread(source)
    assert np.array_equal(same.pixel_array, original.pixel_array)
    assert same.SOPInstanceUID != original.SOPInstanceUID
    assert same.file_meta.MediaStorageSOPInstanceUID == same.SOPInstanceUID
    assert same.SeriesInstanceUID != original.SeriesInstanceUID
    assert same.StudyInstanceUID == original.StudyInstanceUID
    assert same.ImageType[:2] == ["DERIVED", original.ImageType[1]]
    assert same.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert same.DerivationDescription == "rung3: counterfactual"
    tags = ("PatientID", "ImagePositionPatient", "PixelSpacing", "RescaleIntercept", "BitsStored")
    assert all(same.get(key) == original.get(key) for key in tags)
    after = (before + 0.1).clamp(0, 1)
    write_scan(tmp_path / "more.dcm", source, before, after, image, options, "do(x=1)")
    more = open_scan(tmp_path / "more.dcm", options)
    inside = open_scan(source, options).array
    moved = (more.array - inside)[(inside > -900) & (inside < 700)]
    assert moved.mean() == pytest.approx(200, abs=5)


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"])
def test_compressed_and_inverted_pictures_are_written_back(tmp_path: Path, name: str) -> None:
    image = Image(1, 64, 64)
    value = open_scan(shipped(name)).value(image)[0]
    out = write_scan(tmp_path / "a.dcm", shipped(name), value, value, image)
    assert np.array_equal(open_scan(out).array, open_scan(shipped(name)).array)
    inverted = scans.write_dicom(
        tmp_path / "b.dcm", numbers(8, 8, most=4096), PhotometricInterpretation="MONOCHROME1"
    )
    value = open_scan(inverted).value(Image(1, 8, 8))[0]
    white = torch.ones_like(value)
    write_scan(tmp_path / "c.dcm", inverted, value, white, Image(1, 8, 8))
    written = open_scan(tmp_path / "c.dcm").array  # the least number is white
    assert written.max() <= 40  # of 4095, within a level of eight bits


def test_a_series_is_written_back_as_a_series(tmp_path: Path) -> None:
    volume = numbers(4, 6, 5, most=4096)
    source = scans.write_series(tmp_path / "s", volume, [3.0, 2.0, 1.0, 0.0])
    options = ScanOptions(0, 4095)
    before = open_scan(source, options).value(VOLUME)[0]
    after = before.clone()
    after[:, 0] = 0  # the lowest slice
    write_scan(tmp_path / "out", source, before, after, VOLUME, options, "do(x=0)")
    written = open_scan(tmp_path / "out", options)
    assert np.abs(written.voxels[0]).max() <= 4095 / 255 / 2 + 1
    assert np.array_equal(written.voxels[1:], volume[::-1][1:])
    parts = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").iterdir())]
    assert len({part.SOPInstanceUID for part in parts}) == 4
    assert {part.SeriesInstanceUID for part in parts} != {"1.2.3"}
    assert len({part.SeriesInstanceUID for part in parts}) == 1


# In tables ---------------------------------------------------------------------------------------


def test_a_table_names_scans_as_it_names_pictures(tmp_path: Path) -> None:
    for k in range(3):
        scans.write_nifti(
            tmp_path / "t1" / f"{k}.nii.gz", numbers(8, 8, 8, seed=k).astype(np.int16)
        )
        scans.write_series(tmp_path / "ct" / f"{k}", numbers(4, 4, 4, seed=k), [0, 1, 2, 3])
    lines = [f"{60 + k},t1/{k}.nii.gz,ct/{k}" for k in range(3)]
    (tmp_path / "t.csv").write_text("\n".join(["age,brain,chest", *lines]))
    variables = {"brain": Image(1, 8, 8), "chest": Image(1, 4, 4, 4)}
    options = {"brain": ScanOptions(0, 255, "axial"), "chest": RAW}
    rows = data.table(tmp_path / "t.csv", variables=variables, scans=options)
    assert rows["brain"].shape == (3, 1, 8, 8)
    direct = open_scan(tmp_path / "ct" / "1", RAW).value(Image(1, 4, 4, 4))[0]
    assert torch.equal(rows["chest"][1], direct)
    with pytest.warns(
        UserWarning, match=r"brain: 3 of 3 scans are not 4x4 \(first: .*8x8, resized"
    ):
        data.table(tmp_path / "t.csv", variables={"brain": Image(1, 4, 4)}, scans=options)
    with pytest.raises(ValueError, match=r"brain: .*0\.nii\.gz has 8x8x8 voxels, .* which plane"):
        data.table(tmp_path / "t.csv", variables={"brain": Image(1, 8, 8)})
    with pytest.raises(ValueError, match="say with variables= what Image they are"):
        data.table(tmp_path / "t.csv", columns=["age"], image_column="brain")
    (tmp_path / "gap.csv").write_text("age,brain\n60,\n61,t1/1.nii.gz")
    with pytest.raises(ValueError, match="1 of 2 rows name no scan, row 0 first"):
        data.table(tmp_path / "gap.csv", variables={"brain": Image(1, 8, 8)}, scans=options)
    Pictures.fromarray(numbers(8, 8, most=4096).astype(np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "deep.csv").write_text("brain\ndeep.png")
    levels = {"brain": ScanOptions(0, 4095)}
    deep = data.table(tmp_path / "deep.csv", variables={"brain": Image(1, 8, 8)}, scans=levels)
    assert deep["brain"].max() > 0.9
    out = write_scan(tmp_path / "out.png", tmp_path / "deep.png", deep["brain"][0],
                     deep["brain"][0], Image(1, 8, 8), levels["brain"], "nothing")  # fmt: skip
    with Pictures.open(out) as same, Pictures.open(tmp_path / "deep.png") as before:
        assert np.array_equal(np.asarray(same), np.asarray(before))
        assert same.info["Description"] == "rung3: nothing"
    (tmp_path / "png.csv").write_text("brain\na.png")
    with pytest.raises(ValueError, match=r"a volume is read from NIfTI or DICOM, and .*a\.png"):
        data.table(tmp_path / "png.csv", variables={"brain": VOLUME})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"black": 1}, "expected two different numbers"),
        ({"black": 1, "white": 1}, "expected two different numbers"),
        ({"plane": "oblique"}, "expected one of axial, coronal, sagittal"),
        ({"at": 1.5}, "at=1.5 must lie between 0 and 1"),
        ({"index": -1}, "index=-1 must be at least 0"),
    ],
)
def test_options_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScanOptions(**fields)
