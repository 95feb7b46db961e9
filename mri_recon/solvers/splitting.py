"""Hold the split variable and the multiplier of ADMM: `z = D x` and u, both in one state `s`.

One step, with P as in `solvers.admm`, updates `s <- z + u + rho (D x - z)` and carries the split back to the image,
`D^H (z - u)`. Only these maps touch the bands of a transform, so that a compiled form, which keeps no bands but the
state, can take their place (`solvers.compiled_haar`).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mri_recon.solvers.shrinkage import BandShrinkage, Sums

__all__ = ["AnalysisTransform", "BandSplit", "Split"]


class AnalysisTransform(Protocol):
    """A linear map `D` from images `(batch, h, w)` to bands `(batch, band, h, w)`."""

    @property
    def num_bands(self) -> int:
        """Number of bands."""

    def forward(self, x: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Compute `D x`, written to `out` where one is given."""

    def adjoint(self, c: Tensor, /) -> Tensor:
        """Compute `D^H c`."""

    def gram(self, x: Tensor) -> Tensor:
        """Compute `D^H D x`; x itself for a Parseval frame."""


class Split(Protocol):
    """The state `s` of ADMM, and what is computed from it."""

    def step(self, x: Tensor, relaxation: float | None, *, measured: bool) -> tuple[Tensor, Sums | None]:
        """Update s with `D x`, and compute `D^H (z - u)`.

        Args:
            x: the image, `(batch, h, w)`.
            relaxation: rho; None in the first step, where s becomes `D x`.
            measured: return the sums too.
        """

    def multiplier_image(self, correction: Tensor | None = None) -> Tensor:
        """Compute `D^H P(u - D e)` with a correction e, `(batch, h, w)`; without one `D^H u`."""

    def largest_ratio(self, image: Tensor) -> Tensor:
        """Find the largest `|D image| / w`, float64 `(batch,)`; infinite where w is 0 and the coefficient is not."""


class BandSplit:
    """Hold the state of any transform, on any device."""

    def __init__(self, transform: AnalysisTransform, shrinkage: BandShrinkage, like: Tensor) -> None:
        """Make the state for images like `like`, `(batch, h, w)`."""
        self._transform, self._shrinkage = transform, shrinkage
        self._state = like.new_empty(like.shape[0], transform.num_bands, *like.shape[1:])
        self._bands = torch.empty_like(self._state)

    def step(self, x: Tensor, relaxation: float | None, *, measured: bool) -> tuple[Tensor, Sums | None]:
        """Update s with `D x`, and compute `D^H (z - u)`, see `Split`."""
        self._transform.forward(x, out=self._state if relaxation is None else self._bands)
        sums = self._shrinkage.step(self._bands, self._state, relaxation, measured=measured)
        return self._transform.adjoint(self._bands), sums

    def multiplier_image(self, correction: Tensor | None = None) -> Tensor:
        """Compute `D^H P(u - D e)` with a correction e; without one `D^H u`."""
        if correction is None:
            self._shrinkage.multiplier(self._state, out=self._bands)
        else:
            self._transform.forward(correction, out=self._bands)
            self._shrinkage.corrected_multiplier(self._bands, self._state)
        return self._transform.adjoint(self._bands)

    def largest_ratio(self, image: Tensor) -> Tensor:
        """Find the largest `|D image| / w`."""
        self._transform.forward(image, out=self._bands)
        return self._shrinkage.largest_ratio(self._bands)
