"""Arrays: NumPy to tensors, centre crops, and sums over the items of a batch.

A centre crop takes N//2 of the whole to n//2 of the part, odd or even. Batched problems count their items on the first
axis; their scalars are float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = [
    "as_complex_tensor",
    "as_tensor",
    "center_crop",
    "center_window",
    "inner",
    "parts",
    "per_item",
    "quotient",
    "total",
]


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


def center_window(shape: Sequence[int], size: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of the centre of an array, for arrays and tensors alike.

    Along an axis of N samples the n at the centre start at N//2 - n//2, as the zero frequency of k-space and the origin
    of an image are at N//2. Images and references that are cut by different rules lie one pixel apart.

    Args:
        shape: of the array; its last two axes count.
        size: `(h, w)` wanted; an axis that is not larger is left as it is.
    """
    rows, columns = (
        slice(full // 2 - wanted // 2, full // 2 - wanted // 2 + wanted) if wanted < full else slice(0, full)
        for full, wanted in zip(shape[-2:], size, strict=True)
    )
    return rows, columns


def center_crop(images: Tensor, size: Sequence[int]) -> Tensor:
    """The centre `(..., h, w)` of images, see `center_window`."""
    return images[(..., *center_window(images.shape, size))]


def parts(x: Tensor) -> Tensor:
    """Real tensor `(..., 2)` of real and imaginary parts; `(..., 1)` of a real tensor."""
    return torch.view_as_real(x) if x.is_complex() else x.unsqueeze(-1)


def total(x: Tensor) -> Tensor:
    """Sum over all axes but the first, in float64, `(batch,)`."""
    return x.flatten(1).sum(dim=1, dtype=torch.float64)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """`Re <a, b>` of each item, in float64, `(batch,)`."""
    return total(parts(a) * parts(b))


def per_item(values: Tensor, like: Tensor) -> Tensor:
    """Scalars of the items, `(batch,)`, shaped to multiply a tensor; of its real type where they are numbers."""
    shaped = values.reshape(-1, *([1] * (like.ndim - 1)))
    return shaped if shaped.dtype == torch.bool else shaped.to(like.real.dtype)


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """`a / b` element by element, and 0 where `b` is 0."""
    return torch.where(b != 0, a / torch.where(b != 0, b, torch.ones_like(b)), torch.zeros_like(a))
