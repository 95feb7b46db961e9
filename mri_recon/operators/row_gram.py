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

__all__ = ["fast_gram"]

_BLOCK_SAMPLES = 1 << 16
"""Samples of all coils worked on at a time: half a mebibyte of single precision, which a core's own cache holds."""


def fast_gram(operator: SenseOperator) -> LinearMap:
    """Choose the fastest form of `A^H A`, image to image.

    Where the rows are separate problems and share one mask, it is a convolution along them (`PeriodicConvolution`), and
    the k-space of all coils is never held. Elsewhere it is `operator.gram`.

    Args:
        operator: A, with maps `(..., coil, h, w)`.
    """
    maps, mask = operator.sens_maps, operator.mask
    if operator.dims != (-1,) or mask.numel() != maps.shape[-1]:
        return operator.gram
    convolution = PeriodicConvolution(mask.flatten())
    rows = max(1, _BLOCK_SAMPLES // max(1, maps[..., 0, :].numel()))
    tops = range(0, maps.shape[-2], rows)

    def gram(x: Tensor) -> Tensor:
        cropped, blocks = operator.crop(x), []
        for top in tops:
            part = maps[..., top : top + rows, :]
            coil_images = part * cropped[..., top : top + rows, :].unsqueeze(-3)
            blocks.append(weighted_sum(part, convolution(coil_images)))
        return operator.pad(torch.cat(blocks, dim=-2) if len(blocks) > 1 else blocks[0])

    return gram
