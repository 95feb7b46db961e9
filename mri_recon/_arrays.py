"""Convert between arrays and tensors, crop centres, and sum over the items of a batch.

A centre crop takes N//2 of the whole to n//2 of the part, odd or even. Batched problems count their items on the first
axis. Their scalars are float64. PyTorch is imported by the functions that make tensors, not by this module: readers and
masks hold NumPy arrays and start without it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, overload

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

_Scalar = TypeVar("_Scalar", bound=np.generic)

_PIECE = 1 << 16
"""Products that `inner` holds at a time."""

__all__ = [
    "as_complex_tensor",
    "as_tensor",
    "center_crop",
    "center_window",
    "inner",
    "is_tensor",
    "lower_median",
    "parts",
    "per_item",
    "quotient",
    "to_numpy",
    "total",
]


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Tell whether a value is a tensor, without importing PyTorch: before that import nothing is one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_numpy(array: npt.ArrayLike | Tensor) -> npt.NDArray[Any]:
    """Return a tensor, an array or nested lists as a NumPy array on the host, its memory shared if possible."""
    return array.detach().cpu().resolve_conj().resolve_neg().numpy() if is_tensor(array) else np.asarray(array)


def as_tensor(array: npt.NDArray[Any] | Tensor) -> Tensor:
    """Return a tensor with an array's values, or a tensor unchanged.

    The tensor shares the memory of an array that is contiguous and writable, in native byte order and of a PyTorch
    type. A read-only array (a memory-mapped file) is copied, so that changes of the tensor do not reach it. Long
    doubles become doubles.
    """
    import torch

    if isinstance(array, torch.Tensor):
        return array.resolve_conj().resolve_neg()  # a lazy conjugate cannot be viewed as real and imaginary parts
    kind = array.dtype.newbyteorder("=")
    if kind.itemsize > 8 * (2 if kind.kind == "c" else 1) and kind.kind in "fc":
        kind = np.dtype(np.complex128 if kind.kind == "c" else np.float64)
    with np.errstate(over="ignore"):  # too large numbers become infinite, which callers refuse
        return torch.from_numpy(np.require(array, dtype=kind, requirements=["C", "W"]))


def as_complex_tensor(array: npt.NDArray[Any] | Tensor) -> Tensor:
    """Return complex numbers as a complex64 tensor, see `as_tensor`; real ones stay real, for callers to refuse."""
    if isinstance(array, np.ndarray) and array.dtype.kind == "c":
        import torch

        with np.errstate(over="ignore"):
            return torch.from_numpy(np.require(array, dtype=np.complex64, requirements=["C", "W"]))
    return as_tensor(array)


def center_window(shape: Sequence[int], size: Sequence[int]) -> tuple[slice, slice]:
    """Find the rows and columns of the centre of an array.

    Along an axis of N samples the n at the centre start at N//2 - n//2, because the zero frequency of k-space and the
    origin of an image are at N//2. Images and references that are cropped by different rules lie one pixel apart.

    Args:
        shape: shape of the array; only its last two axes are used.
        size: `(h, w)` of the centre; an axis that is not larger is kept whole.
    """
    rows, columns = (
        slice(full // 2 - wanted // 2, full // 2 - wanted // 2 + wanted) if wanted < full else slice(0, full)
        for full, wanted in zip(shape[-2:], size, strict=True)
    )
    return rows, columns


@overload
def center_crop(images: Tensor, size: Sequence[int]) -> Tensor: ...
@overload
def center_crop(images: npt.NDArray[_Scalar], size: Sequence[int]) -> npt.NDArray[_Scalar]: ...
def center_crop(images: Any, size: Sequence[int]) -> Any:
    """Crop images to their centre `(..., h, w)`, see `center_window`; arrays and tensors alike."""
    return images[(..., *center_window(images.shape, size))]


def lower_median(values: npt.NDArray[_Scalar]) -> _Scalar:
    """Return the median of a non-empty array; for an even number of values the lower middle one, as in PyTorch."""
    middle = (values.size - 1) // 2
    found: _Scalar = np.partition(values, middle, axis=None)[middle]
    return found


def parts(x: Tensor) -> Tensor:
    """Split a complex tensor into its real and imaginary parts, `(..., 2)`; a real one becomes `(..., 1)`."""
    import torch

    return torch.view_as_real(x) if x.is_complex() else x.unsqueeze(-1)


def total(x: Tensor) -> Tensor:
    """Sum over all axes but the first, in float64, `(batch,)`."""
    import torch

    return x.flatten(1).sum(dim=1, dtype=torch.float64)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Compute `Re <a, b>` of each item, in float64, `(batch,)`.

    On a CPU the products are summed a piece at a time, which its cache holds, twice: in their own precision and as
    doubles.
    """
    a, b = parts(a).flatten(1), parts(b).flatten(1)
    size = max(1, _PIECE // len(a)) if a.device.type == "cpu" else max(1, a.shape[1])
    found = total(a[:, :size] * b[:, :size])
    for first in range(size, a.shape[1], size):
        found += total(a[:, first : first + size] * b[:, first : first + size])
    return found


def per_item(values: Tensor, like: Tensor) -> Tensor:
    """Shape the scalars of the items, `(batch,)`, to multiply a tensor; numbers take its real type."""
    import torch

    shaped = values.reshape(-1, *([1] * (like.ndim - 1)))
    return shaped if shaped.dtype == torch.bool else shaped.to(like.real.dtype)


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """Divide `a / b` element by element; 0 where `b` is 0."""
    import torch

    return torch.where(b != 0, a / torch.where(b != 0, b, torch.ones_like(b)), torch.zeros_like(a))
