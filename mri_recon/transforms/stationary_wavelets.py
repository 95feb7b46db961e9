"""Stationary (undecimated, translation-invariant) two-dimensional wavelet transform, a Parseval frame."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.errors import MethodError, ShapeError
from mri_recon.transforms._shifts import add_shifted, bands_for, complex_view, real_view, sum_with_shifted
from mri_recon.transforms.wavelets import orthogonal_filters

__all__ = ["StationaryWaveletTransform"]


class StationaryWaveletTransform:
    """Wavelet transform without decimation: `c = W x`, `W^H W = 1`, and shifting x shifts every band.

    Level l = 1..levels filters the approximation of the level before along both axes, periodically, with low-pass and
    high-pass filters whose taps lie 2^(l-1) samples apart. With the n-tap filters f of PyWavelets,

        out[k] = 2^(-1/2) sum_j f[j] x[(k + (n/2 - j) 2^(l-1)) mod N].

    The approximation goes on to the next level, the three others are bands. With |low|^2 + |high|^2 = 1 at every
    frequency each level is a Parseval frame, whatever the size, so `W^H` is a left inverse and `||W x|| = ||x||`.
    Where `2^levels` divides both sides the bands are those of
    `pywt.swt2(x, wavelet, levels, norm=True, trim_approx=True)`.

    Bands: the approximation, then from the coarsest level to the finest the details (high along the readout, low along
    the phase axis), (low, high), (high, high): `3 levels + 1`.

    Shapes:
        x: real or complex `(..., h, w)`; c: of the same type, `(..., band, h, w)`.

    Source: Nason and Silverman, Wavelets and Statistics 1995; Coifman and Donoho, ibid.
    """

    def __init__(self, levels: int, size: tuple[int, int], wavelet: str = "haar") -> None:
        """Take the filters from PyWavelets.

        Args:
            levels: at least 1; `2^levels` at most the shorter side, where that has 2 samples or more.
            size: `(h, w)`, of any parity.
            wavelet: an orthogonal wavelet of PyWavelets.

        Raises:
            MethodError: an unknown or not orthogonal wavelet, or too few or too many levels.
            ShapeError: an empty side.
        """
        filters = orthogonal_filters(wavelet)
        if min(size) < 1:
            raise ShapeError(f"expected an image (h, w) with samples, got {size}")
        most = max(1, min(size).bit_length() - 1)
        if isinstance(levels, bool) or not isinstance(levels, int) or not 1 <= levels <= most:
            raise MethodError(
                f"expected 1 to {most} wavelet levels for an image of {size}, got {levels!r}: 2^levels is at most the "
                "shorter side"
            )
        self.wavelet = wavelet
        self.levels = levels
        self.size = size
        half = len(filters.dec_lo) // 2
        # Pairs (offset at level 1, tap); a Parseval frame wants filters of half the energy of orthonormal ones.
        self._low, self._high = (
            [(half - j, tap * 0.5**0.5) for j, tap in enumerate(taps)] for taps in (filters.dec_lo, filters.dec_hi)
        )
        self._is_haar = half == 1

    @property
    def num_bands(self) -> int:
        """Number of bands, `3 levels + 1`."""
        return 3 * self.levels + 1

    def forward(self, x: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Compute `W x`: image `(..., h, w)` to bands `(..., band, h, w)`.

        Args:
            x: the image.
            out: contiguous tensor to write the bands to, of the type of `x`; `None` makes one.

        Raises:
            ShapeError: the image has another size, or `out` does not fit it.
        """
        self._check(x, 2)
        out = bands_for(x, self.num_bands, out)
        image, step = real_view(x)
        bands, _ = real_view(out)
        analyse = _haar_analysis if self._is_haar else self._analysis
        low = image
        for level in range(self.levels):
            last = level == self.levels - 1
            details = bands[..., self._first_detail(level) :, :, :][..., :3, :, :]
            low = analyse(low, details, 1 << level, step, bands[..., 0, :, :] if last else None)
        return out

    def adjoint(self, c: Tensor) -> Tensor:
        """Compute `W^H c`: bands `(..., band, h, w)` to the image `(..., h, w)`; a left inverse of `forward`.

        Raises:
            ShapeError: bands of another number or size.
        """
        self._check(c, 3)
        bands, step = real_view(c)
        synthesise = _haar_synthesis if self._is_haar else self._synthesis
        low = bands[..., 0, :, :]
        for level in reversed(range(self.levels)):
            details = bands[..., self._first_detail(level) :, :, :][..., :3, :, :]
            low = synthesise(low, details, 1 << level, step)
        if not c.is_complex():
            return low
        return complex_view(low)

    def gram(self, x: Tensor) -> Tensor:
        """Return x: `W^H W = 1`."""
        return x

    def _check(self, x: Tensor, axes: int) -> None:
        if x.ndim < axes or tuple(x.shape[-2:]) != self.size or (axes == 3 and x.shape[-3] != self.num_bands):
            wanted = f"(..., h, w) of size {self.size}" if axes == 2 else f"(..., {self.num_bands}, h, w), {self.size}"
            raise ShapeError(f"expected a tensor {wanted}, got {tuple(x.shape)}: build a transform of that size")

    def _first_detail(self, level: int) -> int:
        """Band of the first detail of a level, counted from 0 at the finest."""
        return 1 + 3 * (self.levels - 1 - level)

    def _analysis(self, low: Tensor, details: Tensor, spacing: int, step: int, approximation: Tensor | None) -> Tensor:
        lo = _filter(low, self._low, spacing, -2, 1)
        hi = _filter(low, self._high, spacing, -2, 1)
        for band, (rows, taps) in enumerate(((hi, self._low), (lo, self._high), (hi, self._high))):
            _filter(rows, taps, spacing, -1, step, details[..., band, :, :])
        return _filter(lo, self._low, spacing, -1, step, approximation)

    def _synthesis(self, low: Tensor, details: Tensor, spacing: int, step: int) -> Tensor:
        high_low, low_high, high_high = details.unbind(-3)
        lo = _filter(low, self._low, -spacing, -1, step)
        _filter_add(lo, low_high, self._high, -spacing, -1, step)
        hi = _filter(high_low, self._low, -spacing, -1, step)
        _filter_add(hi, high_high, self._high, -spacing, -1, step)
        x = _filter(lo, self._low, -spacing, -2, 1)
        _filter_add(x, hi, self._high, -spacing, -2, 1)
        return x


