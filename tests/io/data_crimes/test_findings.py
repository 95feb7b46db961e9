"""What was done to k-space is named, with its figures; what acquisitions do is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mri_recon.embedded_sample import sample_path
from mri_recon.io import Scan, load
from mri_recon.io.data_crimes.findings import CRIMES, MIN_SIDE, find_data_crimes
from mri_recon.io.scan import make_scan
from mri_recon.masks.draw import random_mask
from mri_recon.results.comparison import compare
from mri_recon.results.scan_warnings import scan_warnings
from mri_recon.results.summary import summarize
from mri_recon.transforms.array_fourier import fft_of_array, ifft_of_array
from mri_recon_data.registry import files
from tests.io.data_crimes.scans import SHAPES, genuine

Shape = tuple[int, int, int, int]


def names(kspace: np.ndarray) -> list[str]:
    return [one.name for one in find_data_crimes(kspace.astype(np.complex64))]


def scan_of(kspace: np.ndarray, **meta: object) -> Scan:
    return make_scan(kspace.astype(np.complex64), name="test", meta=dict(meta))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_scan_with_noise_is_no_crime_in_any_units(shape: Shape) -> None:
    kspace = genuine(shape)
    assert names(kspace) == []
    assert names(kspace * 1e-20) == []


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_is_named_with_its_lines(shape: Shape) -> None:
    padded = np.pad(genuine(shape), ((0, 0), (0, 0), (0, 0), (9, 12)))
    (found,) = find_data_crimes(padded)
    assert found.name == "zero-padded"
    assert found.figures == {"axis": -1, "before": 9, "after": 12}
    assert f"found zeros in the first 9 and the last 12 of {shape[3] + 21} columns" in found.sentence
    assert find_data_crimes(padded, declared=True) == (), "the header says which columns were acquired"
    (found,) = find_data_crimes(np.pad(genuine(shape), ((0, 0), (0, 0), (9, 12), (0, 0))), declared=True)
    assert "rows" in found.sentence
    assert names(np.pad(genuine(shape), ((0, 0), (0, 0), (0, 0), (0, 30)))) == [], "partial Fourier"
    assert names(np.pad(genuine(shape), ((0, 0), (0, 0), (0, 0), (4, 3)))) == [], "few lines, as some scanners leave"


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_is_named_after_an_image_in_between(shape: Shape) -> None:
    kspace = np.pad(genuine(shape), ((0, 0), (0, 0), (14, 14), (0, 0)))
    image = ifft_of_array(kspace, (-2, -1)).astype(np.complex64)
    scan = scan_of(fft_of_array(image, (-2, -1)))
    assert [one.name for one in scan.data_crimes] == ["zero-padded"]
    assert scan.data_crimes[0].figures["before"] == 14
    assert scan.data_crimes[0].figures["step_db"] > 60


@pytest.mark.parametrize("shape", SHAPES)
def test_a_real_image_is_named(shape: Shape) -> None:
    magnitude = np.abs(ifft_of_array(genuine(shape), (-2, -1)))
    found = find_data_crimes(fft_of_array(magnitude, (-2, -1)).astype(np.complex64))
    assert [one.name for one in found] == ["conjugate-symmetric", *(["coil-combined"] if shape[1] == 1 else [])]
    assert "(symmetry 1.000, 1 is exact): k-space of a real image" in found[0].sentence


def test_partial_fourier_completed_by_symmetry_is_named() -> None:
    kspace = genuine((1, 2, 81, 95))
    kspace[..., :20] = np.conj(kspace[..., ::-1, :][..., ::-1][..., :20])
    (found,) = find_data_crimes(kspace)
    assert found.name == "conjugate-symmetric"
    assert "outer columns mirror" in found.sentence
    assert "completed by symmetry" in found.sentence


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", [-2, -1])
def test_a_filter_is_named_with_its_axis(shape: Shape, axis: int) -> None:
    kspace = genuine(shape)
    size = shape[axis]
    hamming = 0.54 + 0.46 * np.cos(np.pi * (np.arange(size) - size // 2) / (size / 2))
    (found,) = find_data_crimes((kspace * (hamming[:, None] if axis == -2 else hamming)).astype(np.complex64))
    assert found.name == "filtered"
    assert found.figures["axis"] == axis
    assert ("readout" if axis == -2 else "phase") in found.sentence


@pytest.mark.parametrize(("coils", "name"), [(1, "coil-combined"), (3, "masked")])
def test_a_background_of_zeros_is_named(coils: int, name: str) -> None:
    image = ifft_of_array(genuine((2, coils, 80, 91)), (-2, -1))
    y, x = np.mgrid[-1:1:80j, -1:1:91j]
    assert names(fft_of_array(image * (y**2 + x**2 < 0.75), (-2, -1))) == [name]


def test_noise_that_is_a_magnitude_is_named_behind_a_phase() -> None:
    magnitude = np.abs(ifft_of_array(genuine((1, 1, 96, 111)), (-2, -1)))
    kspace = fft_of_array(magnitude * np.exp(1j * np.linspace(0, 3, 111) ** 2), (-2, -1))
    (found,) = find_data_crimes(kspace.astype(np.complex64))
    assert found.name == "coil-combined"
    assert "magnitude image" in found.sentence


def test_lines_that_were_left_out_are_named_after_an_image_in_between() -> None:
    kspace = genuine((1, 2, 81, 94))
    kept = np.arange(94) % 3 == 0
    kept[40:54] = True
    scan = scan_of(np.where(kept, kspace, 1e-4 * kspace))
    assert scan.fully_sampled, "the zeros are not exact"
    assert [one.name for one in scan.data_crimes] == ["undersampled"]
    assert scan.data_crimes[0].figures["faint_lines"] == pytest.approx((~kept).mean(), abs=0.03)


def test_a_wider_field_of_view_without_noise_is_named() -> None:
    image = np.pad(ifft_of_array(genuine((1, 2, 81, 94)), (-2, -1)), ((0, 0), (0, 0), (0, 0), (15, 10)))
    (found,) = find_data_crimes(fft_of_array(image, (-2, -1)).astype(np.complex64))
    assert found.name == "interpolated"
    assert "zeros in its first 15 and last 10 of 119 columns" in found.sentence


def test_samples_between_samples_are_named() -> None:
    kspace = genuine((2, 2, 81, 94))
    finer = np.empty((2, 2, 81, 187), np.complex64)
    finer[..., ::2] = kspace
    finer[..., 1::2] = (kspace[..., 1:] + kspace[..., :-1]) / 2
    (found,) = find_data_crimes(np.roll(finer, -1, -1)[..., 1:])
    assert found.name == "interpolated"
    assert found.figures["axis"] == -1


def test_small_scans_and_undersampled_ones_are_not_judged() -> None:
    magnitude = np.abs(ifft_of_array(genuine((1, 1, MIN_SIDE - 1, 94)), (-2, -1)))
    assert names(fft_of_array(magnitude, (-2, -1))) == []
    kspace = fft_of_array(np.abs(ifft_of_array(genuine((1, 1, 90, 94)), (-2, -1))), (-2, -1)).astype(np.complex64)
    assert names(kspace) != []
    mask = random_mask(94, 4, seed=0)
    kept = np.where(mask.lines, kspace, 0)
    assert scan_of(kept).data_crimes == ()
    own = make_scan(kept.astype(np.complex64), name="test", meta={}, mask=np.asarray(mask.lines, np.float32))
    assert own.data_crimes == ()


def test_padding_that_the_header_declares_is_none() -> None:
    kspace = np.pad(genuine((1, 2, 81, 70)), ((0, 0), (0, 0), (0, 0), (10, 10)))
    assert scan_of(kspace).data_crimes != ()
    assert make_scan(kspace, name="test", meta={}, padding=(10, 80)).data_crimes == ()


def test_a_finding_is_told_wherever_warnings_are() -> None:
    scan = scan_of(np.pad(genuine((1, 1, 81, 70)), ((0, 0), (0, 0), (0, 0), (10, 10))))
    (found,) = scan.data_crimes
    assert found.sentence in scan.warnings
    assert found.sentence in scan_warnings(scan)
    assert ("warning", found.sentence) in summarize(scan)
    comparison = compare(scan, random_mask(90, 2, seed=0, support=scan.support), ["zero-filled"])
    assert any(found.sentence in one for one in comparison.warnings)
    assert found.sentence in comparison.rows[0]["info"]["warnings"]


def test_the_sample_is_no_crime() -> None:
    assert load(sample_path()).data_crimes == ()


def test_names_are_listed() -> None:
    assert len(CRIMES) == len(set(CRIMES)) == 7


@pytest.mark.real_data
def test_scans_of_scanners_are_no_crime(real_data: Path) -> None:
    for split in ("train", "validation"):
        for file in [*files(split=split, kind="raw"), *files(split=split, kind="phantom")]:
            for one in file.scans():
                assert one.load().data_crimes == (), one.name
