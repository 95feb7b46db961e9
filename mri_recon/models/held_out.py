"""Judge an image by samples that the network was not given."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.operators.measurement import Measurement

__all__ = ["held_out_loss"]


def held_out_loss(output: Tensor, held_out: Measurement, *, l1_weight: float = 1.0, l2_weight: float = 1.0) -> Tensor:
    """Compute w1 ||y - A x||_1 / ||y||_1 + w2 ||y - A x||_2 / ||y||_2 over all samples y of the batch, in k-space.

    For self-supervision y are samples that the network was not given, of every coil. k-space is that of the whole
    image `output`, complex `(batch, h, w)`: of a band of rows, the band's own.

    Source: Yaman et al., Magn Reson Med 2020 (SSDU).
    """
    residual, samples = held_out.residual(output), held_out.samples
    if held_out.dims == (-1,):  # images along the readout, see `Measurement`
        residual, samples = (torch.fft.fft(part, dim=-2, norm="ortho") for part in (residual, samples))
    loss = residual.real.new_zeros(())
    for weight, order in ((l1_weight, 1), (l2_weight, 2)):
        if weight:
            size = torch.linalg.vector_norm(samples, ord=order)
            error = torch.linalg.vector_norm(residual, ord=order)
            loss = loss + weight * error / size.clamp_min(torch.finfo(size.dtype).tiny)
    return loss
