"""Compute NMSE, PSNR and SSIM of a reconstruction, by the one convention that `CONVENTION` states.

With the magnitudes x of the image and r of the reference, centre-cropped to the reference's size, and L = max(r) over
the volume,

    NMSE = sum (x - r)^2 / sum r^2,    PSNR = 10 log10(L^2 / mean (x - r)^2),

both over the volume, and SSIM the mean over slices of scikit-image's `structural_similarity` with a 7x7 uniform window
and data range L. No intensity is fitted. Source: Wang et al., IEEE TIP 2004 (SSIM); Zbontar et al., arXiv:1811.08839.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.metrics import structural_similarity

from mri_recon._arrays import center_window, to_numpy
from mri_recon.errors import FormatError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor

    Array = npt.NDArray[Any] | Tensor

__all__ = ["CONVENTION", "FOREGROUND_RULE", "Metrics", "evaluate", "foreground", "nmse", "per_slice", "psnr", "ssim"]

CONVENTION = (
    "Magnitude images, centre-cropped to the reference; no intensity fitted. "
    "Data range: maximum of the reference volume. NMSE and PSNR over the volume; "
    "SSIM with a 7x7 uniform window, mean over slices."
)
"""Definition of every number of this module, to print beside each table."""

FOREGROUND_RULE = (
    "Foreground only, from the reference alone: 3x3 mean above 0.2 times the volume's 99th percentile, "
    "holes filled in each slice."
)
"""Rule by which `mask_background` separates object from air: the same pixels for every method."""

_WINDOW = 7
_BORDER = _WINDOW // 2  # SSIM is not counted where the window would leave the image (as in scikit-image)

# scikit-image ships no types.
_structural_similarity: Callable[..., Any] = structural_similarity

Volume = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """Hold the three metrics of one convention.

    Attributes:
        nmse: normalised mean squared error, 0 is perfect.
        psnr: peak signal-to-noise ratio in dB; infinite for identical images.
        ssim: structural similarity, 1 is perfect.
        convention: definition of the numbers.
    """

    nmse: float
    psnr: float
    ssim: float
    convention: str = CONVENTION

    def as_dict(self) -> dict[str, float]:
        """Return the numbers by name, without the convention, which is stated once beside a table."""
        return {"nmse": self.nmse, "psnr": self.psnr, "ssim": self.ssim}

    def __str__(self) -> str:
        return f"NMSE {self.nmse:.4f}, PSNR {self.psnr:.2f} dB, SSIM {self.ssim:.4f}"


def nmse(image: Array, target: Array) -> float:
    """Compute the normalised mean squared error over the volume, sum (x - r)^2 / sum r^2.

    Args:
        image: real or complex `(slice, h, w)` or `(h, w)`, at least as large as `target`.
        target: the reference, `(slice, h, w)` or `(h, w)`.

    Raises:
        ShapeError: ranks or numbers of slices differ, or the image is smaller than the reference.
        FormatError: not finite, or a reference that is zero everywhere.
    """
    x, r = _prepare(image, target)
    return _nmse(x, r)


def psnr(image: Array, target: Array, max_value: float | None = None) -> float:
    """Compute the peak signal-to-noise ratio over the volume, 10 log10(L^2 / mean (x - r)^2) dB; infinite if identical.

    Args:
        image: real or complex `(slice, h, w)` or `(h, w)`, at least as large as `target`.
        target: the reference.
        max_value: L, by default the maximum of the reference volume.

    Raises:
        ShapeError, FormatError: as `nmse`, or a `max_value` that is not positive.
    """
    x, r = _prepare(image, target)
    return _psnr(x, r, _data_range(r, max_value))


def ssim(image: Array, target: Array, max_value: float | None = None) -> float:
    """Compute the structural similarity, mean over slices; 7x7 uniform window, sample covariance, K1 = 0.01, K2 = 0.03.

    Args:
        image: real or complex `(slice, h, w)` or `(h, w)`, at least as large as `target`.
        target: the reference, with sides of at least 7.
        max_value: the data range L, by default the maximum of the reference volume.

    Raises:
        ShapeError, FormatError: as `psnr`, or sides shorter than the window.
    """
    x, r = _prepare(image, target)
    return float(np.mean([_interior(m).mean() for m in _ssim_maps(x, r, _data_range(r, max_value))]))


def evaluate(image: Array, target: Array, *, mask_background: bool = False) -> Metrics:
    """Compute all three metrics of one volume.

    Args:
        image: real or complex `(slice, h, w)` or `(h, w)`, at least as large as `target`.
        target: the reference, with sides of at least 7.
        mask_background: count the pixels of `foreground(target)` only: NMSE and PSNR sum over them, and SSIM is the
            mean of the unmasked SSIM map over them, slice by slice. The data range stays that of the whole volume.

    Raises:
        ShapeError, FormatError: as `nmse`, or sides shorter than the SSIM window.
    """
    x, r = _prepare(image, target)
    peak = _data_range(r, None)
    maps = _ssim_maps(x, r, peak)
    if not mask_background:
        return Metrics(_nmse(x, r), _psnr(x, r, peak), float(np.mean([_interior(m).mean() for m in maps])))
    head = foreground(r)
    by_slice = [_interior(m)[_interior(inside)].mean() for m, inside in zip(maps, head, strict=True) if _counts(inside)]
    if not by_slice:
        raise FormatError(
            "expected a reference with a foreground away from the border, found none: use mask_background=False"
        )
    convention = f"{CONVENTION} {FOREGROUND_RULE}"
    return Metrics(_nmse(x[head], r[head]), _psnr(x[head], r[head], peak), float(np.mean(by_slice)), convention)


def per_slice(image: Array, target: Array) -> dict[str, list[float]]:
    """Compute the metrics of each slice, under "nmse", "psnr" and "ssim"; the data range is that of the volume.

    The mean of "ssim" is the SSIM of the volume, but the means of "nmse" and "psnr" are not those of the volume. A
    slice whose reference is zero has NMSE nan.

    Raises:
        ShapeError, FormatError: as `evaluate`.
    """
    x, r = _prepare(image, target)
    peak = _data_range(r, None)
    return {
        "nmse": [_nmse(a, b) for a, b in zip(x, r, strict=True)],
        "psnr": [_psnr(a, b, peak) for a, b in zip(x, r, strict=True)],
        "ssim": [float(_interior(m).mean()) for m in _ssim_maps(x, r, peak)],
    }


def foreground(target: Array) -> npt.NDArray[np.bool_]:
    """Find where the reference shows tissue, by `FOREGROUND_RULE`; bool `(slice, h, w)`.

    Raises:
        ShapeError: not `(slice, h, w)` or `(h, w)`.
        FormatError: not finite.
    """
    r = _magnitude(target, "target")
    smooth = ndimage.uniform_filter(r, size=(0, 3, 3))
    bright = smooth > 0.2 * np.percentile(r, 99)
    return np.stack([ndimage.binary_fill_holes(one) for one in bright])


def _nmse(x: Volume, r: Volume) -> float:
    energy = float(np.sum(r**2))
    return float(np.sum((x - r) ** 2)) / energy if energy > 0 else math.nan


def _psnr(x: Volume, r: Volume, peak: float) -> float:
    error = float(np.mean((x - r) ** 2))
    return 10 * math.log10(peak**2 / error) if error > 0 else math.inf


def _ssim_maps(x: Volume, r: Volume, peak: float) -> list[Volume]:
    if min(r.shape[-2:]) < _WINDOW:
        raise ShapeError(
            f"expected images with sides of at least {_WINDOW}, the window of SSIM, got {r.shape[-2:]}: "
            "use nmse and psnr for smaller ones"
        )
    # Divide by the range first: SSIM does not change, and its small constants stay significant for values far from 1.
    return [
        _structural_similarity(b / peak, a / peak, win_size=_WINDOW, data_range=1.0, full=True)[1]
        for a, b in zip(x, r, strict=True)
    ]


def _interior(one: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return one[_BORDER:-_BORDER, _BORDER:-_BORDER]


def _counts(inside: npt.NDArray[np.bool_]) -> bool:
    return bool(_interior(inside).any())


def _data_range(r: Volume, max_value: float | None) -> float:
    peak = float(r.max()) if max_value is None else float(max_value)
    if not (math.isfinite(peak) and peak > 0):
        raise FormatError(
            f"expected max_value as a positive number, got {max_value!r}: leave it out for the reference's"
        )
    return peak


def _prepare(image: Array, target: Array) -> tuple[Volume, Volume]:
    """Convert both to magnitude volumes of the reference's size."""
    x, r = _magnitude(image, "image"), _magnitude(target, "target")
    if np.ndim(image) != np.ndim(target) or x.shape[0] != r.shape[0]:
        raise ShapeError(
            f"expected as many slices in the image as in the reference, got {tuple(image.shape)} and "
            f"{tuple(target.shape)}: compare the same slices"
        )
    if x.shape[1] < r.shape[1] or x.shape[2] < r.shape[2]:
        raise ShapeError(
            f"expected an image at least as large as the reference {r.shape[1:]}, got {x.shape[1:]}: "
            "crop the reference, or check that they belong to the same scan"
        )
    if not r.any():
        raise FormatError("expected a reference with a signal, got one that is zero everywhere: check the target")
    return x[(..., *center_window(x.shape, r.shape[1:]))], r


def _magnitude(array: Array, name: str) -> Volume:
    values = to_numpy(array)
    if values.ndim not in (2, 3) or values.size == 0:
        raise ShapeError(
            f"expected {name} as (slice, h, w) or (h, w), got shape {values.shape}: combine the coils first"
        )
    # Convert to double before the magnitude: the square of a single-precision value overflows above 1e19.
    wide = values.astype(np.complex128 if np.iscomplexobj(values) else np.float64)
    magnitude: Volume = np.abs(wide).reshape(-1, *values.shape[-2:])
    if not np.isfinite(magnitude).all():
        raise FormatError(f"expected {name} to be finite, got infinite or not-a-number pixels: the method diverged")
    return magnitude
