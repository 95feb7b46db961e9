"""Conjugate symmetry against sums written out, about every centre that a file may have."""

from __future__ import annotations

import numpy as np
import pytest

from mri_recon.io.data_crimes.symmetry import conjugate_symmetry
from mri_recon.transforms.array_fourier import fft_of_array


def real_image(height: int, width: int) -> np.ndarray:
    return fft_of_array(np.random.default_rng(3).random((1, height, width)), (-2, -1)).astype(np.complex64)


@pytest.mark.parametrize("shape", [(70, 81), (81, 70), (64, 64), (75, 75)])
@pytest.mark.parametrize("axis", [-2, -1])
def test_a_real_image_is_symmetric_about_any_centre_behind_any_constant_phase(
    shape: tuple[int, int], axis: int
) -> None:
    kspace = real_image(*shape)
    assert conjugate_symmetry(kspace, axis) == pytest.approx(1, abs=1e-4)
    assert conjugate_symmetry(kspace * np.exp(0.7j), axis) == pytest.approx(1, abs=1e-4)
    for shift in ((1, 0), (0, -1), (-1, 1)):
        assert conjugate_symmetry(np.roll(kspace, shift, (-2, -1)), axis) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("axis", [-2, -1])
def test_noise_is_not_symmetric(axis: int) -> None:
    rng = np.random.default_rng(1)
    noise = (rng.standard_normal((3, 71, 80)) + 1j * rng.standard_normal((3, 71, 80))).astype(np.complex64)
    assert conjugate_symmetry(noise, axis) < 0.2


def test_half_noise_is_half_symmetric() -> None:
    """y = r + n with equal powers: sum y(k) y(-k) is that of r, half of sum |y|^2."""
    kspace = real_image(90, 91)
    outer = kspace - kspace.mean()
    rng = np.random.default_rng(1)
    sigma = np.sqrt((np.abs(outer[0, :10]) ** 2).mean() / 2)
    noise = sigma * (rng.standard_normal(kspace.shape) + 1j * rng.standard_normal(kspace.shape))
    assert conjugate_symmetry((kspace + noise).astype(np.complex64), -2) == pytest.approx(0.5, abs=0.06)


def test_columns_completed_by_symmetry_are_found_along_that_axis_alone() -> None:
    rng = np.random.default_rng(1)
    kspace = (rng.standard_normal((1, 71, 81)) + 1j * rng.standard_normal((1, 71, 81))).astype(np.complex64)
    for column in range(10):
        kspace[0, :, column] = np.conj(kspace[0, ::-1, 80 - column])
    assert conjugate_symmetry(kspace, -1) > 0.99
    assert conjugate_symmetry(kspace, -2) < 0.8


def test_nothing_in_the_outer_samples_is_no_symmetry() -> None:
    kspace = np.zeros((1, 70, 70), np.complex64)
    kspace[0, 35, 35] = 1
    assert conjugate_symmetry(kspace, -1) == 0
