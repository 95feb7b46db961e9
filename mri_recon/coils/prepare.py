"""Prepare the data before any method sees them: pre-whitening, then coil compression.

Both steps are linear combinations of the coils, the same at every sample, so given sensitivity maps are transformed
like k-space. A method without given maps estimates them from the prepared k-space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mri_recon._arrays import center_crop, quotient
from mri_recon.coils.combine import rss
from mri_recon.coils.compression import compress_coils
from mri_recon.coils.noise import noise_covariance, noise_samples_from_edge, sigma_of_samples, whiten
from mri_recon.errors import MethodError

if TYPE_CHECKING:
    from mri_recon.masks.types import Mask

__all__ = ["EDGE", "Prepared", "prepare"]

EDGE = "edge"
"""Replaces noise samples by the outermost acquired samples of the k-space itself."""

_LEAST_SEEN = 0.1
"""Smallest fraction of the sensitivity kept by compression that is fully corrected: images grow at most tenfold."""


@dataclass(frozen=True)
class Prepared:
    """Hold the data for a method, and the factor that brings its image back.

    Attributes:
        kspace: complex `(slice, coil, readout, phase)`, zero where the input is zero.
        sens_maps: the given maps in the new coils, complex `(slice, coil, readout, phase)`; None if none were given.
        noise_sigma: `sqrt(E|n|^2)` of one sample of every coil of `kspace`, known after pre-whitening, else None.
        info: the steps and their figures, JSON-able; empty if nothing was done.
        image_factor: factor to multiply the image by, real `(slice, readout, phase)`; None for 1.
    """

    kspace: Tensor
    sens_maps: Tensor | None
    noise_sigma: float | None
    info: dict[str, Any]
    image_factor: Tensor | None

    def finish(self, image: Tensor) -> Tensor:
        """Return the image in the units of the given maps; a smaller image is taken as the centre of the full one."""
        if self.image_factor is None:
            return image
        return image * center_crop(self.image_factor, image.shape[-2:]).to(image.real.dtype)


def prepare(
    kspace: Tensor,
    mask: Mask | Tensor,
    sens_maps: Tensor | None = None,
    *,
    prewhiten: Tensor | str | None = None,
    num_virtual_coils: int | None = None,
) -> Prepared:
    """Make the noise of the coils equal and independent, then keep the virtual coils with the most signal.

        y' = V W y,   W = rho L^-1,   Psi = L L^H,   rho^2 = mean_c Psi_cc

    Psi is the covariance of the noise between coils, V the leading principal components of the whitened coils. The mean
    noise variance over the coils does not change, so the k-space keeps its units; rho is the noise_sigma of every new
    coil. With samples of the edge, which may contain signal, noise_sigma is the median estimate from the whitened
    samples. W does not depend on the units of the noise samples, rho does.

    A root sum of squares of the new coils weights them by their noise: its units stay the same, its shading changes.
    With given maps, the image does not change. The maps become `S' = V W S n`, with n >= 0 at each pixel so that
    `sum |S'|^2 = sum |S|^2`, as methods expect, and the image of a method is multiplied by n. Without a penalty the
    image is

        x = (A^H Psi^-1 A)^-1 A^H Psi^-1 y,   A = P F S,

    SENSE with the covariance of the noise. Pixels where compression keeps less than 0.1 of the whitened maps are scaled
    as if 0.1 were kept: they appear darker instead of amplifying noise.

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: its sampling mask.
        sens_maps: complex, one slice or all slices of k-space; None if the method estimates them.
        prewhiten: noise samples, complex `(coil, sample)`, in the units of `kspace`; "edge" for
            `noise_samples_from_edge`; None for no pre-whitening.
        num_virtual_coils: virtual coils to keep; None keeps the coils.

    Returns:
        `Prepared`; its info has `prewhiten` ("samples" or "edge"), `noise_samples`, `noise_sigma`,
        `noise_correlation` (largest between two coils before whitening), and `num_coils`, `num_virtual_coils`,
        `energy_kept`.

    Raises:
        MethodError: an unknown word for `prewhiten`, or an impossible number of virtual coils.
        ShapeError: noise samples that are not complex `(coil, sample)` of these coils, or k-space of another shape.
        FormatError: the covariance of the noise cannot be inverted (too few samples, a coil without noise, or two equal
            coils), or data that are not finite.
        MaskError: a mask that does not fit.

    Source: Pruessmann et al., Magn Reson Med 2001, appendix; Buehrer et al., Magn Reson Med 2007.
    """
    if not (prewhiten is None or isinstance(prewhiten, Tensor) or prewhiten == EDGE):
        raise MethodError(
            f'expected prewhiten to be "{EDGE}", noise samples (coil, sample) or None, got {prewhiten!r}: choose one'
        )
    maps = None if sens_maps is None else sens_maps.expand(kspace.shape)
    whitened_maps, info, sigma = maps, dict[str, Any](), None
    if prewhiten is not None:
        samples = noise_samples_from_edge(kspace, mask) if isinstance(prewhiten, str) else prewhiten.resolve_conj()
        covariance = noise_covariance(samples.to(torch.complex128) if samples.is_complex() else samples)
        rho = float(covariance.diagonal().real.mean().sqrt())
        kspace = rho * whiten(kspace, covariance)
        sigma = rho if not isinstance(prewhiten, str) else rho * sigma_of_samples(whiten(samples[:, None], covariance))
        info = {
            "prewhiten": prewhiten if isinstance(prewhiten, str) else "samples",
            "noise_samples": int(samples.shape[1]),
            "noise_sigma": sigma,
            "noise_correlation": _largest_correlation(covariance),
        }
        whitened_maps = None if maps is None else rho * whiten(maps, covariance)
    new_maps = whitened_maps
    if num_virtual_coils is not None:
        info["num_coils"] = int(kspace.shape[1])
        compressed = compress_coils(kspace, num_virtual_coils)
        kspace = compressed.kspace
        info |= {"num_virtual_coils": num_virtual_coils, "energy_kept": compressed.energy_kept}
        if whitened_maps is not None:
            new_maps = torch.einsum("vc,schw->svhw", compressed.matrix.to(whitened_maps.dtype), whitened_maps)
    if maps is None or whitened_maps is None or new_maps is None or new_maps is maps:
        return Prepared(kspace, maps, sigma, info, None)
    before, whitened, after = rss(maps), rss(whitened_maps), rss(new_maps)
    seen = after.clamp_min(_LEAST_SEEN * whitened)
    factor = quotient(before, seen)
    return Prepared(kspace, new_maps * quotient(before, after).unsqueeze(1), sigma, info, factor)


def _largest_correlation(covariance: Tensor) -> float:
    gain = covariance.diagonal().real.sqrt()
    correlation = (covariance / torch.outer(gain, gain)).abs()
    return float(correlation.fill_diagonal_(0).max())
