"""Check the input of the classical methods, estimate their maps and build their operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

import torch
from torch import Tensor

from mri_recon._system.threads import Tell, side_by_side
from mri_recon.coils.checks import checked_maps
from mri_recon.coils.sensitivity_maps import estimate_maps
from mri_recon.errors import FormatError
from mri_recon.masks.convert import as_mask
from mri_recon.masks.types import Mask
from mri_recon.methods.option_values import Between, OneOf
from mri_recon.operators.data_term import SenseDataTerm
from mri_recon.operators.sense import SenseOperator
from mri_recon.progress import OnProgress, Progress, ScanProgress

__all__ = ["Iterations", "MapsChoice", "as_seen", "data_term", "largest_coverage", "sense_operator", "solve_slices"]

_Found = TypeVar("_Found")

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


def solve_slices(
    solve: Callable[[slice, Tell], tuple[Tensor, _Found]],
    kspace: Tensor,
    method: str,
    *,
    max_iters: int,
    on_progress: OnProgress | None,
) -> tuple[Tensor, list[_Found]]:
    """Solve the slices of a scan in groups, and report the progress of all.

    On a CPU, whose cache holds one slice, a group is one slice, and groups are solved side by side. On a GPU it is all.

    Args:
        solve: returns the images of a group, and what else is found. It tells of each iteration as `OnIteration`, and
            of its end with the iteration None.
        kspace: complex `(slice, coil, readout, phase)`.
        method: name of the method.
        max_iters: largest number of iterations of a group.
        on_progress: callback of the caller.

    Returns:
        the images of all slices; what was found for each group.
    """
    count, device = kspace.shape[0], kspace.device.type
    groups = [slice(i, i + 1) for i in range(count)] if device == "cpu" else [slice(0, count)]
    heard = None
    if on_progress is not None:
        heard = ScanProgress(on_progress, method, num_parts=len(groups), max_iters=max_iters).update

    def solved(number: int, tell: Tell) -> tuple[Tensor, _Found]:
        return solve(groups[number], partial(tell, number))

    parts = side_by_side(solved, range(len(groups)), heard=heard, device=device)
    return torch.cat([images for images, _ in parts]), [found for _, found in parts]
