"""Mix the images of several methods, or choose one, by how well they predict measured samples they were not shown.

Every candidate runs on the folds of the mask (`masks.folds`). The weights of the images are those whose mixture
predicts the samples held out best (`methods.weights`), over all slices of the scan. The candidates with a weight then
run on all samples. All candidates get the same maps, which only need the fully sampled centre that every fold keeps.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon.coils.scan_maps import ScanMaps
from mri_recon.errors import MaskError, MethodError
from mri_recon.masks.types import Mask
from mri_recon.methods.candidate import Candidate, parse_candidates
from mri_recon.methods.holdout import HoldOutData, Prediction, compare_predictions, difference_db, hold_out
from mri_recon.methods.holdout_check import assemble, check_folds, reference_predictions
from mri_recon.methods.option_values import Between, OneOf, check_values
from mri_recon.methods.trials import FALLBACK, Runner, Trial, try_candidates, weighted_images
from mri_recon.methods.trust import TRUST_MAP, assess
from mri_recon.methods.weights import unit_errors
from mri_recon.progress import OnProgress

__all__ = ["CANDIDATES", "MOST_CANDIDATES", "auto"]

CANDIDATES = "cs-wavelet,unet,unrolled"
"""Candidates by default. On the validation scans, CG-SENSE and zero-filled add nothing to them."""

MOST_CANDIDATES = 8

_How = Annotated[str, OneOf("mixture", "choice")]

_Sigma = Annotated[float, Between(0, 1e38, open_below=True, cure="it is sqrt(E|n|^2) of one k-space sample")] | None


def auto(
    kspace: Tensor,
    mask: Mask,
    *,
    sens_maps: Tensor | None = None,
    device: torch.device,
    candidates: str | tuple[str, ...] = CANDIDATES,
    how: _How = "mixture",
    sigma: _Sigma = None,
    on_progress: OnProgress | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Mix the images of several methods, weighted by how well they predict measured samples they were not shown.

        x = sum_m w_m x_m,   min_w sum |y - F S sum_m w_m x_m|^2 over the samples held out,   w_m >= 0,   sum_m w_m = 1

    A candidate has the weight 0 if it predicts worse than nothing, or if the prediction without it is not worse by a
    standard error (`weights.kept_mixture`). Every candidate runs on three folds, and once more if it has a weight: four
    runs of each at most.

    Args:
        kspace: complex64 `(slice, coil, readout, phase)`.
        mask: the sampling mask.
        sens_maps: coil sensitivities like `kspace`; estimated by ESPIRiT when absent.
        device: where to compute.
        candidates: methods, as names separated by commas or as a tuple, with options after colons, e.g.
            "cs-wavelet,cg-sense:reg_weight=0.003" (`candidate.parse_candidates`).
        how: "mixture" of the images, or "choice" of the candidate that predicts best.
        sigma: noise sqrt(E|n|^2) of one sample, for the candidates that have this option; they estimate it when absent.
        on_progress: called between the iterations of the candidates, see `mri_recon.progress`.

    Returns:
        complex64 image `(slice, h, w)`; info with `auto`: `how` ("mixture", "choice", or "fallback"), `weights` by
        candidate, `predictions` by candidate (`Prediction.report`), `left_out`, the reason for each candidate that
        failed, `runner_up`, the candidate that predicts best besides the one with the largest weight, and `why`, a
        sentence; `holdout`, the report of the hold-out check (`holdout_check`), the weights of each fold computed from
        the other folds; `trust` and `trust_map` (`trust.assess`); `models`, the networks that were tried, with
        `candidate`, `name` and `sha256`; `reports`, the info of the candidates that have a weight; `warnings`;
        `seconds`. With too few lines outside the fully sampled centre, the image is that of `FALLBACK`, with a warning
        and without `holdout` and `trust`. If no candidate predicts better than nothing, the image is that of the
        candidate `FALLBACK`, with a warning.

    Raises:
        MethodError: candidates that `parse_candidates` refuses, more than `MOST_CANDIDATES`, or all of which fail.
        MaskError: several coils without maps and without a fully sampled centre.
        FormatError: no maps can be estimated.
    """
    start = time.perf_counter()
    check_values("auto", auto, {"candidates": candidates, "how": how, "sigma": sigma})
    chosen = _checked(candidates)
    maps = ScanMaps.of(kspace, mask, sens_maps)
    runner = Runner(maps, device, sigma, on_progress)
    try:
        data = hold_out(kspace, mask, maps.everywhere, folds=check_folds(kspace, mask))
    except MaskError as error:
        image = runner.run(Candidate(FALLBACK), kspace, mask)
        info = _fallback_info(runner.reports[FALLBACK], str(error))
    else:
        trial = try_candidates(runner, data, chosen)
        trial, weights, image = weighted_images(runner, trial, kspace, mask, how)
        info = _info(runner, trial, weights, data, how)
        info[TRUST_MAP], info["trust"] = _trust(trial, weights, image, data, mask)
    return image, info | {"seconds": time.perf_counter() - start}


