"""Power by line: edges, steps and faint lines where they were put."""

from __future__ import annotations

import numpy as np
import pytest

from mri_recon.io.data_crimes.lines import empty_edges, largest_step, line_power, share_of_faint_lines


def noise(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


@pytest.mark.parametrize("axis", [-2, -1])
def test_edges_are_counted_on_both_sides(axis: int) -> None:
    planes = np.moveaxis(noise(2, 70, 81), axis, 0)
    planes[:3] = 0
    planes[-5:] = 0
    planes = np.moveaxis(planes, 0, axis)
    assert empty_edges(planes, axis) == (3, 5)
    assert empty_edges(planes, -3 - axis) == (0, 0)


def test_power_is_a_quantile_without_zeros_averaged_over_planes() -> None:
    planes = noise(2, 70, 5)
    planes[:, ::2, 1] = 0
    planes[:, :, 4] = 0
    expected = [np.mean([np.quantile(np.abs(one[one[:, c] != 0, c]) ** 2, 0.8) for one in planes]) for c in range(4)]
    np.testing.assert_allclose(line_power(planes, -1), [*expected, 0], rtol=1e-6)


def test_power_is_the_same_quantile_without_zeros() -> None:
    planes = noise(2, 70, 5)
    expected = [np.mean([np.quantile(np.abs(one[:, c]) ** 2, 0.8) for one in planes]) for c in range(5)]
    np.testing.assert_allclose(line_power(planes, -1), expected, rtol=1e-6)


@pytest.mark.parametrize(("axis", "size"), [(-2, 90), (-1, 91)])
def test_a_step_is_found_where_it_is(axis: int, size: int) -> None:
    planes = np.moveaxis(noise(1, 90, 91), axis, 0)
    planes[:12] *= 0.01
    planes[-11:] *= 0.01
    places, step = largest_step(np.moveaxis(planes, 0, axis), axis, 5)
    assert places == (12, 11)
    assert 1e3 < step < 1e5, "the squares of 1/100, but for the spread of quantiles"
    assert planes.shape[0] == size


def test_noise_and_a_filter_have_no_step() -> None:
    planes = noise(1, 90, 91)
    assert largest_step(planes, -1, 5)[1] < 2
    hann = 0.5 + 0.5 * np.cos(np.pi * (np.arange(91) - 45) / 45.5)
    assert largest_step((planes * hann).astype(np.complex64), -1, 5)[1] < 4


def test_a_step_on_one_side_is_partial_fourier() -> None:
    planes = noise(1, 90, 91)
    planes[..., :20] *= 1e-4
    assert largest_step(planes, -1, 5)[1] < 2


def test_exact_zeros_make_no_step() -> None:
    planes = noise(1, 90, 91)
    planes[..., :20] = planes[..., -20:] = 0
    assert largest_step(planes, -1, 5)[1] < 2


def test_faint_lines_are_counted_and_zeros_are_not() -> None:
    planes = noise(1, 80, 90)
    assert share_of_faint_lines(planes, -1) == 0
    planes[..., ::3] *= 1e-3
    assert share_of_faint_lines(planes, -1) == pytest.approx(1 / 3)
    assert share_of_faint_lines(planes, -2) == 0
    planes[..., ::3] = 0
    assert share_of_faint_lines(planes, -1) == 0
