"""Small files of scans that tests make: NIfTI volumes and DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def write_nifti(path: Path, array: Array, affine: Array | None = None, **header: Any) -> Path:
    """Write numbers `(x, y, z)` as a NIfTI file."""
    import nibabel

    file = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    for name, value in header.items():
        file.header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(file, path)
    return path


def dataset(pixels: Array, **elements: Any) -> Any:
    """A DICOM picture of 12 bits, with whatever elements a test sets."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    part = Dataset()
    part.file_meta = FileMetaDataset()
    part.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    part.SOPClassUID = part.file_meta.MediaStorageSOPClassUID = CTImageStorage
    part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    part.SeriesInstanceUID, part.StudyInstanceUID = "1.2.3", "1.2"
    part.PatientID, part.Modality = "p1", "CT"
    part.Rows, part.Columns = pixels.shape
    part.SamplesPerPixel, part.PhotometricInterpretation = 1, "MONOCHROME2"
    part.BitsAllocated, part.BitsStored, part.HighBit, part.PixelRepresentation = 16, 12, 11, 0
    part.PixelSpacing = [1.0, 1.0]
    part.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    part.PixelData = pixels.astype(np.uint16).tobytes()
    for name, value in elements.items():
        setattr(part, name, value)
    return part


def write_dicom(path: Path, pixels: Array, **elements: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset(pixels, **elements).save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, volume: Array, positions: list[float], **elements: Any) -> Path:
    """Write `(slices, rows, columns)` as axial slices, in files whose names are out of order."""
    for k, (plane, z) in enumerate(zip(volume, positions, strict=True)):
        where = {
            "ImagePositionPatient": [0.0, 0.0, z],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        }
        write_dicom(folder / f"{(7 * k) % 97:02d}.dcm", plane, **(where | elements))
    return folder
