"""Compute the zero-filled image: the inverse Fourier transform of undersampled k-space.

The method takes k-space `(slice, coil, readout, phase)` that is zero outside `mask`, and returns the image
`(slice, h, w)` and its info. Double precision in gives double precision out.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from torch import Tensor

from mri_recon.coils.checks import check_signal, checked_maps
from mri_recon.coils.combine import adaptive_combine, combine, rss
from mri_recon.masks.convert import as_mask
from mri_recon.masks.types import Mask
from mri_recon.methods.option_values import OneOf, check_values
from mri_recon.transforms.fourier import ifft2c

__all__ = [
    "zero_filled",
]


_Combination = Annotated[str, OneOf("rss", "adaptive")]


def zero_filled(
    kspace: Tensor, mask: Mask | Tensor, sens_maps: Tensor | None = None, *, combination: _Combination = "rss"
) -> tuple[Tensor, dict[str, Any]]:
    """Compute the inverse FFT of the samples, with zeros for the rest.

    One coil: `F^-1 y`. Several coils with maps: `sum_c conj(S_c) F^-1 y_c`. Several coils without maps: the
    root sum of squares `sqrt(sum_c |F^-1 y_c|^2)`, which is real, or the adaptive combination, which is complex and has
    less noise where there is little signal (`coils.adaptive_combine`).

    Args:
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: the sampling mask.
        sens_maps: complex, one slice or all slices of k-space; `None` for one coil, or to combine without maps.
        combination: how several coils are combined without maps: "rss", the root sum of squares, or "adaptive".

    Returns:
        image `(slice, readout, phase)`, complex or (root sum of squares) real; info with `combination` ("sens_maps",
        "none" for one coil, "rss" or "adaptive") and `seconds`.

    Raises:
        ShapeError: k-space or maps of the wrong shape or type.
        MaskError: a mask that does not fit the k-space.
        FormatError: k-space that is not finite, or a slice without a signal.
        MethodError: an unknown combination.
    """
    start = time.perf_counter()
    check_values("zero-filled", zero_filled, {"combination": combination})
    check_signal(kspace)
    as_mask(mask, kspace.shape)
    coil_images = ifft2c(kspace)
    if sens_maps is not None:
        image, combination = combine(coil_images, checked_maps(sens_maps, kspace)), "sens_maps"
    elif kspace.shape[1] == 1:
        image, combination = coil_images[:, 0], "none"
    elif combination == "adaptive":
        image = adaptive_combine(coil_images)
    else:
        image, combination = rss(coil_images), "rss"
    return image, {"combination": combination, "seconds": time.perf_counter() - start}
