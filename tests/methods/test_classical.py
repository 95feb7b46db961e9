from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from mri_recon.coils import sensitivity_maps
from mri_recon.coils.combine import adaptive_combine, combine, rss
from mri_recon.coils.espirit import EspiritMaps, espirit_maps
from mri_recon.coils.sensitivity_maps import sens_maps_from_center
from mri_recon.errors import FormatError, MaskError, MethodError, MriReconError, ShapeError
from mri_recon.masks.convert import as_mask, undersample
from mri_recon.masks.draw import random_mask
from mri_recon.methods.cg_sense import cg_sense
from mri_recon.methods.cs_wavelet import cs_wavelet
from mri_recon.methods.priors import PRIORS, Problem, choose_prior
from mri_recon.methods.zero_filled import zero_filled
from mri_recon.metrics import nmse, psnr
from mri_recon.operators.data_term import SenseDataTerm
from mri_recon.operators.sense import SenseOperator
from mri_recon.transforms.fourier import fft2c, ifft2c
from tests.support.helpers import complex_randn, phantom, smooth_maps

# (slice, coil, readout, phase): odd, non-square, one coil, one slice.
SHAPES = [(1, 1, 33, 40), (2, 3, 31, 36), (2, 1, 40, 27)]


def _scan(shape: tuple[int, ...], *, noise: float = 0.01, lines: int = 5) -> tuple[Tensor, Any, Tensor, Tensor]:
    """Undersampled k-space complex128, its mask, maps and the truth."""
    slices, coils, h, w = shape
    image = torch.stack([phantom(h, w) * (1 + 0.2 * s) for s in range(slices)])
    maps = smooth_maps(coils, h, w) if coils > 1 else torch.ones(1, h, w, dtype=torch.complex128)
    full = fft2c(maps * image[:, None]) + noise * complex_randn(*shape)
    mask = random_mask(w, 2.5, num_low_frequencies=lines, seed=1)
    return full * mask.tensor(), mask, maps.expand(shape), image


