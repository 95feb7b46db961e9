"""Split a mask into two: the samples that a network sees, and those that it is judged on."""

from __future__ import annotations

import numpy as np

from mri_recon.errors import MaskError
from mri_recon.masks.calibration_region import center_block, center_samples
from mri_recon.masks.types import BoolArray, ColumnMask, Mask, PatternMask

__all__ = ["num_outside", "split_mask"]


def split_mask(
    mask: Mask, share: float, rng: np.random.Generator, *, keep: BoolArray | None = None
) -> tuple[Mask, Mask]:
    """Split a mask into two without a common position: the network's, with the fully sampled centre, and the rest.

    Of the n sampled columns (positions, of a pattern) outside the fully sampled centre, round(share n) are drawn with
    equal probability for the second mask, at least one and at most n - 1.

    Args:
        mask: the mask to split.
        share: of the samples outside the centre, for the second mask.
        rng: draws them.
        keep: more columns (positions, of a pattern) for the first mask, bool like `mask.array`.

    Raises:
        MaskError: no fully sampled centre, or fewer than two sampled columns or positions outside it.
    """
    _, columns = center_block(mask)
    sampled = mask.array
    outside = np.flatnonzero(_outside(mask, keep))
    if outside.size < 2:
        raise MaskError(
            f"expected at least 2 sampled positions outside the dense centre to learn from, got {outside.size}: sample "
            'more, a smaller centre, or learn from data.target = "truth"'
        )
    count = min(outside.size - 1, max(1, round(share * outside.size)))
    held_out = np.zeros(sampled.shape, dtype=np.bool_)
    held_out.flat[rng.choice(outside, count, replace=False)] = True
    if isinstance(mask, PatternMask):
        return PatternMask(sampled & ~held_out), PatternMask(held_out)
    kept = ColumnMask(
        sampled & ~held_out,
        kind="array",
        num_low_frequencies=columns.stop - columns.start,
        center_start=columns.start,
        support_width=mask.support_width,
    )
    return kept, ColumnMask(held_out, kind="array", support_width=mask.support_width)


def num_outside(mask: Mask, *, keep: BoolArray | None = None) -> int:
    """Count the sampled columns (positions, of a pattern) that `split_mask` deals.

    Raises:
        MaskError: no fully sampled centre.
    """
    return int(np.count_nonzero(_outside(mask, keep)))


def _outside(mask: Mask, keep: BoolArray | None) -> BoolArray:
    outside = mask.array & ~center_samples(mask)
    return outside if keep is None else outside & ~keep
