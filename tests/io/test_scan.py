"""Support and sampling: found in the data, never assumed; what looks undersampled is called so."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mri_recon.errors import FormatError
from mri_recon.io import Scan, load, sampled_pattern
from mri_recon.io.scan import make_scan
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask, PatternMask
from mri_recon.results.comparison import compare
from mri_recon.results.summary import scan_warnings, summarize


def scan_of(kspace: np.ndarray) -> Scan:
    return make_scan(kspace, name="test", meta={})


def test_support_is_what_exceeds_the_residue_of_a_transform(noise: Any) -> None:
    kspace = noise(2, 3, 9, 20)
    kspace[..., :3] *= 1e-11
    kspace[..., 17:] = 0
    scan = scan_of(kspace)
    assert np.flatnonzero(scan.support).tolist() == list(range(3, 17))
    assert scan.support.dtype == np.bool_
    assert scan.fully_sampled
    assert scan.meta["columns_with_data"] == 14


def test_a_dead_column_is_not_undersampling(noise: Any) -> None:
    kspace = noise(1, 1, 9, 20)
    kspace[..., 7] = 0
    scan = scan_of(kspace)
    assert scan.fully_sampled
    assert np.flatnonzero(~scan.support).tolist() == [7]
    assert scan.meta["note"] == "1 dead columns inside the support"


def test_a_sample_that_is_exactly_zero_is_not_undersampling(noise: Any) -> None:
    kspace = noise(1, 1, 20, 20)
    kspace[..., 3, 4] = 0
    assert scan_of(kspace).fully_sampled


@pytest.mark.parametrize("step", [2, 3, 8])
def test_missing_columns_are_undersampling(noise: Any, step: int) -> None:
    mask = np.arange(24) % step == 0
    scan = scan_of(noise(2, 3, 9, 24) * mask)
    assert not scan.fully_sampled
    assert scan.mask is None, "a mask is never guessed"
    assert scan.target is None
    assert scan.target_source == "none"
    assert scan.support.all(), "unsampled columns belong to the support"
    assert "columns between the first and the last with data are empty" in scan.meta["note"]
    assert "give the mask it was sampled with" in scan.meta["note"]


def test_a_pattern_of_points_is_undersampling(noise: Any) -> None:
    pattern = np.random.default_rng(1).random((30, 24)) < 0.3
    scan = scan_of(noise(1, 4, 30, 24) * pattern)
    assert not scan.fully_sampled
    assert "of the points inside the acquired rows and columns hold no data" in scan.meta["note"]
    found = sampled_pattern(scan)
    assert isinstance(found, PatternMask)
    np.testing.assert_array_equal(found.pattern, pattern)
    assert found.source == "from-zeros"


def test_slices_that_were_sampled_differently(noise: Any) -> None:
    """Together they look complete; none of them is."""
    kspace = noise(2, 1, 9, 20)
    kspace[0, ..., ::2] = 0
    kspace[1, ..., 1::2] = 0
    assert not scan_of(kspace).fully_sampled


def test_an_empty_slice_says_nothing(noise: Any) -> None:
    kspace = noise(3, 1, 9, 20)
    kspace[1] = 0
    assert scan_of(kspace).fully_sampled


def test_the_pattern_of_zeros_as_columns(noise: Any) -> None:
    mask = np.arange(24) % 3 == 0
    kspace = noise(2, 3, 9, 24) * mask
    kspace[..., :2, :] = 0  # rows that were cut off
    found = sampled_pattern(scan_of(kspace))
    assert isinstance(found, ColumnMask)
    np.testing.assert_array_equal(found.lines, mask)
    assert found.kind == "from-zeros"


def test_one_coil_one_slice_odd_sizes(noise: Any) -> None:
    scan = scan_of(noise(1, 1, 7, 5))
    assert (scan.num_slices, scan.num_coils, scan.width, scan.recon_size) == (1, 1, 5, (7, 5))
    assert scan.target is not None
    assert scan.target.dtype == torch.float32


def test_a_hand_made_scan_is_fully_sampled_unless_it_has_a_mask() -> None:
    kspace = np.ones((1, 1, 4, 4), dtype=np.complex64)
    plain = Scan(kspace, None, "none", None, np.ones(4, bool), (4, 4))
    assert plain.fully_sampled
    assert not Scan(kspace, None, "none", ColumnMask(np.eye(4, dtype=bool)[0]), np.ones(4, bool), (4, 4)).fully_sampled


def test_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="expected a k-space file, found nothing at"):
        load(tmp_path / "no.h5")
    with pytest.raises(FormatError, match=r"expected a k-space file, .* is a folder: name a file in it"):
        load(tmp_path)
    for content, what in {b"": "an empty file", b"x" * 600: "another"}.items():
        (tmp_path / "a.h5").write_bytes(content)
        with pytest.raises(FormatError, match=f"expected fastMRI HDF5 .*MATLAB .*, a.h5 is {what}"):
            load(tmp_path / "a.h5")


def test_magnitude_images_are_refused_and_the_command_for_them_named(tmp_path: Path) -> None:
    nifti = b"\0" * 344 + b"n+1\0" + b"\0" * 300
    (tmp_path / "series").mkdir()
    contents = {
        "a.dcm": (b"\0" * 128 + b"DICM" + b"\0" * 400, "a.dcm is a DICOM image"),
        "series/1": (b"\0" * 128 + b"DICM" + b"\0" * 400, "1 is a DICOM image"),
        "a.nii": (nifti, "a.nii is a NIfTI image"),
        "a.nii.gz": (gzip.compress(nifti), "a.nii.gz is a NIfTI image"),
        "two.nii": (b"\x1c\x02\0\0n+2\0" + b"\0" * 600, "two.nii is a NIfTI image"),
    }
    for name, (content, told) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            FormatError, match=f"{told}, which holds no k-space.*`mri-recon data simulate IMAGES OUT.h5`"
        ):
            load(tmp_path / name)
    with pytest.raises(FormatError, match="series is a folder of DICOM images, which holds no k-space"):
        load(tmp_path / "series")
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti)[:15])
    with pytest.raises(FormatError, match="a.nii.gz is another"):
        load(tmp_path / "a.nii.gz")


def test_the_content_decides_not_the_name(noise: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise(7, 5))
    (tmp_path / "a.npy").rename(tmp_path / "upload.h5")
    assert load(tmp_path / "upload.h5").meta["format"] == "NumPy .npy"


@pytest.mark.real_data
def test_the_real_undersampled_scan(real_data: Path) -> None:
    path = real_data / "raw/brain-8ch-undersampled/cartesian_ksp.npy"
    scan = load(path, axes="coil readout phase")
    assert scan.kspace.shape == (1, 8, 230, 180)
    assert not scan.fully_sampled
    assert scan.target is None
    assert "give the mask it was sampled with" in scan.meta["note"]
    found = sampled_pattern(scan)
    assert isinstance(found, PatternMask)
    np.testing.assert_array_equal(found.pattern, np.abs(np.load(path)).max(axis=0) > 0)


@pytest.mark.real_data
def test_the_real_support(real_data: Path) -> None:
    """As the data's description has it: FLAIR 5 to 121, FSE and GRE with a dead column."""
    folder = real_data / "raw/brain-0.055T"
    for name, (first, last) in {"FLAIR": (5, 121), "FSE": (1, 125), "GRE": (1, 195)}.items():
        support = load(folder / f"Fig6B__0.055T_{name}_kspace_postEMI.mat").support
        assert np.flatnonzero(support)[[0, -1]].tolist() == [first, last]
        assert support.sum() == last - first + 1