METHODS = {"zero-filled": zero_filled, "cg-sense": cg_sense, "cs-wavelet": cs_wavelet}


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shape_type_and_scale(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    kspace, mask, maps, _ = _scan(shape)
    options = {"max_iters": 20} if name == "cs-wavelet" else {}
    kspace = kspace.to(dtype)
    image, _ = METHODS[name](kspace, mask, maps, **options)
    assert image.shape == (shape[0], *shape[2:])
    assert image.dtype == dtype
    # A power of two changes no digit, other factors round.
    assert torch.equal(METHODS[name](2.0**20 * kspace, mask, maps, **options)[0], 2.0**20 * image)
    for factor in (1e6, 1e-12):
        scaled, _ = METHODS[name](factor * kspace, mask, maps, **options)
        assert float((scaled / factor - image).norm() / image.norm()) < (1e-2 if dtype == torch.complex64 else 1e-6)


def test_zero_filled_in_its_forms() -> None:
    kspace, mask, maps, _ = _scan((2, 3, 31, 36))
    image, info = zero_filled(kspace, mask)
    assert info["combination"] == "rss"
    torch.testing.assert_close(image, rss(ifft2c(kspace)))
    image, info = zero_filled(kspace, mask, maps[0])
    assert info["combination"] == "sens_maps"
    torch.testing.assert_close(image, combine(ifft2c(kspace), maps))
    image, info = zero_filled(kspace, mask, combination="adaptive")
    assert info["combination"] == "adaptive"
    torch.testing.assert_close(image, adaptive_combine(ifft2c(kspace)))
    image, info = zero_filled(kspace, mask, maps, combination="adaptive")
    assert info["combination"] == "sens_maps"
    image, info = zero_filled(kspace[:, :1], mask, combination="adaptive")
    assert info["combination"] == "none"
    torch.testing.assert_close(image, ifft2c(kspace)[:, 0])
    with pytest.raises(MethodError, match="combination to be one of rss, adaptive, got 'sum'"):
        zero_filled(kspace, mask, combination="sum")


def test_cg_sense_solves_the_normal_equations() -> None:
    kspace, mask, maps, truth = _scan((2, 3, 31, 36), noise=0.0)
    image, info = cg_sense(kspace, mask, maps, reg_weight=1e-3, tol=1e-8, max_iters=300)
    coil_images = maps * image[:, None]
    residual = combine(ifft2c(mask.tensor() * (kspace - fft2c(coil_images))), maps) - 1e-3 * image
    assert float(residual.abs().max()) < 1e-6
    assert info["stop"] == "tol"
    assert nmse(image, truth.abs()) < 0.2 * nmse(zero_filled(kspace, mask, maps)[0], truth.abs())


def test_cg_sense_of_one_coil_is_zero_filled() -> None:
    kspace, mask, _, _ = _scan((1, 1, 33, 40))
    image, _ = cg_sense(kspace, mask, reg_weight=0.01)
    torch.testing.assert_close(image * 1.01, zero_filled(kspace, mask)[0])


# ---------------------------------------------------------------- an independent solver of the same problem


def _reference_objective(
    kspace: Tensor, mask: np.ndarray, maps: Tensor, relative: float, wavelet: str, levels: int, iterations: int
) -> tuple[list[float], list[float]]:
    """ISTA with momentum in NumPy and PyWavelets, float64, slice by slice; weight and optimal objective of each."""
    step = 1 << levels
    h, w = kspace.shape[-2:]
    big = (-(-h // step) * step, -(-w // step) * step)
    top, left = big[0] // 2 - h // 2, big[1] // 2 - w // 2

    def fft(x: np.ndarray) -> np.ndarray:
        return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))

    def ifft(x: np.ndarray) -> np.ndarray:
        return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(x, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))

    def analyse(x: np.ndarray) -> tuple[np.ndarray, Any]:
        return pywt.coeffs_to_array(pywt.wavedec2(x, wavelet, mode="periodization", level=levels))  # type: ignore[no-any-return]

    def synthesise(c: np.ndarray, slices: Any) -> np.ndarray:
        parts = pywt.array_to_coeffs(c, slices, output_format="wavedec2")
        return pywt.waverec2(parts, wavelet, mode="periodization")  # type: ignore[no-any-return]

    weights, objectives = [], []
    for y, s in zip(kspace.numpy(), maps.numpy(), strict=True):

        def forward(x: np.ndarray, s: np.ndarray = s) -> np.ndarray:
            return mask * fft(s * x[top : top + h, left : left + w])  # type: ignore[no-any-return]

        def adjoint(r: np.ndarray, s: np.ndarray = s) -> np.ndarray:
            out = np.zeros(big, complex)
            out[top : top + h, left : left + w] = (s.conj() * ifft(mask * r)).sum(0)
            return out

        start, slices = analyse(adjoint(y))
        lam = relative * np.abs(start).max()
        c, z, t = np.zeros_like(start), np.zeros_like(start), 1.0
        best = np.inf
        for _ in range(iterations):
            v = z + analyse(adjoint(y - forward(synthesise(z, slices))))[0]
            magnitude = np.maximum(np.abs(v), 1e-300)
            new = v * np.maximum(1 - lam / magnitude, 0)
            t_new = (1 + np.sqrt(1 + 4 * t * t)) / 2
            z, c, t = new + (t - 1) / t_new * (new - c), new, t_new
            residual = y - forward(synthesise(c, slices))
            best = min(best, 0.5 * np.vdot(residual, residual).real + lam * np.abs(c).sum())
        weights.append(float(lam))
        objectives.append(float(best))
    return weights, objectives


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize(
    ("shape", "wavelet", "levels"), [(SHAPES[0], "db4", 2), (SHAPES[1], "db4", 2), (SHAPES[2], "db2", 1)]
)
def test_objective_equals_a_float64_reference(
    shape: tuple[int, ...], wavelet: str, levels: int, dtype: torch.dtype
) -> None:
    kspace, mask, maps, _ = _scan(shape, noise=0.05)
    weights, reference = _reference_objective(kspace, mask.lines, maps, 0.02, wavelet, levels, 300)
    _, info = cs_wavelet(
        kspace.to(dtype),
        mask,
        maps,
        prior="orthonormal",
        wavelet=wavelet,
        levels=levels,
        reg_weight=2.0,
        sigma=torch.tensor(weights) / 2,
        gap_tol=2e-5,
        max_iters=1500,
    )
    assert info["stop"] == "gap"
    for ours, theirs in zip(info["per_slice"]["objective"], reference, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert info["objective"] == pytest.approx(sum(reference), rel=1e-4)


def test_cs_wavelet_beats_zero_filled_and_says_what_it_did() -> None:
    kspace, mask, maps, truth = _scan((2, 3, 63, 72))
    image, info = cs_wavelet(
        kspace.to(torch.complex64), mask, maps, prior="orthonormal", reg_weight=1.0, gap_tol=1e-3, max_iters=1000
    )
    zero, _ = zero_filled(kspace, mask, maps)
    assert psnr(image, truth.abs()) > psnr(zero, truth.abs()) + 3
    assert info["stop"] == "gap"
    assert info["relative_gap"] <= 1e-3
    assert info["wavelet"] == "db4"
    assert info["levels"] == 3
    assert info["padded_size"] == [64, 72]
    assert info["reg_weight"] == 1.0
    assert info["reg_weight_unit"] == "sigma"
    # The phantom's edges reach the outer samples: an upper bound.
    assert 0.01 <= info["sigma"] <= 0.1
    assert info["sigma_source"] == "outer samples"
    assert (info["prior"], info["phase"]) == ("orthonormal", "none")
    assert info["seconds"] > 0
    assert {len(values) for values in info["per_slice"].values()} == {2}


def test_the_iteration_limit_is_reported() -> None:
    kspace, mask, _, _ = _scan(SHAPES[0])
    _, info = cs_wavelet(kspace, mask, gap_tol=0, max_iters=3)
    assert info["stop"] == "max_iters"
    assert info["iterations"] == 3


def test_the_final_step_restores_the_measured_samples_of_one_coil() -> None:
    kspace, mask, _, _ = _scan((2, 1, 33, 40))
    image, _ = cs_wavelet(kspace, mask)
    torch.testing.assert_close((fft2c(image) * mask.tensor())[:, None], kspace)
    plain, _ = cs_wavelet(kspace, mask, final_step=False)
    assert not torch.allclose(plain, image)
    assert float((fft2c(plain) * mask.tensor()[None] - kspace[:, 0]).norm()) > 1e-3


def test_slices_are_independent() -> None:
    kspace, mask, maps, _ = _scan((2, 3, 31, 36))
    both, info = cs_wavelet(kspace, mask, maps)
    for s in range(2):
        alone, single = cs_wavelet(kspace[s : s + 1], mask, maps[s])
        torch.testing.assert_close(alone[0], both[s])
        assert single["iterations"] == info["per_slice"]["iterations"][s]


def test_another_input_and_another_weight_give_another_image() -> None:
    kspace, mask, maps, _ = _scan(SHAPES[1])
    image, _ = cs_wavelet(kspace, mask, maps)
    assert not torch.allclose(cs_wavelet(kspace.flip(-2), mask, maps)[0], image)
    assert not torch.allclose(cs_wavelet(kspace, mask, maps, reg_weight=3.0)[0], image)
    assert not torch.allclose(cs_wavelet(kspace, mask, maps, sigma=1.0)[0], image)
    assert not torch.allclose(cs_wavelet(kspace, mask, maps, wavelet="db2")[0], image)
    assert not torch.allclose(cs_wavelet(kspace, mask, maps, phase="none")[0], image)
    images = [cs_wavelet(kspace, mask, maps, prior=prior)[0] for prior in PRIORS]
    for index, one in enumerate(images):
        for other in images[:index]:
            assert not torch.allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("maps", ["espirit", "center"])
@pytest.mark.parametrize("name", ["cg-sense", "cs-wavelet"])
def test_maps_come_from_the_centre_where_none_are_given(name: str, maps: str) -> None:
    kspace, mask, _, truth = _scan((1, 4, 63, 72), lines=11)
    image, info = METHODS[name](kspace, mask, maps=maps)
    zero, _ = zero_filled(kspace, mask)
    assert nmse(image, truth.abs()) < nmse(zero, truth.abs())
    assert info["maps"] == maps


@pytest.mark.parametrize("name", ["cg-sense", "cs-wavelet"])
def test_the_estimated_maps_are_those_of_the_named_rule(name: str) -> None:
    kspace, mask, _, _ = _scan((2, 4, 41, 48), lines=11)
    method = METHODS[name]
    center, info = method(kspace, mask, sens_maps_from_center(kspace, mask))
    assert info["maps"] == "given"
    torch.testing.assert_close(method(kspace, mask, maps="center")[0], center)
    found = espirit_maps(kspace, mask).maps[:, 0]
    espirit, _ = method(kspace, mask, found)
    torch.testing.assert_close(method(kspace, mask)[0], espirit * rss(found))
    assert not torch.allclose(espirit, center)
    assert method(kspace[:, :1], mask)[1]["maps"] == "one coil"
    for unknown in ("bart", "given"):
        with pytest.raises(MethodError, match=f"maps to be one of espirit, center, got '{unknown}'"):
            method(kspace, mask, maps=unknown)


@pytest.mark.parametrize(
    ("name", "options"), [("cg-sense", {}), ("cs-wavelet", {}), ("cs-wavelet", {"final_step": False})]
)
def test_the_image_is_zero_where_no_coil_sees_anything(name: str, options: dict[str, Any]) -> None:
    kspace, mask, _, truth = _scan((1, 4, 64, 72), noise=0.003, lines=12)
    image, _ = METHODS[name](kspace, mask, **options)
    found = espirit_maps(kspace, mask).maps[:, 0]
    outside = rss(found) == 0
    assert float(outside.double().mean()) > 0.01  # corners of the phantom
    assert not bool(image[outside].any())
    assert nmse(image, truth.abs()) < nmse(zero_filled(kspace, mask)[0], truth.abs())
    # Given maps: as they are, and 0 where they are 0, whatever they add up to elsewhere.
    half = 2 * found * (torch.arange(72) >= 36)
    image, _ = METHODS[name](kspace, mask, half, **options)
    assert not bool(image[..., :36].any())
    assert bool(torch.isfinite(image.abs()).all())
    assert bool(image[..., 36:].any())


def test_fading_maps_do_not_brighten_the_rim() -> None:
    """Of full k-space without a penalty, the image is the coils' own, whatever the weight of the maps."""
    kspace, _, _, _ = _scan((1, 4, 64, 72), noise=0.02)
    kspace = fft2c(smooth_maps(4, 64, 72) * phantom(64, 72)) + 0.02 * complex_randn(1, 4, 64, 72)
    full = torch.ones(72, dtype=torch.bool)
    image, _ = cg_sense(kspace, full, reg_weight=0.0, tol=1e-10, max_iters=200)
    coil_images = ifft2c(kspace)
    assert bool((image.abs() <= rss(coil_images) * (1 + 1e-3)).all())
    inside = phantom(64, 72).abs()[None] > 0
    torch.testing.assert_close(image.abs()[inside], rss(coil_images)[inside], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", ["cg-sense", "cs-wavelet"])
def test_a_centre_too_narrow_for_espirit(name: str) -> None:
    kspace, mask, _, _ = _scan((1, 4, 31, 36), lines=1)
    lines = mask.tensor().clone()
    lines[[17, 19]] = False  # the drawn lines may touch the centre
    kspace = kspace * lines
    with pytest.raises(MaskError, match=r"at least 2 x 2 samples.*center_fraction or num_low_frequencies.*sens_maps"):
        METHODS[name](kspace, lines)
    image, info = METHODS[name](kspace, lines, maps="center")
    assert info["maps"] == "center"
    assert bool(torch.isfinite(image.abs()).all())
    lines[18] = False
    for maps in ("espirit", "center"):
        with pytest.raises(MaskError, match=r"fully sampled centre.*center_fraction.*or pass sens_maps"):
            METHODS[name](kspace * lines, lines, maps=maps)


@pytest.mark.parametrize("name", ["cg-sense", "cs-wavelet"])
def test_more_coils_than_lines(name: str) -> None:
    image = phantom(31, 36)
    kspace = fft2c(smooth_maps(24, 31, 36) * image)[None] + 0.003 * complex_randn(1, 24, 31, 36)
    mask = random_mask(36, 3, num_low_frequencies=6, seed=1)
    assert mask.num_lines < 24
    kspace = kspace * mask.tensor()
    found, _ = METHODS[name](kspace, mask)
    assert nmse(found, image.abs()[None]) < nmse(zero_filled(kspace, mask)[0], image.abs()[None])


def test_a_slice_in_whose_centre_no_coils_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(kspace: Tensor, mask: Any, **options: Any) -> EspiritMaps:
        return EspiritMaps(torch.zeros_like(kspace)[:, None], kspace.real[:, :1], (2, 2), (5, 5))

    monkeypatch.setattr(sensitivity_maps, "espirit_maps", nothing)
    kspace, mask, _, _ = _scan((2, 3, 31, 36))
    with pytest.raises(FormatError, match=r'slices \[0, 1\]: leave them out, or give maps="center" or sens_maps'):
        cg_sense(kspace, mask)


@pytest.mark.parametrize("name", METHODS)
def test_a_general_pattern_and_a_full_mask(name: str) -> None:
    kspace, _, maps, truth = _scan((1, 3, 31, 36))
    full = fft2c(maps * truth[:, None])
    pattern = np.random.default_rng(0).random((31, 36)) < 0.5
    pattern[12:20, 14:23] = True
    image, _ = METHODS[name](undersample(full, pattern).to(full.dtype), as_mask(pattern, full.shape), maps)
    assert bool(torch.isfinite(image.abs()).all())
    options = {"reg_weight": 1e-6} if name != "zero-filled" else {}
    complete, _ = METHODS[name](full, torch.ones(36, dtype=torch.bool), maps, **options)
    torch.testing.assert_close(complete, truth, rtol=1e-3, atol=1e-3)
    assert kspace.shape == full.shape


@pytest.mark.parametrize("name", METHODS)
def test_bad_input_is_an_error_never_an_image(name: str) -> None:
    method = METHODS[name]
    kspace, mask, maps, _ = _scan(SHAPES[1])
    cases: list[tuple[type[MriReconError], str, Tensor, Any, Any]] = [
        (ShapeError, r"kspace\[None, None\]", kspace[0], mask, None),
        (ShapeError, "expected complex k-space", kspace.real, mask, None),
        (FormatError, "not-a-number", kspace * float("nan"), mask, None),
        (FormatError, "not-a-number", kspace * float("inf"), mask, None),
        (FormatError, r"only zeros in slices \[0, 1\]", torch.zeros_like(kspace), mask, None),
        (MaskError, "35", kspace, torch.ones(35, dtype=torch.bool), None),
        (ShapeError, "give one map a coil", kspace, mask, maps[:, :2]),
        (FormatError, "estimate them again", kspace, mask, torch.zeros_like(maps)),
        (FormatError, "estimate them again", kspace, mask, maps * float("nan")),
    ]
    for error, message, k, m, s in cases:
        with pytest.raises(error, match=message):
            method(k, m, s)


def test_one_empty_slice_is_named() -> None:
    kspace, mask, maps, _ = _scan(SHAPES[1])
    kspace[1] = 0
    with pytest.raises(FormatError, match=r"slices \[1\]: leave them out"):
        cs_wavelet(kspace, mask, maps)


def test_options_out_of_range() -> None:
    kspace, mask, maps, _ = _scan(SHAPES[1])
    for weight in (0, -0.1, float("nan"), float("inf"), "best", True):
        with pytest.raises(MethodError, match=r'number > 0 and <= 1e\+06 or "auto", got .*in units of the noise'):
            cs_wavelet(kspace, mask, maps, reg_weight=weight)  # type: ignore[arg-type]
    for prior in ("stationary", "orthonormal", "stationary-synthesis", "cycle-spinning"):
        with pytest.raises(MethodError, match="orthogonal wavelet"):
            cs_wavelet(kspace, mask, maps, prior=prior, wavelet="bior2.2")
    with pytest.raises(MethodError, match="prior to be one of stationary, orthonormal.*got 'wavelets'"):
        cs_wavelet(kspace, mask, maps, prior="wavelets")
    with pytest.raises(MethodError, match="phase to be one of auto, center, none, got 'zero'"):
        cs_wavelet(kspace, mask, maps, phase="zero")
    with pytest.raises(MethodError, match="no wavelet and no levels for prior 'tv'"):
        cs_wavelet(kspace, mask, maps, prior="tv", levels=2)
    for sigma in (0.0, -1.0, float("nan"), float("inf"), torch.ones(3)):
        with pytest.raises(MethodError, match=r"sigma as one positive, finite number or one for each slice \(2,\)"):
            cs_wavelet(kspace, mask, maps, sigma=sigma)
    for options, expected in (
        ({"gap_tol": -1.0}, r"expected gap_tol >= 0 and <= 1e\+38, got -1"),
        ({"max_iters": 0}, r"expected max_iters .*>= 1.*, got 0"),
        ({"max_iters": 2.5}, r"expected max_iters .*, got 2.5"),
    ):
        with pytest.raises(MethodError, match=expected):
            cs_wavelet(kspace, mask, maps, **options)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=r"expected wavelet levels between 1 and \d+ for an image of"):
        cs_wavelet(kspace, mask, maps, levels=0)
    with pytest.raises(MethodError, match="reg_weight >= 0"):
        cg_sense(kspace, mask, maps, reg_weight=-1.0)
    with pytest.raises(FormatError, match="samples on the mask"):
        cs_wavelet(kspace, ~mask.tensor(), maps, sigma=1.0, phase="none")
    with pytest.raises(MaskError):
        # No dense centre to take maps from.
        cs_wavelet(kspace, torch.zeros(36, dtype=torch.bool))


@pytest.mark.real_data
def test_real_scan_gains_on_zero_filled(real_data: Path) -> None:
    from mri_recon.io import load

    scan = load(real_data / "raw/brain-0.055T/Fig6B__0.055T_GRE_kspace_postEMI.mat")
    kspace = scan.kspace[1:2]
    target = rss(ifft2c(kspace))
    mask = random_mask(scan.width, 4, seed=0, support=scan.support)
    masked = undersample(kspace, mask)
    image, info = cs_wavelet(masked, mask)
    assert info["reg_weight"] == PRIORS["stationary"].default_weight(1)
    assert info["stop"] == "gap"
    assert psnr(image, target) > psnr(zero_filled(masked, mask)[0], target) + 3


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_prior_gains_on_zero_filled_and_says_what_it_did(prior: str, shape: tuple[int, ...]) -> None:
    kspace, mask, maps, truth = _scan(shape)
    image, info = cs_wavelet(kspace.to(torch.complex64), mask, maps, prior=prior, sigma=0.01)
    # Small phantoms of one coil leave the orthonormal wavelets little: no worse than a little.
    allowed = 1.2 if shape[1] == 1 and prior in ("orthonormal", "cycle-spinning") else 0.9
    assert nmse(image, truth.abs()) < allowed * nmse(zero_filled(kspace, mask, maps)[0], truth.abs())
    assert info["prior"] == prior
    assert info["reg_weight"] == PRIORS[prior].default_weight(shape[1])
    assert info["sigma"] == 0.01
    assert info["sigma_source"] == "given"
    assert info["phase"] == ("none" if prior in ("orthonormal", "cycle-spinning") else "center")
    certified = prior in ("orthonormal", "stationary-synthesis")
    assert (info["relative_gap"] is None) != certified
    assert certified != ("gap_reason" in info)
    assert (info["objective"] is None) == (prior == "cycle-spinning")
    assert (info["wavelet"] is None) == (prior == "tv")
    assert json.loads(json.dumps(info)) == info


def test_the_gap_of_the_default_prior_bounds_its_suboptimality() -> None:
    kspace, mask, _, _ = _scan((2, 1, 33, 40), noise=0.05)
    options: dict[str, Any] = {"sigma": 0.05, "reg_weight": 0.3}
    _, info = cs_wavelet(kspace, mask, gap_tol=1e-2, **options)
    _, best = cs_wavelet(kspace, mask, gap_tol=1e-4, max_iters=20000, **options)
    assert info["relative_gap"] < 0.1
    assert best["relative_gap"] < 0.02
    for slice_ in range(2):
        excess = info["per_slice"]["objective"][slice_] / best["per_slice"]["objective"][slice_] - 1
        assert -best["relative_gap"] <= excess <= info["per_slice"]["relative_gap"][slice_]


@pytest.mark.parametrize("prior", ["stationary", "orthonormal"])
def test_column_masks_agree_with_the_same_mask_in_two_dimensions(prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_LEAST_CHANGE", "_MOST_CHANGE"):
        monkeypatch.setattr(f"mri_recon.methods.priors.{limit}", 0.0)
    shape = (1, 3, 32, 36)
    kspace, mask, maps, _ = _scan(shape)
    options: dict[str, Any] = {"prior": prior, "sigma": 0.01, "reg_weight": 0.5, "gap_tol": 0, "max_iters": 100}
    rows, _ = cs_wavelet(kspace.to(torch.complex64), mask, maps, phase="none", **options)
    kspace = kspace.to(torch.complex64)
    forward = SenseOperator(mask.tensor().repeat(32, 1), maps.to(torch.complex64))
    columns, _ = _solve_in_two_dimensions(kspace, forward, prior, options)
    # ADMM's inner solves are not exact, and are preconditioned row by row in one case and for the plane in the other.
    accuracy = 2e-3 if prior == "stationary" else 1e-5
    assert float((rows - columns).abs().max()) < accuracy * float(columns.abs().max())


def _solve_in_two_dimensions(
    kspace: Tensor, operator: SenseOperator, prior: str, options: dict[str, Any]
) -> tuple[Tensor, Any]:
    chosen = choose_prior(prior, phase="none", wavelet=None, levels=None, size=operator.kspace_size)
    operator = operator.with_maps(operator.sens_maps, chosen.size)
    data = SenseDataTerm(operator, kspace)
    weight = options["sigma"] * options["reg_weight"] / data.scale.double()
    found = chosen.minimise(Problem(data, weight, options["gap_tol"], options["max_iters"]))
    unknown = found.image + data.gradient(found.image) / data.norm_bound
    return operator.crop(unknown) * data.scale[:, None, None], found


@pytest.mark.parametrize("levels", [-1, 0, 12, 2.0])
def test_levels_that_no_image_has(levels: int) -> None:
    kspace, mask, maps, _ = _scan(SHAPES[1])
    with pytest.raises(MethodError, match=r"expected wavelet levels between 1 and \d+ for an image of"):
        cs_wavelet(kspace, mask, maps, levels=levels)


def test_a_mask_without_a_centre_has_no_phase_to_take_out() -> None:
    kspace, _, _, _ = _scan(SHAPES[0])
    lines = torch.zeros(40, dtype=torch.bool)
    lines[::3] = True
    lines[20] = False
    image, info = cs_wavelet(kspace * lines, lines)
    assert info["phase"] == "none"
    assert bool(image.any())
    with pytest.raises(MaskError, match="fully sampled centre"):
        cs_wavelet(kspace * lines, lines, phase="center")


def test_a_column_seen_by_one_coil_alone_is_not_lost_to_the_virtual_coils() -> None:
    maps = smooth_maps(8, 64, 64)
    maps[:, :, 21] = 0
    maps[7, :, 21] = 1
    image = phantom(64, 64)
    mask = random_mask(64, 2, seed=0)
    kspace = (fft2c(maps * image)[None] * mask.tensor()).to(torch.complex64)
    found, info = cs_wavelet(kspace, mask, maps, prior="orthonormal", sigma=1e-2, reg_weight=1.0)
    assert info["relative_gap"] < 0.05
    assert nmse(found, image.abs()[None]) < 0.05


# Total variation at 1e-8 would unfold the rounding of the samples themselves.
@pytest.mark.parametrize(
    ("prior", "weight"), [("stationary", 1e-4), ("stationary", 1e-6), ("stationary", 1e-8), ("tv", 1e-4), ("tv", 1e-6)]
)
def test_a_small_weight_in_single_precision_is_that_of_double_precision(prior: str, weight: float) -> None:
    kspace, mask, _, _ = _scan((1, 1, 33, 40))
    options: dict[str, Any] = {"prior": prior, "sigma": 0.01, "reg_weight": weight, "max_iters": 60}
    double, exact = cs_wavelet(kspace, mask, **options)
    single, info = cs_wavelet(kspace.to(torch.complex64), mask, **options)
    assert single.dtype == torch.complex64
    assert float((single - double).abs().max()) < 0.02 * float(double.abs().max())
    assert info["objective"] == pytest.approx(exact["objective"], rel=0.05)
    assert info["objective"] > 0


def test_an_image_that_is_not_finite_is_an_error() -> None:
    kspace, mask, maps, _ = _scan(SHAPES[1])
    kspace = kspace.to(torch.complex64)
    with pytest.raises(MethodError, match=r"expected reg_weight .*> 0 and <= 1e\+06.*got 1e\+300"):
        cs_wavelet(kspace, mask, maps, sigma=0.01, reg_weight=1e300)
    with pytest.raises(MethodError, match="expected a finite image"):
        cs_wavelet(kspace, mask, maps, sigma=1e300, reg_weight=1.0)
    for factor in (1e-25, 1e18):
        for method in (cg_sense, cs_wavelet):
            with pytest.raises(FormatError, match="between 1e-6 and 1e6"):
                method(kspace, mask, maps * factor)  # type: ignore[operator]


def test_maps_of_different_size_do_not_mix_slices() -> None:
    kspace, mask, maps, _ = _scan((2, 3, 31, 36))
    sized = maps * torch.tensor([1.0, 10.0])[:, None, None, None]
    for method, options in ((cg_sense, {"tol": 1e-8, "max_iters": 200}), (cs_wavelet, {"sigma": 0.01})):
        both, _ = method(kspace, mask, sized, **options)  # type: ignore[operator]
        alone, _ = method(kspace[:1], mask, sized[0], **options)  # type: ignore[operator]
        torch.testing.assert_close(both[:1], alone, rtol=1e-4, atol=1e-4)


def test_options_of_the_wrong_type() -> None:
    kspace, mask, maps, _ = _scan(SHAPES[1])
    for options, message in (
        ({"sigma": "a"}, "sigma as one positive"),
        ({"sigma": True}, "sigma as one positive"),
        ({"gap_tol": "a"}, "gap_tol >= 0"),
    ):
        with pytest.raises(MethodError, match=message):
            cs_wavelet(kspace, mask, maps, **options)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match="reg_weight >= 0"):
        cg_sense(kspace, mask, maps, reg_weight="a")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("coils", "sigma", "weight"),
    [(8, 0.002, 0.05), (8, 0.02, 0.05), (4, 0.1, 0.05), (1, 0.02, 0.05), (8, 0.02, 0.01), (8, 0.1, 0.2)],
)
def test_the_default_stops_within_a_thousandth_of_the_least_objective(
    coils: int, sigma: float, weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    kspace, mask, maps, _ = _scan((1, coils, 40, 37))
    options: dict[str, Any] = {"sigma": sigma, "reg_weight": weight}
    image, info = cs_wavelet(kspace, mask, maps, **options)
    for limit in ("_LEAST_CHANGE", "_MOST_CHANGE"):
        monkeypatch.setattr(f"mri_recon.methods.priors.{limit}", 0.0)
    monkeypatch.setattr("mri_recon.methods.priors._ADMM_TOLERANCE", 1e-6)
    best_image, best = cs_wavelet(kspace, mask, maps, **options, gap_tol=0, max_iters=5000)
    assert info["iterations"] < best["iterations"]
    assert -1e-6 < info["objective"] / best["objective"] - 1 < 1e-3
    assert float((image - best_image).norm()) < 0.02 * float(best_image.norm())
