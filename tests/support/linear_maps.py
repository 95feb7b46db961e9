"""Every linear map of the library, at shapes that hide nothing, for tests of the properties that all of them have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mri_recon.operators.data_term import SenseDataTerm
from mri_recon.operators.sense import SenseOperator
from mri_recon.transforms._shifts import complex_view, real_view, sum_with_shifted
from mri_recon.transforms.finite_differences import PeriodicGradient
from mri_recon.transforms.fourier import fft1c, fft2c, ifft1c, ifft2c
from mri_recon.transforms.stationary_wavelets import StationaryWaveletTransform
from mri_recon.transforms.wavelets import WaveletTransform
from tests.support.helpers import KSPACE_SHAPES, column_lines, complex_randn

__all__ = ["LinearMapCase", "linear_maps"]

SIZES = [(1, 8), (9, 14), (16, 21), (17, 12)]
WAVELETS = [
    ("db4", 2, (16, 20)),
    ("haar", 3, (24, 40)),
    ("sym5", 1, (14, 26)),
    # Filters longer than the coarse levels, down to one sample of a side: taps wrap around and add up.
    ("haar", 4, (16, 48)),
    ("db2", 3, (8, 24)),
    ("db4", 4, (16, 32)),
    ("sym8", 1, (2, 6)),
    ("coif2", 2, (12, 4)),
    # Large enough for the banded form and for the compiled one.
    ("db4", 3, (128, 112)),
]


@dataclass(frozen=True)
class LinearMapCase:
    """One linear map `(batch, ...)` to `(batch, ...)`.

    Attributes:
        forward, adjoint: A and A^H.
        x_shape, y_shape: of one item.
        gram: A^H A, where the library has it.
        norm: an upper bound of ||A||.
        isometry: ||A x|| = ||x||.
        differentiable: autograd goes through.
        batch: number of items that the map is bound to; None for any number.
        range_of: projects y onto the space that `adjoint` takes.
        tolerance: of published filter coefficients, which are orthogonal to about 1e-11.
    """

    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    gram: Callable[[Tensor], Tensor] | None = None
    norm: float = 1.0
    isometry: bool = False
    differentiable: bool = True
    batch: int | None = None
    range_of: Callable[[Tensor], Tensor] = lambda y: y
    tolerance: float = 1e-12

    @property
    def items(self) -> int:
        """Number of items to test with."""
        return self.batch or 2


def linear_maps(dtype: torch.dtype = torch.complex128) -> dict[str, LinearMapCase]:
    """The maps by name; those that hold tensors hold `dtype`."""
    found: dict[str, LinearMapCase] = {}
    for h, w in SIZES:
        size, at = (h, w), f"{h}x{w}"
        found[f"fft2c {at}"] = LinearMapCase(fft2c, ifft2c, size, size, isometry=True)
        for dim in (-1, -2):
            found[f"fft1c of axis {dim}, {at}"] = LinearMapCase(
                lambda x, dim=dim: fft1c(x, dim),  # type: ignore[misc]
                lambda y, dim=dim: ifft1c(y, dim),  # type: ignore[misc]
                size, size, isometry=True,
            )  # fmt: skip
        found[f"shifted sum {at}"] = LinearMapCase(
            lambda x: _shifted_sum(x, 3), lambda y: _shifted_sum(y, -3), size, size, norm=1.5, differentiable=False
        )
        gradient = PeriodicGradient(size)
        found[f"differences {at}"] = LinearMapCase(
            gradient.forward, gradient.adjoint, size, (2, *size), gradient.gram, 8**0.5, differentiable=False
        )
        for wavelet, levels in (("haar", 1 if h == 1 else 3), ("db2", 1)):
            stationary = StationaryWaveletTransform(levels if h > 1 else 1, size, wavelet)
            found[f"stationary {wavelet} {at}"] = LinearMapCase(
                stationary.forward, stationary.adjoint, size, (stationary.num_bands, *size), stationary.gram,
                isometry=True, differentiable=False, tolerance=1e-9,
            )  # fmt: skip
    for wavelet, levels, size in WAVELETS:
        orthonormal = WaveletTransform(wavelet, levels, size)
        found[f"wavelets {wavelet}, {levels} levels, {size[0]}x{size[1]}"] = LinearMapCase(
            orthonormal.forward, orthonormal.inverse, size, size, isometry=True, tolerance=1e-9,
            differentiable=min(size) < 112,  # the banded form records no gradient
        )  # fmt: skip
    for shape in KSPACE_SHAPES:
        for kind in ("columns", "columns of each item", "pattern", "phase"):
            for padding in ((0, 0), (3, 4)):
                name = f"{kind}, {'x'.join(map(str, shape))}, padded by {padding}"
                found |= _acquisition(name, kind, shape, padding, dtype)
    return found


def _shifted_sum(x: Tensor, shift: int) -> Tensor:
    """`x[k] + x[k + shift] / 2` along the phase axis."""
    real, step = real_view(x)
    out = sum_with_shifted(real, shift * step, -1, 0.5, torch.empty_like(real))
    return complex_view(out) if x.is_complex() else out


def _acquisition(
    name: str, kind: str, shape: tuple[int, ...], padding: tuple[int, int], dtype: torch.dtype
) -> dict[str, LinearMapCase]:
    """The SENSE operator in centred k-space and in FFT order, its crop, and the product of its data term."""
    slices, _, h, w = shape
    mask = torch.from_numpy(column_lines(w))
    if kind == "columns of each item":
        mask = torch.stack([torch.from_numpy(column_lines(w, seed=n)) for n in range(slices)])[:, None, None]
    elif kind == "pattern":
        mask = torch.rand(h, w, generator=torch.Generator().manual_seed(3)) < 0.4
    maps = complex_randn(*shape, seed=1).to(dtype)
    if kind == "phase":
        phase = complex_randn(slices, 1, h, w, seed=9).to(dtype)
        maps = maps * (phase / phase.abs())
    size = (h + padding[0], w + padding[1])
    operator = SenseOperator(mask, maps, size)
    norm = operator.norm_bound**0.5
    found = {
        f"SENSE {name}": LinearMapCase(
            operator.forward, operator.H, size, shape[1:], operator.gram, norm, batch=slices
        ),
        f"SENSE in FFT order {name}": LinearMapCase(
            operator.sample, operator.combine, size, shape[1:], operator.gram, norm, batch=slices,
            range_of=lambda y: y * operator.mask,
        ),
        f"crop {name}": LinearMapCase(operator.crop, operator.pad, size, (h, w)),
    }  # fmt: skip
    if kind != "columns of each item":
        term = SenseDataTerm(operator, complex_randn(*shape, seed=2).to(dtype))
        found[f"data term {name}"] = LinearMapCase(term.gram, term.gram, size, size, None, norm**2, batch=slices)
    return found
