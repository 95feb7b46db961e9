"""Compress coils: compute a few virtual coils that hold most of the energy of many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mri_recon.coils.checks import check_kspace
from mri_recon.errors import FormatError, MethodError

__all__ = ["CompressedCoils", "compress_coils"]


@dataclass(frozen=True)
class CompressedCoils:
    """Hold the k-space of virtual coils and the matrix that made it.

    Attributes:
        kspace: complex `(slice, num_coils, readout, phase)`.
        matrix: the virtual coils as orthonormal rows, complex `(num_coils, coil)`: `matrix @ y` at every sample.
        energy_kept: fraction of `sum |y|^2` that the virtual coils keep, in (0, 1].
    """

    kspace: Tensor
    matrix: Tensor
    energy_kept: float


def compress_coils(kspace: Tensor, num_coils: int) -> CompressedCoils:
    """Compute the principal components of the coils, `y' = V^H y`, V the leading left singular vectors of all samples.

    All slices share one matrix, computed from every acquired sample (zeros add nothing). Its rows are orthonormal, so
    white noise stays white, with the same sigma; if the noise is not white, whiten first. Each row's largest entry is
    real and positive. Estimate sensitivity maps from the compressed k-space, or multiply given maps by the same matrix.

    Args:
        kspace: complex `(slice, coil, readout, phase)`.
        num_coils: virtual coils to keep, at most the number of coils.

    Returns:
        `CompressedCoils`, in the precision of `kspace`; the matrix does not depend on the scale of `kspace`.

    Raises:
        ShapeError: `kspace` is not complex `(slice, coil, readout, phase)`.
        MethodError: `num_coils` is not between 1 and the number of coils.
        FormatError: k-space that is not finite, or all zero.

    Source: Buehrer et al., Magn Reson Med 2007; Huang et al., Magn Reson Imaging 2008.
    """
    check_kspace(kspace, "keep the slice and coil axes, also for one")
    available = kspace.shape[1]
    if isinstance(num_coils, bool) or not isinstance(num_coils, int) or not 1 <= num_coils <= available:
        raise MethodError(f"expected between 1 and {available} virtual coils, got num_coils={num_coils!r}")
    largest = torch.stack([one.abs().max() for one in kspace]).max()
    if not bool(torch.isfinite(largest)):
        raise FormatError("expected finite k-space, got infinite or not-a-number samples: repair or mask them out")
    if not bool(largest > 0):
        raise FormatError("expected k-space with a signal, got only zeros: check the file and the mask")
    covariance = torch.zeros(available, available, dtype=torch.complex128, device=kspace.device)
    for one in kspace:
        samples = one.flatten(1) / largest
        covariance += samples @ samples.mH
    energy, vectors = torch.linalg.eigh(covariance)
    rows = vectors.mH.flip(0)[:num_coils]
    lead = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    matrix = (rows * torch.sgn(lead).conj()).to(kspace.dtype)
    compressed = torch.stack([(matrix @ one.flatten(1)).reshape(num_coils, *one.shape[1:]) for one in kspace])
    kept = float(energy[available - num_coils :].sum() / energy.sum())
    return CompressedCoils(compressed, matrix, min(kept, 1.0))
