"""Magnitude images of users: read with their place, refused with a reason; the mark stays where it was."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_recon.errors import FormatError
from tests.support.oblique import ROTATION
from tests.support.places import brightest, place_of

nibabel = pytest.importorskip("nibabel", reason="the extra 'clinical' is not installed")
pydicom = pytest.importorskip("pydicom", reason="the extra 'clinical' is not installed")

from mri_recon_data.magnitudes.images import read_images  # noqa: E402
from tests.data.magnitudes.files import dicom_series, dicom_slice, marked  # noqa: E402

AXIAL = (1, 0, 0, 0, 1, 0)
OBLIQUE = (*ROTATION[1], *ROTATION[0])  # the direction of a row, then that of a column
RAS = np.array([-1, -1, 1])


def _nifti(path: Path, volume: Any, affine: Any, **header: Any) -> Path:
    image = nibabel.Nifti1Image(volume, affine)
    image.header.set_xyzt_units(header.pop("unit", "mm"))
    image.set_sform(affine, code=header.pop("sform", 1))
    image.set_qform(affine, code=header.pop("qform", 1), strip_shears=True)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def _oblique_affine(flip: int = 1) -> Any:
    affine = np.eye(4)
    affine[:3, :3] = (ROTATION.T * [1.5, 2.0, 5.0 * flip]) * RAS[:, None]
    affine[:3, 3] = [12, -31, 8]
    return affine


def _found(images: Any) -> Any:
    """Place of the bright voxel by the geometry."""
    number, row, column = brightest(images.magnitude)
    return place_of(images.geometry, images.magnitude.shape[1:], number, row, column)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("flip", [1, -1])
def test_a_voxel_of_nifti_stays_where_it_is(suffix: str, flip: int, tmp_path: Path) -> None:
    volume = marked((9, 8, 3), (7, 2, 1))
    path = _nifti(tmp_path / f"a{suffix}", volume, _oblique_affine(flip))
    images = read_images(path)
    assert images.magnitude.shape == (3, 9, 8)
    np.testing.assert_array_equal(images.magnitude, np.moveaxis(volume, -1, 0))
    np.testing.assert_allclose(_found(images), (_oblique_affine(flip) @ [7, 2, 1, 1])[:3] * RAS, atol=1e-4)
    assert images.geometry is not None
    assert images.geometry.voxel_size == pytest.approx((1.5, 2.0, 5.0))
    assert (images.geometry.sides_assumed, images.notes) == (False, ())


@given(
    shape=st.tuples(st.integers(3, 7), st.integers(3, 7), st.integers(1, 4)),
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    sizes=st.tuples(*[st.floats(0.3, 8)] * 3),
    mirrored=st.booleans(),
    axes=st.permutations([0, 1, 2]),
    named=st.booleans(),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_affine(
    shape: Any, angles: Any, sizes: Any, mirrored: bool, axes: list[int], named: bool, data: Any, tmp_path_factory: Any
) -> None:
    """Random oblique affines, mirrored ones, and axes that `dim_info` names."""
    mark = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    a, b, c = angles
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    tip = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    spin = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tip @ spin @ np.diag(sizes) @ np.diag([1, 1, -1 if mirrored else 1])
    affine[:3, 3] = [-20.5, 7.25, 100]
    volume = marked(shape, mark)
    image = nibabel.Nifti1Image(volume, affine)
    image.set_sform(affine, code=1)
    readout, phase, slices = axes if named else (0, 1, 2)
    if named:
        image.header.set_dim_info(readout, phase, slices)
    path = tmp_path_factory.mktemp("any") / "a.nii"
    nibabel.save(image, path)
    images = read_images(path)
    assert images.magnitude.shape == (shape[slices], shape[readout], shape[phase])
    np.testing.assert_allclose(_found(images), (affine @ [*mark, 1])[:3] * RAS, atol=1e-3)


def test_what_the_header_and_the_json_beside_say(tmp_path: Path) -> None:
    volume = marked((9, 8, 3), (7, 2, 1))
    path = _nifti(tmp_path / "a.nii.gz", volume, _oblique_affine())
    beside = {"PatientPosition": "HFP", "PhaseEncodingDirection": "i-", "SeriesDescription": "T2 tse"}
    (tmp_path / "a.json").write_text(json.dumps(beside))
    images = read_images(path)
    assert images.magnitude.shape == (3, 8, 9)  # phase is the first axis
    assert images.geometry is not None
    assert (images.geometry.patient_position, images.acquisition) == ("HFP", "T2 tse")
    np.testing.assert_allclose(_found(images), (_oblique_affine() @ [7, 2, 1, 1])[:3] * RAS, atol=1e-4)
    for broken in ("{", "[1]", '{"PatientPosition": 7, "PhaseEncodingDirection": ["j"]}'):
        (tmp_path / "a.json").write_text(broken)
        assert read_images(path).magnitude.shape == (3, 9, 8)


def test_places_that_are_not_known_or_of_a_template(tmp_path: Path) -> None:
    volume = marked((9, 8, 3), (7, 2, 1))
    images = read_images(_nifti(tmp_path / "a.nii", volume, np.diag([1.5, 2, 5, 1]), sform=0, qform=0))
    assert images.geometry is not None
    assert (images.geometry.known, images.geometry.voxel_size) == (False, (1.5, 2.0, 5.0))
    assert "both codes are 0" in images.notes[0]
    assert "code 4" in read_images(_nifti(tmp_path / "b.nii", volume, _oblique_affine(), sform=4)).notes[0]
    skewed = _oblique_affine()
    skewed[:3, 1] += 0.4 * skewed[:3, 0]
    images = read_images(_nifti(tmp_path / "c.nii", volume, skewed))
    assert images.geometry is not None
    assert not images.geometry.known
    assert "skewed" in images.notes[0]
    metres = _nifti(tmp_path / "d.nii", volume, _scaled(), unit="meter")
    np.testing.assert_allclose(_found(read_images(metres)), (_oblique_affine() @ [7, 2, 1, 1])[:3] * RAS, atol=1e-3)


def _scaled() -> Any:
    affine = _oblique_affine()
    affine[:3] *= 1e-3
    return affine


def test_slices_that_are_sheared_against_each_other_keep_their_places(tmp_path: Path) -> None:
    affine = _oblique_affine()
    affine[:3, 2] += 0.3 * affine[:3, 0]
    volume = marked((9, 8, 3), (7, 2, 2))
    images = read_images(_nifti(tmp_path / "a.nii", volume, affine, qform=0))
    np.testing.assert_allclose(_found(images), (affine @ [7, 2, 2, 1])[:3] * RAS, atol=1e-4)


def test_one_volume_is_chosen(tmp_path: Path) -> None:
    several = np.stack([marked((9, 8, 3), (7, 2, 1)), marked((9, 8, 3), (2, 5, 0))], axis=-1)
    path = _nifti(tmp_path / "a.nii", several, _oblique_affine())
    with pytest.raises(
        FormatError, match=r"expected one volume in a.nii, got 2: choose one with --volume, from 0 to 1"
    ):
        read_images(path)
    np.testing.assert_array_equal(read_images(path, volume=1).magnitude, np.moveaxis(several[..., 1], -1, 0))
    with pytest.raises(FormatError, match="expected a volume from 0 to 1 of a.nii, got 2"):
        read_images(path, volume=2)
    with pytest.raises(FormatError, match="expected no --series for a.nii"):
        read_images(path, series="1")
    flat = _nifti(tmp_path / "flat.nii", several[..., 0, 0], _oblique_affine())
    assert read_images(flat).magnitude.shape == (1, 9, 8)


def test_nifti_that_holds_no_magnitudes(tmp_path: Path) -> None:
    volume = marked((9, 8, 3), (7, 2, 1)).astype(np.float32)
    refused = {
        "complex": (
            volume * np.complex64(1j),
            "expected real magnitudes in complex.nii, got numbers of the type complex64",
        ),
        "signed": (volume - 100, "has values from -100 to 800: it is a phase"),
        "zero": (0 * volume, "the largest of zero.nii is 0"),
        "nan": (np.where(volume > 500, np.nan, volume), "has NaN or infinite values"),
    }
    for name, (content, told) in refused.items():
        with pytest.raises(FormatError, match=told):
            read_images(_nifti(tmp_path / f"{name}.nii", content.astype(content.dtype), np.eye(4)))
    images = read_images(_nifti(tmp_path / "under.nii", np.where(volume == 0, -3, volume), np.eye(4)))
    assert images.magnitude.min() == 0
    assert "values down to -3" in images.notes[0]
    (tmp_path / "text.txt").write_text("no image")
    with pytest.raises(FormatError, match=r"expected a magnitude image in NIfTI .* got text.txt, which is neither"):
        read_images(tmp_path / "text.txt")
    with pytest.raises(FormatError, match="found nothing at"):
        read_images(tmp_path / "none.nii")


def test_a_small_nifti_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "a.nii", marked((9, 8, 3), (7, 2, 1)), np.eye(4))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(FormatError, match="expected at most"):
        read_images(path)
    content[42:48] = np.array([1000, 1000, 1000], "<i2").tobytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(FormatError, match="decompression bomb"):
        read_images(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE, (0, 1, 0, 0, 0, -1)])
@pytest.mark.parametrize("along", ["ROW", "COL", None])
def test_a_voxel_of_a_dicom_series_stays_where_it_is(orientation: Any, along: str | None, tmp_path: Path) -> None:
    volume = marked((3, 9, 8), (2, 7, 1))
    about = {} if along is None else {"InPlanePhaseEncodingDirection": along}
    folder = dicom_series(tmp_path / "series", volume, (-7, 11, 3), orientation, **about)
    images = read_images(folder)
    expected = volume.transpose(0, 2, 1) if along == "COL" else volume
    np.testing.assert_array_equal(images.magnitude, expected)
    row, column = np.reshape(np.asarray(orientation, float), (2, 3))
    place = np.array([-7, 11, 3]) + 2 * 4 * np.cross(row, column) + 1 * 2.0 * row + 7 * 1.5 * column
    np.testing.assert_allclose(_found(images), place, atol=1e-4)
    assert images.geometry is not None
    assert images.geometry.voxel_size == ((2.0, 1.5, 4.0) if along == "COL" else (1.5, 2.0, 4.0))
    assert (images.geometry.patient_position, images.acquisition, len(images.files)) == ("FFS", "mprage_sag", 3)
    one = read_images(folder / "im1")
    assert one.magnitude.shape == ((1, 8, 9) if along == "COL" else (1, 9, 8))


def test_slope_and_files_without_a_place(tmp_path: Path) -> None:
    plane = marked((1, 9, 8), (0, 7, 1))[0]
    path = dicom_slice(tmp_path / "a", plane, (0, 0, 0), AXIAL, RescaleSlope="0.5", RescaleIntercept="10")
    np.testing.assert_array_equal(read_images(path).magnitude[0], plane * 0.5 + 10)
    path = dicom_slice(tmp_path / "b", plane, (0, 0, 0), AXIAL, ImagePositionPatient=None)
    images = read_images(path)
    assert images.geometry is not None
    assert not images.geometry.known
    assert images.notes == ("the files have no place in the patient",)
    path = dicom_slice(tmp_path / "c", plane, (0, 0, 0), AXIAL, PixelSpacing=None)
    assert read_images(path).geometry is None


def test_a_folder_with_several_series(tmp_path: Path) -> None:
    volume = marked((3, 9, 8), (2, 7, 1))
    dicom_series(tmp_path / "s", volume, (0, 0, 0), AXIAL)
    dicom_slice(tmp_path / "s" / "other", volume[2], (0, 0, 0), AXIAL, series="1.2.9", SeriesDescription="T2")
    (tmp_path / "s" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "s" / "notes.txt").write_text("no image")
    told = r"one series in the folder s, got 2: choose one with --series NUMBER, among 3 \('T1 mprage', 3 files\); 9"
    with pytest.raises(FormatError, match=told):
        read_images(tmp_path / "s")
    assert read_images(tmp_path / "s", series="3").magnitude.shape == (3, 9, 8)
    assert read_images(tmp_path / "s", series="1.2.9").magnitude.shape == (1, 9, 8)
    with pytest.raises(FormatError, match="got none with the number 5: choose one"):
        read_images(tmp_path / "s", series="5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="expected DICOM images in the folder empty, found none"):
        read_images(tmp_path / "empty")
    with pytest.raises(FormatError, match="expected no --volume for s"):
        read_images(tmp_path / "s", volume=0)


def test_dicom_that_is_no_volume_of_magnitudes(tmp_path: Path) -> None:
    plane = marked((1, 9, 8), (0, 7, 1))[0]
    alone = {
        "Modality": ("CT", "a is of the modality 'CT'"),
        "ImageType": (["ORIGINAL", "PRIMARY", "P"], "a is of the image type P"),
        "PixelData": (None, "expected pixels in a, found none"),
        "SamplesPerPixel": (3, "is in colour"),
    }
    for keyword, (value, told) in alone.items():
        with pytest.raises(FormatError, match=told):
            read_images(dicom_slice(tmp_path / "a", plane, (0, 0, 0), AXIAL, **{keyword: value}))
    folder = tmp_path / "s"
    folder.mkdir()
    dicom_slice(folder / "1", plane, (0, 0, 0), AXIAL)
    second: dict[str, tuple[Any, ...]] = {
        "several orientations": (plane, (0, 0, 4), OBLIQUE),
        "expected one image at each place": (plane, (0, 0, 0), AXIAL),
        "expected slices of one size in s, got": (plane[:5], (0, 0, 4), AXIAL),
        "expected pixels of one size": (plane, (0, 0, 4), AXIAL, (3.0, 3.0)),
    }
    for told, what in second.items():
        dicom_slice(folder / "2", *what, number=2)
        with pytest.raises(FormatError, match=told):
            read_images(folder)


@pytest.mark.parametrize("kind", ["nii", "nii.gz", "dicom"])
def test_damaged_files_give_format_errors_alone(kind: str, tmp_path: Path) -> None:
    volume = marked((3, 9, 8), (2, 7, 1))
    if kind == "dicom":
        path = dicom_slice(tmp_path / "a", volume[0], (0, 0, 0), AXIAL)
    else:
        path = _nifti(tmp_path / f"a.{kind}", volume, _oblique_affine())
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(150):
        if number % 2:
            damaged = whole[: int(rng.integers(len(whole)))]
        else:
            changed = bytearray(whole)
            for _ in range(4):
                changed[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
            damaged = bytes(changed)
        path.write_bytes(damaged)
        try:
            read_images(path, max_bytes=2**24)
        except FormatError:
            refused += 1
    assert refused > 60
