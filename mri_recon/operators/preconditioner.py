"""Approximate the inverse of `A^H A + beta`, for the inner solves of ADMM."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.operators.sense import SenseOperator
from mri_recon.solvers.problem import LinearMap

__all__ = ["circulant_inverse", "penalised_inverse", "row_block_inverse"]

_SMALL_BETA = 0.025
"""beta, in units of the largest coverage, up to which the inverse of a block of rows pays for its cost."""

_MAX_BLOCKS = 4
"""Most blocks of rows; more of them take fewer iterations and more memory."""

_ROWS_READ = 16
"""Rows of a block from which its mean is computed; maps are smooth, so that more change nothing."""

_LONGEST_ROW = 640
"""Longest row for which the blocks are worth their cost, which grows with it."""


def penalised_inverse(operator: SenseOperator, beta: Tensor) -> LinearMap:
    """Choose the approximate inverse of `A^H A + beta` that makes the solver fast.

    `row_block_inverse` where the rows are separate problems that share a mask, beta is small and no image is padded;
    else `circulant_inverse`.

    Args:
        operator: A, with maps `(batch, coil, h, w)`.
        beta: not negative, float64 `(batch,)`.
    """
    width = operator.sens_maps.shape[-1]
    shared = operator.dims == (-1,) and operator.mask.numel() == width <= _LONGEST_ROW
    small = float(beta.max()) <= _SMALL_BETA * operator.norm_bound
    if shared and small and operator.image_size == operator.kspace_size:
        return row_block_inverse(operator, beta)
    return circulant_inverse(operator, beta)


def circulant_inverse(operator: SenseOperator, beta: Tensor) -> LinearMap:
    """Make `r -> F^H (K + beta)^-1 F r`, K the diagonal of `F A^H A F^H`.

    The diagonal is the mask, blurred by the mean power spectrum of the maps:

        K(k) = sum_k' P(k') E(k' - k),   E(q) = (1 / N) sum_c |(F S_c)(q)|^2

    N counts the positions along the transformed axes. Where the rows are separate problems, each has its own K.

    Args:
        operator: A, with maps `(batch, coil, h, w)`.
        beta: positive, `(batch,)`.

    Returns:
        function of images `(batch, H, W)`, Hermitian and positive definite.

    Raises:
        ShapeError: an image of another size, when the function is called.
    """
    maps, dims = operator.sens_maps, operator.dims
    places = 1
    for dim in dims:
        places *= maps.shape[dim]
    power = torch.zeros_like(maps.real[:, 0])
    for coil in maps.unbind(dim=1):
        power += torch.fft.fftn(coil, dim=dims, norm="ortho").abs().square()
    mask = operator.mask if operator.mask.ndim < 4 else operator.mask[:, 0]
    sampled = torch.fft.fftn(mask.expand_as(power), dim=dims)
    blurred = torch.fft.ifftn(torch.fft.fftn(power / places, dim=dims).conj() * sampled, dim=dims).real
    blurred.clamp_min_(0)  # rounding
    factor = blurred.add_(beta.to(blurred)[:, None, None]).reciprocal_()

    def apply(r: Tensor) -> Tensor:
        spectrum = torch.fft.fftn(operator.crop(r), dim=dims).mul_(factor)
        return operator.pad(torch.fft.ifftn(spectrum, dim=dims))

    return apply


def row_block_inverse(operator: SenseOperator, beta: Tensor) -> LinearMap:
    """Make `r -> (B + beta)^-1 r`, B the mean over a block of rows of the matrix by which `A^H A` acts on a row.

    Rows are separate problems. Row i has the matrix `H_i = sum_c conj(S_c) T S_c`, T the periodic convolution of the
    mask, and maps are smooth, so that neighbouring rows have nearly the same. The mean is positive semi-definite.
    Where beta is small, this is much nearer to the inverse than a diagonal in k-space: it knows how the coils unfold.

    Args:
        operator: A, whose rows are separate problems and share one mask, with maps `(batch, coil, h, w)`.
        beta: positive, `(batch,)`.

    Returns:
        function of images `(batch, h, w)`, Hermitian and positive definite. It holds at most four matrices `(w, w)`,
        and no more than four images.
    """
    maps = operator.sens_maps
    h, w = maps.shape[-2:]
    kernel = torch.fft.ifft(operator.mask.flatten().double())
    places = torch.arange(w, device=maps.device)
    convolution = kernel[(places[:, None] - places) % w].to(maps.dtype)
    rows = -(-h // max(1, min(_MAX_BLOCKS, _MAX_BLOCKS * h // w)))
    diagonal = torch.eye(w, dtype=maps.dtype, device=maps.device) * beta.to(maps.real.dtype)[:, None, None]
    inverses = []
    for top in range(0, h, rows):
        read = maps[..., top : top + rows, :][..., :: max(1, rows // _ROWS_READ), :]
        columns = read.flatten(1, 2).mT
        mean = (columns.conj() @ columns.mT).mul_(convolution).div_(read.shape[-2])
        # The transpose, since rows of an image are multiplied from the right.
        inverses.append(torch.cholesky_inverse(torch.linalg.cholesky(mean + diagonal)).mT.contiguous())

    def apply(r: Tensor) -> Tensor:
        blocks = []
        for number, inverse in enumerate(inverses):
            block = r[:, number * rows : (number + 1) * rows]
            # Several times faster on a CPU than a batch of one.
            blocks.append((block[0] @ inverse[0])[None] if len(block) == 1 else block @ inverse)
        return torch.cat(blocks, dim=1)

    return apply
