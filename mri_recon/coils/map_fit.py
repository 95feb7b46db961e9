"""Check whether sensitivity maps of a user fit the k-space that they are given with."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon._arrays import quotient
from mri_recon.coils.combine import combine, rss
from mri_recon.coils.map_extension import extend_maps, known_pixels, typical_norm
from mri_recon.coils.sensitivity_maps import low_resolution_images
from mri_recon.errors import MaskError
from mri_recon.masks.types import Mask
from mri_recon.transforms.fourier import fft2c

__all__ = ["map_warnings"]

_UNEXPLAINED = 0.1
"""Warn above this part of the signal that the maps cannot explain. True maps of the simulated validation scans leave at
most 0.04, maps in the wrong order or conjugated 0.37 to 0.99.
"""

_OUTSIDE = 0.03
_OUTSIDE_RATIO = 1.75
"""Warn above this part of the signal outside the maps, if it is also so many times what blurring carries there. On the
simulated validation scans, a crop along the object's edge reaches a ratio of 1.64, a crop 5 pixels inside 1.8 to 4.4.
"""

_LARGEST = 10.0
"""Warn if the norm of the maps has pixels so many times above its 99th percentile."""


def map_warnings(kspace: Tensor, mask: Mask, sens_maps: Tensor) -> list[str]:
    """Compare given maps with the coil images m of the fully sampled centre; return a warning for each misfit.

    Maps of another scan, conjugated, shifted or in another order of the coils cannot explain the coil images: the part
    of m orthogonal to the maps is large,

        sum |m - S S^H m|^2 / sum |m|^2,   S normalised, and extended to where the maps are zero.

    Maps cropped inside the object leave signal outside the crop. The images m are blurred, so some signal is outside
    any crop along the edge. The signal outside therefore counts only if it is much more than a second blur of m, cut at
    the crop, carries there.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask; without a fully sampled centre nothing is known, and only the norm is checked.
        sens_maps: complex, like `kspace`, finite.

    Returns:
        sentences, each with the slices concerned and advice; empty if the maps fit.
    """
    norm, known = rss(sens_maps), known_pixels(sens_maps)
    warnings = []
    outliers = norm.amax(dim=(-2, -1)) > _LARGEST * typical_norm(norm)
    if bool(outliers.any()):
        warnings.append(
            f"sens_maps are more than {_LARGEST:g} times as large in a few pixels as elsewhere{_slices(outliers)}: "
            "repair these pixels, regularised methods depend on the largest one"
        )
    try:
        images = low_resolution_images(kspace, mask)
    except MaskError:
        return warnings
    total = rss(images).square().sum(dim=(-2, -1))
    unit = extend_maps(quotient(sens_maps, torch.where(known, norm, torch.zeros_like(norm)).unsqueeze(1)), known)
    unexplained = 1 - quotient(combine(images, unit).abs().square().sum(dim=(-2, -1)), total)
    misfit = (total > 0) & (unexplained > _UNEXPLAINED)
    if bool(misfit.any()):
        warnings.append(
            f"sens_maps do not fit the k-space{_slices(misfit)}: they explain only "
            f"{1 - float(unexplained.max()):.0%} of the signal of its fully sampled centre. Check the order of the "
            "coils, the orientation, the sign of the phase (complex conjugate) and shifts, or leave sens_maps out"
        )
    outside = _share_outside(images, known, total)
    blurred = low_resolution_images(fft2c(images * known.unsqueeze(1)), mask)
    carried = _share_outside(blurred, known, rss(blurred).square().sum(dim=(-2, -1)))
    cut = (outside > _OUTSIDE) & (outside > _OUTSIDE_RATIO * carried)
    if bool(cut.any()):
        warnings.append(
            f"sens_maps are zero in parts of the object{_slices(cut)}: {float(outside[cut].max()):.0%} of the signal "
            "of the fully sampled centre is outside them. The image is 0 there, and the missing part may cause "
            "artifacts inside: crop the maps less, or leave sens_maps out"
        )
    return warnings


def _share_outside(images: Tensor, known: Tensor, total: Tensor) -> Tensor:
    energy = rss(images).square()
    return quotient(torch.where(known, torch.zeros_like(energy), energy).sum(dim=(-2, -1)), total)


def _slices(found: Tensor) -> str:
    """Name the slices, unless there is only one."""
    if found.numel() == 1:
        return ""
    return f" in slices {found.nonzero().flatten().tolist()}"
