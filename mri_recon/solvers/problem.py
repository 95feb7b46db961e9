"""The least-squares problem that solvers are given: gradient, residual and inner product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = [
    "LeastSquares",
    "LinearMap",
    "Residual",
    "real_inner",
]


LinearMap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Residual:
    """`r = y - B x` as solvers and certificates use it.

    Attributes:
        gradient: `B^H r`, of the shape of `x`: the negative gradient of the data term.
        energy: `||r||^2`, float64 `(batch,)`.
        correlation: `Re <r, y>`, float64 `(batch,)`.
    """

    gradient: Tensor
    energy: Tensor
    correlation: Tensor


class LeastSquares(Protocol):
    """`1/2 ||B x - y||^2` for a batch of independent problems; the first axis of `x` counts them."""

    def at_zero(self) -> Residual:
        """The residual at `x = 0`, which is `y`."""
        ...

    def gradient(self, x: Tensor) -> Tensor:
        """`B^H (y - B x)`."""
        ...

    def residual(self, x: Tensor) -> Residual:
        """Gradient, energy and correlation of `r = y - B x`."""
        ...


def real_inner(a: Tensor, b: Tensor) -> Tensor:
    """`Re <a, b>` over all axes but the first, float64 `(batch,)`.

    Rows along the last axis are summed in the working precision, a few hundred terms, and the rows in double: four
    times as fast as double throughout, and single precision loses nothing that its terms had.
    """
    if a.is_complex():
        a, b = torch.view_as_real(a).flatten(-2), torch.view_as_real(b).flatten(-2)
    rows: Tensor = torch.linalg.vecdot(a, b)
    return rows.reshape(len(a), -1).sum(dim=1, dtype=torch.float64)
