"""Run ADMM's split for the stationary Haar transform in compiled loops, in one pass over each level.

The results are those of `splitting.BandSplit` up to rounding. Beyond the state it keeps an image a level, and at least
two, where the other keeps all bands a second time.

The first call on a machine compiles the loops, for about three seconds, and keeps them for later processes. To compile
them before:

    python -m mri_recon.solvers.compiled_haar
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from mri_recon.solvers.shrinkage import BandShrinkage, Sums
from mri_recon.solvers.splitting import AnalysisTransform, BandSplit, Split
from mri_recon.transforms.stationary_wavelets import StationaryWaveletTransform

__all__ = ["MIN_SIDE", "CompiledHaarSplit", "choose_split", "compile_ahead", "worth_compiling"]

MIN_SIDE = 96
"""Shortest side that is worth the time and the memory of the compiler."""


def worth_compiling(
    transform: AnalysisTransform, size: Sequence[int], device: torch.device
) -> TypeGuard[StationaryWaveletTransform]:
    """Tell whether the compiled form exists for a transform, and images `(h, w)` are worth loading the compiler."""
    haar = isinstance(transform, StationaryWaveletTransform) and transform.wavelet == "haar"
    return haar and device.type == "cpu" and min(size) >= MIN_SIDE


def choose_split(transform: AnalysisTransform, shrinkage: BandShrinkage, like: Tensor) -> Split:
    """Choose the compiled form where it applies and numba is installed, else `BandSplit`."""
    if worth_compiling(transform, like.shape[1:], like.device) and not shrinkage.coupled:
        try:
            return CompiledHaarSplit(transform, shrinkage, like)
        except ImportError:  # numba is in the extra `fast`
            pass
    return BandSplit(transform, shrinkage, like)


class CompiledHaarSplit:
    """Hold the state, `(batch, band, h, w)`, in the order of `StationaryWaveletTransform`."""

    def __init__(self, transform: StationaryWaveletTransform, shrinkage: BandShrinkage, like: Tensor) -> None:
        """Make the state for images like `like`, `(batch, h, w)`.

        Raises:
            ImportError: numba is not installed.
        """
        from mri_recon.solvers import _haar_kernels

        self._kernels, self._levels, self._like = _haar_kernels, transform.levels, like
        self._step = 2 if like.is_complex() else 1
        h, w = like.shape[1:]
        kind = np.float32 if like.real.dtype == torch.float32 else np.float64
        self._state = np.zeros((like.shape[0], transform.num_bands, h, w * self._step), kind)
        self._low = np.empty((2, h, w * self._step), kind)
        # The finest level is carried back into the result itself, the coarsest into `_low`.
        self._back = np.empty((max(0, transform.levels - 2), h, w * self._step), kind)
        self._kind: Any = kind
        self._weights = np.array(shrinkage.band_weights, kind)
        self._modulus = shrinkage.modulus

    def step(self, x: Tensor, relaxation: float | None, *, measured: bool) -> tuple[Tensor, Sums | None]:
        """Update s with `D x`, and compute `D^H (z - u)`, see `splitting.Split`."""
        # A state of zeros and rho = 1 make s = D x.
        rho = 1.0 if relaxation is None else relaxation
        pulled = torch.empty_like(self._like)
        sums = np.zeros((x.shape[0], 4))
        for item, image in enumerate(x):
            self._all_levels(self._kernels.STEP, image, item, rho, measured, sums[item], self._plane(pulled[item]))
        if not measured:
            return pulled, None
        penalty, primal, analysis, split = torch.from_numpy(sums).unbind(dim=1)
        return pulled, Sums(penalty, primal, analysis, split)

    def multiplier_image(self, correction: Tensor | None = None) -> Tensor:
        """Compute `D^H P(u - D e)` with a correction e; without one `D^H u`."""
        pulled = torch.empty_like(self._like)
        task = self._kernels.MULTIPLIER if correction is None else self._kernels.CORRECTED
        for item, image in enumerate(pulled if correction is None else correction):
            self._all_levels(task, image, item, 1.0, False, np.zeros(4), self._plane(pulled[item]))
        return pulled

    def largest_ratio(self, image: Tensor) -> Tensor:
        """Find the largest `|D image| / w`."""
        ratio = np.zeros((image.shape[0], 4))
        for item, one in enumerate(image):
            self._all_levels(self._kernels.RATIO, one, item, 1.0, False, ratio[item], None)
        return torch.from_numpy(ratio[:, 0].copy())

    def _plane(self, image: Tensor) -> Any:
        """View an image as real samples `(h, step w)`."""
        image = image.resolve_conj().contiguous()
        return (torch.view_as_real(image).flatten(-2) if self._step == 2 else image).numpy()

    def _all_levels(
        self, task: int, image: Tensor, item: int, rho: float, measured: bool, sums: Any, out: Any | None
    ) -> None:
        """Do a task on all bands of an item, from the finest level to the coarsest, and carry it back into `out`."""
        low = self._plane(image)
        # The coarsest level writes no approximation: what it carries back takes the place.
        back = [*self._back, self._low[(self._levels - 1) % 2]]
        for level in range(self._levels):
            last = level == self._levels - 1
            first = 1 + 3 * (self._levels - 1 - level)
            bands = slice(0 if last else first, first + 3)
            target = out if out is not None and level == 0 else back[max(0, level - 1)]
            approximation = self._low[level % 2]
            self._kernels.one_level(
                task, low, self._state[item, bands], last, 1 << level, self._step << level, self._kind(rho),
                self._weights[bands], self._modulus, measured, approximation, target, sums,
            )  # fmt: skip
            low = approximation
        if out is not None:
            for level in reversed(range(self._levels - 1)):
                target = back[level - 1] if level else out
                self._kernels.low_back(back[level], 1 << level, self._step << level, target)


def compile_ahead() -> bool:
    """Compile the loops in single precision, or load them; return False where numba is not installed."""
    size = (4, 4)
    transform = StationaryWaveletTransform(2, size)
    shrinkage = BandShrinkage(None, transform.num_bands, complex_values=True, separate_parts=True, coupled=False)
    image = torch.zeros(1, *size, dtype=torch.complex64)
    try:
        CompiledHaarSplit(transform, shrinkage, image).step(image, None, measured=False)
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    compile_ahead()
