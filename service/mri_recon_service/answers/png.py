"""Write gray PNG files with text in them, with the standard library alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

__all__ = ["gray_png"]

_BLOCK_PIXELS = 1 << 18
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def gray_png(image: npt.NDArray[np.float32], *, high: float, text: Mapping[str, str]) -> bytes:
    """Encode an image as an 8-bit gray PNG: 0 is black, `high` and above is white, linear between.

    A few rows are scaled at a time. Beside the image, the memory is that of the file.

    Args:
        image: real `(h, w)`.
        high: the upper end of the window.
        text: keyword (Latin-1, under 80 characters) to Latin-1 text, kept in the file.

    Source: Portable Network Graphics, ISO/IEC 15948.
    """
    height, width = image.shape
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    for keyword, value in text.items():
        chunks.append(_chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + value.encode("latin-1", "replace")))
    packer = zlib.compressobj(6)
    num_rows = max(1, _BLOCK_PIXELS // max(1, width))
    packed = [packer.compress(_rows(image[top : top + num_rows], high)) for top in range(0, height, num_rows)]
    chunks += [_chunk(b"IDAT", b"".join([*packed, packer.flush()])), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(chunks)


def _rows(image: npt.NDArray[np.float32], high: float) -> bytes:
    """Scale rows to bytes. Each row begins with its filter: none."""
    scaled = np.clip(image.astype(np.float64) / high if high > 0 else np.zeros(image.shape), 0.0, 1.0)
    rows = np.zeros((image.shape[0], image.shape[1] + 1), np.uint8)
    rows[:, 1:] = np.rint(255 * scaled)
    return rows.tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
