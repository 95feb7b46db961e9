"""Weigh methods by how well their images predict measured samples that they were not shown.

The squared error of a mixture of images with weights w of sum 1 is w' G_u w on each unit u held out (a line, or a
sample of a pattern), G_u the inner products of the methods' residuals (`holdout.residual_grams`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mri_recon.methods.holdout import least_on_simplex, standard_error

__all__ = ["LEAST_GAIN", "best_alone", "kept_mixture", "unit_errors"]

Array = npt.NDArray[np.float64]

LEAST_GAIN = 1.0
"""A method stays in the mixture if leaving it out worsens the prediction by this many standard errors."""


def unit_errors(grams: Array, weights: Array) -> Array:
    """Compute the squared error of a mixture on each unit.

    Args:
        grams: G `(unit, method, method)`.
        weights: w `(method,)`, of sum 1.

    Returns:
        `(unit,)`.
    """
    errors: Array = np.einsum("m,umn,n->u", weights, grams, weights)
    return np.maximum(errors, 0)


def best_alone(grams: Array) -> Array:
    """Give the weight 1 to the method that predicts best by itself.

    Args:
        grams: G `(unit, method, method)`.
    """
    weights = np.zeros(grams.shape[1])
    weights[int(np.argmin(np.einsum("umm->m", grams)))] = 1
    return weights


def kept_mixture(grams: Array, energies: Array, *, least_gain: float = LEAST_GAIN) -> Array:
    """Compute the weights, not negative and of sum 1, that predict best, from the methods that are needed.

    Least squares gives a small weight even to an image of noise, and adjusts to the few units there are. Therefore
    methods that predict worse than nothing (an error above 0 dB) are left out first; if all do, the best one is taken
    alone. Of the others, the method that is needed least is left out, one after the other, until leaving out any method
    worsens the prediction by at least `least_gain` standard errors of the difference (jackknife over units).

    Args:
        grams: G `(unit, method, method)`, of at most 10 methods.
        energies: energy of the samples of each unit, `(unit,)`.
        least_gain: see above.

    Returns:
        `(method,)`; 0 for a method that was left out.
    """
    kept = np.flatnonzero(np.einsum("umm->m", grams) < energies.sum()).tolist()
    if not kept:
        return best_alone(grams)
    while len(kept) > 1:
        weights, errors = _least(grams, kept)
        needs = [_need(_least(grams, [other for other in kept if other != one])[1] - errors) for one in kept]
        needs = [need if weight > 0 else -np.inf for need, weight in zip(needs, weights, strict=True)]
        least = int(np.argmin(needs))
        if needs[least] >= least_gain:
            break
        del kept[least]
    found = np.zeros(grams.shape[1])
    found[kept] = _least(grams, kept)[0]
    return found


def _least(grams: Array, kept: list[int]) -> tuple[Array, Array]:
    """Compute the best weights of some methods, and the error of their mixture on each unit."""
    part = grams[:, kept][:, :, kept]
    weights = least_on_simplex(part.sum(axis=0))
    return weights, unit_errors(part, weights)


def _need(worse: Array) -> float:
    """Divide a loss, summed over the units, by its standard error."""
    total = float(worse.sum())
    error = standard_error(total - worse)
    return total / error if error > 0 else (np.inf if total > 0 else -np.inf)
