"""Compute the data term `1/2 ||A u - y||^2` of multi-coil reconstruction, its parts common to iterations only once."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.errors import ShapeError
from mri_recon.operators.row_gram import blocks_of_rows, fast_gram, shared_columns
from mri_recon.operators.sense import SenseOperator, weighted_sum
from mri_recon.solvers.problem import Residual, real_inner

__all__ = ["SenseDataTerm"]


class SenseDataTerm:
    """Compute `1/2 ||A u - y||^2` with the `A` of a `SenseOperator`, for samples scaled to `max |A^H y|` in [1/2, 1).

    Memory holds the maps and the samples and, only within a call, two arrays of the size of the k-space. Where the rows
    share one mask of columns, only the sampled columns are held, and a call works on a few rows at a time.

    Shapes:
        kspace: y, complex `(batch, coil, readout, phase)`; u: complex `(batch, H, W)`, the operator's `image_size`.

    Attributes:
        operator: A, its maps expanded to the shape of y.
        scale: the power of two that y was divided by, real `(batch,)`. The division is exact, so a solver works on the
            same digits at every scale. It is 0 where `A^H y` is 0.
        coverage: `sum_c |S_c|^2`, real `(batch, readout, phase)`.
        norm_bound: an upper bound on `||A||^2`, the largest coverage.
        rhs: `A^H y / scale`.
    """

    def __init__(self, operator: SenseOperator, kspace: Tensor) -> None:
        """Bind the operator and the samples.

        Raises:
            ShapeError: k-space of another shape than the maps.
        """
        if kspace.ndim != 4:
            raise ShapeError(
                f"expected k-space (batch, coil, readout, phase) ending in {tuple(operator.sens_maps.shape[-3:])}, got "
                f"{tuple(kspace.shape)}: the maps belong to another scan"
            )
        self._samples = operator.samples_of(kspace)
        self.operator = operator.with_maps(operator.sens_maps.expand(kspace.shape), operator.image_size)
        self._gram = fast_gram(self.operator)
        self.coverage = self.operator.coverage()
        self.norm_bound = float(self.coverage.max())
        self.rhs = operator.combine(self._samples)
        self.scale = _power_of_two(self.rhs)
        factor = torch.where(self.scale > 0, 1 / self.scale, 0)
        self.rhs *= factor[:, None, None]
        self._columns = self.operator.mask.flatten().nonzero().flatten() if shared_columns(self.operator) else None
        if self._columns is not None:
            self._samples = self._samples[..., self._columns]
        self._samples *= factor[:, None, None, None]

    def at_zero(self) -> Residual:
        """Return the residual at `u = 0`, which is `y`."""
        energy = real_inner(self._samples, self._samples)
        return Residual(self.rhs, energy, energy)

    def gram(self, u: Tensor) -> Tensor:
        """Compute `A^H A u`."""
        return self._gram(u)

    def gradient(self, u: Tensor) -> Tensor:
        """Compute `A^H (y - A u)`."""
        return torch.sub(self.rhs, self.gram(u))

    def residual(self, u: Tensor) -> Residual:
        """Compute gradient, energy and correlation of `r = y - A u`."""
        if self._columns is not None:
            return self._residual_of_rows(u, self._columns)
        r = self.operator.sample(u)
        torch.sub(self._samples, r, out=r)
        energy, correlation = real_inner(r, r), real_inner(r, self._samples)
        return Residual(self.operator.combine(r), energy, correlation)

    def _residual_of_rows(self, u: Tensor, columns: Tensor) -> Residual:
        """Compute `residual` of rows that are separate problems, from their sampled columns."""
        maps, image = self.operator.sens_maps, self.operator.crop(u)
        gradient = maps.new_empty(image.shape)
        energy = correlation = self.scale.new_zeros(len(image), dtype=torch.float64)
        for rows in blocks_of_rows(maps):
            part, y = maps[..., rows, :], self._samples[..., rows, :]
            samples = torch.fft.fft(part * image[..., rows, :].unsqueeze(-3), norm="ortho")
            r = y - samples[..., columns]
            energy, correlation = energy + real_inner(r, r), correlation + real_inner(r, y)
            samples.zero_()[..., columns] = r
            gradient[..., rows, :] = weighted_sum(part, torch.fft.ifft(samples, norm="ortho"))
        return Residual(self.operator.pad(gradient), energy, correlation)


def _power_of_two(image: Tensor) -> Tensor:
    """Find the power of two that brings the largest magnitude of each item into [1/2, 1); 0 for an item of zeros."""
    largest = image.abs().flatten(1).amax(dim=1)
    one = torch.ones_like(largest)
    return torch.where(largest > 0, torch.ldexp(one, torch.frexp(largest).exponent), 0 * one)
