"""Convert complex numbers stored as two real numbers: records of a real and an imaginary part, or an axis of 2."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["copy_as_complex", "join_axis", "pair_fields"]

_NAMES = (("real", "imag"), ("r", "i"), ("re", "im"))


def pair_fields(dtype: np.dtype[Any]) -> tuple[str, str] | None:
    """Return the names of the real and imaginary part in a record of two numbers of one type; None for any other type.

    The names are real and imag (MATLAB, Octave, C++), r and i (h5py), or re and im, in either case and order.
    """
    if dtype.names is None or len(dtype.names) != 2:
        return None
    by_name = {name.lower(): name for name in dtype.names}
    for real, imaginary in _NAMES:
        if real in by_name and imaginary in by_name:
            fields = by_name[real], by_name[imaginary]
            kinds = {dtype[name] for name in fields}
            return fields if len(kinds) == 1 and kinds.pop().kind in "if" else None
    return None


def copy_as_complex(out: npt.NDArray[np.complex64], source: npt.NDArray[Any]) -> None:
    """Copy complex numbers, or records of two numbers, into a complex64 array; too large numbers become infinite."""
    fields = pair_fields(source.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # a later check refuses k-space that is not finite
        if fields is None:
            out[...] = source
        else:
            out.real[...] = source[fields[0]]
            out.imag[...] = source[fields[1]]


def join_axis(array: npt.NDArray[Any], axis: int) -> npt.NDArray[np.complex64]:
    """Convert a real array with an axis of real and imaginary part to complex64 without that axis."""
    real, imaginary = np.moveaxis(array, axis, 0)
    out = np.empty(real.shape, dtype=np.complex64)
    with np.errstate(over="ignore", invalid="ignore"):
        out.real[...] = real
        out.imag[...] = imaginary
    return out
