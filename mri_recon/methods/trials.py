"""Try several candidates on the folds of a scan, weigh them, and reconstruct with those that have a weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon.coils.scan_maps import ScanMaps
from mri_recon.errors import Cancelled, MethodError, MriReconError
from mri_recon.masks.types import Mask
from mri_recon.methods.candidate import Candidate
from mri_recon.methods.candidate_runs import run_candidate
from mri_recon.methods.holdout import (
    HeldOut,
    HoldOutData,
    Prediction,
    compare_predictions,
    fold_images,
    predicted_samples,
    residual_grams,
)
from mri_recon.methods.weights import best_alone, kept_mixture
from mri_recon.progress import OnProgress, Progress

__all__ = ["FALLBACK", "Runner", "Trial", "try_candidates", "weigh", "weighted_images"]

FALLBACK = "cs-wavelet"
"""Method for a scan whose lines cannot tell the candidates apart."""


@dataclass
class Runner:
    """Run candidates on a scan or on a fold of it, and report the number of finished runs.

    Attributes:
        maps: maps of the scan.
        device: where to compute.
        sigma: noise of one sample, for the candidates that have this option; None: they estimate it.
        on_progress: called between the iterations of the candidates.
        total: number of runs; None if unknown.
        finished: number of finished runs.
        reports: info of the last run of each candidate, by its label.
    """

    maps: ScanMaps
    device: torch.device
    sigma: float | None = None
    on_progress: OnProgress | None = None
    total: int | None = None
    finished: int = 0
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, candidate: Candidate, kspace: Tensor, mask: Mask) -> Tensor:
        """Reconstruct k-space with a candidate, see `run_candidate`."""
        self._tell()
        image, self.reports[candidate.label] = run_candidate(
            candidate,
            kspace,
            mask,
            self.maps,
            device=self.device,
            sigma=self.sigma,
            on_progress=None if self.on_progress is None else self._tell,
        )
        self.finished += 1
        self._tell()
        return image

    def _tell(self, _: Progress | None = None) -> None:
        if self.on_progress is not None:
            self.on_progress(Progress("auto", "candidates", self.finished, self.total))


@dataclass(frozen=True)
class Trial:
    """Hold what the candidates that work on a scan predict.

    Attributes:
        candidates: the candidates.
        magnitudes: magnitudes of their images of the folds, float32 `(fold, slice, h, w)` each, in the same order.
        compared: their predictions of the samples held out, compared with what was measured.
        grams: inner products of their residuals, `(unit, candidate, candidate)`.
        left_out: the reason for each candidate that failed, by its label.
    """

    candidates: list[Candidate]
    magnitudes: list[Tensor]
    compared: list[Prediction]
    grams: npt.NDArray[np.float64]
    left_out: dict[str, str]

    def weights(self, how: str, units: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float64]:
        """Weigh the candidates.

        Args:
            how: "choice" of the candidate that predicts best, or "mixture" of those that are needed.
            units: bool `(unit,)`, the units to look at; None for all.

        Returns:
            weights `(candidate,)`, not negative, of sum 1.
        """
        chosen = slice(None) if units is None else units
        return weigh(self.candidates, self.grams[chosen], self.compared[0].energies[chosen], how)

    @property
    def informed(self) -> bool:
        """Whether any candidate predicts the samples held out better than nothing, 0 dB."""
        return any(one.error < 1 for one in self.compared)

    def without(self, candidate: Candidate, reason: str) -> Trial:
        """Leave a candidate out.

        Raises:
            MethodError: it is the last one.
        """
        kept = [number for number, one in enumerate(self.candidates) if one != candidate]
        left_out = {**self.left_out, candidate.label: reason}
        if not kept:
            raise _none_works(left_out)
        return replace(
            self,
            candidates=[self.candidates[number] for number in kept],
            magnitudes=[self.magnitudes[number] for number in kept],
            compared=[self.compared[number] for number in kept],
            grams=self.grams[:, kept][:, :, kept],
            left_out=left_out,
        )


def weigh(
    candidates: Sequence[Candidate], grams: npt.NDArray[np.float64], energies: npt.NDArray[np.float64], how: str
) -> npt.NDArray[np.float64]:
    """Weigh candidates by their residuals; by the rule for `FALLBACK` if none predicts better than nothing.

    A test in which nothing predicts better than 0 dB says little. Then `FALLBACK` is taken, which no training can lead
    astray, or the candidate that predicts best if it is none of them.

    Args:
        candidates: the candidates.
        grams: inner products of their residuals, `(unit, candidate, candidate)`.
        energies: energy of the samples of each unit, `(unit,)`.
        how: "choice" or "mixture".

    Returns:
        weights `(candidate,)`, not negative, of sum 1.
    """
    if np.einsum("umm->m", grams).min() >= energies.sum():
        usual = [number for number, one in enumerate(candidates) if one.method == FALLBACK]
        return np.eye(len(candidates))[usual[0]] if usual else best_alone(grams)
    return best_alone(grams) if how == "choice" else kept_mixture(grams, energies)


def try_candidates(runner: Runner, data: HoldOutData, candidates: list[Candidate]) -> Trial:
    """Run every candidate on every fold. One that fails is left out.

    Raises:
        MethodError: all of them fail.
    """
    runner.total = len(candidates) * (len(data.folds) + 1)
    working, predicted, left_out = list[Candidate](), list[list[HeldOut]](), dict[str, str]()
    magnitudes = list[Tensor]()
    for candidate in candidates:
        try:
            images = fold_images(data, _bound(runner, candidate))
        except Cancelled:
            raise
        except MriReconError as error:
            left_out[candidate.label] = str(error)
        else:
            working.append(candidate)
            predicted.append(predicted_samples(data, images))
            magnitudes.append(torch.stack([one.abs() for one in images]))
    if not working:
        raise _none_works(left_out)
    compared = [compare_predictions(data, one) for one in predicted]
    return Trial(working, magnitudes, compared, residual_grams(data, predicted), left_out)


def weighted_images(
    runner: Runner, trial: Trial, kspace: Tensor, mask: Mask, how: str
) -> tuple[Trial, npt.NDArray[np.float64], Tensor]:
    """Reconstruct with the candidates that have a weight, and sum their weighted images.

    The candidates are weighed again without one that works on the folds and fails on the scan.

    Args:
        runner: runs the candidates.
        trial: what they predict.
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.
        how: as in `Trial.weights`.

    Returns:
        the trial of the candidates that work, their weights, and the image `(slice, h, w)`.

    Raises:
        MethodError: all of them fail.
    """
    made = dict[str, Tensor]()
    while True:
        weights = trial.weights(how)
        used = [(one, float(weight)) for one, weight in zip(trial.candidates, weights, strict=True) if weight > 0]
        missing = [one for one, _ in used if one.label not in made]
        if not missing:
            return trial, weights, torch.stack([weight * made[one.label] for one, weight in used]).sum(dim=0)
        runner.total = runner.finished + len(missing)
        try:
            made[missing[0].label] = runner.run(missing[0], kspace, mask)
        except Cancelled:
            raise
        except MriReconError as error:
            trial = trial.without(missing[0], str(error))


def _bound(runner: Runner, candidate: Candidate) -> Callable[[Tensor, Mask], Tensor]:
    return lambda kspace, mask: runner.run(candidate, kspace, mask)


def _none_works(left_out: dict[str, str]) -> MethodError:
    told = "; ".join(f"{label}: {reason}" for label, reason in left_out.items())
    return MethodError(f"method 'auto': expected a candidate that works on this scan, got {told}: choose others")
