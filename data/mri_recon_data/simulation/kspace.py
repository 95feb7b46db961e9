"""Parts of simulated k-space: smooth random phase, coil sensitivities and complex noise.

A magnitude image alone is too easy a truth: its k-space is conjugate-symmetric, without noise, and often zero-filled
or interpolated ("data crimes": Shimron et al., PNAS 2022). So an image is first Fourier-cropped to its true support,
then given a phase, coils and noise. Whatever is computed from the result is called *simulated*.

Every function takes its own `numpy.random.Generator`; nothing is drawn from a global one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mri_recon.errors import ShapeError

__all__ = [
    "coil_maps",
    "complex_noise",
    "smooth_phase",
]


ArrayF = npt.NDArray[np.float32]

ArrayC = npt.NDArray[np.complex64]


def smooth_phase(
    shape: tuple[int, int], rng: np.random.Generator, *, strength: float, max_shift: float = 0.0
) -> ArrayF:
    """Draw a smooth random phase in radians, `(h, w)`.

    A sum of the 15 lowest cosine modes with falling random weights, scaled to a standard deviation of `strength`
    radians, plus a linear ramp that moves the k-space centre by up to `max_shift` samples along each axis, as a real
    scanner's echo does.

    Args:
        shape: `(h, w)`.
        rng: the random generator.
        strength: standard deviation over the image, radians.
        max_shift: largest shift of the k-space centre, samples.
    """
    y, x = (np.linspace(0.0, 1.0, n, dtype=np.float64)[:, None] if n > 1 else np.zeros((1, 1)) for n in shape)
    x = x.T
    phase = np.zeros(shape)
    for ky in range(4):
        for kx in range(4):
            if ky == kx == 0:
                continue
            weight = rng.normal() / (ky * ky + kx * kx)
            phase += weight * np.cos(np.pi * ky * y) * np.cos(np.pi * kx * x)
    deviation = phase.std()
    if deviation > 0:
        phase *= strength / deviation
    shift_y, shift_x = rng.uniform(-max_shift, max_shift, size=2)
    phase += 2 * np.pi * (shift_y * y + shift_x * x) + rng.uniform(-np.pi, np.pi)
    return phase.astype(np.float32)


def coil_maps(num_coils: int, shape: tuple[int, int], rng: np.random.Generator) -> ArrayC:
    """Draw smooth sensitivities of coils around the object, `(num_coils, h, w)`, sum over coils of |S|^2 = 1.

    Coil c sits at a jittered angle on a ring of radius about 1.2 (the image spans -1..1) and sees S = exp(i phi_c(r)) /
    (1 + (d/w)^2), d the distance to it: the fall-off of a loop, with a slowly varying phase. One coil is constant 1.

    Args:
        num_coils: at least 1.
        shape: `(h, w)`.
        rng: the random generator.

    Raises:
        ShapeError: fewer than one coil.
    """
    if num_coils < 1:
        raise ShapeError(f"coil_maps: expected at least 1 coil, got {num_coils}")
    if num_coils == 1:
        return np.ones((1, *shape), dtype=np.complex64)
    y = np.linspace(-1.0, 1.0, shape[0])[:, None]
    x = np.linspace(-1.0, 1.0, shape[1])[None, :]
    start = rng.uniform(0, 2 * np.pi)
    maps = np.empty((num_coils, *shape), dtype=np.complex128)
    for c in range(num_coils):
        angle = start + 2 * np.pi * (c + rng.uniform(-0.2, 0.2)) / num_coils
        radius, width = rng.uniform(1.05, 1.4), rng.uniform(0.5, 1.0)
        distance2 = (y - radius * np.sin(angle)) ** 2 + (x - radius * np.cos(angle)) ** 2
        slope_y, slope_x = rng.normal(scale=0.8, size=2)
        phase = slope_y * y + slope_x * x + rng.normal(scale=0.3) * x * y + rng.uniform(-np.pi, np.pi)
        maps[c] = np.exp(1j * phase) / (1 + distance2 / width**2)
    maps /= np.sqrt((np.abs(maps) ** 2).sum(axis=0, keepdims=True))
    return maps.astype(np.complex64)


def complex_noise(shape: tuple[int, ...], rng: np.random.Generator, *, sigma: float) -> Tensor:
    """Draw complex white Gaussian noise, complex64; real and imaginary part have standard deviation `sigma` each."""
    parts = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(sigma)
    return torch.view_as_complex(torch.from_numpy(parts))
