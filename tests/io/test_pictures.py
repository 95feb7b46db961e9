"""Scans of which no picture may be drawn keep their mark through files, and nothing draws them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mri_recon.errors import DataError
from mri_recon.io import Scan, load, save, save_scan
from mri_recon.io.pictures import NO_PICTURES, require_pictures_allowed
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.reconstruction import reconstruct
from mri_recon.results.comparison import compare
from mri_recon.results.figure import comparison_figure


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    """A marked scan, as a file of simulated k-space gives it back."""
    rng = np.random.default_rng(0)
    kspace = rng.normal(size=(1, 2, 24, 32)) + 1j * rng.normal(size=(1, 2, 24, 32))
    path = tmp_path / "simulated.h5"
    save_scan(path, kspace.astype(np.complex64), attributes={"simulated": True, NO_PICTURES: True})
    return load(path)


def test_the_mark_is_in_the_file(scan: Scan) -> None:
    assert scan.meta[NO_PICTURES]
    with pytest.raises(DataError, match=r"simulated.h5 is of a set that the data registry marks no_pictures"):
        require_pictures_allowed(scan.meta)


def test_figures_are_refused_and_numbers_are_not(scan: Scan) -> None:
    mask = random_mask(scan.width, acceleration=2, seed=0)
    comparison = compare(scan, mask, ["zero-filled"])
    assert comparison.rows[0]["psnr"] > 0
    target = io.BytesIO()
    with pytest.raises(DataError, match="a comparison of it is not drawn, its numbers are"):
        comparison_figure(comparison, target)
    assert not target.getvalue()
    comparison_figure(compare(replace(scan, meta={}), mask, ["zero-filled"]), target)
    assert target.getvalue().startswith(b"\x89PNG")


def test_a_picture_is_not_saved_and_arrays_keep_the_mark(scan: Scan, tmp_path: Path) -> None:
    mask = random_mask(scan.width, acceleration=2, seed=0)
    result = reconstruct(undersample(scan.kspace, mask), mask, method="zero-filled")
    with pytest.raises(DataError, match=r"simulated.h5 is of a set .* the .png is not drawn"):
        save(tmp_path / "out.png", result, scan, mask)
    assert not (tmp_path / "out.png").exists()
    import h5py

    save(tmp_path / "out.h5", result, scan, mask)
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs[NO_PICTURES]


def test_an_unmarked_scan_is_drawn() -> None:
    require_pictures_allowed({})
    require_pictures_allowed({NO_PICTURES: False, "kspace": torch.zeros(1)})
