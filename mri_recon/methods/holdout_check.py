"""Check a method on one scan: how well it predicts measured samples that it was not shown, beside two references.

The method runs on every fold of the mask (`masks.folds`). So do two references that cost little: the zero-filled image
and CG-SENSE. A method that predicts the samples worse than a reference has gone wrong on this scan, and its report
carries a warning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mri_recon.coils.scan_maps import ScanMaps
from mri_recon.coils.sensitivity_maps import estimate_maps
from mri_recon.errors import MaskError, MethodError
from mri_recon.masks.folds import Fold
from mri_recon.masks.types import ColumnMask, Mask
from mri_recon.methods.candidate import Candidate
from mri_recon.methods.candidate_runs import candidate_images, without_phase
from mri_recon.methods.checks import num_runs
from mri_recon.methods.holdout import (
    HeldOut,
    HoldOutData,
    Prediction,
    compare_predictions,
    difference_db,
    fold_images,
    predicted_samples,
    scan_folds,
)

__all__ = [
    "REFERENCES",
    "STANDARD_ERRORS",
    "Checked",
    "assemble",
    "behind",
    "check_folds",
    "check_maps",
    "holdout_report",
    "reference_predictions",
]

REFERENCES = (Candidate("zero-filled"), Candidate("cg-sense"))
"""Methods that cost little, beside which every method is seen."""

STANDARD_ERRORS = 2.0
"""A method is behind a reference if the difference exceeds this many standard errors of the difference."""

Run = Callable[[Tensor, Mask], tuple[Tensor, Mapping[str, Any]]]
"""Reconstruct k-space with a mask: image `(slice, h, w)` and the report of the method."""


def check_folds(kspace: Tensor, mask: Mask) -> list[Fold]:
    """Split the mask of a scan into folds, before any work is done.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.

    Raises:
        MaskError: too few samples outside the fully sampled centre.
    """
    try:
        return scan_folds(kspace, mask)
    except MaskError as error:
        raise MaskError(f"hold-out check: {error}") from error


@dataclass(frozen=True)
class Checked:
    """Hold the result of a check.

    Attributes:
        report: for `info["holdout"]`.
        warnings: one sentence if the method is behind a reference.
        images: the method's images of the folds, `(fold, slice, h, w)`.
    """

    report: dict[str, Any]
    warnings: list[str]
    images: Tensor


def holdout_report(
    data: HoldOutData, maps: ScanMaps, run: Run, *, method: str, on_run: Callable[[int], None] | None = None
) -> Checked:
    """Run a method and the references on the folds, and compare their predictions with the samples held out.

    Args:
        data: the folds, with the maps `maps.everywhere`.
        maps: result of `check_maps`.
        run: the method, with its options.
        method: its name, for the warning.
        on_run: called after every fold with the number of finished ones; an exception from it stops the work.

    Returns:
        the images, the warnings and the report: the figures of `Prediction.report`; `held_lines` (of a column mask) or
        `held_samples`; `references`, by name, with the same figures, `behind_db`, how much worse than the reference
        the method is, and `behind_uncertainty_db`, the standard error of this difference; `runs` and `seconds`.

    Raises:
        MethodError: the method's image is smaller than k-space.
    """
    start = time.perf_counter()
    done = 0

    def image(y: Tensor, mask: Mask) -> Tensor:
        nonlocal done
        found = without_phase(*run(y, mask))
        if found.shape[-2:] != y.shape[-2:]:
            raise MethodError(
                f"hold-out check of {method!r}: expected an image of the size of k-space, {tuple(y.shape[-2:])}, got "
                f"{tuple(found.shape[-2:])}: leave the check out for this method"
            )
        done += 1
        if on_run is not None:
            on_run(done)
        return found

    images = fold_images(data, image)
    own = compare_predictions(data, predicted_samples(data, images))
    found = {name: compare_predictions(data, one) for name, one in reference_predictions(data, maps).items()}
    report, warnings = assemble(own, found, data, method=method)
    report |= {"runs": num_runs("holdout"), "seconds": time.perf_counter() - start}
    return Checked(report, warnings, torch.stack(images))


def assemble(
    own: Prediction, references: Mapping[str, Prediction], data: HoldOutData, *, method: str
) -> tuple[dict[str, Any], list[str]]:
    """Assemble the report and the warnings of a check from the predictions; see `holdout_report`."""
    told = {name: _beside(own, one) for name, one in references.items()}
    held = "held_lines" if isinstance(data.folds[0].shown, ColumnMask) else "held_samples"
    report = {**own.report(), held: len(own.errors), "references": told}
    return report, _warnings(method, own, references)


def reference_predictions(data: HoldOutData, maps: ScanMaps) -> dict[str, list[HeldOut]]:
    """Predict the samples held out by each of the `REFERENCES`, by its method's name.

    Args:
        data: the folds.
        maps: the maps of the scan.
    """
    return {one.method: predicted_samples(data, candidate_images(one, data, maps)) for one in REFERENCES}


def behind(own: Prediction, reference: Prediction) -> bool:
    """Tell whether a prediction is behind another by more than chance, `STANDARD_ERRORS` of the paired difference."""
    worse, error = difference_db(own, reference)
    return worse > STANDARD_ERRORS * error and worse > 0


def check_maps(kspace: Tensor, mask: Mask, sens_maps: Tensor | None, options: Mapping[str, Any]) -> ScanMaps:
    """Find the maps whose phase a method's images have.

    Args:
        kspace, mask: the scan.
        sens_maps: the maps that the method receives, if any.
        options: options of the method; `maps="center"` means `sens_maps_from_center`, all else ESPIRiT.

    Raises:
        MaskError, FormatError: as `ScanMaps.of`.
    """
    if sens_maps is None and kspace.shape[1] > 1 and options.get("maps") == "center":
        sens_maps = estimate_maps(kspace, mask, "center")
    return ScanMaps.of(kspace, mask, sens_maps)


def _beside(own: Prediction, reference: Prediction) -> dict[str, Any]:
    worse, error = difference_db(own, reference)
    return {**reference.report(), "behind_db": worse, "behind_uncertainty_db": error}


def _warnings(method: str, own: Prediction, references: Mapping[str, Prediction]) -> list[str]:
    ahead = {name: one for name, one in references.items() if name != method and behind(own, one)}
    if not ahead:
        return []
    best = min(ahead, key=lambda name: ahead[name].error)
    worse, error = difference_db(own, ahead[best])
    return [
        f"hold-out check: {method} predicts measured samples that it was not shown with an error of "
        f"{own.error_db:.1f} dB (0 dB: no better than predicting nothing), {worse:.1f} +- {error:.1f} dB worse than "
        f"{best} ({ahead[best].error_db:.1f} dB): do not rely on this image, use another method"
    ]
