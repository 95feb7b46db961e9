"""The verb `convert`, and outputs of two files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mri_recon.cli.app import build_app
from mri_recon.io import load, save_scan
from tests.support.oblique import oblique


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    kspace = (rng.standard_normal((3, 2, 20, 16, 2)) * 5).view(np.complex128)[..., 0]
    kspace *= np.exp(-0.05 * ((np.arange(20)[:, None] - 10) ** 2 + (np.arange(16) - 8) ** 2))
    save_scan(tmp_path / "scan.h5", kspace, geometry=oblique(3))
    return tmp_path / "scan.h5"


def test_kspace_to_bart_and_what_is_lost(scan: Path, tmp_path: Path) -> None:
    done = run("convert", scan, tmp_path / "a.cfl")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'a.cfl'}: converted from {scan}" in done.output.replace("\n", "")
    assert "leaves out the geometry: .h5 holds everything" in done.output.replace("\n", " ")
    np.testing.assert_array_equal(load(tmp_path / "a.cfl").samples, load(scan).samples)


def test_a_result_to_dicom_in_two_commands(scan: Path, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the extra 'clinical' is not installed")
    result = tmp_path / "result.h5"
    assert run("reconstruct", scan, "--method", "zero-filled", "--acceleration", 2, "-o", result).exit_code == 0
    assert run("convert", result, tmp_path / "a.dcm").exit_code == 0
    assert (
        run("reconstruct", scan, "--method", "zero-filled", "--acceleration", 2, "-o", tmp_path / "b.dcm").exit_code
        == 0
    )
    first, second = (pydicom.dcmread(tmp_path / name) for name in ("a.dcm", "b.dcm"))
    np.testing.assert_array_equal(first.pixel_array, second.pixel_array)
    assert first.SOPClassUID == second.SOPClassUID
    assert first.DerivationDescription == second.DerivationDescription


def test_mistakes_are_one_line_and_nothing_is_written(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "a.hdr").symlink_to(scan)
    before = scan.read_bytes()
    for arguments, message in (
        ((scan, tmp_path / "a.dcm"), "which holds images: reconstruct the scan first"),
        ((scan, tmp_path / "a.tif"), "OUT: expected a name that ends in .h5"),
        ((scan, scan), "which is the input FILE"),
        ((scan, tmp_path / "a.cfl"), "OUT (its .hdr)"),
        ((tmp_path / "none.h5", tmp_path / "b.h5"), "none.h5"),
    ):
        done = run("convert", *arguments)
        assert done.exit_code == 2
        assert message in done.output.replace("\n", " ")
    assert scan.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.hdr", "scan.h5"]


def test_like_is_read_before_the_work(scan: Path, tmp_path: Path) -> None:
    done = run(
        "reconstruct", scan, "--method", "zero-filled", "--acceleration", 2, "-o", tmp_path / "a.dcm", "--like", scan
    )
    assert done.exit_code == 2
    assert "expected a DICOM image, got scan.h5" in done.output.replace("\n", " ")
    assert not (tmp_path / "a.dcm").exists()
