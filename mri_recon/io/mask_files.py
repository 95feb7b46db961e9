"""Reading a mask out of a file, without trusting the file.

Masks come through the readers of k-space (`mri_recon.io`), which check sizes before anything is allocated, load no
pickles and follow no links.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.access import cannot_read, check_regular
from mri_recon.masks.convert import mask_from_file
from mri_recon.masks.types import Mask

__all__ = ["load_mask", "read_mask_array"]

# No acquired 2-D k-space comes near 2^26 samples, which count as eight bytes each; more is damaged or hostile.
_MAX_BYTES = 1 << 29


def load_mask(path: str | Path) -> Mask:
    """The mask stored in a file: `.npy`, `.npz`, MATLAB `.mat`, or the dataset `mask` of a fastMRI `.h5`.

    Axes of length 1 are dropped. One axis is phase, two are (readout, phase); a 2-D mask that is constant along readout
    is a `ColumnMask`. Among several arrays the one named `mask` is taken. Pickles are never loaded.

    Raises:
        FormatError: no such file, an unknown or damaged format, several arrays and none named `mask`, or an array too
            large to be a mask.
        MaskError: more than two axes, values other than 0 and 1, or nothing sampled.
    """
    path = Path(path)
    return mask_from_file(read_mask_array(path), path.name)


def read_mask_array(path: Path) -> npt.NDArray[Any]:
    """The array of a mask file, as stored.

    Raises:
        FormatError: no such file, an unknown or damaged format, several arrays and none named `mask`, pickled objects,
            or an array too large to be a mask.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".mat": _read_mat, ".h5": _read_hdf5, ".hdf5": _read_hdf5}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise FormatError(f"expected a mask file ending in {', '.join(readers)}, got {path.name}: convert it first")
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


# The readers are imported where they are used, because mri_recon.io imports this module.


def _read_npy(path: Path) -> npt.NDArray[Any]:
    from mri_recon.io.numpy_arrays import npy_array

    return npy_array(path, max_bytes=_MAX_BYTES)


def _read_npz(path: Path) -> npt.NDArray[Any]:
    from mri_recon.io.numpy_arrays import npz_arrays

    (array,) = npz_arrays(path, lambda names: [_pick(names, path)], max_bytes=_MAX_BYTES).values()
    return array


def _read_mat(path: Path) -> npt.NDArray[Any]:
    from mri_recon.io.matlab import mat_arrays
    from mri_recon.io.matlab_hdf5 import is_mat_hdf5, mat_hdf5_arrays

    read = mat_hdf5_arrays if is_mat_hdf5(path) else mat_arrays
    (array,) = read(path, lambda names, _: [_pick(names, path)], max_bytes=_MAX_BYTES).values()
    return array


def _read_hdf5(path: Path) -> npt.NDArray[Any]:
    from mri_recon.io.hdf5 import get_dataset, open_hdf5, read_array

    with open_hdf5(path) as file:
        dataset = get_dataset(file, "mask")
        if dataset is None:
            found = ", ".join(ascii(name[:60])[1:-1] for name in list(file)[:20]) or "nothing"
            raise FormatError(f"expected a dataset 'mask' in {path.name}, found: {found}")
        return read_array(dataset, max_bytes=_MAX_BYTES)
