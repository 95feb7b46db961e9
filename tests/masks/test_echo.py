from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

import mri_recon as mr
from mri_recon.cli import build_app
from mri_recon.coils.combine import rss
from mri_recon.coils.espirit import espirit_maps
from mri_recon.coils.noise import estimate_sigma, noise_samples_from_edge
from mri_recon.coils.phase import smooth_phase_map
from mri_recon.coils.sensitivity_maps import low_resolution_images, sens_maps_from_center
from mri_recon.embedded_sample import sample_path
from mri_recon.io import Scan
from mri_recon.io.writers.result import SIMULATED
from mri_recon.masks.calibration_region import calibration_block, center_block
from mri_recon.masks.convert import column_mask_from_lines, undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.echo import USUAL_SHIFT, Echo, echo_center, echo_warnings, find_echo, replace_echo_warnings
from mri_recon.masks.types import ColumnMask
from mri_recon.reconstruction import Reconstruction, reconstruct, reconstruct_batch, with_scan_warnings
from mri_recon.results.comparison import compare
from mri_recon.results.summary import scan_warnings, summarize
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data.registry import files
from mri_recon_data.simulation.kspace import coil_maps, complex_noise, smooth_phase
from tests.support.helpers import complex_randn, phantom

UNSHIFTED = r"k-space looks unshifted.*fftshift\(kspace, axes={}\)"


def scan_of(
    h: int,
    w: int,
    *,
    coils: int = 1,
    slices: int = 1,
    shift: tuple[float, float] = (0.0, 0.0),
    sigma: float = 0.01,
    strength: float = 0.5,
    seed: int = 0,
) -> Tensor:
    """k-space `(slice, coil, h, w)` of the phantom under a smooth phase, its echo moved by `shift` samples."""
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(coil_maps(coils, (h, w), rng))
    image = phantom(h, w).to(torch.complex64) * torch.polar(
        torch.ones(h, w), torch.from_numpy(smooth_phase((h, w), rng, strength=strength))
    )
    y, x = torch.arange(h)[:, None] / h, torch.arange(w) / w
    ramp = torch.polar(torch.ones(h, w), 2 * torch.pi * (shift[0] * y + shift[1] * x))
    full = fft2c(maps * image * ramp)
    return torch.stack([full + complex_noise((coils, h, w), rng, sigma=sigma) for _ in range(slices)])


def at_center(echo: Echo | None) -> bool:
    return echo is not None and not any(echo.off_center)


# ------------------------------------------------------------------------------------------- nothing to say


@given(
    h=st.integers(40, 160),
    w=st.integers(40, 160),
    shift=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    strength=st.floats(0, 1.5),
    coils=st.sampled_from([1, 1, 2, 8]),
    noisy=st.integers(0, 4),
    acceleration=st.sampled_from([1, 4, 8]),
    seed=st.integers(0, 2**20),
)
@example(h=40, w=40, shift=(0.0, 3.0), strength=0.0, coils=1, noisy=0, acceleration=8, seed=0).via(
    "the lines between column 21 and the peak at 25 are omitted"
)
@example(
    h=40,
    w=45,
    shift=(2.2051058948095514, -2.9015319813317824),
    strength=1.1540559338876906,
    coils=8,
    noisy=0,
    acceleration=8,
    seed=1001696,
).via("the medians of columns 17 and 18 are equal")
@settings(max_examples=80, deadline=None)
def test_usual_shifts_and_slices_of_noise_are_no_alarm(
    h: int,
    w: int,
    shift: tuple[float, float],
    strength: float,
    coils: int,
    noisy: int,
    acceleration: int,
    seed: int,
) -> None:
    kspace = scan_of(h, w, coils=coils, shift=shift, strength=strength, sigma=0.05, seed=seed)
    rng = np.random.default_rng(seed)
    empty = [complex_noise((1, coils, h, w), rng, sigma=0.05) for _ in range(noisy)]
    volume = torch.cat([*empty, kspace])
    mask = random_mask(w, acceleration, seed=seed)
    assert echo_warnings(volume) == []
    assert echo_warnings(undersample(volume, mask), mask) == []
    assert echo_center(undersample(volume, mask), mask) is None
    for one in empty:  # a slice of noise by itself, too
        assert echo_warnings(one) == []
        assert echo_warnings(undersample(one, mask), mask) == []


