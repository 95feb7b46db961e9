"""Magnitude images as nibabel and pydicom write them, with one bright voxel in a known place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


def marked(shape: tuple[int, int, int], mark: tuple[int, int, int]) -> npt.NDArray[np.uint16]:
    """A faint block with one bright voxel."""
    volume = np.zeros(shape, dtype=np.uint16)
    volume[1:-1, 1:-1] = 40
    volume[mark] = 900
    return volume


def dicom_slice(
    path: Path,
    plane: npt.NDArray[np.uint16],
    corner: Any,
    orientation: Any,
    spacing: tuple[float, float] = (1.5, 2.0),
    *,
    number: int = 1,
    series: str = "1.2.3",
    **about: Any,
) -> Path:
    """A single MR image; `about` sets or, with None, removes values."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = MR_IMAGE, f"{series}.{number}"
    data.SeriesInstanceUID, data.SeriesNumber, data.InstanceNumber = series, int(series.split(".")[-1]), number
    data.SeriesDescription, data.ProtocolName = "T1 mprage", "mprage_sag"
    data.Modality, data.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M"]
    data.PatientName, data.PatientID, data.PatientPosition = "Doe^Jane", "4711", "FFS"
    data.Rows, data.Columns = plane.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelSpacing = [f"{one:.6f}" for one in spacing]
    data.SliceThickness = "4"
    data.ImagePositionPatient = [f"{float(one):.8f}"[:16] for one in corner]
    data.ImageOrientationPatient = [f"{float(one):.10f}"[:16] for one in orientation]
    data.PixelData = plane.astype("<u2").tobytes()
    for keyword, value in about.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


def dicom_series(
    folder: Path, volume: npt.NDArray[np.uint16], corner: Any, orientation: Any, step: float = 4.0, **about: Any
) -> Path:
    """A folder with a file for each slice `volume[k]`, numbered against their places."""
    folder.mkdir(exist_ok=True)
    row, column = np.reshape(np.asarray(orientation, float), (2, 3))
    normal = np.cross(row, column)
    for index, plane in enumerate(volume):
        place = np.asarray(corner, float) + index * step * normal
        dicom_slice(folder / f"im{index}", plane, place, orientation, number=len(volume) - index, **about)
    return folder
