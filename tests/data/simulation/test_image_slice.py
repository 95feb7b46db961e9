from __future__ import annotations

import numpy as np
import pytest
import torch

from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data.scenes.images import ImageSlice
from mri_recon_data.simulation.image_slice import SimulationConfig, simulate_kspace
from tests.support.simulated import simulated_disc


def test_simulated_noise_is_as_asked() -> None:
    rng = np.random.default_rng(0)
    blank = ImageSlice(np.zeros((64, 64), np.float16), "test")
    settings = SimulationConfig(snr=(20.0, 20.0), resolution=(1, 1), air=0)
    kspace = simulate_kspace(blank, rng, settings, num_coils=4).kspace
    assert float(kspace.real.std()) == pytest.approx(1 / 20, rel=0.03)


def test_simulated_image_has_a_phase() -> None:
    kspace = simulated_disc(1, snr=(1e6, 1e6), phase_strength=(1.0, 1.0)).kspace
    mirrored = kspace.flip(-1, -2).roll((1, 1), (-1, -2)) if kspace.shape[-1] % 2 == 0 else kspace.flip(-1, -2)
    assert (kspace - mirrored.conj()).norm() > 0.1 * kspace.norm()


@pytest.mark.parametrize("num_coils", [1, 4])
def test_kspace_is_that_of_the_image_and_noise(num_coils: int) -> None:
    simulated = simulated_disc(num_coils, snr=(25.0, 25.0))
    noise = ifft2c(simulated.kspace) - simulated.sens_maps * simulated.image
    assert float(torch.view_as_real(noise).std()) == pytest.approx(1 / 25, rel=0.05)


def test_a_tight_field_of_view_is_no_wider_than_the_object() -> None:
    plain = simulated_disc(1, resolution=(1, 1), air=0, wrap=0, snr=(1e6, 1e6))
    lit = torch.nonzero(plain.image.abs().amax(dim=0) > 0.1).flatten()
    extent = int(lit[-1] - lit[0]) + 1
    tight = simulated_disc(1, resolution=(1, 1), air=0, wrap=0, snr=(1e6, 1e6), tight=1, tight_width=(0.8, 0.8))
    assert extent < plain.image.shape[1]
    assert tight.image.shape == (plain.image.shape[0], max(32, round(0.8 * extent)))
    assert tight.kspace.shape == tight.sens_maps.shape == (1, *tight.image.shape)
    # Nothing is cut off: what lies outside is inside now.
    torch.testing.assert_close(tight.image.sum(), plain.image.sum(), rtol=1e-3, atol=1e-2)


def test_several_coils_keep_their_field_of_view() -> None:
    tight, plain = simulated_disc(3, tight=1), simulated_disc(3)
    assert torch.equal(tight.kspace, plain.kspace)
    assert torch.equal(tight.sens_maps, plain.sens_maps)


def test_simulation_depends_on_its_generator_alone() -> None:
    one, same, other = (simulated_disc(3, seed=seed).kspace for seed in (4, 4, 5))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_noise_free_kspace_is_that_of_the_weighted_images() -> None:
    simulated = simulated_disc(3, snr=(1e7, 1e7))
    kspace, maps = simulated.kspace, simulated.sens_maps
    image = (maps.conj() * ifft2c(kspace)).sum(0)
    torch.testing.assert_close(fft2c(maps * image), kspace, atol=1e-4, rtol=1e-3)
