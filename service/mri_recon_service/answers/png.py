"""Write gray PNG files with text in them."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

__all__ = ["gray_png"]

_BLOCK_PIXELS = 1 << 18


def gray_png(image: npt.NDArray[np.float32], *, high: float, text: Mapping[str, str]) -> bytes:
    """Encode an image as an 8-bit gray PNG: 0 is black, `high` and above is white, linear between.

    A few rows are scaled at a time. Beside the image, the memory is two bytes a pixel and that of the file.

    Args:
        image: real `(h, w)`.
        high: the upper end of the window.
        text: keyword (Latin-1, under 80 characters) to text, kept in the file.
    """
    height, width = image.shape
    pixels = np.empty((height, width), np.uint8)
    num_rows = max(1, _BLOCK_PIXELS // max(1, width))
    for top in range(0, height, num_rows):
        pixels[top : top + num_rows] = _scaled(image[top : top + num_rows], high)
    kept = PngInfo()
    for keyword, value in text.items():
        kept.add_text(keyword, value)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png", pnginfo=kept)
    return file.getvalue()


def _scaled(rows: npt.NDArray[np.float32], high: float) -> npt.NDArray[np.float64]:
    if high <= 0:
        return np.zeros(rows.shape)
    return np.rint(255 * np.clip(rows.astype(np.float64) / high, 0.0, 1.0))
