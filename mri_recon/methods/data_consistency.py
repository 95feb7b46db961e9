"""Correct the image of a network towards the measured samples (data consistency)."""

from __future__ import annotations

from torch import Tensor

from mri_recon.models import Measurement
from mri_recon.solvers.conjugate_gradient import conjugate_gradient

__all__ = ["EXPECTED_ERROR", "exact_data_consistency", "weighted_data_consistency"]

EXPECTED_ERROR = 0.03
"""Expected error of a network's image at a pixel, sqrt(E|e|^2), relative to the scale of the image.

Chosen on simulated scans of validation subjects (`benchmarks/networks/coil_limits.py errors`): 2, 8 and 16 coils, 4x
and 8x, SNR 10 to 200. Larger values gain more at low noise, and lose more than 0.04 dB at high noise.
"""

_TOL = 1e-3
_MAX_ITERS = 30


def weighted_data_consistency(
    measurement: Measurement, image: Tensor, sigma: Tensor, *, expected_error: float = EXPECTED_ERROR
) -> Tensor:
    """Compute the most probable image from noisy samples and a network's image, with white Gaussian errors in both.

        argmin_u ||A u - y||^2 / sigma^2 + ||u - x||^2 / tau^2 = x + (A^H A + sigma^2 / tau^2)^-1 A^H (y - A x).

    At low noise the image moves towards the samples of all coils, as in compressed sensing. At high noise the network's
    image stays as it is. The solver is conjugate gradients, to a relative residual of 1e-3 or for 30 iterations.

    Args:
        measurement: scaled, see `models.inference.image_scale`.
        image: the network's image x, complex `(slice, h, w)`.
        sigma: noise sqrt(E|n|^2) of one sample, in the same scale, real `(slice, 1, 1)`.
        expected_error: tau.

    Source: Bertero and Boccacci, Introduction to Inverse Problems in Imaging, 1998 (regularised solutions as Bayesian
        estimates).
    """
    return image + _solve(measurement, image, (sigma / expected_error).square())


def exact_data_consistency(measurement: Measurement, image: Tensor) -> Tensor:
    """Compute the image nearest to `image` that reproduces the measured samples: x = u + A^+ (y - A u).

    One coil with |S| = 1 needs one step, because A^H A is a projection. Otherwise conjugate gradients solve A^H A d =
    A^H (y - A u) and stop at a relative residual of 1e-3 or after 30 iterations. Stopping early keeps the network's
    values in components to which the coils are hardly sensitive, instead of filling them with amplified noise.

    Args:
        measurement: scaled, see `models.inference.image_scale`.
        image: complex `(slice, h, w)`.
    """
    if measurement.maps.shape[1] == 1 and bool(((measurement.maps.abs() - 1).abs() < 1e-3).all()):
        return image + measurement.adjoint() - measurement.gram(image)
    return image + _solve(measurement, image, 0.0)


def _solve(measurement: Measurement, image: Tensor, mu: Tensor | float) -> Tensor:
    residual = measurement.adjoint() - measurement.gram(image)
    return conjugate_gradient(lambda u: measurement.gram(u) + mu * u, residual, tol=_TOL, max_iters=_MAX_ITERS).x
