"""Say how far an image can be trusted, by pixel and as a whole, from the runs of the hold-out check."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mri_recon.masks.types import Mask
from mri_recon.methods.holdout import HoldOutData
from mri_recon.methods.image_bound import bound_model, image_bound
from mri_recon.methods.trust_map import trust_features, trust_map, trust_model

__all__ = ["TRUST_MAP", "assess", "features_of"]

TRUST_MAP = "trust_map"
"""Key of the map in the info of a method; `reconstruct` moves it to `Reconstruction.trust_map`."""


def features_of(
    image: Tensor, fold_images: Tensor, other_images: Tensor | None, data: HoldOutData, mask: Mask
) -> Tensor:
    """Compute the features of the map of trust of an image, `(feature, slice, h, w)`.

    Args:
        image: real or complex `(slice, h, w)`.
        fold_images: images of the same method from the samples of each fold, or their magnitudes,
            `(fold, slice, h, w)`.
        other_images: those of other methods, `(method, fold, slice, h, w)`; None for none.
        data: the folds.
        mask: the sampling mask.
    """
    acceleration = mask.array.size / max(int(mask.array.sum()), 1)
    num_coils = int(data.kspace.shape[1])
    return trust_features(
        image, fold_images, other_images, sigma=data.sigma, acceleration=acceleration, num_coils=num_coils
    )


def assess(
    image: Tensor, fold_images: Tensor, other_images: Tensor | None, data: HoldOutData, mask: Mask, kind: str
) -> tuple[Tensor, dict[str, Any]]:
    """Compute the map of trust of an image, and the bound of its error.

    Args:
        image, fold_images, other_images, data, mask: as in `features_of`.
        kind: one of `trust_map.KINDS`.

    Returns:
        the map, float32 `(slice, h, w)`, in the units of the image; and the report for `info["trust"]`: `coverage`,
        the share of pixels in which the error is at most the map, on subjects like those of the fit, and the bound
        (`image_bound`).
    """
    model = trust_model()
    found = trust_map(features_of(image, fold_images, other_images, data, mask), model, kind)
    return found, {"coverage": model.coverage, **image_bound(image, found, bound_model(), kind)}
