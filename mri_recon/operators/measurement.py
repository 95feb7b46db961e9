"""Represent a scan for unrolled networks: its samples and the operator that made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mri_recon.errors import ShapeError
from mri_recon.operators.sense import SenseOperator

__all__ = ["Measurement", "concatenate", "measure"]


@dataclass(frozen=True)
class Measurement:
    """Hold samples y = A x and the operator A, differentiable.

    Attributes:
        samples: y in FFT order (`SenseOperator.samples_of`), complex `(batch, coil, h, w)`, zero where not sampled.
        operator: A, with maps `(batch, coil, h, w)`. If its `dims` is `(-1,)`, every row is a separate problem and a
            band of rows is a complete measurement.
        sigma: noise sqrt(E|n|^2) of one sample in the units of `samples`, real `(batch, 1, 1)`; None if unknown.
    """

    samples: Tensor
    operator: SenseOperator
    sigma: Tensor | None = None

    @property
    def maps(self) -> Tensor:
        """Sensitivities S, complex `(batch, coil, h, w)`."""
        return self.operator.sens_maps

    @property
    def mask(self) -> Tensor:
        """P in FFT order, real, broadcastable to `samples`."""
        return self.operator.mask

    @property
    def dims(self) -> tuple[int, ...]:
        """Axes along which samples are k-space, `(-1,)` or `(-2, -1)`."""
        return self.operator.dims

    def adjoint(self) -> Tensor:
        """Compute A^H y, the zero-filled image `(batch, h, w)`."""
        return self.operator.combine(self.samples)

    def gram(self, x: Tensor) -> Tensor:
        """Compute A^H A x, `(batch, h, w)` to `(batch, h, w)`."""
        return self.operator.gram(x)

    def residual(self, x: Tensor) -> Tensor:
        """Compute y - A x, in the layout of `samples`."""
        return self.samples - self.operator.sample(x)

    def misfit(self, x: Tensor) -> Tensor:
        """Compute the mean power of A x - y over the sampled positions, real `(batch, 1, 1)`."""
        residual = self.residual(x)
        power = residual.real.square() + residual.imag.square()
        mask = self.mask
        rows = self.samples.shape[-2] // mask.shape[-2] if mask.ndim > 1 else self.samples.shape[-2]
        taken = mask.flatten(-min(2, mask.ndim)).sum(dim=-1) * rows * self.samples.shape[1]
        return power.sum(dim=(1, 2, 3)).reshape(-1, 1, 1) / taken.reshape(-1, 1, 1).clamp_min(1)

    def acceleration(self) -> Tensor:
        """Divide the number of positions by that of sampled ones, real `(1 or batch, 1, 1)`."""
        mask = self.mask
        share = mask.flatten(-min(2, mask.ndim)).mean(dim=-1)
        return share.clamp_min(1e-6).reciprocal().reshape(-1, 1, 1)

    def center_lines(self) -> Tensor:
        """Count the lines about DC that are sampled without a gap (of a pattern, on DC's row): `(1 or batch, 1, 1)`."""
        mask = self.mask
        row = (mask[..., 0, :] if mask.ndim > 1 else mask).reshape(-1, mask.shape[-1])
        ahead = row.cumprod(dim=-1).sum(dim=-1)
        behind = row[:, 1:].flip(-1).cumprod(dim=-1).sum(dim=-1)
        return (ahead + behind * row[:, 0]).clamp_max(row.shape[-1]).reshape(-1, 1, 1)

    def scaled(self, scale: Tensor) -> Measurement:
        """Divide the samples and their noise by `scale`, real `(batch, 1, 1)`."""
        sigma = None if self.sigma is None else self.sigma / scale
        return replace(self, samples=self.samples / scale.unsqueeze(1), sigma=sigma)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Measurement:
        """Move to a device, and to a complex type; None keeps the type."""
        dtype = self.samples.dtype if dtype is None else dtype
        operator = self.operator.with_maps(self.maps.to(device, dtype))
        sigma = None if self.sigma is None else self.sigma.to(device, dtype.to_real())
        return Measurement(self.samples.to(device, dtype), operator, sigma)

    def with_maps(self, maps: Tensor) -> Measurement:
        """Keep the samples and replace the sensitivities."""
        return replace(self, operator=self.operator.with_maps(maps))

    def items(self, index: slice | Tensor) -> Measurement:
        """Pick items of the batch, by a slice or by their numbers."""
        mask = self.mask
        own = mask.ndim == 4 and mask.shape[0] > 1
        return Measurement(
            self.samples[index],
            self.operator.with_maps(self.maps[index], mask=mask[index] if own else mask),
            None if self.sigma is None else self.sigma[index],
        )

    def split(self) -> list[Measurement]:
        """Make one measurement for each item of the batch."""
        return [self.items(slice(i, i + 1)) for i in range(len(self.samples))]

    def rows(self, rows: slice) -> Measurement:
        """Cut out a band of readout rows.

        Raises:
            ShapeError: the mask is not a column mask, so that rows are coupled.
        """
        if self.dims != (-1,):
            raise ShapeError("rows: expected a mask of columns, got one that couples the rows: take the whole slice")
        return replace(self.with_maps(self.maps[..., rows, :]), samples=self.samples[..., rows, :])


def concatenate(measurements: Sequence[Measurement]) -> Measurement:
    """Put the items of several measurements into one, each with its own mask; `Measurement.split` undoes it.

    Args:
        measurements: at least one, all with the same number of coils, height, width and `dims`.

    Raises:
        ShapeError: no measurement, or sizes or `dims` that differ.
    """
    kinds = {(tuple(one.samples.shape[1:]), one.dims) for one in measurements}
    if len(kinds) != 1:
        raise ShapeError(
            f"concatenate: expected measurements of one size with masks of one kind, got {sorted(kinds)}: "
            "put those together that are alike"
        )
    levels = [one.sigma for one in measurements]
    masks = [one.mask.expand(len(one.samples), 1, *_plane(one)) for one in measurements]
    maps = torch.cat([one.maps for one in measurements])
    return Measurement(
        torch.cat([one.samples for one in measurements]),
        measurements[0].operator.with_maps(maps, mask=torch.cat(masks)),
        None if None in levels else torch.cat([level for level in levels if level is not None]),
    )


def _plane(one: Measurement) -> tuple[int, int]:
    """Return rows and columns of a mask, which may be the same for every row."""
    rows = 1 if one.dims == (-1,) else int(one.samples.shape[-2])
    return rows, int(one.samples.shape[-1])


def measure(kspace: Tensor, mask: Tensor, maps: Tensor, sigma: Tensor | None = None) -> Measurement:
    """Make the measurement of centred k-space: converts it to FFT order once.

    Args:
        kspace: complex `(batch, coil, readout, phase)`, centred, zero where not sampled.
        mask: bool `(phase,)`, or broadcastable to k-space.
        maps: complex, like `kspace`.
        sigma: noise sqrt(E|n|^2) of one sample, real `(batch, 1, 1)`.

    Raises:
        ShapeError: maps that do not fit.
    """
    if maps.shape != kspace.shape:
        raise ShapeError(f"measure: expected maps {tuple(kspace.shape)} like the k-space, got {tuple(maps.shape)}")
    operator = SenseOperator(mask, maps)
    return Measurement(operator.samples_of(kspace), operator, sigma)
