"""Recorded sessions of MRD, written by the serializer of the Python library ismrmrd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mri_recon.errors import FormatError
from mri_recon.io import load, load_noise
from mri_recon.io.formats.mrd_messages import ACQUISITION_HEADER, IMAGE_HEADER, WAVEFORM_HEADER
from tests.io.mrd_files import NOISE, REVERSE, Complex, Readout, mrd, readouts_of, step, write_session, xml
from tests.support.damage import assert_cuts_are_refused, assert_flips_are_errors_or_harmless
from tests.support.oblique import ROTATION, oblique

pytest.importorskip("ismrmrd", reason="the library ismrmrd is not installed")


def _noise(*shape: int) -> Complex:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def test_a_session_is_read_as_the_file_of_the_same_readouts(tmp_path: Path) -> None:
    """Noise, limits, a reversed line, discarded samples and geometry: all as in HDF5."""
    geometry = oblique(3)
    lines = readouts_of(_noise(3, 2, 9, 6), read_dir=ROTATION[0], phase_dir=ROTATION[1], slice_dir=ROTATION[2])
    lines = [
        Readout(one.data, REVERSE * (one.idx["kspace_encode_step_1"] == 2), one.idx, {**one.fields, "position": place})
        for one in lines
        for place in [geometry.positions[one.idx["slice"]]]  # type: ignore[index]
    ]
    noise = Readout(_noise(2, 50), NOISE, fields={"sample_time_us": 1.0})
    header = xml((9, 8, 1), fov=(9, 8, 5), limits=step("kspace_encoding_step_1", 5, 3))
    session = load(write_session(tmp_path / "a.mrd", [noise, *lines], header, waveforms=2))
    file = load(mrd(tmp_path / "a.h5", [noise, *lines], header, waveforms=2))
    np.testing.assert_array_equal(session.samples, file.samples)
    np.testing.assert_array_equal(session.support, file.support)
    assert session.meta["format"] == "MRD raw data (recorded session)"
    own = {"format": "", "file": ""}
    assert {**session.meta, **own} == {**file.meta, **own}
    assert session.warnings == file.warnings
    assert "2 waveforms" in session.meta["left_out"]
    np.testing.assert_array_equal(load_noise(tmp_path / "a.mrd").numpy(), load_noise(tmp_path / "a.h5").numpy())


def test_trajectories_and_images_are_skipped(tmp_path: Path) -> None:
    kspace = _noise(1, 1, 7, 4)
    path = write_session(tmp_path / "a.mrd", readouts_of(kspace), xml((7, 4, 1)), trajectory=3, images=2, texts=1)
    scan = load(path)
    np.testing.assert_array_equal(scan.samples, kspace)
    assert scan.meta["left_out"] == ["2 images"]


def test_the_headers_are_those_of_the_library() -> None:
    import ctypes

    from ismrmrd.acquisition import AcquisitionHeader
    from ismrmrd.image import ImageHeader
    from ismrmrd.waveform import WaveformHeader

    for ours, theirs in (
        (ACQUISITION_HEADER, AcquisitionHeader),
        (IMAGE_HEADER, ImageHeader),
        (WAVEFORM_HEADER, WaveformHeader),
    ):
        assert ours.itemsize == ctypes.sizeof(theirs)
        assert ours.fields is not None
        found = {name: place for name, (_, place, *_) in ours.fields.items()}
        assert found == {name: getattr(theirs, name).offset for name, *_ in theirs._fields_ if name in found}


def test_damaged_files_are_errors(tmp_path: Path) -> None:
    path = write_session(tmp_path / "a.mrd", readouts_of(_noise(1, 2, 8, 6)), xml((8, 6, 1)), waveforms=1)
    assert_cuts_are_refused(path, step=path.stat().st_size // 40)
    assert_flips_are_errors_or_harmless(path, flips=150)


def test_lengths_beyond_the_file_take_no_memory(tmp_path: Path) -> None:
    path = write_session(tmp_path / "a.mrd", readouts_of(_noise(1, 2, 8, 6)), xml((8, 6, 1)))
    whole = path.read_bytes()
    place = whole.index((1008).to_bytes(2, "little")) + 2
    head = np.frombuffer(whole[place : place + 340], ACQUISITION_HEADER).copy()
    head["number_of_samples"] = head["active_channels"] = 65535
    path.write_bytes(whole[:place] + head.tobytes() + whole[place + 340 :])
    with pytest.raises(FormatError, match=r"expected whole messages in a\.mrd, the last one is cut short"):
        load(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:-2] + b"\x07\x00", "expected messages of MRD in a.mrd, got number 7: it is damaged"),
        (lambda whole: whole[:2] + b"\xff\xff\xff\x00" + whole[6:], "expected a header of at most 4194304 bytes"),
        (lambda whole: whole[:40] + b"\xff" + whole[41:], "expected a header in UTF-8 in a.mrd, got other bytes"),
        (lambda whole: whole[:-2], "expected whole messages in a.mrd, the last one is cut short"),
    ],
)
def test_every_refusal_says_why(tmp_path: Path, damage: object, message: str) -> None:
    path = write_session(tmp_path / "a.mrd", readouts_of(_noise(1, 1, 4, 4)), xml((4, 4, 1)))
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(FormatError) as error:
        load(path)
    assert message in str(error.value)


def test_a_session_without_readouts(tmp_path: Path) -> None:
    path = write_session(tmp_path / "a.mrd", [], xml((4, 4, 1)), waveforms=1)
    with pytest.raises(FormatError, match=r"expected a header and readouts in a\.mrd, found none"):
        load(path)
