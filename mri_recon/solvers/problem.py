"""Define the least-squares problem that solvers take, and the solution that they return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mri_recon.errors import MethodError, ShapeError

__all__ = [
    "LeastSquares",
    "LinearMap",
    "Residual",
    "Solution",
    "checked_weight",
    "real_inner",
]


LinearMap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Residual:
    """Hold the quantities of the residual `r = y - B x` that solvers and certificates use.

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
        """Return the residual at `x = 0`, which is `y`."""
        ...

    def gradient(self, x: Tensor) -> Tensor:
        """Compute `B^H (y - B x)`."""
        ...

    def residual(self, x: Tensor) -> Residual:
        """Compute gradient, energy and correlation of `r = y - B x`."""
        ...


@dataclass(frozen=True)
class Solution:
    """Hold the final state of a solver.

    Attributes:
        x: the unknown, `(batch, ...)`.
        iterations: int64 `(batch,)`, iterations until the item stopped.
        converged: bool `(batch,)`, True if the item met the stopping rule of the solver.
        history: tensors `(checks, batch)` by name, at the checks of the solver. The values of an item at its stop are
            repeated from then on. The names depend on the solver. "objective" and "relative_gap" are float64: the gap
            is an upper bound on `(P(x) - min P) / min P`, infinite while no positive lower bound is known.
    """

    x: Tensor
    iterations: Tensor
    converged: Tensor
    history: dict[str, Tensor]

    def last(self, name: str) -> Tensor:
        """Return the value `(batch,)` of that name at the stop of each item."""
        return self.history[name][-1]

    @property
    def relative_gap(self) -> Tensor | None:
        """The last relative gap, float64 `(batch,)`; None if the solver has no certificate."""
        return self.last("relative_gap") if "relative_gap" in self.history else None


def checked_weight(reg_weight: Tensor, like: Tensor) -> Tensor:
    """Check one regularisation weight for each item; return float64 on the device of `like`.

    Raises:
        ShapeError: not `(batch,)`, with the batch on the first axis of `like`.
        MethodError: a weight that is not positive and finite.
    """
    if reg_weight.shape != like.shape[:1]:
        raise ShapeError(
            f"expected reg_weight ({like.shape[0]},), one an item, got {tuple(reg_weight.shape)}: expand it to that "
            "shape"
        )
    weight = reg_weight.to(device=like.device, dtype=torch.float64)
    if not bool((torch.isfinite(weight) & (weight > 0)).all()):
        raise MethodError(
            f"expected reg_weight positive and finite, got {weight.tolist()}: without a penalty use conjugate gradients"
        )
    return weight


def real_inner(a: Tensor, b: Tensor) -> Tensor:
    """Compute `Re <a, b>` over all axes but the first, float64 `(batch,)`.

    Each row along the last axis, a few hundred terms, is summed in the working precision, and the rows in double. This
    is four times as fast as double precision throughout, and keeps the accuracy of the terms.
    """
    if a.is_complex():
        a, b = torch.view_as_real(a).flatten(-2), torch.view_as_real(b).flatten(-2)
    rows: Tensor = torch.linalg.vecdot(a, b)
    return rows.reshape(len(a), -1).sum(dim=1, dtype=torch.float64)
