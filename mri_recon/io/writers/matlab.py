"""Write reconstructions for MATLAB, in version 5 of its format."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from mri_recon.io.reading.variables import RESULT_NAME
from mri_recon.io.writers.result import Encoded, SavedResult, Writer

__all__ = ["MAT"]


def _encode(result: SavedResult) -> Encoded:
    from scipy.io import savemat

    content: dict[str, Any] = {RESULT_NAME: np.moveaxis(result.image, 0, -1)}
    if result.mask is not None:
        content["mask"] = result.mask.astype(np.uint8)
    content["metadata"] = json.dumps(result.metadata, allow_nan=False)
    buffer: Any = io.BytesIO()  # the types of SciPy allow file names only
    savemat(buffer, content, format="5", oned_as="row")
    return Encoded(
        buffer.getbuffer(),
        ".mat holds the image and what describes it, no map of trust; mri-recon replay reads .h5 only",
    )


MAT = Writer((".mat",), _encode, max_bytes=2**31 - 1)
"""Writer of `reconstruction` `(h, w, slice)` in MATLAB's order, `mask` uint8, and `metadata` for `jsondecode`."""
