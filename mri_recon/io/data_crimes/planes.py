"""Choose the planes of k-space that are examined, and cut off lines that hold exact zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.io.support import THRESHOLD

__all__ = ["MAX_PLANES", "Planes", "acquired_extent", "distance_from_center", "representative_planes"]

Planes = npt.NDArray[np.complex64]

MAX_PLANES = 8
"""Planes (one slice, one coil) that are examined, evenly from first to last, so that large files cost little."""


def representative_planes(kspace: npt.NDArray[np.complex64]) -> Planes:
    """Choose at most `MAX_PLANES` planes with signal and scale each to a mean power of 1.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, not all zero.

    Returns:
        complex64 `(plane, readout, phase)`.
    """
    size = kspace.shape[-2] * kspace.shape[-1]
    flat = kspace.reshape(-1, *kspace.shape[-2:])
    largest = np.array([np.abs(plane).max() for plane in flat])
    found = np.flatnonzero(largest > THRESHOLD * largest.max())
    chosen = found[np.unique(np.linspace(0, found.size - 1, MAX_PLANES).round().astype(int))]
    planes = np.stack([flat[number] / largest[number] for number in chosen])
    power = (np.abs(planes) ** 2).sum(axis=(-2, -1), keepdims=True) / size
    scaled: Planes = (planes / np.sqrt(power)).astype(np.complex64)
    return scaled


def acquired_extent(planes: Planes, axis: int) -> tuple[int, int]:
    """Find the first line with data along an axis, and the one after the last.

    Args:
        planes: complex `(plane, readout, phase)`, not all zero.
        axis: -2 or -1.
    """
    other = -1 if axis == -2 else -2
    largest = np.abs(planes).max(axis=(0, other))
    lines = np.flatnonzero(largest > THRESHOLD * largest.max())
    return int(lines[0]), int(lines[-1]) + 1


def distance_from_center(size: int) -> npt.NDArray[Any]:
    """Compute the distance of every sample of an axis from N//2, as a fraction of N/2, `(size,)`."""
    return np.abs(np.arange(size) - size // 2) / (size / 2)
