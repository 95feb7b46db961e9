"""How the columns of a mask lie outside its dense centre: at random, or in a way that random masks do not come out.

A network removes the incoherent artefact of random columns. Equally spaced ones alias into sharp copies of the object,
and columns that thin out or lie on one side blur in their own way: what a network makes of those may be wrong and look
right, so they must not pass for random ones.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mri_recon.errors import MaskError
from mri_recon.masks import ColumnMask, center_block

__all__ = ["column_arrangement"]

_FEWEST_LINES = 8
"""With fewer lines outside the centre any arrangement may be chance."""

_CHANCE = 1e-3
"""How often a mask that is random is called something else, at most."""


def column_arrangement(mask: ColumnMask) -> str:
    """What the columns outside the dense centre are, in words; "random" also where nothing else can be told.

    - "equally spaced": neighbours on either side of the centre lie equally far apart, up to one column.
    - "on one side": the number of lines n_l left of the centre is further from its expectation m p, p the share of
      columns there, than Hoeffding's inequality allows: |n_l - m p| > sqrt(m ln(2 / a) / 2), a = 1e-3.
    - "denser near the centre" or "denser far from the centre": the distances from the centre, as shares of the way to
      the edge, are further from uniform than the Dvoretzky-Kiefer-Wolfowitz inequality allows,
      sup |F_m - F| > sqrt(ln(2 / a) / (2 m)). Where some columns could not have been sampled, the edge is unknown, and
      the largest distance on either side stands for it.

    Both bounds hold for drawing with replacement; without it (a share f of the columns) the deviations are smaller by
    sqrt(1 - f), and so are the bounds used here.

    Args:
        mask: whole columns.

    Sources: Hoeffding, J Am Stat Assoc 1963; Massart, Ann Probab 1990 (the constant of the second inequality).
    """
    lines = np.flatnonzero(mask.lines)
    try:
        centre = center_block(mask)[1]
    except MaskError:  # no centre at all
        centre = slice(mask.width // 2, mask.width // 2)
    left = np.sort(centre.start - lines[lines < centre.start])
    right = np.sort(lines[lines >= centre.stop] - centre.stop + 1)
    count = left.size + right.size
    if count < _FEWEST_LINES:
        return "random"
    gaps = np.concatenate([np.diff(left), np.diff(right)])
    if gaps.max() > 1 and gaps.max() - gaps.min() <= 1:
        return "equally spaced"
    columns = mask.width - (centre.stop - centre.start)
    shrink = math.sqrt(max(0.0, 1 - count / columns))
    if abs(left.size - count * centre.start / columns) > shrink * math.sqrt(count * math.log(2 / _CHANCE) / 2):
        return "on one side"
    if mask.support_width == mask.width:
        sides = (left - 0.5) / max(1, centre.start), (right - 0.5) / max(1, mask.width - centre.stop)
    else:
        sides = _shares(left), _shares(right)
    distances = np.sort(np.concatenate(sides))
    if distances.size:
        ranks = np.arange(1, distances.size + 1) / distances.size
        above, below = (ranks - distances).max(), (distances - ranks + 1 / distances.size).max()
        # Distances are whole columns, which alone moves the shares by as much as the second term.
        bound = shrink * math.sqrt(math.log(2 / _CHANCE) / (2 * distances.size)) + 2 / columns
        if max(above, below) > bound:
            return "denser near the centre" if above > below else "denser far from the centre"
    return "random"


def _shares(distances: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """All but the largest of sorted distances 1, 2, ... over the largest: uniform in (0, 1) whatever that one is."""
    if distances.size < 2:
        return np.empty(0)
    return np.asarray((distances[:-1] - 0.5) / (distances[-1] - 1))
