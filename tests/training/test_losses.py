from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from mri_recon.errors import ShapeError
from mri_recon.masks.draw import random_mask
from mri_recon.models.inference import apply_network
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.examples.targets import SsduConfig, ssdu_example
from mri_recon_training.losses import l1_ssim_loss, score, ssim_map
from tests.support.helpers import complex_randn, phantom
from tests.support.networks import tiny_network


@pytest.mark.parametrize("shape", [(1, 7, 7), (2, 19, 12)])
def test_ssim_is_that_of_scikit_image(shape: tuple[int, ...]) -> None:
    x, y = torch.rand(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    values = ssim_map(x, y, y.amax((-1, -2))).mean((-1, -2))
    for a, b, value in zip(x.numpy(), y.numpy(), values.tolist(), strict=True):
        assert value == pytest.approx(structural_similarity(a, b, win_size=7, data_range=b.max()), abs=1e-12)


def test_loss_of_the_target_itself_is_zero() -> None:
    y = torch.view_as_complex(torch.randn(2, 9, 11, 2))
    assert float(l1_ssim_loss(y, y)) == pytest.approx(0, abs=1e-5)


def test_loss_by_hand_without_ssim() -> None:
    x = torch.full((1, 8, 8), 3 + 4j, dtype=torch.complex64)
    assert float(l1_ssim_loss(x, torch.zeros_like(x), l1_weight=2.0, ssim_weight=0.0)) == pytest.approx(10.0)


def test_logarithms_count_relative_errors() -> None:
    y = complex_randn(2, 9, 11)
    error = complex_randn(2, 9, 11, seed=1) * torch.tensor([1.0, 10.0])[:, None, None]
    modulus = error.abs().flatten(1)
    terms = {"l1_weight": 0.0, "ssim_weight": 0.0, "log_l1_weight": 0.3, "log_rms_weight": 0.7}
    expected = (0.3 * modulus.mean(1).log() + 0.7 * modulus.square().mean(1).sqrt().log()).mean()
    torch.testing.assert_close(l1_ssim_loss(y + error, y, **terms), expected)
    halved = l1_ssim_loss(y + error / 2, y, **terms)
    torch.testing.assert_close(expected - halved, torch.tensor(2.0, dtype=expected.dtype).log())


def test_wrong_phase_costs() -> None:
    y = torch.view_as_complex(torch.randn(1, 9, 11, 2))
    assert float(l1_ssim_loss(-y, y)) > 1


def test_gradient_is_finite_at_zero_and_right_elsewhere() -> None:
    zero = torch.zeros(1, 8, 8, dtype=torch.complex64, requires_grad=True)
    l1_ssim_loss(zero, torch.zeros_like(zero)).backward()
    assert zero.grad is not None
    assert torch.isfinite(torch.view_as_real(zero.grad)).all()
    x = torch.randn(1, 8, 8, dtype=torch.complex128, requires_grad=True)
    y = torch.randn(1, 8, 8, dtype=torch.complex128)
    assert torch.autograd.gradcheck(lambda z: l1_ssim_loss(z, y), (x,))


def test_too_small_for_the_window() -> None:
    with pytest.raises(ShapeError, match=r"expected sides of at least 7, got \(6, 9\)"):
        ssim_map(torch.zeros(1, 6, 9), torch.zeros(1, 6, 9), torch.ones(1))


def test_an_example_with_held_out_samples_is_scored_by_them() -> None:
    kspace = fft2c(phantom(24, 32)).to(torch.complex64)[None]
    example = ssdu_example(
        kspace, random_mask(32, 2, num_low_frequencies=6, seed=1), SsduConfig(), np.random.default_rng(0)
    )
    assert example.held_out is not None
    network = tiny_network("cascade")
    with torch.no_grad():
        image = apply_network(network, example.measurement)
    y = example.held_out.samples
    expected = 20 * math.log10(float(y.norm() / example.held_out.residual(image).norm()))
    assert score(network, example).psnr == pytest.approx(expected, abs=1e-3)
    assert score(network, replace(example, held_out=None)).psnr != pytest.approx(expected, abs=0.1)
