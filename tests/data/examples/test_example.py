from __future__ import annotations

import numpy as np
import pytest
import torch
from mri_recon_data.examples.example import crop_rows, raw_example
from mri_recon_data.scenes.images import ImageSlice
from mri_recon_data.simulation.image_slice import Simulated, SimulationConfig, simulate_kspace

from mri_recon._arrays import center_crop
from mri_recon.errors import ShapeError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.transforms.fourier import fft1c, fft2c, ifft1c, ifft2c


def _slice(shape: tuple[int, int] = (53, 48)) -> ImageSlice:
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    disc = (y**2 / 0.8 + x**2 / 0.5 < 1) * (1 + 0.3 * np.sin(9 * x) * np.cos(7 * y))
    return ImageSlice(disc.astype(np.float16), "test")


def _whole(num_coils: int, seed: int = 0, **config: object) -> Simulated:
    settings = SimulationConfig(min_size=32, **config)  # type: ignore[arg-type]
    return simulate_kspace(_slice(), np.random.default_rng(seed), settings, num_coils=num_coils)


def _simulated(num_coils: int, seed: int = 0, **config: object) -> tuple[torch.Tensor, torch.Tensor]:
    simulated = _whole(num_coils, seed, **config)
    return simulated.kspace, simulated.sens_maps


@pytest.mark.parametrize("num_coils", [1, 5])
def test_full_sampling_gives_the_target_itself(num_coils: int) -> None:
    kspace, maps = _simulated(num_coils)
    mask = random_mask(kspace.shape[-1], 1.0, seed=0)
    example = raw_example(kspace, mask, sens_maps=maps)
    image = example.measurement.adjoint()[0]
    # Several coils: estimated maps lose a little of the signal.
    assert (image - example.target).norm() < (1e-6 if num_coils == 1 else 0.1) * example.target.norm()


def test_simulated_noise_is_as_asked() -> None:
    rng = np.random.default_rng(0)
    blank = ImageSlice(np.zeros((64, 64), np.float16), "test")
    settings = SimulationConfig(snr=(20.0, 20.0), resolution=(1, 1), air=0)
    kspace = simulate_kspace(blank, rng, settings, num_coils=4).kspace
    assert float(kspace.real.std()) == pytest.approx(1 / 20, rel=0.03)


def test_simulated_image_has_a_phase() -> None:
    kspace, _ = _simulated(1, snr=(1e6, 1e6), phase_strength=(1.0, 1.0))
    mirrored = kspace.flip(-1, -2).roll((1, 1), (-1, -2)) if kspace.shape[-1] % 2 == 0 else kspace.flip(-1, -2)
    assert (kspace - mirrored.conj()).norm() > 0.1 * kspace.norm()


def test_target_keeps_the_noise_of_the_full_kspace() -> None:
    kspace, _ = _simulated(1)
    mask = random_mask(kspace.shape[-1], 4, num_low_frequencies=5, seed=2)
    torch.testing.assert_close(raw_example(kspace, mask).target.abs(), ifft2c(kspace)[0].abs())


def test_multi_coil_target_is_the_root_sum_of_squares() -> None:
    kspace, _ = _simulated(6)
    mask = random_mask(kspace.shape[-1], 4, num_low_frequencies=5, seed=2)
    rss = ifft2c(kspace).abs().square().sum(0).sqrt()
    torch.testing.assert_close(raw_example(kspace, mask).target.abs(), rss)


@pytest.mark.parametrize("num_coils", [2, 7])
def test_a_known_image_is_the_target_without_noise(num_coils: int) -> None:
    simulated = _whole(num_coils, snr=(30.0, 30.0))
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
    simulated = _whole(3)
    mask = random_mask(simulated.kspace.shape[-1], 3, num_low_frequencies=7, seed=2)
    with pytest.raises(ShapeError, match="expected true maps with the true image"):
        raw_example(simulated.kspace, mask, image=simulated.image)


