"""Estimate the level of receiver noise and its covariance between coils, and whiten k-space.

Convention: the noise n of one k-space sample of one coil is complex, and sigma^2 = E|n|^2, the sum of the variances of
its real and its imaginary part. The Fourier transform is orthonormal, so sigma is the same in the image of fully
sampled data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pywt
import torch
from torch import Tensor

from mri_recon.coils.checks import check_kspace
from mri_recon.coils.outermost import OUTER_FRACTION, count_outermost, rank_positions
from mri_recon.errors import FormatError, ShapeError
from mri_recon.masks.convert import as_mask
from mri_recon.masks.echo import echo_center
from mri_recon.transforms.fourier import ifft2c
from mri_recon.transforms.wavelets import WaveletTransform

if TYPE_CHECKING:
    from mri_recon.masks.types import Mask

__all__ = [
    "OUTER_FRACTION",
    "NoiseLevel",
    "estimate_sigma",
    "noise_covariance",
    "noise_samples_from_edge",
    "sigma_from_below",
    "sigma_of_samples",
    "whiten",
]

_MIN_SAMPLES = 64
"""Minimum number of outer samples, over all coils of a slice, that gives a noise level within about 10 %."""

_SINGULAR = 1e-6
"""Smallest allowed eigenvalue of the correlation matrix: with a smaller one, a coil is a combination of the others."""

_WAVELET = "db4"


@dataclass(frozen=True)
class NoiseLevel:
    """Hold the noise of one k-space sample, and the source of the estimate.

    Attributes:
        sigma: `sqrt(E|n|^2)` of each slice, in the units of the k-space, float64 `(slice,)`; one for all coils.
        source: "outer samples" or "finest band".
    """

    sigma: Tensor
    source: str


def noise_covariance(samples: Tensor) -> Tensor:
    """Compute the covariance of the noise between coils, `Psi = 1/N sum_i n_i n_i^H`, without subtracting a mean.

    Args:
        samples: samples of noise only, complex `(coil, sample)`: a scan without excitation, or
            `noise_samples_from_edge`.

    Returns:
        complex Hermitian `(coil, coil)` in the precision of the samples; its diagonal is sigma^2 of each coil.

    Raises:
        ShapeError: not complex `(coil, sample)`.
        FormatError: samples that are not finite, or fewer than twice as many as coils.
    """
    if samples.ndim != 2 or not samples.is_complex():
        raise ShapeError(
            f"expected complex noise samples (coil, sample), got {samples.dtype} {tuple(samples.shape)}: "
            "flatten the other axes, e.g. noise.movedim(1, 0).flatten(1)"
        )
    num_coils, count = samples.shape
    if count < 2 * num_coils:
        raise FormatError(
            f"expected at least {2 * num_coils} noise samples for {num_coils} coils, got {count}: give a longer noise "
            "scan, or compress the coils first"
        )
    if not bool(torch.isfinite(torch.view_as_real(samples)).all()):
        raise FormatError("expected finite noise samples, got infinite or not-a-number ones: leave them out")
    double = samples.to(torch.complex128)
    return (double @ double.mH / count).to(samples.dtype)


def whiten(kspace: Tensor, covariance: Tensor) -> Tensor:
    """Whiten k-space, `y' = L^-1 y`, `Psi = L L^H`: noise independent between coils, with E|n|^2 = 1 in each.

    Real and imaginary part of the noise then have the variance 1/2 each. The new coils are combinations of the old
    ones: estimate maps from the whitened k-space, or whiten given maps too.

    Args:
        kspace: complex `(..., coil, readout, phase)`.
        covariance: Psi, complex Hermitian `(coil, coil)`, in the squared units of `kspace`.

    Returns:
        complex k-space of the shape and type of `kspace`, without units: independent of the scale of `kspace` and of
        the gain of each coil.

    Raises:
        ShapeError: the covariance is not that of these coils.
        FormatError: a covariance that is not finite, not Hermitian, or singular.

    Source: Pruessmann et al., Magn Reson Med 2001, appendix.
    """
    if kspace.ndim < 3 or not kspace.is_complex():
        raise ShapeError(
            f"expected complex k-space (..., coil, readout, phase), got {kspace.dtype} of shape {tuple(kspace.shape)}: "
            "keep the coil axis, also for one coil"
        )
    num_coils = kspace.shape[-3]
    if tuple(covariance.shape) != (num_coils, num_coils):
        raise ShapeError(
            f"expected a covariance ({num_coils}, {num_coils}) for {num_coils} coils, got {tuple(covariance.shape)}: "
            "take the noise samples from the same coils"
        )
    psi = covariance.to(device=kspace.device, dtype=torch.complex128)
    gain = _gains(psi)
    correlation = psi / torch.outer(gain, gain)
    if float((correlation - correlation.mH).abs().max()) > 1e-3:
        raise FormatError(
            "expected a Hermitian covariance, got one that differs from its conjugate transpose: compute it with "
            "noise_covariance"
        )
    if float(torch.linalg.eigvalsh(correlation)[0]) < _SINGULAR:
        raise FormatError(
            "expected noise that is not the same combination of coils at every sample, got a singular covariance: "
            "leave out repeated coils, compress the coils first, or give more noise samples"
        )
    inverse = torch.linalg.inv(torch.linalg.cholesky(correlation)) / gain
    white: Tensor = (inverse.to(kspace.dtype) @ kspace.flatten(-2)).reshape(kspace.shape)
    return white


def _gains(psi: Tensor) -> Tensor:
    """Compute the standard deviation of each coil, real and positive."""
    variance = psi.diagonal().real
    dead = (variance <= 0).nonzero().flatten().tolist()
    if not bool(torch.isfinite(torch.view_as_real(psi)).all()):
        raise FormatError("expected a finite covariance, got infinite or not-a-number entries: compute it again")
    if dead:
        raise FormatError(f"expected noise in every coil, got none in coils {dead}: leave these coils out")
    return variance.sqrt().to(psi.dtype)


def noise_samples_from_edge(kspace: Tensor, mask: Mask | Tensor) -> Tensor:
    """Take the outermost acquired samples, which hold the least signal, as noise samples.

    Positions (ky, kx) are ranked by (ky / max|ky|)^2 + (kx / max|kx|)^2, maxima over the acquired ones, and the
    outermost `OUTER_FRACTION` is taken: the corners of the acquired rectangle, or the rim of an acquired disc. A noise
    scan of the receiver is better if there is one, because signal in the outermost samples counts as noise.

    If the echo is off the centre (`echo.echo_center`), ky and kx count cyclically from the echo: positions half a cycle
    away are far from the echo, whether lines were cut off, moved around or left unshifted.

    Args:
        kspace: complex `(slice, coil, readout, phase)`.
        mask: its sampling mask; sampled positions without data (dead columns) are left out.

    Returns:
        complex `(coil, sample)`, slice after slice.

    Raises:
        ShapeError: `kspace` is not complex `(slice, coil, readout, phase)`.
        MaskError: the mask does not fit.
        FormatError: nothing was acquired where the mask says so.
    """
    rows, columns = _outermost(kspace, mask)
    samples: Tensor = kspace[..., rows, columns].movedim(1, 0).flatten(1)
    return samples[:, samples.abs().amax(dim=0) > 0]


def estimate_sigma(kspace: Tensor, mask: Mask | Tensor) -> NoiseLevel:
    """Estimate the noise level of each slice from its k-space alone.

    The estimate uses the samples of `noise_samples_from_edge`, all coils of the slice together:

        sigma = median |y| / sqrt(ln 2),

    because |n| has a Rayleigh distribution; the median ignores a few strong samples. With fewer than 64 outer samples,
    the estimate uses the median of the finest diagonal wavelet band D of the zero-filled coil images, corrected by rho,
    the fraction of the noise power in that band that the mask samples:

        sigma = median |D| / sqrt(rho ln 2),   rho = 1/(h w) sum_{k in mask} |H(k)|^2, H the filter of the band.

    Both are upper bounds if signal reaches so far out. The estimate assumes equal noise in all coils; otherwise
    `whiten` first.

    Args:
        kspace: complex `(slice, coil, readout, phase)`.
        mask: its sampling mask.

    Returns:
        `NoiseLevel`; `1e6 * kspace` has `1e6 * sigma`.

    Raises:
        ShapeError: `kspace` is not complex `(slice, coil, readout, phase)`.
        MaskError: the mask does not fit.
        FormatError: no noise was found, e.g. in simulated data without noise.

    Source: Donoho and Johnstone, Biometrika 1994 (median of the finest wavelet coefficients).
    """
    rows, columns = _outermost(kspace, mask)
    if rows.numel() * kspace.shape[1] >= _MIN_SAMPLES:
        sigma, source = _medians(kspace[..., rows, columns].flatten(1)), "outer samples"
    else:
        sigma, source = _from_finest_band(kspace, mask), "finest band"
    unknown = (~(torch.isfinite(sigma) & (sigma > 0))).nonzero().flatten().tolist()
    if unknown:
        raise FormatError(
            f"expected noise in the {source} of k-space, got sigma {sigma[unknown].tolist()} in slices {unknown}: "
            "pass the sigma of the noise, e.g. that of a simulation"
        )
    return NoiseLevel(sigma, source)


def sigma_from_below(kspace: Tensor, mask: Mask | Tensor) -> Tensor:
    """Estimate the noise of each slice from the lower quartile of the power far from the centre of k-space.

        sigma^2 = mean_c q_c / ln(4/3),   q_c the lower quartile of |y_c|^2

    |n|^2 of Gaussian noise has an exponential distribution with the lower quartile sigma^2 ln(4/3). The result is the
    smaller of two estimates: from the outermost `OUTER_FRACTION` of the sampled positions, ranked as in
    `noise_samples_from_edge`, and from their outer half. A quartile ignores signal in many of the samples, which the
    median of `estimate_sigma` counts as noise. A network's data consistency needs this, because an estimate that is too
    large would weaken it on a scan with little noise. The estimate never fails: it is 0 if nothing was sampled or there
    is no noise.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero where not sampled.
        mask: its sampling mask.

    Returns:
        `sqrt(E|n|^2)` of one sample, the mean over the coils, real `(slice, 1, 1)`.

    Raises:
        ShapeError: `kspace` is not complex `(slice, coil, readout, phase)`.
        MaskError: the mask does not fit.
    """
    lowest = torch.full((kspace.shape[0],), torch.inf, dtype=kspace.real.dtype, device=kspace.device)
    for fraction in (OUTER_FRACTION, 0.5):
        if not bool((kspace != 0).any()):
            break
        rows, columns = _outermost(kspace, mask, fraction)
        if fraction == OUTER_FRACTION and rows.numel() < _MIN_SAMPLES:
            continue  # the quartile of a few samples is unreliable
        power = torch.view_as_real(kspace[..., rows, columns]).square().sum(dim=-1)
        quartile = power.kthvalue(max(1, (power.shape[-1] + 3) // 4), dim=-1).values
        lowest = torch.minimum(lowest, (quartile.mean(dim=1) / math.log(4 / 3)).sqrt())
    return torch.where(torch.isfinite(lowest), lowest, torch.zeros_like(lowest))[:, None, None]


def sigma_of_samples(samples: Tensor) -> float:
    """Compute `median |n| / sqrt(ln 2)` of complex samples of any shape: `sqrt(E|n|^2)` of Gaussian noise."""
    return float(_medians(samples.flatten()[None]))


def _medians(samples: Tensor) -> Tensor:
    return samples.abs().median(dim=1).values.double() / math.sqrt(math.log(2))


def _outermost(kspace: Tensor, mask: Mask | Tensor, fraction: float = OUTER_FRACTION) -> tuple[Tensor, Tensor]:
    """Find the rows and columns of the outermost acquired positions."""
    check_kspace(kspace, "keep the slice and coil axes, also for one")
    sampled = as_mask(mask, kspace.shape).array
    magnitude = torch.stack([one.abs().amax(dim=0) for one in kspace]).amax(dim=0)
    positions, distance = rank_positions(magnitude.cpu().numpy(), sampled, echo_center(kspace, mask))
    farthest = torch.from_numpy(distance).topk(count_outermost(distance.size, fraction)).indices
    rows, columns = torch.from_numpy(positions)[farthest].to(kspace.device).T
    return rows, columns


def _from_finest_band(kspace: Tensor, mask: Mask | Tensor) -> Tensor:
    h, w = (int(n) for n in kspace.shape[-2:])
    even = (h - h % 2, w - w % 2)
    if 0 in even:
        return torch.full((kspace.shape[0],), torch.nan, dtype=torch.float64, device=kspace.device)
    transform = WaveletTransform(_WAVELET, 1, even, kspace.device)
    sampled = as_mask(mask, kspace.shape).tensor(kspace.device).expand(h, w)
    share = (sampled * torch.outer(_response(h, kspace.device), _response(w, kspace.device))).sum() / (h * w)
    levels = []
    for one in kspace:
        band = transform.forward(ifft2c(one)[..., : even[0], : even[1]])[..., even[0] // 2 :, even[1] // 2 :]
        levels.append(_medians(band.flatten()[None]) / share.sqrt())
    return torch.cat(levels)


def _response(size: int, device: torch.device) -> Tensor:
    """Compute the squared magnitude of the high-pass filter at every k-space frequency, `(size,)`; its mean is 1."""
    taps = torch.tensor(pywt.Wavelet(_WAVELET).dec_hi, dtype=torch.float64, device=device)
    omega = 2 * torch.pi * (torch.arange(size, dtype=torch.float64, device=device) - size // 2) / size
    angles = torch.outer(omega, torch.arange(taps.numel(), dtype=torch.float64, device=device))
    return (taps * torch.cos(angles)).sum(dim=1).square() + (taps * torch.sin(angles)).sum(dim=1).square()
