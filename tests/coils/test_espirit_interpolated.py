from __future__ import annotations

import pytest
import torch

from mri_recon.coils.espirit import espirit_maps
from mri_recon.coils.espirit_interpolated import interpolated_espirit_maps
from mri_recon.errors import ShapeError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.transforms.fourier import fft2c


@pytest.mark.parametrize(("shape", "lines", "num_coils"), [((96, 120), 12, 5), ((130, 75), 4, 8), ((61, 64), 20, 3)])
def test_interpolated_maps_are_those_of_every_pixel(shape: tuple[int, int], lines: int, num_coils: int) -> None:
    generator = torch.Generator().manual_seed(1)
    y, x = torch.linspace(-1, 1, shape[0])[:, None], torch.linspace(-1, 1, shape[1])[None]
    places = torch.rand(num_coils, 2, generator=generator) * 3 - 1.5
    maps = 1 / (1 + (y - places[:, :1, None]) ** 2 + (x - places[:, 1:, None]) ** 2)
    coils = maps * torch.polar(torch.ones(()), places[:, :1, None] * x + places[:, 1:, None] * y)
    image = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.4 * torch.sin(9 * x + 5 * y))
    kspace = fft2c(coils * image)
    kspace = kspace + 0.01 * torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    mask = random_mask(shape[1], 2, num_low_frequencies=lines, seed=0)
    masked = undersample(kspace, mask)
    expected = espirit_maps(masked[None], mask, crop=0.0, soft_crop=False)
    rows = torch.tensor([3, 40, 41, 42, shape[0] - 1, 0])
    found, values = interpolated_espirit_maps(masked, mask, rows)
    inside = image[rows] > 0
    difference = (found - expected.maps[0, 0][:, rows]).abs().amax(dim=0)
    assert float(difference[inside].max()) < 5e-3
    assert float((values - expected.eigenvalues[0, 0][rows]).abs()[inside].max()) < 5e-3
    assert float((found.abs().square().sum(dim=0) - 1).abs().max()) < 1e-4


def test_interpolated_maps_of_one_coil_and_of_a_stack() -> None:
    kspace = torch.randn(1, 20, 24, dtype=torch.complex64)
    mask = random_mask(24, 2, seed=0)
    maps, values = interpolated_espirit_maps(kspace, mask, torch.tensor([1, 2]))
    assert torch.equal(maps, torch.ones_like(maps))
    assert values.shape == (2, 24)
    with pytest.raises(ShapeError, match=r"expected complex k-space \(coil, readout, phase\), got"):
        interpolated_espirit_maps(kspace[None], mask, torch.tensor([1]))
