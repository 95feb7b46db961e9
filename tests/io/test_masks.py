from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from mri_recon.errors import FormatError, MaskError
from mri_recon.io import load_mask
from mri_recon.masks.calibration_region import center_block
from mri_recon.masks.convert import as_mask, undersample
from mri_recon.masks.types import ColumnMask, PatternMask

LINES = np.array([0, 1, 0, 1, 1, 1, 0], dtype=np.uint8)
PATTERN = np.random.default_rng(3).integers(0, 2, (5, 7)).astype(np.uint8)


def write(path: Path, array: np.ndarray, name: str = "mask") -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez_compressed(path, **{name: array})
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {name: array}, do_compression=True)
    else:
        with h5py.File(path, "w") as file:
            file[name] = array
            file["kspace"] = np.zeros((1, 5, 7), dtype=np.complex64)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".h5"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, bool])
def test_masks_from_files(tmp_path: Path, suffix: str, dtype: Any) -> None:
    columns = load_mask(write(tmp_path / f"columns{suffix}", LINES.astype(dtype)))
    assert isinstance(columns, ColumnMask)
    np.testing.assert_array_equal(columns.lines, LINES)
    assert (columns.kind, columns.acceleration, columns.num_low_frequencies) == ("file", None, 3)
    pattern = load_mask(write(tmp_path / f"pattern{suffix}", np.asfortranarray(PATTERN.astype(dtype))))
    assert isinstance(pattern, PatternMask)
    np.testing.assert_array_equal(pattern.pattern, PATTERN)
    assert pattern.source == f"pattern{suffix}"
    constant = load_mask(str(write(tmp_path / f"constant{suffix}", np.tile(LINES, (1, 5, 1)).astype(dtype))))
    assert constant == columns


def test_one_array_of_another_name(tmp_path: Path) -> None:
    assert load_mask(write(tmp_path / "m.npz", LINES, "lines")) == load_mask(write(tmp_path / "m.npy", LINES))
    assert load_mask(write(tmp_path / "m.mat", LINES, "lines")).width == 7


def test_files_that_are_no_masks(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"ending in \.npy, \.npz, \.mat, \.h5, \.hdf5, got m\.txt"):
        load_mask(tmp_path / "m.txt")
    with pytest.raises(FormatError, match="found nothing at"):
        load_mask(tmp_path / "absent.npy")
    with pytest.raises(MaskError, match=r"mask \(phase,\) or \(readout, phase\) in m\.npy, got shape \(2, 5, 7\)"):
        load_mask(write(tmp_path / "m.npy", np.stack([PATTERN, 1 - PATTERN])))
    with pytest.raises(MaskError, match="booleans, or of 0 and 1"):
        load_mask(write(tmp_path / "m.npy", np.arange(5)))
    with pytest.raises(MaskError, match="none sampled"):
        load_mask(write(tmp_path / "m.npy", np.zeros(5)))
    with pytest.raises(MaskError, match=r"empty array of shape \(0,\)"):
        load_mask(write(tmp_path / "m.npy", np.zeros(0)))
    with pytest.raises(FormatError, match=r"dataset 'mask' in m\.h5, found: kspace, lines"):
        load_mask(write(tmp_path / "m.h5", LINES, "lines"))
    np.savez(tmp_path / "two.npz", a=LINES, b=LINES)
    with pytest.raises(FormatError, match=r"named 'mask' or one array alone in two\.npz, found: a, b"):
        load_mask(tmp_path / "two.npz")
    scipy.io.savemat(tmp_path / "two.mat", {"a": LINES, "b": LINES})
    with pytest.raises(FormatError, match=r"one array alone in two\.mat, found: a, b"):
        load_mask(tmp_path / "two.mat")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".h5"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    for content in (b"", b"no such format at all, and long enough to hold a header of any kind" * 10):
        path.write_bytes(content)
        with pytest.raises(FormatError):
            load_mask(path)


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "m.npy", np.ones(100, dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"expected 100 bytes in m\.npy, got 99: it is cut short"):
        load_mask(path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "m.npz", mask=np.array([{"a": 1}], dtype=object), allow_pickle=True)  # type: ignore[arg-type]
    for name in ("m.npy", "m.npz"):
        with pytest.raises(FormatError, match="pickled objects"):
            load_mask(tmp_path / name)


def test_declared_sizes_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 1 << 10)})
    (tmp_path / "m.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("mask.npy", header.getvalue())
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("mask", shape=(1 << 30, 1 << 5), dtype="u1", chunks=(1 << 10, 1 << 5))
    for name in ("m.npy", "m.npz", "m.h5"):
        with pytest.raises(FormatError):
            load_mask(tmp_path / name)


def test_elements_that_are_no_numbers(tmp_path: Path) -> None:
    """Few entries, each of a mebibyte: the number of entries alone says nothing."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<U262144", "fortran_order": False, "shape": (1 << 10,)})
    with zipfile.ZipFile(tmp_path / "m.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mask.npy", header.getvalue() + bytes(1 << 20))
    with pytest.raises(FormatError, match=r"expected numbers in 'mask\.npy' of m\.npz, got elements of another kind"):
        load_mask(tmp_path / "m.npz")


def test_links_in_hdf5_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "other.h5", LINES)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["mask"] = h5py.ExternalLink("other.h5", "/mask")
    with pytest.raises(FormatError):
        load_mask(tmp_path / "m.h5")


@pytest.mark.real_data
def test_the_real_poisson_disc(real_data: Path) -> None:
    kspace = np.load(real_data / "raw/brain-8ch-undersampled/cartesian_ksp.npy")
    mask = as_mask(np.abs(kspace).max(axis=0) > 0, kspace.shape)
    assert isinstance(mask, PatternMask)
    rows, columns = center_block(mask)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (24, 24)
    np.testing.assert_array_equal(undersample(kspace, mask).numpy(), kspace.astype(np.complex64))
