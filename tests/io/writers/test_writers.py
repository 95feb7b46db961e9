"""Each format of a result holds what it says, and the suffix is the format."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mri_recon.errors import DataError, FormatError, OutputError
from mri_recon.io import check_holds, encode_result, load, save, save_scan
from mri_recon.io.pictures import NO_PICTURES
from mri_recon.io.save import RESULT_SUFFIXES, WRITERS
from mri_recon.io.writers.png import _montage
from mri_recon.masks.draw import random_mask
from mri_recon.reconstruction import Reconstruction


@pytest.fixture
def scan(noise: Any, tmp_path: Path) -> Any:
    path = tmp_path / "scan [1].h5"
    save_scan(path, noise(3, 2, 8, 10), acquisition="AXT1", recon_size=(6, 4))
    return load(path)


@pytest.fixture
def image(noise: Any) -> torch.Tensor:
    return torch.from_numpy(noise(3, 8, 10))


@pytest.mark.parametrize("real", [False, True])
def test_every_format_holds_the_same_image(real: bool, image: torch.Tensor, scan: Any, tmp_path: Path) -> None:
    given_image = image.abs() if real else image
    mask = random_mask(10, 2, num_low_frequencies=2, seed=3)
    expected = given_image.numpy()
    left = {
        suffix: save(tmp_path / f"a{suffix}", Reconstruction(given_image, "unet", {"gap": float("inf")}), scan, mask)
        for suffix in RESULT_SUFFIXES
    }
    assert left[".h5"] == left[".hdf5"] == ""
    assert all(left[suffix] for suffix in (".npy", ".npz", ".mat", ".png"))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "a.hdf5").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected)
    with np.load(tmp_path / "a.npz") as file:
        assert sorted(file) == ["image", "mask", "metadata"]
        np.testing.assert_array_equal(file["image"], expected)
        np.testing.assert_array_equal(file["mask"], mask.lines)
        metadata = json.loads(file["metadata"].tobytes())
    matlab = scipy.io.loadmat(tmp_path / "a.mat")
    np.testing.assert_array_equal(matlab["reconstruction"], np.moveaxis(expected, 0, -1))
    assert matlab["reconstruction"].dtype == expected.dtype
    np.testing.assert_array_equal(matlab["mask"], mask.lines[None])
    assert json.loads(matlab["metadata"].item()) == metadata
    assert metadata["method"] == "unet"
    assert metadata["info"] == {"gap": None}
    assert metadata["mask"] == mask.receipt()
    assert metadata["source_file"] == "scan [1].h5"
    assert metadata["recon_size"] == [6, 4]
    assert "not for diagnosis" in metadata["notice"]


def test_the_picture(image: torch.Tensor, scan: Any, tmp_path: Path) -> None:
    """Cropped as the scan asks for; gray in proportion, and the number behind white is in the file."""
    told = save(tmp_path / "a.png", Reconstruction(image, "unet"), scan)
    shown = image.abs().numpy()[:, 1:7, 3:7]
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture).astype(np.float64)
        text = picture.text  # type: ignore[attr-defined]
    low, high = map(float, text["Window"].split())
    assert low == 0
    assert high == pytest.approx(shown.max(), rel=1e-6)
    assert pixels.max() == 65535
    assert f"(white), 3 slices in {pixels.shape[0] // 6} rows of {pixels.shape[1] // 4}" in told
    rows, columns = pixels.shape[0] // 6, pixels.shape[1] // 4
    tiles = pixels.reshape(rows, 6, columns, 4).transpose(0, 2, 1, 3).reshape(-1, 6, 4)
    np.testing.assert_allclose(tiles[:3] * high / 65535, shown, atol=high / 65535)
    assert not tiles[3:].any()
    assert "not for diagnosis" in text["Disclaimer"]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
def test_slices_side_by_side(count: int, height: int, width: int) -> None:
    pixels = np.arange(1, count * height * width + 1, dtype=np.uint16).reshape(count, height, width)
    picture, rows, columns = _montage(pixels)
    assert picture.shape == (rows * height, columns * width)
    assert (rows - 1) * columns < count <= rows * columns
    for number in range(count):
        top, left = number // columns * height, number % columns * width
        np.testing.assert_array_equal(picture[top : top + height, left : left + width], pixels[number])


def test_what_a_picture_cannot_show(image: torch.Tensor, scan: Any, tmp_path: Path) -> None:
    image[0, 4, 5] = float("nan")
    with pytest.raises(OutputError, match="a picture cannot show NaN"):
        save(tmp_path / "a.png", Reconstruction(image, "unet"), scan)
    save(tmp_path / "zeros.png", Reconstruction(torch.zeros(1, 4, 5), "unet"))
    with Image.open(tmp_path / "zeros.png") as picture:
        assert not np.asarray(picture).any()
    private = replace(scan, meta={**scan.meta, NO_PICTURES: True})
    for call in (
        lambda: save(tmp_path / "b.png", Reconstruction(torch.ones(1, 4, 5), "unet"), private),
        lambda: check_holds("b.PNG", (1, 4, 5), private.meta),
    ):
        with pytest.raises(DataError, match="no_pictures"):
            call()
    save(tmp_path / "b.h5", Reconstruction(torch.ones(1, 4, 5), "unet"), private)
    with h5py.File(tmp_path / "b.h5") as file:
        assert file.attrs[NO_PICTURES]
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("name", ["a.gz", "a", "a.h5.gz", ".h", "h5", "a.tif"])
def test_other_suffixes(name: str, image: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"ends in \.h5, \.hdf5, \.npy, .*, \.mrd or \.cfl"):
        save(tmp_path / name, Reconstruction(image, "unet"))
    with pytest.raises(OutputError, match=r"ends in \.h5 or \.hdf5"):
        save_scan(tmp_path / name, image[:, None].numpy())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", RESULT_SUFFIXES)
def test_the_scans_own_file_is_kept(suffix: str, image: torch.Tensor, scan: Any, tmp_path: Path) -> None:
    """Under any name."""
    before = scan.source.read_bytes()
    alias = tmp_path / f"alias{suffix}"
    for make in (alias.symlink_to, alias.hardlink_to):
        make(scan.source)
        with pytest.raises(OutputError, match="which the scan was loaded from"):
            save(alias, Reconstruction(image, "unet"), scan)
        alias.unlink()
    assert scan.source.read_bytes() == before


def test_what_a_format_cannot_hold() -> None:
    check_holds("a.h5", (4000, 1000, 1000), {})
    with pytest.raises(OutputError, match=r"holds at most 2147483647 bytes an array, the image .* choose .h5"):
        check_holds("a.mat", (300, 1000, 1000), {})


def test_results_are_no_kspace(image: torch.Tensor, scan: Any, tmp_path: Path) -> None:
    """An image that is read as k-space would come out as a picture that looks like something."""
    for suffix in (".h5", ".npz", ".mat"):
        path = tmp_path / f"a{suffix}"
        save(path, Reconstruction(image, "unet"), scan)
        with pytest.raises(FormatError, match="reconstruction" if suffix != ".npz" else "found several"):
            load(path)


def test_the_table_of_writers() -> None:
    assert len(set(RESULT_SUFFIXES)) == len(RESULT_SUFFIXES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in RESULT_SUFFIXES)
    for writer in WRITERS:
        for suffix in writer.suffixes:
            assert len(encode_result(f"x{suffix}", Reconstruction(torch.ones(1, 2, 3), "unet")).content) > 0
