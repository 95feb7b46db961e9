from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mri_recon.coils.noise import (
    NoiseLevel,
    estimate_sigma,
    noise_covariance,
    noise_samples_from_edge,
    sigma_from_below,
    sigma_of_samples,
    whiten,
)
from mri_recon.errors import FormatError, MaskError, ShapeError
from mri_recon.masks.convert import as_mask
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.transforms.fourier import fft2c
from tests.support.helpers import complex_randn, phantom, smooth_maps


def correlated(coils: int, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise `(coil, count)` of a random covariance, and that covariance."""
    mixing = complex_randn(coils, coils, seed=seed) + 2 * torch.eye(coils)
    return mixing @ complex_randn(coils, count, seed=seed + 1), mixing @ mixing.mH


def test_the_covariance_is_found() -> None:
    samples, true = correlated(4, 40_000)
    found = noise_covariance(samples)
    torch.testing.assert_close(found, found.mH)
    assert float((found - true).norm() / true.norm()) < 0.03
    # Its diagonal is E|n|^2: both parts together.
    torch.testing.assert_close(found.diagonal().real, samples.abs().square().mean(dim=1))
    assert noise_covariance(samples.to(torch.complex64)).dtype == torch.complex64


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize(("slices", "coils", "h", "w"), [(2, 5, 31, 40), (1, 1, 50, 33)])
def test_white_noise_has_variance_one_and_no_correlation(
    slices: int, coils: int, h: int, w: int, dtype: torch.dtype
) -> None:
    samples, true = correlated(coils, slices * h * w, seed=3)
    kspace = samples.reshape(coils, slices, h, w).movedim(0, 1).to(dtype)
    white = whiten(kspace, true)
    assert (white.shape, white.dtype) == (kspace.shape, dtype)
    covariance = noise_covariance(white.movedim(1, 0).flatten(1)).to(torch.complex128)
    assert float((covariance - torch.eye(coils)).abs().max()) < 0.1
    # Exactly so with the covariance of these very samples.
    own = noise_covariance(whiten(kspace, noise_covariance(samples)).movedim(1, 0).flatten(1))
    torch.testing.assert_close(own, torch.eye(coils, dtype=dtype), atol=1e-5, rtol=0)
    assert estimate_sigma(white, torch.ones(w, dtype=torch.bool)).sigma.tolist() == pytest.approx([1] * slices, rel=0.2)


@given(st.floats(1e-6, 1e6), st.integers(0, 2))
def test_whitening_does_not_see_the_gain_of_a_coil(gain: float, coil: int) -> None:
    samples, true = correlated(3, 10 * 12, seed=5)
    gains = torch.ones(3, dtype=torch.complex128)
    gains[coil] = gain
    amplified = whiten((gains[:, None] * samples).reshape(3, 10, 12), torch.diag(gains) @ true @ torch.diag(gains))
    torch.testing.assert_close(amplified, whiten(samples.reshape(3, 10, 12), true), rtol=1e-8, atol=1e-8)


def test_a_covariance_that_cannot_be_undone() -> None:
    samples, true = correlated(3, 500)
    kspace = complex_randn(3, 8, 9)
    repeated = noise_covariance(torch.cat([samples[:2], samples[:1] + samples[1:2]]).to(torch.complex64))
    with pytest.raises(FormatError, match="singular covariance: leave out repeated coils, compress the coils first"):
        whiten(kspace, repeated)
    silent = noise_covariance(samples * torch.tensor([1.0, 0.0, 1.0])[:, None])
    with pytest.raises(FormatError, match=r"got none in coils \[1\]: leave these coils out"):
        whiten(kspace, silent)
    with pytest.raises(FormatError, match="expected a Hermitian covariance"):
        whiten(kspace, true + torch.triu(torch.ones(3, 3), 1) * 5)
    with pytest.raises(FormatError, match="expected a finite covariance"):
        whiten(kspace, true * torch.nan)
    with pytest.raises(ShapeError, match=r"expected a covariance \(3, 3\) for 3 coils, got \(4, 4\)"):
        whiten(kspace, torch.eye(4))
    with pytest.raises(ShapeError, match="keep the coil axis"):
        whiten(kspace[0], true)


def test_samples_that_give_no_covariance() -> None:
    with pytest.raises(FormatError, match="at least 16 noise samples for 8 coils, got 15: give a longer noise scan"):
        noise_covariance(complex_randn(8, 15))
    with pytest.raises(FormatError, match="expected finite noise samples"):
        noise_covariance(complex_randn(2, 50) * torch.inf)
    with pytest.raises(ShapeError, match=r"\(coil, sample\), got torch.float32 \(2, 50\): flatten the other axes"):
        noise_covariance(torch.zeros(2, 50))


def test_the_edge_is_the_outermost_tenth_of_what_was_acquired() -> None:
    y, x = np.mgrid[1:21, 1:31]  # every sample says where it is
    kspace = torch.from_numpy(y + 1j * x)[None, None].repeat(2, 3, 1, 1)
    kspace[..., :4] = 0  # not acquired
    mask = random_mask(30, 2, num_low_frequencies=4)
    acquired = mask.lines & (np.arange(30) >= 4)
    samples = noise_samples_from_edge(kspace, mask)
    count = 20 * int(acquired.sum()) // 10
    assert samples.shape == (3, 2 * count)
    reach = np.abs(np.flatnonzero(acquired) - 15).max()
    distance = ((y - 11) / 10) ** 2 + ((x - 16) / reach) ** 2
    chosen = np.zeros((20, 30), dtype=bool)
    for sample in samples[0].tolist():
        chosen[round(sample.real) - 1, round(sample.imag) - 1] = True
    assert chosen.sum() == count
    assert not chosen[:, ~acquired].any()
    assert distance[chosen].min() >= distance[~chosen & acquired].max()


def test_the_edge_of_a_disc_is_its_rim() -> None:
    y, x = np.mgrid[-20:21, -25:26]
    pattern = (y / 20) ** 2 + (x / 25) ** 2 <= 1
    kspace = (torch.from_numpy(y + 1j * x) * torch.from_numpy(pattern))[None, None]
    samples = noise_samples_from_edge(kspace, as_mask(pattern, kspace.shape))[0]
    assert samples.numel() == round(0.1 * (pattern.sum() - 1))  # the centre itself is zero here
    assert float((samples.real / 20).square().add((samples.imag / 25).square()).min()) > 0.85


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("acceleration", [1, 4, 8])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_sigma_is_found_a_slice_from_the_outer_samples(coils: int, acceleration: int, dtype: torch.dtype) -> None:
    h, w = 121, 140
    signal = fft2c(smooth_maps(coils, h, w) * phantom(h, w)).to(dtype)
    sigma = torch.tensor([0.2, 2.0], dtype=torch.float64)
    noise = complex_randn(2, coils, h, w, dtype=dtype) * sigma[:, None, None, None].to(signal.real.dtype)
    lines = torch.ones(w, dtype=torch.bool) if acceleration == 1 else random_mask(w, acceleration, seed=1).tensor()
    level = estimate_sigma((signal + noise) * lines, lines)
    assert isinstance(level, NoiseLevel)
    assert level.source == "outer samples"
    assert (level.sigma.dtype, level.sigma.shape) == (torch.float64, (2,))
    assert level.sigma.tolist() == pytest.approx(sigma.tolist(), rel=0.2)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(("h", "w"), [(16, 18), (15, 21)])
def test_a_few_samples_leave_the_finest_band(h: int, w: int, full: bool) -> None:
    lines = np.ones(w, dtype=bool) if full else np.arange(w) % 3 == 0
    mask = ColumnMask(lines)
    noise = complex_randn(400, 1, h, w) * 3.0 * mask.tensor()
    level = estimate_sigma(noise, mask)
    assert level.source == "finest band"
    # One small slice says little; the mean over many has to be right, whatever the mask leaves out.
    assert float(level.sigma.mean()) == pytest.approx(3.0, rel=0.05)


@given(st.floats(1e-9, 1e9), st.booleans())
def test_sigma_scales_with_the_data(scale: float, small: bool) -> None:
    shape = (2, 1, 12, 14) if small else (2, 3, 40, 31)
    kspace, full = complex_randn(*shape), torch.ones(shape[-1], dtype=torch.bool)
    one, other = estimate_sigma(kspace, full), estimate_sigma(scale * kspace, full)
    assert one.source == ("finest band" if small else "outer samples")
    torch.testing.assert_close(other.sigma, scale * one.sigma)


def test_the_median_of_gaussian_noise() -> None:
    noise = complex_randn(7, 30_000)
    assert sigma_of_samples(noise) == pytest.approx(1, rel=0.01)
    noise[0, :1000] *= 1e6  # a few strong samples are not seen
    assert sigma_of_samples(noise) == pytest.approx(1, rel=0.02)
    assert sigma_of_samples(torch.tensor([1j, 2.0, -3.0])) == pytest.approx(2 / math.sqrt(math.log(2)))


def test_no_noise_is_an_error_that_asks_for_sigma() -> None:
    full = torch.ones(40, dtype=torch.bool)
    kspace = complex_randn(2, 1, 40, 40)
    kspace[1] = 0
    kspace[1, 0, 20, 20] = 1  # a constant image
    with pytest.raises(FormatError, match=r"got sigma \[0.0\] in slices \[1\]: pass the sigma of the noise"):
        estimate_sigma(kspace, full)
    with pytest.raises(FormatError, match=r"finest band of k-space, got sigma \[nan\] in slices \[0\]"):
        estimate_sigma(complex_randn(1, 1, 1, 9), torch.ones(9, dtype=torch.bool))
    with pytest.raises(FormatError, match="the mask belongs to another scan"):
        estimate_sigma(torch.zeros_like(kspace), full)
    with pytest.raises(FormatError, match="repair or mask them out"):
        estimate_sigma(kspace * torch.nan, full)
    with pytest.raises(ShapeError, match="keep the slice and coil axes"):
        estimate_sigma(kspace[0], full)
    with pytest.raises(MaskError):
        noise_samples_from_edge(kspace, full[:30])


@pytest.mark.parametrize("acceleration", [2, 8])
@pytest.mark.parametrize(("slices", "coils", "h", "w"), [(2, 5, 31, 160), (1, 1, 150, 97)])
def test_the_lower_quartile_tells_the_noise_of_each_slice(
    slices: int, coils: int, h: int, w: int, acceleration: int
) -> None:
    scale = torch.linspace(0.5, 2, slices)[:, None, None]
    noise = complex_randn(slices, coils, h, w, seed=4) * scale.unsqueeze(1)
    mask = random_mask(w, acceleration, seed=1)
    found = sigma_from_below(noise * mask.tensor(), mask)
    torch.testing.assert_close(found, scale.double(), rtol=0.12, atol=0)
    torch.testing.assert_close(sigma_from_below(1e6 * noise * mask.tensor(), mask), 1e6 * found)


def test_signal_far_out_counts_less_than_in_a_median() -> None:
    """`estimate_sigma` is an upper bound there; the weight of data consistency needs the noise itself."""
    h, w = 96, 128
    kspace = fft2c(phantom(h, w)[None, None].to(torch.complex64))
    kspace = kspace / kspace.abs().median() + 0.05 * complex_randn(1, 1, h, w).to(torch.complex64)
    mask = random_mask(w, 4, seed=0)
    masked = kspace * mask.tensor()
    assert float(sigma_from_below(masked, mask)) < 0.9 * float(estimate_sigma(masked, mask).sigma)


def test_the_lower_quartile_of_a_pattern_and_of_columns_without_data() -> None:
    noise = complex_randn(1, 3, 64, 70, seed=2)
    pattern = torch.rand(64, 70, generator=torch.Generator().manual_seed(0)) < 0.3
    torch.testing.assert_close(
        sigma_from_below(noise * pattern, pattern), torch.ones(1, 1, 1, dtype=torch.float64), rtol=0.1, atol=0
    )
    columns = torch.ones(70, dtype=torch.bool)
    dead = noise.clone()
    dead[..., 60:] = 0
    torch.testing.assert_close(
        sigma_from_below(dead, columns), torch.ones(1, 1, 1, dtype=torch.float64), rtol=0.1, atol=0
    )
    assert not sigma_from_below(torch.zeros(2, 1, 8, 9, dtype=torch.complex64), torch.ones(9, dtype=torch.bool)).any()
