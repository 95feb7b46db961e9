"""Write arrays as BART reads them: `.cfl`, complex64 in Fortran order, and `.hdr`, a text with the dimensions.

BART has sixteen dimensions: 0 readout, 1 phase, 2 partition, 3 coil, 13 slice.
https://mrirecon.github.io/bart, doc/README
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mri_recon._system.files import Content
from mri_recon.io.writers.result import Encoded, SavedResult, Writer, notice_of

__all__ = ["BART", "COIL", "NUM_DIMS", "SLICE", "cfl_content"]

NUM_DIMS = 16
"""Number of dimensions of every BART array."""

COIL, SLICE = 3, 13
"""Dimensions of coils and slices."""


def cfl_content(array: npt.NDArray[np.complexfloating], comment: str) -> tuple[Content, Mapping[str, Content]]:
    """Make the content of a `.cfl` file and the `.hdr` beside it.

    Args:
        array: complex `(slice, coil, readout, phase)`.
        comment: one line of text.
    """
    dims = [1] * NUM_DIMS
    dims[SLICE], dims[COIL], dims[0], dims[1] = array.shape
    ordered = np.ascontiguousarray(array.transpose(0, 1, 3, 2), dtype="<c8")
    text = f"# Dimensions\n{' '.join(map(str, dims))}\n# Creator\n{comment}\n"
    return ordered.reshape(-1).view(np.uint8).data, {".hdr": text.encode()}


def _encode(result: SavedResult) -> Encoded:
    about = result.metadata
    comment = f"{about.get('software', 'mri-recon')}: {about.get('method', '')}. {notice_of(about)}"
    comment = " ".join(comment.split())
    content, beside = cfl_content(result.image[:, None].astype(np.complex64), comment)
    return Encoded(content, "BART's files hold the image alone, no geometry, mask, map of trust and provenance", beside)


BART = Writer((".cfl",), _encode, beside=(".hdr",))
"""Writer of the complex image: readout on dimension 0, phase on 1, slices on 13."""
