"""Periodic shifts added in place: what translation-invariant transforms are made of."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["add_shifted", "complex_view", "real_view", "sum_with_shifted"]


def real_view(x: Tensor) -> tuple[Tensor, int]:
    """Real view `(..., h, w)` or, of a complex tensor, `(..., h, 2 w)`, and the distance of neighbours in it."""
    if not x.is_complex():
        return x, 1
    return torch.view_as_real(x.resolve_conj().contiguous()).flatten(-2), 2


def complex_view(x: Tensor) -> Tensor:
    """Complex view `(..., h, w)` of a contiguous real tensor `(..., h, 2 w)`."""
    return torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))


def add_shifted(out: Tensor, x: Tensor, shift: int, dim: int, factor: float) -> Tensor:
    """`out[k] += factor x[(k + shift) mod N]` along an axis, in place and without a shifted copy."""
    for target, source, size in _pieces(shift, x.shape[dim]):
        out.narrow(dim, target, size).add_(x.narrow(dim, source, size), alpha=factor)
    return out


def sum_with_shifted(x: Tensor, shift: int, dim: int, factor: float, out: Tensor) -> Tensor:
    """`out[k] = x[k] + factor x[(k + shift) mod N]` along an axis."""
    for target, source, size in _pieces(shift, x.shape[dim]):
        torch.add(
            x.narrow(dim, target, size), x.narrow(dim, source, size), alpha=factor, out=out.narrow(dim, target, size)
        )
    return out


def _pieces(shift: int, n: int) -> list[tuple[int, int, int]]:
    """Start in the result, start in the source and length of the two runs that make a periodic shift."""
    shift %= n
    return [(0, shift, n - shift), (n - shift, 0, shift)] if shift else [(0, 0, n)]
