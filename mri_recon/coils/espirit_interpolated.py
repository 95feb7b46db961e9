"""Estimate coil sensitivity maps by ESPIRiT at some pixels, and interpolate them between those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mri_recon.coils._eigenvectors import principal_coil, turn_to
from mri_recon.coils.espirit import (
    check_options,
    checked_largest,
    kernel_correlation,
    kernel_that_fits,
    pixel_matrices,
    ramps,
)
from mri_recon.errors import ShapeError
from mri_recon.masks.calibration_region import calibration_block
from mri_recon.masks.convert import as_mask
from mri_recon.masks.echo import echo_center

if TYPE_CHECKING:
    from mri_recon.masks.types import Mask

__all__ = ["interpolated_espirit_maps"]

_POINTS_A_PERIOD = 4
"""Number of exactly decomposed pixels in the finest period of G if the vectors between them are interpolated."""

_LARGEST_GAP = 8
"""Maximum distance of exactly decomposed pixels, because eigenvectors vary faster than G."""


def interpolated_espirit_maps(
    kspace: Tensor,
    mask: Mask | Tensor,
    rows: Tensor,
    *,
    kernel_size: int = 6,
    calibration_size: int = 24,
    threshold: float = 0.001,
) -> tuple[Tensor, Tensor]:
    """Estimate the maps of some rows of one slice by ESPIRiT on a coarse grid, and interpolate them.

    The eigenvectors of `espirit_maps` are smooth. They are decomposed exactly at four pixels in each finest period of
    G, interpolated by cubic convolution, and normalised and rotated again. The result differs from `espirit_maps` by
    about 1e-4 and costs a fraction: training examples are cut to a band of rows, and are made by the thousand.

    Args:
        kspace: complex `(coil, readout, phase)`; only the calibration block is read.
        mask: the sampling mask of that k-space.
        rows: row numbers, int64 `(n,)`, in any order.
        kernel_size, calibration_size, threshold: as in `espirit_maps`.

    Returns:
        maps, complex `(coil, n, phase)`, sum over coils of |S|^2 = 1, and eigenvalues, real `(n, phase)`; ones for one
        coil.

    Raises:
        ShapeError, MaskError, FormatError, MethodError: as `espirit_maps`.
    """
    check_options(1, kernel_size, calibration_size, threshold, 0.0)
    if kspace.ndim != 3 or not kspace.is_complex() or 0 in kspace.shape:
        raise ShapeError(
            f"expected complex k-space (coil, readout, phase), got {kspace.dtype} {tuple(kspace.shape)}: "
            "one slice, its coil axis kept"
        )
    num_coils, h, w = kspace.shape
    if num_coils == 1:
        return kspace.new_ones(1, rows.numel(), w), kspace.real.new_ones(rows.numel(), w)
    size = (calibration_size, calibration_size)
    checked_mask = as_mask(mask, kspace.shape)
    at = echo_center(kspace, checked_mask)
    block = kspace[(slice(None), *calibration_block(checked_mask, kspace.shape, size, at=at))]
    calibration = block / checked_largest(block[None])[0]
    kernel = kernel_that_fits(kernel_size, (block.shape[-2], block.shape[-1]), (h, w))
    operator = kernel_correlation(calibration, kernel, threshold)
    grid_y, weights_y = _cubic_weights(h, rows, operator.shape[2])
    grid_x, weights_x = _cubic_weights(w, torch.arange(w, device=kspace.device), operator.shape[3])
    ramps_y, ramps_x = ramps(h, operator.shape[2], operator), ramps(w, operator.shape[3], operator)
    matrices = pixel_matrices(operator, ramps_y[grid_y % h], ramps_x[grid_x % w])
    eigenvalues, vectors = torch.linalg.eigh(matrices.permute(2, 3, 0, 1))
    coarse = vectors[..., -1].permute(2, 0, 1).contiguous()
    virtual = principal_coil(calibration)
    turn_to(coarse, virtual)
    values = weights_y @ eigenvalues[..., -1] @ weights_x.T
    maps = weights_y.to(coarse.dtype) @ coarse @ weights_x.T.to(coarse.dtype)
    energy = torch.view_as_real(maps).square().sum(dim=(0, -1))
    maps = maps * energy.clamp_min(torch.finfo(energy.dtype).tiny).rsqrt()
    turn_to(maps, virtual)
    return maps, values


def _cubic_weights(size: int, wanted: Tensor, num_offsets: int) -> tuple[Tensor, Tensor]:
    """Choose pixels of a coarse grid, and compute cubic-convolution weights `(wanted, grid)` from it to wanted pixels.

    The grid covers only the neighbourhood of wanted pixels. G has the period of the image, so pixels beyond the edge
    are those of the other side.

    Source: Keys, IEEE Trans Acoust 1981.
    """
    step = max(1, min(_LARGEST_GAP, size // (_POINTS_A_PERIOD * num_offsets)))
    place = torch.div(wanted, step, rounding_mode="floor")
    share = ((wanted - place * step).to(torch.float32) / step)[:, None]
    taps = place[:, None] + torch.arange(-1, 3, device=wanted.device)
    grid, positions = torch.unique(taps, return_inverse=True)
    near, far = share, 1 - share
    weights = torch.cat(
        [
            -near * far.square() / 2,
            1 - near.square() * (5 - 3 * near) / 2,
            1 - far.square() * (5 - 3 * far) / 2,
            -far * near.square() / 2,
        ],
        dim=1,
    )
    table = torch.zeros(wanted.numel(), grid.numel(), device=wanted.device)
    return grid * step, table.scatter_add_(1, positions, weights)
