"""Score reconstructions as an observer who knows lesion and place, and rate the scores.

Signal-known-exactly matched filter: Barrett and Myers, Foundations of Image Science, 2004, section 13.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from mri_recon_training.evaluation.lesions.inserts import Image, Place, profile

__all__ = ["auroc", "invented_excess", "measured_contrasts", "template", "wins"]

_REACH = 1.5
"""The window of a template reaches that many widths of the lesion from its middle."""


def template(width: float) -> npt.NDArray[np.float64]:
    """Make the matched filter of a lesion: its profile minus the mean over the window, scaled by the lesion.

    With g the profile of height 1 on the pixel grid, t = (g - mean g) / sum (g - mean g) g: `sum t x` is the height of
    the lesion in x = c g + constant, whatever the constant.

    Args:
        width: full width at half maximum, pixels.

    Returns:
        float64, square, of odd size.
    """
    reach = math.ceil(_REACH * width)
    size = 2 * reach + 1
    shape = profile((size, size), Place(reach, reach, width)).astype(np.float64)
    centered = shape - shape.mean()
    found: npt.NDArray[np.float64] = centered / (centered * shape).sum()
    return found


def measured_contrasts(image: Image, places: Sequence[Place]) -> list[float]:
    """Apply the matched filter at every place: the height of a lesion there, in units of the image.

    Args:
        image: magnitudes `(h, w)`.
        places: at least the window's reach from the border.
    """
    found = []
    for place in places:
        filter_ = template(place.width)
        reach = filter_.shape[0] // 2
        window = image[place.row - reach : place.row + reach + 1, place.column - reach : place.column + reach + 1]
        found.append(float((filter_ * window).sum()))
    return found


def invented_excess(
    image: Image, truth: Image, inside: npt.NDArray[np.bool_], width: float, contrast: float
) -> npt.NDArray[np.float64]:
    """Mark the spots of an image that look like a lesion and are not in the truth.

    A spot is a peak of the matched filter's response to the image (a trough for a dark lesion) of at least half the
    contrast, where the response to the truth is below a quarter of it everywhere within the lesion's width. A dark
    detail that is missing is none.

    Args:
        image: magnitudes without lesions, `(h, w)`.
        truth: the magnitudes that they should be.
        inside: bool `(h, w)`, where to look.
        width: of the lesions, pixels.
        contrast: of the lesions.

    Returns:
        float64 `(h, w)`: the measured contrast at a spot, positive, and 0 elsewhere.
    """
    sign = math.copysign(1.0, contrast)
    response, expected = (
        sign * ndimage.correlate(one.astype(np.float64), template(width), mode="nearest") for one in (image, truth)
    )
    size = 2 * math.ceil(width) + 1
    peaks = (response == ndimage.maximum_filter(response, size)) & (response >= abs(contrast) / 2)
    absent = ndimage.maximum_filter(expected, size) < abs(contrast) / 4
    found: npt.NDArray[np.float64] = np.where(peaks & absent & inside, response, 0.0)
    return found


def wins(present: npt.NDArray[np.float64], absent: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Compute how often scores with a lesion at one place exceed those without at another; equal ones count half.

    Args:
        present, absent: `(place, seed)`.

    Returns:
        `(place, place)`, with a lesion on the first axis: means over pairs of seeds.
    """
    one, other = present[:, None, :, None], absent[None, :, None, :]
    found: npt.NDArray[np.float64] = ((one > other) + 0.5 * (one == other)).mean(axis=(2, 3))
    return found


def auroc(won: npt.NDArray[np.float64], counts: npt.NDArray[np.int_] | None = None) -> float:
    """Average `wins` over pairs of different places: the area under the ROC curve (Mann-Whitney). 0.5 is guessing.

    Pairs of one place are left out: the observer does not know the anatomy, and a bootstrap sample that holds a place
    twice would compare it with itself.

    Args:
        won: result of `wins`.
        counts: how often each place is in a bootstrap sample, `(place,)`; by default once.
    """
    weights = np.ones(won.shape[0]) if counts is None else counts.astype(np.float64)
    pairs = np.outer(weights, weights)
    np.fill_diagonal(pairs, 0.0)
    return float((pairs * won).sum() / pairs.sum())
