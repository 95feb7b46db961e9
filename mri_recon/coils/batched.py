"""Estimate maps and phases of a batch of slices on the device, without reading values back from it.

Training makes its examples with these functions. They are those of `sensitivity_maps` and `phase`, for items with one
mask each and an echo at the centre of k-space.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mri_recon.coils.combine import combine
from mri_recon.coils.phase import READOUT_SHARE, direction
from mri_recon.coils.sensitivity_maps import MIN_CALIBRATION_ROWS, divide_by_norm
from mri_recon.masks.calibration_region import calibration_block, center_block
from mri_recon.masks.types import ColumnMask
from mri_recon.transforms.fourier import ifft2c

__all__ = ["maps_from_centers", "smooth_phases"]


def maps_from_centers(kspace: Tensor, masks: Sequence[ColumnMask]) -> Tensor:
    """Compute `sens_maps_from_center` of a batch, each item with its own mask.

    Args:
        kspace: complex `(batch, coil, readout, phase)`, zero where not sampled.
        masks: one for each item.

    Returns:
        complex maps like `kspace`, sum over coils of |S|^2 = 1.

    Raises:
        MaskError: a mask without a fully sampled centre.
    """
    num_coils, height, width = kspace.shape[1:]
    if num_coils == 1:
        return torch.ones_like(kspace)
    windows = np.zeros((2, len(masks), max(height, width)), dtype=np.float32)
    for i, mask in enumerate(masks):
        start, stop = _center(mask)
        blocks = calibration_block(mask, kspace.shape, (max(stop - start, MIN_CALIBRATION_ROWS), stop - start))
        for axis, block in enumerate(blocks):
            size = block.stop - block.start
            windows[axis, i, block] = np.sin(np.pi * np.arange(1, size + 1) / (size + 1)) ** 2
    window = torch.from_numpy(windows).to(kspace.device, non_blocking=True)
    images = ifft2c(kspace * window[0, :, None, :height, None] * window[1, :, None, None, :width])
    # `rss` looks at the largest value first, and so waits for the device.
    return divide_by_norm(images, torch.linalg.vector_norm(images, dim=1, keepdim=True))


def smooth_phases(kspace: Tensor, masks: Sequence[ColumnMask], sens_maps: Tensor) -> Tensor:
    """Compute `smooth_phase_map` of a batch, each item with its own mask.

    Args:
        kspace: complex `(batch, coil, readout, phase)`, zero where not sampled.
        masks: one for each item.
        sens_maps: like `kspace`.

    Returns:
        complex numbers of modulus 1, `(batch, readout, phase)`.

    Raises:
        MaskError: a mask without a fully sampled centre.
    """
    height, width = (int(n) for n in kspace.shape[-2:])
    ends = torch.tensor([_center(mask) for mask in masks]).to(kspace.device, non_blocking=True)
    start, stop = ends[:, :1], ends[:, 1:]
    columns = torch.arange(width, device=kspace.device)
    center = (columns >= start) & (columns < stop)
    block = kspace * center[:, None, None]
    largest = block.abs().flatten(1).amax(dim=1)[:, None, None, None]
    block = block / torch.where(largest > 0, largest, torch.ones_like(largest))
    energy = torch.view_as_real(block).square().sum(dim=(1, -1))
    row_energy, column_energy = energy.sum(dim=2), energy.sum(dim=1)
    half = torch.full_like(start, max(1, height // READOUT_SHARE) + 1) / 2
    row_window = _hann(row_energy.argmax(dim=1, keepdim=True), half, height)
    peak = column_energy.argmax(dim=1, keepdim=True)
    half = torch.maximum(peak - start, stop - 1 - peak) + 1
    column_window = _hann(peak, half, width)  # `block` is zero outside the centre
    image = combine(ifft2c(block * (row_window[:, None, :, None] * column_window[:, None, None, :])), sens_maps)
    return direction(image)


def _hann(peak: Tensor, half: Tensor, size: int) -> Tensor:
    """Return a Hann window about `peak`, `(batch, 1)`, zero from `half` away, as `(batch, size)`."""
    share = (torch.arange(size, device=peak.device) - peak).float() / half
    return torch.where(share.abs() < 1, 0.5 * (1 + torch.cos(torch.pi * share)), torch.zeros_like(share))


def _center(mask: ColumnMask) -> tuple[int, int]:
    columns = center_block(mask)[1]
    return int(columns.start), int(columns.stop)
