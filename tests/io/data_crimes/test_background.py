"""Noise of the background: flat as acquired, and what filters, magnitudes and zeros do to it."""

from __future__ import annotations

import numpy as np
import pytest

from mri_recon.io.data_crimes.background import measure_background, measure_borders
from mri_recon.transforms.array_fourier import fft_of_array, ifft_of_array
from tests.io.data_crimes.scans import SHAPES, genuine


@pytest.mark.parametrize("shape", SHAPES)
def test_noise_is_flat_complex_and_everywhere(shape: tuple[int, int, int, int]) -> None:
    planes = genuine(shape).reshape(-1, *shape[2:])
    found, borders = measure_background(planes), measure_borders(planes)
    assert all(0.5 < drop < 2 for drop in (*found.middle_drop, *found.edge_drop))
    assert found.mean_to_rms < 0.1
    assert found.real_part < 0.6
    assert borders.zero_pixels < 1e-3
    assert borders.zero_frame == ((0, 0), (0, 0))
    assert all(0.4 < value < 1.5 for value in borders.border_to_middle)


def test_a_filter_shows_as_its_square() -> None:
    planes = genuine((4, 1, 96, 160))[:, 0]
    place = np.abs(np.arange(160) - 80) / 80
    window = np.where(place > 0.7, 0.2, 1.0)
    found = measure_background((planes * window).astype(np.complex64))
    assert found.edge_drop[1] == pytest.approx(25, rel=0.4)
    assert found.edge_drop[0] == pytest.approx(1, rel=0.5)
    assert found.middle_drop[1] == pytest.approx(1, rel=0.5)


def test_the_magnitude_of_noise_has_its_mean_and_one_phase_also_behind_a_phase() -> None:
    planes = genuine((2, 1, 96, 128))[:, 0]
    image = np.abs(ifft_of_array(planes, (-2, -1))) * np.exp(1j * np.linspace(0, 3, 128))
    found = measure_background(fft_of_array(image, (-2, -1)).astype(np.complex64))
    assert found.mean_to_rms == pytest.approx(np.pi / 4, abs=0.08)
    assert found.real_part > 0.9


def test_a_constant_with_complex_noise_is_not_real() -> None:
    """An object that fills the field of view leaves no background; its noise is complex all the same."""
    rng = np.random.default_rng(0)
    image = 10 + rng.standard_normal((1, 96, 96)) + 1j * rng.standard_normal((1, 96, 96))
    found = measure_background(fft_of_array(image, (-2, -1)).astype(np.complex64))
    assert found.mean_to_rms > 0.9
    assert found.real_part < 0.6


def test_noise_that_fades_towards_the_border_is_measured_as_its_square() -> None:
    image = ifft_of_array(genuine((1, 6, 96, 128)), (-2, -1))[0]
    fade = np.ones(128)
    fade[:12] = fade[-12:] = 0.2
    found = measure_borders(fft_of_array(image * fade, (-2, -1)).astype(np.complex64))
    assert found.border_to_middle[1] == pytest.approx(0.04, rel=0.5)
    assert found.border_to_middle[0] == pytest.approx(1, rel=0.4)


def test_zeros_around_and_inside() -> None:
    image = ifft_of_array(genuine((1, 1, 80, 100)), (-2, -1))[:, 0]
    image[:, :7] = 0
    image[:, :, 91:] = 0
    found = measure_borders(fft_of_array(image, (-2, -1)).astype(np.complex64))
    assert found.zero_frame == ((7, 0), (0, 9))
    assert found.zero_inside < 1e-3
    assert found.zero_pixels == pytest.approx(1 - 73 * 91 / 8000, abs=1e-3)
    image[:, 30:50, 30:50] = 0
    found = measure_borders(fft_of_array(image, (-2, -1)).astype(np.complex64))
    assert found.zero_inside == pytest.approx(400 / (73 * 91), abs=1e-3)
