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
from mri_recon.coils.combine import combine
from mri_recon.coils.noise import sigma_from_below
from mri_recon.coils.phase import direction
from mri_recon.coils.sensitivity_maps import estimate_maps
from mri_recon.masks.convert import undersample
from mri_recon.masks.echo import echo_center
from mri_recon.masks.folds import NUM_FOLDS, SHARE, Fold, hold_out_folds
from mri_recon.masks.types import Mask
from mri_recon.transforms.fourier import fft2c, ifft2c

__all__ = [
    "HeldOut",
    "HoldOutData",
    "Prediction",
    "compare_predictions",
    "difference_db",
    "fold_images",
    "hold_out",
    "least_on_simplex",
    "measured",
    "predict",
    "predicted_samples",
    "residual_grams",
    "scan_folds",
    "standard_error",
    "with_phase",
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
        sigma: noise sqrt(E|n|^2) of one sample of each slice, `(slice,)`.
    """

    kspace: Tensor
    folds: list[Fold]
    maps: Tensor
    sigma: Tensor


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
    folds: list[Fold] | None = None,
) -> HoldOutData:
    """Split a scan into folds of samples that are shown and held out.

    Args:
        kspace: complex64 `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.
        sens_maps: the maps the methods are given, like `kspace`; None: ESPIRiT maps of the fully sampled centre, which
            every fold keeps, or 1 for one coil.
        num_folds, share, seed: as in `hold_out_folds`.
        folds: result of `scan_folds`, if it is known already.

    Raises:
        MaskError: too few samples outside the centre, or several coils without a centre and without maps.
        FormatError: as `estimate_maps`.
    """
    if folds is None:
        folds = scan_folds(kspace, mask, num_folds=num_folds, share=share, seed=seed)
    if sens_maps is not None:
        maps = sens_maps.expand(kspace.shape)
    elif kspace.shape[1] == 1:
        maps = torch.ones_like(kspace)
    else:
        maps = estimate_maps(kspace, mask, everywhere=True)
    return HoldOutData(kspace, folds, maps, sigma_from_below(kspace, mask).flatten())


def scan_folds(
    kspace: Tensor, mask: Mask, *, num_folds: int = NUM_FOLDS, share: float = SHARE, seed: int = 0
) -> list[Fold]:
    """Split the mask of a scan into folds, around its echo and without its dead samples; see `hold_out_folds`.

    Args and Raises: as `hold_out`, without its maps.
    """
    return hold_out_folds(
        mask,
        num_folds=num_folds,
        share=share,
        seed=seed,
        at=echo_center(kspace, mask),
        without_data=_dead(kspace, mask),
    )


def predict(data: HoldOutData, run: Run) -> list[HeldOut]:
    """Reconstruct every fold from the samples shown, and predict those held out.

    Args:
        data: the folds.
        run: the method, as in `fold_images`.

    Returns:
        the predicted samples of each fold.
    """
    return predicted_samples(data, fold_images(data, run))


def fold_images(data: HoldOutData, run: Run) -> list[Tensor]:
    """Reconstruct every fold from the samples shown: complex `(slice, h, w)`, in the phase of the maps.

    A magnitude image receives the phase of the zero-filled image, combined with the maps.

    Args:
        data: the folds.
        run: the method. Its images have the size of k-space and, if they are complex, the phase of the maps.
    """
    found = []
    for fold in data.folds:
        shown = undersample(data.kspace, fold.shown)
        found.append(with_phase(run(shown, fold.shown), shown, data.maps))
    return found


def predicted_samples(data: HoldOutData, images: Sequence[Tensor]) -> list[HeldOut]:
    """Predict the samples held out of each fold from its image.

    Args:
        data: the folds.
        images: result of `fold_images`.
    """
    return [_units(fft2c(data.maps * image.unsqueeze(1)), fold) for image, fold in zip(images, data.folds, strict=True)]


def with_phase(image: Tensor, kspace: Tensor, maps: Tensor) -> Tensor:
    """Give a magnitude image the phase of the zero-filled image, combined with the maps; keep a complex image.

    Args:
        image: real or complex `(slice, h, w)`.
        kspace: complex `(slice, coil, h, w)`, zero outside its mask.
        maps: like `kspace`.
    """
    if not image.is_complex():
        image = image * direction(combine(ifft2c(kspace), maps))
    return image.to(maps.dtype)


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
    per_sample = float(data.sigma.double().square().mean())
    floor = per_sample * samples / float(energy.sum())
    return Prediction(np.concatenate(errors), energy, np.concatenate(numbers), floor)


def difference_db(one: Prediction, other: Prediction) -> tuple[float, float]:
    """Compute how much larger one error is than the other, in dB, and the standard error of the difference.

    Both predict the same lines, so that their errors rise and fall together. Leaving out one line after the other in
    both at once (jackknife) takes this into account.

    Args:
        one, other: predictions of the same samples.
    """
    left = [10 * np.log10(np.maximum(_sums_without_each(each.errors), 1e-300)) for each in (one, other)]
    return one.error_db - other.error_db, standard_error(left[0] - left[1])


def residual_grams(data: HoldOutData, predicted: Sequence[Sequence[HeldOut]]) -> npt.NDArray[np.float64]:
    """Compute the inner products of the methods' residuals on each unit held out.

        G_u[m, n] = Re sum conj(y - y_m) (y - y_n)    over the samples of unit u

    With weights of sum 1, y - sum_m w_m y_m is sum_m w_m (y - y_m). The squared error of a mixture on a unit is
    therefore w' G_u w.

    Args:
        data: the folds.
        predicted: result of `predict` for each method.

    Returns:
        float64 `(unit, method, method)`, the units of all folds in order.
    """
    found = []
    for number, truth in enumerate(measured(data)):
        residuals = torch.stack([truth - one[number] for one in predicted], dim=1)  # (unit, method, sample)
        found.append(to_numpy((residuals.conj() @ residuals.mT).real.double()))
    return np.concatenate(found)


def least_on_simplex(gram: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Minimise w' G w over weights that are not negative and have the sum 1.

    Args:
        gram: G, symmetric and positive semidefinite, of at most 10 rows.
    """
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
    left = _sums_without_each(errors) / np.maximum(_sums_without_each(energies), 1e-300)
    return standard_error(10 * np.log10(np.maximum(left, 1e-30)))


def _sums_without_each(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    without: npt.NDArray[np.float64] = np.maximum(values.sum() - values, 0)
    return without


def standard_error(values: npt.NDArray[np.float64]) -> float:
    """Compute the standard error of a figure from its values without each unit (jackknife).

    Args:
        values: the figure without each of the units, one after the other.
    """
    count = len(values)
    return float(np.sqrt((count - 1) / count * ((values - values.mean()) ** 2).sum()))


def _db(share: float) -> float:
    return 10 * math.log10(max(share, 1e-30))
