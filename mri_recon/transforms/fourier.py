"""Centred, orthonormal discrete Fourier transforms.

With N samples and the centre at N//2 (integer division, odd sizes included)

    X[k] = N^(-1/2) sum_n x[n] exp(-2 pi i (k - N//2)(n - N//2) / N),

so that the zero frequency of k-space and the origin of the image are both at N//2, the transform is unitary, and its
adjoint is its inverse: `fftshift(fft(ifftshift(x), norm="ortho"))`.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

import mri_recon._system.fork  # noqa: F401  from here on a forked process has one thread
from mri_recon._arrays import as_tensor
from mri_recon.errors import ShapeError

__all__ = ["fft1c", "fft2c", "ifft1c", "ifft2c"]


def fft2c(x: Tensor | npt.NDArray[Any]) -> Tensor:
    """Transform an image to k-space over the last two axes.

    Args:
        x: complex or real tensor or array `(..., h, w)`.

    Returns:
        complex tensor of the same shape.

    Raises:
        ShapeError: fewer than two axes.
    """
    return _transform(x, (-2, -1), inverse=False)


def ifft2c(x: Tensor | npt.NDArray[Any]) -> Tensor:
    """Transform k-space to an image over the last two axes: inverse and adjoint of `fft2c`.

    Raises:
        ShapeError: fewer than two axes.
    """
    return _transform(x, (-2, -1), inverse=True)


def fft1c(x: Tensor | npt.NDArray[Any], dim: int = -1) -> Tensor:
    """Transform an image to k-space along one axis.

    Raises:
        ShapeError: a tensor without axes.
    """
    return _transform(x, (dim,), inverse=False)


def ifft1c(x: Tensor | npt.NDArray[Any], dim: int = -1) -> Tensor:
    """Transform k-space to an image along one axis: inverse and adjoint of `fft1c`.

    Raises:
        ShapeError: a tensor without axes.
    """
    return _transform(x, (dim,), inverse=True)


def _transform(x: Tensor | npt.NDArray[Any], dims: tuple[int, ...], *, inverse: bool) -> Tensor:
    x = as_tensor(x)
    if x.ndim < len(dims):
        raise ShapeError(
            f"expected a tensor with at least {len(dims)} axes to transform, got shape {tuple(x.shape)}: "
            "add the missing axes, e.g. x[None]"
        )
    fftn = torch.fft.ifftn if inverse else torch.fft.fftn
    # ifftshift before and fftshift after: for odd N the two differ by one sample, and mixing them up is a phase ramp.
    y: Tensor = torch.fft.fftshift(fftn(torch.fft.ifftshift(x, dim=dims), dim=dims, norm="ortho"), dim=dims)
    return y
