"""Commit data crimes on complete k-space, one function each: `(slice, coil, readout, phase)` in and out, NumPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon._arrays import center_crop
from mri_recon.transforms.array_fourier import fft_of_array, ifft_of_array

__all__ = ["CASES", "HARMLESS", "Crime"]

KSpace = npt.NDArray[np.complex64]
Crime = Callable[[KSpace], KSpace]

_PLANE = (-2, -1)


def images(kspace: KSpace) -> npt.NDArray[Any]:
    """Transform k-space to complex images."""
    return ifft_of_array(kspace, _PLANE)


def kspace_of(image: npt.NDArray[Any]) -> KSpace:
    """Transform images to k-space in single precision, as after a file in between."""
    return fft_of_array(image.astype(np.complex64), _PLANE).astype(np.complex64)


def padded(array: npt.NDArray[Any], factor: float, axes: tuple[int, ...] = _PLANE) -> npt.NDArray[Any]:
    """Put zeros around the centre, N//2, of the last two axes."""
    shape = [round(n * factor) if axis in axes else n for axis, n in zip(_PLANE, array.shape[-2:], strict=True)]
    out = np.zeros((*array.shape[:-2], *shape), array.dtype)
    starts = [new // 2 - old // 2 for new, old in zip(shape, array.shape[-2:], strict=True)]
    out[..., starts[0] : starts[0] + array.shape[-2], starts[1] : starts[1] + array.shape[-1]] = array
    return out


def zero_padded(kspace: KSpace, factor: float) -> KSpace:
    """Interpolate the image by zeros around k-space."""
    return padded(kspace, factor)


def zero_padded_saved_as_image(kspace: KSpace, factor: float) -> KSpace:
    """Interpolate, save the complex image, and transform it back: the edges are small, not zero."""
    return kspace_of(images(padded(kspace, factor)))


def rss_of(kspace: KSpace) -> npt.NDArray[Any]:
    """Compute the root-sum-of-squares image, one coil."""
    return np.sqrt((np.abs(images(kspace)) ** 2).sum(axis=1, keepdims=True))


def magnitude(kspace: KSpace, factor: float = 1.0) -> KSpace:
    """Transform the magnitude image, interpolated by `factor` before."""
    return kspace_of(rss_of(padded(kspace, factor)))


def magnitude_with_phase(kspace: KSpace) -> KSpace:
    """Transform the magnitude image behind a made-up smooth phase."""
    height, width = kspace.shape[-2:]
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    return kspace_of(rss_of(kspace) * np.exp(1j * (1.5 * y - x + 2 * y * x + x**2)))


def mirrored(kspace: KSpace, fraction: float) -> KSpace:
    """Replace the first columns by the conjugates of the last: partial Fourier, completed by symmetry."""
    width = kspace.shape[-1]
    out = kspace.copy()
    first = round(width * (1 - fraction))
    at = np.arange(1, first) if width % 2 == 0 else np.arange(first)
    flipped = np.conj(kspace[..., ::-1, :])
    if kspace.shape[-2] % 2 == 0:
        flipped = np.roll(flipped, 1, axis=-2)
    out[..., at] = flipped[..., (width - at) if width % 2 == 0 else (width - 1 - at)]
    return out


def filtered(kspace: KSpace, window: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> KSpace:
    """Multiply k-space by a window of the distance from the centre, 0 to 1, along both axes."""
    weights = [window(np.abs(np.arange(n) - n // 2) / (n / 2)) for n in kspace.shape[-2:]]
    return (kspace * np.outer(*weights)).astype(np.complex64)


def smoothed(kspace: KSpace) -> KSpace:
    """Smooth the image by a Gaussian with a standard deviation of one pixel."""
    return filtered(kspace, lambda distance: np.exp(-0.5 * (np.pi * distance) ** 2))


def combined_and_masked(kspace: KSpace) -> KSpace:
    """Combine the coils by their own images at low resolution, with phase, and set the background to zero."""
    lines = [np.hanning(n + 2)[1:-1] ** 8 for n in kspace.shape[-2:]]
    low = images(kspace * np.outer(*lines))
    norm = np.sqrt((np.abs(low) ** 2).sum(axis=1, keepdims=True))
    image = (images(kspace) * np.conj(low)).sum(axis=1, keepdims=True) / np.maximum(norm, 1e-12)
    return kspace_of(np.where(norm > 0.1 * norm.max(), image, 0))


def combined(kspace: KSpace) -> KSpace:
    """Combine the coils likewise and keep the background."""
    lines = [np.hanning(n + 2)[1:-1] ** 8 for n in kspace.shape[-2:]]
    low = images(kspace * np.outer(*lines))
    norm = np.sqrt((np.abs(low) ** 2).sum(axis=1, keepdims=True))
    return kspace_of((images(kspace) * np.conj(low)).sum(axis=1, keepdims=True) / np.maximum(norm, 1e-12))


def one_side(kspace: KSpace) -> KSpace:
    """Leave out the first quarter of the columns: partial Fourier, filled with zeros. No crime."""
    out = kspace.copy()
    out[..., : kspace.shape[-1] // 4] = 0
    return out


def elliptical(kspace: KSpace) -> KSpace:
    """Leave out the corners of k-space, as scanners do in three dimensions. No crime."""
    y, x = (np.abs(np.arange(n) - n // 2) / (n / 2) for n in kspace.shape[-2:])
    return np.where(y[:, None] ** 2 + x[None, :] ** 2 <= 1, kspace, 0).astype(np.complex64)


def kept_lines(kspace: KSpace, acceleration: int) -> npt.NDArray[np.bool_]:
    """Mark every R-th column and 8 % of them in the middle."""
    width = kspace.shape[-1]
    kept = np.arange(width) % acceleration == 0
    kept[width // 2 - width // 25 : width // 2 + width // 25] = True
    return kept


def zeroed(kspace: KSpace, acceleration: int) -> KSpace:
    """Set the other columns to zero."""
    return np.where(kept_lines(kspace, acceleration), kspace, 0).astype(np.complex64)


def zeroed_saved_as_image(kspace: KSpace, acceleration: int) -> KSpace:
    """Set the other columns to zero, save the complex coil images, and transform them back."""
    return kspace_of(images(zeroed(kspace, acceleration)))


def image_padded(kspace: KSpace, factor: float) -> KSpace:
    """Widen the field of view by zeros around the complex image: k-space on a finer grid."""
    return kspace_of(padded(images(kspace), factor))


def resampled(kspace: KSpace, factor: float) -> KSpace:
    """Interpolate k-space linearly along both axes, on a finer grid about the centre."""
    out: npt.NDArray[Any] = kspace
    for axis in _PLANE:
        old = out.shape[axis]
        new = round(old * factor)
        at = np.clip((np.arange(new) - new // 2) * old / new + old // 2, 0, old - 1)
        low = np.minimum(at.astype(int), old - 2)
        shape = [1] * out.ndim
        shape[axis] = new
        share = (at - low).reshape(shape)
        out = out.take(low, axis) * (1 - share) + out.take(low + 1, axis) * share
    return np.asarray(out, np.complex64)


def image_enlarged(kspace: KSpace, factor: float) -> KSpace:
    """Interpolate the complex image linearly on a finer grid, as viewers do."""
    return kspace_of(resampled(images(kspace).astype(np.complex64), factor))


def cropped(kspace: KSpace) -> KSpace:
    """Cut the readout's outer quarters off the image, as scanners do after oversampling. No crime."""
    size = (kspace.shape[-2] // 2, kspace.shape[-1])
    return kspace_of(center_crop(images(kspace), size))


CASES: dict[str, dict[str, Crime]] = {
    "zero-padded": {
        "zeros around k-space, matrix x 1.25": partial(zero_padded, factor=1.25),
        "x 2": partial(zero_padded, factor=2),
        "x 1.25, complex image saved": partial(zero_padded_saved_as_image, factor=1.25),
        "x 2, complex image saved": partial(zero_padded_saved_as_image, factor=2),
    },
    "conjugate-symmetric": {
        "magnitude image": magnitude,
        "magnitude image of a matrix x 1.5": partial(magnitude, factor=1.5),
        "6/8 of the columns, completed by symmetry": partial(mirrored, fraction=0.75),
        "7/8 of the columns, completed by symmetry": partial(mirrored, fraction=0.875),
    },
    "filtered": {
        "Hann": partial(filtered, window=lambda r: 0.5 + 0.5 * np.cos(np.pi * r)),
        "Hamming": partial(filtered, window=lambda r: 0.54 + 0.46 * np.cos(np.pi * r)),
        "cosine over the outer half": partial(
            filtered, window=lambda r: np.where(r < 0.5, 1, 0.5 - 0.5 * np.cos(2 * np.pi * r))
        ),
        "Gaussian in the image, sigma 1 pixel": smoothed,
        "image enlarged linearly, x 1.5": partial(image_enlarged, factor=1.5),
        "Hann to 0.25 at the edge (weak)": partial(filtered, window=lambda r: 0.625 + 0.375 * np.cos(np.pi * r)),
    },
    "coil-combined": {
        "magnitude image": magnitude,
        "magnitude image with a made-up phase": magnitude_with_phase,
        "combined with phase, background masked": combined_and_masked,
        "combined with phase, background kept": combined,
    },
    "undersampled": {
        "every 2nd column and the middle, the others zero": partial(zeroed, acceleration=2),
        "every 4th": partial(zeroed, acceleration=4),
        "every 2nd, complex images saved": partial(zeroed_saved_as_image, acceleration=2),
        "every 4th, complex images saved": partial(zeroed_saved_as_image, acceleration=4),
    },
    "interpolated": {
        "image with zeros around it, field of view x 1.25": partial(image_padded, factor=1.25),
        "x 2": partial(image_padded, factor=2),
        "k-space linearly on a grid 1.5 times as fine": partial(resampled, factor=1.5),
        "k-space linearly, 2 times": partial(resampled, factor=2),
    },
}
"""Crimes by the name that should be found, each with what was done."""

HARMLESS: dict[str, Crime] = {
    "untouched": lambda kspace: kspace,
    "the first slice alone": lambda kspace: kspace[:1],
    "readout cropped to half the field of view": cropped,
    "6/8 of the columns (partial Fourier), the others zero": one_side,
    "corners of k-space left out": elliptical,
}
"""What acquisitions do; nothing should be found."""
