"""Measure the conjugate symmetry of outer k-space, which receiver noise never has."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mri_recon.io.data_crimes.planes import Planes, distance_from_center
from mri_recon.transforms.array_fourier import fft_of_array, ifft_of_array

__all__ = ["conjugate_symmetry"]

_BANDS = (0.6, 0.8)
_REACH = 2
"""Samples by which the centre of symmetry may be off N//2."""

_FEW = 4


def conjugate_symmetry(planes: Planes, axis: int) -> float:
    """Measure how far the outer samples along an axis mirror each other: 1 for y(c - k) = e^ia conj y(c + k).

    With h the image of the samples beyond 60 % (or 80 %) of the distance to the edge, the value is
    `max_s |sum_x h(x)^2 e^(-2 pi i s x / N)| / sum |h|^2`, averaged over planes: the frequency s is twice the offset of
    the centre c from N//2, and the modulus drops any constant phase. Only samples whose partner is in the band count.
    White noise has `1 / sqrt(number of samples)`.

    Args:
        planes: complex `(plane, readout, phase)`; four of them are enough.
        axis: -2 (rows) or -1 (columns).

    Returns:
        the larger value of both bands, 0 to 1.
    """
    some = planes[:: max(1, len(planes) // _FEW)]
    distance = distance_from_center(planes.shape[axis])
    return max(_symmetry_of_band(some, axis, distance >= band) for band in _BANDS)


def _symmetry_of_band(planes: Planes, axis: int, band: npt.NDArray[np.bool_]) -> float:
    height, width = (int(n) for n in planes.shape[-2:])
    window = tuple(slice(n // 2 - 2 * _REACH, n // 2 + 2 * _REACH + 1) for n in (height, width))
    spectrum, total = _mirrored(planes, axis, band & _has_partner(band, 0))
    if not total:
        return 0.0
    place = np.unravel_index(int(spectrum[window].argmax()), spectrum[window].shape)
    offset = int(place[axis]) - 2 * _REACH
    if offset != 0:
        spectrum, total = _mirrored(planes, axis, band & _has_partner(band, offset))
    return float(spectrum[window].max() / total) if total else 0.0


def _has_partner(band: npt.NDArray[np.bool_], offset: int) -> npt.NDArray[np.bool_]:
    """Mark the samples whose mirror image about N//2 + offset / 2 is another sample of the band."""
    at = np.arange(band.size)
    partner = (2 * (band.size // 2) + offset - at) % band.size
    found: npt.NDArray[np.bool_] = band[partner] & (partner != at)
    return found


def _mirrored(planes: Planes, axis: int, band: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float64], float]:
    """Compute `|sum h^2 e^(-2 pi i s x / N)|` for every s, frequency 0 at N//2, and `sum |h|^2`, over all planes."""
    along = band[:, None] if axis == -2 else band[None, :]
    image = ifft_of_array(planes * along, (-2, -1)).astype(np.complex128)
    mirrored = np.abs(fft_of_array(image**2, (-2, -1))).sum(axis=0) * np.sqrt(image.shape[-2] * image.shape[-1])
    return mirrored, float((np.abs(image) ** 2).sum())
