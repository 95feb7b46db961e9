"""Change the geometry of images: orientation, resolution, field of view."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon._arrays import center_window
from mri_recon.errors import ShapeError
from mri_recon.transforms.fourier import fft2c, ifft2c

__all__ = ["fold_columns", "fourier_crop", "random_orientation"]


def fourier_crop(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Lower the resolution of an image to `size` by keeping the centre of its k-space; intensities are kept.

    y = sqrt(h' w' / (h w)) F_{h'w'}^-1 C F_{hw} x, with C the centre crop that keeps the zero frequency at N//2.

    Args:
        image: real or complex `(..., h, w)`.
        size: `(h', w')`, each at most the image's.

    Returns:
        complex tensor `(..., h', w')`.

    Raises:
        ShapeError: a size that is not between 1 and the image's.
    """
    old = (int(image.shape[-2]), int(image.shape[-1]))
    if not all(1 <= new <= now for new, now in zip(size, old, strict=True)):
        raise ShapeError(f"fourier_crop: expected a size between (1, 1) and {old}, got {size}: it only removes samples")
    rows, columns = center_window(old, size)
    scale = float(np.sqrt(size[0] * size[1] / (old[0] * old[1])))
    return scale * ifft2c(fft2c(image)[..., rows, columns])


def fold_columns(image: Tensor, start: int, width: int) -> Tensor:
    """Narrow the field of view to `width` columns from column `start` on; signal outside folds over.

    y[j] = sum_k x[start + j + k width]: the phase-encoding lines lie that much further apart in k-space, and the signal
    of the object outside repeats itself inside, as when a head or neck leaves the field of view.

    Args:
        image: real or complex `(..., h, w)`.
        start: first column of the field of view; it may lie outside the image, which counts as air.
        width: its number of columns.

    Returns:
        `(..., h, width)` of the same type.

    Raises:
        ShapeError: a width below 1.
    """
    if width < 1:
        raise ShapeError(f"fold_columns: expected a width of at least 1 column, got {width}")
    folded = image.new_zeros((*image.shape[:-1], width))
    columns = (torch.arange(image.shape[-1], device=image.device) - start) % width
    return folded.index_add(-1, columns, image)


def random_orientation(magnitude: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Turn an image `(h, w)` into one of the eight orientations of its plane.

    Either axis may be the phase axis, and either end of each axis may be up.
    """
    if rng.random() < 0.5:
        magnitude = magnitude.T
    for axis in (0, 1):
        if rng.random() < 0.5:
            magnitude = np.flip(magnitude, axis=axis)
    return np.ascontiguousarray(magnitude)
