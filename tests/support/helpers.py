"""Shapes and checks that several test files share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# (slice, coil, readout, phase): odd, non-square, one coil, one slice. Even squares hide mistakes of centring.
KSPACE_SHAPES = [(1, 1, 17, 12), (2, 3, 15, 20), (3, 1, 16, 21), (1, 4, 19, 23)]


def complex_randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex128) -> Tensor:
    """Complex white noise."""
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def assert_adjoint(
    forward: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, rtol: float = 1e-10
) -> None:
    """<A x, y> = <x, A^H y> for the given pair, with the shapes that the two maps promise."""
    ax, ahy = forward(x), adjoint(y)
    assert ax.shape == y.shape
    assert ahy.shape == x.shape
    left, right = torch.vdot(ax.flatten(), y.flatten()), torch.vdot(x.flatten(), ahy.flatten())
    scale = ax.norm() * y.norm()
    assert scale > 0
    assert abs(left - right) <= rtol * scale, f"<Ax, y> = {left}, <x, A^H y> = {right}"


def column_lines(width: int, acceleration: int = 3, seed: int = 0) -> np.ndarray:
    """Columns with a dense centre of at least 3 and about every third other column; bool `(width,)`."""
    lines = np.random.default_rng(seed).random(width) < 1 / acceleration
    lines[width // 2 - 1 : width // 2 + 2] = True
    return lines


def random_columns(width: int, seed: int = 0) -> Tensor:
    """The middle column and about two of five others; bool `(width,)`."""
    mask = torch.rand(width, generator=torch.Generator().manual_seed(seed)) < 0.4
    mask[width // 2] = True
    return mask


def phantom(h: int, w: int) -> Tensor:
    """Two discs with a smooth phase, complex128 `(h, w)`: what wavelets are good at."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, h, dtype=torch.float64), torch.linspace(-1, 1, w, dtype=torch.float64), indexing="ij"
    )
    magnitude = (y**2 + x**2 < 0.7).double() + 0.5 * ((y - 0.2) ** 2 + (x + 0.1) ** 2 < 0.15)
    return torch.polar(magnitude, 0.5 * x + 0.3 * y)


def smooth_maps(coils: int, h: int, w: int) -> Tensor:
    """Smooth sensitivities with sum |S|^2 = 1, complex128 `(coil, h, w)`."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, h, dtype=torch.float64), torch.linspace(-1, 1, w, dtype=torch.float64), indexing="ij"
    )
    angles = [2 * torch.pi * c / coils for c in range(coils)]
    centres = [(float(np.cos(a)), float(np.sin(a))) for a in angles]
    maps = torch.stack(
        [
            torch.polar(torch.exp(-((y - cy) ** 2) - (x - cx) ** 2), a + 0.4 * y)
            for (cy, cx), a in zip(centres, angles, strict=True)
        ]
    )
    return maps / torch.linalg.vector_norm(maps, dim=0)
