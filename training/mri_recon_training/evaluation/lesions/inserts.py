"""Choose places in an image and put small lesions there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from mri_recon.errors import DataError

__all__ = ["Place", "choose_places", "object_of", "profile", "with_lesions"]

Image = npt.NDArray[np.float32]

_OBJECT = 0.1
"""The object is what is brighter than this share of the bright signal, without holes."""

_MARGIN = 8
_APART = 22.0
"""Pixels between two lesions: none lies in the window of another one's template."""

_DARKEST, _BRIGHTEST = 0.15, 0.8


@dataclass(frozen=True)
class Place:
    """Hold the pixel at the middle of a lesion, and the lesion's full width at half maximum in pixels."""

    row: int
    column: int
    width: float


def object_of(image: Image) -> npt.NDArray[np.bool_]:
    """Find the object, bool `(h, w)`: the largest connected part above a tenth of the bright signal, holes filled."""
    bright = ndimage.gaussian_filter(image, 1.5) > _OBJECT
    labels, count = ndimage.label(bright)
    if count == 0:
        return np.zeros(image.shape, dtype=np.bool_)
    largest = 1 + int(np.argmax(ndimage.sum_labels(bright, labels, np.arange(1, count + 1))))
    found: npt.NDArray[np.bool_] = ndimage.binary_fill_holes(labels == largest)
    return found


def choose_places(image: Image, widths: Sequence[float], count: int, rng: np.random.Generator) -> list[Place]:
    """Draw places well inside the object, neither dark nor bright, in the calmer half of it, far from each other.

    Calm is where the image varies least within about three pixels: a lesion on an edge is another question.

    Args:
        image: magnitudes `(h, w)`, bright signal 1.
        widths: full widths at half maximum of the lesions, pixels; they take turns.
        count: number of places.
        rng: the random generator.

    Raises:
        DataError: the object has no room for so many.
    """
    inside = ndimage.binary_erosion(object_of(image), iterations=_MARGIN)
    level = ndimage.gaussian_filter(image, 2.0)
    inside &= (level > _DARKEST) & (level < _BRIGHTEST)
    variance = (
        ndimage.gaussian_filter(image.astype(np.float64) ** 2, 3.0)
        - ndimage.gaussian_filter(image.astype(np.float64), 3.0) ** 2
    )
    if inside.any():
        inside &= variance <= np.median(variance[inside])
    candidates = rng.permutation(np.argwhere(inside))
    chosen: list[tuple[int, int]] = []
    for row, column in candidates:
        if all((row - y) ** 2 + (column - x) ** 2 >= _APART**2 for y, x in chosen):
            chosen.append((int(row), int(column)))
        if len(chosen) == count:
            return [Place(y, x, widths[number % len(widths)]) for number, (y, x) in enumerate(chosen)]
    raise DataError(
        f"expected room for {count} lesions {_APART:g} pixels apart in an object of {int(inside.sum())} pixels, "
        f"found {len(chosen)}: ask for fewer"
    )


def profile(shape: tuple[int, int], place: Place) -> Image:
    """Draw a lesion of height 1: a Gaussian, which a grid of pixels no wider than half of it resolves.

    Args:
        shape: `(h, w)` of the image.
        place: its middle and width.
    """
    sigma = place.width / np.sqrt(8 * np.log(2))
    y, x = (np.arange(n, dtype=np.float64) for n in shape)
    along = [np.exp(-0.5 * ((n - at) / sigma) ** 2) for n, at in ((y, place.row), (x, place.column))]
    found: Image = np.outer(*along).astype(np.float32)
    return found


def with_lesions(image: Image, places: Sequence[Place], contrast: float) -> Image:
    """Add lesions of one contrast to an image; magnitudes stay at or above 0.

    Args:
        image: magnitudes `(h, w)`, bright signal 1.
        places: of the lesions.
        contrast: their height in units of the bright signal; negative ones are darker than what is around them.
    """
    total = sum((profile((image.shape[0], image.shape[1]), place) for place in places), np.zeros_like(image))
    return np.maximum(image + np.float32(contrast) * total, 0).astype(np.float32)
