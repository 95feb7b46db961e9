"""Data consistency after a network: draw its image to the samples that were measured."""

from __future__ import annotations

from torch import Tensor

from mri_recon.models import Measurement
from mri_recon.solvers.conjugate_gradient import conjugate_gradient

__all__ = ["EXPECTED_ERROR", "exact_data_consistency", "weighted_data_consistency"]

EXPECTED_ERROR = 0.03
"""The error that a network's image is expected to have at a pixel, sqrt(E|e|^2), over the image's scale.

Chosen on simulated scans of validation subjects (`benchmarks/networks/coil_limits.py errors`): 2, 8 and 16 coils, 4x
and 8x, SNR 10 to 200. Larger ones gain more where there is little noise,
and lose more than 0.04 dB where there is much.
"""

_TOL = 1e-3
_MAX_ITERS = 30


def weighted_data_consistency(
    measurement: Measurement, image: Tensor, sigma: Tensor, *, expected_error: float = EXPECTED_ERROR
) -> Tensor:
    """The most probable image, of samples with noise and a network's image with errors, both white and Gaussian.

        argmin_u ||A u - y||^2 / sigma^2 + ||u - x||^2 / tau^2 = x + (A^H A + sigma^2 / tau^2)^-1 A^H (y - A x).

    With little noise the image is drawn to the samples of all coils, as in compressed sensing. With much noise the
    network's image stays as it is. Conjugate gradients, to a relative residual of 1e-3 or for 30 iterations.

    Args:
        measurement: scaled, see `models.inference.image_scale`.
        image: the network's answer x, complex `(slice, h, w)`.
        sigma: noise sqrt(E|n|^2) of one sample, in the same scale, real `(slice, 1, 1)`.
        expected_error: tau.

    Source: Bertero and Boccacci, Introduction to Inverse Problems in Imaging, 1998 (regularised solutions as Bayesian
        estimates).
    """
    return image + _solve(measurement, image, (sigma / expected_error).square())


def exact_data_consistency(measurement: Measurement, image: Tensor) -> Tensor:
    """The image nearest to `image` whose samples are the measured ones: x = u + A^+ (y - A u).

    One step for one coil with |S| = 1, where A^H A is a projection; else conjugate gradients on
    A^H A d = A^H (y - A u), stopped at a relative residual of 1e-3 or after 30 iterations: components that the coils
    hardly see are left as the network had them rather than filled with amplified noise.

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
