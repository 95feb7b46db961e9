"""Orthonormal periodised two-dimensional wavelet transform on batched complex tensors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pywt
import torch
from torch import Tensor

from mri_recon.errors import MethodError, ShapeError

__all__ = ["WaveletTransform", "default_levels", "padded_size"]

# Halve while a side has this many samples, as BART does: a coarse pixel is then an eighth to a sixteenth of the image.
_MIN_SIDE = 16


def default_levels(h: int, w: int) -> int:
    """Halvings (rounded up) until the shorter side has fewer than 16 samples; at least 1."""
    side, levels = -(-min(h, w) // 2), 1
    while side >= _MIN_SIDE:
        side, levels = -(-side // 2), levels + 1
    return levels


def padded_size(h: int, w: int, levels: int) -> tuple[int, int]:
    """The smallest size of at least `(h, w)` with both sides divisible by `2^levels`."""
    step = 1 << levels
    return -(-h // step) * step, -(-w // step) * step


class WaveletTransform:
    """Mallat transform `c = W x`, `W^H W = W W^H = 1`.

    Each level takes the approximation `a` of the level before to `L a R^T`, where the orthogonal matrices `L`, `R` hold
    the low-pass rows above the high-pass rows, and puts it in the place of `a`. With the filters f of PyWavelets,

        out[k] = sum_j f[j] x[(2 k + n/2 - j) mod N],   n taps,

    so the result equals `pywt.coeffs_to_array(pywt.wavedec2(x, wavelet, mode="periodization", level=levels))`.

    Shapes:
        x, c: real or complex `(..., h, w)`, both sides divisible by `2^levels`.

    Source: Mallat, IEEE PAMI 1989; Daubechies, Comm Pure Appl Math 1988.
    """

    def __init__(
        self, wavelet: str, levels: int, size: tuple[int, int], device: torch.device | str | None = None
    ) -> None:
        """Build the matrices of every level, in double precision; they are cast at first use of another type.

        Raises:
            MethodError: an unknown or not orthogonal wavelet, or fewer than one level.
            ShapeError: a side that is not divisible by `2^levels`.
        """
        if wavelet not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(wavelet).orthogonal:
            names = [name for name in pywt.wavelist(kind="discrete") if pywt.Wavelet(name).orthogonal]
            raise MethodError(f"expected an orthogonal wavelet, got {wavelet!r}: choose one of {', '.join(names)}")
        if levels < 1:
            raise MethodError(f"expected at least one wavelet level, got {levels}")
        if size != padded_size(*size, levels) or min(size) < 1:
            raise ShapeError(
                f"expected both sides divisible by 2^{levels} = {1 << levels}, got {size}: "
                f"pad to {padded_size(*size, levels)}"
            )
        self.wavelet = wavelet
        self.levels = levels
        self.size = size
        self.device = torch.device("cpu" if device is None else device)
        filters = pywt.Wavelet(wavelet)
        self._double = [
            (_analysis(size[0] >> level, filters, self.device), _analysis(size[1] >> level, filters, self.device))
            for level in range(levels)
        ]
        self._single = [(left.float(), right.float()) for left, right in self._double]

    def forward(self, x: Tensor) -> Tensor:
        """`W x`: image to coefficients, the approximation in the top left corner.

        Raises:
            ShapeError: the image has another size.
        """
        planes = self._planes(x)
        for left, right in self._matrices(planes.dtype):
            corner = planes[..., : left.shape[0], : right.shape[0]]
            corner.copy_(left @ corner @ right.T)
        return _join(planes, x)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """`W^H c`: coefficients to image; inverse and adjoint of `forward`.

        Raises:
            ShapeError: the coefficients have another size.
        """
        planes = self._planes(coefficients)
        for left, right in reversed(self._matrices(planes.dtype)):
            corner = planes[..., : left.shape[0], : right.shape[0]]
            corner.copy_(left.T @ corner @ right)
        return _join(planes, coefficients)

    def _planes(self, x: Tensor) -> Tensor:
        """A fresh real tensor `(part, ..., h, w)`: real matrices act on both parts of a complex number alike."""
        if x.ndim < 2 or tuple(x.shape[-2:]) != self.size:
            raise ShapeError(f"expected a tensor (..., h, w) of size {self.size}, got {tuple(x.shape)}")
        return torch.stack((x.real, x.imag)) if x.is_complex() else x[None].clone()

    def _matrices(self, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        return self._double if dtype == torch.float64 else self._single


def _join(planes: Tensor, like: Tensor) -> Tensor:
    return torch.complex(planes[0], planes[1]) if like.is_complex() else planes[0]


def _analysis(n: int, filters: pywt.Wavelet, device: torch.device) -> Tensor:
    """The orthogonal matrix `(n, n)` of one level: low-pass rows above high-pass rows, periodic."""
    matrix: npt.NDArray[np.float64] = np.zeros((n, n))
    rows = np.arange(n // 2)
    for first, taps in ((0, filters.dec_lo), (n // 2, filters.dec_hi)):
        for j, tap in enumerate(taps):
            # add.at: a filter longer than the signal wraps onto itself, and the taps that meet add up.
            np.add.at(matrix, (first + rows, (2 * rows + len(taps) // 2 - j) % n), tap)
    return torch.from_numpy(matrix).to(device)
