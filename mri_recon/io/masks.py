"""Choose the mask of a scan: the user's file, a drawn mask, or the scan's own; never a guess.

Mask files are read by the readers of k-space (`mri_recon.io`), which check sizes before memory is allocated, load no
pickles and follow no links.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import FormatError, MaskError
from mri_recon.io.reading.access import cannot_read, check_regular
from mri_recon.io.scan import Scan, sampled_pattern
from mri_recon.masks.convert import as_mask, mask_from_file
from mri_recon.masks.draw import equispaced_mask, random_mask
from mri_recon.masks.types import ColumnMask, Mask

__all__ = [
    "FROM_ZEROS",
    "MASK_KINDS",
    "OWN_MASK",
    "choose_mask",
    "load_mask",
    "read_mask_array",
]


# No acquired 2-D k-space comes near 2^26 samples, counted as eight bytes each; larger files are damaged or hostile.
_MAX_BYTES = 1 << 29


def load_mask(path: str | Path) -> Mask:
    """Load the mask stored in a file: `.npy`, `.npz`, MATLAB `.mat`, or the dataset `mask` of a fastMRI `.h5`.

    Axes of length 1 are dropped. One axis is phase, two axes are (readout, phase); a 2-D mask that is constant along
    readout becomes a `ColumnMask`. Of several arrays, the one named `mask` is read. Pickles are never loaded.

    Raises:
        FormatError: no such file, an unknown or damaged format, several arrays and none named `mask`, or an array too
            large to be a mask.
        MaskError: more than two axes, values other than 0 and 1, or nothing sampled.
    """
    path = Path(path)
    return mask_from_file(read_mask_array(path), path.name)


def read_mask_array(path: Path) -> npt.NDArray[Any]:
    """Read the array of a mask file as stored.

    Raises:
        FormatError: no such file, an unknown or damaged format, several arrays and none named `mask`, pickled objects,
            or an array too large to be a mask.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".mat": _read_mat, ".h5": _read_hdf5, ".hdf5": _read_hdf5}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        near = did_you_mean(path.suffix or path.name, [*readers, FROM_ZEROS, OWN_MASK])
        raise FormatError(
            f"expected a mask file ending in {', '.join(readers)}, got {path.name}{near}: convert it first"
        )
    check_regular(path, "a mask file")
    try:
        return reader(path)
    except OSError as error:
        raise cannot_read(path, error) from error


def _pick(names: Sequence[str], path: Path) -> str:
    if "mask" in names:
        return "mask"
    if len(names) == 1:
        return names[0]
    found = ", ".join(ascii(name[:60])[1:-1] for name in names[:20]) or "nothing"
    raise FormatError(f"expected an array named 'mask' or one array alone in {path.name}, found: {found}")


# The readers are imported in the function, because mri_recon.io imports this module.


def _read_npy(path: Path) -> npt.NDArray[Any]:
    from mri_recon.io.formats.numpy_arrays import npy_array

    return npy_array(path, max_bytes=_MAX_BYTES)


def _read_npz(path: Path) -> npt.NDArray[Any]:
    from mri_recon.io.formats.numpy_arrays import npz_arrays

    (array,) = npz_arrays(path, lambda names: [_pick(names, path)], max_bytes=_MAX_BYTES).values()
    return array


def _read_mat(path: Path) -> npt.NDArray[Any]:
    from mri_recon.io.formats.matlab import mat_arrays
    from mri_recon.io.formats.matlab_hdf5 import is_mat_hdf5, mat_hdf5_arrays

    read = mat_hdf5_arrays if is_mat_hdf5(path) else mat_arrays
    (array,) = read(path, lambda names, _: [_pick(names, path)], max_bytes=_MAX_BYTES).values()
    return array


def _read_hdf5(path: Path) -> npt.NDArray[Any]:
    from mri_recon.io.reading.hdf5 import get_dataset, open_hdf5, read_array

    with open_hdf5(path) as file:
        dataset = get_dataset(file, "mask")
        if dataset is None:
            found = ", ".join(ascii(name[:60])[1:-1] for name in list(file)[:20]) or "nothing"
            raise FormatError(f"expected a dataset 'mask' in {path.name}, found: {found}")
        return read_array(dataset, max_bytes=_MAX_BYTES)


MASK_KINDS: dict[str, Callable[..., ColumnMask]] = {"random": random_mask, "equispaced": equispaced_mask}
"""Kinds of mask that can be drawn for an acceleration."""

OWN_MASK = "file"
"""Replaces a mask file: the mask of the scan's own file."""

FROM_ZEROS = "from-zeros"
"""Replaces a mask file: zeros of the k-space count as not sampled. A guess, made only on request by this name."""


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
    """Choose the mask of a run: `mask_file`, else one drawn for `acceleration` on the support, else the scan's own.

    Args:
        scan: the scan that the mask is for.
        mask_file: a mask saved as `.npy`, `.npz`, `.mat` or in a fastMRI HDF5 file; `OWN_MASK` or
            `FROM_ZEROS`.
        mask_array: the array in `mask_file`, if another process has read it; the file is then not opened.
        acceleration: number of columns of the support divided by the number of sampled columns.
        center_fraction: fraction of the support's columns in the fully sampled centre; only with `acceleration`.
        num_low_frequencies: size of the fully sampled centre as a number of columns.
        seed: seed of a drawn mask.
        kind: "random" or "equispaced".

    Raises:
        MaskError: two masks requested, no mask known, a drawn mask for a scan that is already undersampled, or a mask
            that cannot be drawn or does not fit.
    """
    _check_choice(mask_file, acceleration, kind, center=center_fraction is not None or num_low_frequencies is not None)
    if mask_file is not None and str(mask_file) == OWN_MASK:
        if scan.mask is None:
            raise MaskError(
                "expected a scan with a mask of its own, got one without: give --acceleration 4 for a fully sampled "
                "scan, or --mask with the mask's file (acceleration=4 or a mask from Python)"
            )
        return as_mask(scan.mask, tuple(scan.kspace.shape))
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


def _check_choice(mask_file: str | Path | None, acceleration: float | None, kind: str, *, center: bool) -> None:
    """Refuse contradictory arguments for a mask; `center` tells whether the size of its centre is given."""
    if mask_file is not None and acceleration is not None:
        raise MaskError(
            f"expected one mask, got the file {mask_file} and an acceleration of {acceleration:g}: give one of them"
        )
    if acceleration is None and center:
        raise MaskError(
            "expected an acceleration with the size of the centre, got the centre alone: "
            "give an acceleration, or leave the centre out"
        )
    if kind not in MASK_KINDS:
        raise MaskError(
            f"expected a kind of mask among {', '.join(MASK_KINDS)}, got {kind!r}{did_you_mean(kind, MASK_KINDS)}: "
            "choose one of them"
        )


def _counted_on(support: npt.NDArray[np.bool_], mask: Mask) -> Mask:
    """Compute the acceleration of a column mask with respect to the columns that could have been sampled."""
    if isinstance(mask, ColumnMask) and not mask.lines[~support].any():
        return replace(mask, support_width=int(np.count_nonzero(support)))
    return mask


_NEEDS_MASK = (
    "give the mask that it was sampled with, --mask FILE (a mask from Python), "
    f"or --mask {FROM_ZEROS} to treat its zeros as not sampled"
)
