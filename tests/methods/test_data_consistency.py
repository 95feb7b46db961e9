from __future__ import annotations

import numpy as np
import pytest
import torch

from mri_recon.masks.draw import random_mask
from mri_recon.methods.data_consistency import exact_data_consistency, weighted_data_consistency
from mri_recon.models import measure
from mri_recon.operators.sense import SenseOperator
from tests.support.helpers import complex_randn, smooth_maps


@pytest.mark.parametrize("num_coils", [1, 4])
def test_exact_data_consistency_keeps_the_samples(num_coils: int) -> None:
    maps = smooth_maps(num_coils, 16, 21)[None]
    mask = random_mask(21, 2, num_low_frequencies=5, seed=2).tensor()
    operator = SenseOperator(mask, maps)
    truth, start = complex_randn(1, 16, 21), complex_randn(1, 16, 21, seed=1)
    kspace = operator.forward(truth)
    image = exact_data_consistency(measure(kspace, mask, maps), start)
    before = (operator.forward(start) - kspace).norm()
    assert (operator.forward(image) - kspace).norm() < (1e-12 if num_coils == 1 else 1e-2) * before
    # The nearest such image: what was changed is in the range of A^H, so another solution d of A d = 0 is orthogonal.
    if num_coils == 1:
        unseen = complex_randn(1, 16, 21, seed=3)
        unseen = unseen - operator.gram(unseen)
        assert abs(torch.vdot((image - start).flatten(), unseen.flatten())) < 1e-10


def test_exact_data_consistency_of_one_coil_that_does_not_see_everything() -> None:
    """A map that is 0 somewhere: one step would not be enough."""
    maps = torch.ones(1, 1, 16, 20, dtype=torch.complex128)
    maps[..., :4] = 0
    mask = random_mask(20, 2, num_low_frequencies=5, seed=2).tensor()
    operator = SenseOperator(mask, maps)
    kspace, start = operator.forward(complex_randn(1, 16, 20)), complex_randn(1, 16, 20, seed=1)
    image = exact_data_consistency(measure(kspace, mask, maps), start)
    assert (operator.forward(image) - kspace).norm() < 1e-2 * (operator.forward(start) - kspace).norm()


def _problem(
    num_coils: int, sigma: float
) -> tuple[SenseOperator, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Operator, truth, samples with noise, an image with errors, and the maps; everything complex128."""
    maps = smooth_maps(num_coils, 9, 14)[None]
    mask = random_mask(14, 2, num_low_frequencies=4, seed=2).tensor()
    operator = SenseOperator(mask, maps)
    truth = complex_randn(1, 9, 14)
    noise = sigma * complex_randn(1, num_coils, 9, 14, seed=1)
    samples = (operator.forward(truth) + noise) * mask
    return operator, truth, samples, truth + 0.1 * complex_randn(1, 9, 14, seed=2), maps


@pytest.mark.parametrize("num_coils", [1, 3])
def test_weighted_data_consistency_is_the_solution_of_the_normal_equations(num_coils: int) -> None:
    """Against a dense solve in float64 of (A^H A + sigma^2 / tau^2) d = A^H (y - A x)."""
    sigma, tau = 0.05, 0.1
    operator, _, samples, image, maps = _problem(num_coils, sigma)
    mask = random_mask(14, 2, num_low_frequencies=4, seed=2).tensor()
    size = image.numel()
    columns = [operator.gram(one.reshape(image.shape)).flatten() for one in torch.eye(size, dtype=torch.complex128)]
    matrix = torch.stack(columns, dim=1).numpy() + (sigma / tau) ** 2 * np.eye(size)
    rhs = operator.adjoint(samples - operator.forward(image)).flatten().numpy()
    expected = image + torch.from_numpy(np.linalg.solve(matrix, rhs)).reshape(image.shape)
    found = weighted_data_consistency(
        measure(samples, mask, maps), image, torch.full((1, 1, 1), sigma), expected_error=tau
    )
    assert (found - expected).norm() < 2e-3 * (expected - image).norm()


def test_weighted_data_consistency_helps_and_knows_the_noise() -> None:
    mask = random_mask(14, 2, num_low_frequencies=4, seed=2).tensor()
    _, truth, samples, image, maps = _problem(3, 0.01)
    measurement = measure(samples, mask, maps)

    def weighted(sigma: float) -> torch.Tensor:
        return weighted_data_consistency(measurement, image, torch.full((1, 1, 1), sigma), expected_error=0.1)

    assert (weighted(0.01) - truth).norm() < 0.7 * (image - truth).norm()
    assert (weighted(1e4) - image).norm() < 1e-6 * image.norm(), "samples that are all noise change nothing"
    exact = exact_data_consistency(measurement, image)
    assert (weighted(1e-9) - exact).norm() < 1e-6 * exact.norm()


def test_every_slice_has_its_own_noise() -> None:
    mask = random_mask(14, 2, num_low_frequencies=4, seed=2).tensor()
    _, _, samples, image, maps = _problem(3, 0.01)
    sigmas = torch.tensor([0.01, 3.0])[:, None, None]
    twice = measure(samples.repeat(2, 1, 1, 1), mask, maps.repeat(2, 1, 1, 1))
    both = weighted_data_consistency(twice, image.repeat(2, 1, 1), sigmas)
    for i in range(2):
        alone = weighted_data_consistency(measure(samples, mask, maps), image, sigmas[i : i + 1])
        torch.testing.assert_close(both[i : i + 1], alone)
