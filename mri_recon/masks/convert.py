"""Convert arrays and tensors to masks, and undersample k-space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mri_recon._arrays import as_complex_tensor, is_tensor, to_numpy
from mri_recon.errors import MaskError, ShapeError
from mri_recon.masks.types import BoolArray, ColumnMask, Mask, PatternMask, run_around

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "as_bool",
    "as_mask",
    "column_mask_from_lines",
    "drop_constant_axes",
    "mask_from_array",
    "mask_from_file",
    "mask_to_numpy",
    "other_values",
    "support_columns",
    "undersample",
]


def column_mask_from_lines(
    lines: npt.ArrayLike, *, kind: str = "file", support: npt.ArrayLike | None = None
) -> ColumnMask:
    """Make a column mask of known lines whose selection is unknown; its centre is the run of lines around N//2.

    Args:
        lines: bool or 0/1, `(phase,)`.
        kind: origin of the lines, e.g. "file".
        support: bool `(phase,)`, the columns that could have been sampled; all of them by default.

    Raises:
        MaskError: not 1-D, values other than 0 and 1, nothing sampled, or lines outside the support.
    """
    sampled = as_bool(np.asarray(lines))
    if sampled.ndim != 1:
        raise MaskError(f"expected the lines of a column mask as a 1-D array, got shape {sampled.shape}")
    columns = support_columns(sampled.size, support)
    if np.setdiff1d(np.flatnonzero(sampled), columns).size:
        raise MaskError("expected every sampled line inside the support, got lines outside it: pass the right support")
    run = run_around(sampled, sampled.size // 2)
    return ColumnMask(
        lines=sampled,
        kind=kind,
        num_low_frequencies=run.stop - run.start,
        center_start=run.start if run.stop > run.start else None,
        support_width=columns.size,
    )


def as_mask(mask: Mask | npt.ArrayLike | Tensor, kspace_shape: Sequence[int]) -> Mask:
    """Convert any accepted form of a mask to a `Mask` that fits k-space `(..., readout, phase)`.

    Args:
        mask: a `Mask`, or bool or 0/1 of shape `(phase,)`, `(readout, phase)`, with 1 for an axis along which it is
            constant and any number of leading axes along which it is constant, such as those of slices and coils. A
            2-D mask that is constant along readout becomes a `ColumnMask`.
        kspace_shape: shape of the k-space that the mask must fit.

    Raises:
        MaskError: the mask does not fit, has values other than 0 and 1, or samples nothing.
        ShapeError: `kspace_shape` has fewer than two axes.
    """
    if len(kspace_shape) < 2:
        raise ShapeError(f"expected k-space (..., readout, phase), got shape {tuple(kspace_shape)}")
    readout, phase = (int(n) for n in kspace_shape[-2:])
    if isinstance(mask, ColumnMask):
        return _fitting(mask, (phase,), kspace_shape)
    if isinstance(mask, PatternMask):
        return _fitting(mask, (readout, phase), kspace_shape)
    given = as_bool(mask_to_numpy(mask))
    core = given
    while core.ndim > 2 and core.shape[0] > 0 and bool((core == core[:1]).all()):
        core = core[0]
    shape = (readout, phase) if core.ndim == 2 else (phase,)
    fits = 1 <= core.ndim <= 2 and all(n in (1, wanted) for n, wanted in zip(core.shape, shape, strict=True))
    if not fits:
        raise _misfit(given.shape, kspace_shape)
    return mask_from_array(np.broadcast_to(core, shape), "array")


def undersample(kspace: npt.NDArray[Any] | Tensor, mask: Mask | npt.ArrayLike | Tensor) -> Tensor:
    """Set everything outside the mask to zero: y = P k.

    Args:
        kspace: complex `(..., readout, phase)`, array or tensor.
        mask: any mask that `as_mask` accepts.

    Returns:
        complex64 tensor of the same shape, on the input's device.

    Raises:
        ShapeError: k-space that is not complex or has fewer than two axes.
        MaskError: a mask that does not fit.
    """
    import torch

    full = kspace if isinstance(kspace, torch.Tensor) else np.asarray(kspace)
    if not (full.is_complex() if isinstance(full, torch.Tensor) else np.iscomplexobj(full)):
        raise ShapeError(
            f"expected complex k-space, got {full.dtype}: join real and imaginary parts first (torch.view_as_complex)"
        )
    full = as_complex_tensor(full)
    keep = as_mask(mask, full.shape).tensor(full.device)
    full = full.to(torch.complex64)
    # where, not *: unsampled positions become 0 even if the file holds inf or nan there.
    return torch.where(keep, full, torch.zeros((), dtype=full.dtype, device=full.device))


def mask_from_file(array: npt.NDArray[Any], name: str) -> Mask:
    """Make a mask from the array of a mask file; see `mri_recon.io.load_mask`.

    Args:
        array: the array as stored in the file.
        name: name of the file, for the receipt.

    Raises:
        MaskError: more than two axes, values other than 0 and 1, or nothing sampled.
    """
    array = as_bool(array)
    squeezed = drop_constant_axes(array, None)
    if squeezed.ndim > 2:
        raise MaskError(
            f"expected a mask (phase,) or (readout, phase) in {name}, got shape {array.shape}: "
            "store one mask for all slices and coils"
        )
    return mask_from_array(squeezed, "file", source=name)


def drop_constant_axes(array: npt.NDArray[Any], plane: tuple[int, int] | None) -> npt.NDArray[Any]:
    """Drop the axes of a file's mask that have length 1, and those of slices and coils along which it is constant.

    Args:
        array: the array as stored.
        plane: `(readout, phase)` of the k-space that the mask is for. If the last axes of a larger mask do not have
            these lengths, its slices and coils may come last, as in MATLAB. None if unknown: slices and coils come
            first.
    """
    squeezed = array.reshape([n for n in array.shape if n != 1] or [1])
    while squeezed.ndim > 2 and squeezed.size:
        behind = plane is not None and squeezed.shape[-2:] != plane and squeezed.shape[:2] == plane
        axis = squeezed.ndim - 1 if behind else 0
        first = squeezed.take([0], axis=axis)
        if not bool((squeezed == first).all()):
            break
        squeezed = first.squeeze(axis)
    slices = plane is not None and squeezed.ndim == 2 and squeezed.shape != plane and squeezed.shape[1] == plane[1]
    return squeezed[0] if slices and bool((squeezed == squeezed[:1]).all()) else squeezed


def other_values(array: npt.NDArray[Any]) -> str:
    """Name values of a mask other than 0 and 1, for messages."""
    values = array[~np.isin(array, (0, 1))]
    if array.dtype.kind not in "iufc" or values.size == 0:
        return f"other values ({array.dtype})"
    if array.dtype.kind != "c" and values.min() > 1:
        return f"other values up to {values.max()!s} ({array.dtype})"
    return f"other values such as {values[0]!s} ({array.dtype})"


def support_columns(width: int, support: npt.ArrayLike | None) -> npt.NDArray[np.intp]:
    """Return the indices of the acquired columns: all columns if `support` is None."""
    if support is None:
        return np.arange(width)
    array = as_bool(np.asarray(support))
    if array.shape != (width,):
        raise MaskError(f"expected a support of shape ({width},), one entry a column, got {array.shape}")
    if not array.any():
        raise MaskError(f"expected a support with acquired columns, got {width} columns and none acquired")
    return np.flatnonzero(array)


def mask_to_numpy(mask: npt.ArrayLike | Tensor) -> npt.NDArray[Any]:
    """Convert a tensor or nested lists to a NumPy array."""
    if is_tensor(mask) and str(mask.dtype) == "torch.bfloat16":  # NumPy has no such type
        mask = mask.float()
    return to_numpy(mask)


def as_bool(array: npt.NDArray[Any]) -> BoolArray:
    """Convert an array of 0 and 1, or of booleans, to booleans; anything else is a `MaskError`."""
    if array.dtype.kind == "c" and not array.imag.any():
        array = array.real  # some programs store k-space and mask in the same type
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise MaskError(
            f"expected a mask of booleans, or of 0 and 1, got {other_values(array)}: "
            "threshold it first (mask > 0 if sampled positions are marked by another number)"
        )
    return array.astype(np.bool_)


def mask_from_array(array: BoolArray, kind: str, source: str | None = None) -> Mask:
    """Make a `ColumnMask` of `(phase,)` or of `(readout, phase)` with equal rows, else a `PatternMask`."""
    if array.size == 0:
        raise MaskError(f"expected a mask with samples, got an empty array of shape {array.shape}")
    if array.ndim == 1:
        return column_mask_from_lines(array, kind=kind)
    if bool((array == array[:1]).all()):
        return column_mask_from_lines(array[0], kind=kind)
    return PatternMask(array, source=source or kind)


def _fitting(mask: Mask, shape: tuple[int, ...], kspace_shape: Sequence[int]) -> Mask:
    if mask.array.shape != shape:
        raise _misfit(mask.array.shape, kspace_shape)
    return mask


def _misfit(got: tuple[int, ...], kspace_shape: Sequence[int]) -> MaskError:
    readout, phase = kspace_shape[-2:]
    return MaskError(
        f"expected a mask ({phase},) or ({readout}, {phase}) for k-space of shape {tuple(kspace_shape)} "
        f"(..., readout, phase), got {tuple(got)}: make the mask for this width, or check the order of the axes"
    )
