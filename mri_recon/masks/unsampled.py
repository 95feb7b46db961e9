"""Finds masks that k-space was not sampled with: they call lines sampled that hold no data."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.masks.types import ColumnMask, Mask

__all__ = ["mask_data_warnings"]

_RESIDUE = 1e-8
"""Magnitudes below this share of the largest are the residue of some earlier transform, no data."""

_USUAL_SHARE = 0.1
_USUAL_NUMBER = 2
"""So many sampled lines without data are dead ones; more are a mask of another scan, order or shift."""


def mask_data_warnings(kspace: Tensor, mask: Mask) -> list[str]:
    """Say where a mask calls samples taken that hold no data, and what to do; an empty list where all is well.

    Such zeros count as measured, and the image is wrong and looks right. Margins without any data (zero filling,
    partial Fourier) are no sign of it, nor are a few dead lines.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: that it is said to be sampled with.
    """
    largest = max(float(one.abs().max()) for one in kspace)
    data = torch.stack([(one.abs() > _RESIDUE * largest).any(dim=0) for one in kspace]).any(dim=0)
    rows, columns = (_extent(data.any(dim=axis)) for axis in (1, 0))
    data = data[rows, columns]
    sampled = mask.tensor(data.device).expand(kspace.shape[-2:])[rows, columns]
    if not isinstance(mask, ColumnMask):
        return _said("positions", sampled, data)
    return _said("columns", sampled.any(dim=0), data.any(dim=0)) or _said(
        "rows", torch.ones_like(data[:, 0]), data.any(dim=1)
    )


def _extent(lines: Tensor) -> slice:
    """From the first to the last line with data."""
    found = lines.nonzero().flatten()
    return slice(int(found[0]), int(found[-1]) + 1)


def _said(what: str, sampled: Tensor, data: Tensor) -> list[str]:
    total, without = int(sampled.sum()), int((sampled & ~data).sum())
    if without <= max(_USUAL_NUMBER, _USUAL_SHARE * total):
        return []
    return [
        f"the mask calls {without} {what} sampled that hold no data, of {total} between the first and the last with "
        "data: they count as measured zeros and the image is wrong, unless they were. Give the mask that the k-space "
        "was sampled with: see whether it was saved unshifted (np.fft.fftshift), in another order of axes, or belongs "
        "to another scan"
    ]
