from __future__ import annotations

import numpy as np
import pytest
import torch

from mri_recon.errors import MaskError, ShapeError
from mri_recon.operators.sense import SenseOperator
from mri_recon.transforms.fourier import fft2c, ifft2c
from tests.support.helpers import column_lines, complex_randn, smooth_maps


@pytest.mark.parametrize("size", [None, (6, 9)])
def test_equals_an_explicit_matrix(size: tuple[int, int] | None) -> None:
    coils, h, w = 2, 5, 6
    maps, mask = complex_randn(coils, h, w, seed=4), torch.from_numpy(column_lines(w))
    operator = SenseOperator(mask, maps, size)
    big = size or (h, w)

    def dft(n: int) -> np.ndarray:
        k = np.arange(n) - n // 2
        return np.exp(-2j * np.pi * np.outer(k, k) / n) / np.sqrt(n)

    def crop(small: int, large: int) -> np.ndarray:
        return np.eye(large)[large // 2 - small // 2 :][:small]

    select = np.kron(crop(h, big[0]), crop(w, big[1]))
    fourier = np.kron(dft(h), dft(w))
    sampling = np.diag(np.tile(mask.numpy(), h).astype(float))
    matrix = np.concatenate([sampling @ fourier @ np.diag(m.numpy().ravel()) @ select for m in maps])
    x, y = complex_randn(*big, seed=5), complex_randn(coils, h, w, seed=6)
    np.testing.assert_allclose(operator.forward(x).numpy().ravel(), matrix @ x.numpy().ravel(), atol=1e-12)
    np.testing.assert_allclose(operator.adjoint(y).numpy().ravel(), matrix.conj().T @ y.numpy().ravel(), atol=1e-12)
    assert np.linalg.norm(matrix, 2) ** 2 <= operator.norm_bound * (1 + 1e-12)


@pytest.mark.parametrize("rows", [None, 5], ids=["lines", "pattern"])
def test_equals_plain_code(rows: int | None) -> None:
    """The two lines in the docstring of the class."""
    sens_maps, mask = complex_randn(3, 5, 6, seed=4), torch.from_numpy(column_lines(6))
    if rows is not None:
        mask = torch.rand(rows, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    x, y = complex_randn(2, 5, 6, seed=5), complex_randn(2, 3, 5, 6, seed=6)
    operator = SenseOperator(mask, sens_maps)
    torch.testing.assert_close(operator.forward(x), mask * fft2c(sens_maps * x[..., None, :, :]))
    torch.testing.assert_close(operator.adjoint(y), (sens_maps.conj() * ifft2c(mask * y)).sum(-3))


def test_norm_bound_is_one_for_normalised_maps() -> None:
    operator = SenseOperator(torch.ones(12, dtype=torch.bool), smooth_maps(3, 9, 12))
    assert operator.norm_bound == pytest.approx(1.0)


def test_every_line_and_one_coil_is_the_identity() -> None:
    operator = SenseOperator(torch.ones(11, dtype=torch.bool), torch.ones(1, 8, 11, dtype=torch.complex128))
    x = complex_randn(2, 8, 11)
    torch.testing.assert_close(operator.gram(x), x)


def test_errors_name_the_cure() -> None:
    maps, lines = complex_randn(2, 5, 6), torch.ones(6, dtype=torch.bool)
    with pytest.raises(ShapeError, match="expected complex sensitivity maps"):
        SenseOperator(lines, torch.ones(2, 5, 6))
    with pytest.raises(MaskError, match="pass mask != 0"):
        SenseOperator(torch.ones(6), maps)
    with pytest.raises(MaskError, match=r"use \(phase,\) or \(readout, phase\)"):
        SenseOperator(torch.ones(5, dtype=torch.bool), maps)
    with pytest.raises(ShapeError, match="only makes images smaller"):
        SenseOperator(lines, maps, (4, 6))
    operator = SenseOperator(lines, maps)
    with pytest.raises(ShapeError, match=r"of size \(5, 6\)"):
        operator.forward(complex_randn(6, 5))
    with pytest.raises(ShapeError, match="another scan"):
        operator.adjoint(complex_randn(3, 5, 6))
