"""Siemens raw data: files packed here byte by byte, and the registered ones of real scanners."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_recon.coils.noise import noise_covariance, whiten
from mri_recon.errors import FormatError
from mri_recon.io import load, load_noise
from mri_recon.io.formats.twix_blocks import find_lines, find_measurements, read_channels, read_protocol
from mri_recon.io.formats.twix_noise import image_sample_time
from mri_recon.transforms.fourier import fft1c, ifft1c
from mri_recon_data import registry
from tests.io.scanner_files import Block, Complex, lines_of, twix_vb, twix_ve
from tests.io.second_reader import read_by_mapvbvd

pytest.importorskip("twixtools", reason="the extra 'scanners' is not installed")


def _noise(*shape: int, seed: int = 0) -> Complex:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 9), st.integers(2, 9)),
    vb=st.booleans(),
    reflected=st.booleans(),
    averages=st.integers(1, 3),
    length_known=st.booleans(),
)
@settings(max_examples=40)
def test_what_is_written_is_read(
    shape: tuple[int, int, int, int], vb: bool, reflected: bool, averages: int, length_known: bool
) -> None:
    kspace = _noise(*shape)
    blocks = [
        replace(
            block,
            data=block.data[:, ::-1] if reflected else block.data,
            flags=("REFLECT",) if reflected else (),
            counters={**block.counters, "Ave": average},
        )
        for average in range(averages)
        for block in lines_of(kspace)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "meas.dat")
        scan = load(twix_vb(path, blocks) if vb else twix_ve(path, blocks, length_known=length_known))
        one = load(path, slices=[-1])
    np.testing.assert_allclose(scan.kspace.numpy(), kspace, rtol=1e-6)
    np.testing.assert_array_equal(one.kspace.numpy(), scan.kspace[-1:].numpy())
    assert (one.meta["slices"], one.meta["num_slices_in_file"]) == ([shape[0] - 1], shape[0])
    done = " ".join(scan.meta["done"])
    assert ("reflected lines turned round" in done) == reflected
    assert ("averages of a line averaged" in done) == (averages > 1)
    assert scan.meta["format"] == f"Siemens raw data ({'VB' if vb else 'VD/VE'})"
    assert scan.meta["left_out"] == []


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    kspace = _noise(1, 2, 6, 8)
    np.testing.assert_array_equal(load(twix_ve(tmp_path / "scan.npy", lines_of(kspace))).kspace.numpy(), kspace)


def test_readout_oversampling_is_removed_and_said(tmp_path: Path) -> None:
    image = torch.zeros(2, 3, 8, 6, dtype=torch.complex64)
    image[:, :, 2:6] = torch.from_numpy(_noise(2, 3, 4, 6))
    kspace = fft1c(image, dim=-2).numpy()
    scan = load(twix_ve(tmp_path / "meas.dat", lines_of(kspace), oversampling=2.0))
    expected = fft1c(image[:, :, 2:6], dim=-2)
    torch.testing.assert_close(scan.kspace, expected, rtol=1e-5, atol=1e-5)
    assert scan.meta["done"] == ["readout oversampling of 2 removed"]
    assert scan.meta["readout_oversampling"] == 2.0


def test_what_is_no_image_is_left_out_and_counted(tmp_path: Path) -> None:
    kspace = _noise(1, 2, 6, 8)
    blocks = [
        *(Block(_noise(2, 6, seed=9), ("NOISEADJSCAN",)) for _ in range(3)),
        Block(_noise(2, 6, seed=8), ("PHASCOR",)),
        Block(_noise(2, 6, seed=7), ("PATREFSCAN",), {"Lin": 4}),
        Block(_noise(2, 6, seed=6), ("SYNCDATA",)),
        *lines_of(kspace, flags=("PATREFSCAN", "PATREFANDIMASCAN")),
    ]
    scan = load(twix_ve(tmp_path / "meas.dat", [Block(_noise(4, 3), ("NOISEADJSCAN",))], blocks))
    np.testing.assert_array_equal(scan.kspace.numpy(), kspace)
    assert scan.meta["left_out"] == [
        "3 noise scans",
        "1 phase-correction lines",
        "1 calibration lines of parallel imaging",
        "1 blocks of other data (SYNCDATA)",
        "1 other measurements of the file (this is number 1)",
    ]
    with pytest.raises(FormatError, match=r"expected image lines in measurement 0 of meas.dat, found none"):
        load(tmp_path / "meas.dat", variable="measurement=0")


def test_contrasts_are_chosen(tmp_path: Path) -> None:
    kspace = _noise(3, 2, 6, 8)
    blocks = [
        replace(block, counters={"Lin": block.counters["Lin"], "Eco": 2 * block.counters["Sli"]})
        for block in lines_of(kspace)
    ]
    path = twix_ve(tmp_path / "meas.dat", blocks)
    first = load(path)
    np.testing.assert_array_equal(first.kspace.numpy(), kspace[:1])
    assert first.meta["left_out"] == ["16 lines of other values of echo (3 in all, this is number 0)"]
    np.testing.assert_array_equal(load(path, variable="echo=2").kspace.numpy(), kspace[2:])
    with pytest.raises(FormatError, match=r"expected echo from 0 to 2 in meas.dat, got echo=3"):
        load(path, variable="echo=3")
    with pytest.raises(FormatError, match="names are measurement .*, echo .*interleave"):
        load(path, variable="kspace")
    with pytest.raises(FormatError, match="leave axes out"):
        load(path, axes="readout phase")


def test_interleaved_echoes(tmp_path: Path) -> None:
    kspace = _noise(1, 1, 8, 24)
    path = twix_ve(tmp_path / "meas.dat", lines_of(kspace))
    (warning,) = load(path).warnings
    assert "variable 'interleave=0/3'" in warning
    for number in range(3):
        scan = load(path, variable=f"interleave={number}/3")
        np.testing.assert_array_equal(scan.kspace.numpy(), kspace[..., number::3])
    for wrong in ("interleave=3/3", "interleave=1", "interleave=0/65"):
        with pytest.raises(FormatError, match="expected interleave=I/N"):
            load(path, variable=wrong)


@pytest.mark.parametrize("late", [False, True])
def test_partial_fourier_has_its_centre_in_the_middle(late: bool, tmp_path: Path) -> None:
    kspace = _noise(1, 2, 6, 16)
    kept = kspace[..., :12] if late else kspace[..., 4:]
    scan = load(twix_ve(tmp_path / "meas.dat", lines_of(kept, center_line=8 if late else 4)))
    expected = kspace.copy()
    expected[..., slice(12, 16) if late else slice(0, 4)] = 0
    np.testing.assert_array_equal(scan.kspace.numpy(), expected)
    assert scan.support.tolist() == (np.arange(16) < 12 if late else np.arange(16) >= 4).tolist()
    assert "partial Fourier" in scan.meta["done"][0]


def test_an_asymmetric_echo_has_its_centre_in_the_middle(tmp_path: Path) -> None:
    kspace = _noise(1, 1, 16, 6)
    scan = load(twix_ve(tmp_path / "meas.dat", lines_of(kspace[:, :, 5:], center_column=3)))
    np.testing.assert_array_equal(scan.kspace[:, :, 5:].numpy(), kspace[:, :, 5:])
    assert not scan.kspace[:, :, :5].any()


def test_skipped_lines_become_the_mask(tmp_path: Path) -> None:
    kspace = _noise(2, 2, 6, 16)
    lines = (0, 2, 4, 6, 7, 8, 9, 10, 12, 14)
    blocks = [block for block in lines_of(kspace, center_line=8) if block.counters["Lin"] in lines]
    scan = load(twix_ve(tmp_path / "meas.dat", blocks))
    assert scan.width == 16
    assert scan.mask is not None
    assert np.flatnonzero(scan.mask.lines).tolist() == list(lines)  # type: ignore[union-attr]
    assert not scan.fully_sampled
    assert scan.meta["done"] == []


def test_slices_with_other_lines_are_refused_and_read_alone(tmp_path: Path) -> None:
    blocks = lines_of(_noise(2, 1, 6, 8))[:-1]
    path = twix_ve(tmp_path / "meas.dat", blocks)
    with pytest.raises(FormatError, match="expected the same lines in every slice"):
        load(path)
    assert load(path, slices=0).kspace.shape == (1, 1, 6, 8)


def test_lines_of_both_directions_are_warned_of(tmp_path: Path) -> None:
    kspace = _noise(1, 2, 6, 8)
    blocks = [
        replace(block, data=block.data[:, ::-1], flags=("REFLECT",)) if number % 2 else block
        for number, block in enumerate(lines_of(kspace))
    ]
    scan = load(twix_ve(tmp_path / "meas.dat", blocks))
    np.testing.assert_array_equal(scan.kspace.numpy(), kspace)
    (warning,) = scan.warnings
    assert "phase is not corrected" in warning


def test_partitions_become_slices(tmp_path: Path) -> None:
    kspace = _noise(6, 2, 5, 4)
    blocks = [
        replace(block, counters={"Lin": block.counters["Lin"], "Par": block.counters["Sli"]})
        for block in lines_of(kspace, center_partition=3)
    ]
    path = twix_ve(tmp_path / "meas.dat", blocks)
    scan = load(path)
    torch.testing.assert_close(scan.kspace, ifft1c(torch.from_numpy(kspace), dim=0))
    torch.testing.assert_close(load(path, slices=[4, 1]).kspace, scan.kspace[[4, 1]])
    assert scan.meta["done"] == ["6 partitions transformed to slices"]


def test_a_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = twix_ve(tmp_path / "meas.dat", lines_of(_noise(1, 2, 6, 8)), length_known=False)
    whole = path.read_bytes()
    path.write_bytes(whole[:-900])
    with pytest.raises(FormatError, match=r"meas.dat, (the file ends before it|which is damaged at byte)"):
        load(path)


def test_a_small_file_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    far = [Block(_noise(1, 64), counters={"Lin": 60000}), Block(_noise(1, 64), counters={"Lin": 0})]
    with pytest.raises(FormatError, match=r"2 of them declare shape \(1, 1, 1, 64, 60001\)"):
        load(twix_ve(tmp_path / "meas.dat", far))
    with pytest.raises(FormatError, match="expected at most 1000 bytes"):
        load(twix_ve(tmp_path / "small.dat", lines_of(_noise(1, 2, 16, 16))), max_bytes=1000)


@pytest.mark.parametrize("vb", [False, True])
def test_damaged_files_give_format_errors_alone(vb: bool, tmp_path: Path) -> None:
    blocks = [Block(_noise(2, 6), ("NOISEADJSCAN",)), *lines_of(_noise(2, 2, 6, 8))]
    path = tmp_path / "meas.dat"
    whole = (twix_vb(path, blocks) if vb else twix_ve(path, blocks, lines_of(_noise(1, 1, 4, 4)))).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(200):
        if number % 2:
            damaged = whole[: int(rng.integers(1, len(whole)))]
        else:
            changed = bytearray(whole)
            # Half of the flips go to the table, the protocol's sizes and the headers of the blocks.
            for _ in range(4):
                place = int(rng.integers(len(whole)))
                place = int(rng.choice([place % 200, 10240 + place % 2000, place]))
                changed[place % len(whole)] ^= 1 << int(rng.integers(8))
            damaged = bytes(changed)
        path.write_bytes(damaged)
        try:
            load(path, max_bytes=2**24)
        except FormatError:
            refused += 1
    assert refused > 80


def test_a_second_reader_gets_the_same_samples(real_data: Path) -> None:
    """pymapvbvd and twixtools share no code; every registered Siemens file, of three software versions."""
    files = [file for file in registry.files() if file.name.endswith(".dat")]
    assert len(files) == 9
    for file in files:
        samples = read_by_mapvbvd(real_data / file.name)
        other = samples.reshape(samples.shape[:3])  # (readout, coil, phase)
        scan = load(real_data / file.name)
        mine = scan.kspace[0]
        expected = torch.from_numpy(np.ascontiguousarray(other.transpose(1, 0, 2)).astype(np.complex64))
        if scan.meta["readout_oversampling"] == 2.0:
            quarter = expected.shape[1] // 4
            expected = fft1c(ifft1c(expected, dim=1)[:, quarter:-quarter], dim=1)
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        assert scan.fully_sampled


DWELL = "sRXSPEC.alDwellTime[0]\t = \t10000\nsRXSPEC.alDwellTime[1]\t = \t20000\n"
FILTER = 0.793  # relative receiver noise bandwidth, as siemens_to_ismrmrd writes it


def _noise_blocks(coils: int, samples: int, count: int = 3, **about: object) -> list[Block]:
    return [
        Block(_noise(coils, samples, seed=50 + number), ("NOISEADJSCAN",), {"Lin": number}, **about)  # type: ignore[arg-type]
        for number in range(count)
    ]


def _joined(blocks: list[Block]) -> Complex:
    return np.concatenate([one.data for one in blocks], axis=1)


@pytest.mark.parametrize(("vb", "time"), [(True, 1e6 / (130 * 256)), (False, 30.0)])
def test_noise_scans_are_scaled_to_the_image_lines(vb: bool, time: float, tmp_path: Path) -> None:
    """scale^2 = t_noise / (t_image b): 30 us in the noise scan of 256 samples, 10 us in the image."""
    kspace, noise = _noise(1, 2, 6, 8), _noise_blocks(2, 256)
    write = twix_vb if vb else twix_ve
    path = write(tmp_path / "meas.dat", [*noise, *lines_of(kspace)], protocol=DWELL)
    expected = _joined(noise) * np.sqrt(time / 10 / FILTER)
    np.testing.assert_allclose(load_noise(path).numpy(), expected, rtol=1e-5)
    scan = load(path)
    np.testing.assert_array_equal(scan.kspace.numpy(), kspace)
    assert scan.meta["left_out"] == ["3 noise scans"]
    assert "3 noise scans can whiten the coils: give this file to --prewhiten" in scan.meta["note"]


@pytest.mark.parametrize(("protocol", "time"), [("AdjCoilSens", 5.0), ("AdjQuietCoilSens", 4.0), ("gre", 15.0)])
def test_noise_of_an_adjustment_before_the_scan(protocol: str, time: float, tmp_path: Path) -> None:
    """The first measurement of a VD/VE file; the nearest one with noise counts, and image lines of it do not."""
    kspace, noise = _noise(1, 2, 6, 8), _noise_blocks(2, 512)
    text = f'{DWELL}<ParamString."tProtocolName">  {{ "{protocol}"  }}\n'
    far, near = _noise_blocks(2, 100, 1), [*noise, *lines_of(_noise(1, 2, 4, 4))]
    path = twix_ve(tmp_path / "meas.dat", far, near, lines_of(kspace), protocol=text)
    np.testing.assert_allclose(load_noise(path).numpy(), _joined(noise) * np.sqrt(time / 10 / FILTER), rtol=1e-5)
    assert "4 noise scans can whiten" in load(path).meta["note"]


def test_averages_have_less_noise_and_unknown_dwell_times_count_as_equal(tmp_path: Path) -> None:
    kspace, noise = _noise(1, 2, 6, 8), _noise_blocks(2, 256)
    averaged = [
        replace(one, counters={**one.counters, "Ave": number}) for number in range(4) for one in lines_of(kspace)
    ]
    found = load_noise(twix_ve(tmp_path / "a.dat", [*noise, *averaged], protocol=DWELL)).numpy()
    np.testing.assert_allclose(found, _joined(noise) * np.sqrt(3 / FILTER / 4), rtol=1e-5)
    found = load_noise(twix_ve(tmp_path / "b.dat", [*noise, *lines_of(kspace)])).numpy()
    np.testing.assert_allclose(found, _joined(noise) * np.sqrt(1 / FILTER), rtol=1e-5)


@pytest.mark.parametrize("vb", [True, False])
def test_noise_of_the_same_channels_in_another_order(vb: bool, tmp_path: Path) -> None:
    kspace, noise = _noise(1, 3, 6, 8), _noise_blocks(4, 256, channels=(7, 2, 5, 9))
    blocks = [*noise, *lines_of(kspace, channels=(2, 9, 7))]
    path = (twix_vb if vb else twix_ve)(tmp_path / "a.dat", blocks, protocol=DWELL)
    time = 1e6 / (130 * 256) if vb else 30.0
    np.testing.assert_allclose(
        load_noise(path).numpy(), _joined(noise)[[1, 3, 0]] * np.sqrt(time / 10 / FILTER), rtol=1e-5
    )
    np.testing.assert_array_equal(load(path).kspace.numpy(), kspace)


def test_noise_that_is_not_there_or_of_other_channels(tmp_path: Path) -> None:
    kspace = _noise(1, 2, 6, 8)
    with pytest.raises(FormatError, match="expected noise scans in a.dat, found none: give another file, or edge"):
        load_noise(twix_ve(tmp_path / "a.dat", lines_of(kspace)))
    with pytest.raises(FormatError, match="expected noise scans of its 2 channels in b.dat, found others"):
        load_noise(twix_vb(tmp_path / "b.dat", [*_noise_blocks(3, 64), *lines_of(kspace, channels=(8, 9))]))
    path = twix_ve(tmp_path / "c.dat", _noise_blocks(2, 64), lines_of(kspace))
    content = bytearray(path.read_bytes())
    content[10240 + 10240 : 10240 + 10240 + 4] = b"\xff\xff\xff\x7f"
    content[10240 + 10240 + 48 : 10240 + 10240 + 52] = b"\xff\xff\xff\xff"  # samples and channels of the first scan
    path.write_bytes(content)
    assert load(path).kspace.shape == (1, 2, 6, 8)  # a damaged adjustment does not matter to the scan
    with pytest.raises(FormatError, match="found none"):
        load_noise(path)


@given(
    vb=st.booleans(), coils=st.integers(1, 5), samples=st.integers(8, 300), count=st.integers(1, 4),
    plane=st.tuples(st.integers(2, 7), st.integers(2, 7)),
)  # fmt: skip
@settings(max_examples=6, deadline=None)
def test_a_second_reader_gets_the_same_noise(
    vb: bool, coils: int, samples: int, count: int, plane: tuple[int, int]
) -> None:
    """pymapvbvd shares no code with this reader; its noise is in the units of the file."""
    kspace, noise = _noise(1, coils, *plane), _noise_blocks(coils, samples, count)
    with tempfile.TemporaryDirectory() as folder:
        blocks = [*noise, *lines_of(kspace)]
        path = (twix_vb if vb else twix_ve)(Path(folder, "meas.dat"), blocks, protocol=DWELL)
        theirs = read_by_mapvbvd(path, "noise").reshape(samples, coils, count).transpose(1, 2, 0).reshape(coils, -1)
        mine = load_noise(path).numpy()
    time = 1e6 / (130 * samples) if vb else (76800 // samples) / 10
    np.testing.assert_allclose(mine, theirs * np.sqrt(time / 10 / FILTER), rtol=1e-4)


def test_whitening_by_noise_scans_makes_the_noise_equal(tmp_path: Path) -> None:
    """Correlated noise of two coils, sampled three times as fast in the image and without a filter."""
    mixing = np.array([[3, 0], [2 - 1j, 0.5]], dtype=np.complex64)
    image = np.sqrt(3 / FILTER).astype(np.float32)
    noise = [replace(one, data=mixing @ one.data) for one in _noise_blocks(2, 256, 40)]
    kspace = np.einsum("ij,sjrp->sirp", mixing, _noise(1, 2, 64, 64)) * image
    path = twix_ve(tmp_path / "meas.dat", [*noise, *lines_of(kspace)], protocol=DWELL)
    white = whiten(load(path).kspace, noise_covariance(load_noise(path))).numpy().reshape(2, -1)
    np.testing.assert_allclose(white @ white.conj().T / white.shape[1], np.eye(2), atol=0.05)


def test_registered_files_say_that_they_have_no_noise_scans(real_data: Path) -> None:
    for file in registry.files():
        if file.name.endswith(".dat"):
            with pytest.raises(FormatError, match="expected noise scans in .*, found none"):
                load_noise(real_data / file.name)
            with (real_data / file.name).open("rb") as stream:
                measurements = find_measurements(stream, (real_data / file.name).stat().st_size, file.name)
                assert 10 <= image_sample_time(read_protocol(stream, measurements[-1])) <= 20


def test_noise_beside_real_image_lines(real_data: Path, tmp_path: Path) -> None:
    """Noise scans put in front of the lines of real VB and VE files, whose headers pymapvbvd reads in full."""
    folder = real_data / "raw/phantoms"
    for name, time in (
        ("siemens-4ch-bottle/meas_MID00109_FID33066_sol13.dat", 1e6 / (130 * 256) / 20),
        ("siemens-2ch-qa/gre.dat", 30.0 / 11.6),
    ):
        whole = (folder / name).read_bytes()
        with (folder / name).open("rb") as stream:
            measurement = find_measurements(stream, len(whole), name)[-1]
        at = measurement.start + measurement.header_size
        coils = 4 if measurement.per_channel else 2
        with (folder / name).open("rb") as stream:
            (first, *_) = find_lines(stream, [measurement], {}, name)[1]
            numbers = tuple(read_channels(stream, first, measurement))
        noise = _noise_blocks(coils, 256, channels=numbers)
        write = twix_vb if measurement.per_channel else twix_ve
        other = write(tmp_path / "noise.dat", noise).read_bytes()
        start = 10240 if measurement.per_channel else 2 * 10240
        size = len(noise) * (coils * (128 + 8 * 256) if measurement.per_channel else 192 + coils * (32 + 8 * 256))
        inserted = bytearray(whole[:at] + other[start : start + size] + whole[at:])
        if not measurement.per_channel:  # the length of the measurement in the table
            length = int.from_bytes(inserted[24:32], "little")
            inserted[24:32] = ((length + size) if length else 0).to_bytes(8, "little")
        path = tmp_path / "meas.dat"
        path.write_bytes(inserted)
        np.testing.assert_array_equal(load(path).samples, load(folder / name).samples)
        expected = _joined(noise) * np.sqrt(time / FILTER)
        np.testing.assert_allclose(load_noise(path).numpy(), expected, rtol=1e-4)
        theirs = read_by_mapvbvd(path, "noise").reshape(256, coils, 3).transpose(1, 2, 0).reshape(coils, -1)
        np.testing.assert_allclose(theirs, _joined(noise), rtol=1e-5)
