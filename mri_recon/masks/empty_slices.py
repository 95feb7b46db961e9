"""Exclude slices without data from a reconstruction and insert zero images for them.

A volume may have slices of zeros only, outside the object or lost by the scanner. No scale, noise level, phase or
sensitivity can be estimated from them, so no method receives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from mri_recon._arrays import is_tensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["empty_slices", "fill_empty", "kept_slices", "note_empty", "of_kept"]


def empty_slices(kspace: Tensor | npt.NDArray[Any]) -> list[int]:
    """List the numbers of the slices of k-space `(slice, coil, readout, phase)` whose samples are all zero."""
    return [number for number, one in enumerate(kspace) if not bool((one != 0).any())]


def kept_slices(num_slices: int, empty: list[int]) -> list[int]:
    """List the numbers of the slices that are not empty."""
    return [number for number in range(num_slices) if number not in set(empty)]


def of_kept(options: Mapping[str, Any], kept: list[int], num_slices: int) -> dict[str, Any]:
    """Restrict a method's options to the kept slices: a `sigma` for each slice loses the values of the empty ones."""
    sigma = options.get("sigma")
    if is_tensor(sigma) and tuple(sigma.shape) == (num_slices,):
        return {**options, "sigma": sigma[kept]}
    return dict(options)


def fill_empty(image: Tensor, kept: list[int], num_slices: int) -> Tensor:
    """Insert zero images for the empty slices among those of the kept slices: `(kept, h, w)` to `(slice, h, w)`."""
    whole = image.new_zeros((num_slices, *image.shape[1:]))
    whole[kept] = image
    return whole


def note_empty(info: dict[str, Any], empty: list[int], kept: list[int], num_slices: int) -> dict[str, Any]:
    """Add to `info` the key `empty_slices`, a sentence in `warnings`, and None for each empty slice in `per_slice`."""
    listed = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
    told = (
        f"{len(empty)} of {num_slices} slices hold no data (zeros only; {listed}, counted from 0): their images are "
        "zero, which SSIM counts as equal to a reference of zeros"
    )
    noted = {**info, "empty_slices": empty, "warnings": [*info.get("warnings", []), told]}
    if isinstance(info.get("per_slice"), Mapping):
        noted["per_slice"] = {name: _spread(values, kept, num_slices) for name, values in info["per_slice"].items()}
    return noted


def _spread(values: Any, kept: list[int], num_slices: int) -> Any:
    if not isinstance(values, list) or len(values) != len(kept):
        return values
    by_slice = dict(zip(kept, values, strict=True))
    return [by_slice.get(number) for number in range(num_slices)]
