"""Convolve periodically along the last axis, fast for lengths that have large prime factors, too."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["PeriodicConvolution"]

_AWKWARD = 60
"""Prime factor from which on more than twice the length is faster: the FFT of a large prime is made of longer ones."""

_ODD_PARTS = (1, 3, 5, 7, 9, 15)
"""Odd factors of good lengths; the rest is a power of two."""


class PeriodicConvolution:
    """Compute `F^-1 diag(m) F x` along the last axis, F the plain FFT of N samples, m real.

    It is the periodic convolution with `g = F^-1 m`. Where N has a large prime factor, x is padded with zeros to a good
    length `M >= 2 N - 1` and convolved there with the two-sided kernel `g(k)`, `-N < k < N`. The first N samples are
    the same, since no pair of samples is further apart. The kernel of a real m is Hermitian, so that its transform of
    length M is real.

    Shapes:
        m: real `(N,)`; x: complex `(..., N)`.
    """

    def __init__(self, multiplier: Tensor) -> None:
        """Take m, and choose the length."""
        self.multiplier = multiplier
        n = multiplier.numel()
        self.length = n if _largest_prime_factor(n) < _AWKWARD else _good_length(2 * n - 1)
        self._spectrum = multiplier
        if self.length != n:
            kernel = torch.fft.ifft(multiplier.double())
            padded = kernel.new_zeros(self.length)
            padded[:n] = kernel
            padded[self.length - n + 1 :] = kernel[1:]
            self._spectrum = torch.fft.fft(padded).real.to(multiplier.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Compute `F^-1 diag(m) F x`."""
        n = x.shape[-1]
        if self.length == n:
            whole: Tensor = torch.fft.ifft(torch.fft.fft(x).mul_(self._spectrum))
            return whole
        padded: Tensor = torch.fft.ifft(torch.fft.fft(x, n=self.length).mul_(self._spectrum))
        return padded[..., :n]


def _good_length(least: int) -> int:
    """Find the shortest good length that is not below `least`."""
    return min(odd << max(0, (-(-least // odd) - 1).bit_length()) for odd in _ODD_PARTS)


def _largest_prime_factor(n: int) -> int:
    largest, factor = 1, 2
    while factor * factor <= n:
        while n % factor == 0:
            largest, n = factor, n // factor
        factor += 1
    return max(largest, n)
