"""Masks that k-space was not sampled with are told; sane ones never are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mri_recon as mr
from mri_recon.errors import MriReconError
from mri_recon.masks.convert import as_mask, undersample
from mri_recon.masks.draw import equispaced_mask, random_mask
from mri_recon.masks.unsampled import mask_data_warnings
from mri_recon.reconstruction import reconstruct

SHAPE = (2, 3, 40, 48)


def noise(seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1, 8),
    st.integers(0, 1000),
    st.sampled_from([random_mask, equispaced_mask]),
    st.integers(0, 20),
    st.integers(0, 20),
    st.booleans(),
)
def test_sane_masks_are_not_told(
    acceleration: float, seed: int, draw: Any, left: int, right: int, on_support: bool
) -> None:
    """Margins, partial Fourier, a dead column, an empty slice, and masks drawn on all columns or on the support."""
    kspace = noise(seed)
    kspace[..., :left] = 0
    kspace[..., 48 - right :] = 0
    kspace[0, :, :, 24] = 0
    kspace[:, :, :, 22] = 0
    kspace[1] = 0
    support = np.zeros(48, dtype=bool)
    support[left : 48 - right] = True
    mask = draw(48, acceleration, seed=seed, support=support if on_support else None)
    masked = undersample(kspace, mask)
    assume(bool(masked.any()))
    assert mask_data_warnings(masked, mask) == []


@settings(max_examples=40, deadline=None)
@given(st.floats(2, 6), st.integers(0, 1000))
def test_masks_of_another_scan_order_or_shift_are_told(acceleration: float, seed: int) -> None:
    own = random_mask(48, acceleration, seed=seed)
    measured = undersample(noise(seed), own)
    for wrong in (
        np.ones(48, dtype=bool),
        np.fft.ifftshift(own.lines),
        random_mask(48, acceleration, seed=seed + 1).lines,
    ):
        applied = undersample(measured, wrong)
        if not bool(applied.any()):
            continue
        inside = applied.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
        first, last = int(inside[0]), int(inside[-1])
        empty = int((wrong & ~own.lines)[first : last + 1].sum())
        told = mask_data_warnings(applied, as_mask(wrong, SHAPE))
        total = int(wrong[first : last + 1].sum())
        assert len(told) == (empty > max(2, 0.1 * total))
        assert all(f"{empty} of {total} columns that the mask marks as sampled hold no data" in one for one in told)


def test_rows_and_patterns() -> None:
    rows = torch.arange(40) % 3 == 0
    measured = noise() * rows[:, None]
    (told,) = mask_data_warnings(measured, as_mask(np.ones(48, dtype=bool), SHAPE))
    assert "26 of 40 rows that the mask marks as sampled hold no data" in told
    pattern = np.random.default_rng(0).random((40, 48)) < 0.4
    sampled = undersample(noise(), pattern)
    assert mask_data_warnings(sampled, as_mask(pattern, SHAPE)) == []
    (told,) = mask_data_warnings(sampled, as_mask(pattern | np.eye(40, 48, dtype=bool)[::-1] | pattern[::-1], SHAPE))
    assert "positions that the mask marks as sampled hold no data" in told


def test_the_residue_of_a_transform_is_no_data() -> None:
    own = random_mask(48, 3, seed=0)
    measured = undersample(noise(), own) + 1e-9 * noise(1)
    assert len(mask_data_warnings(measured, as_mask(np.ones(48, dtype=bool), SHAPE))) == 1


def test_it_stands_among_the_warnings_of_a_reconstruction() -> None:
    measured = undersample(noise(), random_mask(48, 3, seed=0))
    everything = np.ones(48, dtype=bool)
    result = reconstruct(measured, everything, method="zero-filled")
    assert any("columns that the mask marks as sampled hold no data" in one for one in result.info["warnings"])
    fine = reconstruct(measured, random_mask(48, 3, seed=0), method="zero-filled")
    assert fine.info["warnings"] == []


def test_lazy_conjugates_are_resolved() -> None:
    """A tensor's conj() is a view that PyTorch does not take for real and imaginary parts."""
    kspace, mask = noise(), np.ones(48, dtype=bool)
    expected = mr.reconstruct(kspace.conj().resolve_conj(), mask, method="zero-filled").image
    torch.testing.assert_close(mr.reconstruct(kspace.conj(), mask, method="zero-filled").image, expected)
    maps = torch.ones(SHAPE[1:], dtype=torch.complex64).conj() / 3**0.5
    assert mr.reconstruct(kspace, mask, method="cg-sense", sens_maps=maps.conj()).image.shape == (2, 40, 48)
    whitened = mr.reconstruct(kspace, mask, method="zero-filled", prewhiten=kspace.reshape(3, -1).conj())
    assert whitened.image.shape == (2, 40, 48)
    with pytest.raises(MriReconError):
        mr.reconstruct(kspace.real, mask, method="zero-filled")
