from __future__ import annotations

import numpy as np
import pytest
import torch

from mri_recon._arrays import center_crop
from mri_recon.errors import ShapeError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.transforms.fourier import fft1c, fft2c, ifft1c, ifft2c
from mri_recon_data.examples.example import crop_rows, raw_example
from tests.support.simulated import simulated_disc


@pytest.mark.parametrize("num_coils", [1, 5])
def test_full_sampling_gives_the_target_itself(num_coils: int) -> None:
    simulated = simulated_disc(num_coils)
    kspace, maps = simulated.kspace, simulated.sens_maps
    mask = random_mask(kspace.shape[-1], 1.0, seed=0)
    example = raw_example(kspace, mask, sens_maps=maps)
    image = example.measurement.adjoint()[0]
    # Several coils: estimated maps lose a little of the signal.
    assert (image - example.target).norm() < (1e-6 if num_coils == 1 else 0.1) * example.target.norm()


def test_target_keeps_the_noise_of_the_full_kspace() -> None:
    kspace = simulated_disc(1).kspace
    mask = random_mask(kspace.shape[-1], 4, num_low_frequencies=5, seed=2)
    torch.testing.assert_close(raw_example(kspace, mask).target.abs(), ifft2c(kspace)[0].abs())


def test_multi_coil_target_is_the_root_sum_of_squares() -> None:
    kspace = simulated_disc(6).kspace
    mask = random_mask(kspace.shape[-1], 4, num_low_frequencies=5, seed=2)
    rss = ifft2c(kspace).abs().square().sum(0).sqrt()
    torch.testing.assert_close(raw_example(kspace, mask).target.abs(), rss)


@pytest.mark.parametrize("num_coils", [2, 7])
def test_a_known_image_is_the_target_without_noise(num_coils: int) -> None:
    simulated = simulated_disc(num_coils, snr=(30.0, 30.0))
    mask = random_mask(simulated.kspace.shape[-1], 3, num_low_frequencies=7, seed=2)
    maps, image = simulated.sens_maps, simulated.image
    example = raw_example(simulated.kspace, mask, sens_maps=maps, image=image)
    torch.testing.assert_close(example.target.abs(), image.abs())
    noisy = raw_example(simulated.kspace, mask, sens_maps=maps).target
    assert (noisy.abs() - image.abs()).norm() > 0.02 * image.norm()
    # Both in the gauge of the estimated maps: nothing but noise between them.
    bright = image.abs() > 0.5
    assert float((noisy / example.target)[bright].angle().abs().median()) < 0.1


def test_a_true_image_needs_its_maps() -> None:
    simulated = simulated_disc(3)
    mask = random_mask(simulated.kspace.shape[-1], 3, num_low_frequencies=7, seed=2)
    with pytest.raises(ShapeError, match="expected true maps with the true image"):
        raw_example(simulated.kspace, mask, image=simulated.image)


def test_a_band_of_rows_is_a_complete_problem() -> None:
    kspace = simulated_disc(1).kspace
    mask = random_mask(kspace.shape[-1], 3, num_low_frequencies=5, seed=2)
    full, zero_filled = ifft2c(kspace)[0, 10:26], ifft2c(undersample(kspace, mask))[0, 10:26]
    torch.testing.assert_close(ifft1c(undersample(fft1c(full), mask)), zero_filled, atol=1e-5, rtol=1e-4)


def test_a_band_is_cut_alike_from_image_and_target() -> None:
    kspace = simulated_disc(1).kspace
    example = raw_example(kspace, random_mask(kspace.shape[-1], 3, num_low_frequencies=5, seed=2))
    cut = crop_rows(example, torch.full((1, 1, 1), 2.0), 16, np.random.default_rng(1))
    start = next(i for i in range(100) if torch.equal(example.target[i] / 2, cut.target[0]))
    assert torch.equal(cut.target, example.target[start : start + 16] / 2)
    image = example.measurement.adjoint()[:, start : start + 16] / 2
    torch.testing.assert_close(cut.measurement.adjoint(), image)
    normal = example.measurement.gram(image.new_ones(1, *example.target.shape))[:, start : start + 16]
    torch.testing.assert_close(cut.measurement.gram(torch.ones_like(image)), normal)
    assert cut.valid == (16, example.valid[1])


def test_more_rows_than_there_are_keep_everything() -> None:
    kspace = simulated_disc(1).kspace
    example = raw_example(kspace, random_mask(kspace.shape[-1], 3, num_low_frequencies=5, seed=2))
    height = example.target.shape[0]
    cut = crop_rows(example, torch.ones(1, 1, 1), height + 3, np.random.default_rng(0))
    assert cut.target.shape == cut.measurement.adjoint()[0].shape == example.target.shape
    assert cut.valid == example.valid


@pytest.mark.parametrize(("rows", "judged"), [(16, 16), (40, 24)])
def test_bands_lie_in_the_rows_that_are_judged(rows: int, judged: int) -> None:
    kspace = fft2c(torch.zeros(1, 64, 32, dtype=torch.complex64).index_fill(1, torch.arange(20, 44), 1.0))
    example = raw_example(kspace, random_mask(32, 2, seed=0), valid=(24, 32))
    for seed in range(20):
        band = crop_rows(example, torch.ones(1, 1, 1), rows, np.random.default_rng(seed))
        assert band.valid == (judged, 32)
        counted = center_crop(band.target, band.valid).abs()
        assert float(counted.mean()) > 0.9  # no row of air
