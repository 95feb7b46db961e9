"""Run several methods on one scan with the same maps, so that their images can be compared and mixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mri_recon.coils.scan_maps import ScanMaps
from mri_recon.errors import MethodError
from mri_recon.masks.types import Mask
from mri_recon.methods.calling import fixed_arguments
from mri_recon.methods.candidate import Candidate
from mri_recon.methods.holdout import HoldOutData, fold_images, with_phase
from mri_recon.methods.table import get_method, method_options

if TYPE_CHECKING:
    from mri_recon.progress import OnProgress

__all__ = ["candidate_images", "run_candidate", "without_phase"]

_CLASSICAL = ("cg-sense", "cs-wavelet")
"""Methods that estimate maps which fade outside the object, and weight their image by them."""


def run_candidate(
    candidate: Candidate,
    kspace: Tensor,
    mask: Mask,
    maps: ScanMaps,
    *,
    device: torch.device,
    sigma: float | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Reconstruct with a candidate: the image that its method makes by itself, in the phase of the maps.

    Args:
        candidate: the method and its options.
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.
        maps: maps of the scan.
        device: where to compute.
        sigma: noise of one sample, for a method with this option; None: the method estimates it.
        on_progress: passed to the method.

    Returns:
        complex image `(slice, readout, phase)` and the report of the method.

    Raises:
        MethodError: an image of another size than k-space, or one that is not finite; others as the method.
    """
    function = get_method(candidate.method)
    options = dict(candidate.options)
    if sigma is not None and "sigma" in method_options(candidate.method):
        options.setdefault("sigma", sigma)
    classical = candidate.method in _CLASSICAL and maps.cropped is not None
    given = None if kspace.shape[1] == 1 else maps.cropped if classical else maps.everywhere
    image, info = function(kspace, mask, sens_maps=given, **fixed_arguments(function, device, on_progress), **options)
    if tuple(image.shape) != (kspace.shape[0], *kspace.shape[-2:]) or not bool(torch.isfinite(image.abs()).all()):
        raise MethodError(
            f"method {candidate.label!r}: expected a finite image {(kspace.shape[0], *kspace.shape[-2:])}, got "
            f"{tuple(image.shape)} or pixels that are not finite: leave it out of the candidates"
        )
    weight = maps.seen if classical else None
    image = without_phase(image, info)
    return with_phase(image if weight is None else image * weight, kspace, maps.everywhere), info


def candidate_images(
    candidate: Candidate,
    data: HoldOutData,
    maps: ScanMaps,
    *,
    sigma: float | None = None,
    on_progress: OnProgress | None = None,
) -> list[Tensor]:
    """Run a candidate on every fold, see `holdout.fold_images`; arguments and errors as `run_candidate`."""

    def run(y: Tensor, mask: Mask) -> Tensor:
        return run_candidate(candidate, y, mask, maps, device=y.device, sigma=sigma, on_progress=on_progress)[0]

    return fold_images(data, run)


def without_phase(image: Tensor, info: Mapping[str, Any]) -> Tensor:
    """Return the magnitude of an image whose phase is not that of the maps; any other image as it is."""
    return image.abs() if info.get("combination") == "adaptive" else image
