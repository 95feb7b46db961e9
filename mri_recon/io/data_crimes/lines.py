"""Measure the power of k-space line by line: empty edges, steps to an emptier edge, and empty lines in between."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.io.data_crimes.planes import Planes, acquired_extent

__all__ = ["Edges", "empty_edges", "largest_step", "line_power", "share_of_faint_lines"]

_QUANTILE = 0.8
_FAINT = 1e-3
_NEIGHBOURHOOD = 16
"""Lines are compared with the 90 % quantile of this fraction of all lines, 1/16, on either side."""

_INNERMOST = 8
"""Steps are searched for beyond this fraction of the extent, 1/8, from the centre: signal falls steeply inside."""

_WINDOW = 32
"""The power inside and outside a step is that of 1/32 of the lines."""

Edges = tuple[int, int]


def line_power(planes: Planes, axis: int) -> npt.NDArray[Any]:
    """Compute the 80 % quantile of |y|^2 on every line across an axis, averaged over planes; exact zeros do not count.

    Of a matrix that was interpolated twofold along both axes, half the samples of a line are empty, so that a median
    would be of none.

    Args:
        planes: complex `(plane, readout, phase)`.
        axis: -2 for rows, -1 for columns.

    Returns:
        float64 `(lines,)`; 0 where a line holds nothing.
    """
    power = np.abs(planes).astype(np.float64) ** 2
    across = -1 if axis == -2 else -2
    if power.all():  # the usual case, several times as fast
        plain: npt.NDArray[Any] = np.quantile(power, _QUANTILE, axis=across).mean(axis=0)
        return plain
    power[power == 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the quantile of an empty line is not a number: 0 below
        found = np.nanquantile(power, _QUANTILE, axis=across)
    averaged: npt.NDArray[Any] = np.nan_to_num(found, nan=0.0).mean(axis=0)
    return averaged


def empty_edges(planes: Planes, axis: int) -> Edges:
    """Count the lines before the first and after the last that holds data.

    Args:
        planes: complex `(plane, readout, phase)`, not all zero.
        axis: -2 or -1.
    """
    first, end = acquired_extent(planes, axis)
    return first, int(planes.shape[axis]) - end


def largest_step(planes: Planes, axis: int, least: int) -> tuple[Edges, float]:
    """Find the largest step down in power towards both edges, at distances from them that differ by at most one line.

    The step at a place is the least power of the nearest lines inside it (1/32 of all) over the largest of those
    outside; of the two sides the smaller one counts. Signal, noise and filters of an acquisition fall smoothly. Lines
    of exact zeros make no step, see `empty_edges`.

    Args:
        planes: complex `(plane, readout, phase)`.
        axis: -2 or -1.
        least: fewest lines outside the step.

    Returns:
        lines outside the step before and after, and its ratio; 0 where there are too few lines.
    """
    power = line_power(planes, axis)
    count = int(power.size)
    window, inmost = max(3, count // _WINDOW), count // 2 - count // _INNERMOST
    before, after = (_steps(one, window, inmost) for one in (power, power[::-1]))
    best, place = 0.0, (0, 0)
    for low in range(max(least, window), inmost + 1):
        for high in range(max(low - 1, window), min(low + 1, inmost) + 1):
            step = min(before[low], after[high])
            if step > best:
                best, place = step, (low, high)
    return place, best


def _steps(power: npt.NDArray[Any], window: int, inmost: int) -> list[float]:
    """Compute the step up after each number of lines from the first on, up to `inmost`; 0 without lines before."""
    found = [0.0] * window
    for outside in range(window, inmost + 1):
        outer = float(power[outside - window : outside].max())
        found.append(float(power[outside : outside + window].min()) / outer if outer > 0 else 0.0)
    return found


def share_of_faint_lines(planes: Planes, axis: int) -> float:
    """Compute the share of lines with less than 1/1000 of the power of their neighbours; exact zeros do not count.

    Args:
        planes: complex `(plane, readout, phase)`.
        axis: -2 or -1.
    """
    power = line_power(planes, axis)
    reach = max(2, power.size // _NEIGHBOURHOOD)
    faint = [
        0 < value < _FAINT * np.quantile(power[max(0, number - reach) : number + reach + 1], 0.9)
        for number, value in enumerate(power)
    ]
    return float(np.mean(faint))
