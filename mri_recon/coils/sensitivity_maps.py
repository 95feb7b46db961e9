"""Estimate coil sensitivity maps from the calibration region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mri_recon.errors import ShapeError
from mri_recon.masks.calibration_region import center_block
from mri_recon.masks.echo import echo_center
from mri_recon.transforms.fourier import ifft2c

if TYPE_CHECKING:
    from mri_recon.masks.types import Mask
from mri_recon.coils.combine import rss

__all__ = [
    "calibration_block",
    "low_resolution_images",
    "sens_maps_from_center",
    "sens_maps_from_images",
]


# Rows of the calibration block along the readout, where the centre of the mask has fewer columns than this:
# sensitivities are smooth, and rows far from the centre would bring anatomy and noise into the maps, not coil profiles.
_MIN_CALIBRATION_ROWS = 24


def sens_maps_from_center(kspace: Tensor, mask: Mask | Tensor) -> Tensor:
    """Sensitivity maps from the fully sampled centre of k-space.

    The low-resolution coil images `m_c = F^-1 (H y_c)`, with `H` a Hann window over the dense centre of the mask (zero
    elsewhere), divided by their root sum of squares: `S_c = m_c / sqrt(sum_d |m_d|^2)`, so that `sum_c |S_c|^2 = 1`
    everywhere. The phase of the first-order image is in the maps, so the combined image is nearly real.
    One coil has no sensitivity to find: its map is 1.

    Args:
        kspace: complex, `(..., coil, readout, phase)`; only its dense centre is read.
        mask: the sampling mask of that k-space.

    Returns:
        complex maps of the shape and type of `kspace`.

    Raises:
        ShapeError: `kspace` is not complex, or has no coil axis.
        MaskError: the mask has no fully sampled centre.

    Source: McKenzie et al., Magn Reson Med 2002 (self-calibration from the centre).
    """
    if kspace.ndim < 3 or not kspace.is_complex():
        raise ShapeError(
            f"expected complex k-space (..., coil, readout, phase), got {kspace.dtype} of shape {tuple(kspace.shape)}: "
            "keep the coil axis, also for one coil"
        )
    if kspace.shape[-3] == 1:
        return torch.ones_like(kspace)
    return sens_maps_from_images(low_resolution_images(kspace, mask))


def sens_maps_from_images(coil_images: Tensor) -> Tensor:
    """Maps `S_c = m_c / sqrt(sum_d |m_d|^2)` of low-resolution coil images, see `sens_maps_from_center`.

    Args:
        coil_images: m, complex `(..., coil, h, w)`; one coil has the map 1.

    Returns:
        complex maps of the same shape.
    """
    num_coils = coil_images.shape[-3]
    if num_coils == 1:
        return torch.ones_like(coil_images)
    magnitude = rss(coil_images).unsqueeze(-3)
    # Where the centre gives no signal at all, any unit vector will do; equal weights keep sum |S|^2 = 1 there too.
    flat = torch.full_like(coil_images, num_coils**-0.5)
    found = magnitude > 0
    return torch.where(found, coil_images / torch.where(found, magnitude, torch.ones_like(magnitude)), flat)


def low_resolution_images(kspace: Tensor, mask: Mask | Tensor) -> Tensor:
    """Compute the coil images of the fully sampled centre alone, `m_c = F^-1 (H y_c)`, `H` a Hann window over it.

    Where the echo is off the centre (`echo.echo_center`), the block is read around the echo.

    Args:
        kspace: complex, `(..., coil, readout, phase)`; only its dense centre is read.
        mask: the sampling mask of that k-space.

    Returns:
        complex coil images of the shape and type of `kspace`.

    Raises:
        MaskError: the mask has no fully sampled centre.
    """
    at = echo_center(kspace, mask)
    _, columns = center_block(mask, at=at)
    num_columns = columns.stop - columns.start
    size = (max(num_columns, _MIN_CALIBRATION_ROWS), num_columns)
    rows, columns = calibration_block(mask, kspace.shape, size, at=at)
    window = _hann(rows, kspace)[:, None] * _hann(columns, kspace)
    low = torch.zeros_like(kspace)
    low[..., rows, columns] = kspace[..., rows, columns] * window
    return ifft2c(low)


def calibration_block(
    mask: Mask | Tensor, shape: Sequence[int], size: tuple[int, int], *, at: tuple[int, int] | None = None
) -> tuple[slice, slice]:
    """Find the part of the fully sampled centre that calibration reads, as slices `(readout, phase)`.

    Args:
        mask: the sampling mask.
        shape: of the k-space, `(..., readout, phase)`.
        size: most samples along readout and phase; around `at`, as far as the centre reaches there.
        at: `(row, column)` of an echo off the centre (`echo.echo_center`); None for (N//2, N//2).

    Raises:
        MaskError: the mask has no fully sampled centre.
    """
    rows, columns = center_block(mask, at=at)
    row, column = (shape[-2] // 2, shape[-1] // 2) if at is None else at
    return _narrow(rows, shape[-2], size[0], row), _narrow(columns, shape[-1], size[1], column)


def _narrow(block: slice, size: int, wanted: int, center: int) -> slice:
    """At most `wanted` samples of the block, as far around `center` as the block reaches."""
    first, last, _ = block.indices(size)
    start = max(first, min(center - wanted // 2, last - wanted))
    return slice(start, min(last, start + wanted))


def _hann(block: slice, like: Tensor) -> Tensor:
    """Hann window of the block without its zero end points, real, peak at most 1."""
    size = block.stop - block.start
    n = torch.arange(1, size + 1, device=like.device, dtype=like.real.dtype)
    return torch.sin(torch.pi * n / (size + 1)) ** 2
