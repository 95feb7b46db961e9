"""Which mask a scan is reconstructed with: the user's file, a drawn one, or the scan's own; never a guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import MaskError
from mri_recon.io import Scan, load_mask, sampled_pattern
from mri_recon.masks.convert import as_mask, mask_from_file
from mri_recon.masks.draw import equispaced_mask, random_mask
from mri_recon.masks.types import ColumnMask, Mask

__all__ = ["FROM_ZEROS", "MASK_KINDS", "choose_mask"]

MASK_KINDS: dict[str, Callable[..., ColumnMask]] = {"random": random_mask, "equispaced": equispaced_mask}
"""Kinds of mask that can be drawn for an acceleration."""

FROM_ZEROS = "from-zeros"
"""In place of a mask file: take what is zero for not sampled. A guess, made only where it is asked for by this name."""


def choose_mask(
    scan: Scan,
    *,
    mask_file: str | Path | None = None,
    mask_array: npt.NDArray[Any] | None = None,
    acceleration: float | None = None,
    center_fraction: float | None = None,
    num_low_frequencies: int | None = None,
    seed: int = 0,
    kind: str = "random",
) -> Mask:
    """The mask of a run: `mask_file`, else one drawn for `acceleration` on the acquired support, else the scan's own.

    Args:
        scan: the scan that it is for.
        mask_file: a mask saved as `.npy`, `.npz`, `.mat` or in a fastMRI HDF5 file; or `FROM_ZEROS`.
        mask_array: the array in `mask_file`, where another process has read it: the file is not opened.
        acceleration: how many times fewer columns than the support has.
        center_fraction: fraction of the support's columns that are kept at the centre; with `acceleration` only.
        num_low_frequencies: the same as a number of columns.
        seed: seed of a drawn mask.
        kind: "random" or "equispaced".

    Raises:
        MaskError: two masks asked for, none known, a drawn one for a scan that is already undersampled, or one that
            cannot be drawn or does not fit.
    """
    if mask_file is not None and acceleration is not None:
        raise MaskError(
            f"expected one mask, got the file {mask_file} and an acceleration of {acceleration:g}: give one of them"
        )
    if acceleration is None and (center_fraction is not None or num_low_frequencies is not None):
        raise MaskError(
            "expected an acceleration with the size of the centre, got the centre alone: "
            "give an acceleration, or leave the centre out"
        )
    if kind not in MASK_KINDS:
        raise MaskError(f"expected a kind of mask among {', '.join(MASK_KINDS)}, got {kind!r}: choose one of them")
    if mask_file is not None:
        if mask_array is not None:
            found = mask_from_file(mask_array, Path(mask_file).name)
        else:
            found = sampled_pattern(scan) if str(mask_file) == FROM_ZEROS else load_mask(mask_file)
        return _counted_on(scan.support, as_mask(found, tuple(scan.kspace.shape)))
    if acceleration is not None:
        if not scan.fully_sampled:
            raise MaskError(
                "expected fully sampled k-space to draw a mask for, got a scan that is already undersampled: "
                + ("leave the acceleration out to use the scan's own mask" if scan.mask is not None else _NEEDS_MASK)
            )
        return MASK_KINDS[kind](
            scan.width,
            acceleration,
            center_fraction=center_fraction,
            num_low_frequencies=num_low_frequencies,
            seed=seed,
            support=scan.support,
        )
    if scan.mask is not None:
        return as_mask(scan.mask, tuple(scan.kspace.shape))
    if scan.fully_sampled:
        raise MaskError(
            "expected a mask or an acceleration, got a fully sampled scan and neither: "
            "give --acceleration 4, or --mask FILE (acceleration=4 or a mask from Python)"
        )
    raise MaskError(f"expected a mask, got an undersampled scan that has none of its own: {_NEEDS_MASK}")


def _counted_on(support: npt.NDArray[np.bool_], mask: Mask) -> Mask:
    """A mask of columns, its acceleration that of the columns which could have been sampled."""
    if isinstance(mask, ColumnMask) and not mask.lines[~support].any():
        return replace(mask, support_width=int(np.count_nonzero(support)))
    return mask


_NEEDS_MASK = (
    "give the mask that it was sampled with, --mask FILE (a mask from Python), "
    f"or --mask {FROM_ZEROS} to take its zeros for what was not sampled"
)
