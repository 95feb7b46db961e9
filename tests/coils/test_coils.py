from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mri_recon.coils.combine import adaptive_combine, combine, expand, rss
from mri_recon.coils.sensitivity_maps import low_resolution_images, sens_maps_from_center
from mri_recon.errors import MaskError, MethodError, ShapeError
from mri_recon.masks.calibration_region import calibration_block
from mri_recon.masks.convert import as_mask
from mri_recon.masks.draw import random_mask
from mri_recon.transforms.fourier import fft2c, ifft2c
from tests.support.helpers import KSPACE_SHAPES, assert_adjoint, complex_randn, phantom, smooth_maps


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


def walsh(x: Tensor, block: int) -> Tensor:
    """Pixel by pixel, `(coil, h, w)`: the vector with the phase of the first virtual coil, times the pixel."""
    coils, h, w = x.shape
    reach = block // 2
    principal = torch.linalg.eigh(x.flatten(1) @ x.flatten(1).mH).eigenvectors[:, -1]
    principal = principal / torch.sgn(principal[principal.abs().argmax()])
    image = torch.zeros(h, w, dtype=x.dtype)
    for i in range(h):
        for j in range(w):
            part = x[:, max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1].reshape(coils, -1)
            vector = torch.linalg.eigh(part @ part.mH).eigenvectors[:, -1]
            vector = vector / torch.sgn(torch.vdot(principal, vector))
            image[i, j] = torch.vdot(vector, x[:, i, j])
    return image


@pytest.mark.parametrize(("coils", "h", "w", "block"), [(3, 17, 22, 5), (4, 24, 13, 3), (2, 9, 30, 7)])
def test_adaptive_combination_is_walshs(coils: int, h: int, w: int, block: int) -> None:
    x = smooth_maps(coils, h, w) * (phantom(h, w) + 0.3) + 0.02 * complex_randn(coils, h, w, seed=4)
    torch.testing.assert_close(adaptive_combine(x, block_size=block), walsh(x, block), rtol=1e-4, atol=1e-4)


def test_adaptive_combination_of_a_large_image_meets_between_its_chunks() -> None:
    x = smooth_maps(8, 170, 90) * (phantom(170, 90) + 0.3)
    torch.testing.assert_close(adaptive_combine(x).abs(), rss(x), rtol=2e-3, atol=2e-3)
    # A filter of 7 rows sees nothing beyond them.
    torch.testing.assert_close(adaptive_combine(x)[60:100].abs(), adaptive_combine(x[:, 50:110])[10:50].abs())


def test_adaptive_combination_lets_in_less_noise_than_the_root_sum_of_squares() -> None:
    body = phantom(64, 70)
    x = smooth_maps(8, 64, 70) * body + 0.1 * complex_randn(2, 8, 64, 70, seed=2)
    combined, dark = adaptive_combine(x), body == 0
    assert combined.shape == (2, 64, 70)
    assert float(combined.abs()[:, dark].mean()) < 0.8 * float(rss(x)[:, dark].mean())
    assert bool((combined.abs() <= rss(x) * (1 + 1e-9)).all())
    bright = combined.abs()[:, ~dark] - body.abs()[~dark]
    assert float(bright.mean().abs()) < 0.01


@pytest.mark.parametrize("shape", KSPACE_SHAPES)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_adaptive_combination_scales_and_keeps_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = complex_randn(*shape, dtype=dtype)
    combined = adaptive_combine(x)
    assert (combined.shape, combined.dtype) == ((shape[0], *shape[2:]), dtype)
    torch.testing.assert_close(adaptive_combine(2.0**70 * x), 2.0**70 * combined)
    torch.testing.assert_close(adaptive_combine(x[None])[0], combined)
    torch.testing.assert_close(adaptive_combine(torch.zeros_like(x)), torch.zeros_like(combined))
    if shape[1] == 1:
        assert torch.equal(combined, x[:, 0])


def test_errors_name_the_cure() -> None:
    with pytest.raises(ShapeError, match="keep the coil axis"):
        rss(complex_randn(4, 5))
    with pytest.raises(ShapeError, match="compute the maps from this k-space"):
        combine(complex_randn(2, 4, 5), complex_randn(3, 4, 5))
    with pytest.raises(ShapeError, match="crop or pad"):
        expand(complex_randn(4, 6), complex_randn(3, 4, 5))
    with pytest.raises(ShapeError, match="expected complex coil images"):
        adaptive_combine(torch.zeros(4, 5, 6))
    for block in (0, 4, 3.0, True):
        with pytest.raises(MethodError, match="odd, positive block_size"):
            adaptive_combine(complex_randn(2, 5, 6), block_size=block)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="expected complex k-space"):
        sens_maps_from_center(torch.zeros(2, 8, 8), torch.ones(8, dtype=torch.bool))
    with pytest.raises(MaskError):
        sens_maps_from_center(complex_randn(1, 2, 8, 8), torch.zeros(8, dtype=torch.bool))


@pytest.mark.parametrize("unit", [1e-30, 1e-24, 1e25, 1e30])
def test_rss_of_any_unit(unit: float) -> None:
    x = complex_randn(2, 3, 5, 6, dtype=torch.complex64)
    torch.testing.assert_close(rss(unit * x) / unit, rss(x))
    assert not rss(torch.zeros(3, 4, 4)).any()


def test_rss_of_an_array() -> None:
    x = complex_randn(2, 3, 5, 7)
    assert torch.equal(rss(x.numpy()), rss(x))
