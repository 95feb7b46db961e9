"""Vary the content of training images: other contrasts, random shapes, a bright rim.

The registered training heads are few, mostly axial and de-faced. A network that knows nothing else errs where a test
image has bright fat, a face or a neck. These changes make structure of other kinds and intensities, sharp edges
included; they are no anatomy, and no picture that anybody looks at is made of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.ndimage import binary_dilation, binary_fill_holes, gaussian_filter

__all__ = ["ContentConfig", "vary_content"]

ArrayF = npt.NDArray[np.float32]
ArrayB = npt.NDArray[np.bool_]

_MAX_VALUE = 1.2  # magnitudes are scaled to a 99.5th percentile of 1
_AIR = 0.08  # a smoothed magnitude above it belongs to the object


class ContentConfig(BaseModel):
    """Probabilities of each change of content; 0: never."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    contrast: float = Field(default=0.0, ge=0, le=1, description="probability of a random curve of contrast")
    shapes: float = Field(default=0.0, ge=0, le=1, description="probability of random shapes in and around the object")
    bright_rim: float = Field(default=0.0, ge=0, le=1, description="probability of a bright rim around the object")


def vary_content(magnitude: ArrayF, rng: np.random.Generator, config: ContentConfig) -> ArrayF:
    """Change contrast, shapes and rim of a magnitude image, each with its probability.

    - Contrast: a piecewise linear curve through 0 and five random values; not monotone, so tissues change their order.
    - Shapes: up to three smooth random regions are mixed with a smooth random field cut to four levels.
    - Rim: a band of a few pixels along the outline, up to about twice as bright as white matter, as fat under the scalp
      is.

    Args:
        magnitude: real `(h, w)`, scaled to bright tissue of about 1.
        rng: the random generator; nothing is drawn for a probability of 0.
        config: the probabilities.

    Returns:
        float32 `(h, w)`, not negative.
    """
    image = np.maximum(magnitude, 0).astype(np.float32)
    if config.contrast and rng.random() < config.contrast:
        image = _recontrast(image, rng)
    outline: ArrayB | None = None
    if config.shapes and rng.random() < config.shapes:
        outline = _object(image, smooth=4.0)
        image = _add_shapes(image, outline, rng)
    if config.bright_rim and rng.random() < config.bright_rim:
        image = _add_rim(image, _object(image, smooth=3.0) if outline is None else outline, rng)
    return image


def _recontrast(image: ArrayF, rng: np.random.Generator) -> ArrayF:
    values = np.concatenate([[0.0], rng.uniform(0.0, _MAX_VALUE, 5)])
    changed = np.interp(image, np.linspace(0, _MAX_VALUE, 6), values)
    # A curve that darkens everything must not leave noise alone.
    return np.asarray(changed / max(0.2, float(np.percentile(changed, 99.5))), dtype=np.float32)


def _add_shapes(image: ArrayF, outline: ArrayB, rng: np.random.Generator) -> ArrayF:
    around = binary_dilation(outline, iterations=int(rng.integers(1, 20)))
    for _ in range(int(rng.integers(1, 4))):
        width = float(np.exp(rng.uniform(np.log(2.0), np.log(25.0))))
        field = _smooth_field(image.shape, width, rng)
        region = around & (gaussian_filter(rng.standard_normal(image.shape), float(rng.uniform(8, 40))) > 0)
        levels = rng.uniform(0, 1.3, 4)[np.digitize(field, [-0.8, 0.2, 0.9])]
        share = rng.uniform(0.3, 1.0)
        image = np.where(region, (1 - share) * image + share * levels, image)
    return np.asarray(gaussian_filter(image, 0.5), dtype=np.float32)  # no scanner resolves a step between two pixels


def _add_rim(image: ArrayF, outline: ArrayB, rng: np.random.Generator) -> ArrayF:
    outer = binary_dilation(outline, iterations=int(rng.integers(1, 5)))
    inner = ~binary_dilation(~outer, iterations=int(rng.integers(2, 10)))
    rim = gaussian_filter((outer & ~inner).astype(np.float32), 0.6)
    brightness = rng.uniform(0.6, 2.2) * np.exp(0.5 * _smooth_field(image.shape, 25.0, rng))
    return np.asarray(image * (1 - rim) + rim * brightness, dtype=np.float32)


def _smooth_field(shape: tuple[int, ...], width: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw a Gaussian field of mean 0 and standard deviation 1 over the image, smooth over `width` pixels."""
    field = gaussian_filter(rng.standard_normal(shape), width)
    return np.asarray((field - field.mean()) / field.std())


def _object(image: ArrayF, *, smooth: float) -> ArrayB:
    filled: ArrayB = binary_fill_holes(gaussian_filter(image, smooth) > _AIR)
    return filled
