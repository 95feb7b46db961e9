"""Agilent fid with procpar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mri_recon.errors import FormatError
from mri_recon.io import load
from mri_recon.transforms.fourier import ifft2c
from mri_recon_data import registry
from tests.io.scanner_files import Complex, fid


def _whole_numbers(*shape: int) -> Complex:
    rng = np.random.default_rng(0)
    return (rng.integers(-999, 999, shape) + 1j * rng.integers(-999, 999, shape)).astype(np.complex64)


@pytest.mark.parametrize("kind", [">f4", ">i4", ">i2"])
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    kspace = _whole_numbers(3, 2, 7, 5)
    path = fid(tmp_path / "scan.fid", kspace, kind=kind)
    for element in range(3):
        scan = load(path, variable=f"array={element}")
        np.testing.assert_array_equal(scan.kspace[:, 0].numpy(), kspace[element])
        assert scan.meta["left_out"] == ["2 other values of 'ti'"]
    np.testing.assert_array_equal(load(path).kspace[:, 0].numpy(), kspace[0])
    np.testing.assert_array_equal(load(path, slices=1).kspace[:, 0].numpy(), kspace[0, 1:])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"seqcon": '"nccnn"'}, "expected one phase-encoding line a block"),
        ({"seqcon": '"nssnn"'}, "expected the slices inside a block"),
        ({"ns": "3"}, "procpar belongs to another scan"),
        ({"nv": "4"}, "procpar belongs to another scan"),
        ({"nv": "many"}, "expected a whole number nv"),
        ({"ne": "2"}, "expected one echo a line"),
        ({"petable": '"fse"'}, "names a table of lines"),
    ],
)
def test_other_orders_are_refused(parameters: dict[str, str], message: str, tmp_path: Path) -> None:
    path = fid(tmp_path / "scan.fid", _whole_numbers(1, 2, 7, 5), **parameters)
    with pytest.raises(FormatError, match=message):
        load(path)


def test_what_is_asked_for_has_to_be_there(tmp_path: Path) -> None:
    path = fid(tmp_path / "scan.fid", _whole_numbers(2, 2, 7, 5))
    with pytest.raises(FormatError, match=r"expected array from 0 to 1 in fid, got array=2"):
        load(path, variable="array=2")
    with pytest.raises(FormatError, match="names are array"):
        load(path, variable="echo=1")
    with pytest.raises(FormatError, match="procpar says them"):
        load(path, axes="readout phase")
    (path.parent / "procpar").unlink()
    with pytest.raises(FormatError, match="expected a file procpar beside"):
        load(path)


def test_damaged_files_give_format_errors_alone(tmp_path: Path) -> None:
    path = fid(tmp_path / "scan.fid", _whole_numbers(2, 2, 7, 5))
    parameters = path.with_name("procpar")
    files = {one: one.read_bytes() for one in (path, parameters)}
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(200):
        target = (path, parameters)[number % 2]
        changed = bytearray(files[target])
        if number % 4 < 2:
            del changed[int(rng.integers(1, len(changed))) :]
        for _ in range(3):
            changed[int(rng.integers(min(200, len(changed))))] ^= 1 << int(rng.integers(8))
        target.write_bytes(changed)
        try:
            load(path, max_bytes=2**24)
        except FormatError:
            refused += 1
        target.write_bytes(files[target])
    assert refused > 100


def test_the_registered_file_shows_a_head(real_data: Path) -> None:
    """One object in air, in the middle of the readout axis; the last inversion time of twelve."""
    (file,) = registry.files(name="rodent-head-9.4T")
    scan = file.load()
    assert scan.kspace.shape == (2, 1, 128, 128)
    assert scan.meta["num_array"] == 12
    assert scan.meta["array"] == 11
    image = ifft2c(scan.kspace)[:, 0].abs()
    bright = image > 0.2 * image.amax()
    assert 0.1 < float(bright.float().mean()) < 0.4
    assert not bright[:, :, :15].any()
    assert not bright[:, :, -15:].any()
    with pytest.raises(FormatError, match=r"expected array from 0 to 11"):
        load(real_data / file.name, variable="array=12")
