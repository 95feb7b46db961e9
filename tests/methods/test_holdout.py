"""Held-out prediction: the truth predicts everything but the noise, nothing predicts 0 dB, mixtures find the better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mri_recon.errors import MaskError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import Mask, PatternMask
from mri_recon.methods.cg_sense import cg_sense
from mri_recon.methods.holdout import (
    HoldOutData,
    Prediction,
    compare_predictions,
    hold_out,
    least_on_simplex,
    predict,
    residual_grams,
)
from mri_recon.transforms.fourier import fft2c, ifft2c

SIGMA = 0.02


def _scan(num_coils: int, shape: tuple[int, int] = (45, 96), slices: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """An image of blocks, smooth maps with sum |S|^2 = 1, and noisy k-space."""
    rng = torch.Generator().manual_seed(5)
    h, w = shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    image = ((y.abs() < 0.7) & (x.abs() < 0.6)) * (1 + 0.5 * torch.sign(torch.sin(9 * x) * torch.sin(7 * y)))
    images = torch.stack([image * (1 + 0.3 * number) for number in range(slices)]).to(torch.complex64)
    centers = torch.linspace(0, 2 * torch.pi, num_coils + 1)[:-1]
    maps = torch.stack([torch.exp(-((y - a.sin()) ** 2) - (x - a.cos()) ** 2 + 1j * a * x) for a in centers])
    maps = (maps / maps.abs().square().sum(0).sqrt()).to(torch.complex64)
    if num_coils == 1:
        maps = torch.ones_like(maps)
    noise = torch.complex(*(torch.randn((slices, num_coils, h, w), generator=rng) for _ in range(2)))
    kspace = fft2c(maps * images[:, None]) + SIGMA / 2**0.5 * noise
    return images, maps.expand(slices, -1, -1, -1), kspace


@pytest.mark.parametrize("num_coils", [1, 4])
def test_the_truth_predicts_all_but_the_noise(num_coils: int) -> None:
    images, maps, kspace = _scan(num_coils)
    mask = random_mask(96, 3, seed=1)
    data = hold_out(undersample(kspace, mask), mask, maps)
    found = compare_predictions(data, predict(data, lambda y, m: images))
    held = [torch.as_tensor(fold.held) for fold in data.folds]
    noise = sum(float((kspace - fft2c(maps * images[:, None]))[..., one].abs().square().sum()) for one in held)
    energy = sum(float(kspace[..., one].abs().square().sum()) for one in held)
    assert found.error == pytest.approx(noise / energy, rel=1e-3)
    assert 10 * np.log10(found.floor) == pytest.approx(found.error_db, abs=4)  # edges count as noise in the estimate
    assert found.uncertainty_db > 0
    assert len(found.fold_errors_db()) == 3


def test_the_uncertainty_is_that_of_the_jackknife_over_lines() -> None:
    same = Prediction(np.full(6, 0.2), np.ones(6), np.repeat([0, 1], 3), 0.1)
    assert same.uncertainty_db == pytest.approx(0, abs=1e-9)
    varied = Prediction(np.array([0.1, 0.2, 0.3]), np.ones(3), np.zeros(3, dtype=int), 0.1)
    left = 10 * np.log10([0.25, 0.2, 0.15])  # mean without each line
    assert varied.uncertainty_db == pytest.approx(np.sqrt(2 / 3 * ((left - left.mean()) ** 2).sum()))


@pytest.mark.parametrize("num_coils", [1, 4])
def test_nothing_predicts_0_db(num_coils: int) -> None:
    images, maps, kspace = _scan(num_coils)
    mask = random_mask(96, 3, seed=1)
    data = hold_out(undersample(kspace, mask), mask, maps)
    assert compare_predictions(data, predict(data, lambda y, m: 0 * images)).error_db == pytest.approx(0, abs=1e-6)


def test_one_coil_zero_filled_predicts_nothing_and_the_method_never_sees_what_is_held_out() -> None:
    _, _, kspace = _scan(1)
    mask = random_mask(96, 3, seed=1)
    data = hold_out(undersample(kspace, mask), mask)
    seen: list[tuple[Tensor, Mask]] = []

    def zero_filled(y: Tensor, m: Mask) -> Tensor:
        seen.append((y, m))
        return ifft2c(y)[:, 0]

    found = compare_predictions(data, predict(data, zero_filled))
    assert found.error_db == pytest.approx(0, abs=1e-4)
    for (y, m), fold in zip(seen, data.folds, strict=True):
        assert not (m.array & fold.held).any()
        assert float(y[..., torch.as_tensor(fold.held)].abs().max()) == 0


def test_sense_predicts_lines_and_a_wrong_image_of_the_same_look_does_not() -> None:
    images, maps, kspace = _scan(4)
    mask = random_mask(96, 3, seed=2)
    data = hold_out(undersample(kspace, mask), mask, maps)
    sense = compare_predictions(data, predict(data, lambda y, m: cg_sense(y, m, maps, reg_weight=0.003)[0]))
    flipped = compare_predictions(data, predict(data, lambda y, m: images.flip(-1)))
    assert sense.error_db < -3
    assert flipped.error_db > 0


def test_a_pattern_and_odd_sizes() -> None:
    images, maps, kspace = _scan(3, (33, 47), slices=1)
    rng = np.random.default_rng(2)
    pattern = rng.random((33, 47)) < 0.4
    pattern[13:20, 19:28] = True
    mask = PatternMask(pattern)
    data = hold_out(undersample(kspace, mask), mask, maps)
    assert compare_predictions(data, predict(data, lambda y, m: images)).error_db < -3


def test_units_do_not_matter() -> None:
    images, maps, kspace = _scan(2)
    mask = random_mask(96, 3, seed=1)
    reports = []
    for factor in (1.0, 1e6):
        data = hold_out(undersample(factor * kspace, mask), mask, maps)
        run = _scaled(images * factor)
        reports.append(compare_predictions(data, predict(data, run)).report())
    assert reports[0]["error_db"] == pytest.approx(reports[1]["error_db"], abs=1e-3)
    assert reports[0]["noise_floor_db"] == pytest.approx(reports[1]["noise_floor_db"], abs=1e-3)


def _scaled(image: Tensor) -> Callable[[Tensor, Mask], Tensor]:
    return lambda y, m: image


def _three(data: HoldOutData, images: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    noise = [torch.complex(*(torch.randn(images.shape, generator=generator) for _ in range(2))) for _ in range(2)]
    return [images + 0.05 * noise[0], images + 0.05 * noise[1], 3 * images.flip(-2)]


def test_the_mixture_is_the_optimum_and_ignores_a_method_that_is_wrong() -> None:
    images, maps, kspace = _scan(2)
    mask = random_mask(96, 3, seed=1)
    data = hold_out(undersample(kspace, mask), mask, maps)
    candidates = _three(data, images)
    predicted = [predict(data, _scaled(one)) for one in candidates]
    grams = residual_grams(data, predicted).sum(axis=0)
    weights = least_on_simplex(grams)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert weights[2] < 0.05
    assert weights[:2] == pytest.approx(0.5, abs=0.1)

    def error(w: np.ndarray) -> float:
        folds = zip(*predicted, strict=True)
        mixed = [sum(float(one) * part for one, part in zip(w, fold, strict=True)) for fold in folds]
        return compare_predictions(data, mixed).error

    grid = [(w, 1 - w - other, other) for w in np.linspace(0, 1, 41) for other in (0, 0.002, 0.004, 0.006, 0.05, 1)]
    slow = min(error(np.array(one)) for one in grid if min(one) >= 0)
    assert slow * (1 - 2e-3) < error(weights) <= slow * (1 + 1e-6)
    assert error(weights) < min(compare_predictions(data, one).error for one in predicted)


def test_too_few_lines_are_refused() -> None:
    _, maps, kspace = _scan(2)
    mask = random_mask(96, 8, num_low_frequencies=10, seed=0)
    with pytest.raises(MaskError, match="outside the fully sampled centre"):
        hold_out(undersample(kspace, mask), mask, maps)
