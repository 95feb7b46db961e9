"""Periodic finite differences, the transform behind total variation."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.errors import ShapeError
from mri_recon.transforms._shifts import add_shifted, bands_for, complex_view, real_view, sum_with_shifted

__all__ = ["PeriodicGradient"]


class PeriodicGradient:
    """Forward differences `D` along both axes, the image continued periodically.

        (D x)[0, k, l] = x[(k + 1) mod h, l] - x[k, l],   (D x)[1, k, l] = x[k, (l + 1) mod w] - x[k, l]

    Total variation is `sum_kl |(D x)[:, k, l]|`: isotropic where the two differences of a pixel are one vector, see
    `coupled` in `mri_recon.solvers.admm.admm`. `D^H D` is a periodic convolution, `||D||^2 <= 8`.

    Shapes:
        x: real or complex `(..., h, w)`; d: of the same type, `(..., 2, h, w)`.

    Source: Rudin, Osher and Fatemi, Physica D 1992.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        """Bind the size `(h, w)`, of any parity.

        Raises:
            ShapeError: an empty side.
        """
        if min(size) < 1:
            raise ShapeError(f"expected an image (h, w) with samples, got {size}")
        self.size = size

    @property
    def num_bands(self) -> int:
        """2: along the readout and along the phase axis."""
        return 2

    def forward(self, x: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Compute `D x`: image `(..., h, w)` to differences `(..., 2, h, w)`.

        Args:
            x: the image.
            out: contiguous tensor to write to, of the type of `x`; `None` makes one.

        Raises:
            ShapeError: the image has another size, or `out` does not fit it.
        """
        if x.ndim < 2 or tuple(x.shape[-2:]) != self.size:
            raise ShapeError(f"expected an image (..., h, w) of size {self.size}, got {tuple(x.shape)}")
        out = bands_for(x, self.num_bands, out)
        image, step = real_view(x)
        differences, _ = real_view(out)
        for band, (dim, shift) in enumerate(((-2, 1), (-1, step))):
            sum_with_shifted(image, shift, dim, -1, differences[..., band, :, :]).neg_()
        return out

    def adjoint(self, d: Tensor) -> Tensor:
        """Compute `D^H d`: differences `(..., 2, h, w)` to an image `(..., h, w)`, minus the divergence.

        Raises:
            ShapeError: differences of another number or size.
        """
        if d.ndim < 3 or tuple(d.shape[-3:]) != (2, *self.size):
            raise ShapeError(f"expected differences (..., 2, h, w) of size {self.size}, got {tuple(d.shape)}")
        differences, step = real_view(d)
        image = torch.add(differences[..., 0, :, :], differences[..., 1, :, :]).neg_()
        for band, (dim, shift) in enumerate(((-2, -1), (-1, -step))):
            add_shifted(image, differences[..., band, :, :], shift, dim, 1)
        return complex_view(image) if d.is_complex() else image

    def gram(self, x: Tensor) -> Tensor:
        """Compute `D^H D x`, minus the periodic Laplacian, image to image.

        Raises:
            ShapeError: the image has another size.
        """
        return self.adjoint(self.forward(x))

    def eigenvalues(self, device: torch.device | str | None = None) -> Tensor:
        """Eigenvalues of `D^H D` by frequency, `F (D^H D) F^H`: float64 `(h, w)`, the zero frequency at N//2.

        4 sin^2(pi k / h) + 4 sin^2(pi l / w)
        """
        rows, columns = (
            4 * torch.sin(torch.pi * (torch.arange(n, device=device, dtype=torch.float64) - n // 2) / n) ** 2
            for n in self.size
        )
        return rows[:, None] + columns