def _haar_analysis(low: Tensor, details: Tensor, spacing: int, step: int, approximation: Tensor | None) -> Tensor:
    """One level with taps (1, 1) / 2 and (1, -1) / 2: sums and differences of the image and its shifted self."""
    quarter = low * 0.25
    lo, hi = torch.empty_like(quarter), torch.empty_like(quarter)
    sum_with_shifted(quarter, spacing * step, -1, 1, lo)
    sum_with_shifted(quarter, spacing * step, -1, -1, hi)
    sum_with_shifted(lo, spacing, -2, -1, details[..., 0, :, :])
    sum_with_shifted(hi, spacing, -2, 1, details[..., 1, :, :])
    sum_with_shifted(hi, spacing, -2, -1, details[..., 2, :, :])
    return sum_with_shifted(lo, spacing, -2, 1, quarter if approximation is None else approximation)


def _haar_synthesis(low: Tensor, details: Tensor, spacing: int, step: int) -> Tensor:
    high_low, low_high, high_high = details.unbind(-3)
    # The adjoint of (a + a', a - a') on a pair (s, d) is (s + d) + (s - d)', shifted the other way.
    lo = low + high_low
    difference = low - high_low
    add_shifted(lo, difference, -spacing, -2, 1)
    hi = low_high + high_high
    torch.sub(low_high, high_high, out=difference)
    add_shifted(hi, difference, -spacing, -2, 1)
    torch.sub(lo, hi, out=difference)
    lo += hi
    add_shifted(lo, difference, -spacing * step, -1, 1)
    return lo.mul_(0.25)


def _filter(
    x: Tensor, taps: list[tuple[int, float]], spacing: int, dim: int, step: int, out: Tensor | None = None
) -> Tensor:
    out = torch.zeros_like(x) if out is None else out.zero_()
    return _filter_add(out, x, taps, spacing, dim, step)


def _filter_add(out: Tensor, x: Tensor, taps: list[tuple[int, float]], spacing: int, dim: int, step: int) -> Tensor:
    """Compute `out[k] += sum_j tap_j x[k + offset_j spacing]`, periodic along an axis."""
    for offset, tap in taps:
        add_shifted(out, x, offset * spacing * step, dim, tap)
    return out
