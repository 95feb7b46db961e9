from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.networks.given_maps import RING, compare, grown, kinds_of_maps, lines, object_of, ring_of
from mri_recon.masks.draw import random_mask
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.examples.validation_worlds import ValidationScan
from tests.support.helpers import complex_randn, phantom, smooth_maps


def test_the_ring_is_inside_the_crop_and_not_at_the_border_of_the_image() -> None:
    crop = torch.zeros(21, 30, dtype=torch.bool)
    crop[:, 10:] = True
    ring = torch.zeros_like(crop)
    ring[:, 10 : 10 + RING] = True
    assert torch.equal(ring_of(crop), ring)
    assert not ring_of(torch.ones(5, 7, dtype=torch.bool)).any()


def test_a_bright_ring_has_a_positive_index() -> None:
    obj = torch.zeros(31, 40, dtype=torch.bool)
    obj[8:23, 9:33] = True
    truth = obj.float()
    found = compare(truth + 0.1 * ring_of(obj), truth, obj, obj)
    assert found["ring_index"] == pytest.approx(0.1)
    assert found["psnr_ring"] == pytest.approx(20, abs=1e-3)
    assert found["psnr_object"] is not None
    assert found["psnr_object"] > 20


def test_kinds_of_maps_differ_from_their_full_ones_by_crop_and_factor() -> None:
    h, w, coils = 65, 80, 4
    maps = smooth_maps(coils, h, w)
    kspace = fft2c(maps * phantom(h, w) + 0.01 * complex_randn(coils, h, w)).to(torch.complex64)
    image = phantom(h, w).to(torch.complex64)
    scan = ValidationScan("disc", kspace, random_mask(w, 4, seed=0), maps.to(torch.complex64), image)
    obj = object_of(scan)
    assert np.isclose(float(obj.float().mean()), 0.7 * np.pi / 4, atol=0.08)
    kinds = {one.name: one for one in kinds_of_maps(scan, obj)}
    assert kinds["estimated"].maps is None
    for one in kinds.values():
        if one.maps is None:
            continue
        full = kinds[one.full].maps
        assert full is not None
        weight = torch.linalg.vector_norm(one.maps, dim=0)
        # The crop of soft maps begins where they are faint; all others are zero exactly outside.
        outside = 0.1 if "soft" in one.name else 0.0
        assert float(weight[~one.crop].max() if bool((~one.crop).any()) else 0) <= outside
        factor = torch.as_tensor(one.factor)
        agreement = ((one.maps * full.conj()).sum(0).abs() - factor)[one.crop]
        assert float(agreement.abs().max()) < 1e-2
    cut = kinds["true, crop cuts into the object"].crop
    assert torch.equal(cut, grown(obj, -5))


def test_the_table_has_the_change_by_the_crop() -> None:
    row = {"maps": "cropped", "method": "unet", "psnr_object": 30.0, "psnr_object_full": 29.5}
    row |= {"psnr_ring": 31.0, "psnr_ring_full": 32.0, "ring_index": 0.02, "ring_index_full": 0.01}
    whole = {**row, "maps": "whole", "psnr_ring": None, "ring_index": None}
    header, _, *body = lines([row, whole])
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["maps", "unet"]
    assert [cell.strip() for cell in body[0].strip("|").split("|")] == ["cropped", "+0.50, -1.00, +0.010"]
    assert len(body) == 1
