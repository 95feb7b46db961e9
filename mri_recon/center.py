"""The one rule of cutting out a centre: N//2 of the whole goes to n//2 of the part, odd or even."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["center_crop", "center_window"]


def center_window(shape: Sequence[int], size: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of the centre of an array, for arrays and tensors alike.

    Along an axis of N samples the n at the centre start at N//2 - n//2, as the zero frequency of k-space and the origin
    of an image are at N//2. Images and references that are cut by different rules lie one pixel apart.

    Args:
        shape: of the array; its last two axes count.
        size: `(h, w)` wanted; an axis that is not larger is left as it is.
    """
    rows, columns = (
        slice(full // 2 - wanted // 2, full // 2 - wanted // 2 + wanted) if wanted < full else slice(0, full)
        for full, wanted in zip(shape[-2:], size, strict=True)
    )
    return rows, columns


def center_crop(images: Tensor, size: Sequence[int]) -> Tensor:
    """The centre `(..., h, w)` of images, see `center_window`."""
    return images[(..., *center_window(images.shape, size))]
