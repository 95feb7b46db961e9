from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mri_recon.errors import ShapeError
from mri_recon.transforms.finite_differences import PeriodicGradient
from mri_recon.transforms.fourier import fft2c, ifft2c
from tests.support.helpers import complex_randn


@given(size=st.tuples(st.integers(1, 12), st.integers(1, 12)), seed=st.integers(0, 99))
def test_differences_adjoint_and_eigenvalues(size: tuple[int, int], seed: int) -> None:
    gradient = PeriodicGradient(size)
    x = complex_randn(2, *size, seed=seed)
    d = gradient.forward(x)
    reference = torch.stack([torch.roll(x, -1, dim) - x for dim in (-2, -1)], dim=1)
    torch.testing.assert_close(d, reference)
    y = complex_randn(*d.shape, seed=seed + 1)
    back = sum(torch.roll(y[:, band], 1, dim) - y[:, band] for band, dim in ((0, -2), (1, -1)))
    torch.testing.assert_close(gradient.adjoint(y), back)
    eigenvalues = gradient.eigenvalues()
    assert eigenvalues.shape == size
    torch.testing.assert_close(ifft2c(eigenvalues * fft2c(x)), gradient.gram(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_types_views_and_buffers(dtype: torch.dtype) -> None:
    gradient = PeriodicGradient((5, 8))
    assert gradient.num_bands == 2
    x = torch.randn(8, 5, dtype=dtype).mT.conj()
    out = torch.full((2, 5, 8), torch.nan, dtype=dtype)
    before = x.clone()
    assert gradient.forward(x, out=out) is out
    torch.testing.assert_close(out[0], torch.roll(x, -1, -2) - x)
    torch.testing.assert_close(out[1], torch.roll(x, -1, -1) - x)
    assert torch.equal(x, before)
    assert gradient.adjoint(out).dtype == dtype
    with pytest.raises(ShapeError, match=r"contiguous out \(2, 5, 8\)"):
        gradient.forward(x, out=out.mT.contiguous().mT)


def test_errors_name_the_cure() -> None:
    with pytest.raises(ShapeError, match="image .* with samples"):
        PeriodicGradient((4, 0))
    gradient = PeriodicGradient((5, 8))
    with pytest.raises(ShapeError, match=r"of size \(5, 8\), got \(8, 5\)"):
        gradient.forward(complex_randn(8, 5))
    with pytest.raises(ShapeError, match=r"\(\.\.\., 2, h, w\) of size \(5, 8\)"):
        gradient.adjoint(complex_randn(3, 5, 8))
