"""Data that contradict assumed axes are asked about; slices, contrasts and repetitions are not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_recon.errors import FormatError
from mri_recon.io import load
from mri_recon.io.axes_check import look_like_coils
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.simulation.kspace import coil_maps


def head(seed: int, size: tuple[int, int] = (96, 80)) -> np.ndarray:
    """An ellipse with smaller ones in it."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij")
    image = ((y / 0.9) ** 2 + (x / 0.75) ** 2 < 1).astype(float)
    for _ in range(14):
        cy, cx, ry, rx = *rng.uniform(-0.55, 0.55, 2), *rng.uniform(0.05, 0.3, 2)
        image += rng.uniform(-0.7, 1.2) * (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1)
    return np.abs(image)


def kspace_of(images: np.ndarray, seed: int = 0, snr: float = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kspace = fft2c(torch.from_numpy(images.astype(np.complex64))).numpy()
    noise = rng.standard_normal(kspace.shape) + 1j * rng.standard_normal(kspace.shape)
    return (kspace + noise * np.abs(images).max() / snr).astype(np.complex64)


def coils(count: int, seed: int = 0, **options: Any) -> np.ndarray:
    image = head(seed)
    return kspace_of(coil_maps(count, (96, 80), np.random.default_rng(seed)) * image, seed, **options)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 24), st.integers(0, 10**6), st.floats(25, 300))
def test_coils_are_recognised(count: int, seed: int, snr: float) -> None:
    assert look_like_coils(coils(count, seed, snr=snr))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10**6), st.floats(10, 300))
def test_other_slices_are_not(count: int, seed: int, snr: float) -> None:
    slices = np.stack([head(seed + number) for number in range(count)])
    assert not look_like_coils(kspace_of(slices, seed, snr))


@pytest.mark.parametrize("snr", [10, 100])
def test_repetitions_contrasts_and_noise_are_not(snr: float) -> None:
    image = head(3)
    gains = np.array([1, 0.8, 0.5, 0.2])[:, None, None]
    assert not look_like_coils(kspace_of(gains * image, snr=snr))
    contrasts = np.stack([image, image**0.4, np.where(image > 1, 0.3, image)])
    assert not look_like_coils(kspace_of(contrasts, snr=snr))
    assert not look_like_coils(kspace_of(np.ones((8, 1, 1)) * np.zeros((96, 80)) + 1e-9))
    assert not look_like_coils(kspace_of(image[None], snr=snr))


def test_an_empty_slice_is_no_coil() -> None:
    kspace = coils(6)
    kspace[2] = 0
    assert look_like_coils(kspace)


Save = Callable[[Path, np.ndarray], Path]


def save_npy(folder: Path, array: np.ndarray) -> Path:
    np.save(folder / "a.npy", array)
    return folder / "a.npy"


def save_mat(folder: Path, array: np.ndarray) -> Path:
    scipy.io.savemat(folder / "a.mat", {"kspace": array})
    return folder / "a.mat"


@pytest.mark.parametrize(
    ("save", "order", "cure", "slices"),
    [
        (save_npy, (0, 1, 2), "coil readout phase", "slice readout phase"),
        (save_mat, (1, 2, 0), "readout phase coil", "readout phase slice"),
    ],
)
def test_coils_read_as_slices_are_asked_about(tmp_path: Path, save: Save, order: Any, cure: str, slices: str) -> None:
    kspace = coils(6)
    path = save(tmp_path, kspace.transpose(order))
    with pytest.raises(FormatError, match="its 6 slices show one object under smooth weights") as caught:
        load(path)
    assert f"axes='{cure}' for coils, or axes='{slices}' for slices" in str(caught.value)
    np.testing.assert_array_equal(load(path, axes=cure).kspace[0], kspace)
    np.testing.assert_array_equal(load(path, axes=slices).kspace[:, 0], kspace)


@pytest.mark.parametrize(
    ("save", "order", "short", "cure"),
    [
        (save_npy, (1, 2, 0), "phase", "readout phase coil"),
        (save_mat, (0, 1, 2), "readout", "coil readout phase"),
    ],
)
def test_coils_on_an_axis_of_the_image_are_asked_about(
    tmp_path: Path, save: Save, order: Any, short: str, cure: str
) -> None:
    kspace = coils(6)
    path = save(tmp_path, kspace.transpose(order))
    with pytest.raises(FormatError, match=f"its {short} axis has 6 samples and its slice axis of") as caught:
        load(path)
    assert f"probably axes='{cure}'" in str(caught.value)
    np.testing.assert_array_equal(load(path, axes=cure).kspace[0], kspace)


