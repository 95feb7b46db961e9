"""MATLAB v7.3: HDF5 in MATLAB's layout, without following what it refers to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mri_recon.errors import FormatError
from mri_recon.io import load, load_mask, load_noise
from tests.io.test_same_values import write_mat73
from tests.support.damage import assert_cuts_are_refused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.mat"


@pytest.mark.parametrize(
    ("shape", "wanted", "order"),
    [
        ((7, 5), (1, 1, 7, 5), (0, 1)),
        ((7, 5, 3), (3, 1, 7, 5), (2, 0, 1)),
        ((7, 5, 2, 3), (3, 2, 7, 5), (3, 2, 0, 1)),
    ],
)
@pytest.mark.parametrize("kind", ["c8", "c16"])
def test_axes_are_as_matlab_has_them(path: Path, noise: Any, shape: Any, wanted: Any, order: Any, kind: str) -> None:
    kspace = noise(*shape)
    scan = load(write_mat73(path, kspace=kspace.astype(kind)))
    np.testing.assert_array_equal(scan.kspace, kspace.transpose(order).reshape(wanted))
    assert scan.meta["format"] == "MATLAB v7.3"
    assert scan.meta["axes_assumed"] is True
    assert scan.meta["variable"] == "kspace"


def add(path: Path, **other: Any) -> Path:
    """What else stands in MATLAB's files: text, cells that refer into #refs#, structs, sparse and empty arrays."""
    with h5py.File(path, "a") as file:
        file.create_dataset("note", data=np.array([[ord(c)] for c in "hello"], np.uint16)).attrs["MATLAB_class"] = (
            np.bytes_("char")
        )
        file["#refs#/a"] = np.arange(3.0)
        cell = file.create_dataset("cells", (2, 1), dtype=h5py.ref_dtype)
        cell[...] = file["#refs#/a"].ref
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        file["struct/kspace"] = np.ones(3)
        file.create_group("sparse").attrs["MATLAB_sparse"] = np.uint64(4)
        file.create_dataset("nothing", data=np.array([0, 0], np.uint64)).attrs["MATLAB_empty"] = np.uint8(1)
        for name, value in other.items():
            file[name] = value
    return path


def test_text_cells_and_references_are_left_alone(path: Path, noise: Any) -> None:
    kspace, mask = noise(7, 5), np.array([[True, False, True, True, False]])
    add(write_mat73(path, kspace=kspace * mask, mask=mask))
    scan = load(path)
    np.testing.assert_array_equal(scan.kspace[0, 0], kspace * mask)
    assert scan.mask is not None
    assert load_mask(path).lines.tolist() == mask[0].tolist()  # type: ignore[union-attr]
    for name, kind in {"note": "text", "cells": "cell", "struct": "struct", "sparse": "sparse"}.items():
        with pytest.raises(FormatError, match=f"expected numbers in '{name}' of a.mat, got {kind}: save an array"):
            load(path, variable=name)
    with pytest.raises(FormatError, match="expected an array with numbers as 'nothing' of a.mat, got an empty one"):
        load(path, variable="nothing")
    with pytest.raises(FormatError, match="expected an array '#refs#' in a.mat, found: 'kspace', 'mask', 'nothing'"):
        load(path, variable="#refs#")


def test_references_without_a_class_are_not_followed(path: Path, noise: Any) -> None:
    write_mat73(path, kspace=noise(7, 5))
    with h5py.File(path, "a") as file:
        file["refs"] = np.array([[file["kspace"].ref]], dtype=h5py.ref_dtype)
    with pytest.raises(FormatError, match="expected numbers in '/refs' of a.mat, got records, references or objects"):
        load(path, variable="refs")


@pytest.mark.parametrize(
    "link", [h5py.SoftLink("/kspace"), h5py.ExternalLink("/etc/passwd", "/x")], ids=["soft", "external"]
)
def test_links_are_refused_here_too(path: Path, noise: Any, link: Any) -> None:
    add(write_mat73(path, kspace=noise(7, 5)), other=link)
    with pytest.raises(FormatError, match="got the link 'other': links are not followed"):
        load(path)


def test_noise_samples_and_choices(path: Path, noise: Any) -> None:
    samples = noise(3, 50)
    np.testing.assert_array_equal(load_noise(write_mat73(path, noise=samples, other=np.ones((2, 2)))), samples)
    write_mat73(path, a=noise(7, 5), b=noise(7, 5))
    with pytest.raises(FormatError, match="expected one array in a.mat, found several: 'a', 'b'"):
        load(path)
    write_mat73(path, kspace=np.ones((7, 5)))
    with pytest.raises(
        FormatError, match=r"expected complex k-space in 'kspace' of a.mat, got float64 of shape \(7, 5\)"
    ):
        load(path)


def test_cut_short_at_any_length(path: Path, noise: Any) -> None:
    add(write_mat73(path, kspace=noise(7, 5)))
    assert_cuts_are_refused(path, path.stat().st_size // 40)
