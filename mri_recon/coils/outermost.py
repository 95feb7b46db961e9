"""Find the acquired samples farthest from the centre of k-space, which hold the least signal, with NumPy only.

Positions (ky, kx) are ranked by (ky / max|ky|)^2 + (kx / max|kx|)^2, maxima over the acquired ones. If the echo is off
the centre (`echo.echo_center`), ky and kx count cyclically from the echo: positions half a cycle away are far from the
echo, whether lines were cut off, moved around or left unshifted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon._arrays import lower_median
from mri_recon.errors import FormatError
from mri_recon.masks.echo import echo_center
from mri_recon.masks.types import BoolArray

__all__ = ["OUTER_FRACTION", "count_outermost", "edge_samples", "rank_positions", "sigma_of_array"]

OUTER_FRACTION = 0.1
"""Fraction of the acquired positions, farthest from the centre of k-space, from which the noise is estimated."""

_ACQUIRED = 1e-8
"""Samples below this fraction of the largest one are residues of earlier transforms, not acquired data."""


def rank_positions(
    magnitude: npt.NDArray[Any], sampled: BoolArray, at: tuple[int, int] | None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Find the acquired positions and their distance from the centre.

    Args:
        magnitude: largest magnitude over slices and coils, real `(readout, phase)`.
        sampled: the mask, broadcastable to `magnitude`.
        at: `(row, column)` of an echo off the centre; None for an echo at (N//2, N//2).

    Returns:
        rows and columns, int `(position, 2)`, and distances, `(position,)`.

    Raises:
        FormatError: nothing was acquired where the mask says so, or samples are not finite.
    """
    positions = np.argwhere(sampled & (magnitude > _ACQUIRED * magnitude.max()))
    if not np.isfinite(magnitude).all():
        raise FormatError("expected finite k-space, got infinite or not-a-number samples: repair or mask them out")
    if positions.size == 0:
        raise FormatError("expected samples on the mask, got only zeros there: the mask belongs to another scan")
    size = np.array(magnitude.shape)
    offset = np.abs(positions - (size // 2 if at is None else np.array(at)))
    if at is not None:
        offset = np.minimum(offset, size - offset)
    distance: npt.NDArray[np.float64] = ((offset / np.maximum(offset.max(axis=0), 1)) ** 2).sum(axis=1)
    return positions, distance


def count_outermost(total: int, fraction: float = OUTER_FRACTION) -> int:
    """Return how many of `total` positions count as outermost, at least one."""
    return max(1, round(fraction * total))


def edge_samples(kspace: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Read the outermost acquired samples of an array; `coils.noise.noise_samples_from_edge` reads those of a tensor.

    The two may choose differently among positions equally far out. This one takes no mask: zeros count as not acquired.

    Args:
        kspace: complex `(slice, coil, readout, phase)`.

    Returns:
        complex `(coil, sample)`.

    Raises:
        FormatError: k-space of zeros only, or not finite.
    """
    magnitude = np.max([np.abs(one).max(axis=0) for one in kspace], axis=0)
    positions, distance = rank_positions(magnitude, np.ones_like(magnitude, dtype=np.bool_), echo_center(kspace))
    chosen = positions[np.argsort(-distance, kind="stable")[: count_outermost(distance.size)]]
    samples = np.moveaxis(kspace[..., chosen[:, 0], chosen[:, 1]], 1, 0).reshape(kspace.shape[1], -1)
    return samples[:, np.abs(samples).max(axis=0) > 0]


def sigma_of_array(samples: npt.NDArray[Any]) -> float:
    """Estimate `sqrt(E|n|^2)` of Gaussian noise from complex samples of any shape, `median |n| / sqrt(ln 2)`."""
    return float(lower_median(np.abs(samples))) / math.sqrt(math.log(2))
