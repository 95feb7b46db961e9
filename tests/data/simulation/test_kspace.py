from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_recon.errors import ShapeError
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.scenes.crop import fold_columns, fourier_crop
from mri_recon_data.simulation.kspace import coil_maps, complex_noise, smooth_phase

SHAPES = [(31, 24), (16, 17), (1, 9), (40, 40)]


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=20, deadline=None)
@given(h=st.integers(2, 24), w=st.integers(2, 24), data=st.data())
def test_fourier_crop_keeps_a_constant_and_the_low_frequencies(h: int, w: int, data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(1, h), st.integers(1, w)))
    torch.testing.assert_close(
        fourier_crop(torch.ones(h, w), size), torch.ones(size, dtype=torch.complex64), atol=1e-5, rtol=0
    )
    x = torch.randn(h, w, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    k, small = fft2c(x), fft2c(fourier_crop(x, size))
    centre = k[h // 2, w // 2] * np.sqrt(size[0] * size[1] / (h * w))
    torch.testing.assert_close(small[size[0] // 2, size[1] // 2], centre)


def test_fourier_crop_samples_a_band_limited_image() -> None:
    # A cosine of three periods, on 48 and on 16 samples: cropping k-space is sampling more coarsely.
    fine, coarse = (torch.cos(2 * torch.pi * 3 * (torch.arange(n) - n // 2) / n) for n in (48, 16))
    cropped = fourier_crop(fine.expand(8, -1), (8, 16))
    torch.testing.assert_close(cropped.real, coarse.expand(8, -1), atol=1e-5, rtol=0)


def test_fourier_crop_does_not_enlarge() -> None:
    with pytest.raises(ShapeError, match=r"expected a size between \(1, 1\) and \(8, 6\), got \(9, 6\)"):
        fourier_crop(torch.zeros(8, 6), (9, 6))


@settings(max_examples=30, deadline=None)
@given(w=st.integers(1, 40), width=st.integers(1, 50), start=st.integers(-60, 60))
def test_folding_is_a_sum_over_the_periods_of_the_field_of_view(w: int, width: int, start: int) -> None:
    image = torch.randn(2, 3, w, generator=torch.Generator().manual_seed(w), dtype=torch.complex128)
    expected = torch.zeros(2, 3, width, dtype=torch.complex128)
    for column in range(w):
        expected[..., (column - start) % width] += image[..., column]
    torch.testing.assert_close(fold_columns(image, start, width), expected)


def test_half_the_field_of_view_keeps_every_second_line_of_kspace() -> None:
    image = torch.randn(5, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    folded = torch.fft.fft(fold_columns(image, 0, 12), dim=-1)
    torch.testing.assert_close(folded, torch.fft.fft(image, dim=-1)[:, ::2])


def test_a_field_of_view_has_columns() -> None:
    with pytest.raises(ShapeError, match="expected a width of at least 1 column, got 0"):
        fold_columns(torch.zeros(4, 6), 0, 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_phase_is_smooth_and_as_strong_as_asked(shape: tuple[int, int]) -> None:
    phase = smooth_phase(shape, _rng(), strength=0.7)
    assert phase.shape == shape
    if min(shape) > 1:
        assert phase.std() == pytest.approx(0.7, rel=1e-5)
    steps = np.abs(np.diff(phase, axis=1))
    assert steps.max() < 8 * 0.7 / shape[1] * np.pi


def test_ramp_moves_the_centre_of_kspace() -> None:
    phase = smooth_phase((64, 48), _rng(3), strength=0.0, max_shift=3.0)
    k = fft2c(torch.polar(torch.ones(64, 48), torch.from_numpy(phase))).abs()
    peak = np.unravel_index(int(k.argmax()), k.shape)
    shift = np.subtract(peak, (32, 24))
    assert 0 < np.abs(shift).max() <= 3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_coils", [1, 2, 15])
def test_coil_maps_have_unit_power_and_differ(shape: tuple[int, int], num_coils: int) -> None:
    maps = coil_maps(num_coils, shape, _rng())
    assert maps.shape == (num_coils, *shape)
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(0), 1, rtol=1e-5)
    if num_coils > 1 and min(shape) > 1:
        gram = np.einsum("chw,dhw->cd", maps, maps.conj()) / maps[0].size
        assert np.linalg.eigvalsh(gram)[0] < 0.9
        assert np.abs(np.abs(maps[0]) - np.abs(maps[1])).max() > 0.1


def test_one_coil_is_one() -> None:
    assert (coil_maps(1, (3, 5), _rng()) == 1).all()


def test_no_coil() -> None:
    with pytest.raises(ShapeError, match="expected at least 1 coil, got 0"):
        coil_maps(0, (3, 5), _rng())


def test_noise_has_its_sigma_in_each_part() -> None:
    noise = complex_noise((200, 300), _rng(), sigma=2.5)
    assert noise.dtype == torch.complex64
    for part in (noise.real, noise.imag):
        assert float(part.std()) == pytest.approx(2.5, rel=0.02)
        assert abs(float(part.mean())) < 0.05
    assert abs(float((noise.real * noise.imag).mean())) < 0.1


@pytest.mark.parametrize("draw", [lambda r: coil_maps(3, (9, 8), r), lambda r: smooth_phase((9, 8), r, strength=1.0)])
def test_same_seed_same_draw_and_no_global_state(draw) -> None:  # type: ignore[no-untyped-def]
    state = np.random.get_state()[1].copy()  # noqa: NPY002  # it is the untouched global state that is checked
    assert np.array_equal(draw(_rng(5)), draw(_rng(5)))
    assert not np.array_equal(draw(_rng(5)), draw(_rng(6)))
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
