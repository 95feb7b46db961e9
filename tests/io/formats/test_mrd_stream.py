"""MRD raw data of version 2, written by the library mrd-python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mri_recon.errors import FormatError
from mri_recon.io import load, load_noise
from tests.io.mrd_files import NOISE, Complex, Readout, readouts_of, stream_header, write_stream
from tests.support.damage import assert_cuts_are_refused, assert_flips_are_errors_or_harmless
from tests.support.oblique import ROTATION, oblique

pytest.importorskip("mrd", reason="the extra 'scanners' is not installed")


def _noise(*shape: int) -> Complex:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    kspace, geometry = _noise(3, 2, 7, 6), oblique(3)
    place = {"read_dir": ROTATION[0], "phase_dir": ROTATION[1], "slice_dir": ROTATION[2], "sample_time_us": 4.0}
    lines = [
        Readout(one.data, idx=one.idx, fields={**one.fields, **place, "position": geometry.positions[one.idx["slice"]]})  # type: ignore[index]
        for one in readouts_of(kspace)
    ]
    noise = Readout(_noise(2, 50), NOISE, fields={"sample_time_us": 1.0})
    path = write_stream(tmp_path / "a.mrd", [noise, *lines], stream_header((7, 6, 1), fov=(10.5, 12, 5)), waveform=True)
    scan = load(path)
    np.testing.assert_array_equal(scan.samples, kspace)
    np.testing.assert_array_equal(load(path, slices=[2, 0]).samples, kspace[[2, 0]])
    assert scan.meta["format"] == "MRD raw data (version 2)"
    assert scan.meta["left_out"] == ["1 noise scans", "1 waveforms"]
    assert scan.meta["acquisition"] == "t2"
    assert scan.geometry is not None
    np.testing.assert_allclose(scan.geometry.positions, geometry.positions, atol=1e-5)
    assert scan.geometry.voxel_size == pytest.approx(geometry.voxel_size)
    assert scan.geometry.patient_position == "FFP"
    np.testing.assert_allclose(load_noise(path).numpy(), noise.data / 2, rtol=1e-6)


def test_lines_lie_by_the_limits(tmp_path: Path) -> None:
    kspace = _noise(1, 1, 6, 8)
    path = write_stream(tmp_path / "a.mrd", readouts_of(kspace[..., 3:]), stream_header((6, 8, 1), center=1))
    np.testing.assert_array_equal(load(path).samples[..., 3:], kspace[..., 3:])


def test_damaged_files_are_errors(tmp_path: Path) -> None:
    path = write_stream(tmp_path / "a.mrd", readouts_of(_noise(1, 2, 8, 6)), stream_header((8, 6, 1)))
    assert_cuts_are_refused(path, step=path.stat().st_size // 40)
    assert_flips_are_errors_or_harmless(path, flips=40)


def test_lengths_beyond_the_file_take_no_memory(tmp_path: Path) -> None:
    """The declared samples of the first readout are made 2^40: refused, and not allocated."""
    path = write_stream(tmp_path / "a.mrd", readouts_of(_noise(1, 2, 8, 6)), stream_header((8, 6, 1)))
    content = path.read_bytes()
    at = content.index(bytes([2, 8]) + readouts_of(_noise(1, 2, 8, 6))[0].data.tobytes()[:16])
    path.write_bytes(content[:at] + bytes([2]) + bytes([128] * 5) + bytes([64]) + content[at + 2 :])
    with pytest.raises(FormatError, match="expected MRD raw data of version 2, got a.mrd, which is damaged"):
        load(path)


def test_streams_without_readouts(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="expected a header and readouts in a.mrd, found none"):
        load(write_stream(tmp_path / "a.mrd", [], stream_header((8, 6, 1))))
    with pytest.raises(FormatError, match="expected image lines in b.mrd, found none"):
        load(write_stream(tmp_path / "b.mrd", [Readout(_noise(1, 4), NOISE)], stream_header((8, 6, 1))))
