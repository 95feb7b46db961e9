"""BART arrays: written here by numpy, and by Debian's bart."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from mri_recon.errors import FormatError
from mri_recon.io import load
from mri_recon.transforms.fourier import ifft1c, ifft2c
from tests.support.damage import assert_flips_are_errors_or_harmless

needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="Debian's package bart is not installed")


def _noise(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def _cfl(path: Path, array: np.ndarray) -> Path:
    array.astype("<c8").ravel(order="F").tofile(path.with_suffix(".cfl"))
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(map(str, array.shape))}\n# Command\nbart x\n")
    return path.with_suffix(".cfl")


@pytest.mark.parametrize("suffix", [".cfl", ".hdr"])
def test_dimensions_have_fixed_meanings(suffix: str, tmp_path: Path) -> None:
    kspace = _noise(3, 2, 7, 5)  # (slice, coil, readout, phase)
    array = np.zeros((7, 5, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 1, 1), np.complex64)
    array[...] = kspace.transpose(2, 3, 1, 0).reshape(array.shape)
    path = _cfl(tmp_path / "a", array).with_suffix(suffix)
    scan = load(path)
    np.testing.assert_array_equal(scan.samples, kspace)
    np.testing.assert_array_equal(load(path, slices=[2, 0]).samples, kspace[[2, 0]])
    assert scan.meta["format"] == "BART array"
    assert (scan.meta["axes_assumed"], scan.meta["left_out"]) == (False, [])


def test_fewer_dimensions_and_other_contrasts(tmp_path: Path) -> None:
    kspace = _noise(6, 4, 1, 2, 1, 3)
    path = _cfl(tmp_path / "a", kspace)
    scan = load(path)
    np.testing.assert_array_equal(scan.samples[0], kspace[:, :, 0, :, 0, 0].transpose(2, 0, 1))
    assert scan.meta["left_out"] == ["2 other indices of echo (dimension 5)"]
    other = load(path, variable="echo=2")
    np.testing.assert_array_equal(other.samples[0], kspace[:, :, 0, :, 0, 2].transpose(2, 0, 1))
    with pytest.raises(FormatError, match="expected echo from 0 to 2 in a.cfl, got echo=3"):
        load(path, variable="echo=3")


def test_partitions_become_slices(tmp_path: Path) -> None:
    kspace = _noise(6, 4, 5, 2)
    path = _cfl(tmp_path / "a", kspace)
    expected = ifft1c(torch.from_numpy(kspace.transpose(2, 3, 0, 1).copy()), dim=0)
    torch.testing.assert_close(load(path).kspace, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(load(path, slices=1).kspace, expected[1:2], rtol=1e-5, atol=1e-5)
    kspace[:, 1, 2] = 0
    with pytest.raises(FormatError, match="undersampled in two directions"):
        load(_cfl(tmp_path / "a", kspace))


def test_an_array_without_readout_dimension(tmp_path: Path) -> None:
    kspace = _noise(1, 6, 4, 3)
    np.testing.assert_array_equal(load(_cfl(tmp_path / "a", kspace)).samples[0], kspace[0].transpose(2, 0, 1))


def test_files_that_are_not_read(tmp_path: Path) -> None:
    path = _cfl(tmp_path / "a", _noise(6, 4, 1, 2))
    header = path.with_suffix(".hdr")
    with pytest.raises(FormatError, match="its dimensions are fixed: leave axes out"):
        load(path, axes="readout phase")
    with pytest.raises(FormatError, match="expected at most 100 bytes"):
        load(path, max_bytes=100)
    header.write_text("# Dimensions\n6 4 1 3\n")
    with pytest.raises(FormatError, match="of different arrays"):
        load(path)
    for text in (
        "# Dimensions\n6 4 -1 2\n",
        "# Dimensions\n" + "1 " * 17 + "\n",
        "# Dimensions\n0 4\n",
        "# Dimensions",
    ):
        header.write_text(text)
        with pytest.raises(FormatError, match="a line of up to 16 positive numbers in a.hdr"):
            load(path)
    header.write_text("# Dimensions\n6 4 1 2\n")
    path.unlink()
    with pytest.raises(FormatError, match="expected a.cfl beside a.hdr, found none: keep .cfl and .hdr together"):
        load(header)


def test_damaged_headers_are_errors(tmp_path: Path) -> None:
    path = _cfl(tmp_path / "a", _noise(6, 4, 1, 2)).with_suffix(".hdr")
    assert_flips_are_errors_or_harmless(path, flips=len(path.read_bytes()))


@needs_bart
def test_the_phantom_of_bart_has_the_image_of_bart(tmp_path: Path) -> None:
    for command in ("phantom -k -x 38 -s 3 k", "fft -iu 3 k x", "rss 8 x r"):
        subprocess.run(["bart", *command.split()], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    scan = load(tmp_path / "k.cfl")
    assert scan.samples.shape == (1, 3, 38, 38)
    mine = ifft2c(scan.kspace)
    theirs = load(tmp_path / "x.cfl").samples
    np.testing.assert_allclose(mine.numpy(), theirs, atol=1e-5 * np.abs(theirs).max())
    rss = load(tmp_path / "r.cfl").samples[0, 0].real
    np.testing.assert_allclose(mine.abs().square().sum(dim=1).sqrt()[0].numpy(), rss, atol=1e-5 * rss.max())
