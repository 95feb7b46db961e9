from __future__ import annotations

import pytest
import torch

from mri_recon.coils import calibration_block, combine, expand, low_resolution_images, rss, sens_maps_from_center
from mri_recon.errors import MaskError, ShapeError
from mri_recon.fourier import fft2c, ifft2c
from mri_recon.masks import as_mask, random_mask
from tests.helpers import KSPACE_SHAPES, assert_adjoint, complex_randn, phantom, smooth_maps


@pytest.mark.parametrize("shape", KSPACE_SHAPES)
def test_rss_equals_the_formula(shape: tuple[int, ...]) -> None:
    x = complex_randn(*shape)
    torch.testing.assert_close(rss(x), (x.real**2 + x.imag**2).sum(1).sqrt())
    torch.testing.assert_close(rss(x.movedim(1, 0), dim=0), rss(x))


@pytest.mark.parametrize("shape", KSPACE_SHAPES)
def test_combine_is_the_adjoint_of_expand(shape: tuple[int, ...]) -> None:
    maps = complex_randn(*shape, seed=1)
    x, y = complex_randn(shape[0], *shape[2:], seed=2), complex_randn(*shape, seed=3)
    assert_adjoint(lambda v: expand(v, maps), lambda v: combine(v, maps), x, y)


def test_combine_undoes_expand_where_the_maps_are_normalised() -> None:
    maps, x = smooth_maps(5, 13, 18), complex_randn(2, 13, 18)
    torch.testing.assert_close(combine(expand(x, maps), maps), x)


def test_one_coil_has_the_map_one() -> None:
    kspace = complex_randn(2, 1, 15, 20, dtype=torch.complex64)
    maps = sens_maps_from_center(kspace, random_mask(20, 4, num_low_frequencies=3))
    assert maps.dtype == torch.complex64
    assert torch.equal(maps, torch.ones_like(kspace))


@pytest.mark.parametrize("acceleration", [3, 6])
@pytest.mark.parametrize(("h", "w"), [(61, 80), (64, 75)])
def test_maps_from_the_centre_find_smooth_sensitivities(h: int, w: int, acceleration: int) -> None:
    true = smooth_maps(4, h, w)
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    body = (y**2 + x**2 < 0.8).to(torch.float64)
    mask = random_mask(w, acceleration, num_low_frequencies=9)
    kspace = fft2c(true * body)[None]
    maps = sens_maps_from_center(kspace * mask.tensor(), mask)
    torch.testing.assert_close(rss(maps), torch.ones(1, h, w, dtype=torch.float64))
    # Up to the phase of the image, the unit vectors of the coils must point the same way inside the body.
    inner = (maps[0].conj() * true).sum(0).abs()[body > 0]
    assert float(inner.mean()) > 0.99


def test_maps_read_the_dense_centre_only() -> None:
    mask = random_mask(24, 3, num_low_frequencies=5)
    kspace = complex_randn(1, 3, 19, 24) * mask.tensor()
    other = kspace.clone()
    outside = mask.tensor().clone()
    outside[(24 - 5 + 1) // 2 : (24 - 5 + 1) // 2 + 5] = False
    other[..., outside] *= 7
    # The run of sampled columns may reach beyond the receipt's centre; its window keeps the far columns out.
    assert torch.equal(sens_maps_from_center(kspace, mask), sens_maps_from_center(other, mask))


def test_maps_do_not_depend_on_the_scale() -> None:
    mask = random_mask(24, 3, num_low_frequencies=5)
    kspace = complex_randn(2, 3, 19, 24) * mask.tensor()
    torch.testing.assert_close(sens_maps_from_center(kspace, mask), sens_maps_from_center(1e6 * kspace, mask))


def test_maps_are_a_unit_vector_even_where_there_is_no_signal() -> None:
    kspace = torch.zeros(1, 4, 16, 12, dtype=torch.complex64)
    maps = sens_maps_from_center(kspace, random_mask(12, 2, num_low_frequencies=4))
    torch.testing.assert_close(rss(maps), torch.ones(1, 16, 12))


def test_maps_from_a_general_pattern() -> None:
    pattern = torch.zeros(30, 26, dtype=torch.bool)
    pattern[::3, ::2] = True
    pattern[10:21, 8:19] = True
    true, body = smooth_maps(3, 30, 26), phantom(30, 26)
    kspace = fft2c(true * body)[None] * pattern
    maps = sens_maps_from_center(kspace, as_mask(pattern.numpy(), kspace.shape))
    assert float((maps[0].conj() * true).sum(0).abs()[body.abs() > 0].mean()) > 0.98


def test_low_resolution_images_are_the_windowed_centre() -> None:
    mask = random_mask(25, 2, num_low_frequencies=7)
    kspace = complex_randn(1, 2, 41, 25) * mask.tensor()
    low = fft2c(low_resolution_images(kspace, mask))
    gain = (low / kspace).abs()[..., 9:16]
    assert float(low[..., :8].abs().max()) < 1e-12
    assert float(gain[0, 0].max()) <= 1 + 1e-9
    torch.testing.assert_close(low[..., 20, 12], kspace[..., 20, 12], rtol=2e-2, atol=0)
    assert ifft2c(low).shape == kspace.shape


def test_the_calibration_block_stays_inside_the_dense_centre_and_around_the_middle() -> None:
    pattern = torch.zeros(30, 26, dtype=torch.bool)
    pattern[10:21, 8:19] = True
    assert calibration_block(pattern, (4, 30, 26), (24, 24)) == (slice(10, 21), slice(8, 19))
    assert calibration_block(pattern, (4, 30, 26), (5, 4)) == (slice(13, 18), slice(11, 15))
    # Room on one side only: the block moves, it does not shrink.
    lopsided = torch.zeros(26, dtype=torch.bool)
    lopsided[4:15] = True
    assert calibration_block(lopsided, (4, 30, 26), (6, 8)) == (slice(12, 18), slice(7, 15))
    assert calibration_block(torch.ones(5, dtype=torch.bool), (1, 7, 5), (9, 9)) == (slice(0, 7), slice(0, 5))


def test_errors_name_the_cure() -> None:
    with pytest.raises(ShapeError, match="keep the coil axis"):
        rss(complex_randn(4, 5))
    with pytest.raises(ShapeError, match="compute the maps from this k-space"):
        combine(complex_randn(2, 4, 5), complex_randn(3, 4, 5))
    with pytest.raises(ShapeError, match="crop or pad"):
        expand(complex_randn(4, 6), complex_randn(3, 4, 5))
    with pytest.raises(ShapeError, match="expected complex k-space"):
        sens_maps_from_center(torch.zeros(2, 8, 8), torch.ones(8, dtype=torch.bool))
    with pytest.raises(MaskError):
        sens_maps_from_center(complex_randn(1, 2, 8, 8), torch.zeros(8, dtype=torch.bool))
