"""`convert`: what goes through comes back, what cannot is said, and programs of others read the files."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mri_recon.errors import DataError, FormatError, OutputError
from mri_recon.io import Scan, convert, load, save, save_scan
from mri_recon.io.conversion import CONVERT_SUFFIXES, KSPACE_SUFFIXES
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.io.saved import read_saved
from mri_recon.masks.draw import random_mask
from mri_recon.reconstruction import reconstruct
from mri_recon.transforms.fourier import fft2c, ifft2c
from tests.io.mrd_files import mrd, readouts_of, xml
from tests.support.oblique import oblique


def _scan(folder: Path, *, undersampled: bool = True, recon: tuple[int, int] = (11, 12), coils: int = 2) -> Scan:
    """Three slices with a bright voxel at (4, 9) of the second one."""
    rng = np.random.default_rng(0)
    image = 0.1 * (rng.standard_normal((3, coils, 11, 14)) + 1j * rng.standard_normal((3, coils, 11, 14)))
    image[1, :, 4, 9] = 8
    kspace = fft2c(torch.from_numpy(image.astype(np.complex64)))
    mask = random_mask(14, 2, num_low_frequencies=4, seed=1) if undersampled else None
    if mask is not None:
        kspace = kspace * mask.tensor()
    path = folder / "scan.h5"
    save_scan(path, kspace, mask=mask, recon_size=recon, geometry=oblique(3), acquisition="AXT1", patient_id="p1")
    return load(path)


@pytest.mark.parametrize("suffix", KSPACE_SUFFIXES)
@pytest.mark.parametrize("coils", [1, 3])
def test_kspace_comes_back(suffix: str, coils: int, tmp_path: Path) -> None:
    scan = _scan(tmp_path, coils=coils)
    told = convert(tmp_path / "scan.h5", tmp_path / f"out{suffix}")
    back = load(tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(back.samples, scan.samples)
    if suffix in (".npy", ".cfl"):
        assert "the mask, the geometry, the reconstruction size" in told
    else:
        assert back.mask is not None
        np.testing.assert_array_equal(back.mask.array, scan.mask.array)  # type: ignore[union-attr]
    if suffix in (".h5", ".hdf5", ".mrd"):
        assert told == ""
        assert back.geometry is not None
        np.testing.assert_allclose(back.geometry.positions, oblique(3).positions, atol=1e-4)
        np.testing.assert_allclose(back.geometry.directions, oblique(3).directions, atol=1e-6)
        assert back.geometry.voxel_size == pytest.approx(oblique(3).voxel_size)
        assert (back.recon_size, back.meta["acquisition"]) == ((11, 12), "AXT1")
    else:
        assert "the geometry" in told


def test_a_bright_voxel_stays_through_raw_data_and_oversampling(tmp_path: Path) -> None:
    """Fewer rows in the reconstruction are oversampling in raw data; its removal leaves the voxel in its place."""
    scan = _scan(tmp_path, undersampled=False, recon=(6, 14))
    convert(tmp_path / "scan.h5", tmp_path / "out.mrd")
    back = load(tmp_path / "out.mrd")
    assert back.samples.shape == (3, 2, 6, 14)
    places = []
    for one in (scan, back):
        assert one.geometry is not None
        image = ifft2c(one.kspace).abs().sum(dim=1)
        row, column = divmod(int(image[1].argmax()), image.shape[-1])
        corner = np.asarray(one.geometry.corners(image.shape[-2:])[1])
        steps = np.asarray(one.geometry.directions)[:2] * np.asarray(one.geometry.voxel_size)[:2, None]
        places.append(corner + row * steps[0] + column * steps[1])
    np.testing.assert_allclose(places[1], places[0], atol=1e-4)


def test_padding_and_reference_are_kept_where_they_can_be(tmp_path: Path) -> None:
    kspace = np.random.default_rng(0).standard_normal((2, 2, 9, 10, 2)).view(np.complex128)[..., 0]
    kspace[..., :2] = kspace[..., 9:] = 0
    save_scan(tmp_path / "scan.h5", kspace, target=np.ones((2, 5, 6)), recon_size=(5, 6), padding=(2, 9))
    assert convert(tmp_path / "scan.h5", tmp_path / "out.h5") == ""
    assert convert(tmp_path / "scan.h5", tmp_path / "out.mrd") == ".mrd leaves out the reference of the file"
    scan = load(tmp_path / "scan.h5")
    for name in ("out.h5", "out.mrd"):
        back = load(tmp_path / name)
        np.testing.assert_array_equal(back.samples, scan.samples)
        np.testing.assert_array_equal(back.support, scan.support)
        assert back.meta["padding"] == [2, 9]
    np.testing.assert_array_equal(load(tmp_path / "out.h5").reference, scan.reference)
    assert "the reference" in convert(tmp_path / "scan.h5", tmp_path / "out.npz")


def test_scanners_files_become_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kspace = (rng.standard_normal((2, 3, 8, 6)) + 1j * rng.standard_normal((2, 3, 8, 6))).astype(np.complex64)
    lines = [
        replace(one, idx={**one.idx, "repetition": number})
        for number in range(2)
        for one in readouts_of(kspace + number)
    ]
    mrd(tmp_path / "a.h5", lines, xml((8, 6, 1)))
    convert(tmp_path / "a.h5", tmp_path / "b.npy", variable="repetition=1", slices=1)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), kspace[1:] + 1)


@pytest.mark.parametrize("suffix", CONVERT_SUFFIXES)
def test_a_result_becomes_what_save_writes(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="the extra 'clinical' is not installed")
    scan = _scan(tmp_path)
    assert scan.mask is not None
    result = reconstruct(scan.kspace, scan.mask, method="zero-filled")
    result = replace(result, trust_map=0.1 * result.magnitude)
    save(tmp_path / "result.h5", result, scan, scan.mask)
    told = save(tmp_path / f"a{suffix}", result, scan, scan.mask)
    assert convert(tmp_path / "result.h5", tmp_path / f"b{suffix}") == told
    mine, expected = (tmp_path / f"{name}{suffix}" for name in "ba")
    if suffix in (".dcm", ".dcm.zip", ".mat"):  # new identifiers and times in every file
        assert abs(mine.stat().st_size - expected.stat().st_size) < 100
    elif suffix in (".h5", ".hdf5"):
        with h5py.File(mine) as one, h5py.File(expected) as other:
            np.testing.assert_array_equal(one["reconstruction"], other["reconstruction"])
            assert dict(one.attrs).keys() == dict(other.attrs).keys()
    elif suffix == ".npz":
        with np.load(mine) as one, np.load(expected) as other:
            np.testing.assert_array_equal(one["image"], other["image"])
            np.testing.assert_array_equal(one["mask"], other["mask"])
            assert json.loads(one["metadata"].tobytes()) == json.loads(other["metadata"].tobytes())
    else:
        assert mine.read_bytes() == expected.read_bytes()


def test_results_keep_their_description(tmp_path: Path) -> None:
    scan = _scan(tmp_path)
    assert scan.mask is not None
    save(tmp_path / "result.h5", reconstruct(scan.kspace, scan.mask, method="zero-filled"), scan, scan.mask)
    back = read_saved(tmp_path / "result.h5")
    assert back.geometry == oblique(3)
    assert back.recon_size == (11, 12)
    np.testing.assert_array_equal(back.mask, scan.mask.array)
    assert back.metadata["method"] == "zero-filled"
    assert back.metadata["mask"] == scan.mask.receipt()


def test_what_is_refused(tmp_path: Path) -> None:
    scan = _scan(tmp_path)
    source = tmp_path / "scan.h5"
    with pytest.raises(OutputError, match=r"expected a format of k-space, .h5, .* which holds images: reconstruct"):
        convert(source, tmp_path / "a.dcm")
    with pytest.raises(OutputError, match="ends in .h5"):
        convert(source, tmp_path / "a.tif")
    with pytest.raises(OutputError, match="which the scan was loaded from"):
        convert(source, source)
    (tmp_path / "a.hdr").symlink_to(source)
    with pytest.raises(OutputError, match="which the scan was loaded from"):
        convert(source, tmp_path / "a.cfl")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.hdr", "scan.h5"]

    assert scan.mask is not None
    private = replace(scan, meta={**scan.meta, NO_PICTURES: True})
    save(tmp_path / "result.h5", reconstruct(scan.kspace, scan.mask, method="zero-filled"), private)
    with pytest.raises(DataError, match="no_pictures"):
        convert(tmp_path / "result.h5", tmp_path / "a.png")
    for name, value in (("geometry", "{"), ("recon_size", [1, 2, 3]), ("recon_size", [0, 4])):
        shutil.copy(tmp_path / "result.h5", tmp_path / "broken.h5")
        with h5py.File(tmp_path / "broken.h5", "a") as file:
            file.attrs[name] = value
        with pytest.raises(FormatError, match="save it again"):
            convert(tmp_path / "broken.h5", tmp_path / "a.nii")


@pytest.mark.skipif(
    shutil.which("ismrmrd_recon_cartesian_2d") is None, reason="Debian's ismrmrd-tools are not installed"
)
def test_raw_data_is_reconstructed_by_ismrmrd_tools(tmp_path: Path) -> None:
    scan = _scan(tmp_path, undersampled=False, recon=(11, 14))
    convert(tmp_path / "scan.h5", tmp_path / "one.mrd", slices=1)
    done = ["ismrmrd_recon_cartesian_2d", "one.mrd"]
    subprocess.run(done, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    with h5py.File(tmp_path / "one.mrd") as file:
        theirs = np.asarray(file["dataset/cpp/data"]).squeeze().T
    mine = ifft2c(scan.kspace[1]).abs().square().sum(dim=0).sqrt().numpy()
    factor = float((mine * theirs).sum() / (theirs**2).sum())
    np.testing.assert_allclose(theirs * factor, mine, atol=1e-5 * mine.max())


@pytest.mark.skipif(shutil.which("bart") is None, reason="Debian's package bart is not installed")
def test_bart_transforms_what_is_written(tmp_path: Path) -> None:
    scan = _scan(tmp_path, undersampled=False)
    convert(tmp_path / "scan.h5", tmp_path / "k.cfl")
    subprocess.run(["bart", "fft", "-iu", "3", "k", "x"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    theirs = load(tmp_path / "x.cfl").samples
    np.testing.assert_allclose(theirs, ifft2c(scan.kspace).numpy(), atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("suffix", [".h5", ".npy", ".mrd", ".mat"])
def test_assumed_axes_are_told_because_the_new_file_names_them(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.standard_normal((3, 16, 12)) + 1j * rng.standard_normal((3, 16, 12)))
    said = "The axes are assumed to be slice readout phase"
    assert said in convert(tmp_path / "a.npy", tmp_path / f"b{suffix}")
    assert convert(tmp_path / "a.npy", tmp_path / f"c{suffix}", axes="slice readout phase") == ""


def test_positions_without_directions_are_told(tmp_path: Path) -> None:
    """As GE's headers have them: raw data of ISMRMRD hold both or none."""
    save_scan(tmp_path / "a.h5", np.ones((3, 1, 9, 8), np.complex64), geometry=replace(oblique(3), directions=None))
    told = convert(tmp_path / "a.h5", tmp_path / "b.mrd")
    assert told == ".mrd leaves out the positions of the slices (their directions are not known)"
