"""Scans as an acquisition leaves them: an object with texture and phase, coils, complex white noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mri_recon.transforms.array_fourier import fft_of_array
from tests.support.helpers import smooth_maps

KSpace = npt.NDArray[np.complex64]

SHAPES = [(1, 1, 81, 94), (2, 1, 96, 79), (1, 4, 75, 110), (2, 3, 90, 90)]
"""(slice, coil, readout, phase): one coil and several, odd and even."""


def genuine(shape: tuple[int, int, int, int], *, snr: float = 30, seed: int = 0) -> KSpace:
    """K-space of discs under smooth maps, with noise of `1 / snr` of their brightness."""
    slices, coils, height, width = shape
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    disc = (y**2 + x**2 < 0.4) * (1 + 0.1 * rng.standard_normal((height, width)))
    image = (disc + 0.5 * ((y - 0.1) ** 2 + x**2 < 0.1)) * np.exp(1j * (0.5 * x + 0.8 * y**2))
    maps = smooth_maps(coils, height, width).numpy() if coils > 1 else np.ones((1, height, width))
    noise = rng.standard_normal((2, *shape))
    images = np.broadcast_to(image * maps, (slices, coils, height, width)) + (noise[0] + 1j * noise[1]) / snr / 2**0.5
    return fft_of_array(images, (-2, -1)).astype(np.complex64)