auto.holds_out = True  # type: ignore[attr-defined]  # its info has the hold-out check already


def _checked(texts: str | Sequence[str]) -> list[Candidate]:
    found = parse_candidates(texts)
    if len(found) > MOST_CANDIDATES or any(one.method == "auto" for one in found):
        raise MethodError(
            f"method 'auto': expected at most {MOST_CANDIDATES} candidates, none of them auto, got "
            f"{', '.join(one.label for one in found)}: leave some out"
        )
    return found


def _fallback_info(report: dict[str, Any], reason: str) -> dict[str, Any]:
    why = f"{FALLBACK}, because there are too few lines to test the candidates on"
    return {
        "auto": {
            "how": "fallback",
            "weights": {FALLBACK: 1.0},
            "predictions": {},
            "left_out": {},
            "runner_up": None,
            "why": why,
        },
        "models": [],
        "reports": {FALLBACK: report},
        "warnings": [f"auto took {why}: {reason}", *report.get("warnings", [])],
    }


def _info(
    runner: Runner, trial: Trial, weights: npt.NDArray[np.float64], data: HoldOutData, how: str
) -> dict[str, Any]:
    labels = [one.label for one in trial.candidates]
    used = [label for label, weight in zip(labels, weights, strict=True) if weight > 0]
    references = {
        name: compare_predictions(data, one) for name, one in reference_predictions(data, runner.maps).items()
    }
    holdout, behind = assemble(_cross_fitted(trial, how), references, data, method="auto")
    runner_up, why = _explained(trial, weights)
    unsure = (
        []
        if trial.informed
        else [
            "auto could not tell the candidates apart, none of which predicts the lines held out better than nothing: "
            f"it took {used[0]}; more lines would be needed"
        ]
    )
    failed = [f"auto left out {label}: {reason}" for label, reason in trial.left_out.items()]
    own = [text for label in used for text in runner.reports[label].get("warnings", [])]
    return {
        "auto": {
            "how": how,
            "weights": dict(zip(labels, weights.tolist(), strict=True)),
            "predictions": {label: one.report() for label, one in zip(labels, trial.compared, strict=True)},
            "left_out": trial.left_out,
            "runner_up": runner_up,
            "why": why,
        },
        "holdout": holdout,
        "models": [
            {"candidate": label, "name": str(report["model"]), "sha256": str(report["model_sha256"])}
            for label, report in runner.reports.items()
            if label in labels and "model_sha256" in report
        ],
        "reports": {label: runner.reports[label] for label in used},
        "warnings": list(dict.fromkeys([*behind, *unsure, *failed, *own])),
    }


def _trust(
    trial: Trial, weights: npt.NDArray[np.float64], image: Tensor, data: HoldOutData, mask: Mask
) -> tuple[Tensor, dict[str, Any]]:
    """Assess the mixture beside its candidates; the magnitudes of the folds are mixed as if their phases were equal."""
    pairs = zip(weights.tolist(), trial.magnitudes, strict=True)
    mixed = torch.stack([weight * one for weight, one in pairs]).sum(dim=0)
    return assess(image, mixed, torch.stack(trial.magnitudes), data, mask, "auto")


def _cross_fitted(trial: Trial, how: str) -> Prediction:
    """Compute the error of the mixture on every fold with weights from the other folds."""
    errors = np.zeros(len(trial.grams))
    first = trial.compared[0]
    for number in np.unique(first.folds):
        inside = first.folds == number
        weights = trial.weights(how, ~inside)
        errors[inside] = unit_errors(trial.grams[inside], weights)
    return Prediction(errors, first.energies, first.folds, first.floor)


def _explained(trial: Trial, weights: npt.NDArray[np.float64]) -> tuple[str | None, str]:
    """Name the runner-up, and say in a sentence what was taken and why."""
    labels = [one.label for one in trial.candidates]
    order = np.argsort(-weights, kind="stable").tolist()
    first, others = order[0], sorted(order[1:], key=lambda number: trial.compared[number].error)
    taken = [f"{labels[number]} ({weights[number]:.2f})" for number in order if weights[number] > 0]
    best = trial.compared[first]
    what = f"a mixture of {', '.join(taken)}; {labels[first]} alone" if len(taken) > 1 else f"{labels[first]}, which"
    why = f"{what} predicts the lines held out with an error of {best.error_db:.1f} dB"
    if not others:
        return None, why
    second = trial.compared[others[0]]
    worse, error = difference_db(second, best)
    label = labels[others[0]]
    return label, f"{why}; the runner-up {label} with {second.error_db:.1f} dB ({worse:+.1f} +- {error:.1f} dB)"
