"""Check the input of the classical methods, estimate their maps and build their operators."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from mri_recon.coils.checks import checked_maps
from mri_recon.coils.sensitivity_maps import estimate_maps
from mri_recon.errors import FormatError
from mri_recon.masks.convert import as_mask
from mri_recon.masks.types import Mask
from mri_recon.methods.option_values import Between, OneOf
from mri_recon.operators.data_term import SenseDataTerm
from mri_recon.operators.sense import SenseOperator
from mri_recon.progress import OnProgress, Progress

__all__ = ["Iterations", "MapsChoice", "as_seen", "data_term", "largest_coverage", "sense_operator", "solved_together"]

MapsChoice = Annotated[str, OneOf("espirit", "center")]

Iterations = Annotated[int, Between(1, 1_000_000_000)]


def sense_operator(
    kspace: Tensor,
    mask: Mask | Tensor,
    sens_maps: Tensor | None,
    maps: str,
    method: str,
    on_progress: OnProgress | None,
    *,
    compiled: bool = False,
) -> tuple[SenseOperator, str]:
    """Build the operator A, and name the source of its maps: "given", "one coil", "espirit" or "center".

    `compiled` is for `espirit_maps`.
    """
    checked_mask = as_mask(mask, kspace.shape)
    if sens_maps is not None:
        found, source = checked_maps(sens_maps, kspace), "given"
    elif kspace.shape[1] == 1:
        found, source = torch.ones_like(kspace), "one coil"
    else:
        if on_progress is not None:
            on_progress(Progress(method, "maps", 0, None))
        found, source = estimate_maps(kspace, checked_mask, maps, compiled=compiled), maps
    return SenseOperator(checked_mask.tensor(kspace.device), found), source


def data_term(operator: SenseOperator, kspace: Tensor) -> SenseDataTerm:
    """Build the data term.

    Raises:
        FormatError: a slice without samples on the mask.
    """
    data = SenseDataTerm(operator, kspace)
    if not bool((data.scale > 0).all()):
        raise FormatError(
            "expected k-space samples on the mask, got a slice without any: the mask belongs to another scan"
        )
    return data


def largest_coverage(data: SenseDataTerm) -> Tensor:
    """Bound `||A||^2` of each slice, shaped to divide images."""
    return data.coverage.flatten(1).amax(dim=1)[:, None, None]


def as_seen(image: Tensor, data: SenseDataTerm, source: str) -> Tensor:
    """Weight the image by the root sum of squares of estimated maps, or set it to 0 where all given maps are 0."""
    if source == "one coil":
        return image
    return image * ((data.coverage > 0) if source == "given" else data.coverage.sqrt())


def solved_together(kspace: Tensor) -> list[slice]:
    """Group the slices: one at a time on a CPU, whose cache holds one slice; all at once on a GPU."""
    count = kspace.shape[0]
    return [slice(i, i + 1) for i in range(count)] if kspace.device.type == "cpu" else [slice(0, count)]
