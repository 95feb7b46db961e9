"""Test images on samples that were measured and not shown: prediction of held-out lines, and mixtures chosen by it.

A reconstruction from a part of the samples predicts the others, y' = F S x. Their error needs no reference image: every
undersampled scan can be tested.

    e^2 = sum |y - F S x|^2 / sum |y|^2    over the samples held out,   error = 10 log10 e^2 in dB

0 dB is no better than predicting nothing. The noise of the samples sets a floor, sum sigma^2 / sum |y|^2. A method that
goes wrong on a scan predicts its samples badly, whatever its image looks like.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon._arrays import to_numpy
from mri_recon.coils.noise import sigma_from_below
from mri_recon.coils.sensitivity_maps import estimate_maps
from mri_recon.masks.convert import undersample
from mri_recon.masks.echo import echo_center
from mri_recon.masks.folds import NUM_FOLDS, SHARE, Fold, hold_out_folds
from mri_recon.masks.types import Mask
from mri_recon.transforms.fourier import fft2c

__all__ = [
    "HeldOut",
    "HoldOutData",
    "Prediction",
    "best_mixture",
    "compare_predictions",
    "hold_out",
    "mixture",
    "predict",
]

Run: TypeAlias = Callable[[Tensor, Mask], Tensor]
"""Reconstruct k-space `(slice, coil, readout, phase)` with a mask: the image `(slice, h, w)`."""

HeldOut: TypeAlias = Tensor
"""What was measured, or predicted, on the samples held out of one fold: complex `(unit, sample)`.

