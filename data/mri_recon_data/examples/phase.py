"""Draw the phase of a simulated image: smooth, of an echo off the centre, and rough as gradient echoes have it.

The phase of a gradient echo follows the magnetic field. It varies quickly near air and metal, differs between fat and
water, and between tissues. A fully sampled centre of few lines cannot resolve such a phase.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mri_recon_data.scenes.sources import smooth_modes

__all__ = ["rough_phase", "smooth_phase"]

Rng = np.random.Generator

_MODES = (4, 14)
_SOURCES = (1, 6)
_RADIUS = (0.02, 0.2)  # of a source, over the longer side
_FINE, _COARSE = (0.5, 3.0), (6.0, 20.0)  # blurs, in pixels, between which the detail lies
_DARK = 0.05  # of bright parts: darker pixels carry no phase


def smooth_phase(shape: tuple[int, int], rng: Rng, *, strength: float, max_shift: tuple[float, float]) -> Tensor:
    """Draw a smooth phase with the linear part of an echo off the centre of k-space, in radians.

    Args:
        shape: `(h, w)`.
        rng: the random generator.
        strength: standard deviation of the smooth part.
        max_shift: largest shift of the echo along readout and phase, in samples.
    """
    shifts = rng.uniform(-1, 1, size=2) * max_shift * 2 * np.pi
    rows, columns = (torch.linspace(0, float(shift), n) for shift, n in zip(shifts, shape, strict=True))
    return strength * smooth_modes(shape, rng, modes=4) + rows[:, None] + columns


def rough_phase(magnitude: Tensor, rng: Rng, *, strength: float) -> Tensor:
    """Draw a phase that varies over few pixels, in radians, float32 `(h, w)`.

        phi = strength (a f_1 + b f_2 + c f_3),   a + b + c = 1

    f_1 is a field of up to 14 cosine modes, f_2 the field of a few sources (dipoles or bumps), and f_3 follows the
    detail of the magnitude, as fat and veins do. Each has the standard deviation 1 over the object. a, b and c are
    uniform over their sum.

    Args:
        magnitude: float32 `(h, w)`, bright parts 1.
        rng: the random generator.
        strength: largest standard deviation over the object.
    """
    shape = (int(magnitude.shape[0]), int(magnitude.shape[1]))
    shares = rng.dirichlet(np.ones(3)).tolist()
    inside = (magnitude > _DARK).to(magnitude.dtype)
    parts = (_modes(shape, rng), _sources(shape, rng), _detail(magnitude, rng))
    found = torch.stack([share * _unit(part, inside) for share, part in zip(shares, parts, strict=True)]).sum(dim=0)
    return strength * found


def _modes(shape: tuple[int, int], rng: Rng) -> Tensor:
    """Draw cosine modes whose amplitudes fall slowly, so that the highest are still seen."""
    modes = int(rng.integers(_MODES[0], _MODES[1] + 1))
    order = np.add.outer(np.arange(modes), np.arange(modes)).astype(np.float64)
    order[0, 0] = np.inf
    weights = rng.standard_normal((modes, modes)) / order ** float(rng.uniform(0.0, 1.0))
    along = [torch.cos(torch.pi * torch.outer(torch.linspace(0, 1, n), torch.arange(modes))) for n in shape]
    field: Tensor = along[0] @ torch.from_numpy(weights.astype(np.float32)) @ along[1].T
    return field


def _sources(shape: tuple[int, int], rng: Rng) -> Tensor:
    """Draw the field of a few sources: dipoles, cos(2 theta) r^2 / (1 + r^2)^2, or bumps, 1 / (1 + r^2)."""
    longest = max(shape)
    field = torch.zeros(shape)
    for _ in range(int(rng.integers(_SOURCES[0], _SOURCES[1] + 1))):
        radius = longest * math.exp(rng.uniform(*np.log(_RADIUS)))
        y, x = ((torch.arange(n, dtype=torch.float32) - float(rng.uniform(0, n))) / radius for n in shape)
        y, x = y[:, None], x[None, :]
        square = y.square() + x.square()
        angle = float(rng.uniform(0, np.pi))
        turned = math.cos(angle) * (x.square() - y.square()) + 2 * math.sin(angle) * x * y
        bump = 1 / (1 + square)
        one = turned * bump.square() if rng.random() < 0.5 else bump
        field = field + float(rng.standard_normal()) * one
    return field


def _detail(magnitude: Tensor, rng: Rng) -> Tensor:
    """Compute the detail of the magnitude between two scales."""
    fine, coarse = (float(rng.uniform(*limits)) for limits in (_FINE, _COARSE))
    return _blurred(magnitude, fine) - _blurred(magnitude, coarse)


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian of so many pixels, by its transfer function."""
    height, width = image.shape
    rows = torch.exp(-2 * (torch.pi * sigma * torch.fft.fftfreq(height)).square())
    columns = torch.exp(-2 * (torch.pi * sigma * torch.fft.rfftfreq(width)).square())
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(image) * rows[:, None] * columns, s=(height, width))
    return blurred


def _unit(field: Tensor, inside: Tensor) -> Tensor:
    """Shift and scale a field to the mean 0 and the standard deviation 1 over the object."""
    count = inside.sum().clamp_min(1)
    centered = field - (field * inside).sum() / count
    return centered / ((centered.square() * inside).sum() / count).sqrt().clamp_min(1e-6)
