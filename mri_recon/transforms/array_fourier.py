"""Centred, orthonormal Fourier transforms of NumPy arrays, for readers, which do without PyTorch.

The convention is that of `mri_recon.transforms.fourier`; single precision stays single precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["fft_of_array", "ifft_of_array"]


def fft_of_array(x: npt.NDArray[Any], axes: tuple[int, ...]) -> npt.NDArray[Any]:
    """Transform an image to k-space along some axes."""
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(x, axes=axes), axes=axes, norm="ortho"), axes=axes)


def ifft_of_array(x: npt.NDArray[Any], axes: tuple[int, ...]) -> npt.NDArray[Any]:
    """Transform k-space to an image along some axes; inverse and adjoint of `fft_of_array`."""
    return np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(x, axes=axes), axes=axes, norm="ortho"), axes=axes)
