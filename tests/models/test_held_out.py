from __future__ import annotations

import pytest
import torch

from mri_recon.models import measure
from mri_recon.models.held_out import held_out_loss
from mri_recon.transforms.fourier import fft2c
from tests.support.helpers import column_lines, complex_randn


@pytest.mark.parametrize("shape", [(1, 1, 9, 12), (2, 3, 8, 11)])
@pytest.mark.parametrize("kind", ["columns", "pattern"])
def test_held_out_loss_is_that_of_the_kspace(shape: tuple[int, ...], kind: str) -> None:
    mask = torch.from_numpy(column_lines(shape[-1])) if kind == "columns" else torch.rand(shape[-2:]) < 0.5
    y, maps = complex_randn(*shape) * mask, complex_randn(*shape, seed=1)
    x = complex_randn(shape[0], *shape[2:], seed=2).requires_grad_()
    residual = y - mask * fft2c(maps * x[:, None])
    measurement = measure(y, mask, maps)
    expected = 0.3 * residual.abs().sum() / y.abs().sum() + 2 * residual.norm() / y.norm()
    torch.testing.assert_close(held_out_loss(x, measurement, l1_weight=0.3, l2_weight=2.0), expected)
    assert torch.autograd.gradcheck(lambda z: held_out_loss(z, measurement), (x,))
    assert float(held_out_loss(torch.zeros_like(x), measurement).detach()) == pytest.approx(2)  # no unit in it
