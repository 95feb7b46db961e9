"""Combine learned refinements with data consistency, weighted by the noise of the scan."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mri_recon.errors import ShapeError
from mri_recon.models.layers import run_continued
from mri_recon.models.refinement import RefinedConfig, as_channels, as_image
from mri_recon.models.unet import Unet
from mri_recon.operators.measurement import Measurement
from mri_recon.operators.virtual_coils import of_virtual_coils
from mri_recon.solvers.conjugate_gradient import conjugate_gradient

__all__ = ["Cascade", "CascadeConfig", "StepWeights", "data_step"]

IN_CHANS = 5
"""Input channels of a refinement in addition to the memory: image, change, log sigma."""

_TYPICAL_SIGMA = 0.03
_LEAST_SIGMA, _LARGEST_SIGMA = 1e-4, 1.0
_LEAST_MU = 1e-6
"""In single precision, conjugate gradients gain nothing from a smaller value."""

_LEFT_OUT = 0.02
"""Share of sum |S|^2 that inner iterations may leave out, chosen by `benchmarks/networks/virtual_coils.py`."""

_TYPICAL_LINES, _TYPICAL_ACCELERATION, _TYPICAL_COILS = 12.0, 4.0, 8.0
_LOG_TAU = (-6.0, 3.0)


class CascadeConfig(RefinedConfig):
    """Describe a cascade; stored in the model card."""

    num_cascades: int = Field(default=6, ge=1, description="refinements, each followed by a step of data consistency")
    start_tau: float = Field(default=0.5, gt=0, description="tau of x_0: expected magnitude of the image, scaled")
    start_ratio: float = Field(
        default=0.0, ge=0, description="mu of x_0 over sigma, several coils; 0: (sigma / start_tau)^2, as for one coil"
    )
    tau: float = Field(default=0.1, gt=0, description="tau of the other steps at first: error of a refinement, scaled")
    start_iterations: int = Field(default=10, ge=1, description="conjugate-gradient iterations of x_0, several coils")
    step_iterations: int = Field(default=6, ge=1, description="those of every other step, which starts at x_k")


class Cascade(nn.Module):
    """Alternate K learned refinements N_k with the most probable image of noisy samples and a refinement.

        u_0     = argmin_u ||A u - y||^2 + mu_0 ||u||^2,  mu_0 = (sigma / tau_0)^2         CG-SENSE
        x_k     = u_{k-1} + N_k(u_{k-1}, m_{k-1}, u_{k-1} - x_{k-1}, log sigma)
        u_k     = argmin_u ||A u - y||^2 / (sigma^2 + g_k^2 e^2) + ||u - x_k||^2 / tau_k^2

    With `start_ratio` r > 0, mu_0 = r sigma for several coils: the power of an image falls with the distance from the
    centre of k-space, so its part that stands out of the noise has a smaller tau_0 the less noise there is.

    sigma is the noise of one sample (`Measurement.sigma`). e^2 is the power of the residual of u_0 in excess of
    sigma^2, caused for example by wrong sensitivity maps. tau_k and g_k are learned (`StepWeights`). N_k are U-Nets on
    real and imaginary part. m_k are `memory` real channels that one refinement passes to the next. N_k starts at zero,
    so an untrained network returns a CG-SENSE image. With one refinement, the cascade is a U-Net with data consistency.

    For one coil with |S| = 1 the steps have a closed form. For several coils, conjugate gradients solve them, with the
    derivative of the exact solution. Without gradients, the iterations of all steps but the first and the last run on a
    few virtual coils (`of_virtual_coils`), while their right-hand side A^H (A x - y) is that of all coils. As sigma and
    e go to 0, the result agrees with the samples. No weight depends on the size of the matrix, the number of coils or
    the mask.

    Sources: Aggarwal et al., IEEE TMI 2019 (MoDL); Adler and Oktem, IEEE TMI 2018 (memory); Zhang et al., IEEE TIP
    2018 (FFDNet: noise level as an input).
    """

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        self.config = config
        refinement = config.refinement(IN_CHANS)
        self.refinements = nn.ModuleList(Unet(refinement) for _ in range(config.num_cascades))
        self.step_weights = StepWeights(
            config.start_tau, [config.tau] * config.num_cascades, start_ratio=config.start_ratio
        )

    def forward(self, measurement: Measurement, margin: int = 0) -> Tensor:
        """Reconstruct scaled measurements.

        Args:
            measurement: samples of an image that is nearly real and has bright pixels of about 1, with `sigma` (see
                `mri_recon.models.inference`).
            margin: columns by which the input of a refinement is continued periodically at both ends.

        Returns:
            complex `(batch, h, w)`.

        Raises:
            ShapeError: a measurement without sigma.
        """
        sigma = _sigma_of(measurement)
        zero_filled = measurement.adjoint()
        start = self.step_weights.start(sigma, measurement.maps.shape[1])
        u = data_step(measurement, zero_filled, torch.zeros_like(zero_filled), start, self.config.start_iterations)
        weights = self.step_weights(measurement, u)
        change = zero_filled - u
        memory = u.real.new_zeros((u.shape[0], self.config.memory, *u.shape[-2:]))
        level = (sigma.clamp(_LEAST_SIGMA, _LARGEST_SIGMA) / _TYPICAL_SIGMA).log().div(3)
        level = level.unsqueeze(1).expand(-1, 1, *u.shape[-2:])
        # All coils for the first step, whose residual gives e, and for the last, which restores the samples.
        inners = [_inner(measurement)] * (len(weights) - 1) + [measurement]
        for refinement, mu, inner in zip(self.refinements, weights, inners, strict=True):
            channels = torch.cat([as_channels(u), memory, as_channels(change), level], dim=1)
            out = run_continued(refinement, channels, margin)
            x, memory = as_image(out), out[:, 2:]
            u = data_step(measurement, zero_filled, x, mu, self.config.step_iterations, inner)
            change = u - x
        return u


class StepWeights(nn.Module):
    """Weight every step by the noise, mu_k = (sigma^2 + g_k^2 e^2) / tau_k^2; tau_k is a power law in sigma, L, R, C.

        tau_k = t_k (sigma / 0.03)^a (L / 12)^b (R / 4)^c (C / 8)^d

    L is the number of lines of the fully sampled centre, R the acceleration, C the number of coils. One coil and
    several coils have different t_k, because the reference of one coil keeps the noise of its samples. t, a, b, c, d
    and g are learned for each step; the exponents start at 0, g at 1.

    Args:
        start_tau: tau of the first step, fixed.
        taus: initial tau of the other steps.
        start_ratio: mu of the first step over sigma for several coils, fixed; 0: (sigma / start_tau)^2.
    """

    def __init__(self, start_tau: float, taus: list[float], *, start_ratio: float = 0.0) -> None:
        super().__init__()
        self.start_tau, self.start_ratio = start_tau, start_ratio
        first = torch.tensor(taus).log()
        one_coil = first.clone()
        one_coil[-1] = 0.0  # the reference contains the noise of the samples
        self.log_tau = nn.Parameter(torch.stack([one_coil, first]))
        self.exponents = nn.Parameter(torch.zeros(4, len(taus)))
        self.log_gain = nn.Parameter(torch.zeros(len(taus)))

    def start(self, sigma: Tensor, num_coils: int) -> Tensor:
        """Return mu of the first step, `(batch, 1, 1)`."""
        if num_coils > 1 and self.start_ratio > 0:
            return (self.start_ratio * sigma).clamp_min(_LEAST_MU)
        return (sigma / self.start_tau).square().clamp_min(_LEAST_MU)

    def forward(self, measurement: Measurement, start: Tensor) -> list[Tensor]:
        """Return mu of each later step, real `(batch, 1, 1)`, given the image `start` of the first step."""
        sigma = _sigma_of(measurement)
        several = measurement.maps.shape[1] > 1
        excess = (measurement.misfit(start) - sigma.square()).clamp_min(0)
        told = [
            (sigma.clamp(_LEAST_SIGMA, _LARGEST_SIGMA) / _TYPICAL_SIGMA).log(),
            (measurement.center_lines().clamp_min(1) / _TYPICAL_LINES).log().expand_as(sigma),
            (measurement.acceleration() / _TYPICAL_ACCELERATION).log().expand_as(sigma),
            torch.full_like(sigma, math.log(measurement.maps.shape[1] / _TYPICAL_COILS) if several else 0.0),
        ]
        features = torch.stack(told)
        weights = []
        for step in range(self.log_gain.shape[0]):
            exponents = self.exponents[:, step, None, None, None]
            log_tau = (self.log_tau[int(several), step] + (exponents * features).sum(dim=0)).clamp(*_LOG_TAU)
            power = sigma.square() + (2 * self.log_gain[step]).exp() * excess
            weights.append((power * (-2 * log_tau).exp()).clamp_min(_LEAST_MU))
        return weights


def data_step(
    measurement: Measurement,
    zero_filled: Tensor,
    x: Tensor,
    mu: Tensor,
    iterations: int,
    inner: Measurement | None = None,
) -> Tensor:
    """Solve the problem of data consistency, differentiable.

        u = argmin_u ||A u - y||^2 + mu ||u - x||^2 = x - (A^H A + mu)^-1 A^H (A x - y)

    One coil, whose map has the modulus 1, has a closed form because A^H A is a projection. Several coils need conjugate
    gradients, started at x, with the derivative of the exact solution.

    Args:
        measurement: scaled.
        zero_filled: A^H y, the same in every step.
        x: complex `(batch, h, w)`.
        mu: real `(batch, 1, 1)`.
        iterations: number of conjugate-gradient iterations.
        inner: a cheaper measurement nearly like this one, for the iterations; none: the measurement itself.
    """
    gradient = measurement.gram(x) - zero_filled
    if measurement.maps.shape[1] == 1:
        return x - gradient / (1 + mu)
    return x - solve_normal(measurement, gradient, mu, iterations, inner)


def solve_normal(
    measurement: Measurement, b: Tensor, mu: Tensor, iterations: int, inner: Measurement | None = None
) -> Tensor:
    """Solve (A^H A + mu) x = b by conjugate gradients, with the derivative of the solution.

    With x fixed, x + (A^H A + mu)^-1 (b - (A^H A + mu) x) has the value x and the derivatives of the solution with
    respect to b, mu and the maps. Backpropagation applies the inverse by conjugate gradients again. Derivatives of the
    iterations themselves would divide by vanishing residuals.
    """
    with torch.no_grad():
        x = _conjugate_gradients(measurement if inner is None else inner, b, mu, iterations)
    if not torch.is_grad_enabled():
        return x
    remainder = b - (measurement.gram(x) + mu * x)
    correction: Tensor = _Inverse.apply(remainder, measurement, mu.detach(), iterations)  # type: ignore[no-untyped-call]
    return x + correction


class _Inverse(torch.autograd.Function):
    """Return 0 for the small remainder of a solution; its backward pass applies the self-adjoint (A^H A + mu)^-1."""

    @staticmethod
    def forward(ctx: Any, remainder: Tensor, measurement: Measurement, mu: Tensor, iterations: int) -> Tensor:
        ctx.problem = measurement, mu, iterations
        return torch.zeros_like(remainder)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        measurement, mu, iterations = ctx.problem
        with torch.no_grad():
            return _conjugate_gradients(measurement, gradients[0], mu, iterations), None, None, None


def _conjugate_gradients(measurement: Measurement, b: Tensor, mu: Tensor, iterations: int) -> Tensor:
    return conjugate_gradient(lambda x: measurement.gram(x) + mu * x, b, tol=0, max_iters=iterations).x


def _inner(measurement: Measurement) -> Measurement:
    """Return the measurement for inner iterations; training keeps all coils, so that derivatives are exact."""
    if torch.is_grad_enabled():
        return measurement
    return replace(measurement, operator=of_virtual_coils(measurement.operator, _LEFT_OUT))


def _sigma_of(measurement: Measurement) -> Tensor:
    if measurement.sigma is None:
        raise ShapeError("cascade: expected a measurement with its noise level, got none: set Measurement.sigma")
    return measurement.sigma
