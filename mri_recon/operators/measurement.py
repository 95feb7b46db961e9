"""What an unrolled network knows of a scan: its samples and the linear map that made them, differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mri_recon.errors import ShapeError
from mri_recon.transforms.fourier import ifft1c, in_fft_order

__all__ = ["Measurement", "concatenate", "measure"]


@dataclass(frozen=True)
class Measurement:
    """Samples y = A x with A = P F S, in the plain order of the FFT, so that no iteration shifts anything.

    Attributes:
        samples: y, complex `(batch, coil, h, w)`, zero where not sampled; along the readout an image where `dims` is
            `(-1,)`.
        mask: real, 1 where sampled, broadcastable to `samples`.
        maps: S, complex `(batch, coil, h, w)`.
        dims: axes that are k-space: `(-1,)` for a mask of columns, which leaves every row a problem of its own (a
            band of rows is a complete one), else `(-2, -1)`.
        sigma: noise sqrt(E|n|^2) of one sample in the units of `samples`, real `(batch, 1, 1)`; None: not known.
    """

    samples: Tensor
    mask: Tensor
    maps: Tensor
    dims: tuple[int, ...]
    sigma: Tensor | None = None

    def adjoint(self) -> Tensor:
        """A^H y = sum_c conj(S_c) F^-1 y_c, `(batch, h, w)`."""
        return self._combine(self.samples)

    def forward(self, x: Tensor) -> Tensor:
        """A x, `(batch, h, w)` to the layout of `samples`."""
        samples: Tensor = self.mask * torch.fft.fftn(self.maps * x.unsqueeze(1), dim=self.dims, norm="ortho")
        return samples

    def normal(self, x: Tensor) -> Tensor:
        """A^H A x, `(batch, h, w)` to `(batch, h, w)`."""
        return self._combine(self.forward(x))

    def misfit(self, x: Tensor) -> Tensor:
        """Compute the mean power of A x - y over the samples that were taken, real `(batch, 1, 1)`."""
        residual = self.forward(x) - self.samples
        power = residual.real.square() + residual.imag.square()
        rows = self.samples.shape[-2] // self.mask.shape[-2] if self.mask.ndim > 1 else self.samples.shape[-2]
        taken = self.mask.flatten(-min(2, self.mask.ndim)).sum(dim=-1) * rows * self.samples.shape[1]
        return power.sum(dim=(1, 2, 3)).reshape(-1, 1, 1) / taken.reshape(-1, 1, 1).clamp_min(1)

    def acceleration(self) -> Tensor:
        """Divide all positions by those that were taken, real `(1 or batch, 1, 1)`."""
        return self.mask.flatten(-min(2, self.mask.ndim)).mean(dim=-1).clamp_min(1e-6).reciprocal().reshape(-1, 1, 1)

    def center_lines(self) -> Tensor:
        """Count the lines about DC that are sampled without a gap (of a pattern, on DC's row): `(1 or batch, 1, 1)`."""
        row = (self.mask[..., 0, :] if self.mask.ndim > 1 else self.mask).reshape(-1, self.mask.shape[-1])
        ahead = row.cumprod(dim=-1).sum(dim=-1)
        behind = row[:, 1:].flip(-1).cumprod(dim=-1).sum(dim=-1)
        return (ahead + behind * row[:, 0]).clamp_max(row.shape[-1]).reshape(-1, 1, 1)

    def scaled(self, scale: Tensor) -> Measurement:
        """The samples, and their noise, divided by `scale`, real `(batch, 1, 1)`."""
        sigma = None if self.sigma is None else self.sigma / scale
        return replace(self, samples=self.samples / scale.unsqueeze(1), sigma=sigma)

    def to(self, device: torch.device) -> Measurement:
        """The same on a device."""
        sigma = None if self.sigma is None else self.sigma.to(device)
        return Measurement(self.samples.to(device), self.mask.to(device), self.maps.to(device), self.dims, sigma)

    def with_maps(self, maps: Tensor) -> Measurement:
        """The same samples seen through other sensitivities."""
        return replace(self, maps=maps)

    def split(self) -> list[Measurement]:
        """One measurement for each item of the batch."""
        parts = zip(torch.split(self.samples, 1), torch.split(self.maps, 1), strict=True)
        own = self.mask.ndim == 4 and self.mask.shape[0] > 1
        return [
            replace(
                self,
                samples=samples,
                maps=maps,
                mask=self.mask[i : i + 1] if own else self.mask,
                sigma=None if self.sigma is None else self.sigma[i : i + 1],
            )
            for i, (samples, maps) in enumerate(parts)
        ]

    def rows(self, rows: slice) -> Measurement:
        """A band of readout rows.

        Raises:
            ShapeError: the rows are coupled, the mask is not one of columns.
        """
        if self.dims != (-1,):
            raise ShapeError("rows: expected a mask of columns, got one that couples the rows: take the whole slice")
        return replace(self, samples=self.samples[..., rows, :], maps=self.maps[..., rows, :])

    def _combine(self, samples: Tensor) -> Tensor:
        coil_images = torch.fft.ifftn(samples, dim=self.dims, norm="ortho")
        image: Tensor = (self.maps.conj() * coil_images).sum(dim=1)
        return image


def concatenate(measurements: Sequence[Measurement]) -> Measurement:
    """One measurement of the items of several, each with its own mask; `Measurement.split` takes it apart again.

    Args:
        measurements: one at least, of equal number of coils, height and width, and equal `dims`.

    Raises:
        ShapeError: none, or sizes or `dims` that differ.
    """
    kinds = {(tuple(one.samples.shape[1:]), one.dims) for one in measurements}
    if len(kinds) != 1:
        raise ShapeError(
            f"concatenate: expected measurements of one size with masks of one kind, got {sorted(kinds)}: "
            "put those together that are alike"
        )
    levels = [one.sigma for one in measurements]
    masks = [one.mask.expand(len(one.samples), 1, *_plane(one)) for one in measurements]
    return replace(
        measurements[0],
        samples=torch.cat([one.samples for one in measurements]),
        mask=torch.cat(masks),
        maps=torch.cat([one.maps for one in measurements]),
        sigma=None if None in levels else torch.cat([level for level in levels if level is not None]),
    )


def _plane(one: Measurement) -> tuple[int, int]:
    """Rows and columns of a mask: it may be the same for every row."""
    rows = 1 if one.dims == (-1,) else int(one.samples.shape[-2])
    return rows, int(one.samples.shape[-1])


def measure(kspace: Tensor, mask: Tensor, maps: Tensor, sigma: Tensor | None = None) -> Measurement:
    """The measurement of centred k-space.

    With i = ifftshift and E the plain FFT, the centred transform is F = i^-1 E i; the phase ramp that moves the image's
    origin is put on the samples once, so that y' = P' E S x holds without a shift.

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
    rowwise = mask.ndim == 1 or mask.shape[-2] == 1
    dims = (-1,) if rowwise else (-2, -1)
    samples = ifft1c(kspace, dim=-2) if rowwise else kspace
    real = torch.fft.ifftshift(mask, dim=dims).to(samples.real.dtype)
    return Measurement(in_fft_order(samples, dims), real, maps, dims, sigma)
