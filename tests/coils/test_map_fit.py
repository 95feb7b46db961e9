from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mri_recon.coils.map_extension import known_pixels
from mri_recon.coils.map_fit import map_warnings
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.transforms.fourier import fft2c
from tests.support.helpers import complex_randn, phantom, smooth_maps

H, W = 71, 92


def _scan(coils: int, slices: int = 1, noise: float = 0.05) -> tuple[Tensor, ColumnMask, Tensor]:
    maps = smooth_maps(coils, H, W)
    kspace = fft2c(maps * phantom(H, W) + noise * complex_randn(slices, coils, H, W)).to(torch.complex64)
    mask = random_mask(W, 4, num_low_frequencies=11, seed=0)
    return undersample(kspace, mask), mask, maps.to(torch.complex64).expand(slices, -1, -1, -1).clone()


def _disc(radius: float) -> Tensor:
    """The object of `phantom` has the radius 0.837."""
    return torch.linspace(-1, 1, H)[:, None].hypot(torch.linspace(-1, 1, W)) < radius


@pytest.mark.parametrize("coils", [1, 4, 9])
@pytest.mark.parametrize("radius", [0.84, 0.95, 2.0])
@pytest.mark.parametrize("factor", [1e-3, 3.0])
def test_maps_that_fit(coils: int, radius: float, factor: float) -> None:
    kspace, mask, maps = _scan(coils)
    assert map_warnings(kspace, mask, factor * maps * _disc(radius)) == []


def test_a_smooth_bias_and_a_phase_fit() -> None:
    kspace, mask, maps = _scan(5)
    bias = torch.polar(0.3 + torch.linspace(0, 1, W), torch.linspace(0, 3, W))
    assert map_warnings(kspace, mask, maps * bias) == []


def test_coils_in_another_order_in_one_slice() -> None:
    kspace, mask, maps = _scan(4, slices=3)
    maps[1] = maps[1].roll(2, 0)
    (warning,) = map_warnings(kspace, mask, maps)
    assert warning.startswith("sens_maps do not fit the k-space in slices [1]: they explain only ")
    assert "Check the order of the coils" in warning


@pytest.mark.parametrize("coils", [1, 4])
def test_a_crop_that_cuts_into_the_object(coils: int) -> None:
    kspace, mask, maps = _scan(coils)
    (warning,) = map_warnings(kspace, mask, maps * _disc(0.65))
    assert warning.startswith("sens_maps are zero in parts of the object: ")
    assert warning.endswith("crop the maps less, or leave sens_maps out")


def test_a_pixel_that_is_far_too_large() -> None:
    kspace, mask, maps = _scan(4)
    maps[0, :, 2, 3] *= 1000
    (warning,) = map_warnings(kspace, mask, maps)
    assert warning.startswith("sens_maps are more than 10 times as large in a few pixels as elsewhere: repair")


def test_without_a_fully_sampled_centre_nothing_is_known() -> None:
    kspace, _, maps = _scan(4)
    lines = torch.arange(W) % 2 == (W // 2 + 1) % 2  # the column of the zero frequency is not sampled
    mask = ColumnMask(lines.numpy())
    assert map_warnings(kspace * lines, mask, maps.roll(2, 1)) == []


def test_known_pixels_of_a_crop_to_very_few_pixels_and_of_outliers() -> None:
    maps = smooth_maps(3, H, W).to(torch.complex64)[None]
    few = torch.zeros(H, W, dtype=torch.bool)
    few[40:44, 50:53] = True
    assert torch.equal(known_pixels(maps * few)[0], few)
    maps[0, :, 5, 6] *= 1e5
    assert bool(known_pixels(maps).all())
