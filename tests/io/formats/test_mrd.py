"""ISMRMRD raw data: files written here field by field, and those of Debian's ismrmrd-tools."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_recon.errors import FormatError
from mri_recon.io import load, load_noise
from mri_recon.reconstruction import reconstruct
from mri_recon.transforms.fourier import fft1c, ifft1c, ifft2c
from tests.io.mrd_files import (
    CALIBRATION,
    CALIBRATION_AND_IMAGE,
    NAVIGATOR,
    NOISE,
    REVERSE,
    Complex,
    Readout,
    mrd,
    readouts_of,
    step,
    stream_header,
    write_stream,
    xml,
)
from tests.support.damage import assert_cuts_are_refused, assert_flips_are_errors_or_harmless
from tests.support.oblique import ROTATION, oblique

needs_tools = pytest.mark.skipif(
    shutil.which("ismrmrd_generate_cartesian_shepp_logan") is None, reason="Debian's ismrmrd-tools are not installed"
)


def _noise(*shape: int, seed: int = 0) -> Complex:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 9), st.integers(2, 9)),
    averages=st.integers(1, 3),
    turned=st.booleans(),
)
@settings(max_examples=12)
def test_what_is_written_is_read(shape: tuple[int, int, int, int], averages: int, turned: bool) -> None:
    kspace = _noise(*shape)
    lines = [
        replace(
            one,
            data=one.data[:, ::-1] if turned else one.data,
            flags=REVERSE if turned else 0,
            idx={**one.idx, "average": average},
        )
        for average in range(averages)
        for one in readouts_of(kspace)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = mrd(Path(folder, "scan.npy"), lines, xml((*shape[2:], 1)))  # the name does not matter
        scan = load(path)
        one = load(path, slices=[-1, 0])
    np.testing.assert_allclose(scan.samples, kspace, rtol=1e-6)
    np.testing.assert_array_equal(one.samples, scan.samples[[-1, 0]])
    assert one.meta["num_slices_in_file"] == shape[0]
    assert scan.mask is None
    assert scan.recon_size == shape[2:]
    assert ("averages of a line averaged" in " ".join(scan.meta["done"])) == (averages > 1)
    assert ("reversed lines turned round" in " ".join(scan.meta["done"])) == turned
    assert scan.meta["left_out"] == []
    assert scan.meta["format"] == "ISMRMRD raw data (MRD, HDF5)"
    assert scan.meta["acquisition"] == "t1_se"


def test_readout_oversampling_is_removed(tmp_path: Path) -> None:
    image = torch.zeros(2, 3, 12, 5, dtype=torch.complex64)
    image[:, :, 3:9] = torch.from_numpy(_noise(2, 3, 6, 5))
    header = xml((12, 5, 1), (6, 5, 1), fov=(480, 100, 4), recon_fov=(240, 100, 4))
    scan = load(mrd(tmp_path / "a.h5", readouts_of(fft1c(image, dim=-2).numpy()), header))
    torch.testing.assert_close(scan.kspace, fft1c(image[:, :, 3:9], dim=-2), rtol=1e-5, atol=1e-5)
    assert scan.meta["done"] == ["readout oversampling of 2 removed"]
    assert scan.geometry is not None
    assert scan.geometry.voxel_size == pytest.approx((40.0, 20.0, 4.0))


@pytest.mark.parametrize(("start", "pre", "post"), [(5, 0, 0), (3, 2, 1), (0, 0, 6)])
def test_an_asymmetric_echo_comes_to_the_middle(start: int, pre: int, post: int, tmp_path: Path) -> None:
    """The first or last samples were not acquired, or are to be discarded."""
    kspace = _noise(1, 2, 16, 6)
    acquired = kspace[:, :, start:]
    lines = readouts_of(acquired, center_sample=8 - start, discard_pre=pre, discard_post=post)
    scan = load(mrd(tmp_path / "a.h5", lines, xml((16, 6, 1))))
    expected = kspace.copy()
    expected[:, :, : start + pre] = 0
    expected[:, :, 16 - post :] = 0
    np.testing.assert_allclose(scan.samples, expected)
    assert any("asymmetric echo" in one for one in scan.meta["done"])


def test_an_echo_that_needs_more_room_than_the_encoded_space(tmp_path: Path) -> None:
    kspace = _noise(1, 1, 12, 4)
    scan = load(mrd(tmp_path / "a.h5", readouts_of(kspace, center_sample=3), xml((12, 4, 1))))
    assert scan.samples.shape == (1, 1, 17, 4)
    np.testing.assert_array_equal(scan.samples[:, :, 5:], kspace)


def test_partial_fourier_and_skipped_lines_lie_by_the_limits(tmp_path: Path) -> None:
    """12 columns, of which the first three are not acquired: the limits count from the first acquired line."""
    kspace = _noise(1, 2, 8, 12)
    lines = [
        replace(one, idx={**one.idx, "kspace_encode_step_1": number})
        for number, one in enumerate(readouts_of(kspace[..., 3:]))
    ]
    header = xml((8, 12, 1), limits=step("kspace_encoding_step_1", 8, 3))
    scan = load(mrd(tmp_path / "a.h5", lines, header))
    expected = kspace.copy()
    expected[..., :3] = 0
    np.testing.assert_array_equal(scan.samples, expected)
    assert scan.meta["padding"] == [3, 12]
    assert scan.fully_sampled
    assert any("outside the limits" in one for one in scan.meta["done"])

    scan = load(mrd(tmp_path / "b.h5", [one for one in lines if one.idx["kspace_encode_step_1"] % 3 != 1], header))
    assert scan.mask is not None
    np.testing.assert_array_equal(np.flatnonzero(scan.mask.array), [3, 5, 6, 8, 9, 11])
    assert scan.support.sum() == 9


@pytest.mark.parametrize("mode", ["embedded", "interleaved", "separate", ""])
def test_calibration_lines(mode: str, tmp_path: Path) -> None:
    kspace = _noise(1, 2, 6, 8)
    kinds = {2: CALIBRATION_AND_IMAGE | CALIBRATION, 3: CALIBRATION, 4: CALIBRATION_AND_IMAGE, 5: CALIBRATION}
    lines = [
        replace(one, flags=kinds.get(number, 0))
        for number, one in enumerate(readouts_of(kspace))
        if number not in (1, 7)
    ]
    scan = load(mrd(tmp_path / "a.h5", lines, xml((6, 8, 1), calibration=mode)))
    with_them = mode in ("embedded", "interleaved")
    assert scan.mask is not None
    assert np.flatnonzero(scan.mask.array).tolist() == ([0, 2, 3, 4, 5, 6] if with_them else [0, 2, 4, 6])
    told = "2 calibration lines of parallel imaging"
    assert (told in scan.meta["left_out"]) == (not with_them)


def test_one_contrast_repetition_phase_and_set_is_chosen_and_the_rest_told(tmp_path: Path) -> None:
    names = {"contrast": "contrast", "repetition": "repetition", "phase": "cardiac", "set": "set"}
    parts = {}
    lines = [
        Readout(_noise(2, 6), NAVIGATOR),
        Readout(_noise(2, 5)),
        Readout(_noise(2, 6), fields={"encoding_space_ref": 1}),
    ]
    for number, counter in enumerate([None, *names]):
        parts[counter] = _noise(1, 2, 6, 4, seed=number)
        lines += [
            replace(one, idx={**one.idx, **({counter: 3} if counter else {})}) for one in readouts_of(parts[counter])
        ]
    path = mrd(tmp_path / "a.h5", lines, xml((6, 4, 1), copies=2), waveforms=7)
    scan = load(path)
    np.testing.assert_array_equal(scan.samples, parts[None])
    assert scan.meta["left_out"] == [
        "1 navigator lines",
        "1 lines of other encoding spaces (2 in all, this is number 0)",
        *(f"4 lines of other values of {what} (2 in all, this is number 0)" for what in names.values()),
        "1 lines of another size",
        "7 waveforms",
    ]
    for counter, what in names.items():
        np.testing.assert_array_equal(load(path, variable=f"{what}=1").samples, parts[counter])
    with pytest.raises(FormatError, match="expected repetition from 0 to 1 in a.h5, got repetition=2"):
        load(path, variable="repetition=2")
    with pytest.raises(FormatError, match="names are encoding"):
        load(path, variable="kspace")
    with pytest.raises(FormatError, match="it says them itself: leave axes out"):
        load(path, axes="readout phase")


def test_partitions_become_slices_in_their_places(tmp_path: Path) -> None:
    kspace = _noise(5, 2, 6, 4)  # five partitions
    geometry = oblique(5)
    first = geometry.positions[2]  # type: ignore[index]
    lines = [
        replace(
            one,
            idx={"kspace_encode_step_1": one.idx["kspace_encode_step_1"], "kspace_encode_step_2": one.idx["slice"]},
            fields={**one.fields, **_place(first)},
        )
        for one in readouts_of(kspace)
    ]
    header = xml((6, 4, 5), fov=(9, 8, 25), limits=step("kspace_encoding_step_2", 4, 2))
    path = mrd(tmp_path / "a.h5", lines, header)
    scan = load(path)
    expected = ifft1c(torch.from_numpy(kspace), dim=0)
    torch.testing.assert_close(scan.kspace, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(load(path, slices=3).kspace, expected[3:4], rtol=1e-5, atol=1e-5)
    assert scan.geometry is not None
    np.testing.assert_allclose(scan.geometry.positions, geometry.positions, atol=1e-4)
    assert scan.geometry.voxel_size == pytest.approx(geometry.voxel_size)


def _place(position: tuple[float, float, float]) -> dict[str, object]:
    return {"position": position, "read_dir": ROTATION[0], "phase_dir": ROTATION[1], "slice_dir": ROTATION[2]}


def test_slices_keep_their_places_in_every_order(tmp_path: Path) -> None:
    kspace, geometry = _noise(3, 1, 6, 4), oblique(3).of_slices([2, 0, 1])
    lines = [
        replace(one, fields={**one.fields, **_place(geometry.positions[one.idx["slice"]])})  # type: ignore[index]
        for one in readouts_of(kspace)
    ]
    path = mrd(tmp_path / "a.h5", lines, xml((6, 4, 1), fov=(9, 8, 5)))
    found = load(path).geometry
    assert found is not None
    np.testing.assert_allclose(found.positions, geometry.positions, atol=1e-5)
    np.testing.assert_allclose(found.directions, geometry.directions, atol=1e-6)
    assert (found.voxel_size, found.patient_position) == (geometry.voxel_size, "HFS")
    one = load(path, slices=[1]).geometry
    assert one is not None
    assert one.positions == found.positions[1:2]  # type: ignore[index]
    tilted = [replace(one, fields={**one.fields, "read_dir": (0, 1, 0)}) if one.idx["slice"] else one for one in lines]
    scan = load(mrd(tmp_path / "b.h5", tilted, xml((6, 4, 1), fov=(9, 8, 5))))
    assert scan.geometry is not None
    assert scan.geometry.positions is None
    assert "not parallel" in scan.meta["note"]


def test_noise_scans_whiten_and_count_their_bandwidth(tmp_path: Path) -> None:
    noise, kspace = _noise(2, 300), _noise(1, 2, 16, 12) * 50
    lines = [Readout(noise, NOISE, fields={"sample_time_us": 2.0}), *readouts_of(kspace, sample_time_us=8.0)]
    path = mrd(tmp_path / "a.h5", lines, xml((16, 12, 1)))
    found = load_noise(path)
    np.testing.assert_allclose(
        found.numpy(), noise / 2, rtol=1e-6
    )  # a quarter of the bandwidth, a quarter of the power
    scan = load(path)
    assert "1 noise scans" in scan.meta["left_out"]
    assert "give this file to --prewhiten" in scan.meta["note"]
    result = reconstruct(scan.kspace, np.ones(12, bool), method="zero-filled", prewhiten=found)
    assert "preparation" in result.info
    with pytest.raises(FormatError, match="expected noise scans in b.h5, found none"):
        load_noise(mrd(tmp_path / "b.h5", readouts_of(kspace), xml((16, 12, 1))))
    with pytest.raises(FormatError, match="expected noise scans of 2 coils in c.h5, got others"):
        load_noise(mrd(tmp_path / "c.h5", [Readout(noise[:1], NOISE), *lines[1:]], xml((16, 12, 1))))


def test_the_receivers_filter_and_averages_count(tmp_path: Path) -> None:
    noise, kspace = _noise(2, 300), _noise(1, 2, 16, 12)
    system = "<acquisitionSystemInformation>{}</acquisitionSystemInformation><encoding>"
    lines = [Readout(noise, NOISE, fields={"sample_time_us": 8.0})]
    for average in range(2):
        lines += [replace(one, idx={**one.idx, "average": average}) for one in readouts_of(kspace, sample_time_us=8.0)]
    for text, bandwidth in (("0.793", 0.793), ("1.5", 1.0), ("nan", 1.0), ("x", 1.0), ("0", 1.0)):
        field = f"<relativeReceiverNoiseBandwidth>{text}</relativeReceiverNoiseBandwidth>"
        header = xml((16, 12, 1)).replace("<encoding>", system.format(field), 1)
        found = load_noise(mrd(tmp_path / "a.h5", lines, header)).numpy()
        np.testing.assert_allclose(found, noise / np.sqrt(2 * bandwidth), rtol=1e-6)
    mrd2 = pytest.importorskip("mrd", reason="the extra 'scanners' is not installed")
    header = stream_header((16, 12, 1))
    header.acquisition_system_information = mrd2.AcquisitionSystemInformationType(relative_receiver_noise_bandwidth=0.5)
    found = load_noise(write_stream(tmp_path / "a.mrd", lines, header)).numpy()
    np.testing.assert_allclose(found, noise, rtol=1e-6)


def test_files_that_are_not_read(tmp_path: Path) -> None:
    kspace = _noise(1, 2, 8, 6)
    lines = readouts_of(kspace)
    good = xml((8, 6, 1))

    def refused(readouts: list[Readout], header: str, message: str, **options: object) -> None:
        with pytest.raises(FormatError, match=message):
            load(mrd(tmp_path / "a.h5", readouts, header), **options)  # type: ignore[arg-type]

    refused(lines, xml((8, 6, 1), trajectory="spiral"), "expected a Cartesian trajectory in a.h5, got 'spiral'")
    refused(lines, xml((8, 5, 1)), "expected lines inside the 5 of the encoded space of a.h5, got 0 to 5")
    refused(lines, good, "expected at most 100 bytes", max_bytes=100)
    refused([replace(one, flags=NOISE) for one in lines], good, "expected image lines in a.h5, found none")
    refused([replace(one, fields={"discard_pre": 8}) for one in lines], good, "they discard all")
    refused(readouts_of(_noise(2, 2, 8, 6))[:-1], good, "expected the same lines in every slice and partition")
    refused(lines, xml((8, 2**20, 1)), "expected readouts of one scan|expected at most")
    refused(lines, "<a>", "expected an ISMRMRD header in XML in a.h5")
    refused(lines, '<!DOCTYPE a [<!ENTITY b "c">]><a/>', "without DOCTYPE and ENTITY")
    refused(lines, good.replace("matrixSize", "size"), "expected the size of the encoded space in the header of a.h5")
    many = [replace(lines[0], fields={"number_of_samples": 60000, "active_channels": 60000})]
    refused(many, good, "bytes of samples in a.h5, the file has")
    refused([replace(lines[0], fields={"number_of_samples": 7})], good, "numbers in readout 0 of a.h5, got 32")


def test_records_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = mrd(tmp_path / "a.h5", readouts_of(_noise(1, 2, 8, 6)), xml((8, 6, 1)))
    with h5py.File(path, "a") as file:
        del file["dataset/data"]
        kind = np.dtype([("head", [("flags", "<u8")]), ("data", "<f4", 3)])
        file["dataset"].create_dataset("data", data=np.zeros(2, kind))
    with pytest.raises(FormatError, match="expected readouts of ISMRMRD, version 1, in a.h5, got other records"):
        load(path)


def test_damaged_files_are_errors(tmp_path: Path) -> None:
    path = mrd(tmp_path / "a.h5", readouts_of(_noise(1, 2, 8, 6)), xml((8, 6, 1)))
    assert_cuts_are_refused(path, step=path.stat().st_size // 40)
    assert_flips_are_errors_or_harmless(path, flips=40)


def _tool(folder: Path, *arguments: str) -> None:
    subprocess.run(arguments, cwd=folder, check=True, capture_output=True, timeout=120)


@needs_tools
def test_a_phantom_of_others_becomes_the_image_of_their_reconstruction(tmp_path: Path) -> None:
    """`ismrmrd_recon_cartesian_2d` scales differently: the images agree up to one factor."""
    _tool(
        tmp_path, "ismrmrd_generate_cartesian_shepp_logan", "-m", "46", "-c", "3", "-O", "2", "-n", "0.02", "-o", "a.h5"
    )
    scan = load(tmp_path / "a.h5")
    _tool(tmp_path, "ismrmrd_recon_cartesian_2d", "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        theirs = np.asarray(file["dataset/cpp/data"]).squeeze().T  # x is the readout
    mine = ifft2c(scan.kspace).abs().square().sum(dim=1).sqrt()[0].numpy()
    assert mine.shape == theirs.shape == (46, 46)
    factor = float((mine * theirs).sum() / (theirs**2).sum())
    np.testing.assert_allclose(mine, theirs * factor, atol=1e-5 * mine.max())
    assert "images 'cpp'" in load(tmp_path / "a.h5").meta["left_out"]


@needs_tools
@pytest.mark.parametrize("acceleration", [2, 3])
def test_accelerated_phantoms_with_noise_and_repetitions(acceleration: int, tmp_path: Path) -> None:
    options = ["-m", "32", "-c", "2", "-a", str(acceleration), "-w", "8", "-r", "2", "-C", "-o", "a.h5"]
    _tool(tmp_path, "ismrmrd_generate_cartesian_shepp_logan", *options)
    scan = load(tmp_path / "a.h5")
    assert scan.samples.shape == (1, 2, 32, 32)
    assert scan.mask is not None
    expected = {*range(0, 32, acceleration), *range(12, 20)}
    assert set(np.flatnonzero(scan.mask.array).tolist()) == expected
    assert load_noise(tmp_path / "a.h5").shape == (2, 64)
    other = load(tmp_path / "a.h5", variable="repetition=1")
    assert set(np.flatnonzero(other.mask.array).tolist()) == {*range(1, 32, acceleration), *range(12, 20)}  # type: ignore[union-attr]
