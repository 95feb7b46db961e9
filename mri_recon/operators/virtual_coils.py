"""Approximate most products with A^H A by a few virtual coils: many iterations become cheaper."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.operators.data_term import SenseDataTerm
from mri_recon.operators.sense import SenseOperator
from mri_recon.solvers.problem import LeastSquares, LinearMap, Residual

__all__ = ["of_virtual_coils", "with_virtual_coils"]

_BLOCK = 8
"""Rows that share their virtual coils."""

_LEFT_OUT = 5e-3
"""Fraction of the largest sum |S|^2 that the virtual coils may leave out at any pixel."""

_EXACT_CALL = 3
"""Number of the gradient call at which the full set of coils is used once.

The later, cheap gradients then start from an accurate offset."""

_MIN_COILS = 4
"""Scans with fewer coils use all of them."""

_WORTHWHILE = 0.7
"""If more than this fraction of the coils would be kept, all of them are used."""


def of_virtual_coils(operator: SenseOperator, left_out: float) -> SenseOperator:
    """Make an operator N of few virtual coils, A^H A = N^H N + E with ||E|| <= `left_out` ||A||^2.

    For inner iterations whose right-hand side is exact. The operator itself is returned if nothing is gained: few
    coils, maps that do not compress, or coupled rows.

    Args:
        operator: A, with maps `(batch, coil, h, w)`. The virtual coils of an item do not depend on its neighbours.
        left_out: fraction of the largest sum |S|^2 that the virtual coils may leave out at any pixel.

    Source: see `_ReducedDataTerm`.
    """
    virtual = _virtual_maps(operator.sens_maps, left_out) if operator.dims == (-1,) else None
    return operator if virtual is None else operator.with_maps(virtual, operator.image_size)


def with_virtual_coils(exact: SenseDataTerm) -> LeastSquares:
    """Make a cheaper term for many iterations, with most gradients from virtual coils; see `_ReducedDataTerm`.

    Returns the term itself if nothing is gained: few coils, maps that do not compress, or coupled rows.
    """
    reduced = of_virtual_coils(exact.operator, _LEFT_OUT)
    return exact if reduced is exact.operator else _ReducedDataTerm(exact, reduced.gram)


class _ReducedDataTerm:
    """Approximate the gradient with a few virtual coils.

    Each call of `residual` uses all coils and resets the approximation error.

    Along one row, `A^H A = sum_c conj(S_c) T S_c`, T the convolution of the mask, is the same for any unitary mixture
    of the coils. Smooth maps along a few neighbouring rows are mixtures of few virtual coils. The others are left out:
    `||E|| <= 0.005 ||A||^2`. With the gradient known exactly at the last u_0 of `residual`,

        A^H (y - A u) = A^H (y - A u_0) - N (u - u_0) - E (u - u_0),   N = A^H A - E,

    only the last term is neglected. The residual, and with it objective and gap, is always exact.

    Source: geometric coil compression, Zhang et al., Magn Reson Med 2013, applied to the maps instead of the data.
    """

    def __init__(self, exact: SenseDataTerm, normal: LinearMap) -> None:
        self._exact, self._normal = exact, normal
        self._offset = exact.rhs  # gradient at the last point of `residual` plus N times it; at 0 to begin with
        self._pending: Tensor | None = None  # that point, until N times it is needed
        self._calls = 0

    def at_zero(self) -> Residual:
        return self._exact.at_zero()

    def gradient(self, x: Tensor) -> Tensor:
        self._calls += 1
        if self._calls == _EXACT_CALL:  # the first points move far from 0, where the offset was taken
            self._offset, self._pending = self._exact.gradient(x), x
            return self._offset
        if self._pending is not None:
            self._offset, self._pending = self._offset + self._normal(self._pending), None
        return torch.sub(self._offset, self._normal(x))

    def residual(self, x: Tensor) -> Residual:
        found = self._exact.residual(x)
        self._offset, self._pending = found.gradient, x
        return found


def _virtual_maps(maps: Tensor, allowed: float) -> Tensor | None:
    """Compute maps of the fewest virtual coils that leave out at most `allowed` of sum |S|^2; None for many.

    Virtual coils are the principal mixtures of every `_BLOCK` rows: the eigenvectors of `sum_pixels S S^H`. An item
    that needs fewer of them than its neighbours has maps of 0 for the others.
    """
    batch, num_coils, h, w = maps.shape
    if num_coils < _MIN_COILS:
        return None
    if h % _BLOCK:
        padded = torch.nn.functional.pad(torch.view_as_real(maps), (0, 0, 0, 0, 0, -h % _BLOCK))
        maps = torch.view_as_complex(padded)
    blocks = maps.reshape(batch, num_coils, -1, _BLOCK * w).movedim(2, 1)
    _, vectors = torch.linalg.eigh(blocks @ blocks.mH)
    mixed = vectors.flip(-1).mH @ blocks  # strongest first
    energy = mixed.real.square() + mixed.imag.square()  # bounded at every pixel, not on average: N must resemble A^H A
    left_out = energy.flip(2).cumsum(dim=2).flip(2).amax(dim=(1, 3)) / energy.sum(dim=2).amax(dim=(1, 2))[:, None]
    counts = (left_out > allowed).sum(dim=1).clamp_min(1)
    counts = torch.where(counts > _WORTHWHILE * num_coils, num_coils, counts)
    if int(counts.min()) == num_coils:
        return None
    most = int(counts.max())
    kept = torch.arange(most, device=maps.device) < counts[:, None]
    virtual: Tensor = (mixed[:, :, :most] * kept[:, None, :, None]).movedim(1, 2).reshape(batch, most, -1, w)
    return virtual[:, :, :h].contiguous()
