"""GE P-files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mri_recon.errors import FormatError
from mri_recon.io import load
from mri_recon.transforms.fourier import ifft2c
from mri_recon_data import registry
from tests.io.scanner_files import Complex, pfile


def _whole_numbers(*shape: int) -> Complex:
    rng = np.random.default_rng(0)
    return (rng.integers(-999, 999, shape) + 1j * rng.integers(-999, 999, shape)).astype(np.complex64)


@pytest.mark.parametrize("point_size", [2, 4])
def test_what_is_written_is_read(point_size: int, tmp_path: Path) -> None:
    kspace = _whole_numbers(3, 2, 7, 5)
    path = pfile(tmp_path / "P1.7", kspace, point_size=point_size)
    scan = load(path)
    np.testing.assert_array_equal(scan.kspace.numpy(), kspace)
    np.testing.assert_array_equal(load(path, slices=[2, 0]).kspace.numpy(), kspace[[2, 0]])
    assert scan.meta["format"] == "GE P-file"
    assert scan.meta["left_out"] == ["one baseline view of each coil and slice"]


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    kspace = _whole_numbers(1, 2, 7, 5)
    with pytest.raises(FormatError, match=r"expected a GE P-file of revision 26, P1.7 has revision 20.006"):
        load(pfile(tmp_path / "P1.7", kspace, revision=20.006))
    with pytest.raises(FormatError, match="got 2 echoes"):
        load(pfile(tmp_path / "P2.7", kspace, echoes=2))
    path = pfile(tmp_path / "P3.7", kspace)
    for options in ({"axes": "readout phase"}, {"variable": "kspace"}):
        with pytest.raises(FormatError, match="its header says it: leave"):
            load(path, **options)
    with pytest.raises(FormatError, match="expected at most 100 bytes"):
        load(path, max_bytes=100)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(FormatError, match="damaged, cut short, or of a kind"):
        load(path)


def test_damaged_files_give_format_errors_alone(tmp_path: Path) -> None:
    path = pfile(tmp_path / "P1.7", _whole_numbers(2, 2, 7, 5))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(200):
        changed = bytearray(whole if number % 2 else whole[: int(rng.integers(1, len(whole)))])
        for _ in range(3):
            changed[int(rng.integers(min(300, len(changed))))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            load(path, max_bytes=2**24)
        except FormatError:
            refused += 1
    assert refused > 100


def test_the_registered_file_shows_spheres(real_data: Path) -> None:
    """One sphere a slice near the middle, and no ghost half a field of view away: the sign of the lines is right."""
    (file,) = registry.files(name="phantom-ge-8ch")
    scan = file.load()
    assert scan.kspace.shape == (7, 8, 128, 128)
    images = ifft2c(scan.kspace).abs().square().sum(dim=1).sqrt()
    bright = (images > 0.3 * images.amax(dim=(1, 2), keepdim=True))[:, :100]  # below lies a small bottle
    rows, columns = np.nonzero(bright.any(dim=0).numpy())
    assert 15 < rows.min() < rows.max() < 100
    assert 20 < columns.min() < columns.max() < 110
    assert float(images[:, :12, :12].mean()) < 0.01 * float(images.amax())
    assert "order of the file" in scan.meta["note"]
