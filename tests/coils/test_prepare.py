from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mri_recon.coils.combine import combine, rss
from mri_recon.coils.prepare import prepare
from mri_recon.errors import FormatError, MaskError, MethodError, MriReconError, ShapeError
from mri_recon.masks.draw import random_mask
from mri_recon.methods.cg_sense import cg_sense
from mri_recon.methods.zero_filled import zero_filled
from mri_recon.reconstruction import reconstruct
from mri_recon.transforms.fourier import fft2c, ifft2c
from tests.support.helpers import complex_randn, phantom, smooth_maps


def _mixing(coils: int, seed: int = 0) -> Tensor:
    """What makes noise of independent samples: coils of different gain that share a part of it."""
    gains = torch.linspace(1, 3, coils, dtype=torch.float64)
    return torch.diag(gains).to(torch.complex128) + 0.2 * complex_randn(coils, coils, seed=seed)


def _noise(mixing: Tensor, *shape: int, seed: int = 1) -> Tensor:
    return torch.einsum("cd,d...->c...", mixing, complex_randn(mixing.shape[0], *shape, seed=seed)) / 2**0.5


def _dense_sense(y: np.ndarray, lines: np.ndarray, maps: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """(A^H Psi^-1 A)^-1 A^H Psi^-1 y with the matrix of A written out, one image."""
    coils, h, w = maps.shape
    unit = np.eye(h * w).reshape(h * w, 1, h, w)
    images = np.fft.ifftshift(unit * maps, axes=(-2, -1))
    columns = np.fft.fftshift(np.fft.fft2(images, norm="ortho"), axes=(-2, -1)) * lines
    a = columns.reshape(h * w, coils, h * w)
    weighted = np.einsum("cd,kdn->kcn", np.linalg.inv(psi), a)
    normal = np.einsum("jcn,kcn->jk", a.conj(), weighted)
    rhs = np.einsum("jcn,cn->j", weighted.conj(), y.reshape(coils, h * w))
    return np.linalg.solve(normal, rhs).reshape(h, w)  # type: ignore[no-any-return]


@pytest.mark.parametrize("norm", [1.0, 3.0])
@pytest.mark.parametrize(("coils", "num_virtual_coils"), [(3, None), (4, 4)])
def test_given_maps_make_the_textbook_sense(coils: int, num_virtual_coils: int | None, norm: float) -> None:
    h, w = 7, 12
    maps, mixing = norm * smooth_maps(coils, h, w), _mixing(coils)
    kspace = (fft2c(maps * phantom(h, w)) + 0.05 * _noise(mixing, h, w))[None]
    lines = torch.arange(w) % 3 != 1
    kspace = kspace * lines
    samples = _noise(mixing, 4000, seed=2)
    psi = (samples @ samples.mH / 4000).numpy()
    expected = _dense_sense(kspace[0].numpy(), lines.numpy(), maps.numpy(), psi)
    data = prepare(kspace, lines, maps, prewhiten=samples, num_virtual_coils=num_virtual_coils)
    image, _ = cg_sense(data.kspace, lines, data.sens_maps, reg_weight=0.0, tol=1e-12, max_iters=500)
    np.testing.assert_allclose(data.finish(image)[0].numpy(), expected, atol=1e-6)
    # Without the covariance it is another image.
    plain, _ = cg_sense(kspace, lines, maps, reg_weight=0.0, tol=1e-12, max_iters=500)
    assert np.abs(plain[0].numpy() - expected).max() > 0.01
    result = reconstruct(
        kspace, lines, method="cg-sense", sens_maps=maps, prewhiten=samples, num_virtual_coils=num_virtual_coils,
        reg_weight=0.0, tol=1e-6, max_iters=500,
    )  # fmt: skip
    np.testing.assert_allclose(result.image[0].numpy(), expected, atol=2e-3)


def test_full_sampling_is_the_combination_of_least_noise() -> None:
    h, w, coils = 24, 31, 4
    maps, mixing = smooth_maps(coils, h, w), _mixing(coils)
    full = torch.ones(w, dtype=torch.bool)
    noise = _noise(mixing, 1, h, w).transpose(0, 1)
    samples = _noise(mixing, 9000, seed=2)
    data = prepare(fft2c(noise), full, maps, prewhiten=samples)
    assert data.sens_maps is not None
    quiet = data.finish(zero_filled(data.kspace, full, data.sens_maps)[0])
    psi = samples @ samples.mH / 9000
    weights = torch.einsum("cd,dhw->chw", torch.linalg.inv(psi), maps)
    expected = combine(noise, weights) / combine(maps, weights)
    torch.testing.assert_close(quiet, expected)
    assert float(quiet.norm()) < 0.8 * float(zero_filled(fft2c(noise), full, maps)[0].norm())


def test_noise_becomes_white_and_keeps_its_mean_variance() -> None:
    mixing = _mixing(3)
    samples = _noise(mixing, 20000)
    kspace = samples.reshape(1, 3, 100, 200)
    data = prepare(kspace, torch.ones(200, dtype=torch.bool), prewhiten=samples)
    flat = data.kspace[0].flatten(1)
    covariance = flat @ flat.mH / 20000
    mean = float(samples.abs().square().mean())
    torch.testing.assert_close(covariance, mean * torch.eye(3, dtype=torch.complex128), rtol=1e-8, atol=1e-8)
    assert data.noise_sigma == pytest.approx(mean**0.5)
    assert data.info == {
        "prewhiten": "samples",
        "noise_samples": 20000,
        "noise_sigma": data.noise_sigma,
        "noise_correlation": pytest.approx(
            float(torch.corrcoef(samples).abs().fill_diagonal_(0).max()), abs=0.01
        ),
    }  # fmt: skip
    assert data.image_factor is None
    assert data.sens_maps is None


def test_the_edge_of_kspace_gives_nearly_the_same() -> None:
    coils, h, w = 4, 60, 96
    mixing = 0.1 * _mixing(coils)
    mask = random_mask(w, 2, num_low_frequencies=12, seed=0)
    kspace = (fft2c(smooth_maps(coils, h, w) * phantom(h, w)) + _noise(mixing, h, w))[None] * mask.tensor()
    edge = prepare(kspace, mask, prewhiten="edge")
    given = prepare(kspace, mask, prewhiten=_noise(mixing, 9000, seed=2))
    assert edge.noise_sigma == pytest.approx(given.noise_sigma, rel=0.1)
    assert edge.info["prewhiten"] == "edge"
    assert edge.info["noise_samples"] == round(0.1 * h * mask.num_lines)
    assert float((edge.kspace - given.kspace).norm() / given.kspace.norm()) < 0.25
    # Signal at the edge does not move the level: it is a median.
    strong = kspace.clone()
    strong[..., 0, :] *= 1 + 30 * (torch.arange(w) < 6)
    assert prepare(strong, mask, prewhiten="edge").noise_sigma == pytest.approx(given.noise_sigma, rel=0.6)
    assert torch.equal(edge.kspace == 0, kspace == 0), "what was not sampled is not sampled"


def test_white_noise_changes_nothing() -> None:
    maps = smooth_maps(3, 9, 14) * torch.linspace(0, 2, 14)  # zeros, and no unit norm
    kspace = complex_randn(2, 3, 9, 14)
    samples = torch.linalg.qr(complex_randn(50, 3))[0].mH
    data = prepare(kspace, torch.ones(14, dtype=torch.bool), maps, prewhiten=samples)
    assert data.sens_maps is not None
    torch.testing.assert_close(data.kspace, kspace)
    torch.testing.assert_close(data.sens_maps, maps.expand(2, -1, -1, -1))
    image = complex_randn(2, 9, 14)
    torch.testing.assert_close(data.finish(image)[..., 1:], image[..., 1:])
    assert not bool(data.finish(image)[..., 0].any()), "0 where the maps are 0"


def test_nothing_asked_for_is_nothing_done() -> None:
    kspace, maps, image = complex_randn(2, 3, 9, 14), smooth_maps(3, 9, 14), complex_randn(2, 9, 14)
    data = prepare(kspace, torch.ones(14, dtype=torch.bool), maps)
    assert data.kspace is kspace
    assert data.sens_maps is not None
    assert torch.equal(data.sens_maps, maps.expand(2, -1, -1, -1))
    assert data.finish(image) is image
    assert data.info == {}
    assert data.noise_sigma is None
    assert prepare(kspace, torch.ones(14, dtype=torch.bool)).sens_maps is None


@settings(max_examples=30)
@given(
    slices=st.integers(1, 2),
    coils=st.integers(1, 5),
    virtual=st.integers(1, 5),
    h=st.integers(4, 9),
    w=st.integers(4, 9),
    whitened=st.booleans(),
    own_maps=st.booleans(),
)
def test_the_maps_belong_to_the_data(
    slices: int, coils: int, virtual: int, h: int, w: int, whitened: bool, own_maps: bool
) -> None:
    """y' = F S' (x / n), and sum |S'|^2 = sum |S|^2: the new data are those of the new maps."""
    maps = complex_randn(*([slices] if own_maps else []), coils, h, w, seed=3)
    image = complex_randn(slices, h, w, seed=4)
    kspace = fft2c(maps * image[:, None])
    data = prepare(
        kspace,
        torch.ones(w, dtype=torch.bool),
        maps,
        prewhiten=_noise(_mixing(coils), 200) if whitened else None,
        num_virtual_coils=min(virtual, coils),
    )
    assert data.sens_maps is not None
    assert data.image_factor is not None
    assert data.kspace.shape == data.sens_maps.shape == (slices, min(virtual, coils), h, w)
    torch.testing.assert_close(rss(data.sens_maps), rss(maps.expand(kspace.shape)))
    # The coil images of the new maps are parallel to those of the new data, also where n is limited.
    new = ifft2c(data.kspace)
    seen = combine(new, data.sens_maps) / rss(data.sens_maps) ** 2
    torch.testing.assert_close(data.sens_maps * seen[:, None], new)
    restored = data.finish(seen)
    assert bool((restored.abs() <= image.abs() * (1 + 1e-6)).all())
    bright = (restored.abs() < image.abs() * (1 - 1e-6)).double().mean()
    assert float(bright) < (0.2 if coils > 1 else 1e-9)
    if min(virtual, coils) == coils:
        torch.testing.assert_close(restored, image)


def test_where_virtual_coils_see_nothing_noise_does_not_grow() -> None:
    maps = torch.zeros(2, 8, 8, dtype=torch.complex128)
    maps[0], maps[1, :, 6:] = 1, 1
    maps[0, :, 6:] = 1e-4
    image = torch.ones(1, 8, 8, dtype=torch.complex128)
    data = prepare(fft2c(maps * image)[None], torch.ones(8, dtype=torch.bool), maps, num_virtual_coils=1)
    assert data.image_factor is not None
    torch.testing.assert_close(data.image_factor[0, :, :6], torch.ones(8, 6, dtype=torch.float64))
    torch.testing.assert_close(data.image_factor[0, :, 6:], torch.full((8, 2), 10.0, dtype=torch.float64))
    assert data.info == {"num_coils": 2, "num_virtual_coils": 1, "energy_kept": pytest.approx(0.75, abs=0.01)}
    assert data.noise_sigma is None


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("factor", [1e6, 1e-25])
def test_units(factor: float, dtype: torch.dtype) -> None:
    kspace, samples = complex_randn(1, 3, 20, 24).to(dtype), _noise(_mixing(3), 90).to(dtype)
    full = torch.ones(24, dtype=torch.bool)
    for prewhiten in (samples, "edge"):
        one = prepare(kspace, full, prewhiten=prewhiten, num_virtual_coils=2)
        scaled = prewhiten if isinstance(prewhiten, str) else factor * prewhiten
        other = prepare(factor * kspace, full, prewhiten=scaled, num_virtual_coils=2)
        assert one.kspace.dtype == other.kspace.dtype == dtype
        torch.testing.assert_close(other.kspace / factor, one.kspace, rtol=1e-4, atol=1e-4)
        assert other.noise_sigma == pytest.approx(factor * (one.noise_sigma or 0), rel=1e-4)
    # Samples in other units than the k-space: the same whitening, another sigma.
    one, other = (prepare(kspace, full, prewhiten=f * samples) for f in (1, 8))
    torch.testing.assert_close(other.kspace, 8 * prepare(kspace / 8, full, prewhiten=samples).kspace)
    torch.testing.assert_close(other.kspace, one.kspace)
    assert other.noise_sigma == pytest.approx(8 * (one.noise_sigma or 0))


def test_an_image_smaller_than_kspace_is_its_centre() -> None:
    maps = smooth_maps(3, 9, 14)
    data = prepare(complex_randn(1, 3, 9, 14), torch.ones(14, dtype=torch.bool), maps, prewhiten=_noise(_mixing(3), 90))
    assert data.image_factor is not None
    ones = data.finish(torch.ones(1, 5, 6))
    torch.testing.assert_close(ones.double(), data.image_factor[:, 2:7, 4:10], rtol=1e-5, atol=1e-5)


def test_what_cannot_be_prepared() -> None:
    kspace, full = complex_randn(1, 3, 9, 14), torch.ones(14, dtype=torch.bool)
    samples = _noise(_mixing(3), 90)
    dead, twice = samples.clone(), samples.clone()
    dead[1], twice[1] = 0, samples[0]
    cases: list[tuple[type[MriReconError], str, dict[str, Any]]] = [
        (MethodError, r"prewhiten to be \"edge\", noise samples \(coil, sample\) or None, got 'center'",
         {"prewhiten": "center"}),
        (MethodError, "got True", {"prewhiten": True}),
        (ShapeError, r"complex noise samples \(coil, sample\)", {"prewhiten": samples[0]}),
        (ShapeError, r"complex noise samples \(coil, sample\)", {"prewhiten": samples.real}),
        (ShapeError, "take the noise samples from the same coils", {"prewhiten": samples[:2]}),
        (FormatError, "at least 6 noise samples for 3 coils, got 5", {"prewhiten": samples[:, :5]}),
        (FormatError, r"none in coils \[1\]", {"prewhiten": dead}),
        (FormatError, "singular covariance", {"prewhiten": twice}),
        (FormatError, "finite noise samples", {"prewhiten": samples * float("nan")}),
        (MethodError, "between 1 and 3 virtual coils, got num_coils=4", {"num_virtual_coils": 4}),
        (MethodError, "between 1 and 3 virtual coils", {"num_virtual_coils": 0}),
        (MethodError, "between 1 and 3 virtual coils", {"num_virtual_coils": 2.0}),
    ]  # fmt: skip
    for error, message, options in cases:
        with pytest.raises(error, match=message):
            prepare(kspace, full, **options)
    with pytest.raises(MaskError, match="13"):
        prepare(kspace, full[:-1], prewhiten="edge")
    with pytest.raises(FormatError, match="only zeros"):
        prepare(0 * kspace, full, num_virtual_coils=2)
