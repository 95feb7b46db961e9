"""Approximate the inverse of `A^H A + beta` by one that is diagonal in k-space."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.operators.sense import SenseOperator
from mri_recon.solvers.admm import PenalisedSolve

__all__ = ["circulant_inverse"]


def circulant_inverse(operator: SenseOperator) -> PenalisedSolve:
    """Make `(r, beta) -> F^H (K + beta)^-1 F r`, K the diagonal of `F A^H A F^H`.

    The diagonal is the mask, blurred by the mean power spectrum of the maps:

        K(k) = sum_k' P(k') E(k' - k),   E(q) = (1 / N) sum_c |(F S_c)(q)|^2

    N counts the positions along the transformed axes. Where the rows are separate problems, each has its own K.

    Args:
        operator: A, with maps `(batch, coil, h, w)`.

    Returns:
        function of images `(batch, H, W)` and beta `(batch,)`, Hermitian and positive definite for `beta > 0`.

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

    def apply(r: Tensor, beta: Tensor) -> Tensor:
        spectrum = torch.fft.fftn(operator.crop(r), dim=dims)
        spectrum /= blurred + beta.to(blurred.dtype)[:, None, None]
        return operator.pad(torch.fft.ifftn(spectrum, dim=dims))

    return apply
