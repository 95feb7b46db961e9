"""Add periodically shifted images in place, as translation-invariant transforms do."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.errors import ShapeError

__all__ = ["add_shifted", "bands_for", "complex_view", "real_view", "sum_with_shifted"]


def real_view(x: Tensor) -> tuple[Tensor, int]:
    """View a tensor as real `(..., h, w)` or, of a complex tensor, `(..., h, 2 w)`, and the distance of neighbours."""
    if not x.is_complex():
        return x, 1
    return torch.view_as_real(x.resolve_conj().contiguous()).flatten(-2), 2


def complex_view(x: Tensor) -> Tensor:
    """View as complex `(..., h, w)` a contiguous real tensor `(..., h, 2 w)`."""
    return torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))


def bands_for(x: Tensor, num_bands: int, out: Tensor | None) -> Tensor:
    """Return memory for the bands `(..., band, h, w)` of an image `(..., h, w)`: `out`, or a new tensor if it is None.

    Raises:
        ShapeError: `out` is not contiguous, or of another shape or type.
    """
    shape = (*x.shape[:-2], num_bands, *x.shape[-2:])
    if out is None:
        return x.new_empty(shape)
    if out.shape != shape or out.dtype != x.dtype or not out.is_contiguous():
        raise ShapeError(
            f"expected a contiguous out {shape} of type {x.dtype}, got {tuple(out.shape)} of type {out.dtype}: "
            "leave it away, or allocate it with new_empty"
        )
    return out


def add_shifted(out: Tensor, x: Tensor, shift: int, dim: int, factor: float) -> Tensor:
    """Compute `out[k] += factor x[(k + shift) mod N]` along an axis, in place and without a shifted copy."""
    for target, source, size in _pieces(shift, x.shape[dim]):
        out.narrow(dim, target, size).add_(x.narrow(dim, source, size), alpha=factor)
    return out


def sum_with_shifted(x: Tensor, shift: int, dim: int, factor: float, out: Tensor) -> Tensor:
    """Compute `out[k] = x[k] + factor x[(k + shift) mod N]` along an axis."""
    for target, source, size in _pieces(shift, x.shape[dim]):
        torch.add(
            x.narrow(dim, target, size), x.narrow(dim, source, size), alpha=factor, out=out.narrow(dim, target, size)
        )
    return out


def _pieces(shift: int, n: int) -> list[tuple[int, int, int]]:
    """Find start in the result, start in the source and length of the two runs that make a periodic shift."""
    shift %= n
    return [(0, shift, n - shift), (n - shift, 0, shift)] if shift else [(0, 0, n)]
