"""Slices without data: every method reconstructs the others and gives zeros there, and says so."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mri_recon as mr
from mri_recon.errors import FormatError
from mri_recon.masks.empty_slices import empty_slices, fill_empty, kept_slices, note_empty
from mri_recon.metrics import evaluate, per_slice
from mri_recon.reconstruction import reconstruct_batch
from tests.support.methods import BUILT_IN

QUICK: dict[str, dict[str, Any]] = {
    "cs-wavelet": {"max_iters": 5},
    "auto": {"candidates": "cg-sense,cs-wavelet:max_iters=5"},
}


def volume(coils: int, empty: list[int]) -> tuple[Tensor, Any]:
    """Four slices of an object with a bright middle, some of them empty."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 36), indexing="ij")
    image = (y**2 + x**2 < 0.6) * (1 + 0.5 * (np.abs(x) < 0.3))
    weights = np.stack([np.exp(-((y - np.cos(c)) ** 2) - (x - np.sin(c)) ** 2) for c in range(coils)])
    scales = np.array([1.0, 0.7, 1.3, 0.9])[:, None, None, None]
    kspace = mr.fft2c(torch.from_numpy((scales * weights * image).astype(np.complex64))).numpy()
    kspace += 0.02 * (rng.standard_normal(kspace.shape) + 1j * rng.standard_normal(kspace.shape))
    kspace[empty] = 0
    mask = mr.random_mask(36, 2, center_fraction=0.2, seed=0)
    return mr.undersample(kspace.astype(np.complex64), mask), mask


@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("method", BUILT_IN)
def test_the_others_are_as_without_it(method: str, coils: int) -> None:
    kspace, mask = volume(coils, [1])
    options = QUICK.get(method, {})
    found = mr.reconstruct(kspace, mask, method=method, **options)
    alone = mr.reconstruct(kspace[[0, 2, 3]], mask, method=method, **options)
    torch.testing.assert_close(found.image[[0, 2, 3]], alone.image, rtol=1e-5, atol=1e-6)
    assert not found.image[1].any()
    assert torch.isfinite(torch.view_as_real(found.image.to(torch.complex64))).all()
    assert found.info["empty_slices"] == [1]
    told = "1 of 4 slices hold no data (zeros only; 1, counted from 0)"
    assert any(text.startswith(told) for text in found.info["warnings"])
    assert "empty_slices" not in alone.info
    json.dumps(found.info["empty_slices"])


@pytest.mark.parametrize("method", BUILT_IN)
def test_several_at_either_end(method: str) -> None:
    kspace, mask = volume(2, [0, 2, 3])
    found = mr.reconstruct(kspace, mask, method=method, **QUICK.get(method, {}))
    assert found.image[1].abs().max() > 0
    assert not found.image[[0, 2, 3]].any()


@pytest.mark.parametrize("method", BUILT_IN)
def test_nothing_but_empty_slices_stays_an_error(method: str) -> None:
    kspace, mask = volume(2, [])
    with pytest.raises(FormatError, match="expected k-space with a signal, got only zeros"):
        mr.reconstruct(0 * kspace, mask, method=method)


def test_a_batch() -> None:
    (first, mask), (second, _) = volume(1, [1]), volume(1, [])
    found = reconstruct_batch([(first, mask), (second, mask)], method="unet")
    alone = mr.reconstruct(first, mask, method="unet")
    torch.testing.assert_close(found[0].image, alone.image, rtol=1e-4, atol=1e-4)
    assert found[0].info["empty_slices"] == [1]
    assert "empty_slices" not in found[1].info
    assert found[1].image.shape == (4, 40, 36)


def test_preparations_maps_and_a_noise_level_a_slice() -> None:
    kspace, mask = volume(3, [2])
    maps = torch.ones(4, 3, 40, 36, dtype=torch.complex64) / np.sqrt(3)
    maps[2] = torch.nan  # nothing looks at the maps of an empty slice
    found = mr.reconstruct(kspace, mask, method="cg-sense", sens_maps=maps, prewhiten="edge", num_virtual_coils=2)
    assert torch.isfinite(torch.view_as_real(found.image)).all()
    assert not found.image[2].any()
    sigma = torch.tensor([0.02, 0.03, float("nan"), 0.02])
    found = mr.reconstruct(kspace, mask, method="cs-wavelet", sigma=sigma, max_iters=5)
    assert found.info["sigma"] == pytest.approx(0.03)
    assert [value is None for value in found.info["per_slice"]["iterations"]] == [False, False, True, False]


def test_metrics_by_the_stated_convention() -> None:
    """NMSE and PSNR are the volume's; an empty slice that is zero in both has an SSIM of 1."""
    rng = np.random.default_rng(0)
    target = rng.random((3, 20, 22))
    image = target + 0.1 * rng.standard_normal(target.shape)
    target[1] = image[1] = 0
    found = evaluate(image, target)
    assert np.isfinite([found.nmse, found.psnr, found.ssim]).all()
    by_slice = per_slice(image, target)
    assert by_slice["ssim"][1] == pytest.approx(1)
    assert np.isnan(by_slice["nmse"][1])
    assert found.ssim == pytest.approx(np.mean(by_slice["ssim"]))
    assert found.nmse == pytest.approx(((np.abs(image) - target) ** 2).sum() / (target**2).sum())


def test_the_pieces() -> None:
    kspace = torch.ones(3, 1, 4, 4, dtype=torch.complex64)
    kspace[1] = 0
    assert empty_slices(kspace) == [1]
    assert kept_slices(3, [1]) == [0, 2]
    image = torch.stack([torch.full((2, 2), 5.0), torch.full((2, 2), 7.0)])
    assert fill_empty(image, [0, 2], 3)[:, 0, 0].tolist() == [5.0, 0.0, 7.0]
    info = note_empty({"warnings": ["a"], "per_slice": {"x": [1, 2], "y": "text"}}, [1], [0, 2], 3)
    assert info["per_slice"] == {"x": [1, None, 2], "y": "text"}
    assert info["warnings"][0] == "a"