@given(
    h=st.integers(48, 130),
    w=st.integers(48, 130),
    rows=st.floats(0, 0.4),
    columns=st.floats(0, 0.4),
    last=st.booleans(),
    acceleration=st.sampled_from([1, 4]),
)
@settings(max_examples=40, deadline=None)
def test_zero_filled_partial_fourier_and_margins_are_no_alarm(
    h: int, w: int, rows: float, columns: float, last: bool, acceleration: int
) -> None:
    kspace = scan_of(h, w)
    kspace[..., : round(rows * h), :] = 0
    kspace[..., : round(columns * w)] = 0
    if last:
        kspace[..., -round(0.2 * w) :] = 0
    mask = random_mask(w, acceleration, support=(kspace != 0).any(dim=(0, 1, 2))[:].numpy())
    assert at_center(find_echo(kspace))
    assert echo_warnings(kspace) == []
    assert echo_warnings(undersample(kspace, mask), mask) == []


@pytest.mark.parametrize(
    "kspace",
    [
        torch.zeros(1, 1, 8, 9, dtype=torch.complex64),
        torch.ones(1, 1, 1, 1, dtype=torch.complex64),
        torch.ones(1, 2, 1, 40, dtype=torch.complex64),
        torch.full((1, 1, 20, 20), torch.nan, dtype=torch.complex64),
        torch.full((1, 1, 20, 20), torch.inf, dtype=torch.complex64),
        complex_randn(2, 3, 64, 64),
        complex_randn(1, 1, 7, 200),
        fft2c(complex_randn(1, 1, 64, 64)),
    ],
)
def test_no_peak_is_no_alarm(kspace: Tensor) -> None:
    assert echo_warnings(kspace) == []
    assert echo_center(kspace) is None


def test_spikes_and_bright_lines_are_no_echo() -> None:
    kspace = scan_of(96, 96)
    largest = float(kspace.abs().max())
    kspace[..., 10, 80] = 30 * largest
    kspace[..., 70, 20] = 30 * largest
    assert echo_warnings(kspace) == []
    kspace[..., 5] = 2 * largest
    assert echo_warnings(kspace) == []


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_units_do_not_matter(scale: float) -> None:
    kspace = scan_of(64, 60)
    assert find_echo(kspace * scale) == find_echo(kspace)
    moved = kspace.roll(12, -1)
    assert echo_warnings(moved * scale) == echo_warnings(moved)
    assert len(echo_warnings(moved)) == 1


def test_a_mask_that_leaves_the_centre_out_does_not_move_the_echo() -> None:
    kspace = scan_of(96, 96)
    for half in (3, 6, 12):
        mask = np.ones(96, dtype=bool)
        mask[48 - half : 48 + half + 1] = False
        assert_only_the_gap_is_told(undersample(kspace, mask), half + 1)
    # Acquired only beyond DC: the first column is the largest, and that is no echo of its own.
    for first in (50, 55, 60):
        late = kspace.clone()
        late[..., :first] = 0
        assert_only_the_gap_is_told(late, first - 48)


def assert_only_the_gap_is_told(kspace: torch.Tensor, gap: int) -> None:
    """Nothing is said of an echo off the centre, and of a centre without samples where more than a few are missing."""
    told = echo_warnings(kspace)
    assert len(told) == (gap > USUAL_SHIFT)
    assert all(f"N//2 = 48 that was sampled is {gap} off (phase)" in one for one in told)
    assert replace_echo_warnings(["other", *told], []) == ["other"]


# ------------------------------------------------------------------------------------------- something to say


@given(
    h=st.integers(60, 140),
    w=st.integers(60, 140),
    shift=st.tuples(*[st.sampled_from([-20, -12, -9, 0, 0, 9, 15])] * 2),
    coils=st.sampled_from([1, 4]),
    slices=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=60, deadline=None)
