"""The phases of simulated images: smooth, and rough where a fully sampled centre cannot resolve them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mri_recon_data.examples.acquisition import AcquisitionConfig, with_phase
from mri_recon_data.examples.phase import rough_phase, smooth_phase

SHAPES = [(45, 62), (64, 31), (1, 40)]


def _disc(shape: tuple[int, int]) -> Tensor:
    y, x = (torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape)
    return ((y[:, None].square() + x.square()) < 0.6).float() * (1 + 0.3 * torch.sin(9 * x))


def _share_outside(image: Tensor, lines: int) -> float:
    """Share of the energy of an image's phase factor that lies outside the centre of so many lines and rows."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(image / image.abs().clamp_min(1e-6) * (image.abs() > 0.05)))
    h, w = spectrum.shape
    centre = spectrum[h // 2 - lines : h // 2 + lines + 1, w // 2 - lines : w // 2 + lines + 1]
    return 1 - float(centre.abs().square().sum() / spectrum.abs().square().sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rough_phase_has_the_strength_that_was_asked(shape: tuple[int, int]) -> None:
    magnitude = _disc(shape)
    for seed in range(4):
        phase = rough_phase(magnitude, np.random.default_rng(seed), strength=2.0)
        assert phase.shape == magnitude.shape
        assert bool(torch.isfinite(phase).all())
        inside = phase[magnitude > 0.05]
        assert abs(float(inside.mean())) < 1e-3
        # Parts of standard deviation 1 whose shares add up to 1: at most the strength, and never nothing.
        assert 0.5 < float(inside.std()) <= 2.0 * 1.05


def test_a_rough_phase_is_linear_in_its_strength() -> None:
    magnitude = _disc((45, 62))
    one, three = (rough_phase(magnitude, np.random.default_rng(5), strength=s) for s in (1.0, 3.0))
    torch.testing.assert_close(three, 3 * one)


def test_a_rough_phase_lies_outside_the_centre_that_holds_a_smooth_one() -> None:
    magnitude = _disc((96, 96))
    smooth, rough = [], []
    for seed in range(6):
        plain = smooth_phase((96, 96), np.random.default_rng(seed), strength=1.0, max_shift=(0.0, 0.0))
        smooth.append(_share_outside(torch.polar(magnitude, plain), 8))
        wild = rough_phase(magnitude, np.random.default_rng(seed), strength=2.0)
        rough.append(_share_outside(torch.polar(magnitude, wild), 8))
    assert min(rough) > 2 * max(smooth)


def test_an_image_without_object_gets_a_finite_phase() -> None:
    assert bool(torch.isfinite(rough_phase(torch.zeros(20, 33), np.random.default_rng(0), strength=1.0)).all())


def test_the_magnitude_stays_and_without_roughness_nothing_changes() -> None:
    magnitude = _disc((45, 62))
    plain = with_phase(magnitude, np.random.default_rng(1), AcquisitionConfig(rough=0.0))
    rough = with_phase(magnitude, np.random.default_rng(1), AcquisitionConfig(rough=1.0))
    for image in (plain, rough):
        torch.testing.assert_close(image.abs(), magnitude)
    # The same smooth phase lies under both: the first draws of the generator are the same.
    assert not torch.allclose(plain, rough)
    turned = (rough * plain.conj())[magnitude > 0.05].angle()
    assert float(turned.std()) > 0.05
