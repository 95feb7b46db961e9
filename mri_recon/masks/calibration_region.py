"""Find the calibration region: the fully sampled block around the centre of k-space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mri_recon.errors import MaskError
from mri_recon.masks.convert import as_bool, mask_from_array, mask_to_numpy
from mri_recon.masks.types import BoolArray, ColumnMask, Mask, PatternMask, receipt_run, run_around

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "calibration_block",
    "center_block",
    "center_columns",
    "center_samples",
]


def center_block(mask: Mask | npt.ArrayLike | Tensor, *, at: tuple[int, int] | None = None) -> tuple[slice, slice]:
    """Find the fully sampled block at the centre of k-space, as slices `(readout, phase)`.

    A column mask gives all of readout (`slice(None)`) and the centre lines of the receipt if known, else the run of
    sampled lines around N//2. A pattern gives the fully sampled rectangle of the largest area that contains (N//2,
    N//2).

    With `at`, the result is the block around that position if it is large enough for calibration: at least 2 samples
    along either axis, and at least half as many columns as the block above.

    Args:
        mask: any mask that `as_mask` accepts, `(phase,)` or `(readout, phase)`.
        at: `(row, column)` of an echo off the centre (`echo.echo_center`); None for (N//2, N//2).

    Raises:
        MaskError: the centre is not sampled.
    """
    if not isinstance(mask, ColumnMask | PatternMask):
        array = as_bool(mask_to_numpy(mask))
        if array.ndim > 2 and array.size == math.prod(array.shape[-2:]):
            array = array.reshape(array.shape[-2:])
        if not 1 <= array.ndim <= 2:
            raise MaskError(f"expected a mask (phase,) or (readout, phase), got shape {array.shape}")
        mask = mask_from_array(array, "array")
    if isinstance(mask, PatternMask):
        return _center_rectangle(mask.pattern, at)
    block = receipt_run(mask) or run_around(mask.lines, mask.width // 2)
    if at is not None and not block.start <= at[1] < block.stop:
        run = run_around(mask.lines, at[1])
        if run.stop - run.start >= max(2, (block.stop - block.start) / 2):
            block = run
    if block.stop <= block.start:
        raise MaskError(
            f"expected a fully sampled centre, got a mask that leaves out column {mask.width // 2} of {mask.width}: "
            "sample a few central lines (center_fraction or num_low_frequencies), or pass sens_maps"
        )
    return slice(None), block


def _center_rectangle(pattern: BoolArray, at: tuple[int, int] | None) -> tuple[slice, slice]:
    if at is not None and pattern[at]:
        rows, columns = _rectangle_around(pattern, *at)
        if min(rows.stop - rows.start, columns.stop - columns.start) >= 2:
            return rows, columns
    row, column = (n // 2 for n in pattern.shape)
    if not pattern[row, column]:
        raise MaskError(
            f"expected a fully sampled centre, got a pattern {pattern.shape} that does not sample ({row}, {column}): "
            "pass sens_maps, or check that the centre of k-space is at N//2"
        )
    return _rectangle_around(pattern, row, column)


def _rectangle_around(pattern: BoolArray, row: int, column: int) -> tuple[slice, slice]:
    runs = [run_around(line, column) for line in pattern]
    left = np.array([column - run.start for run in runs])
    right = np.array([run.stop - column for run in runs])  # 0 if the row does not sample the centre column
    # A rectangle from `up` rows above to `down` rows below the centre is as wide as its narrowest row.
    left_up, right_up = (np.minimum.accumulate(side[row::-1]) for side in (left, right))
    left_down, right_down = (np.minimum.accumulate(side[row:]) for side in (left, right))
    wide_left = np.minimum.outer(left_up, left_down)
    wide_right = np.minimum.outer(right_up, right_down)
    height = np.add.outer(np.arange(left_up.size), np.arange(left_down.size)) + 1
    area = np.where(wide_right > 0, (wide_left + wide_right) * height, 0)
    up, down = (int(i) for i in np.unravel_index(int(np.argmax(area)), area.shape))
    phase = slice(column - int(wide_left[up, down]), column + int(wide_right[up, down]))
    return slice(row - up, row + down + 1), phase


def center_samples(mask: Mask, *, at: tuple[int, int] | None = None) -> BoolArray:
    """Mark the fully sampled centre, `center_block`, in an array like `mask.array`.

    Raises:
        MaskError: the centre is not sampled.
    """
    rows, columns = center_block(mask, at=at)
    marked = np.zeros(mask.array.shape, dtype=np.bool_)
    marked[columns if isinstance(mask, ColumnMask) else (rows, columns)] = True
    return marked


def calibration_block(
    mask: Mask | Tensor, shape: Sequence[int], size: tuple[int, int], *, at: tuple[int, int] | None = None
) -> tuple[slice, slice]:
    """Find the part of the fully sampled centre that calibration uses, as slices `(readout, phase)`.

    Args:
        mask: the sampling mask.
        shape: shape of the k-space, `(..., readout, phase)`.
        size: maximum number of samples along readout and phase, around `at` or (N//2, N//2).
        at: `(row, column)` of an echo off the centre (`echo.echo_center`); None for (N//2, N//2).

    Raises:
        MaskError: the mask has no fully sampled centre.
    """
    rows, columns = center_block(mask, at=at)
    row, column = (shape[-2] // 2, shape[-1] // 2) if at is None else at
    return _narrow(rows, shape[-2], size[0], row), _narrow(columns, shape[-1], size[1], column)


def _narrow(block: slice, size: int, wanted: int, center: int) -> slice:
    """Take at most `wanted` samples of the block around `center`, limited by the ends of the block."""
    first, last, _ = block.indices(size)
    start = max(first, min(center - wanted // 2, last - wanted))
    return slice(start, min(last, start + wanted))


def center_columns(mask: ColumnMask) -> slice:
    """Find the columns of the fully sampled centre; empty if there is none."""
    try:
        return center_block(mask)[1]
    except MaskError:
        return slice(mask.width // 2, mask.width // 2)
