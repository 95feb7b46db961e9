"""Extend sensitivity maps smoothly to pixels where they are not known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mri_recon.coils.combine import rss

__all__ = ["extend_maps", "known_pixels", "typical_norm"]

_SMOOTHING = 8
"""Number of averages over neighbours after the fill; they smooth the steps of the coarse levels."""

_FAINT = 0.1

_PERCENTILE = 99


def known_pixels(maps: Tensor) -> Tensor:
    """Find the pixels of each slice where maps are valid: their norm is at least a tenth of its 99th percentile.

    The largest norm would not do: one pixel that is far too large would make all others invalid. `typical_norm` says
    what replaces the percentile in maps that are cropped to less than 1 % of the pixels.

    Args:
        maps: complex `(slice, coil, h, w)`.

    Returns:
        bool `(slice, h, w)`.
    """
    norm = rss(maps)
    return norm > _FAINT * typical_norm(norm)[:, None, None]


def typical_norm(norm: Tensor) -> Tensor:
    """Compute the 99th percentile (nearest rank) of the norm of maps, or the largest norm if the percentile is 0.

    Args:
        norm: real `(slice, h, w)`.

    Returns:
        real `(slice,)`.
    """
    flat = norm.flatten(1)
    level = flat.kthvalue(max(1, -int(-flat.shape[1] * _PERCENTILE // 100)), dim=1).values
    return torch.where(level > 0, level, flat.amax(dim=1))


def extend_maps(maps: Tensor, known: Tensor) -> Tensor:
    """Fill maps where they are not known from the nearest known values, smoothly, and normalise to sum |S|^2 = 1.

    Maps of a user are often cropped outside the object (ESPIRiT, BART). Known values stay, normalised. Unknown values
    are averages of the known values over 2, 4, 8, ... pixels, from the finest level with known values (Gortler et al.,
    SIGGRAPH 1996: pull-push), followed by a few averages over neighbours.

    Args:
        maps: complex `(slice, coil, h, w)`.
        known: bool `(slice, h, w)`, True where the maps are valid.

    Returns:
        complex, like `maps`, with sum over the coils of |S|^2 = 1; equal values for all coils if a slice has no known
        value at all.
    """
    unit = _normalised(maps)
    if bool(known.all()):
        return unit
    inside = known.unsqueeze(1).to(maps.real.dtype)
    planes = torch.view_as_real(unit).movedim(-1, 2).flatten(1, 2) * inside
    filled = _pull_push(planes, inside)
    for _ in range(_SMOOTHING):
        around = functional.avg_pool2d(functional.pad(filled, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        filled = torch.where(inside > 0, planes, around)
    parts = filled.reshape(maps.shape[0], maps.shape[1], 2, *maps.shape[-2:]).movedim(2, -1).contiguous()
    return _normalised(torch.view_as_complex(parts))


def _pull_push(values: Tensor, weight: Tensor) -> Tensor:
    """Keep `values` where `weight` is 1; elsewhere take the average of the finest level with known values."""
    height, width = values.shape[-2:]
    if height * width == 1 or bool((weight > 0).all()):
        return values
    sums = functional.avg_pool2d(values, 2, ceil_mode=True)
    shares = functional.avg_pool2d(weight, 2, ceil_mode=True)
    coarse = torch.where(shares > 0, sums / shares.clamp_min(1e-6), torch.zeros_like(sums))
    coarse = _pull_push(coarse, (shares > 0).to(weight.dtype))
    fine = functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return torch.where(weight > 0, values, fine)


def _normalised(maps: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    flat = torch.full_like(maps, maps.shape[1] ** -0.5)
    return torch.where(norm > 0, maps / torch.where(norm > 0, norm, torch.ones_like(norm)), flat)
