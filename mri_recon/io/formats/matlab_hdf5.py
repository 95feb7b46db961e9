"""Read MATLAB v7.3 `.mat`: HDF5 with reversed axes and complex numbers as records of real and imag.

The attribute `MATLAB_class` names the class of a variable. Text is stored as uint16; cells and objects are stored as
references into the group `#refs#`. Text is not read, and references are not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.matlab import refuse_other
from mri_recon.io.reading.axes import MATLAB_ORDER, find_layout
from mri_recon.io.reading.hdf5 import check_elements, get_dataset, hdf5_errors, open_hdf5, read_array, read_attribute
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES, show
from mri_recon.io.reading.slices import Slices, chosen_slices, slices_meta
from mri_recon.io.reading.variables import with_own_mask
from mri_recon.io.scan import RawScan

__all__ = ["is_mat_hdf5", "mat_hdf5_arrays", "read_mat_hdf5"]

_NUMERIC = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
_HEADER = b"MATLAB 7.3"


def is_mat_hdf5(path: Path) -> bool:
    """Tell whether a file begins as MATLAB's v7.3 files do."""
    with path.open("rb") as stream:
        return stream.read(len(_HEADER)) == _HEADER


def read_mat_hdf5(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read a MATLAB v7.3 file, or only `slices` of it; see `mri_recon.io.load`."""
    with open_hdf5(path, scan=slices is None, foreign=True) as file:
        numeric, other = _variables(file, path)
        refuse_other(variable, numeric, other, path)
        name, *own = with_own_mask(numeric, variable, where=path.name)
        dataset = _numbers(file, name, path)
        with hdf5_errors(path):
            shape, kind = tuple(int(n) for n in reversed(dataset.shape)), dataset.dtype
        layout = find_layout(shape, kind, axes, MATLAB_ORDER, where=f"{show(name)} of {path.name}")
        count = layout.length("slice", shape)
        indices = chosen_slices(slices, count, where=path.name)
        axis = layout.slice_axis
        if axis is None:
            array = read_array(dataset, max_bytes=max_bytes)
        else:
            array = read_array(dataset, max_bytes=max_bytes, indices=indices, axis=len(shape) - 1 - axis)
        masks = [read_array(_numbers(file, one, path), max_bytes=max_bytes).T for one in own]
    meta: dict[str, Any] = {"format": "MATLAB v7.3", "file": path.name, "variable": name, **layout.meta()}
    meta |= slices_meta(indices, count)
    return RawScan(layout.arrange(array.T), name=path.name, mask=masks[0] if masks else None, meta=meta)


def mat_hdf5_arrays(
    path: Path, choose: Callable[[Sequence[str], dict[str, str]], Sequence[str]], *, max_bytes: int = DEFAULT_MAX_BYTES
) -> dict[str, npt.NDArray[Any]]:
    """Read some numeric arrays of a MATLAB v7.3 file, like `mri_recon.io.formats.matlab.mat_arrays` for older files.

    Raises:
        FormatError: damaged, unsafe, too large, or not numeric.
    """
    with open_hdf5(path, foreign=True) as file:
        chosen = choose(*_variables(file, path))
        return {name: read_array(_numbers(file, name, path), max_bytes=max_bytes).T for name in chosen}


def _variables(file: h5py.File, path: Path) -> tuple[list[str], dict[str, str]]:
    """List the names of the numeric arrays at the top level, and of all other variables with their class."""
    numeric, other = list[str](), dict[str, str]()
    with hdf5_errors(path):
        for name in sorted(file):
            if name.startswith("#"):  # internal group of MATLAB, target of the references in cells and objects
                continue
            item = file[name]
            if not isinstance(item, h5py.Dataset):
                other[name] = "sparse" if "MATLAB_sparse" in item.attrs else "struct"
                continue
            told = _class_of(item)
            if told is None or told in _NUMERIC:
                numeric.append(name)
            else:
                other[name] = "text" if told == "char" else told
    return numeric, other


def _class_of(item: h5py.Dataset) -> str | None:
    try:
        told = read_attribute(item, "MATLAB_class")
    except FormatError:  # then the type of the elements decides
        return None
    return None if told is None else str(told)


def _numbers(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    dataset = get_dataset(file, name)
    if dataset is None:
        raise FormatError(f"expected an array {show(name)} in {path.name}, found none: choose another variable")
    with hdf5_errors(path):
        is_empty = "MATLAB_empty" in dataset.attrs
    if is_empty:  # its content is its shape
        raise FormatError(
            f"expected an array with numbers as {show(name)} of {path.name}, got an empty one: save the k-space again"
        )
    check_elements(dataset)
    return dataset
