"""Leaves slices without data out of a reconstruction and puts zeros in their place.

A volume may have slices that hold zeros only: beyond the object, or lost by the scanner. No scale, noise level, phase
or sensitivity can be found in them, so no method sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["empty_slices", "fill_empty", "kept_slices", "note_empty", "of_kept"]


def empty_slices(kspace: Tensor) -> list[int]:
    """Numbers of the slices of k-space `(slice, coil, readout, phase)` whose samples are all zero."""
    return [number for number, one in enumerate(kspace) if not bool((one != 0).any())]


def kept_slices(num_slices: int, empty: list[int]) -> list[int]:
    """Numbers of the others."""
    return [number for number in range(num_slices) if number not in set(empty)]


def of_kept(options: Mapping[str, Any], kept: list[int], num_slices: int) -> dict[str, Any]:
    """A method's options for the kept slices alone: a `sigma` of one number a slice loses those of the empty ones."""
    sigma = options.get("sigma")
    if isinstance(sigma, Tensor) and tuple(sigma.shape) == (num_slices,):
        return {**options, "sigma": sigma[kept]}
    return dict(options)


def fill_empty(image: Tensor, kept: list[int], num_slices: int) -> Tensor:
    """The image of the kept slices `(kept, h, w)` with zeros for the empty ones, `(slice, h, w)`."""
    whole = image.new_zeros((num_slices, *image.shape[1:]))
    whole[torch.as_tensor(kept, device=image.device)] = image
    return whole


def note_empty(info: dict[str, Any], empty: list[int], kept: list[int], num_slices: int) -> dict[str, Any]:
    """`info` with `empty_slices`, a sentence among its `warnings`, and None for the empty slices in `per_slice`."""
    listed = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
    told = (
        f"{len(empty)} of {num_slices} slices hold no data (zeros only; {listed}): their images are zero, which SSIM "
        "counts as equal to a reference of zeros"
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
