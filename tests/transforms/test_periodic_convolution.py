from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mri_recon.transforms.periodic_convolution import PeriodicConvolution


@given(n=st.integers(1, 260), seed=st.integers(0, 99))
def test_equals_the_plain_transforms(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    multiplier = (torch.rand(n, generator=generator, dtype=torch.float64) < 0.4).double()
    x = torch.randn(3, n, dtype=torch.complex128, generator=generator)
    wanted = torch.fft.ifft(multiplier * torch.fft.fft(x))
    torch.testing.assert_close(PeriodicConvolution(multiplier)(x), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("n", "length"), [(128, 128), (126, 126), (127, 256), (151, 320), (201, 448), (61, 128), (1, 1)]
)
def test_lengths_with_a_large_prime_factor_are_padded(n: int, length: int) -> None:
    assert PeriodicConvolution(torch.ones(n)).length == length


def test_single_precision_keeps_its_type_and_is_differentiable() -> None:
    x = torch.randn(2, 127, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = PeriodicConvolution((torch.arange(127) % 3 == 0).float())(x)
    assert y.dtype == torch.complex64
    y.abs().square().sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    # The mask is a projection, so the gradient of ||P x||^2 is 2 P x.
    torch.testing.assert_close(x.grad, 2 * y.detach(), rtol=0, atol=1e-5)
