"""Registered magnitude images: formats, order of slices, true support, and marks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mri_recon.errors import DataError
from mri_recon.io.pictures import NO_PICTURES
from mri_recon_data import registry
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.scenes import images
from mri_recon_data.scenes.images import is_isotropic, load_slices
from mri_recon_training.evaluation.config import SimulatedArray
from mri_recon_training.evaluation.simulated import simulated_scan, simulated_sources


def _dicom(path: Path, pixels: np.ndarray, place: float, *, slope: float | None = None) -> Path:  # type: ignore[type-arg]
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.MRImageStorage, data.file_meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 0, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]  # sagittal: the normal points along -x
    data.ImagePositionPatient = [-place, 3.0, 4.0]
    if slope is not None:
        data.RescaleSlope, data.RescaleIntercept = slope, 5
    data.PixelData = pixels.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def test_a_series_is_in_the_order_of_its_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, 999, (6, 5)) for _ in range(4)]
    places = [2.0, -1.0, 7.0, 0.5]
    paths = [_dicom(tmp_path / f"{n}.dcm", *pair) for n, pair in enumerate(zip(planes, places, strict=True))]
    volume = images._read_series(paths)
    assert volume.shape == (6, 5, 4)
    for number, place in enumerate(np.argsort(places)):
        np.testing.assert_array_equal(volume[..., number], planes[place])


def test_dicom_values_are_rescaled(tmp_path: Path) -> None:
    pixels = np.arange(12).reshape(3, 4)
    volume = images._read_volume(_dicom(tmp_path / "a.dcm", pixels, 0.0, slope=2.5))
    np.testing.assert_array_equal(volume[..., 0], 2.5 * pixels + 5)


def test_nrrd_volumes_are_read(tmp_path: Path) -> None:
    nrrd = pytest.importorskip("nrrd")
    volume = np.random.default_rng(0).integers(0, 99, (5, 4, 3)).astype(np.int16)
    nrrd.write(str(tmp_path / "a.nrrd"), volume)
    np.testing.assert_array_equal(images._read_volume(tmp_path / "a.nrrd"), volume)


def test_an_incomplete_series_is_refused(tmp_path: Path) -> None:
    files = registry.files(name="head-child-mprage")[:3]
    with pytest.raises(DataError, match="expected all 192 files of the series, got 3"):
        load_slices([(file.name, tmp_path / "none.dcm") for file in files])


@pytest.mark.parametrize(
    ("name", "count", "shapes", "hidden"),
    [
        ("head-axial", 26, {(240, 256)}, True),
        ("brain-tumour", 48, {(179, 256)}, False),
        ("neck-axial", 11, {(256, 256)}, False),
        ("other-anatomy", 2, {(256, 256), (169, 242)}, False),
    ],
)
def test_new_sets(name: str, count: int, shapes: set[tuple[int, int]], hidden: bool, real_data: Path) -> None:
    assert real_data.is_dir()
    slices = load_slices([(file.name, file.path()) for file in registry.files(name=name)])
    assert len(slices) == count
    assert {one.magnitude.shape for one in slices} == shapes
    assert {one.no_pictures for one in slices} == {hidden}
    assert not is_isotropic(slices[0].source)
    assert all(0.5 < float(one.magnitude.max()) < 12 for one in slices)


def test_a_series_gives_three_orientations_and_hides_them(real_data: Path) -> None:
    assert real_data.is_dir()
    (volume,) = registry.volumes(registry.files(name="head-child-mprage"))
    slices = load_slices([(file.name, file.path()) for file in volume])
    assert Counter(one.magnitude.shape for one in slices).keys() == {(256, 256), (256, 192)}
    assert all(one.no_pictures and is_isotropic(one.source) for one in slices)
    scan = simulated_scan(*volume, array=SimulatedArray(2))
    assert scan.meta[NO_PICTURES]
    (tumour, _) = registry.files(name="brain-tumour")
    assert NO_PICTURES not in simulated_scan(tumour, array=SimulatedArray(2)).meta


def test_a_series_is_one_simulated_scan(real_data: Path) -> None:
    assert real_data.is_dir()
    names = [source.name for source in simulated_sources("train", SimulatedArray(2))]
    assert len([name for name in names if "head-child" in name]) == 1


def test_phantoms_are_no_examples(real_data: Path) -> None:
    assert real_data.is_dir()
    slices = RegistrySlices.of(registry.files(kind="phantom"))
    assert not slices.raw
    assert not slices.images


def test_image_of_an_unknown_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image reader for images/other/a.nii.gz: expected a file under one of"):
        load_slices([("images/other/a.nii.gz", tmp_path / "a.nii.gz")])
    with pytest.raises(DataError, match="expected at least one image file, got none"):
        load_slices([])


@pytest.mark.real_data
def test_registry_slices_have_their_true_support(real_data: Path) -> None:
    files = [("images/brain-ms/patient20/study2_T1W.nii.gz", real_data / "images/brain-ms/patient20/study2_T1W.nii.gz")]
    slices = load_slices(files)
    assert {piece.magnitude.shape for piece in slices} == {(166, 256)}  # 0.65 of 256 along the zero-filled axis
    assert all(0.2 < float(piece.magnitude.max()) < 10 for piece in slices)