def test_an_echo_off_the_centre_is_told_and_the_advice_helps(
    h: int, w: int, shift: tuple[int, int], coils: int, slices: int, seed: int
) -> None:
    kspace = scan_of(h, w, coils=coils, slices=slices, strength=0.3, seed=seed).roll(shift, (-2, -1))
    found = echo_warnings(kspace)
    echo = find_echo(kspace)
    assert echo is not None
    assert echo.off_center == (shift[0] != 0, shift[1] != 0)
    assert len(found) == sum(echo.off_center)
    for axis, text in zip([axis for axis in (0, 1) if shift[axis]], found, strict=True):
        assert abs(echo.position[axis] - kspace.shape[axis - 2] // 2 - shift[axis]) <= 2
        assert text.startswith("the energy peak of k-space is not at the centre: it is at ")
        back = echo.position[axis] - kspace.shape[axis - 2] // 2
        assert text.endswith(f"np.roll(kspace, {-back}, axis={axis - 2})")
        kspace = kspace.roll(-back, axis - 2)
    assert echo_warnings(kspace) == []


@pytest.mark.parametrize("acceleration", [4, 8])
@pytest.mark.parametrize("shift", [-20, 20])
def test_an_echo_among_omitted_lines_is_told(shift: int, acceleration: int) -> None:
    # Lines beside the echo and halfway to the centre were sampled.
    kspace = scan_of(96, 128, coils=4).roll(shift, -1)
    lines = random_mask(128, acceleration, seed=3).lines.copy()
    lines[64 + shift + 1] = True
    lines[64 + shift // 2] = True
    mask = column_mask_from_lines(lines)
    (text,) = echo_warnings(undersample(kspace, mask), mask)
    assert text.startswith(f"the energy peak of k-space is not at the centre: it is at column {64 + shift + 1}")


def test_the_words() -> None:
    kspace = scan_of(96, 90)
    assert echo_warnings(kspace.roll((-10, 8), (-2, -1))) == [
        "the energy peak of k-space is not at the centre: it is at row 38 of 96 (readout), 10 before N//2 = 48: where "
        "rows were not acquired (partial Fourier, asymmetric echo), add 20 rows of zeros before the first (np.pad); "
        "else move the peak to N//2, np.roll(kspace, 10, axis=-2)",
        "the energy peak of k-space is not at the centre: it is at column 53 of 90 (phase), 8 after N//2 = 45: where "
        "columns were not acquired (partial Fourier, asymmetric echo), add 16 columns of zeros after the last "
        "(np.pad); else move the peak to N//2, np.roll(kspace, -8, axis=-1)",
    ]
    assert echo_warnings(torch.fft.ifftshift(kspace, dim=(-2, -1))) == [
        "k-space looks unshifted: its energy peak is at row 0 of 96 (readout) and column 0 of 90 (phase), where a "
        "transform without fftshift puts it, and not at N//2: apply np.fft.fftshift(kspace, axes=(-2, -1)) first; "
        "masks keep, and coil maps are read from, the lines around N//2"
    ]


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("first", [20, 30, 42])
def test_lines_that_were_cut_off_are_padded(axis: int, first: int) -> None:
    # 60 to 79 % of the lines, stored without the rest: the echo is where it was, counted from the first line.
    kspace = scan_of(101, 104).movedim(axis, 0)[first:].movedim(0, axis)
    (text,) = echo_warnings(kspace)
    missing = int(text.split("add ")[1].split()[0])
    before = "before the first" in text
    pad = [(0, 0)] * 4
    pad[axis] = (missing, 0) if before else (0, missing)
    assert abs(missing - first) <= 3
    assert before
    assert echo_warnings(torch.from_numpy(np.pad(kspace.numpy(), pad))) == []


@given(
    h=st.integers(33, 140),
    w=st.integers(33, 140),
    axes=st.sampled_from([(-2, -1), (-2,), (-1,)]),
    shift=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    coils=st.sampled_from([1, 4]),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=60, deadline=None)
def test_unshifted_kspace_is_told_and_the_advice_helps(
    h: int, w: int, axes: tuple[int, ...], shift: tuple[float, float], coils: int, seed: int
) -> None:
    # An echo up to 3 samples off, on a short axis a sixteenth of it: further off, few samples are left beside the peak.
    off = (shift[0] * min(3, h / 16), shift[1] * min(3, w / 16))
    assert_unshifted_is_told(scan_of(h, w, coils=coils, shift=off, strength=0.3, seed=seed), axes)


@pytest.mark.parametrize(
    ("h", "w", "axes", "seed"),
    [(33, 36, (-2,), 172039), (34, 33, (-2, -1), 167425), (40, 133, (-2, -1), 809896), (33, 116, (-2,), 851149)],
)
def test_short_axes_are_told_too(h: int, w: int, axes: tuple[int, ...], seed: int) -> None:
    """The median of a whole short line is near to the peak: these were taken for an echo off the centre."""
    assert_unshifted_is_told(scan_of(h, w, shift=(3.0, -3.0), strength=0.3, seed=seed), axes)


def assert_unshifted_is_told(centred: Tensor, axes: tuple[int, ...]) -> None:
    kspace = torch.fft.ifftshift(centred, dim=axes)
    (text,) = echo_warnings(kspace)
    named = str(axes) if len(axes) == 2 else str(axes[0])
    assert text.startswith("k-space looks unshifted")
    assert f"np.fft.fftshift(kspace, axes={named})" in text
    assert echo_warnings(torch.fft.fftshift(kspace, dim=axes)) == []


def test_unshifted_with_a_zero_filled_margin() -> None:
    kspace = scan_of(96, 126)
    kspace[..., :8] = 0
    kspace[..., 118:] = 0
    (text,) = echo_warnings(torch.fft.ifftshift(kspace, dim=(-2, -1)))  # nothing was sampled around N//2
    assert "fftshift(kspace, axes=(-2, -1))" in text


# ------------------------------------------------------------------------------------------- real scans, the sample


def test_the_sample_is_no_alarm() -> None:
    scan = mr.load(sample_path())
    assert scan_warnings(scan) == [SIMULATED]
    for part in torch.split(scan.kspace, 1):
        assert echo_warnings(part) == []


@pytest.mark.real_data
def test_real_scans_are_no_alarm(real_data: Path) -> None:
    seen = 0
    for file in files(kind="raw"):
        scan = file.load()
        assert scan_warnings(scan) == [], file.name
        for part in torch.split(scan.kspace, 1):
            assert echo_warnings(part, torch.as_tensor(scan.support)) == [], file.name
        moved = scan.kspace.roll(12, -1)
        assert len(echo_warnings(moved)) == 1, file.name
        assert len(echo_warnings(torch.fft.ifftshift(scan.kspace, dim=(-2, -1)))) == 1, file.name
        for acceleration in (4, 8) if scan.fully_sampled else ():
            mask = random_mask(scan.width, acceleration, seed=1, support=scan.support)
            assert echo_warnings(undersample(scan.kspace, mask), mask) == [], file.name
        seen += 1
    assert seen >= 18


# ------------------------------------------------------------------------------------------- calibration from there


def off_readout(shift: int) -> tuple[Tensor, Tensor]:
    """k-space of 6 coils whose echo lies off the centre of the readout, and the true maps."""
    rng = np.random.default_rng(0)
    h, w = 160, 96
    maps = torch.from_numpy(coil_maps(6, (h, w), rng))
    full = fft2c(maps * phantom(h, w).to(torch.complex64)) + complex_noise((6, h, w), rng, sigma=0.02)
    return full[None].roll(shift, -2), maps


def agreement(found: Tensor, true: Tensor) -> float:
    """Mean of |<found, true>| / (|found| |true|) over the pixels of the phantom."""
    product = (found.conj() * true).sum(0).abs() / (rss(found) * rss(true)).clamp_min(1e-9)
    return float(product[phantom(*true.shape[-2:]).abs() > 0].mean())


@pytest.mark.parametrize("shift", [0, 45, -45])
def test_maps_are_read_where_the_echo_is(shift: int) -> None:
    kspace, true = off_readout(shift)
    mask = random_mask(96, 3, num_low_frequencies=20)
    kspace = undersample(kspace, mask)
    assert agreement(espirit_maps(kspace, mask, crop=0.0).maps[0, 0], true) > 0.99
    assert agreement(sens_maps_from_center(kspace, mask)[0], true) > 0.95
    at = echo_center(kspace, mask)
    if shift == 0:
        assert at is None
        return
    assert at is not None
    assert abs(at[0] - 80 - shift) <= 1
    assert at[1] == 48
    # What the block about N//2 holds of the signal says nothing of the coils.
    rows, columns = calibration_block(mask, kspace.shape, (24, 24))
    assert (rows, columns) == (slice(68, 92), slice(38, 58))
    blind = torch.zeros_like(kspace)
    blind[..., rows, columns] = kspace[..., rows, columns]
    rows, columns = calibration_block(mask, kspace.shape, (24, 24), at=at)
    seeing = torch.zeros_like(kspace)
    seeing[..., rows, columns] = kspace[..., rows, columns]
    assert agreement(ifft2c(blind)[0], true) < 0.9 < 0.95 < agreement(ifft2c(seeing)[0], true)
    assert float(seeing.abs().square().sum()) > 20 * float(blind.abs().square().sum())


def test_the_scanners_own_centre_about_an_echo_off_the_centre() -> None:
    # 24 lines about column 70 of 96 and few others; N//2 = 48 was not sampled.
    kspace = scan_of(90, 96, coils=3).roll(22, -1)
    lines = np.zeros(96, dtype=bool)
    lines[58:83] = True
    lines[2::5] = True
    lines[48] = False
    mask = column_mask_from_lines(lines)
    kspace = undersample(kspace, mask)
    with pytest.raises(mr.MaskError, match="leaves out column 48"):
        center_block(mask)
    at = echo_center(kspace, mask)
    assert at is not None
    assert center_block(mask, at=at)[1] == slice(57, 83)
    assert low_resolution_images(kspace, mask).abs().max() > 0
    phase = smooth_phase_map(kspace, mask, espirit_maps(kspace, mask, crop=0.0).maps[:, 0])
    assert torch.allclose(phase.abs(), torch.ones(1, 90, 96), atol=1e-5)
    result = reconstruct(kspace, mask, method="cg-sense")
    assert [text[:40] for text in result.info["warnings"]] == ["the energy peak of k-space is not at the"]


def test_a_run_too_narrow_to_calibrate_with_does_not_take_the_place_of_the_centre() -> None:
    lines = np.zeros(60, dtype=bool)
    lines[26:34] = True
    lines[[45, 50, 51, 52, 53]] = True
    mask = ColumnMask(lines, num_low_frequencies=8, center_start=26)
    assert center_block(mask, at=(0, 45))[1] == slice(26, 34)
    assert center_block(mask, at=(0, 44))[1] == slice(26, 34)
    assert center_block(mask, at=(0, 51))[1] == slice(50, 54)
    assert center_block(mask, at=(0, 30))[1] == slice(26, 34)
    pattern = np.zeros((40, 60), dtype=bool)
    pattern[15:26, 25:36] = True
    pattern[3:9, 44:52] = True
    pattern[30, 5] = True
    assert center_block(pattern, at=(5, 47)) == (slice(3, 9), slice(44, 52))
    assert center_block(pattern, at=(30, 5)) == (slice(15, 26), slice(25, 36))
    assert center_block(pattern, at=(0, 0)) == (slice(15, 26), slice(25, 36))


def test_phase_of_an_echo_off_the_centre_is_the_images() -> None:
    h, w = 90, 96
    kspace = scan_of(h, w, sigma=0.001).roll((20, 18), (-2, -1))
    mask = np.ones(w, dtype=bool)
    image = ifft2c(kspace)[:, 0]
    left = image * smooth_phase_map(kspace, torch.from_numpy(mask)).conj()
    inside = image.abs() > 0.3 * image.abs().max()
    assert float((left.real / left.abs())[inside].mean()) > 0.97


@pytest.mark.parametrize("how", ["unshifted", "rolled", "cut"])
def test_noise_is_read_far_from_the_echo(how: str) -> None:
    kspace = scan_of(120, 110, coils=2, sigma=0.2)
    full = torch.ones(110, dtype=torch.bool)
    wanted = float(estimate_sigma(kspace, full).sigma)
    assert wanted == pytest.approx(0.2 * 2**0.5, rel=0.1)  # sqrt(E|n|^2), both parts
    if how == "unshifted":
        kspace = torch.fft.ifftshift(kspace, dim=(-2, -1))
    elif how == "rolled":
        kspace = kspace.roll((55, 50), (-2, -1))
    else:
        kspace, full = kspace[..., 40:, 45:], full[45:]
    assert float(estimate_sigma(kspace, full).sigma) == pytest.approx(wanted, rel=0.1)
    samples = noise_samples_from_edge(kspace, full)
    assert float(samples.abs().square().mean().sqrt()) == pytest.approx(wanted, rel=0.2)
    assert float(samples.abs().max()) < 0.05 * float(kspace.abs().max())


# ------------------------------------------------------------------------------------------- where it is told


def write(folder: Path, kspace: Tensor) -> Path:
    np.save(folder / "scan.npy", kspace.numpy())
    return folder / "scan.npy"


@pytest.fixture(params=["corner", "8 columns off", "right"])
def told(request: Any, tmp_path: Path) -> tuple[Path, str]:
    """A file, and what has to be said of it."""
    kspace = scan_of(96, 96)[0, 0]
    made, word = {
        "corner": (torch.fft.ifftshift(kspace), "fftshift"),
        "8 columns off": (kspace.roll(8, -1), "np.roll(kspace, -8, axis=-1)"),
        "right": (kspace, ""),
    }[request.param]
    return write(tmp_path, made), word


def test_the_scan_says_it(told: tuple[Path, str]) -> None:
    path, word = told
    said = [text for text in mr.load(path, axes="readout phase").warnings if "peak" in text]
    assert [word in text for text in said] == ([True] if word else [])


def test_info_says_it(told: tuple[Path, str]) -> None:
    path, word = told
    lines = summarize(mr.load(path))
    said = [value for what, value in lines if what == "warning"]
    assert [word in text for text in said] == ([True] if word else [])
    (echo,) = (value for what, value in lines if what == "echo")
    assert echo.endswith(" from N//2")
    printed = CliRunner().invoke(build_app(), ["info", str(path)], env={"COLUMNS": "400"})
    assert printed.exit_code == 0
    assert ("warning" in printed.output) == bool(word)
    assert word in printed.output


def test_compare_and_reconstruct_say_it(told: tuple[Path, str]) -> None:
    path, word = told
    scan: Scan = mr.load(path)
    mask = random_mask(scan.width, 4, seed=0)
    rows = compare(scan, mask, ["zero-filled", "unet"]).rows
    for row in rows:
        said = [text for text in row["info"]["warnings"] if "peak" in text]
        assert [word in text for text in said] == ([True] if word else [])
    everything = np.ones(scan.width, dtype=bool)
    info = reconstruct(scan.kspace, everything, method="zero-filled").info
    assert [word in text for text in info["warnings"]] == ([True] if word else [])
    (one,) = reconstruct_batch([(scan.kspace, everything)], method="unet")
    assert [word in text for text in one.info["warnings"] if "peak" in text] == ([True] if word else [])


def test_the_whole_scan_has_the_last_word() -> None:
    result = Reconstruction(
        torch.zeros(1, 4, 4), "zero-filled", {"warnings": ["something else", "k-space looks unshifted: a"]}
    )
    kept = with_scan_warnings(result, ["the energy peak of k-space is not at the centre: b"])
    assert kept.info["warnings"] == ["something else", "the energy peak of k-space is not at the centre: b"]
    assert with_scan_warnings(kept, ["the energy peak of k-space is not at the centre: b"]) is kept
    quiet = Reconstruction(torch.zeros(1, 4, 4), "zero-filled", {})
    assert with_scan_warnings(quiet, []) is quiet
    assert replace_echo_warnings(["k-space looks unshifted: a"], []) == []
    assert USUAL_SHIFT == 4
