"""The plainest data term, for tests of the solvers."""

from __future__ import annotations

from torch import Tensor

from mri_recon.solvers.problem import LinearMap, Residual, real_inner

__all__ = [
    "DataTerm",
]


class DataTerm:
    """`LeastSquares` of any linear map given by its products.

    Shapes:
        data: y, `(batch, ...)`, real or complex; x: what `adjoint` makes of it.
    """

    def __init__(self, forward: LinearMap, adjoint: LinearMap, data: Tensor) -> None:
        self._forward, self._adjoint, self._data = forward, adjoint, data

    def at_zero(self) -> Residual:
        """The residual at `x = 0`, which is `y`."""
        return self._of(self._data)

    def gradient(self, x: Tensor) -> Tensor:
        """`B^H (y - B x)`."""
        return self._adjoint(self._data - self._forward(x))

    def residual(self, x: Tensor) -> Residual:
        """Gradient, energy and correlation of `r = y - B x`."""
        return self._of(self._data - self._forward(x))

    def _of(self, r: Tensor) -> Residual:
        return Residual(self._adjoint(r), real_inner(r, r), real_inner(r, self._data))
