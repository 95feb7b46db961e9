"""Write reconstructions for NumPy: only the image (`.npy`), or image, mask and metadata (`.npz`)."""

from __future__ import annotations

import io
import json

import numpy as np

from mri_recon.io.writers.result import Encoded, SavedResult, Writer

__all__ = ["NPY", "NPZ"]

_REPLAY = ".npz holds the image and what describes it; mri-recon replay reads .h5 only"


def _encode_npy(result: SavedResult) -> Encoded:
    buffer = io.BytesIO()
    np.save(buffer, result.image, allow_pickle=False)
    kind = "complex64 image (np.abs gives magnitudes)" if result.image.dtype.kind == "c" else "float32 magnitudes"
    return Encoded(
        buffer.getbuffer(),
        f".npy holds the {kind} alone, no mask, no map of trust and no provenance: .npz and .h5 hold them",
    )


def _encode_npz(result: SavedResult) -> Encoded:
    buffer = io.BytesIO()
    arrays = {"image": result.image} | ({} if result.mask is None else {"mask": result.mask.astype(np.uint8)})
    if result.trust_map is not None:
        arrays["trust_map"] = result.trust_map
    text = json.dumps(result.metadata, allow_nan=False).encode()
    np.savez(buffer, allow_pickle=False, **arrays, metadata=np.frombuffer(text, np.uint8))
    return Encoded(buffer.getbuffer(), _REPLAY)


NPY = Writer((".npy",), _encode_npy)
"""Writer of the image `(slice, h, w)`: complex64, or float32 magnitudes if the method yields no phase."""

NPZ = Writer((".npz",), _encode_npz)
"""Writer of `image` as in `.npy`, `mask` uint8, `trust_map` float32 if there is one, and `metadata` (JSON in UTF-8 as
uint8), as in the service's npz.
"""
