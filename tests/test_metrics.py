"""Metrics against scikit-image, closed forms and the convention they state."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import structural_similarity

from mri_recon.errors import FormatError, ShapeError
from mri_recon.metrics import CONVENTION, FOREGROUND_RULE, Metrics, evaluate, foreground, nmse, per_slice, psnr, ssim


def volumes(shape: tuple[int, ...] = (3, 11, 14), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.random(shape) + 0.1
    return target + 0.1 * rng.standard_normal(shape), target


def disc(n_slices: int = 2, h: int = 31, w: int = 40) -> np.ndarray:
    """A bright head with a dark hole, in dark air."""
    y, x = np.mgrid[:h, :w]
    radius = np.hypot(y - h // 2, x - w // 2)
    return np.stack([np.where(radius < 10, 1.0, 0.0) * np.where(radius < 3, 0.01, 1.0)] * n_slices)


@pytest.mark.parametrize("shape", [(1, 7, 9), (3, 11, 14), (2, 25, 7)])
def test_ssim_is_scikit_image_slice_by_slice(shape: tuple[int, ...]) -> None:
    image, target = volumes(shape)
    image = np.abs(image)
    expected = [
        structural_similarity(t, x, win_size=7, data_range=target.max()) for x, t in zip(image, target, strict=True)
    ]
    assert per_slice(image, target)["ssim"] == pytest.approx(expected, abs=1e-10)
    assert ssim(image, target) == pytest.approx(np.mean(expected), abs=1e-10)
    assert evaluate(image, target).ssim == pytest.approx(np.mean(expected), abs=1e-10)


def test_max_value_sets_the_data_range() -> None:
    image, target = (np.abs(v) for v in volumes())
    expected = [structural_similarity(t, x, win_size=7, data_range=3.0) for x, t in zip(image, target, strict=True)]
    assert ssim(image, target, max_value=3.0) == pytest.approx(np.mean(expected), abs=1e-10)
    assert psnr(image, target, max_value=3.0) == pytest.approx(10 * math.log10(9 / np.mean((image - target) ** 2)))


@pytest.mark.parametrize("gain", [0.5, 0.9, 1.25])
def test_a_wrong_gain_has_a_closed_form(gain: float) -> None:
    _, target = volumes()
    assert nmse(gain * target, target) == pytest.approx((1 - gain) ** 2)
    expected = 10 * math.log10(target.max() ** 2 / ((1 - gain) ** 2 * np.mean(target**2)))
    assert psnr(gain * target, target) == pytest.approx(expected)


def test_zeros_and_perfection() -> None:
    _, target = volumes()
    assert nmse(np.zeros_like(target), target) == 1
    perfect = evaluate(target, target)
    assert (perfect.nmse, perfect.psnr, perfect.ssim) == (0, math.inf, pytest.approx(1))


def test_a_constant_offset_of_flat_images_has_a_closed_form_ssim() -> None:
    target, image = np.full((1, 9, 9), 1.0), np.full((1, 9, 9), 0.5)
    c1 = 0.01**2
    assert ssim(image, target) == pytest.approx((2 * 0.5 + c1) / (0.25 + 1 + c1))


def test_slice_means_are_the_volume_for_ssim_only() -> None:
    image, target = volumes()
    target[0] *= 0.1
    by_slice = per_slice(image, target)
    assert ssim(image, target) == pytest.approx(np.mean(by_slice["ssim"]))
    assert nmse(image, target) != pytest.approx(np.mean(by_slice["nmse"]), rel=1e-3)
    error = np.mean((np.abs(image[0]) - target[0]) ** 2)
    assert by_slice["psnr"][0] == pytest.approx(10 * math.log10(target.max() ** 2 / error))
    assert by_slice["nmse"][2] == pytest.approx(np.sum((np.abs(image[2]) - target[2]) ** 2) / np.sum(target[2] ** 2))


def test_an_empty_reference_slice_has_no_nmse_and_spoils_nothing_else() -> None:
    image, target = volumes()
    target[1] = 0
    by_slice = per_slice(image, target)
    assert math.isnan(by_slice["nmse"][1])
    assert all(
        math.isfinite(v) for v in (*by_slice["psnr"], *by_slice["ssim"], *evaluate(image, target).as_dict().values())
    )


def test_magnitudes_are_taken() -> None:
    image, target = volumes()
    phase = np.exp(1j * np.linspace(0, 6, image.size)).reshape(image.shape)
    assert nmse(image, target * phase) == pytest.approx(nmse(np.abs(image), target))
    assert evaluate(np.abs(image) * phase, target).psnr == pytest.approx(evaluate(np.abs(image), target).psnr)


@given(seed=st.integers(0, 1000), exponent=st.integers(-12, 12))
@settings(max_examples=15, deadline=None)
def test_units_do_not_matter(seed: int, exponent: int) -> None:
    image, target = volumes((2, 9, 8), seed)
    scale = 10.0**exponent
    one, other = evaluate(image, target), evaluate(scale * image, scale * target)
    assert other.as_dict() == pytest.approx(one.as_dict(), rel=1e-9)


def test_single_precision_neither_overflows_nor_changes_the_numbers() -> None:
    image, target = volumes()
    large = evaluate((image * 1e25).astype(np.float32), (target * 1e25).astype(np.float32))
    assert large.as_dict() == pytest.approx(evaluate(image, target).as_dict(), rel=1e-4)


def test_tensors_and_arrays_give_the_same() -> None:
    image, target = volumes()
    tensors = evaluate(torch.tensor(image, requires_grad=True), torch.tensor(target))
    assert tensors == evaluate(image, target)


def test_two_axes_are_one_slice() -> None:
    image, target = volumes((1, 9, 12))
    assert evaluate(image[0], target[0]) == evaluate(image, target)


@pytest.mark.parametrize(("size", "larger"), [((9, 12), (14, 15)), ((8, 11), (9, 12)), ((9, 8), (10, 13))])
def test_larger_images_are_cropped_centre_to_centre(size: tuple[int, int], larger: tuple[int, int]) -> None:
    image, target = volumes((2, *size))
    padded = np.full((2, *larger), 7.0)
    top, left = (big // 2 - small // 2 for big, small in zip(larger, size, strict=True))
    padded[:, top : top + size[0], left : left + size[1]] = image
    assert evaluate(padded, target) == evaluate(image, target)


def test_the_foreground_is_the_filled_head_and_comes_from_the_reference() -> None:
    target = disc()
    found = foreground(target)
    smooth = ndimage.uniform_filter(target, (0, 3, 3))
    np.testing.assert_array_equal(found[0], ndimage.binary_fill_holes(smooth[0] > 0.2))
    assert found[:, 15, 20].all()  # the hole in the middle
    assert not found[:, 0, 0].any()
    np.testing.assert_array_equal(foreground(1e6 * target), found)


def test_masking_the_background_ignores_errors_in_the_air_only() -> None:
    target = disc()
    rng = np.random.default_rng(0)
    air = ~ndimage.binary_dilation(foreground(target), iterations=7)
    in_air = target + 0.3 * rng.random(target.shape) * air
    masked = evaluate(in_air, target, mask_background=True)
    assert (masked.nmse, masked.psnr, masked.ssim) == (0, math.inf, pytest.approx(1))
    assert evaluate(in_air, target).ssim < 0.9
    assert masked.convention == f"{CONVENTION} {FOREGROUND_RULE}"


def test_masked_numbers_count_the_foreground_pixels() -> None:
    target = disc()
    image = target + 0.1 * np.random.default_rng(1).random(target.shape)
    head = foreground(target)
    error = (image - target)[head]
    masked = evaluate(image, target, mask_background=True)
    assert masked.nmse == pytest.approx(np.sum(error**2) / np.sum(target[head] ** 2))
    assert masked.psnr == pytest.approx(10 * math.log10(1 / np.mean(error**2)))
    maps = [
        structural_similarity(t, x, win_size=7, data_range=1.0, full=True)[1]
        for x, t in zip(image, target, strict=True)
    ]
    assert masked.ssim == pytest.approx(np.mean([m[h].mean() for m, h in zip(maps, head, strict=True)]))


def test_slices_without_foreground_do_not_count_in_the_masked_ssim() -> None:
    target = disc(3)
    target[1] = 0
    image = target + 0.05 * np.random.default_rng(1).random(target.shape)
    both = evaluate(image[[0, 2]], target[[0, 2]], mask_background=True)
    assert evaluate(image, target, mask_background=True).ssim == pytest.approx(both.ssim)


def test_the_record() -> None:
    image, target = volumes()
    found = evaluate(image, target)
    assert list(found.as_dict()) == ["nmse", "psnr", "ssim"]
    json.dumps(found.as_dict())
    assert found.convention == CONVENTION
    assert str(Metrics(0.01234, 30.126, 0.98765)) == "NMSE 0.0123, PSNR 30.13 dB, SSIM 0.9877"
    assert (nmse(image, target), psnr(image, target), ssim(image, target)) == (found.nmse, found.psnr, found.ssim)


@pytest.mark.parametrize(
    ("image", "target", "error", "message"),
    [
        (np.ones((2, 8, 8)), np.ones((3, 8, 8)), ShapeError, r"as many slices .* got \(2, 8, 8\) and \(3, 8, 8\)"),
        (np.ones((8, 8)), np.ones((1, 8, 8)), ShapeError, "compare the same slices"),
        (
            np.ones((1, 8, 7)),
            np.ones((1, 8, 8)),
            ShapeError,
            r"at least as large as the reference \(8, 8\), got \(8, 7\)",
        ),
        (np.ones((1, 4, 8, 8)), np.ones((1, 8, 8)), ShapeError, r"image as \(slice, h, w\).*combine the coils first"),
        (np.ones((1, 8, 8)), np.ones((0, 8, 8)), ShapeError, r"target as \(slice, h, w\)"),
        (
            np.ones((1, 8, 6)),
            np.ones((1, 8, 6)),
            ShapeError,
            r"sides of at least 7, .* got \(8, 6\): use nmse and psnr",
        ),
        (np.full((1, 8, 8), np.nan), np.ones((1, 8, 8)), FormatError, "image to be finite"),
        (np.ones((1, 8, 8)), np.full((1, 8, 8), np.inf), FormatError, "target to be finite"),
        (np.ones((1, 8, 8)), np.zeros((1, 8, 8)), FormatError, "zero everywhere: check the target"),
    ],
)
def test_errors(image: np.ndarray, target: np.ndarray, error: type[Exception], message: str) -> None:
    for call in (evaluate, per_slice):
        with pytest.raises(error, match=message):
            call(image, target)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_max_value_must_be_positive(value: float) -> None:
    image, target = volumes()
    with pytest.raises(FormatError, match="max_value as a positive number"):
        psnr(image, target, max_value=value)


def test_a_reference_whose_foreground_touches_the_border_only() -> None:
    target = np.zeros((1, 9, 9))
    target[0, 0, 0] = 1
    with pytest.raises(FormatError, match=r"foreground away from the border.*mask_background=False"):
        evaluate(target, target, mask_background=True)
