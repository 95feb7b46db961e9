from __future__ import annotations

import numpy as np
import pytest
import torch

from mri_recon.coils.combine import rss
from mri_recon.coils.compression import CompressedCoils, compress_coils
from mri_recon.errors import FormatError, MethodError, ShapeError
from mri_recon.masks.draw import random_mask
from mri_recon.transforms.fourier import fft2c
from tests.support.helpers import KSPACE_SHAPES, complex_randn, phantom, smooth_maps


@pytest.mark.parametrize("shape", KSPACE_SHAPES)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_all_coils_kept_is_a_rotation(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    kspace = complex_randn(*shape, dtype=dtype)
    found = compress_coils(kspace, shape[1])
    assert isinstance(found, CompressedCoils)
    assert (found.kspace.shape, found.kspace.dtype) == (kspace.shape, dtype)
    torch.testing.assert_close(found.matrix @ found.matrix.mH, torch.eye(shape[1], dtype=dtype), atol=1e-5, rtol=0)
    torch.testing.assert_close(rss(found.kspace), rss(kspace), rtol=1e-4, atol=1e-5)
    assert found.energy_kept == pytest.approx(1)


@pytest.mark.parametrize("num_coils", [1, 3, 5])
def test_virtual_coils_are_the_leading_singular_vectors_of_all_slices(num_coils: int) -> None:
    image = torch.stack([phantom(30, 41), phantom(30, 41).flip(0) * 2])
    full = fft2c(smooth_maps(6, 30, 41) * image[:, None]) + 0.01 * complex_randn(2, 6, 30, 41)
    kspace = full * random_mask(41, 2, seed=3).tensor()
    found = compress_coils(kspace, num_coils)
    samples = kspace.movedim(1, 0).reshape(6, -1).numpy()
    left, singular, _ = np.linalg.svd(samples, full_matrices=False)
    assert found.matrix.shape == (num_coils, 6)
    assert found.kspace.shape == (2, num_coils, 30, 41)
    overlap = np.abs(found.matrix.numpy() @ left[:, :num_coils])
    np.testing.assert_allclose(overlap, np.eye(num_coils), atol=1e-6)
    assert found.energy_kept == pytest.approx((singular[:num_coils] ** 2).sum() / (singular**2).sum())
    # No other coils of that number hold more energy, and these hold what is said.
    share = float(found.kspace.abs().square().sum() / kspace.abs().square().sum())
    assert share == pytest.approx(found.energy_kept)
    expected = torch.einsum("vc,scyx->svyx", found.matrix, kspace)
    torch.testing.assert_close(found.kspace, expected)
    lead = found.matrix.gather(1, found.matrix.abs().argmax(dim=1, keepdim=True))
    torch.testing.assert_close(lead, lead.abs().to(lead.dtype))


def test_few_virtual_coils_hold_many_smooth_ones() -> None:
    kspace = fft2c(smooth_maps(16, 40, 36) * phantom(40, 36))[None]
    assert compress_coils(kspace, 5).energy_kept > 0.99
    assert compress_coils(kspace, 1).energy_kept < 0.9


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_the_matrix_does_not_depend_on_the_scale(scale: float) -> None:
    kspace = complex_randn(2, 4, 11, 16, dtype=torch.complex64)
    one, other = compress_coils(kspace, 2), compress_coils(scale * kspace, 2)
    torch.testing.assert_close(one.matrix, other.matrix, rtol=1e-3, atol=1e-4)
    assert one.energy_kept == pytest.approx(other.energy_kept)


def test_white_noise_stays_white() -> None:
    found = compress_coils(complex_randn(1, 6, 90, 100), 3)
    flat = found.kspace[0].flatten(1)
    torch.testing.assert_close(flat @ flat.mH / 9000, torch.eye(3, dtype=flat.dtype), atol=0.06, rtol=0)


def test_errors_name_the_cure() -> None:
    kspace = complex_randn(1, 3, 8, 9)
    for num_coils in (0, 4, 2.0, True):
        with pytest.raises(MethodError, match="between 1 and 3 virtual coils, got num_coils="):
            compress_coils(kspace, num_coils)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="keep the slice and coil axes"):
        compress_coils(kspace[0], 1)
    with pytest.raises(FormatError, match="only zeros"):
        compress_coils(torch.zeros_like(kspace), 1)
    with pytest.raises(FormatError, match="repair or mask them out"):
        compress_coils(kspace * torch.inf, 1)
