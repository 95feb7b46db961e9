from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mri_recon.coils.batched import maps_from_centers, smooth_phases
from mri_recon.coils.combine import rss
from mri_recon.coils.phase import smooth_phase_map
from mri_recon.coils.sensitivity_maps import low_resolution_images, sens_maps_from_center
from mri_recon.errors import MaskError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.transforms.fourier import fft2c
from tests.support.helpers import phantom, smooth_maps


def _masks(width: int) -> list[ColumnMask]:
    support = np.ones(width, dtype=bool)
    support[[0, 3, -1]] = False
    return [
        random_mask(width, 3.0, seed=0),
        random_mask(width, 6.0, num_low_frequencies=3, seed=1),
        random_mask(width, 2.0, center_fraction=0.3, seed=2, support=support),
    ]


def _kspace(num_coils: int, shape: tuple[int, int]) -> Tensor:
    """Coil images of one phantom, each item with another linear phase: an echo a few samples off the centre."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    ramps = torch.stack([torch.exp(1j * (a * y + b * x)) for a, b in ((0.0, 0.0), (4.0, -2.0), (-5.0, 6.0))])
    images = smooth_maps(num_coils, *shape) * (phantom(*shape) * ramps)[:, None]
    return fft2c(images.to(torch.complex64))


@pytest.mark.parametrize(("num_coils", "shape"), [(1, (33, 46)), (4, (33, 46)), (4, (17, 55))])
def test_estimated_maps_and_phase_are_those_of_one_item_at_a_time(num_coils: int, shape: tuple[int, int]) -> None:
    kspace, masks = _kspace(num_coils, shape), _masks(shape[1])
    masked = torch.stack([undersample(item, mask) for item, mask in zip(kspace, masks, strict=True)])
    maps = maps_from_centers(masked, masks)
    torch.testing.assert_close(maps.abs().square().sum(1), torch.ones(3, *shape))
    phases = smooth_phases(masked, masks, maps)
    for i, mask in enumerate(masks):
        one = masked[i : i + 1]
        # Where the low-resolution image is next to nothing, rounding is most of its direction and phase.
        low = rss(low_resolution_images(one, mask))
        weight = low / low.max()
        expected, phase = sens_maps_from_center(one, mask), smooth_phase_map(one, mask, maps[i : i + 1])
        torch.testing.assert_close(weight[:, None] * maps[i : i + 1], weight[:, None] * expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(weight * phases[i : i + 1], weight * phase, rtol=0, atol=1e-4)


def test_an_empty_item_has_equal_maps_and_no_phase() -> None:
    masks = _masks(20)
    kspace = torch.zeros(3, 4, 9, 20, dtype=torch.complex64)
    maps = maps_from_centers(kspace, masks)
    torch.testing.assert_close(maps, torch.full_like(maps, 0.5))
    assert torch.equal(smooth_phases(kspace, masks, maps), torch.ones(3, 9, 20, dtype=torch.complex64))


def test_a_mask_without_a_centre() -> None:
    lines = np.zeros(20, dtype=bool)
    lines[::4] = True
    lines[10] = False
    with pytest.raises(MaskError, match="centre"):
        maps_from_centers(torch.zeros(1, 2, 9, 20, dtype=torch.complex64), [ColumnMask(lines)])
