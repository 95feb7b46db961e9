"""A bright voxel stays where it is in the patient, through every format that holds a place."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mri_recon._arrays import center_crop
from mri_recon.errors import FormatError, OutputError
from mri_recon.io import Geometry, Scan, check_holds, convert, load, save, save_scan
from mri_recon.io.geometry import make_geometry
from mri_recon.masks.draw import random_mask
from mri_recon.reconstruction import Reconstruction, reconstruct
from mri_recon.transforms.fourier import fft2c
from tests.support.oblique import oblique

pydicom = pytest.importorskip("pydicom", reason="the extra 'clinical' is not installed")
nibabel = pytest.importorskip("nibabel", reason="the extra 'clinical' is not installed")

PLANE, SIZE = (13, 10), (9, 8)
CORNER = (3, 8)  # row and column of the bright pixel: near a corner of the cropped image, none of its axes alike
NUM_SLICES = 3
BRIGHT = 2  # its slice

needs_dciodvfy = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="Debian's dicom3tools is not installed")


def _scan(folder: Path, geometry: Geometry | None, num_slices: int = NUM_SLICES) -> tuple[Scan, Reconstruction]:
    """A scan of one bright voxel over a faint ramp, and its image, both larger than the image to write."""
    image = torch.zeros(num_slices, 1, *PLANE, dtype=torch.complex64)
    image += 0.01 * torch.arange(PLANE[1])
    image[BRIGHT % num_slices, 0, CORNER[0], CORNER[1]] = 5 - 2j
    path = folder / "scan.h5"
    save_scan(path, fft2c(image), recon_size=SIZE, geometry=geometry, acquisition="AXT1", patient_id="p\\1")
    scan = load(path)
    mask = random_mask(scan.width, 1, seed=0, support=scan.support)
    return scan, reconstruct(scan.kspace, mask, method="zero-filled")


def _place(geometry: Geometry, number: int) -> np.ndarray:
    """Where the bright voxel is: `affine` of the whole plane, whose numbers test_geometry checks."""
    corner = geometry.corners(PLANE)[number]
    directions = np.asarray(geometry.directions)
    return (
        np.asarray(corner)
        + CORNER[0] * geometry.voxel_size[0] * directions[0]
        + CORNER[1] * geometry.voxel_size[1] * directions[1]
    )


def _brightest(pixels: np.ndarray) -> tuple[int, ...]:
    return tuple(int(one) for one in np.unravel_index(np.argmax(np.abs(pixels)), pixels.shape))


def _dicom_place(position: Any, orientation: Any, spacing: Any, row: int, column: int) -> np.ndarray:
    """DICOM PS3.3 C.7.6.2.1.1."""
    along_row, along_column = np.reshape(np.asarray(orientation, float), (2, 3))
    return np.asarray(position, float) + column * float(spacing[1]) * along_row + row * float(spacing[0]) * along_column


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_enhanced_dicom(order: list[int], tmp_path: Path) -> None:
    geometry = oblique(3).of_slices(order)
    scan, result = _scan(tmp_path, geometry)
    save(tmp_path / "a.dcm", result, scan)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    pixels = data.pixel_array
    assert pixels.shape == (3, *SIZE)
    frame, row, column = _brightest(pixels)
    assert frame == BRIGHT
    shared = data.SharedFunctionalGroupsSequence[0]
    place = _dicom_place(
        data.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0].ImagePositionPatient,
        shared.PlaneOrientationSequence[0].ImageOrientationPatient,
        shared.PixelMeasuresSequence[0].PixelSpacing,
        row,
        column,
    )
    np.testing.assert_allclose(place, _place(geometry, BRIGHT), atol=1e-4)
    slope = float(shared.PixelValueTransformationSequence[0].RescaleSlope)
    assert pixels.max() * slope == pytest.approx(float(result.magnitude.max()), rel=1e-4)
    ranks = [one.FrameContentSequence[0].InStackPositionNumber for one in data.PerFrameFunctionalGroupsSequence]
    assert [order[one] for one in np.argsort(ranks)] == [order[one] for one in np.argsort(order)]
    assert float(shared.PixelMeasuresSequence[0].SpacingBetweenSlices) == pytest.approx(5.0)


def test_a_series_of_dicom_files(tmp_path: Path) -> None:
    geometry = oblique(3)
    scan, result = _scan(tmp_path, geometry)
    save(tmp_path / "a.dcm.zip", result, scan)
    with zipfile.ZipFile(tmp_path / "a.dcm.zip") as archive:
        files = [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    pixels = np.stack([one.pixel_array * float(one.RescaleSlope) for one in files])
    np.testing.assert_allclose(pixels[BRIGHT].max(), result.magnitude.max(), rtol=1e-4)
    frame, row, column = _brightest(pixels)
    one = files[frame]
    place = _dicom_place(one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing, row, column)
    np.testing.assert_allclose(place, _place(geometry, BRIGHT), atol=1e-4)
    assert len({one.SOPInstanceUID for one in files}) == 3
    assert len({one.SeriesInstanceUID for one in files}) == len({one.StudyInstanceUID for one in files}) == 1
    assert [int(one.InstanceNumber) for one in files] == [1, 2, 3]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0]])
def test_nifti(suffix: str, order: list[int], tmp_path: Path) -> None:
    geometry = oblique(3).of_slices(order)
    scan, result = _scan(tmp_path, geometry)
    save(tmp_path / f"a{suffix}", result, scan)
    image = nibabel.load(tmp_path / f"a{suffix}")
    voxel = _brightest(np.asarray(image.dataobj))
    place = _place(geometry, BRIGHT) * [-1, -1, 1]  # RAS
    for affine in (image.affine, image.get_qform(), image.get_sform()):
        np.testing.assert_allclose((affine @ [*voxel, 1])[:3], place, atol=1e-4)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    beside = json.loads((tmp_path / "a.json").read_bytes())
    assert beside["SliceThickness"] == 5.0
    assert beside["ReconstructionMethod"] == "zero-filled"
    assert "not for diagnosis" in beside["Notice"]
    assert beside.get("SlicesOfTheScan") == (None if order == [0, 1, 2] else [2, 0, 1])


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="Debian's dcm2niix is not installed")
@pytest.mark.parametrize("suffix", [".dcm", ".dcm.zip"])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_a_converter_of_others_finds_the_voxel_in_its_place(suffix: str, order: list[int], tmp_path: Path) -> None:
    """`dcm2niix` reads both kinds of DICOM, sorts the slices itself and applies the slope."""
    geometry = oblique(3).of_slices(order)
    scan, result = _scan(tmp_path, geometry)
    folder = tmp_path / "dicom"
    folder.mkdir()
    save(tmp_path / f"a{suffix}", result, scan)
    if suffix == ".dcm":
        shutil.move(tmp_path / "a.dcm", folder / "a.dcm")
    else:
        with zipfile.ZipFile(tmp_path / "a.dcm.zip") as archive:
            archive.extractall(folder)
    done = ["dcm2niix", "-f", "x", "-b", "n", str(folder)]
    subprocess.run(done, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    image = nibabel.load(folder / "x.nii")
    data = np.asarray(image.dataobj)
    place = (image.affine @ [*_brightest(data), 1])[:3]
    np.testing.assert_allclose(place, _place(geometry, BRIGHT) * [-1, -1, 1], atol=1e-4)
    assert data.max() == pytest.approx(float(result.magnitude.max()), rel=1e-4)


def test_nifti_and_dicom_have_one_affine(tmp_path: Path) -> None:
    scan, result = _scan(tmp_path, oblique(3, gap=0.7))
    save(tmp_path / "a.nii", result, scan)
    save(tmp_path / "a.dcm", result, scan)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    shared = data.SharedFunctionalGroupsSequence[0]
    measures, plane = shared.PixelMeasuresSequence[0], shared.PlaneOrientationSequence[0].ImageOrientationPatient
    corners = [one.PlanePositionSequence[0].ImagePositionPatient for one in data.PerFrameFunctionalGroupsSequence]
    affine = nibabel.load(tmp_path / "a.nii").affine
    for row, column, number in [(0, 0, 0), (8, 0, 1), (0, 7, 2), (5, 3, 2)]:
        place = _dicom_place(corners[number], plane, measures.PixelSpacing, row, column) * [-1, -1, 1]
        np.testing.assert_allclose((affine @ [row, column, number, 1])[:3], place, atol=1e-4)


def test_mrd_images(tmp_path: Path) -> None:
    geometry = oblique(3)
    scan, result = _scan(tmp_path, geometry)
    save(tmp_path / "a.mrd", result, scan)
    with h5py.File(tmp_path / "a.mrd") as file:
        raw, headers = file["dataset/images_0/data"][()], file["dataset/images_0/header"][()]
    data = raw["real"] + 1j * raw["imag"]
    assert data.shape == (3, 1, 1, SIZE[1], SIZE[0])
    number, _, _, y, x = _brightest(data)
    header = headers[number]
    spacing = header["field_of_view"] / header["matrix_size"]
    place = header["position"].astype(float)
    place += (x - SIZE[0] // 2) * spacing[0] * header["read_dir"] + (y - SIZE[1] // 2) * spacing[1] * header[
        "phase_dir"
    ]
    np.testing.assert_allclose(place, _place(geometry, BRIGHT), atol=1e-4)
    assert data[number, 0, 0, y, x] == pytest.approx(5 - 2j, rel=1e-4)
    assert raw.dtype.names == ("real", "imag")


def test_mrd_images_are_read_by_the_ismrmrd_package(tmp_path: Path) -> None:
    ismrmrd = pytest.importorskip("ismrmrd", reason="the package ismrmrd is not installed")
    scan, result = _scan(tmp_path, oblique(3))
    save(tmp_path / "a.mrd", result, scan)
    with ismrmrd.Dataset(str(tmp_path / "a.mrd"), "dataset", create_if_needed=False) as file:
        assert file.number_of_images("images_0") == 3
        image = file.read_image("images_0", BRIGHT)
        header = ismrmrd.xsd.CreateFromDocument(file.read_xml_header())
    assert tuple(image.matrix_size) == (SIZE[0], SIZE[1], 1)
    assert list(image.position) == pytest.approx(oblique(3).positions[BRIGHT], abs=1e-4)  # type: ignore[index]
    assert image.meta["DataRole"] == "Image"
    assert "not for diagnosis" in image.meta["ImageComment"]
    assert header.encoding[0].reconSpace.matrixSize.x == SIZE[0]


def test_hdf5_results_hold_the_geometry(tmp_path: Path) -> None:
    scan, result = _scan(tmp_path, oblique(3))
    save(tmp_path / "a.h5", result, scan)
    with h5py.File(tmp_path / "a.h5") as file:
        assert make_geometry(json.loads(file.attrs["geometry"])) == oblique(3)


def test_the_map_of_trust_is_a_second_series_at_the_same_place(tmp_path: Path) -> None:
    scan, result = _scan(tmp_path, oblique(3))
    bound = torch.rand(result.magnitude.shape, generator=torch.Generator().manual_seed(0))
    result = Reconstruction(result.image, result.method, result.info, bound)
    save(tmp_path / "a.dcm.zip", result, scan)
    with zipfile.ZipFile(tmp_path / "a.dcm.zip") as archive:
        files = {name: pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()}
    image, trust = files["DICOM/IM000002"], files["TRUST/IM000002"]
    assert len(files) == 6
    assert image.StudyInstanceUID == trust.StudyInstanceUID
    assert image.FrameOfReferenceUID == trust.FrameOfReferenceUID
    assert image.SeriesInstanceUID != trust.SeriesInstanceUID
    assert image.ImagePositionPatient == trust.ImagePositionPatient
    assert trust.SeriesDescription.startswith("MAP OF TRUST")
    assert "not for diagnosis" in trust.ImageComments
    expected = center_crop(bound, SIZE)[1].numpy()
    np.testing.assert_allclose(trust.pixel_array * float(trust.RescaleSlope), expected, atol=1e-4)
    save(tmp_path / "a.mrd", result, scan)
    with h5py.File(tmp_path / "a.mrd") as file:
        np.testing.assert_allclose(file["dataset/images_1/data"][1, 0, 0].T, expected, rtol=1e-6)
        assert (file["dataset/images_1/header"]["position"] == file["dataset/images_0/header"]["position"]).all()
        assert b"Map of trust" in file["dataset/images_1/attributes"][0]


def test_bart_files(tmp_path: Path) -> None:
    scan, result = _scan(tmp_path, oblique(3))
    save(tmp_path / "a.cfl", result, scan)
    dims = list(map(int, (tmp_path / "a.hdr").read_text().splitlines()[1].split()))
    assert dims == [*PLANE, *[1] * 11, 3, 1, 1]
    data = np.fromfile(tmp_path / "a.cfl", "<c8").reshape(dims, order="F")
    np.testing.assert_array_equal(np.moveaxis(data.squeeze(), -1, 0), result.image.numpy())


@needs_dciodvfy
@pytest.mark.parametrize("num_slices", [1, 3])
@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("like", [False, True])
def test_dciodvfy_finds_no_error(num_slices: int, placed: bool, like: bool, tmp_path: Path) -> None:
    scan, result = _scan(tmp_path, oblique(num_slices) if placed else None, num_slices)
    other = _accompanying(tmp_path) if like else None
    save(tmp_path / "a.dcm", result, scan, like=other)
    save(tmp_path / "b.dcm.zip", result, scan, like=other)
    with zipfile.ZipFile(tmp_path / "b.dcm.zip") as archive:
        (tmp_path / "b.dcm").write_bytes(archive.read(archive.namelist()[0]))
    for name in ("a.dcm", "b.dcm"):
        done = subprocess.run(["dciodvfy", str(tmp_path / name)], capture_output=True, text=True, check=False)
        told = done.stderr.splitlines()
        kind = {(True, 1): "MRImage", (True, 3): "EnhancedMRImage", (False, 1): "SCImage"}
        expected = kind.get((placed, num_slices if name == "a.dcm" else 1), "MultiframeGrayscaleWordSCImage")
        assert expected in told
        assert not [line for line in told if line.startswith("Error")]


def _accompanying(folder: Path) -> Path:
    """An image of the same examination, as a scanner stores it."""
    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.5"
    data.SpecificCharacterSet = "ISO_IR 100"
    data.PatientName, data.PatientID, data.PatientSex = "Müller^Anna", "4711", "F"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", "1.2.3.1", "1.2.3.9"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20240301", "101500", "77", "A1"
    data.Manufacturer, data.ManufacturerModelName, data.EchoTime = "SIEMENS", "Prisma", "27.5"
    data.ScanningSequence, data.SequenceVariant, data.RepetitionTime = "SE", "SK", "2750"
    data.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    data.ImagePositionPatient = [1, 2, 3]
    data.add_new(0x00091001, "LO", "private")
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    pydicom.dcmwrite(folder / "like.dcm", data, enforce_file_format=True)
    return folder / "like.dcm"


def test_patient_and_study_are_taken_over_and_nothing_else(tmp_path: Path) -> None:
    scan, result = _scan(tmp_path, oblique(1), 1)
    save(tmp_path / "a.dcm", result, scan, like=_accompanying(tmp_path))
    data = pydicom.dcmread(tmp_path / "a.dcm")
    assert str(data.PatientName) == "Müller^Anna"
    assert (data.PatientID, data.StudyInstanceUID, data.FrameOfReferenceUID) == ("4711", "1.2.3", "1.2.3.9")
    assert (data.ScanningSequence, float(data.EchoTime), data.Manufacturer) == ("SE", 27.5, "SIEMENS")
    assert data.SeriesInstanceUID != "1.2.3.1"
    assert data.SOPInstanceUID != "1.2.3.4.5"
    assert list(data.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
    np.testing.assert_allclose(data.ImagePositionPatient, oblique(1).corners(SIZE)[0], atol=1e-4)
    assert 0x00091001 not in data
    with pytest.raises(FormatError, match=r"expected a DICOM image, got scan.h5, which is none"):
        save(tmp_path / "b.dcm", result, scan, like=tmp_path / "scan.h5")


def test_how_the_image_was_made_is_in_the_file(tmp_path: Path) -> None:
    scan, result = _scan(tmp_path, oblique(1), 1)
    mask = random_mask(10, 2, num_low_frequencies=2, seed=3)
    save(tmp_path / "a.dcm", result, scan, mask)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    for part in ("zero-filled", "R = 2 requested", "seed 3", "source scan.h5", "mri-recon", "not for diagnosis"):
        assert part in data.DerivationDescription
    item = data.ContributingEquipmentSequence[0]
    assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert item.SoftwareVersions.startswith("mri-recon")
    assert "RESEARCH ONLY" in data.SeriesDescription
    assert data.PatientID == "p/1"
    again = tmp_path / "b.dcm"
    save(again, result, scan, mask)
    assert pydicom.dcmread(again).SOPInstanceUID != data.SOPInstanceUID


def test_without_a_known_place_none_is_written(tmp_path: Path) -> None:
    scan, result = _scan(tmp_path, Geometry((1.5, 2.0, 5.0)))
    assert "no known place" in save(tmp_path / "a.dcm", result, scan)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    assert "ImagePositionPatient" not in data
    assert [float(one) for one in data.NominalScannedPixelSpacing] == [1.5, 2.0]
    assert data.pixel_array.shape == (3, *SIZE)
    assert "no known place" in save(tmp_path / "a.nii", result, scan)
    header = nibabel.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    np.testing.assert_allclose(header.get_zooms(), (1.5, 2.0, 5.0))


def test_sides_that_nobody_checked_are_told_in_every_file(tmp_path: Path) -> None:
    scan, result = _scan(tmp_path, replace(oblique(3), sides_assumed=True))
    for suffix in (".dcm", ".dcm.zip", ".nii", ".mrd"):
        assert "Left and right, front and back are not verified" in save(tmp_path / f"a{suffix}", result, scan)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    assert "SIDES UNVERIFIED" in data.SeriesDescription
    assert "compare one image with the scanner's own" in data.ImageComments
    assert "not verified" in json.loads((tmp_path / "a.json").read_bytes())["OrientationNote"]
    assert convert(tmp_path / "scan.h5", tmp_path / "b.mrd") == ""
    again = load(tmp_path / "b.mrd").geometry
    assert again is not None
    assert again.sides_assumed
    assert load(tmp_path / "scan.h5").geometry == replace(oblique(3), sides_assumed=True)


def test_what_these_formats_cannot_hold(tmp_path: Path) -> None:
    twice = oblique(3).of_slices([0, 1, 1]).as_dict()
    with pytest.raises(OutputError, match="expected parallel slices at equal distances for NIfTI"):
        check_holds("a.nii", (3, 9, 8), {"geometry": twice})
    check_holds("a.dcm", (3, 9, 8), {"geometry": twice})
    with pytest.raises(OutputError, match="holds at most 65535 rows and columns, the image has 70000 x 2: choose .h5"):
        check_holds("a.dcm", (1, 70000, 2), {})
    image = torch.full((1, 3, 4), float("nan"))
    with pytest.raises(OutputError, match="DICOM cannot hold NaN"):
        save(tmp_path / "a.dcm", Reconstruction(image, "unet"))
    save(tmp_path / "zeros.dcm", Reconstruction(torch.zeros(1, 3, 4), "unet"))
    assert not pydicom.dcmread(tmp_path / "zeros.dcm").pixel_array.any()


def test_a_missing_library_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["mri_recon.io.save"], "find_spec", lambda name: None)
    for name in ("a.dcm", "a.nii.gz"):
        with pytest.raises(OutputError, match=r"it is not installed: pip install 'mri-recon\[clinical\]'"):
            check_holds(name, (1, 3, 4), {})
    check_holds("a.h5", (1, 3, 4), {})


def test_a_file_beside_never_replaces_the_scan(tmp_path: Path) -> None:
    scan, result = _scan(tmp_path, oblique(3))
    (tmp_path / "a.json").symlink_to(tmp_path / "scan.h5")
    with pytest.raises(OutputError, match="which the scan was loaded from"):
        save(tmp_path / "a.nii", result, scan)
    assert not (tmp_path / "a.nii").exists()
