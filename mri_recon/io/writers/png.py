"""Write reconstructions as a picture: 16-bit gray PNG, the slices of a volume side by side.

All slices go into one file, so that no file is written that the user did not name.
"""

from __future__ import annotations

import io
import json
import math

import numpy as np
import numpy.typing as npt

from mri_recon._arrays import center_crop
from mri_recon.errors import OutputError
from mri_recon.io.writers.result import Encoded, SavedResult, Writer, notice_of

__all__ = ["PNG"]

_WHITE = 65535


def _encode(result: SavedResult) -> Encoded:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    magnitude = result.magnitude
    if result.recon_size is not None:
        magnitude = center_crop(magnitude, result.recon_size)
    if not np.isfinite(magnitude).all():
        raise OutputError("a picture cannot show NaN or infinite values, the image has some: write .h5 or .npy")
    high = float(magnitude.max(initial=0.0))
    scale = _WHITE / high if high > 0 else 0.0
    pixels = np.rint(magnitude.astype(np.float64) * scale).clip(0, _WHITE).astype(np.uint16)
    picture, rows, columns = _montage(pixels)
    text = PngInfo()
    metadata = result.metadata
    made = "SIMULATED, " if metadata.get("simulated") else ""
    title = f"{made}{metadata.get('method', 'reconstruction')}, {len(pixels)} slices, {rows} x {columns}"
    text.add_text("Title", title)
    text.add_text("Window", f"0 {high:.9g}")
    for keyword, name in (("Mask", "mask"), ("Provenance", "provenance")):
        if name in metadata:
            text.add_text(keyword, json.dumps(metadata[name], allow_nan=False))
    text.add_text("Disclaimer", notice_of(metadata))
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png", pnginfo=text)
    slices = f", {len(pixels)} slices in {rows} rows of {columns} from the upper left" if len(pixels) > 1 else ""
    return Encoded(
        buffer.getbuffer(),
        f".png holds magnitudes from 0 (black) to {high:.6g} (white){slices}, no phase: .h5 holds everything",
    )


def _montage(pixels: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.uint16], int, int]:
    """Arrange slices row by row in a grid that makes a nearly square picture; return it with its rows and columns."""
    count, height, width = pixels.shape
    columns = min(count, max(1, math.ceil(math.sqrt(count * height / max(width, 1)))))
    rows = math.ceil(count / columns)
    filled = np.concatenate([pixels, np.zeros((rows * columns - count, height, width), np.uint16)])
    grid = filled.reshape(rows, columns, height, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grid.reshape(rows * height, columns * width)), rows, columns


PNG = Writer((".png",), _encode, is_picture=True)
"""Writer of magnitudes as a picture, cropped to the scan's reconstruction size; `Window` holds the value of white."""
