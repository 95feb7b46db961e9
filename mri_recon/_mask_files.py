"""Reading the array of a mask out of a file, without trusting the file.

Sizes are checked before anything is allocated, pickles are never loaded, and HDF5 goes through the opener that refuses
links and external storage.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError

__all__ = ["read_mask_array"]

# No acquired 2-D k-space comes near this; a file that declares more is damaged or hostile.
_MAX_MASK_SIZE = 1 << 26

_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    zlib.error,
)


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
    if not path.is_file():
        raise FormatError(f"expected a mask file, found nothing at {path}: check the path")
    return reader(path)


def _check_declared(shape: Sequence[int], path: Path) -> None:
    if math.prod(shape) > _MAX_MASK_SIZE:
        raise FormatError(
            f"expected a mask of at most {_MAX_MASK_SIZE} entries, {path.name} declares shape {tuple(shape)}: "
            "it is damaged, or not a mask"
        )


def _pick(names: Sequence[str], path: Path) -> str:
    if "mask" in names:
        return "mask"
    if len(names) == 1:
        return names[0]
    found = ", ".join(names) or "nothing"
    raise FormatError(f"expected an array named 'mask' or one array alone in {path.name}, found: {found}")


def _read_array(stream: IO[bytes], path: Path) -> npt.NDArray[Any]:
    """One `.npy` stream, its declared size checked before anything is allocated."""
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except Exception as error:  # NumPy evaluates the header as text: a damaged one raises anything, TokenError too
        raise FormatError(f"expected a NumPy array in {path.name}, could not read one ({error})") from error
    if dtype.hasobject:
        raise FormatError(f"expected a mask of numbers in {path.name}, got pickled objects: save it as a plain array")
    _check_declared(shape, path)
    count = math.prod(shape)
    data = stream.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise FormatError(f"expected {count} entries of {dtype} in {path.name}, got {len(data)} bytes: it is cut short")
    return np.frombuffer(data, dtype=dtype, count=count).reshape(shape, order="F" if fortran else "C")


def _read_npy(path: Path) -> npt.NDArray[Any]:
    with path.open("rb") as stream:
        return _read_array(stream, path)


def _read_npz(path: Path) -> npt.NDArray[Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            with archive.open(f"{_pick(names, path)}.npy") as stream:
                return _read_array(stream, path)
    except _ZIP_DAMAGE as error:
        raise FormatError(f"expected a NumPy archive in {path.name}, could not read it ({error})") from error


def _read_mat(path: Path) -> npt.NDArray[Any]:
    import scipy.io  # here, because only this format needs it and it is slow to import

    try:
        declared = {name: shape for name, shape, _ in scipy.io.whosmat(str(path))}
        name = _pick(list(declared), path)
        _check_declared(declared[name], path)
        return np.asarray(scipy.io.loadmat(str(path), variable_names=[name])[name])
    except FormatError:
        raise
    except Exception as error:  # damaged files raise anything from struct.error to MemoryError inside scipy
        raise FormatError(f"expected a MATLAB v5 file in {path.name}, could not read it ({error})") from error


def _read_hdf5(path: Path) -> npt.NDArray[Any]:
    from mri_recon.io.hdf5 import get_dataset, open_hdf5, read_array  # here, because mri_recon.io imports this module

    with open_hdf5(path) as file:
        dataset = get_dataset(file, "mask")
        if dataset is None:
            raise FormatError(f"expected a dataset 'mask' in {path.name}, found: {', '.join(file) or 'nothing'}")
        _check_declared(dataset.shape, path)
        return read_array(dataset)
