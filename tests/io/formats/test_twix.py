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

from mri_recon.errors import FormatError
from mri_recon.io import load
from mri_recon.transforms.fourier import fft1c, ifft1c
from mri_recon_data import registry
from tests.io.scanner_files import Block, Complex, lines_of, twix_vb, twix_ve

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
    mapvbvd = pytest.importorskip("mapvbvd")
    files = [file for file in registry.files() if file.name.endswith(".dat")]
    assert len(files) == 9
    for file in files:
        measurement = mapvbvd.mapVBVD(str(real_data / file.name), quiet=True)
        image = (measurement[-1] if isinstance(measurement, list) else measurement).image
        image.flagRemoveOS = False
        other = np.asarray(image[""]).reshape(*image.fullSize[:3])  # (readout, coil, phase)
        scan = load(real_data / file.name)
        mine = scan.kspace[0]
        expected = torch.from_numpy(np.ascontiguousarray(other.transpose(1, 0, 2)).astype(np.complex64))
        if scan.meta["readout_oversampling"] == 2.0:
            quarter = expected.shape[1] // 4
            expected = fft1c(ifft1c(expected, dim=1)[:, quarter:-quarter], dim=1)
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        assert scan.fully_sampled
