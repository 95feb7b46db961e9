"""Where the brightest voxel of a file lies in the patient, by libraries of others: nibabel, pydicom, ismrmrd."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from mri_recon.io import Geometry

Place = npt.NDArray[np.float64]


def brightest(pixels: npt.NDArray[Any]) -> tuple[int, ...]:
    """Index of the largest magnitude."""
    return tuple(int(one) for one in np.unravel_index(np.argmax(np.abs(pixels)), pixels.shape))


def place_of(geometry: Geometry, plane: tuple[int, int], slice_index: int, row: int, column: int) -> Place:
    """Place of a pixel, from the definition of `Geometry` and not by its methods: LPS, mm."""
    assert geometry.positions is not None
    assert geometry.directions is not None
    x, y, _ = geometry.voxel_size
    readout, phase, _ = np.asarray(geometry.directions)
    middle = np.asarray(geometry.positions[slice_index])
    place: Place = middle + (row - plane[0] // 2) * x * readout + (column - plane[1] // 2) * y * phase
    return place


def brightest_place(path: Path) -> Place:
    """Place (LPS, mm) of the brightest voxel of a result in DICOM, NIfTI, MRD or HDF5, as another program finds it."""
    name = path.name
    if name.endswith((".nii", ".nii.gz")):
        import nibabel

        image: Any = nibabel.load(path)
        voxel = brightest(np.asarray(image.dataobj))
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
        return np.asarray((image.affine @ [*voxel, 1])[:3] * [-1, -1, 1])
    if name.endswith(".dcm.zip"):
        import pydicom

        with zipfile.ZipFile(path) as archive:
            files = [pydicom.dcmread(io.BytesIO(archive.read(one))) for one in archive.namelist()]
        return _of_dicom(max(files, key=lambda one: float(one.pixel_array.max()) * float(one.RescaleSlope)))
    if name.endswith(".dcm"):
        import pydicom

        return _of_dicom(pydicom.dcmread(path))
    if name.endswith(".mrd"):
        import ismrmrd

        with ismrmrd.Dataset(str(path), "dataset", create_if_needed=False) as file:
            images = [file.read_image("images_0", number) for number in range(file.number_of_images("images_0"))]
        best = max(images, key=lambda one: float(np.abs(one.data).max()))
        _, _, y, x = brightest(best.data)
        steps = np.asarray(best.field_of_view) / np.asarray(best.matrix_size)
        middle = np.asarray(best.matrix_size) // 2
        return np.asarray(
            np.asarray(best.position)
            + (x - middle[0]) * steps[0] * np.asarray(best.read_dir)
            + (y - middle[1]) * steps[1] * np.asarray(best.phase_dir)
        )
    with h5py.File(path) as file:
        values = json.loads(file.attrs["geometry"])
        image = file["reconstruction"][:]
    number, row, column = brightest(image)
    readout, phase, _ = np.asarray(values["directions"])
    return np.asarray(
        np.asarray(values["positions"][number])
        + (row - image.shape[1] // 2) * values["voxel_size"][0] * readout
        + (column - image.shape[2] // 2) * values["voxel_size"][1] * phase
    )


def _of_dicom(data: Any) -> Place:
    """DICOM PS3.3 C.7.6.2.1.1."""
    pixels = data.pixel_array
    if pixels.ndim == 3:
        frame, row, column = brightest(pixels)
        shared = data.SharedFunctionalGroupsSequence[0]
        position = data.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0].ImagePositionPatient
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    else:
        row, column = brightest(pixels)
        position, orientation, spacing = data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing
    along_row, along_column = np.reshape(np.asarray(orientation, float), (2, 3))
    return np.asarray(
        np.asarray(position, float) + column * float(spacing[1]) * along_row + row * float(spacing[0]) * along_column
    )
