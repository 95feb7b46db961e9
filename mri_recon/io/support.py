"""Find the columns of k-space that hold data, and judge whether the missing ones mean undersampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "MAX_MISSING_COLUMNS",
    "MAX_MISSING_POINTS",
    "THRESHOLD",
    "Sampling",
    "inspect_sampling",
    "misses_too_much",
    "sampled_points",
]

BoolArray = npt.NDArray[np.bool_]

THRESHOLD = 1e-8
"""Samples above this fraction of the largest magnitude are data; the rest is the residue of an earlier transform."""

MAX_MISSING_COLUMNS = 0.1
"""A scan is fully sampled if at most this fraction of the columns between its first and its last one is empty (dead
columns). The same holds for rows: if more are missing, the scan was undersampled along them, or its axes are
exchanged.
"""

MAX_MISSING_POINTS = 0.01
"""A scan is fully sampled if, in addition, at most this fraction of the points in its rows and columns is exactly
zero.
"""


@dataclass(frozen=True)
class Sampling:
    """Hold the findings from the zeros of k-space.

    Attributes:
        columns: bool `(phase,)`, columns with data in any slice.
        num_missing: number of empty columns between the first and the last with data.
        undersampled: whether more columns are missing than dead columns can explain.
        reason: why the scan counts as undersampled, in words; empty if it does not.
    """

    columns: BoolArray
    num_missing: int
    undersampled: bool
    reason: str


def sampled_points(kspace: npt.NDArray[np.complex64]) -> BoolArray:
    """Find the points with data in any coil, `(slice, readout, phase)`, of k-space `(slice, coil, readout, phase)`."""
    strongest = [np.abs(part).max(axis=0) for part in kspace]
    largest = max(float(part.max()) for part in strongest)
    return np.stack([part > THRESHOLD * largest for part in strongest])


def inspect_sampling(kspace: npt.NDArray[np.complex64], inside: BoolArray) -> Sampling:
    """Find the columns with data among those acquired according to the header, and judge the missing ones.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, not all zero.
        inside: bool `(phase,)`, columns that may hold data; some of them do.
    """
    points = sampled_points(kspace) & inside
    columns: BoolArray = np.any(points, axis=(0, 1))
    num_missing = _missing_inside(columns)
    reason = ""
    for plane in points:
        # Slices may be sampled differently, so each is judged, except those without any data.
        if plane.any() and not reason:
            reason = _why_undersampled(plane)
    return Sampling(columns, num_missing, bool(reason), reason)


def _why_undersampled(plane: BoolArray) -> str:
    rows: BoolArray = np.any(plane, axis=1)
    columns: BoolArray = np.any(plane, axis=0)
    for what, lines in (("columns", columns), ("rows", rows)):
        if misses_too_much(lines):
            missing = _missing_inside(lines)
            extent = missing + int(lines.sum())
            return f"{missing} of the {extent} {what} between the first and the last with data are empty"
    empty = 1.0 - float(plane[np.ix_(rows, columns)].mean())
    if empty > MAX_MISSING_POINTS:
        return f"{empty:.1%} of the points inside the acquired rows and columns hold no data"
    return ""


def misses_too_much(lines: BoolArray) -> bool:
    """Tell whether more lines between the first and the last with data are empty than dead ones can explain.

    Args:
        lines: bool, True where a column (or row) has data.
    """
    missing = _missing_inside(lines)
    return missing > MAX_MISSING_COLUMNS * (missing + int(lines.sum()))


def _missing_inside(columns: BoolArray) -> int:
    found = np.flatnonzero(columns)
    return int(found[-1] - found[0] + 1 - found.size) if found.size else 0
