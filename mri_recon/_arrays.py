"""NumPy arrays to tensors, whatever their byte order, layout or right to be written to."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["as_complex_tensor", "as_tensor"]


def as_tensor(array: npt.NDArray[Any] | Tensor) -> Tensor:
    """A tensor of an array's values; a tensor as it is.

    Memory is shared only with an array that a tensor can be laid over: contiguous, of this machine's byte order and a
    type that PyTorch has, and writable. A read-only one (a file mapped into memory) is copied, so that nothing that is
    done to the tensor reaches it. Long doubles become doubles.
    """
    if isinstance(array, Tensor):
        return array.resolve_conj().resolve_neg()  # a lazy conjugate has no real and imaginary part to look at
    kind = array.dtype.newbyteorder("=")
    if kind.itemsize > 8 * (2 if kind.kind == "c" else 1) and kind.kind in "fc":
        kind = np.dtype(np.complex128 if kind.kind == "c" else np.float64)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, which whoever asks refuses with a reason
        return torch.from_numpy(np.require(array, dtype=kind, requirements=["C", "W"]))


def as_complex_tensor(array: npt.NDArray[Any] | Tensor) -> Tensor:
    """`as_tensor` of complex numbers as complex64; real numbers stay real, for whoever asks to refuse them."""
    if isinstance(array, np.ndarray) and array.dtype.kind == "c":
        with np.errstate(over="ignore"):
            return torch.from_numpy(np.require(array, dtype=np.complex64, requirements=["C", "W"]))
    return as_tensor(array)
