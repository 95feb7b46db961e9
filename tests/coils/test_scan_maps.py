"""Maps for several methods at once are those that each would estimate by itself."""

from __future__ import annotations

import pytest
import torch

import mri_recon as mr
from mri_recon.coils.scan_maps import ScanMaps
from mri_recon.coils.sensitivity_maps import estimate_maps
from mri_recon.errors import MaskError
from tests.support.helpers import complex_randn, phantom, smooth_maps


def test_both_kinds_are_those_of_estimate_maps() -> None:
    shape = (2, 3, 41, 36)
    kspace = mr.fft2c((smooth_maps(*shape[1:]) * phantom(*shape[2:])).to(torch.complex64).expand(shape))
    kspace = kspace + 0.01 * complex_randn(*shape, dtype=torch.complex64)
    mask = mr.random_mask(36, 2, num_low_frequencies=12, seed=0)
    y = mr.undersample(kspace, mask)
    maps = ScanMaps.of(y, mask)
    assert maps.cropped is not None
    assert maps.seen is not None
    torch.testing.assert_close(maps.everywhere, estimate_maps(y, mask, everywhere=True), rtol=0, atol=1e-6)
    torch.testing.assert_close(maps.cropped, estimate_maps(y, mask), rtol=0, atol=1e-6)
    torch.testing.assert_close(maps.seen, maps.cropped.abs().square().sum(1).sqrt())
    assert float(maps.seen.min()) < 0.5 < float(maps.seen.max())


def test_one_coil_and_given_maps_are_shared_by_all() -> None:
    mask = mr.random_mask(20, 2, num_low_frequencies=6, seed=0)
    one = ScanMaps.of(torch.ones(2, 1, 15, 20, dtype=torch.complex64), mask)
    assert one.cropped is None
    assert one.seen is None
    assert bool((one.everywhere == 1).all())
    given = complex_randn(3, 15, 20, dtype=torch.complex64)
    shared = ScanMaps.of(torch.ones(2, 3, 15, 20, dtype=torch.complex64), mask, given)
    assert shared.cropped is None
    assert torch.equal(shared.everywhere, given.expand(2, 3, 15, 20))


def test_several_coils_need_a_center() -> None:
    mask = mr.ColumnMask(torch.arange(20).numpy() % 2 == 1)
    with pytest.raises(MaskError, match="fully sampled centre"):
        ScanMaps.of(torch.ones(1, 3, 15, 20, dtype=torch.complex64), mask)
