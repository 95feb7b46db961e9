"""The map of trust and the bound in reconstructions: where they are, their units, empty slices, and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import mri_recon as mr
from mri_recon.io import load_trust_map, save
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.methods.trust_map import trust_model
from mri_recon.transforms.fourier import fft2c


def _scan(slices: int = 1, coils: int = 1, shape: tuple[int, int] = (45, 62)) -> tuple[Tensor, ColumnMask]:
    rng = np.random.default_rng(0)
    y, x = (np.linspace(-1, 1, n) for n in shape)
    disc = ((y[:, None] ** 2 + x[None] ** 2) < 0.5) * (1 + 0.5 * np.cos(12 * x)[None])
    phases = np.exp(1j * np.linspace(0, 1, coils)[:, None, None] * x) / np.sqrt(coils)
    images = torch.from_numpy(disc * phases).to(torch.complex64).expand(slices, coils, *shape)
    noise = rng.standard_normal((2, slices, coils, *shape)) * 0.02
    kspace = fft2c(images) + torch.complex(*torch.from_numpy(noise).float())
    mask = random_mask(shape[1], 3, num_low_frequencies=10, seed=0)
    return mr.undersample(kspace, mask), mask


@pytest.mark.parametrize(("slices", "coils"), [(1, 1), (2, 3)])
def test_a_check_gives_a_map_and_a_bound(slices: int, coils: int) -> None:
    kspace, mask = _scan(slices, coils)
    result = mr.reconstruct(kspace, mask, method="cs-wavelet", check="holdout")
    assert result.trust_map is not None
    assert result.trust_map.shape == result.image.shape
    assert result.trust_map.dtype == torch.float32
    assert bool((result.trust_map > 0).all())  # the noise alone leaves some doubt everywhere
    assert result.info["trust"]["coverage"] == 0.9
    assert 0 < result.info["trust"]["nmse_bound"] < 10
    assert result.info["trust"]["subjects"] == len(trust_model().subjects)
    assert "trust_map" not in result.info  # which has to be JSON


def test_the_map_has_the_units_of_the_image() -> None:
    kspace, mask = _scan()
    one, many = (mr.reconstruct(s * kspace, mask, method="cs-wavelet", check="holdout").trust_map for s in (1.0, 1e4))
    assert one is not None
    assert many is not None
    torch.testing.assert_close(many, 1e4 * one, rtol=1e-3, atol=1e-3 * 1e4 * float(one.max()))


def test_without_a_check_there_is_no_map() -> None:
    kspace, mask = _scan()
    assert mr.reconstruct(kspace, mask, method="cs-wavelet").trust_map is None


def test_methods_without_a_prior_have_no_map() -> None:
    # Their images of all folds have the same aliasing.
    kspace, mask = _scan()
    result = mr.reconstruct(kspace, mask, method="zero-filled", check="holdout")
    assert result.trust_map is None
    assert "trust" not in result.info


def test_auto_has_a_map_of_its_mixture() -> None:
    kspace, mask = _scan(2, 3)
    result = mr.reconstruct(kspace, mask, method="auto", candidates="cs-wavelet,cg-sense")
    assert result.trust_map is not None
    assert result.trust_map.shape == result.image.shape
    assert result.info["trust"]["level"] == pytest.approx(result.info["trust"]["subjects"] / 4)


def test_empty_slices_have_a_map_of_zeros() -> None:
    kspace, mask = _scan(3, 1)
    kspace[1] = 0
    result = mr.reconstruct(kspace, mask, method="cs-wavelet", check="holdout")
    assert result.trust_map is not None
    assert result.trust_map.shape == result.image.shape
    assert float(result.trust_map[1].abs().max()) == 0
    assert float(result.trust_map[2].min()) > 0


def test_the_map_comes_back_from_files(tmp_path: Path) -> None:
    kspace, mask = _scan()
    result = mr.reconstruct(kspace, mask, method="cs-wavelet", check="holdout")
    assert result.trust_map is not None
    save(tmp_path / "a.h5", result, mask=mask)
    save(tmp_path / "a.npz", result, mask=mask)
    found = load_trust_map(tmp_path / "a.h5")
    np.testing.assert_array_equal(found, result.trust_map.numpy())
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["trust_map"], result.trust_map.numpy())
    save(tmp_path / "b.h5", mr.reconstruct(kspace, mask, method="zero-filled"), mask=mask)
    assert load_trust_map(tmp_path / "b.h5") is None


def test_the_map_is_brighter_where_the_error_is() -> None:
    kspace, mask = _scan(1, 1, (64, 80))
    y, x = (np.linspace(-1, 1, n) for n in (64, 80))
    truth = ((y[:, None] ** 2 + x[None] ** 2) < 0.5) * (1 + 0.5 * np.cos(12 * x)[None])
    result = mr.reconstruct(kspace, mask, method="cs-wavelet", check="holdout")
    assert result.trust_map is not None
    error = np.abs(result.magnitude[0].numpy() - truth)
    trust = result.trust_map[0].numpy()
    wide = trust > np.quantile(trust, 0.75)
    assert error[wide].mean() > 1.5 * error[~wide].mean()
