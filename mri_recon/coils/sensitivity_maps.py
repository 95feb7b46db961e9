"""Estimate coil sensitivity maps from the calibration region."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.coils.combine import rss
from mri_recon.coils.espirit import espirit_maps
from mri_recon.errors import FormatError, ShapeError
from mri_recon.masks.calibration_region import calibration_block, center_block
from mri_recon.masks.echo import echo_center
from mri_recon.masks.types import Mask
from mri_recon.transforms.fourier import ifft2c

__all__ = [
    "estimate_maps",
    "low_resolution_images",
    "sens_maps_from_center",
    "sens_maps_from_images",
]


# Rows of the calibration block along the readout, if the centre of the mask has fewer columns than this. Sensitivities
# are smooth: rows far from the centre would add anatomy and noise to the maps, not coil profiles.
MIN_CALIBRATION_ROWS = 24


def estimate_maps(
    kspace: Tensor, mask: Mask | Tensor, maps: str = "espirit", *, everywhere: bool = False, compiled: bool = False
) -> Tensor:
    """Estimate the sensitivity maps that methods and networks use if the user passes none.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.
        maps: "espirit" (the first set of `espirit_maps`) or "center" (`sens_maps_from_center`). One coil has the map 1.
        everywhere: normalise to sum |S|^2 = 1 at every pixel, as networks expect. By default, ESPIRiT maps fade to 0
            outside the object; "center" maps are always normalised everywhere.
        compiled: as in `espirit_maps`.

    Returns:
        complex maps of the shape and type of `kspace`.

    Raises:
        MaskError: the mask has no fully sampled centre.
        FormatError: calibration data that ESPIRiT cannot use, or coils of a slice without a common object.
    """
    if maps == "center":
        return sens_maps_from_center(kspace, mask)
    if everywhere:
        return espirit_maps(kspace, mask, crop=0.0, soft_crop=False, compiled=compiled).maps[:, 0]
    found = espirit_maps(kspace, mask, compiled=compiled).maps[:, 0]
    nowhere = (found == 0).flatten(1).all(dim=1).nonzero().flatten().tolist()
    if nowhere:
        raise FormatError(
            f"expected coils that agree on an object, got none in the centre of slices {nowhere}: "
            'leave them out, or give maps="center" or sens_maps'
        )
    return found


def sens_maps_from_center(kspace: Tensor, mask: Mask | Tensor) -> Tensor:
    """Estimate sensitivity maps from the fully sampled centre of k-space.

    The low-resolution coil images are `m_c = F^-1 (H y_c)`, with `H` a Hann window over the fully sampled centre of the
    mask (zero elsewhere). The maps are these images divided by their root sum of squares,
    `S_c = m_c / sqrt(sum_d |m_d|^2)`, so that `sum_c |S_c|^2 = 1` everywhere. The maps include the phase of the
    low-resolution image, so the combined image is nearly real. A single coil has the map 1.

    Args:
        kspace: complex, `(..., coil, readout, phase)`; only its fully sampled centre is read.
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
    """Compute maps `S_c = m_c / sqrt(sum_d |m_d|^2)` of low-resolution coil images, see `sens_maps_from_center`.

    Args:
        coil_images: m, complex `(..., coil, h, w)`; one coil has the map 1.

    Returns:
        complex maps of the same shape.
    """
    if coil_images.shape[-3] == 1:
        return torch.ones_like(coil_images)
    return divide_by_norm(coil_images, rss(coil_images).unsqueeze(-3))


def divide_by_norm(coil_images: Tensor, norm: Tensor) -> Tensor:
    """Divide coil images `(..., coil, h, w)` by their norm over the coils `(..., 1, h, w)`.

    Where the norm is 0, equal weights keep sum |S|^2 = 1.
    """
    flat = torch.full_like(coil_images, coil_images.shape[-3] ** -0.5)
    found = norm > 0
    return torch.where(found, coil_images / torch.where(found, norm, torch.ones_like(norm)), flat)


def low_resolution_images(kspace: Tensor, mask: Mask | Tensor) -> Tensor:
    """Compute the coil images of the fully sampled centre alone, `m_c = F^-1 (H y_c)`, `H` a Hann window over it.

    If the echo is off the centre (`echo.echo_center`), the block is read around the echo.

    Args:
        kspace: complex, `(..., coil, readout, phase)`; only its fully sampled centre is read.
        mask: the sampling mask of that k-space.

    Returns:
        complex coil images of the shape and type of `kspace`.

    Raises:
        MaskError: the mask has no fully sampled centre.
    """
    at = echo_center(kspace, mask)
    _, columns = center_block(mask, at=at)
    num_columns = columns.stop - columns.start
    size = (max(num_columns, MIN_CALIBRATION_ROWS), num_columns)
    rows, columns = calibration_block(mask, kspace.shape, size, at=at)
    window = _hann(rows, kspace)[:, None] * _hann(columns, kspace)
    low = torch.zeros_like(kspace)
    low[..., rows, columns] = kspace[..., rows, columns] * window
    return ifft2c(low)


def _hann(block: slice, like: Tensor) -> Tensor:
    """Make a Hann window of the block without its zero end points, real, peak at most 1."""
    size = block.stop - block.start
    n = torch.arange(1, size + 1, device=like.device, dtype=like.real.dtype)
    return torch.sin(torch.pi * n / (size + 1)) ** 2
