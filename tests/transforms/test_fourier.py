"""Fourier transforms against a direct DFT matrix and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from mri_recon.errors import ShapeError
from mri_recon.transforms.fourier import fft1c, fft2c, ifft1c, ifft2c

SHAPES = [(5, 7), (6, 9), (1, 8), (3, 1, 7, 4), (2, 3, 11, 6)]


def random_complex(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.complex128) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def dft_matrix(n: int) -> npt.NDArray[np.complex128]:
    """The definition, entry by entry: exp(-2 pi i (k - N//2)(m - N//2) / N) / sqrt(N)."""
    index = np.arange(n) - n // 2
    matrix: npt.NDArray[np.complex128] = np.exp(-2j * np.pi * np.outer(index, index) / n) / np.sqrt(n)
    return matrix


@pytest.mark.parametrize("shape", SHAPES)
def test_fft2c_is_the_centred_dft_matrix(shape: tuple[int, ...]) -> None:
    x = random_complex(shape)
    expected = np.einsum("ab,...bc,dc->...ad", dft_matrix(shape[-2]), x.numpy(), dft_matrix(shape[-1]))
    np.testing.assert_allclose(fft2c(x).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inverse", [False, True])
def test_two_axes_match_numpy(shape: tuple[int, ...], inverse: bool) -> None:
    x = random_complex(shape)
    ours, numpy_form = (ifft2c, np.fft.ifft2) if inverse else (fft2c, np.fft.fft2)
    axes = (-2, -1)
    shifted = numpy_form(np.fft.ifftshift(x.numpy(), axes=axes), axes=axes, norm="ortho")
    np.testing.assert_allclose(ours(x).numpy(), np.fft.fftshift(shifted, axes=axes), atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 7), (2, 6, 9)])
def test_a_point_at_the_centre_and_a_constant_are_a_pair(shape: tuple[int, ...]) -> None:
    h, w = shape[-2:]
    point = torch.zeros(shape, dtype=torch.complex128)
    point[..., h // 2, w // 2] = 1
    flat = torch.full(shape, 1 / np.sqrt(h * w), dtype=torch.complex128)
    torch.testing.assert_close(fft2c(point), flat)
    torch.testing.assert_close(ifft2c(point), flat)
    torch.testing.assert_close(fft2c(flat), point)


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_one_axis_matches_the_matrix(dim: int) -> None:
    x = random_complex((3, 4, 5), 1)
    expected = np.moveaxis(np.tensordot(dft_matrix(x.shape[dim]), x.numpy(), axes=(1, dim)), 0, dim)
    np.testing.assert_allclose(fft1c(x, dim).numpy(), expected, atol=1e-12)
    torch.testing.assert_close(ifft1c(fft1c(x, dim), dim), x)


@pytest.mark.parametrize("shape", SHAPES)
def test_two_axes_are_one_axis_twice(shape: tuple[int, ...]) -> None:
    x = random_complex(shape)
    torch.testing.assert_close(fft1c(fft1c(x, -1), -2), fft2c(x))
    torch.testing.assert_close(ifft1c(ifft1c(x, -2), -1), ifft2c(x))


def test_real_becomes_complex() -> None:
    assert fft2c(torch.ones(5, 4)).dtype == torch.complex64


@pytest.mark.parametrize("transform", [fft2c, ifft2c])
def test_too_few_axes_for_two(transform: object) -> None:
    with pytest.raises(ShapeError, match=r"at least 2 axes to transform, got shape \(5,\): add the missing axes"):
        transform(torch.zeros(5))  # type: ignore[operator]


@pytest.mark.parametrize("transform", [fft1c, ifft1c])
def test_too_few_axes_for_one(transform: object) -> None:
    with pytest.raises(ShapeError, match=r"at least 1 axes to transform, got shape \(\)"):
        transform(torch.zeros(()))  # type: ignore[operator]


@pytest.mark.parametrize("transform", [fft2c, ifft2c, fft1c, ifft1c])
def test_arrays_are_transformed_as_tensors(transform: Callable[[Any], torch.Tensor]) -> None:
    x = torch.randn(2, 5, 7, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(transform(x.numpy()), transform(x))
