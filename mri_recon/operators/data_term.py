"""The data term `1/2 ||A u - y||^2` of multi-coil reconstruction; everything that iterations share is computed once.

The samples fix the operator `A = P F S C` of `operators.sense.SenseOperator`; what a solver asks for in its loop is the
gradient `A^H (y - A u)`. What makes it cheap:

- `F^H P F` is a circular convolution, which commutes with circular shifts. So no centring shift is needed inside: the
  mask is brought to FFT order once, and `y` is stored as the plain FFT of the centred coil images.
- Where the mask is constant along the readout, the transform along that axis cancels: `F^H P F` acts on the phase axis
  alone, row by row. One-dimensional FFTs do, and any other mask takes the two-dimensional ones.
- Nothing is shifted or cast inside the loop, and maps are not copied: beside them, the samples and two arrays of the
  size of the k-space are alive, these only within a call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.errors import ShapeError
from mri_recon.operators.sense import SenseOperator
from mri_recon.solvers.problem import LeastSquares, LinearMap, Residual, real_inner
from mri_recon.transforms.fourier import fft_order_ramp, ifft1c, in_fft_order

__all__ = [
    "SenseDataTerm",
]


_BLOCK = 8
"""Rows that share their virtual coils."""

_LEFT_OUT = 5e-3
"""What the virtual coils may leave out of sum |S|^2 at any pixel, as a share of its maximum."""

_EXACT_CALL = 3
"""Which gradient of the virtual coils is computed from all coils, to correct the others before the first look."""

_MIN_COILS = 4

_WORTHWHILE = 0.7
"""Below this many coils, or above this share of them kept, all coils it is."""


class SenseDataTerm:
    """`1/2 ||A u - y||^2` with the `A` of a `SenseOperator`, for samples scaled to `max |A^H y|` in [1/2, 1).

    Shapes:
        kspace: y, complex `(batch, coil, readout, phase)`; u: complex `(batch, H, W)`, the operator's `image_size`.

    `gradient` and `residual` equal those of the operator's `forward` and `adjoint` to rounding, of the scaled samples.

    Attributes:
        scale: what y was divided by, a power of two, real `(batch,)`: no digit is lost, and a solver sees the same
            digits at every scale. 0 where `A^H y` is.
        coverage: `sum_c |S_c|^2`, real `(batch, readout, phase)`.
        norm_bound: an upper bound on `||A||^2`, the largest coverage.
        rhs: `A^H y / scale`.
    """

    def __init__(self, operator: SenseOperator, kspace: Tensor) -> None:
        """Bind the operator and the samples.

        Raises:
            ShapeError: k-space of another shape than the maps.
        """
        maps = operator.sens_maps
        if kspace.ndim != 4 or maps.shape[-3:] != kspace.shape[-3:]:
            raise ShapeError(
                f"expected k-space (batch, coil, readout, phase) ending in {tuple(maps.shape[-3:])}, got "
                f"{tuple(kspace.shape)}: the maps belong to another scan"
            )
        self._operator = operator
        mask = operator.mask
        self._maps = maps.expand(kspace.shape)
        coverage = torch.zeros_like(self._maps[:, 0].real)
        for coil in torch.view_as_real(self._maps).unbind(1):
            coverage.addcmul_(coil[..., 0], coil[..., 0]).addcmul_(coil[..., 1], coil[..., 1])
        self.coverage = coverage
        self.norm_bound = float(self.coverage.max())
        # One row for all: the mask does not change along the readout.
        decoupled = mask.ndim == 1 or mask.shape[-2] == 1
        self._dims = (-1,) if decoupled else (-2, -1)
        self._mask = torch.fft.ifftshift(mask, dim=self._dims)
        self._samples = _columns_in_fft_order(kspace, mask) if decoupled else in_fft_order(kspace * mask, (-2, -1))
        self.rhs = self._back(self._samples)
        self.scale = _power_of_two(self.rhs)
        factor = torch.where(self.scale > 0, 1 / self.scale, 0)
        self.rhs *= factor[:, None, None]
        self._samples *= factor[:, None, None, None]

    def at_zero(self) -> Residual:
        """The residual at `u = 0`, which is `y`."""
        energy = real_inner(self._samples, self._samples)
        return Residual(self.rhs, energy, energy)

    def normal(self, u: Tensor) -> Tensor:
        """`A^H A u`."""
        return self._back(self._sampled(u))

    def gradient(self, u: Tensor) -> Tensor:
        """`A^H (y - A u)`."""
        return torch.sub(self.rhs, self.normal(u))

    def residual(self, u: Tensor) -> Residual:
        """Gradient, energy and correlation of `r = y - A u`."""
        r = self._sampled(u)
        torch.sub(self._samples, r, out=r)
        energy, correlation = real_inner(r, r), real_inner(r, self._samples)
        return Residual(self._back(r), energy, correlation)

    def reduced(self) -> LeastSquares:
        """The same data term for many iterations: most gradients from fewer, virtual coils; see `_ReducedDataTerm`.

        It is the term itself where nothing is gained: few coils, maps that do not compress, rows that are coupled.
        """
        virtual = None if len(self._dims) > 1 else _virtual_maps(self._maps)
        if virtual is None:
            return self
        conjugate = virtual.conj().resolve_conj()

        def normal(u: Tensor) -> Tensor:
            image = self._operator.crop(u).unsqueeze(1)
            samples = torch.fft.fft(virtual * image, norm="ortho").mul_(self._mask)
            return self._operator.pad(torch.fft.ifft(samples, norm="ortho").mul_(conjugate).sum(dim=1))

        return _ReducedDataTerm(self, normal)

    def _sampled(self, u: Tensor) -> Tensor:
        """`A u` in FFT order; along the readout still an image where the rows are decoupled."""
        coil_images = self._maps * self._operator.crop(u).unsqueeze(1)
        samples: Tensor = torch.fft.fftn(coil_images, dim=self._dims, norm="ortho")
        return samples.mul_(self._mask)

    def _back(self, samples: Tensor) -> Tensor:
        coil_images = torch.fft.ifftn(samples, dim=self._dims, norm="ortho")
        # sum conj(S) x as the conjugate of sum S conj(x): the maps need no second, conjugated copy.
        image = coil_images.conj_physical_().mul_(self._maps).sum(dim=1)
        return self._operator.pad(image.conj_physical_())


class _ReducedDataTerm:
    """Gradients from virtual coils, corrected at every look at the exact residual.

    Along one row, `A^H A = sum_c conj(S_c) T S_c`, T the convolution of the mask, is the same for any unitary mixture
    of the coils. Smooth maps along a few neighbouring rows are mixtures of few: those that are left out are worth
    `||E|| <= 0.005 ||A||^2`, and with the gradient known exactly at the last u_0 of `residual`,

        A^H (y - A u) = A^H (y - A u_0) - N (u - u_0) - E (u - u_0),   N = A^H A - E,

    only the last term is missing. What `residual` returns, and with it objective and gap, is exact throughout.

    Source: geometric coil compression, Zhang et al., Magn Reson Med 2013, here of the maps and not of the data.
    """

    def __init__(self, exact: SenseDataTerm, normal: LinearMap) -> None:
        self._exact, self._normal = exact, normal
        self._offset = exact.rhs  # gradient at the last point of `residual` plus N times it; at 0 to begin with
        self._pending: Tensor | None = None  # that point, until N times it is asked for
        self._calls = 0

    def at_zero(self) -> Residual:
        return self._exact.at_zero()

    def gradient(self, x: Tensor) -> Tensor:
        self._calls += 1
        if self._calls == _EXACT_CALL:  # the first points move far from 0, where the offset was taken
            self._offset, self._pending = self._exact.gradient(x), x
            return self._offset
        if self._pending is not None:
            self._offset, self._pending = self._offset + self._normal(self._pending), None
        return torch.sub(self._offset, self._normal(x))

    def residual(self, x: Tensor) -> Residual:
        found = self._exact.residual(x)
        self._offset, self._pending = found.gradient, x
        return found


def _virtual_maps(maps: Tensor) -> Tensor | None:
    """Maps of the fewest virtual coils that leave out at most `_LEFT_OUT` of sum |S|^2 at any pixel; None for many.

    The principal mixtures of every `_BLOCK` rows: the eigenvectors of `sum_pixels S S^H`.
    """
    batch, num_coils, h, w = maps.shape
    if num_coils < _MIN_COILS:
        return None
    if h % _BLOCK:
        padded = torch.nn.functional.pad(torch.view_as_real(maps), (0, 0, 0, 0, 0, -h % _BLOCK))
        maps = torch.view_as_complex(padded)
    blocks = maps.reshape(batch, num_coils, -1, _BLOCK * w).movedim(2, 1)
    _, vectors = torch.linalg.eigh(blocks @ blocks.mH)
    mixed = vectors.flip(-1).mH @ blocks  # strongest first
    energy = mixed.real.square() + mixed.imag.square()  # at every pixel: one coil vector left out, and N is not A^H A
    left_out = energy.flip(2).cumsum(dim=2).flip(2).amax(dim=(0, 1, 3)) / energy.sum(dim=2).max()
    count = max(1, int((left_out > _LEFT_OUT).sum()))
    if count > _WORTHWHILE * num_coils:
        return None
    virtual: Tensor = mixed[:, :, :count].movedim(1, 2).reshape(batch, count, -1, w)
    return virtual[:, :, :h].contiguous()


def _columns_in_fft_order(kspace: Tensor, mask: Tensor) -> Tensor:
    """Image along the readout, FFT order along the phase axis; only the sampled columns are transformed."""
    columns = mask.flatten().nonzero().flatten()
    width = kspace.shape[-1]
    places = (columns - width // 2) % width
    samples = torch.zeros_like(kspace)
    samples[..., places] = ifft1c(kspace[..., columns], dim=-2) * fft_order_ramp(kspace, -1).flatten()[places]
    return samples


def _power_of_two(image: Tensor) -> Tensor:
    """The power of two that brings the largest magnitude of each item into [1/2, 1); 0 for an item of zeros."""
    largest = image.abs().flatten(1).amax(dim=1)
    one = torch.ones_like(largest)
    return torch.where(largest > 0, torch.ldexp(one, torch.frexp(largest).exponent), 0 * one)
