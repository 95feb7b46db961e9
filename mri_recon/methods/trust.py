"""Say how far an image can be trusted, by pixel and as a whole, from the runs of the hold-out check."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mri_recon.masks.types import Mask
from mri_recon.methods.image_bound import bound_model, image_bound
from mri_recon.methods.trust_map import noise_of, trust_features, trust_map, trust_model

__all__ = ["TRUST_MAP", "assess"]

TRUST_MAP = "trust_map"
"""Key of the map in the info of a method; `reconstruct` moves it to `Reconstruction.trust_map`."""


def assess(
    image: Tensor, fold_images: Tensor, other_images: Tensor | None, kspace: Tensor, mask: Mask, kind: str
) -> tuple[Tensor, dict[str, Any]]:
    """Compute the map of trust of an image, and the bound of its error.

    Args:
        image: real or complex `(slice, h, w)`.
        fold_images: images of the same method from the samples of each fold, or their magnitudes,
            `(fold, slice, h, w)`.
        other_images: those of other methods, `(method, fold, slice, h, w)`; None for none.
        kspace: complex `(slice, coil, readout, phase)`, zero outside the mask.
        mask: its sampling mask.
        kind: one of `trust_map.KINDS`.

    Returns:
        the map, float32 `(slice, h, w)`, in the units of the image; and the report for `info["trust"]`: `coverage`,
        the share of pixels in which the error is at most the map, on subjects like those of the fit, and the bound
        (`image_bound`).
    """
    sigma, acceleration = noise_of(kspace, mask)
    features = trust_features(
        image, fold_images, other_images, sigma=sigma, acceleration=acceleration, num_coils=int(kspace.shape[1])
    )
    model = trust_model()
    found = trust_map(features, model, kind)
    return found, {"coverage": model.coverage, **image_bound(image, found, bound_model(), kind)}
