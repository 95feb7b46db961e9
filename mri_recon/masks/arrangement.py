"""Classify the lines outside the calibration region: random, equispaced, one-sided or variable-density."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mri_recon.masks.calibration_region import center_columns
from mri_recon.masks.types import ColumnMask

__all__ = [
    "column_arrangement",
]


_FEWEST_LINES = 8
"""Minimum number of lines outside the centre: with fewer lines, any arrangement may be chance."""

_MANY_GAPS = 16
"""From this number of distances on, one of them may differ: a scan may miss a line."""

_FAR = 3.5
"""Threshold, in standard deviations from the mean of random columns; about one random mask in 2000 exceeds it."""


def column_arrangement(mask: ColumnMask) -> str:
    """Classify the lines outside the fully sampled centre, in words; "random" also if no other class fits.

    - "equally spaced": neighbouring lines on either side of the centre have equal distances of at least two columns,
      within one column; of 16 or more distances, one may differ.
    - "on one side": of m lines, n lie left of the centre, and n differs from m p by more than 3.5 standard deviations
      sqrt(m p (1 - p) (1 - f)). p is the fraction of the columns left of the centre, f the fraction of the columns that
      are sampled. Masks with columns that could not have been sampled are not tested, because these columns are not
      known.
    - "denser near the centre" or "denser far from the centre": the distances from the centre are divided by the largest
      one on their side, and these largest ones are left out. Their mean differs from 1/2 by more than 3.5 standard
      deviations sqrt((1 - f) / (12 m)). Random columns are uniform below the largest distance, regardless of the
      position of the edge.

    Both standard deviations are those of drawing without replacement.

    Args:
        mask: a mask of whole columns.
    """
    lines = np.flatnonzero(mask.lines)
    centre = center_columns(mask)
    left = np.sort(centre.start - lines[lines < centre.start])
    right = np.sort(lines[lines >= centre.stop] - centre.stop + 1)
    count = left.size + right.size
    if count < _FEWEST_LINES:
        return "random"
    if _equal(np.concatenate([np.diff(left), np.diff(right)])):
        return "equally spaced"
    width = centre.stop - centre.start
    left_over = max(0.0, 1 - count / (mask.support_width - width))  # 1 - f
    if mask.support_width == mask.width:
        share = centre.start / (mask.width - width)
        if abs(left.size - count * share) > _FAR * math.sqrt(count * share * (1 - share) * left_over):
            return "on one side"
    shares = np.concatenate([_shares(left), _shares(right)])
    deviation = float(shares.mean()) - 0.5
    # Columns are discrete, so the mean may be off by the width of one column.
    if abs(deviation) > _FAR * math.sqrt(left_over / (12 * shares.size)) + 1 / mask.support_width:
        return "denser near the centre" if deviation < 0 else "denser far from the centre"
    return "random"


def _equal(gaps: npt.NDArray[np.intp]) -> bool:
    gaps = np.sort(gaps)
    kept = [gaps] if gaps.size < _MANY_GAPS else [gaps, gaps[1:], gaps[:-1]]
    return any(some[0] > 1 and some[-1] - some[0] <= 1 for some in kept)


def _shares(distances: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Divide sorted distances 1, 2, ... by the largest one and drop it, which makes the others uniform in (0, 1)."""
    if distances.size < 2:
        return np.empty(0)
    return np.asarray((distances[:-1] - 0.5) / (distances[-1] - 1))
