"""Find masks of other scans: they mark lines as sampled that hold no data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mri_recon._arrays import to_numpy
from mri_recon.masks.types import BoolArray, ColumnMask, Mask

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["mask_data_warnings"]

_RESIDUE = 1e-8
"""Magnitudes below this fraction of the largest are residues of an earlier transform, not data."""

_USUAL_SHARE = 0.1
_USUAL_NUMBER = 2
"""At most this share or number of sampled lines without data count as dead; more mean another scan, order or shift."""


def mask_data_warnings(kspace: Tensor | npt.NDArray[Any], mask: Mask) -> list[str]:
    """List positions that a mask marks as sampled but that hold no data, with advice; empty if there are none.

    Such zeros count as measured, and the image is wrong but looks right. Margins without any data (zero filling,
    partial Fourier) and a few dead lines do not count.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the mask with which it is supposed to be sampled.
    """
    largest = max(float(abs(one).max()) for one in kspace)
    data: BoolArray = np.any([to_numpy((abs(one) > _RESIDUE * largest).any(0)) for one in kspace], axis=0)
    rows, columns = (_extent(np.any(data, axis=axis)) for axis in (1, 0))
    data = data[rows, columns]
    sampled = np.broadcast_to(mask.array, kspace.shape[-2:])[rows, columns]
    if not isinstance(mask, ColumnMask):
        return _said("positions", sampled, data)
    return _said("columns", np.any(sampled, axis=0), np.any(data, axis=0)) or _said(
        "rows", np.ones_like(data[:, 0]), np.any(data, axis=1)
    )


def _extent(lines: BoolArray) -> slice:
    """Return the lines from the first to the last with data."""
    found = np.flatnonzero(lines)
    return slice(int(found[0]), int(found[-1]) + 1)


def _said(what: str, sampled: BoolArray, data: BoolArray) -> list[str]:
    total, without = int(sampled.sum()), int((sampled & ~data).sum())
    if without <= max(_USUAL_NUMBER, _USUAL_SHARE * total):
        return []
    return [
        f"{without} of {total} {what} that the mask marks as sampled hold no data, counted between the first and the "
        "last with data: they pass for measured zeros, and the image is wrong unless zeros were measured. Give the "
        "mask of this k-space: check whether it was saved unshifted (np.fft.fftshift), in another order of axes, or "
        "belongs to another scan"
    ]