@pytest.mark.parametrize("kept", [2, 3, 4])
def test_missing_rows_are_undersampling(noise: Any, kept: int) -> None:
    """Undersampled along the first axis of the image, as where the axes are exchanged: no reference is made of it."""
    kspace = noise(1, 2, 24, 20)
    rows = np.arange(24) % kept == 0
    rows[10:14] = True
    scan = scan_of(kspace * rows[:, None])
    assert not scan.fully_sampled
    assert scan.target is None
    assert "rows between the first and the last with data are empty" in scan.meta["note"]
    mask = sampled_pattern(scan)
    assert isinstance(mask, PatternMask)
    np.testing.assert_array_equal(mask.pattern, np.broadcast_to(rows[:, None], (24, 20)))


def test_zero_filled_rows_and_a_dead_one_are_not_undersampling(noise: Any) -> None:
    kspace = noise(1, 2, 24, 20)
    kspace[..., :5, :] = kspace[..., 20:, :] = kspace[..., 9, :] = 0
    assert scan_of(kspace).fully_sampled


def test_the_slices_with_broken_samples_are_named(noise: Any) -> None:
    kspace = noise(5, 2, 8, 6)
    kspace[1, 0, 3, 3] = np.nan
    kspace[3, 1, 2, 2] = np.inf
    with pytest.raises(FormatError, match=r"in 2 of 5 slices \(from 0: 1, 3\).*read the other slices alone"):
        scan_of(kspace)
    with pytest.raises(FormatError, match=r"in 1 of 2 slices \(from 0: 3\)"):
        make_scan(kspace[2:4], name="a", meta={"slices": [2, 3]})


@pytest.mark.parametrize("behind", [False, True])
def test_the_files_mask_may_have_the_axes_of_slices_and_coils(noise: Any, behind: bool) -> None:
    kspace = noise(2, 3, 8, 6)
    lines = np.array([1, 0, 1, 1, 0, 1])
    mask = np.broadcast_to(lines, kspace.shape)
    mask = mask.transpose(2, 3, 1, 0) if behind else mask  # MATLAB's order
    scan = make_scan(kspace * lines, name="a", meta={}, mask=mask)
    assert isinstance(scan.mask, ColumnMask)
    assert scan.mask.lines.tolist() == lines.astype(bool).tolist()
    other = mask.copy()
    other[(0,) * 4] = 1 - other[(0,) * 4]
    with pytest.raises(FormatError, match="or differs between slices or coils"):
        make_scan(kspace, name="a", meta={}, mask=other)


def test_what_a_reader_warns_of_is_said_with_every_result(noise: Any) -> None:
    scan = make_scan(noise(1, 2, 24, 20), name="a", meta={"reader_warnings": ["Ghosts are to be expected."]})
    assert "Ghosts are to be expected." in scan.warnings
    assert "Ghosts are to be expected." in scan_warnings(scan)
    assert ("warning", "Ghosts are to be expected.") in summarize(scan)
    mask = random_mask(20, 2, seed=0)
    assert any("Ghosts are to be expected." in one for one in compare(scan, mask, ["zero-filled"]).warnings)
