"""Hold a result as arrays and metadata, and keep it in an npz file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon_service.job import Kind

__all__ = ["FAINTEST", "Bundle", "FloatArray", "read_bundle", "write_bundle"]

FloatArray = npt.NDArray[np.float32]

FAINTEST = -6.0
"""Smallest value of the shown k-space, the decadic logarithm of its magnitude over the largest one."""


@dataclass(frozen=True)
class Bundle:
    """A result as arrays and JSON-able metadata, the content of its npz file.

    A reconstruction has `image`, complex64 or float32 `(slice, h, w)`, and `trust_map`, float32, if there is one. A
    comparison has `image.METHOD`, `trust.METHOD` where there is a map of trust, and, if it is known, `reference`:
    float32 magnitudes `(slice, h, w)` of the shown size, and `phase.METHOD` where the method yields phase: uint8, the
    circle from -pi in 256 levels. It also has `kspace`, float32
    `(slice, readout, phase)`: the decadic logarithm of the sampled k-space (root sum of squares over coils, divided by
    its largest value), at least -6. Both have `mask`, uint8 `(phase,)` or `(readout, phase)`.
    """

    kind: Kind
    arrays: Mapping[str, npt.NDArray[Any]]
    metadata: Mapping[str, Any]


def write_bundle(bundle: Bundle) -> bytes:
    """Write the npz file of a result. The file is not compressed, so that a browser reads it without further code."""
    buffer = io.BytesIO()
    text = json.dumps(bundle.metadata, allow_nan=False).encode()
    np.savez(buffer, allow_pickle=False, **bundle.arrays, metadata=np.frombuffer(text, np.uint8))
    return buffer.getvalue()


def read_bundle(kind: Kind, path: Path, *, only: Sequence[str] | None = None) -> Bundle:
    """Read a file of `write_bundle` from this service's own disk.

    Args:
        kind: kind of the result.
        path: the file.
        only: arrays to read. None: all.
    """
    with np.load(path, allow_pickle=False) as file:
        wanted = file.files if only is None else ["metadata", *only]
        arrays = {name: file[name] for name in wanted}
    return Bundle(kind, arrays, json.loads(arrays.pop("metadata").tobytes()))