@pytest.mark.parametrize("num_coils", [1, 4])
def test_kspace_is_that_of_the_image_and_noise(num_coils: int) -> None:
    simulated = _whole(num_coils, snr=(25.0, 25.0))
    noise = ifft2c(simulated.kspace) - simulated.sens_maps * simulated.image
    assert float(torch.view_as_real(noise).std()) == pytest.approx(1 / 25, rel=0.05)


def test_a_band_of_rows_is_a_complete_problem() -> None:
    kspace, _ = _simulated(1)
    mask = random_mask(kspace.shape[-1], 3, num_low_frequencies=5, seed=2)
    full, zero_filled = ifft2c(kspace)[0, 10:26], ifft2c(undersample(kspace, mask))[0, 10:26]
    torch.testing.assert_close(ifft1c(undersample(fft1c(full), mask)), zero_filled, atol=1e-5, rtol=1e-4)


def test_a_band_is_cut_alike_from_image_and_target() -> None:
    kspace, _ = _simulated(1)
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
    kspace, _ = _simulated(1)
    example = raw_example(kspace, random_mask(kspace.shape[-1], 3, num_low_frequencies=5, seed=2))
    height = example.target.shape[0]
    cut = crop_rows(example, torch.ones(1, 1, 1), height + 3, np.random.default_rng(0))
    assert cut.target.shape == cut.measurement.adjoint()[0].shape == example.target.shape
    assert cut.valid == example.valid


def test_a_tight_field_of_view_is_no_wider_than_the_object() -> None:
    plain = _whole(1, resolution=(1, 1), air=0, wrap=0, snr=(1e6, 1e6))
    lit = torch.nonzero(plain.image.abs().amax(dim=0) > 0.1).flatten()
    extent = int(lit[-1] - lit[0]) + 1
    tight = _whole(1, resolution=(1, 1), air=0, wrap=0, snr=(1e6, 1e6), tight=1, tight_width=(0.8, 0.8))
    assert extent < plain.image.shape[1]
    assert tight.image.shape == (plain.image.shape[0], max(32, round(0.8 * extent)))
    assert tight.kspace.shape == tight.sens_maps.shape == (1, *tight.image.shape)
    # Nothing is cut off: what lies outside is inside now.
    torch.testing.assert_close(tight.image.sum(), plain.image.sum(), rtol=1e-3, atol=1e-2)


def test_several_coils_keep_their_field_of_view() -> None:
    for one, other in zip(_simulated(3, tight=1), _simulated(3), strict=True):
        assert torch.equal(one, other)


def test_simulation_depends_on_its_generator_alone() -> None:
    assert torch.equal(_simulated(3, seed=4)[0], _simulated(3, seed=4)[0])
    assert _simulated(3, seed=4)[0].shape != _simulated(3, seed=5)[0].shape or not torch.equal(
        _simulated(3, seed=4)[0], _simulated(3, seed=5)[0]
    )


def test_noise_free_kspace_is_that_of_the_weighted_images() -> None:
    kspace, maps = _simulated(3, snr=(1e7, 1e7))
    image = (maps.conj() * ifft2c(kspace)).sum(0)
    torch.testing.assert_close(fft2c(maps * image), kspace, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("rows", "judged"), [(16, 16), (40, 24)])
def test_bands_lie_in_the_rows_that_are_judged(rows: int, judged: int) -> None:
    kspace = fft2c(torch.zeros(1, 64, 32, dtype=torch.complex64).index_fill(1, torch.arange(20, 44), 1.0))
    example = raw_example(kspace, random_mask(32, 2, seed=0), valid=(24, 32))
    for seed in range(20):
        band = crop_rows(example, torch.ones(1, 1, 1), rows, np.random.default_rng(seed))
        assert band.valid == (judged, 32)
        counted = center_crop(band.target, band.valid).abs()
        assert float(counted.mean()) > 0.9  # no row of air
