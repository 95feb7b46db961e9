"""Combine coil images into one image, and expand an image into coil images.

The coil axis is the third from the end, `(..., coil, h, w)`; a single coil has an axis of length 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon._arrays import as_tensor
from mri_recon.coils._eigenvectors import orthogonal_iteration, principal_coil, row_chunks, turn_to
from mri_recon.errors import MethodError, ShapeError

__all__ = [
    "adaptive_combine",
    "combine",
    "expand",
    "rss",
]


# Power iterations of the adaptive combination, started at the coil values of the pixel itself. Few are enough: where
# there is signal, the other eigenvalues are those of the noise.
_ITERATIONS = 8


def rss(x: Tensor | npt.NDArray[Any], dim: int = -3) -> Tensor:
    """Compute the root sum of squares over the coils: `sqrt(sum_c |x_c|^2)`.

    Args:
        x: coil images, complex or real, `(..., coil, h, w)`, tensor or array.
        dim: the coil axis.

    Returns:
        real tensor without the coil axis, `(..., h, w)`.

    Raises:
        ShapeError: `dim` is not an axis of `x`.

    Source: Roemer et al., Magn Reson Med 1990.
    """
    x = as_tensor(x)
    if not -x.ndim <= dim < x.ndim:
        raise ShapeError(
            f"expected coil images with a coil axis at {dim}, got shape {tuple(x.shape)}: "
            "keep the coil axis, also for one coil, e.g. x[..., None, :, :]"
        )
    result: Tensor = torch.linalg.vector_norm(x, dim=dim)
    if result.numel() == 0 or 1e-12 < float(result.max()) < 1e12:
        return result
    largest = float(torch.linalg.vector_norm(x.detach(), ord=math.inf))
    if not 0 < largest < math.inf:
        return result
    # Squares of such numbers leave the range of single precision; scaling by a power of two is exact.
    unit = 2.0 ** math.frexp(largest)[1]
    scaled: Tensor = torch.linalg.vector_norm(x / unit, dim=dim)
    return scaled * unit


def combine(coil_images: Tensor, sens_maps: Tensor) -> Tensor:
    """Combine coil images, `sum_c conj(S_c) x_c`: the adjoint of `expand`.

    Args:
        coil_images: complex, `(..., coil, h, w)`.
        sens_maps: complex, broadcastable to `coil_images`, with the same coils.

    Returns:
        complex image `(..., h, w)`.

    Raises:
        ShapeError: images and maps differ in the number of coils or in size.
    """
    if coil_images.ndim < 3 or sens_maps.ndim < 3 or coil_images.shape[-3:] != sens_maps.shape[-3:]:
        raise ShapeError(
            f"expected coil images and maps (..., coil, h, w) with equal coils and sizes, got "
            f"{tuple(coil_images.shape)} and {tuple(sens_maps.shape)}: compute the maps from this k-space"
        )
    return (sens_maps.conj() * coil_images).sum(dim=-3)


def expand(image: Tensor, sens_maps: Tensor) -> Tensor:
    """Compute the coil images `S_c x` of one image.

    Args:
        image: complex, `(..., h, w)`.
        sens_maps: complex, `(..., coil, h, w)`.

    Returns:
        complex coil images `(..., coil, h, w)`.

    Raises:
        ShapeError: the image size is not that of the maps.
    """
    if image.ndim < 2 or sens_maps.ndim < 3 or image.shape[-2:] != sens_maps.shape[-2:]:
        raise ShapeError(
            f"expected an image (..., h, w) and maps (..., coil, h, w) of one size, got {tuple(image.shape)} and "
            f"{tuple(sens_maps.shape)}: crop or pad one of them"
        )
    return sens_maps * image.unsqueeze(-3)


def adaptive_combine(coil_images: Tensor, *, block_size: int = 7) -> Tensor:
    """Combine coil images with weights estimated from the images themselves: the stochastic matched filter.

        z(r) = v(r)^H x(r),   v(r) the leading eigenvector, |v| = 1, of R(r) = sum_{r' in block around r} x(r') x(r')^H

    Unlike the root sum of squares, z keeps the phase and has less noise where there is little signal. |z| is at most
    the root sum of squares, and close to it where there is signal. The phase of an eigenvector is arbitrary: v is
    rotated so that its part in the first virtual coil (the principal component of the whole image, with its largest
    entry real and positive) is real and positive. z therefore has about the phase of that virtual coil's image.

    Args:
        coil_images: x, complex `(..., coil, h, w)`; the image of a single coil is returned unchanged.
        block_size: side of the square block, odd; pixels beyond the edge count as zero.

    Returns:
        complex image `(..., h, w)`, in the units of `coil_images`.

    Raises:
        ShapeError: not complex `(..., coil, h, w)`.
        MethodError: a block size that is not odd and positive.

    Source: Walsh, Gmitro and Marcellin, Magn Reson Med 2000.
    """
    if coil_images.ndim < 3 or not coil_images.is_complex() or 0 in coil_images.shape:
        raise ShapeError(
            f"expected complex coil images (..., coil, h, w), got {coil_images.dtype} {tuple(coil_images.shape)}: "
            "keep the coil axis, also for one coil"
        )
    if isinstance(block_size, bool) or not isinstance(block_size, int) or block_size < 1 or block_size % 2 == 0:
        raise MethodError(f"expected an odd, positive block_size, got {block_size!r}: 7 is the default")
    *batch, num_coils, h, w = coil_images.shape
    if num_coils == 1:
        return coil_images[..., 0, :, :].clone()
    image = coil_images.new_empty(math.prod(batch), h, w)
    for x, combined in zip(coil_images.reshape(-1, num_coils, h, w), image, strict=True):
        largest = x.abs().max()
        unit = x / torch.where(largest > 0, largest, torch.ones_like(largest))
        virtual = principal_coil(unit)
        for rows in row_chunks(h, w * num_coils**2, x.device):
            start = unit[:, rows] / rss(unit[:, rows]).clamp_min(torch.finfo(x.real.dtype).tiny)
            _, vectors = orthogonal_iteration(_block_covariance(unit, rows, block_size), start[None], _ITERATIONS)
            turn_to(vectors, virtual)
            combined[rows] = combine(x[:, rows], vectors[0])
    return image.reshape(*batch, h, w)


def _block_covariance(x: Tensor, rows: slice, block_size: int) -> Tensor:
    """Compute `sum x x^H` over the block around every pixel of some rows, `(coil, coil, row, w)`, up to a factor."""
    reach = block_size // 2
    first, last = max(0, rows.start - reach), min(x.shape[1], rows.stop + reach)
    part = x[:, first:last]
    # Rows beyond the edge are filled with zeros here; avg_pool2d fills the columns itself.
    products = torch.view_as_real(part[:, None] * part.conj()).movedim(-1, 0).flatten(0, 2)
    padding = (0, 0, reach - (rows.start - first), reach - (last - rows.stop))
    products = torch.nn.functional.pad(products, padding)
    sums = torch.nn.functional.avg_pool2d(products, (block_size, 1), stride=1)
    sums = torch.nn.functional.avg_pool2d(sums, (1, block_size), stride=1, padding=(0, reach))
    real, imaginary = sums.reshape(2, x.shape[0], x.shape[0], *sums.shape[-2:])
    return torch.complex(real, imaginary)
