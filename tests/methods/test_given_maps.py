"""Maps that a user gives: cropped ones are as good as whole ones, and wrong ones are never used silently."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mri_recon.errors import FormatError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.methods.networks import unrolled
from mri_recon.reconstruction import reconstruct
from mri_recon.transforms.fourier import fft2c
from tests.support.helpers import complex_randn, phantom, smooth_maps

H, W, COILS = 65, 80, 4
METHODS = ["zero-filled", "cg-sense", "cs-wavelet", "unet", "unrolled"]


def _scan() -> tuple[Tensor, ColumnMask, Tensor]:
    """k-space of two slices of discs seen by smooth coils, with noise; the mask; the true maps of one slice."""
    maps = smooth_maps(COILS, H, W)
    kspace = fft2c(maps * phantom(H, W) + 0.03 * complex_randn(2, COILS, H, W, seed=1)).to(torch.complex64)
    mask = random_mask(W, 4, num_low_frequencies=10, seed=0)
    return undersample(kspace, mask), mask, maps.to(torch.complex64)


def _radius() -> Tensor:
    return torch.linspace(-1, 1, H)[:, None].hypot(torch.linspace(-1, 1, W))


@pytest.mark.parametrize("method", ["unet", "unrolled"])
def test_maps_cropped_at_the_edge_of_the_object_leave_no_ring(method: str) -> None:
    """Without the extension of the maps, the ring is 0.12 (unet) and 0.06 (unrolled), its mean 0.056 and 0.022."""
    kspace, mask, maps = _scan()
    crop = _radius() < 0.84  # the object has the radius 0.837
    ring = crop & (_radius() > 0.84 - 6 / H)
    whole = reconstruct(kspace[:1], mask, method=method, sens_maps=maps)
    cropped = reconstruct(kspace[:1], mask, method=method, sens_maps=maps * crop)
    expected = whole.image[0].abs()
    difference = cropped.image[0].abs() - expected
    level = float(expected[crop].square().mean().sqrt())
    assert abs(float(difference[ring].mean())) < 0.005 * level
    assert float(difference[ring].square().mean().sqrt()) < 0.03 * level
    assert float(difference[crop].square().mean().sqrt()) < 0.015 * level
    assert float(cropped.image[0][~crop].abs().max()) == 0
    assert not any("sens_maps" in warning for warning in (*whole.warnings, *cropped.warnings))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("value", "where"), [(0, "slice"), (torch.nan, "pixel"), (torch.inf, "pixel")])
def test_maps_of_zeros_or_not_finite_are_an_error(method: str, value: float, where: str) -> None:
    kspace, mask, maps = _scan()
    broken = maps.expand(2, -1, -1, -1).clone()
    broken[(1,) if where == "slice" else (1, 0, 3, 4)] = value
    with pytest.raises(FormatError, match=r"expected finite sens_maps .* normalise them or estimate them again"):
        reconstruct(kspace, mask, method=method, sens_maps=broken)


def test_a_network_called_by_itself_refuses_them_too() -> None:
    kspace, mask, maps = _scan()
    with pytest.raises(FormatError, match="expected finite sens_maps"):
        unrolled(kspace, mask, sens_maps=0 * maps, device=torch.device("cpu"))


@pytest.mark.parametrize("method", ["unet", "unrolled"])
def test_one_pixel_that_is_far_too_large_does_not_black_out_the_slice(method: str) -> None:
    kspace, mask, maps = _scan()
    broken = maps.clone()
    broken[0, 3, 4] = 1e4
    found = reconstruct(kspace[:1], mask, method=method, sens_maps=broken)
    expected = reconstruct(kspace[:1], mask, method=method, sens_maps=maps).image
    assert float((found.image - expected).norm() / expected.norm()) < 0.1
    assert any("more than 10 times as large in a few pixels" in warning for warning in found.warnings)


def test_maps_that_do_not_fit_give_a_warning() -> None:
    kspace, mask, maps = _scan()
    found = reconstruct(kspace, mask, method="zero-filled", sens_maps=maps.conj())
    assert any("sens_maps do not fit the k-space in slices [0, 1]" in warning for warning in found.warnings)