A unit is a line of a column mask, or a sample of a pattern. Its samples are those of all slices, coils and rows.
"""


@dataclass(frozen=True)
class HoldOutData:
    """Hold a scan that is split into folds.

    Attributes:
        kspace: complex64 `(slice, coil, readout, phase)`, zero outside the mask.
        folds: the splits of its mask.
        maps: maps that turn an image into the samples of the coils, like `kspace`, sum |S|^2 = 1.
        noise_energy: expected energy of the noise of one sample, summed over slices and coils.
    """

    kspace: Tensor
    folds: list[Fold]
    maps: Tensor
    noise_energy: float


@dataclass(frozen=True)
class Prediction:
    """Hold how well an image predicts the samples held out.

    Attributes:
        errors: squared error of each unit held out, over all folds, float64 `(unit,)`.
        energies: energy of the samples of each unit.
        folds: number of the fold of each unit.
        floor: share of the energy that is noise.
    """

    errors: npt.NDArray[np.float64]
    energies: npt.NDArray[np.float64]
    folds: npt.NDArray[np.intp]
    floor: float

    @property
    def error(self) -> float:
        """Squared error as a share of the energy: 1 is no better than predicting nothing."""
        return float(self.errors.sum() / self.energies.sum())

    @property
    def error_db(self) -> float:
        """`error` in dB: 0 is no better than predicting nothing, lower is better."""
        return _db(self.error)

    @property
    def uncertainty_db(self) -> float:
        """Standard error of `error_db`, by leaving out one line after the other (jackknife)."""
        return _jackknife_db(self.errors, self.energies)

    def fold_errors_db(self) -> list[float]:
        """Return `error_db` of every fold."""
        return [
            _db(float(self.errors[self.folds == number].sum() / self.energies[self.folds == number].sum()))
            for number in np.unique(self.folds)
        ]

    def report(self) -> dict[str, float | list[float]]:
        """Return the figures for `info`, ready for JSON."""
        return {
            "error_db": self.error_db,
            "uncertainty_db": self.uncertainty_db,
            "noise_floor_db": _db(self.floor),
            "folds_db": self.fold_errors_db(),
        }


def hold_out(
    kspace: Tensor,
    mask: Mask,
    sens_maps: Tensor | None = None,
    *,
    num_folds: int = NUM_FOLDS,
    share: float = SHARE,
    seed: int = 0,
) -> HoldOutData:
    """Split a scan into folds of samples that are shown and held out.

    Args:
        kspace: complex64 `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.
        sens_maps: the maps the methods are given, like `kspace`; None: ESPIRiT maps of the fully sampled centre, which
            every fold keeps, or 1 for one coil.
        num_folds, share, seed: as in `hold_out_folds`.

    Raises:
        MaskError: too few samples outside the centre, or several coils without a centre and without maps.
        FormatError: as `estimate_maps`.
    """
    dead = _dead(kspace, mask)
    folds = hold_out_folds(
        mask, num_folds=num_folds, share=share, seed=seed, at=echo_center(kspace, mask), without_data=dead
    )
    if sens_maps is not None:
        maps = sens_maps.expand(kspace.shape)
    elif kspace.shape[1] == 1:
        maps = torch.ones_like(kspace)
    else:
        maps = estimate_maps(kspace, mask, everywhere=True)
    noise = float(sigma_from_below(kspace, mask).double().square().sum()) * kspace.shape[1]
    return HoldOutData(kspace, folds, maps, noise)


def predict(data: HoldOutData, run: Run) -> list[HeldOut]:
    """Reconstruct every fold from the samples shown, and predict those held out.

    Args:
        data: the folds.
        run: the method. Its images may be smaller than k-space along no axis.

    Returns:
        the predicted samples of each fold.
    """
    found = []
    for fold in data.folds:
        image = run(undersample(data.kspace, fold.shown), fold.shown)
        found.append(_units(fft2c(data.maps * image.to(data.maps.dtype).unsqueeze(1)), fold))
    return found


def measured(data: HoldOutData) -> list[HeldOut]:
    """Return the samples held out as they were measured, for each fold."""
    return [_units(data.kspace, fold) for fold in data.folds]


def compare_predictions(data: HoldOutData, predicted: Sequence[HeldOut]) -> Prediction:
    """Compare predicted with measured samples.

    Args:
        data: the folds.
        predicted: result of `predict`, or a mixture of such results.
    """
    truths = measured(data)
    errors = [_energy(truth - guess) for truth, guess in zip(truths, predicted, strict=True)]
    numbers = [np.full(len(truth), number) for number, truth in enumerate(truths)]
    energy = np.concatenate([_energy(truth) for truth in truths])
    samples = sum(truth.numel() for truth in truths)
    per_sample = data.noise_energy / (data.kspace.shape[0] * data.kspace.shape[1])
    floor = per_sample * samples / float(energy.sum())
    return Prediction(np.concatenate(errors), energy, np.concatenate(numbers), floor)


def mixture(predicted: Sequence[Sequence[HeldOut]], weights: npt.NDArray[np.float64]) -> list[HeldOut]:
    """Predict the samples of each fold by the mixture sum_m w_m x_m of the methods' images.

    Args:
        predicted: result of `predict` for each method.
        weights: w `(method,)`.
    """
    return [
        torch.stack([w * one for w, one in zip(weights.tolist(), fold, strict=True)]).sum(dim=0)
        for fold in zip(*predicted, strict=True)
    ]


def best_mixture(data: HoldOutData, predicted: Sequence[Sequence[HeldOut]]) -> npt.NDArray[np.float64]:
    """Compute the weights, not negative and of sum 1, whose mixture of images predicts the held-out samples best.

        min_w sum |y - sum_m w_m F S x_m|^2,   w_m >= 0,   sum_m w_m = 1

    The optimum is found exactly, by solving the equality-constrained problem on every set of methods.

    Args:
        data: the folds.
        predicted: result of `predict` for each method, of at most 10 methods.

    Returns:
        weights `(method,)`.
    """
    # With weights of sum 1, y - sum_m w_m y_m is sum_m w_m (y - y_m): only the residuals matter.
    gram = np.zeros((len(predicted), len(predicted)))
    for number, truth in enumerate(measured(data)):
        residuals = torch.stack([(truth - one[number]).flatten() for one in predicted])
        gram += to_numpy((residuals.conj() @ residuals.T).real.double())
    return _simplex_minimum(gram)


def _simplex_minimum(gram: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Minimise w' G w over the simplex."""
    count = len(gram)
    best, lowest = np.full(count, 1 / count), math.inf
    ridge = 1e-10 * max(float(np.trace(gram)), 1e-300) * np.eye(count)
    for size in range(1, count + 1):
        for chosen in itertools.combinations(range(count), size):
            where = np.ix_(chosen, chosen)
            system = np.block([[(gram + ridge)[where], np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
            solved = np.linalg.solve(system, np.append(np.zeros(size), 1.0))[:size]
            if (solved < -1e-9).any():
                continue
            weights = np.zeros(count)
            weights[list(chosen)] = np.clip(solved, 0, None)
            value = float(weights @ gram @ weights)
            if value < lowest:
                best, lowest = weights / weights.sum(), value
    return best


def _dead(kspace: Tensor, mask: Mask) -> npt.NDArray[np.bool_]:
    filled = (kspace != 0).flatten(0, 1).any(dim=0)
    return to_numpy(~(filled.any(dim=0) if mask.array.ndim == 1 else filled))


def _units(kspace: Tensor, fold: Fold) -> Tensor:
    held = torch.as_tensor(fold.held, device=kspace.device)
    return kspace[..., held].movedim(-1, 0).flatten(1)


def _energy(values: Tensor) -> npt.NDArray[np.float64]:
    return to_numpy(values.abs().double().square().sum(dim=1))


def _jackknife_db(errors: npt.NDArray[np.float64], energies: npt.NDArray[np.float64]) -> float:
    count = len(errors)
    left = (errors.sum() - errors) / np.maximum(energies.sum() - energies, 1e-300)
    levels = 10 * np.log10(np.maximum(left, 1e-30))
    return float(np.sqrt((count - 1) / count * ((levels - levels.mean()) ** 2).sum()))


def _db(share: float) -> float:
    return 10 * math.log10(max(share, 1e-30))
