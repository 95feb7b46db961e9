"""Compute `A^H A` a few rows at a time, for solvers that apply it often.

The results are those of `SenseOperator.gram` up to rounding. Networks stay with that one, whose every digit their
training and the replay of their results rely on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.operators.sense import SenseOperator, weighted_sum
from mri_recon.solvers.problem import LinearMap
from mri_recon.transforms.periodic_convolution import PeriodicConvolution

__all__ = ["blocks_of_rows", "fast_gram", "shared_columns"]

_BLOCK_SAMPLES = 1 << 16
"""Samples of all coils worked on at a time: half a mebibyte of single precision, which a core's own cache holds."""


def shared_columns(operator: SenseOperator) -> bool:
    """Tell whether the rows are separate problems and share one mask of columns."""
    return operator.dims == (-1,) and operator.mask.numel() == operator.sens_maps.shape[-1]


def blocks_of_rows(maps: Tensor) -> list[slice]:
    """Split the rows of maps `(..., coil, h, w)` into blocks whose samples of all coils a core's cache holds."""
    rows = max(1, _BLOCK_SAMPLES // max(1, maps[..., 0, :].numel()))
    return [slice(top, top + rows) for top in range(0, maps.shape[-2], rows)]


def fast_gram(operator: SenseOperator) -> LinearMap:
    """Choose the fastest form of `A^H A`, image to image.

    Where the rows are separate problems and share one mask, it is a convolution along them (`PeriodicConvolution`), and
    the k-space of all coils is never held. Elsewhere it is `operator.gram`.

    Args:
        operator: A, with maps `(..., coil, h, w)`; images are complex and have the same leading axes.
    """
    if not shared_columns(operator):
        return operator.gram
    maps, convolution = operator.sens_maps, PeriodicConvolution(operator.mask.flatten())
    blocks = blocks_of_rows(maps)

    def gram(x: Tensor) -> Tensor:
        cropped = operator.crop(x)
        found = torch.empty_like(cropped, memory_format=torch.contiguous_format)
        for rows in blocks:
            part = maps[..., rows, :]
            coil_images = part * cropped[..., rows, :].unsqueeze(-3)
            found[..., rows, :] = weighted_sum(part, convolution(coil_images))
        return operator.pad(found)

    return gram