def test_coils_last_of_four_axes(tmp_path: Path) -> None:
    kspace = np.stack([coils(6), coils(6, 1)])
    path = save_npy(tmp_path, kspace.transpose(0, 2, 3, 1))
    with pytest.raises(FormatError, match="its phase axis has 6 samples and its coil axis of 96 the peak") as caught:
        load(path)
    assert "probably axes='slice readout phase coil'" in str(caught.value)
    np.testing.assert_array_equal(load(path, axes="slice readout phase coil").kspace, kspace)
    assert load(save_npy(tmp_path, kspace)).warnings == (
        "The axes are assumed to be slice coil readout phase (the file names none): give axes if they differ.",
    )


@pytest.mark.real_data
def test_no_false_alarm_on_real_slices(real_data: Path) -> None:
    files = sorted((real_data / "raw").glob("*/*.mat"))
    assert len(files) > 10
    for path in files:
        load(path)


@pytest.mark.real_data
def test_real_coils_are_recognised(real_data: Path) -> None:
    path = real_data / "raw/brain-8ch-undersampled/cartesian_ksp.npy"
    with pytest.raises(FormatError, match="its 8 slices show one object under smooth weights"):
        load(path)


# ---------------------------------------------------------------------------------------------- four axes, and headers


def volume(num_slices: int, num_coils: int, seed: int = 0) -> np.ndarray:
    """`(slice, coil, 96, 80)`."""
    slices = np.stack([head(seed + number) for number in range(num_slices)])
    maps = coil_maps(num_coils, (96, 80), np.random.default_rng(seed)) if num_coils > 1 else np.ones((1, 1, 1))
    return kspace_of(slices[:, None] * np.asarray(maps), seed)


NUMPY = "slice coil readout phase"


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(3, 9), st.integers(0, 10**4), st.permutations(range(4)))
def test_the_proposed_axes_are_the_right_ones(num_slices: int, num_coils: int, seed: int, order: list[int]) -> None:
    """Whatever the order of four axes: taken as it is, or asked about with a proposal under which the data are right.

    Readout and phase may be exchanged in it, which no data show.
    """
    names = [NUMPY.split()[axis] for axis in order]
    array = volume(num_slices, num_coils, seed).transpose(order)
    kept = names.index("slice") < names.index("coil") if num_slices > 1 else True
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.npy"
        np.save(path, array)
        try:
            load(path)
        except FormatError as error:
            proposed = re.findall("axes='([a-z ]+)'", str(error))[0].split()
            assert [{"phase": "readout"}.get(one, one) for one in proposed] == [
                {"phase": "readout"}.get(one, one) for one in names
            ]
        else:
            assert names[0] == "slice"
            assert kept
            assert set(names[2:]) == {"readout", "phase"} or num_coils == 1


@pytest.mark.parametrize("num_slices", [1, 3])
def test_slices_and_coils_exchanged(tmp_path: Path, num_slices: int) -> None:
    kspace = volume(num_slices, 6)
    np.save(tmp_path / "a.npy", kspace.swapaxes(0, 1))
    with pytest.raises(FormatError, match="axes='coil slice readout phase' if slices and coils are exchanged"):
        load(tmp_path / "a.npy")
    scan = load(tmp_path / "a.npy", axes="coil slice readout phase")
    np.testing.assert_array_equal(scan.kspace.numpy(), kspace)
    np.save(tmp_path / "a.npy", kspace)
    assert load(tmp_path / "a.npy").num_coils == 6
    load_it_anyway = load(tmp_path / "a.npy", axes=NUMPY)
    assert load_it_anyway.num_slices == num_slices


@pytest.mark.parametrize("seed", range(3))
def test_coils_in_a_file_with_a_header(tmp_path: Path, seed: int) -> None:
    """One slice cut out of a file of several coils keeps its header; three axes are slices by fastMRI's layout."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = coils(8, seed)
        file.attrs["acquisition"] = "AXT2"
    with pytest.raises(FormatError, match="axes='coil readout phase' for coils"):
        load(path)
    assert load(path, axes="coil readout phase").num_coils == 8
    assert load(path, axes="slice readout phase").num_slices == 8
    with h5py.File(path, "w") as file:
        file["kspace"] = volume(8, 1, seed)[:, 0]
        file.attrs["acquisition"] = "AXT2"
    scan = load(path)
    assert scan.num_slices == 8
    assert scan.warnings == ()
    assert "axes_by_rank" not in scan.meta
