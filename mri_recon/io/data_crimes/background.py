"""Measure the noise in the quietest parts of the images, which shows what was done to k-space or image before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.io.data_crimes.planes import Planes, distance_from_center
from mri_recon.transforms.array_fourier import fft_of_array, ifft_of_array

__all__ = ["Background", "Borders", "measure_background", "measure_borders"]

_BLOCKS = 8
"""A block has 1/8 of the height and of the width of the image; blocks overlap by half."""

_QUIET = 9
"""The number of blocks with the least energy that count as background; there are 15 x 15."""

_EXACT = 1e-5
"""Pixels below this fraction of the largest one are zero but for rounding; noise is that low in one pixel of 10,000 at
an SNR of 1,000.
"""

_LOW = 0.4

_BORDER = 16
"""The border is the outermost 1/16 of the image on either side of an axis."""


@dataclass(frozen=True)
class Background:
    """Hold what the quietest blocks of the images show.

    Attributes:
        middle_drop: power of their spectrum near 25 % of the distance to the edge of k-space over that near 50 %, along
            the axes -2 and -1. White noise has 1, signal far more.
        edge_drop: power near 50 % over that beyond 85 %. Noise has 1, a filter that falls towards the edge
            far more. For signal that falls as a power of k both drops are alike.
        mean_to_rms: `|mean|^2 / mean |.|^2` of the image within a block, tapered. Complex noise has nearly 0, its
            magnitude pi / 4, also behind a smooth phase.
        real_part: `max_s |sum b^2 e^(-2 pi i s x)| / sum |b|^2` of a tapered block b without its low frequencies: 1
            where it is real but for a linear phase; complex noise has nearly 0, also above a constant.
    """

    middle_drop: tuple[float, float]
    edge_drop: tuple[float, float]
    mean_to_rms: float
    real_part: float


@dataclass(frozen=True)
class Borders:
    """Hold what is zero in the images.

    Attributes:
        zero_pixels: share of the pixels that are zero but for rounding, in every plane.
        zero_inside: the same within the smallest rectangle that holds all other pixels.
        zero_frame: lines of zeros (before, after) that rectangle, along the axes -2 and -1.
        border_to_middle: power of the highest frequencies in the first or last lines of the image, the larger one, over
            the median of all lines, along the axes -2 and -1. Each line counts by its lower quartile, which is noise
            where the object covers less than three quarters of it. Noise of an acquisition reaches the border.
    """

    zero_pixels: float
    zero_inside: float
    zero_frame: tuple[tuple[int, int], tuple[int, int]]
    border_to_middle: tuple[float, float]


def measure_background(planes: Planes) -> Background:
    """Find the quietest blocks of every image; measure the spectrum, the mean and the phase of their noise.

    Args:
        planes: complex `(plane, readout, phase)`, at least 64 x 64, of the acquired samples alone.
    """
    spectrum: npt.NDArray[Any] | float = 0.0
    means, reals = [], []
    for plane in planes:
        blocks, window = _quietest_blocks(ifft_of_array(plane, (-2, -1)))
        tapered = (blocks * window).astype(np.complex128)
        transform = fft_of_array(tapered, (-2, -1))
        power = np.abs(transform) ** 2
        spectrum = spectrum + power.mean(axis=0) / max(float(power.mean()), _TINY)
        square = (np.abs(blocks) ** 2 * window).sum(axis=(-2, -1)) * window.sum()
        means.append((np.abs(tapered.sum(axis=(-2, -1))) ** 2 / np.maximum(square, _TINY)).mean())
        rows, columns = (distance_from_center(n) for n in window.shape)
        rough = ifft_of_array(transform * ((rows[:, None] > _LOW) | (columns[None, :] > _LOW)), (-2, -1))
        turned = np.abs(np.fft.fftn(rough**2, axes=(-2, -1))).max(axis=(-2, -1))
        reals.append((turned / np.maximum((np.abs(rough) ** 2).sum(axis=(-2, -1)), _TINY)).mean())
    found = np.asarray(spectrum)
    rows, columns = (distance_from_center(n) for n in found.shape)
    drops = [_drops(found[:, columns > 0.25].mean(axis=1)), _drops(found[rows > 0.25].mean(axis=0))]
    return Background(
        (drops[0][0], drops[1][0]), (drops[0][1], drops[1][1]), float(np.median(means)), float(np.median(reals))
    )


def measure_borders(planes: Planes) -> Borders:
    """Find the zeros in the images, and how far their noise reaches towards the border.

    Args:
        planes: complex `(plane, readout, phase)`.
    """
    images = np.abs(ifft_of_array(planes, (-2, -1)))
    zero = np.all(images < _EXACT * images.max(axis=(-2, -1), keepdims=True), axis=0)
    rows, columns = np.flatnonzero(~zero.all(axis=1)), np.flatnonzero(~zero.all(axis=0))
    inside = zero[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    frame = [(int(kept[0]), size - 1 - int(kept[-1])) for kept, size in zip((rows, columns), zero.shape, strict=True)]
    y, x = (distance_from_center(n) for n in planes.shape[-2:])
    high = np.abs(ifft_of_array(planes * ((y[:, None] > 0.5) | (x[None, :] > 0.5)), (-2, -1))).astype(np.float64) ** 2
    high = (high / np.maximum(high.mean(axis=(-2, -1), keepdims=True), _TINY)).mean(axis=0)
    return Borders(
        float(zero.mean()), float(inside.mean()), (frame[0], frame[1]), (_at_border(high), _at_border(high.T))
    )


_TINY = float(np.finfo(np.float64).tiny)


def _quietest_blocks(image: npt.NDArray[np.complex64]) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float64]]:
    """Cut the blocks with the least tapered energy, `(block, h, w)`, and the taper."""
    size = [max(4, n // _BLOCKS) for n in image.shape]
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in size))
    starts = [
        np.linspace(0, n - part, 2 * _BLOCKS - 1).round().astype(int) for n, part in zip(image.shape, size, strict=True)
    ]
    blocks = np.stack([image[top : top + size[0], left : left + size[1]] for top in starts[0] for left in starts[1]])
    energy = ((np.abs(blocks) * window) ** 2).sum(axis=(-2, -1))
    return blocks[np.argsort(energy)[:_QUIET]], window


def _drops(power: npt.NDArray[Any]) -> tuple[float, float]:
    """Compute `middle_drop` and `edge_drop` of a spectrum."""
    distance = distance_from_center(power.size)
    inner, middle = (_near(power, distance, place) for place in (0.25, 0.5))
    edge = float(power[distance > 0.85].mean())
    return inner / max(middle, _TINY), middle / max(edge, _TINY)


def _near(power: npt.NDArray[Any], distance: npt.NDArray[Any], place: float) -> float:
    """Average the spectrum within 5 % of a distance, at least over the nearest sample on either side."""
    away = np.abs(distance - place)
    return float(power[away <= max(0.05, away.min() + 1e-6)].mean())


def _at_border(power: npt.NDArray[Any]) -> float:
    """Compare the first and the last rows with the median over all rows."""
    rows = np.quantile(power, 0.25, axis=1)
    width = max(1, rows.size // _BORDER)
    return float(max(rows[:width].mean(), rows[-width:].mean()) / max(np.median(rows), _TINY))
