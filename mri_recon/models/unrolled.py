"""Define an unrolled, physics-guided network: gradient steps on the data term alternate with learned refinements."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from mri_recon.models.cascade import solve_normal
from mri_recon.models.layers import run_continued
from mri_recon.models.refinement import RefinedConfig, as_channels, as_image
from mri_recon.models.unet import Unet, UnetConfig
from mri_recon.operators.measurement import Measurement

__all__ = ["Unrolled", "UnrolledConfig"]


IN_CHANS = 4
"""Input channels of a refinement in addition to the memory: image and gradient."""

_FIRST_MU = 0.3


class UnrolledConfig(RefinedConfig):
    """Describe an unrolled network; stored in the model card."""

    num_cascades: int = Field(default=8, ge=1, description="refinements, each between two steps of data consistency")
    coil_steps: bool = Field(default=False, description="several coils have step lengths of their own")
    coil_iterations: int = Field(
        default=0, ge=0, description="conjugate-gradient iterations of a step for several coils; 0: a gradient step"
    )
    maps_chans: int = Field(default=0, ge=0, description="feature channels of the refinement of the maps; 0: none")


class Unrolled(nn.Module):
    """Compute x = D_K(R_K(... D_1(R_1(D_0(A^H y))))): data consistency D around refinements R.

        u_k = x_k - eta_k A^H (A x_k - y)                         a gradient step with a learned length
        (x_{k+1}, m_{k+1}) = (u_k, m_k) + N_k(u_k, m_k, g_k)      g_k = A^H (A x_k - y)

    x_0 = A^H y, m_0 = 0, the result is u_K. N_k are U-Nets on real and imaginary part; m_k are `memory` real channels
    that one refinement passes to the next. eta starts at 1: for one coil (or maps with sum |S|^2 = 1 and full
    sampling), such a step restores the measured samples exactly. N_k starts at zero, so an untrained network returns
    the zero-filled image for one coil, and the result of K + 1 gradient-descent steps from it for several. No weight
    depends on the size of the matrix, the number of coils or the mask.

    With `coil_steps`, several coils have separate step lengths. For one coil A^H A is a projection, and a last step of
    length 1 restores the measured samples with their noise, which a single-coil reference contains as well. Several
    coils average noise, and the same step would bring back noise that the refinements have removed.

    With `coil_iterations`, a step for several coils solves a least-squares problem instead of taking a gradient step:

        u_k = argmin_u ||A u - y||^2 + mu_k ||u - x_k||^2 = x_k - (A^H A + mu_k)^-1 A^H (A x_k - y)

    by `coil_iterations` iterations of conjugate gradients, with mu_k learned. With several coils A^H A is far from a
    projection, and a few gradient steps do not exploit samples of low noise. For one coil a gradient step is enough.

    With `maps_chans`, a U-Net M first corrects the map of each coil, S' = S + M(S), and S' is rescaled to the root sum
    of squares of S at each pixel.

    Sources: Hammernik et al., Magn Reson Med 2018 (variational network); Adler and Oktem, IEEE TMI 2018 (memory);
    Aggarwal et al., IEEE TMI 2019 (conjugate gradients inside); Sriram et al., MICCAI 2020 (refined sensitivities).
    """

    def __init__(self, config: UnrolledConfig) -> None:
        super().__init__()
        self.config = config
        refinement = config.refinement(IN_CHANS)
        self.refinements = nn.ModuleList(Unet(refinement) for _ in range(config.num_cascades))
        self.step_lengths = nn.Parameter(torch.ones(config.num_cascades + 1))
        steps = config.num_cascades + 1
        self.coil_step_lengths = nn.Parameter(torch.ones(steps)) if config.coil_steps else None
        self.log_mu = nn.Parameter(torch.full((steps,), math.log(_FIRST_MU))) if config.coil_iterations else None
        self.maps_network = (
            Unet(
                UnetConfig(
                    chans=config.maps_chans,
                    num_pool_layers=3,
                    patch=config.patch,
                    normalization=config.normalization,
                    channels_per_group=config.channels_per_group,
                    num_groups=config.num_groups,
                )
            )
            if config.maps_chans
            else None
        )

    def forward(self, measurement: Measurement, margin: int = 0) -> Tensor:
        """Reconstruct scaled measurements.

        Args:
            measurement: samples of an image that is nearly real and has bright pixels of about 1 (see
                `models.inference`).
            margin: columns by which the input of a refinement is continued periodically at both ends.

        Returns:
            complex `(batch, h, w)`.
        """
        if self.maps_network is not None:
            measurement = measurement.with_maps(self._refined_maps(measurement.maps))
        zero_filled = measurement.adjoint()
        x = zero_filled
        memory = x.real.new_zeros((x.shape[0], self.config.memory, *x.shape[-2:]))
        # The first gradient is A^H (A x - y) at x = A^H y; each later one follows a refinement.
        for number, refinement in enumerate(self.refinements):
            gradient = measurement.gram(x) - zero_filled
            x = x - self._step(number, measurement, gradient)
            channels = torch.cat([as_channels(x), memory, as_channels(gradient)], dim=1)
            out = run_continued(refinement, channels, margin)
            x, memory = as_image(out), out[:, 2:]
        return x - self._step(len(self.refinements), measurement, measurement.gram(x) - zero_filled)

    def _step(self, number: int, measurement: Measurement, gradient: Tensor) -> Tensor:
        """Compute the change that a step of data consistency subtracts from the image, from the gradient there."""
        several = measurement.maps.shape[1] > 1
        if several and self.log_mu is not None:
            mu = self.log_mu[number].exp()
            return solve_normal(measurement, gradient, mu, self.config.coil_iterations)
        lengths = self.coil_step_lengths if several and self.coil_step_lengths is not None else self.step_lengths
        return lengths[number] * gradient

    def _refined_maps(self, maps: Tensor) -> Tensor:
        assert self.maps_network is not None
        norm = _norm(maps)
        if maps.shape[1] == 1:  # for one coil, only the phase could change
            return maps
        out = self.maps_network(as_channels(maps.flatten(0, 1)))
        refined = as_image(out).reshape(maps.shape)
        return refined.mul(norm / _norm(refined).clamp_min(1e-6))


def _norm(maps: Tensor) -> Tensor:
    return (maps.real.square() + maps.imag.square()).sum(dim=1, keepdim=True).add(1e-12).sqrt()
